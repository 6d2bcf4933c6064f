"""The primitive operations that rules and `mathlib` are written in, and their NumPy meaning.

A text in these operations is evaluated, not parsed, on three kinds of values: float64 arrays and
numbers of NumPy (here: the reference), values of the kernel compiler (which emit machine code),
and tracers (which record). Besides *floats* there are *masks*, the results of comparisons, and
*ints* of 64 bits. The arithmetic, comparisons and bit operations among them are Python's
operators; the rest are the functions below. A type that brings its own meaning of them has the
attribute ``__tapeflow_backend__``, an object with these functions as methods.
"""

import ctypes
import ctypes.util
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Value = Any


class _NumPy:
    """The primitives on NumPy's arrays and numbers."""

    def __init__(self) -> None:
        libm = ctypes.CDLL(ctypes.util.find_library("m") or None)
        libm.fma.restype = ctypes.c_double
        libm.fma.argtypes = [ctypes.c_double] * 3
        # NumPy has no fma: libm's, element by element. It is the oracle, and may be slow.
        self._fma: Any = np.frompyfunc(libm.fma, 3, 1)

    def lift(self, x: Value) -> Value:
        """A plain number as one of these values."""
        return x if isinstance(x, np.ndarray) else np.float64(x)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        return np.asarray(self._fma(a, b, c), np.float64)[()]

    def sqrt(self, x: Value) -> Value:
        return np.sqrt(x)

    def floor(self, x: Value) -> Value:
        return np.floor(x)

    def ceil(self, x: Value) -> Value:
        return np.ceil(x)

    def rint(self, x: Value) -> Value:
        return np.rint(x)

    def trunc(self, x: Value) -> Value:
        return np.trunc(x)

    def absolute(self, x: Value) -> Value:
        return np.abs(x)

    def copysign(self, x: Value, y: Value) -> Value:
        return np.copysign(x, y)

    def where(self, mask: Value, a: Value, b: Value) -> Value:
        chosen: Value = np.where(mask, a, b)
        return chosen[()]

    def bits(self, x: Value) -> Value:
        return np.asarray(x, np.float64).view(np.int64)[()]

    def from_bits(self, i: Value) -> Value:
        return np.asarray(i, np.int64).view(np.float64)[()]

    def shift_right_logical(self, i: Value, n: Value) -> Value:
        return (np.asarray(i, np.int64).view(np.uint64) >> np.uint64(n)).view(np.int64)[()]

    def mul_high(self, i: Value, j: Value) -> Value:
        product = np.multiply(
            np.asarray(i, np.int64).view(np.uint64).astype(object),
            np.asarray(j, np.int64).view(np.uint64).astype(object),
        )
        high = np.asarray(product >> 64, np.uint64)
        return high.view(np.int64)[()]

    def to_float(self, i: Value) -> Value:
        return np.asarray(i, np.int64).astype(np.float64)[()]

    def to_int(self, x: Value) -> Value:
        return np.asarray(x, np.float64).astype(np.int64)[()]

    def table(self, values: Sequence[float] | Sequence[int], index: Value) -> Value:
        kind = np.int64 if isinstance(values[0], int) else np.float64
        return np.asarray([wrap(v) if isinstance(v, int) else v for v in values], kind)[index]

    def rarely(self, mask: Value, slow: Callable[..., Value], fast: Value, *args: Value) -> Value:
        if not np.any(mask):
            return fast
        result = slow(*args)
        if isinstance(fast, tuple):
            return tuple(self.where(mask, s, f) for s, f in zip(result, fast, strict=True))
        return self.where(mask, result, fast)


def wrap(value: int) -> int:
    """A 64-bit pattern as the signed number it is."""
    return (value + 2**63) % 2**64 - 2**63


_numpy = _NumPy()


def backend_of(*values: Value) -> Any:
    """What gives the primitives their meaning on these values."""
    for value in values:
        backend = getattr(value, "__tapeflow_backend__", None)
        if backend is not None:
            return backend
    return _numpy


def elementary(function: Callable[..., Value]) -> Callable[..., Value]:
    """Mark a text as an op of its own: a tracer records it by name and does not look inside."""

    @functools.wraps(function)
    def call(*args: Value) -> Value:
        backend = backend_of(*args)
        if backend is _numpy:
            with np.errstate(all="ignore"):
                return function(*map(backend.lift, args))
        if hasattr(backend, "elementary"):
            return backend.elementary(function.__name__, args)
        return backend.once(function, args)

    return call


def fma(a: Value, b: Value, c: Value) -> Value:
    """a * b + c, rounded once."""
    return backend_of(a, b, c).fma(a, b, c)


def sqrt(x: Value) -> Value:
    return backend_of(x).sqrt(x)


def floor(x: Value) -> Value:
    return backend_of(x).floor(x)


def ceil(x: Value) -> Value:
    return backend_of(x).ceil(x)


def rint(x: Value) -> Value:
    """The nearest whole number, the even one of two."""
    return backend_of(x).rint(x)


def trunc(x: Value) -> Value:
    return backend_of(x).trunc(x)


def absolute(x: Value) -> Value:
    return backend_of(x).absolute(x)


def copysign(x: Value, y: Value) -> Value:
    """The magnitude of x with the sign of y."""
    return backend_of(x, y).copysign(x, y)


def where(mask: Value, a: Value, b: Value) -> Value:
    """a where the mask is set and b elsewhere; floats or ints."""
    return backend_of(mask, a, b).where(mask, a, b)


def bits(x: Value) -> Value:
    """The bits of a float, as an int."""
    return backend_of(x).bits(x)


def from_bits(i: Value) -> Value:
    """The float with these bits."""
    return backend_of(i).from_bits(i)


def shift_right_logical(i: Value, n: int) -> Value:
    """Shift right and fill with zeros (``>>`` fills with the sign)."""
    return backend_of(i).shift_right_logical(i, n)


def mul_high(i: Value, j: Value) -> Value:
    """The upper 64 bits of the product of two ints taken as unsigned."""
    return backend_of(i, j).mul_high(i, j)


def to_float(i: Value) -> Value:
    """An int as a float, rounded to nearest."""
    return backend_of(i).to_float(i)


def to_int(x: Value) -> Value:
    """A float as an int, towards zero; it must be in range."""
    return backend_of(x).to_int(x)


def table(values: Sequence[float] | Sequence[int], index: Value) -> Value:
    """values[index]: floats, or 64-bit patterns as ints. The index must be in range."""
    return backend_of(index).table(values, index)


def rarely(mask: Value, slow: Callable[..., Value], fast: Value, *args: Value) -> Value:
    """slow(*args) where the mask is set and ``fast`` (a value or a tuple) elsewhere.

    Compiled code branches around ``slow`` when no lane needs it. A lane's bits do not depend on
    its neighbours.
    """
    return backend_of(mask, *args).rarely(mask, slow, fast, *args)
