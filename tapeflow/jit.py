"""How loops are compiled by Numba."""

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import config, njit
from numba.core.caching import FunctionCache

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
        dispatcher = njit(**OPTIONS)(function)
        if config.DISABLE_JIT:
            return dispatcher
        with contextlib.suppress(RuntimeError):  # no folder for the cache
            dispatcher._cache = _Cache(function)
        for one in signature:
            dispatcher.compile(one)
            dispatcher.disable_compile()
        return dispatcher

    return decorate


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache on disk, which knows a function by the sources of all that it calls as well.

    Numba's own looks at the function's file alone: after an edit of a helper in another file, or
    an upgrade, it would go on with what was compiled before.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        files = sorted(sources_of(function))
        self._sources = hashlib.sha256(b"".join(map(_digest, files))).hexdigest()

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        return (*super()._index_key(signature, codegen), self._sources)


def sources_of(function: Any) -> set[str]:
    """The files of a function, and of what it and its callees name that is tapeflow's."""
    seen: set[int] = set()
    files: set[str] = set()
    pending = [function]
    while pending:
        current = pending.pop()
        current = getattr(current, "py_func", getattr(current, "_defn", current))
        code = getattr(current, "__code__", None)
        if code is None or id(current) in seen or not current.__module__.startswith(_PACKAGE):
            continue
        seen.add(id(current))
        files.add(code.co_filename)
        pending += [current.__globals__.get(name) for name in code.co_names]
    return files


_PACKAGE = __name__.split(".")[0]


@cache
def _digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


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
