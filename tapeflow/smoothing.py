"""Smooth stand-ins for functions with a jump or a kink, whose gradients see across it."""

from typing import Any

import numpy as np

from tapeflow.functions import FUNCTIONS
from tapeflow.tracers import is_traced


def smooth_step(x: Any, width: float) -> Any:
    """A smooth step from 0 to 1 around x = 0: the logistic function of x / width.

    As width goes to zero it becomes ``x > 0``, and 1/2 at 0. It is within 1e-4 of the step where
    abs(x) > 9.3 width. Numbers or arrays of any shape; width, in the units of x, is positive:
    ValueError otherwise.

    >>> float(tpf.smooth_step(0.0, 0.1)), round(tpf.grad(tpf.smooth_step)(0.0, 0.1), 6)
    (0.5, 2.5)
    """
    return FUNCTIONS["sigmoid"](x / _positive(width))


def smooth_abs(x: Any, width: float) -> Any:
    """A smooth magnitude: sqrt(x**2 + width**2) - width.

    As width goes to zero it becomes ``abs(x)``, from which it is never further than width; it is
    exactly 0 at 0, with second derivative 1 / width there. width as in `smooth_step`.

    >>> float(tpf.smooth_abs(0.0, 0.1)), round(float(tpf.smooth_abs(3.0, 0.1)), 3)
    (0.0, 2.902)
    """
    return np.hypot(x, _positive(width)) - width


def smooth_max(x: Any, y: Any, width: float) -> Any:
    """A smooth maximum: width * log(exp(x / width) + exp(y / width)).

    As width goes to zero it becomes ``max(x, y)``, which it is never below, and never further from
    than width * log(2). Its gradient is shared between x and y where they are near each other.
    ``smooth_max(x, 0.0, width)`` is the smooth payoff of an option. width as in `smooth_step`.

    >>> round(float(tpf.smooth_max(1.0, 1.0, 0.1)), 4), float(tpf.smooth_max(9.0, 0.0, 0.1))
    (1.0693, 9.0)
    """
    return y + width * FUNCTIONS["softplus"]((x - y) / _positive(width))


def smooth_min(x: Any, y: Any, width: float) -> Any:
    """A smooth minimum: minus the `smooth_max` of -x and -y.

    >>> round(float(tpf.smooth_min(1.0, 1.0, 0.1)), 4)
    0.9307
    """
    return y - width * FUNCTIONS["softplus"]((y - x) / _positive(width))


def _positive(width: Any) -> Any:
    if is_traced(width):
        return width
    if np.ndim(width) or not width > 0.0:
        raise ValueError(f"width must be a positive number, not {width!r}")
    return width
