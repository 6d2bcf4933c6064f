"""How loops are compiled by Numba."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": False,
    "boundscheck": False,
}


def compiled(*signature: Any) -> Callable[[Any], Any]:
    """Compile a function, kept on disk where there is a folder that can be written.

    Only what Python calls on the way to a first result has a signature, and is compiled or loaded
    at once: each takes some milliseconds, also one that is part of another.
    """

    def decorate(function: Any) -> Any:
        try:
            return njit(*signature, cache=True, **OPTIONS)(function)
        except RuntimeError:  # no folder for the cache
            return njit(*signature, **OPTIONS)(function)

    return decorate


SHORT = 1000
"""Instructions up to which Python is faster than loading a compiled function."""

_FEW = 20_000
"""Numbers of an array up to which, likewise: an instruction may have many slots."""


def walk(function: Callable[..., Any], n: int, *args: Any) -> Any:
    """Call one of the functions below for n instructions; writable arrays get its results."""
    plain = getattr(function, "py_func", None)
    sizes = [arg.size for arg in args if isinstance(arg, np.ndarray)]
    if plain is not None and (n > SHORT or max(sizes, default=0) > _FEW):
        return function(*args)
    lists = [arg.tolist() if isinstance(arg, np.ndarray) else arg for arg in args]
    # Where Numba's compiler is off the function is plain itself, and is for Python's numbers too:
    # NumPy's integers warn where they wrap.
    result = (plain or function)(*lists)
    for arg, found in zip(args, lists, strict=True):
        if isinstance(arg, np.ndarray) and arg.flags.writeable:
            arg[:] = found
    return result
