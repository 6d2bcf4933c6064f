"""Checkpoints: parts of a function whose values are computed again in reverse, and not kept."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from tapeflow.recorder import in_progress

F = TypeVar("F", bound=Callable[..., Any])


def checkpoint(function: F) -> F:
    """A function that computes the same, and takes less memory in the gradient of a batch.

    Where it is called in a recorded function of numbers, the values of its instructions are kept
    for what is recorded after it alone. The reverse sweep of a batch computes the others again, so
    that several such parts of a function use the same memory by turns (Griewank and Walther,
    "Evaluating Derivatives", chapter 12). No bit of a result changes. One sample at a time, and on
    whole arrays, everything is kept. ``tpf.config(max_memory=...)`` finds such parts by itself.

    >>> @tpf.checkpoint
    ... def step(x, v):
    ...     a = -np.sin(x)
    ...     return x + 0.1 * v, v + 0.1 * a
    >>> def swing(x, v):
    ...     for _ in range(100):
    ...         x, v = step(x, v)
    ...     return x
    >>> tpf.vmap(tpf.grad(swing))(np.array([0.5, 1.0]), np.zeros(2)).round(6)
    array([-1.740901, -0.174303])
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        recorder = in_progress()
        if recorder is None:
            return function(*args, **kwargs)
        with recorder.checkpoint():
            return function(*args, **kwargs)

    return run  # type: ignore[return-value]
