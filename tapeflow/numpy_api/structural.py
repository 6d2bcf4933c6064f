"""Functions that only move numbers.

Those that make views make them of a stand-in; the others are given each operand's places in place
of its numbers, and what they return says where each number goes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.numpy_api.registry import named, stands_for
from tapeflow.tracers import TracedArray, is_traced, lift
from tapeflow.tracers.indexing import gather
from tapeflow.tracers.instructions import joined
from tapeflow.tracers.protocol import FUNCTIONS

_VIEWS = [
    "transpose", "permute_dims", "matrix_transpose", "swapaxes", "moveaxis", "rollaxis",
    "squeeze", "expand_dims", "broadcast_to", "flip", "fliplr", "flipud", "rot90", "diagonal",
    "linalg.diagonal", "linalg.matrix_transpose", "split", "array_split", "hsplit", "vsplit",
    "dsplit", "unstack", "atleast_1d", "atleast_2d", "atleast_3d",
]  # fmt: skip

_MOVED = [
    "roll", "tile", "repeat", "resize", "delete", "compress", "fft.fftshift", "fft.ifftshift",
]  # fmt: skip

_FILLED = [
    "diag", "diagflat",
]  # fmt: skip

_JOINED = [
    "concatenate", "concat", "stack", "vstack", "hstack", "dstack", "column_stack", "block",
    "append", "broadcast_arrays", "meshgrid",
]  # fmt: skip


# NumPy's own types are narrower than its functions.
_pad: Any = np.pad
_take: Any = np.take


def _view(function: Any) -> Callable[..., Any]:
    def record(x: Any, *args: Any, **options: Any) -> Any:
        return lift(x).viewed(lambda stand_in: function(stand_in, *args, **options))

    return record


def places(x: Any) -> Any:
    """The place of each number in an array's flat order."""
    return np.arange(x.size).reshape(x.shape)


def _moved(function: Any) -> Callable[..., Any]:
    def record(x: Any, *args: Any, **options: Any) -> Any:
        x = lift(x)
        return gather(x, function(places(x), *args, **options))

    return record


def _filled(function: Any) -> Callable[..., Any]:
    def record(x: Any, *args: Any, **options: Any) -> Any:
        x = lift(x)
        return gather(x, function(places(x) + 1, *args, **options) - 1)

    return record


def _several(function: Any) -> Callable[..., Any]:
    """A function of several arrays, which may be nested in lists."""

    def record(*args: Any, **options: Any) -> Any:
        operands: list[Any] = []
        first = 0

        def stand_in(value: Any) -> Any:
            nonlocal first
            if isinstance(value, (list, tuple)):
                return [stand_in(part) for part in value]
            own = lift(value)
            operands.append(own)
            own_places = first + places(own)
            first += own.size
            return own_places

        own_args, rest = _arrays(function, args)
        result = function(*map(stand_in, own_args), *rest, **options)
        whole = joined(operands)
        if isinstance(result, (list, tuple)):
            return type(result)(gather(whole, part) for part in result)
        return gather(whole, result)

    return record


