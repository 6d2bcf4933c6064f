# mypy: allow-untyped-defs
"""How loops are compiled by Numba."""

import contextlib
import hashlib
import inspect
from collections.abc import Callable
from functools import cache, update_wrapper
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numba import config, njit, types
from numba.core import compiler, sigutils
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.extending import _Intrinsic

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": False,
    "boundscheck": False,
}

VOID, INT, FLOAT, BOOL, WORD = types.none, types.int64, types.float64, types.boolean, types.uint64
PAIR, TRIPLE = types.UniTuple(INT, 2), types.UniTuple(INT, 3)
INTS, INDICES = types.Array(INT, 1, "C"), types.Array(types.int32, 1, "C")


def compiled(*signature: Any) -> Callable[[Any], Any]:
    """Compile a function, kept on disk where there is a folder that can be written.

    Only what Python calls on the way to a first result has a signature, and is compiled or loaded
    at once: each takes some milliseconds, also one that is part of another.
    """

    def decorate(function: Any) -> Any:
        dispatcher = njit(**OPTIONS)(function)
        if config.DISABLE_JIT:
            return dispatcher
        template = dispatcher.get_call_template
        # Not one more for each literal argument of a call.
        dispatcher.get_call_template = lambda args, kws: template(
            tuple(map(types.unliteral, args)), kws
        )
        with contextlib.suppress(RuntimeError):  # no folder for the cache
            dispatcher._cache = _Cache(function)
        for one in signature:
            dispatcher.compile(one)
            dispatcher.disable_compile()
        return dispatcher

    return decorate


def callback(function: Any, signature: Any) -> Any:
    """Compile a function for calls from C by its address; kept on disk as others are."""
    made: Any = CFunc(function, sigutils.normalize_signature(signature), {}, OPTIONS)
    with contextlib.suppress(RuntimeError):  # no folder for the cache
        made._cache = _Cache(function)
    made.compile()
    return made


def helper(result: Any = VOID, apart: bool = False) -> Callable[[Any], Any]:
    """Compile a function that other compiled functions alone call, as a part of each of those.

    result: the type of what it returns. apart: it is called, and not inlined: for what is long, and
    called from several places. Numba compiles every function as if Python would call it:
    optimised and emitted by itself, with wrappers, once more for each literal argument, and then
    again in its callers. This one is only translated, and optimised with what calls it, which takes
    a fraction of the time.
    """

    def decorate(function: Any) -> Any:
        if config.DISABLE_JIT:
            return function

        def definition(typing: Any, *args: Any) -> Any:
            return result(*map(types.unliteral, args)), emit

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            described = _translated(context, function, signature, apart)
            return context.call_internal(builder, described, signature, args)

        own = inspect.signature(function)
        first = inspect.Parameter("typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        definition.__signature__ = own.replace(parameters=[first, *own.parameters.values()])  # type: ignore[attr-defined]
        definition.__name__ = function.__name__
        made = _Helper(function.__name__, definition)
        made._register()
        update_wrapper(made, function)
        made.py_func = function
        return made

    return decorate


class _Helper(_Intrinsic):  # type: ignore[misc]
    """What stands for a helper in compiled code; called by Python it is the plain function."""

    def __call__(self, *args: Any) -> Any:
        return self.py_func(*args)


_translations: WeakKeyDictionary[Any, dict[Any, Any]] = WeakKeyDictionary()


def _translated(context: Any, function: Any, signature: Any, apart: bool) -> Any:
    """What describes a function in the library that is being made; it is there once."""
    library = context.active_code_library
    known = _translations.setdefault(library, {})
    if (function, signature) not in known:
        flags = compiler.Flags()
        flags.error_model, flags.nrt = OPTIONS["error_model"], True
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        made = compiler.compile_internal(
            context.typing_context,
            context,
            library,
            function,
            signature.args,
            signature.return_type,
            flags,
            {},
        )
        # It is nobody else's: where all calls are inlined nothing of it is left.
        code = library.get_function(made.fndesc.llvm_func_name)
        code.linkage = "linkonce_odr"
        if apart:
            code.add_function_attribute("noinline")
        known[function, signature] = made.fndesc
    return known[function, signature]


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


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The Python function that a compiled one is made from."""
    own: Callable[..., Any] = getattr(function, "py_func", function)
    return own


@cache
def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """A helper that Python may call, compiled when it does."""
    made: Callable[..., Any] = compiled()(plain(function))
    return made


def walk(function: Callable[..., Any], n: int, *args: Any) -> Any:
    """Call one of the functions below for n instructions; writable arrays get its results."""
    sizes = [arg.size for arg in args if isinstance(arg, np.ndarray)]
    if not config.DISABLE_JIT and (n > SHORT or max(sizes, default=0) > _FEW):
        return function(*args)
    lists = [arg.tolist() if isinstance(arg, np.ndarray) else arg for arg in args]
    # Where Numba's compiler is off the function is plain itself, and is for Python's numbers too:
    # NumPy's integers warn where they wrap.
    result = plain(function)(*lists)
    for arg, found in zip(args, lists, strict=True):
        if isinstance(arg, np.ndarray) and arg.flags.writeable:
            arg[:] = found
    return result
