"""Values that write a rule in another language: its operators and primitives go to a backend.

A backend says what each operator and primitive becomes there: machine code, C, JavaScript, or
operations of JAX and ONNX. The rules and `mathlib` are evaluated on these values as they are on
numbers, so none of them has a list of ops of its own.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from tapeflow.ops import BY_UFUNC

NUMBERS = (float, int, np.floating, np.integer)

COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


class Value:
    """A value of a backend; ``value`` is what it is there."""

    __slots__ = ("backend", "value")

    kind: ClassVar[str]

    def __init__(self, backend: "Backend", value: Any) -> None:
        self.backend, self.value = backend, value

    @property
    def __tapeflow_backend__(self) -> "Backend":
        return self.backend

    def __bool__(self) -> bool:
        raise TypeError("a rule takes no branch on a value: use tpf.where")


def _operator(symbol: str, result: str = "") -> Any:
    """A pair of methods: the operator, and the one with a plain number on its left."""

    def forward(self: Any, other: Any) -> Any:
        return self.backend.binary(symbol, result, self, self.backend.like(self, other))

    def reflected(self: Any, other: Any) -> Any:
        return self.backend.binary(symbol, result, self.backend.like(self, other), self)

    return forward, reflected


class Float(Value):
    """A float64."""

    __slots__ = ()

    kind = "float"

    __add__, __radd__ = _operator("+")
    __sub__, __rsub__ = _operator("-")
    __mul__, __rmul__ = _operator("*")
    __truediv__, __rtruediv__ = _operator("/")
    __lt__, _ = _operator("<", "mask")
    __le__, _ = _operator("<=", "mask")
    __gt__, _ = _operator(">", "mask")
    __ge__, _ = _operator(">=", "mask")
    __eq__, _ = _operator("==", "mask")
    __ne__, _ = _operator("!=", "mask")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Any:
        return self.backend.unary("-", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.backend.absolute(self)

    def __pow__(self, other: Any) -> Any:
        return self.__array_ufunc__(np.power, "__call__", self, other)

    def __rpow__(self, other: Any) -> Any:
        return self.__array_ufunc__(np.power, "__call__", other, self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        op = BY_UFUNC.get(ufunc)
        if op is None or method != "__call__" or options:
            raise TypeError(f"a rule cannot use np.{ufunc.__name__}: see docs/ops.md")
        return op.rule(*map(self.backend.lift, inputs))[0]


class Int(Value):
    """An int of 64 bits, which wraps around."""

    __slots__ = ()

    kind = "int"

    __add__, __radd__ = _operator("+")
    __sub__, __rsub__ = _operator("-")
    __mul__, __rmul__ = _operator("*")
    __and__, __rand__ = _operator("&")
    __or__, __ror__ = _operator("|")
    __xor__, __rxor__ = _operator("^")
    __lshift__, _ = _operator("<<")
    __rshift__, _ = _operator(">>")
    __lt__, _ = _operator("<", "mask")
    __le__, _ = _operator("<=", "mask")
    __gt__, _ = _operator(">", "mask")
    __ge__, _ = _operator(">=", "mask")
    __eq__, _ = _operator("==", "mask")
    __ne__, _ = _operator("!=", "mask")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Any:
        return self.backend.unary("-", self)

    def __invert__(self) -> Any:
        return self.backend.unary("~", self)


class Mask(Value):
    """A truth value."""

    __slots__ = ()

    kind = "mask"

    __and__, _ = _operator("&", "mask")
    __or__, _ = _operator("|", "mask")

    def __invert__(self) -> Any:
        return self.backend.unary("!", self)


KINDS: dict[str, type[Value]] = {own.kind: own for own in (Float, Int, Mask)}


class Backend:
    """What the operators and primitives of `primitives` become; see there what each means."""

    def constant(self, kind: str, number: Any) -> Value:
        """A plain number."""
        raise NotImplementedError

    def make(self, kind: str, name: str, *operands: Value) -> Value:
        """A value of a kind, by the operator or primitive of a name."""
        raise NotImplementedError

    def lift(self, x: Any) -> Any:
        """A value as it is, and a plain number as a float."""
        if isinstance(x, Value):
            return x
        if isinstance(x, NUMBERS):
            return self.constant("float", float(x))
        raise TypeError(f"a rule computes with numbers, not with a {type(x).__name__}")

    def float(self, x: Any) -> Any:
        """As `lift`, of a value that is a float."""
        value = self.lift(x)
        if not isinstance(value, Float):
            raise TypeError(f"a rule computes with numbers, not with a {type(value).__name__}")
        return value

    def int(self, x: Any) -> Any:
        """A value as it is, and a plain number as an int."""
        return x if isinstance(x, Value) else self.constant("int", x)

    def like(self, value: Value, other: Any) -> Value:
        """A plain number as a value of the kind of another."""
        return other if isinstance(other, Value) else self.constant(value.kind, other)

    def binary(self, symbol: str, result: str, a: Value, b: Value) -> Value:
        return self.make(result or a.kind, symbol, a, b)

    def unary(self, symbol: str, a: Value) -> Value:
        return self.make(a.kind, symbol, a)

    def once(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        """An elementary function's value: that of its text, unless the backend knows better."""
        return function(*map(self.lift, args))

    def _float(self, name: str, *args: Any) -> Value:
        return self.make("float", name, *map(self.lift, args))

    def fma(self, a: Any, b: Any, c: Any) -> Value:
        return self._float("fma", a, b, c)

    def sqrt(self, x: Any) -> Value:
        return self._float("sqrt", x)

    def floor(self, x: Any) -> Value:
        return self._float("floor", x)

    def ceil(self, x: Any) -> Value:
        return self._float("ceil", x)

    def rint(self, x: Any) -> Value:
        return self._float("rint", x)

    def trunc(self, x: Any) -> Value:
        return self._float("trunc", x)

    def absolute(self, x: Any) -> Value:
        return self._float("absolute", x)

    def copysign(self, x: Any, y: Any) -> Value:
        return self._float("copysign", x, y)

    def where(self, mask: Value, a: Any, b: Any) -> Value:
        given = [value for value in (a, b) if isinstance(value, Value)]
        kind = given[0].kind if given else "float"
        lifted = [v if isinstance(v, Value) else self.constant(kind, v) for v in (a, b)]
        return self.make(kind, "where", mask, *lifted)

    def bits(self, x: Any) -> Value:
        return self.make("int", "bits", self.lift(x))

    def from_bits(self, i: Value) -> Value:
        return self.make("float", "from_bits", i)

    def shift_right_logical(self, i: Value, n: Any) -> Value:
        return self.make("int", "shift_right_logical", i, self.like(i, n))

    def mul_high(self, i: Any, j: Any) -> Value:
        a, b = (v if isinstance(v, Value) else self.constant("int", v) for v in (i, j))
        return self.make("int", "mul_high", a, b)

    def to_float(self, i: Value) -> Value:
        return self.make("float", "to_float", i)

    def to_int(self, x: Any) -> Value:
        return self.make("int", "to_int", self.lift(x))

    def table(self, values: Sequence[Any], index: Value) -> Value:
        raise NotImplementedError

    def rarely(self, mask: Value, slow: Callable[..., Any], fast: Any, *args: Any) -> Any:
        """Both, and the choice; a backend with branches does better."""
        found = slow(*args)
        if isinstance(fast, tuple):
            return tuple(self.where(mask, s, f) for s, f in zip(found, fast, strict=True))
        return self.where(mask, found, fast)
