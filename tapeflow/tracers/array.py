"""A traced array: a view, with shape and strides, of a buffer of traced numbers."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from tapeflow.ops import BY_NAME
from tapeflow.recorder import Recorder
from tapeflow.sources import placed, refuse, user_line
from tapeflow.tracers import names
from tapeflow.tracers.buffer import Buffer, c_strides
from tapeflow.tracers.number import BACKEND, NUMBERS, Tracer

Shape = tuple[int, ...]
_DTYPES = {"f": np.dtype(np.float64), "b": np.dtype(np.bool_), "i": np.dtype(np.int64)}


def _operator(name: str) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    op = BY_NAME[name]

    def forward(self: "TracedArray", other: Any) -> Any:
        from tapeflow.tracers import protocol

        return protocol.elementwise(op, (self, other))

    def reflected(self: "TracedArray", other: Any) -> Any:
        from tapeflow.tracers import protocol

        return protocol.elementwise(op, (other, self))

    def in_place(self: "TracedArray", other: Any) -> Any:
        self[...] = forward(self, other)
        return self

    return forward, reflected, in_place


class TracedArray:
    """An array whose operations are recorded; NumPy's functions take it as they take an array.

    kind: "f" for numbers, "b" for truth values and "i" for indices, which are numbers on the tape.
    """

    __slots__ = ("_cached", "buffer", "kind", "offset", "shape", "strides_in_numbers")
    __tapeflow_backend__ = BACKEND
    __array_priority__ = 1000.0

    def __init__(
        self, buffer: Buffer, offset: int, shape: Shape, strides: Shape, kind: str = "f"
    ) -> None:
        self.buffer, self.offset = buffer, offset
        self.shape, self.strides_in_numbers = shape, strides
        self.kind = kind
        self._cached: tuple[int, int] | None = None

    @classmethod
    def of(cls, recorder: Recorder, slot: int, shape: Shape, kind: str = "f") -> "TracedArray":
        """A fresh array of the run that begins at a slot."""
        size = math.prod(shape)
        return cls(Buffer(recorder, size, slot), 0, shape, c_strides(shape), kind)

    @classmethod
    def of_runs(
        cls, recorder: Recorder, runs: list[tuple[int, int]], shape: Shape, kind: str = "f"
    ) -> "TracedArray":
        """A fresh array of runs end to end: the length and first slot of each."""
        buffer = Buffer(recorder, math.prod(shape))
        firsts = itertools.accumulate((length for length, _ in runs), initial=0)
        pieces = [(first, *run) for first, run in zip(firsts, runs, strict=False)]
        buffer.pieces = pieces or buffer.pieces
        return cls(buffer, 0, shape, c_strides(shape), kind)

    # What NumPy's arrays are asked for.

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return _DTYPES[self.kind]

    @property
    def T(self) -> Any:
        return np.transpose(self)

    @property
    def mT(self) -> Any:
        return np.swapaxes(self, -1, -2)

    @property
    def real(self) -> "TracedArray":
        return self

    @property
    def imag(self) -> Any:
        return np.zeros(self.shape)

    @property
    def flat(self) -> Iterator[Any]:
        return iter(self.reshape(-1))

    @property
    def itemsize(self) -> int:
        return 8

    @property
    def nbytes(self) -> int:
        return 8 * self.size

    # Where the numbers are.

    @property
    def recorder(self) -> Recorder | None:
        return self.buffer.recorder

    @property
    def contiguous(self) -> bool:
        """Whether the array is one stretch of its buffer, in C order."""
        strides = zip(self.shape, self.strides_in_numbers, c_strides(self.shape), strict=True)
        return self.size == 0 or all(n == 1 or own == c for n, own, c in strides)

    @property
    def slot(self) -> int:
        """The first slot of the array's numbers in C order, in its own recording."""
        buffer = self.buffer
        assert buffer.recorder is not None
        if self.contiguous:
            return buffer.run(self.offset if self.size else 0, self.size)
        if self._cached is None or self._cached[0] != buffer.version:
            whole = buffer.run(0, buffer.size)
            p = (buffer.size, self.offset, *self.shape, *self.strides_in_numbers)
            copied = buffer.recorder.append(BY_NAME["view"], [whole], p, self.size)
            self._cached = buffer.version, copied
        return self._cached[1]

    def run_in(self, recorder: Recorder) -> int:
        """The first slot of the array's numbers in C order, in a recording."""
        if self.recorder is None:
            numbers = self.buffer.numbers
            assert numbers is not None
            return recorder.constants_of(np.ascontiguousarray(self._of(numbers)).reshape(-1))
        return recorder.slot_of(self, self.size)  # type: ignore[arg-type]

    def runs_in(self, recorder: Recorder) -> list[tuple[int, int]]:
        """The length and first slot of the runs that the numbers in C order are, in a recording."""
        if self.recorder is recorder and self.contiguous:
            return self.buffer.stretch(self.offset, self.size)
        return [(self.size, self.run_in(recorder))] if self.size else []

    def _of(self, numbers: Any) -> Any:
        """This view of an array that holds something for each number of the buffer."""
        strides = tuple(s * numbers.itemsize for s in self.strides_in_numbers)
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides)

    def places(self) -> Any:
        """The place in the buffer of each number of the array."""
        places = np.full((), self.offset, np.int64)
        for length, stride in zip(self.shape, self.strides_in_numbers, strict=True):
            places = np.add.outer(places, np.arange(length) * stride)
        return places

    # Views.

    def viewed(self, function: Callable[[Any], Any]) -> Any:
        """The array that a function which only makes views would make of a plain one.

        The function is given a stand-in with this array's shape and strides, whose memory is
        never read.
        """
        base = np.zeros(1, np.int8)
        stand_in = np.lib.stride_tricks.as_strided(base, self.shape, self.strides_in_numbers)
        start = stand_in.__array_interface__["data"][0]

        def wrap(result: Any) -> Any:
            if isinstance(result, (list, tuple)):
                return type(result)(map(wrap, result))
            offset = self.offset + result.__array_interface__["data"][0] - start
            offset = offset if result.size else 0
            return TracedArray(self.buffer, offset, result.shape, result.strides, self.kind)

        return wrap(function(stand_in))

    @placed
    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> Any:
        if len(shape) == 1 and not isinstance(shape[0], (int, np.integer)):
            (shape,) = shape
        if order == "F":
            turned: Any = self.T
            return turned.reshape(tuple(shape)[::-1]).T
        # NumPy's own message where the shape does not fit.
        settled = np.broadcast_to(np.int8(0), (self.size,)).reshape(shape).shape
        if self.contiguous:
            offset = self.offset
            return TracedArray(self.buffer, offset, settled, c_strides(settled), self.kind)
        return self.copy().reshape(settled)

    def ravel(self, order: str = "C") -> Any:
        return self.reshape(-1, order=order)

    def flatten(self, order: str = "C") -> Any:
        return self.reshape(-1, order=order).copy()

    def copy(self, order: str = "C") -> Any:
        if self.recorder is None:
            return lift(np.array(self._of(self.buffer.numbers)))
        return TracedArray.of_runs(
            self.recorder, self.runs_in(self.recorder), self.shape, self.kind
        )

    def broadcast_to(self, shape: Shape) -> "TracedArray":
        result: TracedArray = self.viewed(lambda x: np.broadcast_to(x, shape))
        return result

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, *axes) if len(axes) < 2 else np.transpose(self, axes)

    def astype(self, dtype: Any, *unused: Any, **options: Any) -> Any:
        kind = np.dtype(dtype).kind
        if kind == "f":
            return self.copy()
        if kind == "b":
            return self != 0.0
        refuse(
            f"turn a traced array into one of dtype {np.dtype(dtype)}",
            "compute with real numbers; np.floor and np.rint round them",
        )

    @placed
    def item(self, *args: Any) -> Any:
        if self.size != 1 and not args:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self[args] if args else self.reshape(-1)[0]

    def tolist(self) -> list[Any]:
        return [x.tolist() if isinstance(x, TracedArray) else x for x in self]

    def fill(self, value: Any) -> None:
        self[...] = value

    def sort(self, axis: int = -1, **options: Any) -> None:
        self[...] = np.sort(self, axis=axis)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        from tapeflow.tracers import indexing

        return indexing.get(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        from tapeflow.tracers import indexing

        indexing.put(self, key, value)

    # Arithmetic.

    __add__, __radd__, __iadd__ = _operator("add")
    __sub__, __rsub__, __isub__ = _operator("sub")
    __mul__, __rmul__, __imul__ = _operator("mul")
    __truediv__, __rtruediv__, __itruediv__ = _operator("div")
    __mod__, __rmod__, __imod__ = _operator("mod")
    _pow, __rpow__, _ipow = _operator("pow")
    __lt__, __gt__ = _operator("less")[0], _operator("greater")[0]
    __le__, __ge__ = _operator("less_equal")[0], _operator("greater_equal")[0]
    __eq__, __ne__ = _operator("equal")[0], _operator("not_equal")[0]
    __or__, __ror__, _ = _operator("max")
    __and__, __rand__, _ = _operator("min")
    __xor__, __rxor__, _ = _operator("not_equal")
    __hash__ = None  # type: ignore[assignment]

    def __pow__(self, exponent: Any) -> Any:
        from tapeflow.tracers import instructions

        if isinstance(exponent, NUMBERS):
            return instructions.power(self, exponent)
        return self._pow(exponent)

    def __ipow__(self, exponent: Any) -> Any:
        self[...] = self**exponent
        return self

    def __neg__(self) -> Any:
        return np.negative(self)

    def __pos__(self) -> Any:
        return self.copy()

    def __abs__(self) -> Any:
        return np.absolute(self)

    def __invert__(self) -> Any:
        if self.kind != "b":
            raise TypeError("ufunc 'invert' takes truth values: compare first")
        return np.logical_not(self)

    def __floordiv__(self, other: Any) -> Any:
        return np.floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return np.floor_divide(other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __matmul__(self, other: Any) -> Any:
        return np.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return np.matmul(other, self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        from tapeflow.tracers import protocol

        return protocol.ufunc(ufunc, method, inputs, options)

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        from tapeflow.tracers import protocol

        return protocol.function(function, args, options)

    def __getattr__(self, name: str) -> Any:
        if name in names.METHODS:
            method = getattr(np, names.METHODS[name])
            return lambda *args, **options: method(self, *args, **options)
        raise AttributeError(f"a traced array has no attribute {name!r}")

    # What would bake one run's numbers into the tape.

    def __array__(self, *args: Any, **options: Any) -> NoReturn:
        refuse("turn a traced array into a plain one", names.instead_of_plain(user_line()))

    def _number(self) -> Tracer:
        if self.size != 1:
            raise TypeError("only length-1 arrays can be converted to Python scalars")
        return self.item()  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return float(self._number())

    def __int__(self) -> int:
        return int(self._number())

    def __index__(self) -> int:
        return self._number().__index__()

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. "
                "Use np.any(a) or np.all(a) in np.where"
            )
        return bool(self.item())

    def __repr__(self) -> str:
        return f"<traced array of shape {self.shape}>"


def lift(value: Any) -> Any:
    """Any operand as an array that can stand in an instruction: traced, or of plain numbers."""
    if isinstance(value, TracedArray):
        return value
    if type(value) is Tracer:
        return TracedArray.of(value.recorder, value.slot, ())
    array = np.asarray(value)
    if array.dtype == object and any(hasattr(x, "__tapeflow_backend__") for x in array.flat):
        from tapeflow.tracers import instructions

        return instructions.joined(list(array.flat)).reshape(array.shape)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        what = "complex numbers" if array.dtype.kind == "c" else f"dtype {array.dtype}"
        refuse(
            f"use an array of {what} with a traced value",
            "compute with real numbers" if array.dtype.kind == "c" else "use real numbers",
        )
    # A copy: what the caller does to the array later must not show.
    numbers = np.array(array, np.float64, order="C").reshape(-1)
    buffer = Buffer.of_numbers(numbers)
    return TracedArray(buffer, 0, array.shape, c_strides(array.shape), array.dtype.kind)
