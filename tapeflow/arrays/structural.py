"""Moving numbers: strided views, gathers and scatters, and joining runs end to end.

Each is linear, and the transpose of another, which is its pullback.
"""

from collections.abc import Sequence

import numpy as np

from tapeflow.arrays.base import (
    Array,
    ArrayRule,
    Parameters,
    Reach,
    Sizes,
    Value,
    array_rule,
    call,
    product,
    require,
)


def _fold(p: Parameters) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """Parameters of a view: the run's length, the offset, the shape and the strides."""
    n_axes = (len(p) - 2) // 2
    return int(p[0]), int(p[1]), tuple(p[2 : 2 + n_axes]), tuple(p[2 + n_axes :])


def _places(p: Parameters) -> np.ndarray:
    _, offset, shape, strides = _fold(p)
    if 0 in shape:
        return np.empty(0, np.int64)
    places = np.full((), offset, np.int64)
    for length, stride in zip(shape, strides, strict=True):
        places = np.add.outer(places, np.arange(length) * stride)
    return places.ravel()


def _view_sizes(p: Parameters) -> tuple[int, int]:
    require(len(p) >= 2, len(p) % 2 == 0)
    size, offset, shape, strides = _fold(p)
    require(size >= 0, all(n >= 0 for n in shape))
    count = product(shape)
    if count:
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
        require(
            offset + sum(min(r, 0) for r in reach) >= 0,
            offset + sum(max(r, 0) for r in reach) < size,
        )
    return size, count


@array_rule
class View(ArrayRule):
    """A strided view of a run, copied out. Parameters: size, offset, shape, strides."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        size, count = _view_sizes(p)
        return (size,), count

    @classmethod
    def shape(cls, p: Parameters) -> tuple[int, ...]:
        return _fold(p)[2]

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        return [Reach(0, np.arange(p[0]), _places(p))]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        return operands[0][_places(p)]

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        size, offset, shape, strides = _fold(p)
        repeated = tuple(k for k, stride in enumerate(strides) if stride == 0 and shape[k] > 1)
        if repeated:
            flowing = np.sum(flowing.reshape(shape), axis=repeated)
        kept = [k for k in range(len(shape)) if k not in repeated]
        own = (size, offset, *(shape[k] for k in kept), *(strides[k] for k in kept))
        return (call("unview", own, flowing.reshape(-1)),)


@array_rule
class Unview(ArrayRule):
    """The transpose of a view: its numbers added at their places, in order, to zeros."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        size, count = _view_sizes(p)
        return (count,), size

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        return [Reach(0, _places(p), np.arange(p[0]))]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        return _scatter(operands[0], _places(p), int(p[0]))

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        return (call("view", p, flowing),)


def _scatter(x: Array, places: np.ndarray, size: int) -> Array:
    result = np.zeros((size, x.shape[1]))
    np.add.at(result, places, x)
    return result


@array_rule
class Take(ArrayRule):
    """A gather at fixed places; zero where the place is -1. Parameters: size, places."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        require(len(p) >= 1)
        places = np.asarray(p[1:], np.int64)
        require(p[0] >= 0)
        if places.size:
            require(places.min() >= -1, places.max() < p[0])
        return (int(p[0]),), len(places)

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        return [Reach(0, np.arange(p[0]), np.asarray(p[1:], np.int64))]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        places = np.asarray(p[1:], np.int64)
        zero = np.zeros((1, operands[0].shape[1]))
        return np.concatenate([operands[0], zero])[places]

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        return (call("put", p, flowing),)


@array_rule
class Put(ArrayRule):
    """The transpose of `Take`: numbers added at their places, in order, to zeros."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        (size,), count = Take.sizes(p)
        return (count,), size

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        return [Reach(0, np.asarray(p[1:], np.int64), np.arange(p[0]))]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        places = np.asarray(p[1:], np.int64)
        kept = places >= 0
        return _scatter(operands[0][kept], places[kept], int(p[0]))

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        return (call("take", p, flowing),)


@array_rule
class Concat(ArrayRule):
    """Runs end to end. Parameters: the length of each."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        require(len(p) >= 1, all(n >= 0 for n in p))
        return tuple(map(int, p)), int(sum(p))

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        whole = np.arange(sum(p))
        parts = np.split(whole, np.cumsum(p)[:-1])
        return [Reach(k, part, whole) for k, part in enumerate(parts[: len(p)])]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        return np.concatenate(operands)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        ends = np.cumsum(p).tolist()
        return [flowing[end - n : end] for n, end in zip(p, ends, strict=True)]


def _grid(p: Parameters) -> tuple[int, int, int]:
    require(len(p) == 3, all(n >= 0 for n in p))
    rows, size, count = map(int, p)
    return rows, size, count


def _by_row(p: Parameters) -> Reach:
    """Each number taken depends on its whole row, as the index may point anywhere in it."""
    rows, size, count = _grid(p)
    return Reach(0, np.repeat(np.arange(rows), size), np.repeat(np.arange(rows), count))


def _indices(index: Array, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices as whole numbers from 0, and which are in range; negative ones count from the end."""
    known = np.where(np.isfinite(index), index, -size - 1.0)
    places = np.trunc(np.clip(known, -size - 1.0, size)).astype(np.int64)
    places = np.where(places < 0, places + size, places)
    good = (places >= 0) & (places < size)
    return np.where(good, places, 0), good


@array_rule
class Take_At(ArrayRule):
    """In each row, a gather at places that are computed; NaN for one out of range.

    Parameters: rows, size of a row, indices of a row. Operands: the rows, the indices.
    """

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        rows, size, count = _grid(p)
        return (rows * size, rows * count), rows * count

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        return [_by_row(p)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        rows, size, count = _grid(p)
        lanes = operands[0].shape[1]
        places, good = _indices(operands[1].reshape(rows, count, lanes), size)
        if size == 0:
            return np.full((rows * count, lanes), np.nan)
        taken = np.take_along_axis(operands[0].reshape(rows, size, lanes), places, axis=1)
        return np.where(good, taken, np.nan).reshape(rows * count, lanes)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        return call("put_at", p, flowing, operands[1]), None


@array_rule
class Put_At(ArrayRule):
    """The transpose of `Take_At` in the rows: numbers added at their places to rows of zeros."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        rows, size, count = _grid(p)
        return (rows * count, rows * count), rows * size

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        gives, takes = _by_row(p)[1:3]
        return [Reach(0, takes, gives)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        rows, size, count = _grid(p)
        lanes = operands[0].shape[1]
        places, good = _indices(operands[1].reshape(rows, count, lanes), size)
        result = np.zeros((rows, size, lanes))
        row, k, lane = np.nonzero(good)
        values = operands[0].reshape(rows, count, lanes)
        np.add.at(result, (row, places[row, k, lane], lane), values[row, k, lane])
        return result.reshape(rows * size, lanes)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        return call("take_at", p, flowing, operands[1]), None