def _arrays(function: Any, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The arguments that hold arrays, and those after them."""
    name = function.__name__
    if name in ("broadcast_arrays", "meshgrid"):
        return args, ()
    return (args[:2], args[2:]) if name == "append" else (args[:1], args[1:])


for names, wrap in (
    (_VIEWS, _view),
    (_MOVED, _moved),
    (_FILLED, _filled),
    (_JOINED, _several),
):
    for name in names:
        if named(name) is not None:
            FUNCTIONS[named(name)] = wrap(named(name))


@stands_for("reshape")
def reshape(x: Any, shape: Any, order: str = "C", *, copy: Any = None) -> Any:
    return lift(x).reshape(shape, order=order)


@stands_for("ravel")
def ravel(x: Any, order: str = "C") -> Any:
    return lift(x).reshape(-1, order=order)


@stands_for("copy")
def copy(x: Any, order: str = "K", subok: bool = False) -> Any:
    return lift(x).copy()


@stands_for("astype")
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    return lift(x).astype(dtype)


@stands_for("shape")
def shape(x: Any) -> Any:
    return x.shape


@stands_for("ndim")
def ndim(x: Any) -> int:
    return len(x.shape)


@stands_for("size")
def size(x: Any, axis: int | None = None) -> int:
    return int(x.size if axis is None else x.shape[axis])


@stands_for("iscomplexobj")
def iscomplexobj(x: Any) -> bool:
    return False


@stands_for("isrealobj")
def isrealobj(x: Any) -> bool:
    return True


@stands_for("real", "real_if_close")
def real(x: Any, *unused: Any) -> Any:
    return x


@stands_for("imag")
def imag(x: Any) -> Any:
    return np.zeros(x.shape)


@stands_for("zeros_like")
def zeros_like(x: Any, dtype: Any = None, *unused: Any, shape: Any = None, **options: Any) -> Any:
    return _like(x, 0.0, shape)


@stands_for("empty_like")
def empty_like(x: Any, dtype: Any = None, *unused: Any, shape: Any = None, **options: Any) -> Any:
    return _like(x, 0.0, shape)


@stands_for("ones_like")
def ones_like(x: Any, dtype: Any = None, *unused: Any, shape: Any = None, **options: Any) -> Any:
    return _like(x, 1.0, shape)


@stands_for("full_like")
def full_like(
    x: Any, fill_value: Any, dtype: Any = None, *unused: Any, shape: Any = None, **options: Any
) -> Any:
    return _like(x, fill_value, shape)


def _like(x: Any, value: Any, shape: Any) -> Any:
    """An array that traced values can be assigned to."""
    own = x.shape if shape is None else shape
    if is_traced(value):
        return lift(value).broadcast_to(own).copy()
    return lift(np.array(np.broadcast_to(np.asarray(value, float), own)))


@stands_for("tril")
def tril(m: Any, k: int = 0) -> Any:
    n, columns = m.shape[-2:]
    return np.where(np.tri(n, columns, k, bool), m, 0.0)


@stands_for("triu")
def triu(m: Any, k: int = 0) -> Any:
    n, columns = m.shape[-2:]
    return np.where(np.tri(n, columns, k - 1, bool), 0.0, m)


@stands_for("pad")
def pad(x: Any, pad_width: Any, mode: str = "constant", **options: Any) -> Any:
    x = lift(x)
    if mode == "constant":
        fill = options.pop("constant_values", 0.0)
        kept = np.pad(places(x) + 1, pad_width) - 1
        if not is_traced(fill) and np.all(np.asarray(fill) == 0.0):
            return gather(x, kept)
        filling = np.pad(np.zeros(x.shape), pad_width, constant_values=fill)
        return np.where(kept >= 0, gather(x, kept), filling)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ValueError(
            f"np.pad records mode constant, edge, reflect, symmetric, wrap: not {mode}"
        )
    return gather(x, _pad(places(x), pad_width, mode=mode, **options))


@stands_for("insert")
def insert(x: Any, obj: Any, values: Any, axis: int | None = None) -> Any:
    x, values = lift(x), lift(values)
    both = joined([x, values])
    return gather(both, np.insert(places(x), obj, x.size + places(values), axis))


@stands_for("take")
def take(x: Any, indices: Any, axis: int | None = None, *unused: Any, mode: str = "raise") -> Any:
    x = lift(x)
    if not is_traced(indices):
        return gather(x, _take(places(x), indices, axis, mode=mode))
    if axis is None:
        x, axis = x.reshape(-1), 0
    moved = np.moveaxis(x, axis, 0)
    n, inner = moved.shape[0], int(np.prod(moved.shape[1:], dtype=np.int64))
    index = lift(indices)
    # Column j of the numbers that follow index i is number i * inner + j; from the end too.
    start = np.where(index < 0, index + n, index)
    within = (start >= 0) & (start < n)
    flat = np.where(within, start, np.nan).reshape(-1, 1) * inner + np.arange(inner)
    taken = take_rows(moved.reshape(1, -1), flat.reshape(1, -1))
    result = taken.reshape(*index.shape, *moved.shape[1:])
    order = (axis + x.ndim) % x.ndim
    result = np.moveaxis(result, list(range(index.ndim)), list(range(order, order + index.ndim)))
    return result if result.shape else result.reshape(-1)[0]


def take_rows(x: Any, index: Any) -> Any:
    """From each row of x, shape (rows, n), the numbers at the row of ``index``, (rows, m)."""
    from tapeflow.tracers import array_op

    rows, n = x.shape
    return array_op("take_at", (rows, n, index.shape[1]), (x, index)).reshape(index.shape)


@stands_for("take_along_axis")
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    x = lift(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    if not is_traced(indices):
        return gather(x, np.take_along_axis(places(x), indices, axis))
    a, index = np.moveaxis(x, axis, -1), np.moveaxis(lift(indices), axis, -1)
    outer = np.broadcast_shapes(a.shape[:-1], index.shape[:-1])
    a = np.broadcast_to(a, (*outer, a.shape[-1]))
    index = np.broadcast_to(index, (*outer, index.shape[-1]))
    rows = int(np.prod(outer, dtype=np.int64))
    flat = take_rows(a.reshape(rows, a.shape[-1]), index.reshape(rows, index.shape[-1]))
    return np.moveaxis(flat.reshape(index.shape), -1, axis)


@stands_for("choose")
def choose(index: Any, choices: Sequence[Any], out: Any = None, mode: str = "raise") -> Any:
    result = choices[-1]
    for k in reversed(range(len(choices) - 1)):
        result = np.where(index == k, choices[k], result)
    return result


@stands_for("put_along_axis")
def put_along_axis(x: Any, indices: Any, values: Any, axis: int) -> None:
    kept = np.take_along_axis(places(x), indices, axis)
    x[np.unravel_index(kept, x.shape)] = values


@stands_for("fill_diagonal")
def fill_diagonal(x: Any, value: Any, wrap: bool = False) -> None:
    n = min(x.shape)
    x[(np.arange(n),) * x.ndim] = value


@stands_for("copyto")
def copyto(target: Any, source: Any, casting: str = "same_kind", where: Any = True) -> None:
    if not isinstance(target, TracedArray):
        from tapeflow.sources import refuse

        refuse("put a traced value into a plain array", "use np.copy(x)")
    target[...] = source if where is True else np.where(where, source, target)
