"""A traced number: its operators append an instruction to the recording it belongs to.

What decides a branch (``if x > 0``, ``int(x)``) notes a guard. What would bake one run's value into
the tape (``float(x)``) raises a `TracingError` that names the line.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from tapeflow.errors import TracingError
from tapeflow.ops import BY_NAME, BY_UFUNC, OPS
from tapeflow.recorder import Recorder
from tapeflow.sources import refuse, user_line
from tapeflow.tracers import names, plain

NUMBERS = (float, int, np.floating, np.integer, np.bool_)


def _infix(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    op = BY_NAME[name]

    def forward(self: "Tracer", other: Any) -> Any:
        from tapeflow.tracers import instructions

        if isinstance(other, np.ndarray) or getattr(other, "shape", None):
            return NotImplemented  # the array then broadcasts
        return instructions.apply(op, (self, other))

    def reflected(self: "Tracer", other: Any) -> Any:
        from tapeflow.tracers import instructions

        return instructions.apply(op, (other, self))

    return forward, reflected


class Backend:
    """The primitives of ``primitives.py``, as rules use them, on traced values."""

    def elementary(self, name: str, args: Sequence[Any]) -> Any:
        from tapeflow.tracers import protocol

        return protocol.elementwise(BY_NAME[name], args)

    def array_op(self, name: str, p: Sequence[int], operands: Sequence[Any]) -> Any:
        from tapeflow.tracers import instructions

        return instructions.array_op(name, p, operands)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        op = BY_NAME.get(_PRIMITIVES.get(name, name))
        if name.startswith("__"):
            raise AttributeError(name)
        if op is None:
            raise TracingError(f"{name} works on numbers in compiled code, not on a traced value")
        return lambda *args: self.elementary(op.name, args)


_PRIMITIVES = {"absolute": "abs", "rint": "round"}
BACKEND = Backend()


class Tracer:
    """A number whose operations are recorded. Made by ``tpf.record`` and what is built on it."""

    __slots__ = ("recorder", "slot")
    __tapeflow_backend__ = BACKEND
    shape = ()
    ndim = 0
    size = 1
    dtype = np.dtype(np.float64)

    def __init__(self, recorder: Recorder, slot: int) -> None:
        self.recorder = recorder
        self.slot = slot

    __add__, __radd__ = _infix("add")
    __sub__, __rsub__ = _infix("sub")
    __mul__, __rmul__ = _infix("mul")
    __truediv__, __rtruediv__ = _infix("div")
    __mod__, __rmod__ = _infix("mod")
    __lt__, _ = _infix("less")
    __le__, _ = _infix("less_equal")
    __gt__, _ = _infix("greater")
    __ge__, _ = _infix("greater_equal")
    __eq__, _ = _infix("equal")
    __ne__, _ = _infix("not_equal")
    _pow, __rpow__ = _infix("pow")
    __or__, __ror__ = _infix("max")
    __and__, __rand__ = _infix("min")

    def __pow__(self, exponent: Any) -> Any:
        from tapeflow.tracers import instructions

        if isinstance(exponent, NUMBERS):
            return instructions.power(self, exponent)
        return self._pow(exponent)

    def __floordiv__(self, other: Any) -> Any:
        return np.floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return np.floor_divide(other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __invert__(self) -> Any:
        return 1.0 - self

    def _unary(self, name: str) -> Any:
        from tapeflow.tracers import instructions

        return instructions.apply(BY_NAME[name], (self,))

    def __neg__(self) -> Any:
        return self._unary("neg")

    def __pos__(self) -> "Tracer":
        return self

    conjugate = __pos__  # np.var and np.vdot ask for it

    def __abs__(self) -> Any:
        return self._unary("abs")

    def __floor__(self) -> Any:
        return self._unary("floor")

    def __ceil__(self) -> Any:
        return self._unary("ceil")

    def __round__(self, digits: int | None = None) -> Any:
        if digits:
            refuse(f"round a traced value to {digits} digits", "scale it: round(x * 100) / 100")
        return self._unary("round")

    def __getattr__(self, name: str) -> Any:
        # NumPy's loops over arrays of objects call x.exp() and the like; a number of NumPy has
        # an array's methods.
        from tapeflow.tracers import array, instructions

        op = _METHODS.get(name)
        if op is not None:
            return lambda *others: instructions.apply(op, (self, *others))
        if not name.startswith("_") and (name in names.METHODS or hasattr(array.TracedArray, name)):
            return getattr(array.lift(self), name)
        raise AttributeError(f"a traced number has no attribute {name!r}")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        from tapeflow.tracers import protocol

        return protocol.ufunc(ufunc, method, inputs, options)

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        from tapeflow.tracers import protocol

        return protocol.function(function, args, options)

    def __float__(self) -> NoReturn:
        line = user_line()
        call = re.search(r"\bmath\.(\w+)\(", line)
        if call:
            refuse(
                "turn a traced value into a Python float",
                f"use np.{call[1]}, not math.{call[1]}",
            )
        if re.search(r"\]\s*[-+*/]?=[^=]", line):
            refuse(
                "put a traced value into a plain array",
                "make the array with np.zeros_like of a traced one, or np.stack the values",
            )
        refuse(
            "turn a traced value into a Python float",
            "keep computing with the traced value, or take tpf.concrete(x) as what a branch is",
        )

    def __int__(self) -> int:
        return plain.whole(self)

    def __trunc__(self) -> int:
        return plain.whole(self)

    def __index__(self) -> int:
        return plain.index(self)

    def __complex__(self) -> NoReturn:
        refuse("turn a traced value into a complex number", "compute with real numbers")

    def __bool__(self) -> bool:
        return plain.truth(self)

    def __iter__(self) -> NoReturn:
        refuse("iterate over a traced number", "pass a list or an array")

    def __hash__(self) -> NoReturn:
        # By identity, a number that is in a set would not be found there.
        refuse(
            "look a traced value up in a set or a dict",
            "use tpf.concrete(x), or `in` with a list",
        )

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return f"<traced number in slot {self.slot}>"


_METHODS = {op.name: op for op in OPS if op.arity > 0 and op.name not in ("max", "min", "round")}
_METHODS |= {u.__name__: op for u, op in BY_UFUNC.items()}
