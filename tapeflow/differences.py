"""Derivatives by differences, as exact as they get: what ours are compared with."""

from collections.abc import Callable
from typing import Any

import numpy as np

_STEPS = 8
"""Halvings of the step, at the most."""


def derivative(value: Callable[[Any], Any], x: Any, along: Any) -> Any:
    """The derivative of an array, of a vector, at x along a direction.

    Central differences for shrinking steps, extrapolated to none: Ridders, "Accurate computation of
    F'(x) and F'(x)F''(x)" (1982). The first step moves no number by more than a tenth of its size,
    or of 1 if that is more. Good to some 1e-9 where the function is smooth.
    """
    moved = along != 0.0
    if not moved.any():
        return 0.0 * value(x)
    step = 0.1 * float((np.maximum(1.0, np.abs(x[moved])) / np.abs(along[moved])).min())
    rows: list[list[Any]] = []
    best, error = None, np.inf
    # Beside the point the function may not be defined; a NaN is never close to a derivative.
    with np.errstate(all="ignore"):
        for i in range(_STEPS):
            h = step / 1.6**i
            row = [(value(x + h * along) - value(x - h * along)) / (2.0 * h)]
            for j in range(i):
                factor = 1.6 ** (2 * (j + 1))
                row.append((factor * row[j] - rows[-1][j]) / (factor - 1.0))
                own = np.abs(row[-1] - row[-2]).max(initial=0.0)
                own = max(own, np.abs(row[-1] - rows[-1][j]).max(initial=0.0))
                if own <= error:
                    best, error = row[-1], own
            rows.append(row)
    return rows[-1][0] if best is None else best
