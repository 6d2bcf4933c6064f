"""NumPy's protocols: which of its functions record what on traced values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.errors import TracingError
from tapeflow.ops import BY_UFUNC, Op
from tapeflow.sources import placed, refuse, user_place
from tapeflow.tracers import instructions
from tapeflow.tracers.array import TracedArray
from tapeflow.tracers.number import Tracer

FUNCTIONS: dict[Any, Callable[..., Any]] = {}
"""What stands for each of NumPy's functions; the layer above fills it in."""

UFUNCS: dict[str, Callable[..., Any]] = {}
"""What stands for each ufunc that is not one op, by name; filled in by the layer above."""

METHODS: dict[tuple[str, str], Callable[..., Any]] = {}
"""What stands for a ufunc's method, by the ufunc's name and the method's."""

HINTS: dict[str, str] = {}
"""What to use in place of a function that is not supported, by its name."""


def elementwise(op: Op, operands: Sequence[Any]) -> Any:
    """Record ``op`` on traced values and numbers, or on arrays, broadcast."""
    if not any(isinstance(value, (np.ndarray, TracedArray)) for value in operands):
        return instructions.apply(op, operands)
    return instructions.elementwise(op, operands)


def is_traced(leaf: Any) -> bool:
    """Whether a leaf is a traced value, or an array with one."""
    if isinstance(leaf, np.ndarray) and leaf.dtype == object:
        return any(isinstance(element, (Tracer, TracedArray)) for element in leaf.flat)
    return isinstance(leaf, (Tracer, TracedArray))


@placed
def ufunc(function: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Record a ufunc, or a reduction and the like by one."""
    # NumPy's own functions pass all options on, most of them unset.
    options = {name: value for name, value in options.items() if not _is_unset(name, value)}
    (out,) = options.pop("out", None) or (None,)
    name = function.__name__
    if method == "__call__":
        result = _call(function, inputs, options)
    elif method == "outer":
        a, b = (np.asarray(x) if not is_traced(x) else x for x in inputs)
        a = np.reshape(a, (*a.shape, *(1,) * b.ndim))
        result = ufunc(function, "__call__", (a, b), options)
    elif (name, method) in METHODS:
        result = METHODS[name, method](*inputs, **options)
    else:
        raise unsupported(f"{name}.{method}", "write it with the functions that are supported")
    if out is None:
        return result
    if not isinstance(out, TracedArray):
        refuse(
            "put a traced value into a plain array",
            "make the array with np.zeros_like of a traced one, or use the function's result",
        )
    out[...] = result
    return out


def _call(function: np.ufunc, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    name = function.__name__
    if options:
        raise unsupported(f"{name} with {min(options)}=", "use np.where")
    op = BY_UFUNC.get(function)
    if function in (np.power, np.float_power) and isinstance(inputs[1], (int, float)):
        return instructions.power(inputs[0], inputs[1])
    if op is not None:
        return elementwise(op, inputs)
    if name in UFUNCS:
        return UFUNCS[name](*inputs)
    raise unsupported(name)


@placed
def function(called: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Record one of NumPy's functions."""
    own = FUNCTIONS.get(called)
    if own is None:
        module = getattr(called, "__module__", "numpy").removeprefix("numpy").lstrip(".")
        raise unsupported(f"{module}.{called.__name__}".lstrip("."))
    options = {name: value for name, value in options.items() if value is not np._NoValue}
    return own(*args, **options)


def unsupported(name: str, instead: str = "") -> TracingError:
    """The error for a function that is not recorded."""
    hint = instead or HINTS.get(name.rsplit(".", 1)[-1]) or "see docs/numpy.md for what is"
    module = "np" if hasattr(np, name.split(".")[0]) else "scipy.special"
    return TracingError(f"cannot record {module}.{name.lstrip('_')} ({user_place()}): {hint}")


def _is_unset(name: str, value: Any) -> bool:
    if name == "where":
        return value is True
    if name in ("casting", "subok", "order"):
        return True  # of no meaning for tracers
    if name == "axis":
        return False  # None says all axes, where leaving it out says the first
    return value is None or value is False or value is np._NoValue
