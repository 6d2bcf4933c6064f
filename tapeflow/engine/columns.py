"""Results of a batch as columns of arrays, and the tables that tell the sweeps where they lie."""

import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.engine import staging
from tapeflow.memory import address_of
from tapeflow.structure import Floats, Ints, Structure


def table_of(*columns: Any) -> Ints:
    """Rows of three numbers from three columns, of which some may be one number."""
    table = np.empty((len(columns[0]), 3), np.int64)
    for k, column in enumerate(columns):
        table[:, k] = column
    return table


def by_size(table: Ints, sizes: Ints) -> tuple[Ints, Ints]:
    """The rows of a table whose numbers have eight bytes, and those with four."""
    return table[sizes == 8], table[sizes == 4]


_ALONE = [np.empty(0)]
_FREE = sys.getrefcount(_ALONE[0])
"""How many references an array has that only a list holds."""

_KEPT = 3
"""Arrays of results that are remembered: a caller often has the last one still."""

_PAGE = 4096
"""Bytes after which addresses share a set of the cache's lines again."""

_LARGE, _LARGEST = 1 << 16, 1 << 28
"""Bytes of an array from which, and up to which, it is used again."""


class Recycler:
    """Arrays of results that callers have let go, to be used again.

    The pages of large fresh arrays cost more time than writing to them. One evaluation at a time
    has a recycler.
    """

    def __init__(self) -> None:
        self._given: dict[Any, list[Any]] = {}

    def array(self, key: tuple[str, int], shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised array; one with the same key and shape that nobody has, if there is.

        key: a name, and the number of the array among those of that name.
        """
        n_bytes = math.prod(shape) * int(dtype.itemsize)
        if not _LARGE <= n_bytes <= _LARGEST:
            return np.empty(shape, dtype)
        given = self._given.setdefault((key, shape, dtype), [])
        # Nobody else has the memory, or a view of it.
        free = [k for k in range(len(given)) if sys.getrefcount(given[k]) == _FREE]
        if not free:
            if len(given) == _KEPT:
                given.pop(0)
            free = [len(given)]
            given.append(np.empty(n_bytes + _PAGE + 64, np.uint8))
        memory = given[free[0]]
        # The start of a cache line; and of another set of lines for each column, as numbers at one
        # place of all columns are written together.
        first = -address_of(memory) % 64 + 64 * key[1] % _PAGE
        return memory[first : first + n_bytes].view(dtype).reshape(shape)

    def forget(self, rows: int) -> None:
        """Let go of arrays for batches of other sizes."""
        self._given = {key: own for key, own in self._given.items() if key[1][0] == rows}


@functools.lru_cache(256)
def _side_by_side(rows: int, sizes: tuple[int, ...]) -> tuple[Ints, Ints, Ints]:
    """For arrays of (rows, size) one after the other: columns' offsets, strides, bytes a number."""
    offsets, strides, first = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for size in sizes:
        offsets.append(8 * (first + np.arange(size)))
        strides.append(np.full(size, 8 * size))
        first += rows * size
    return np.concatenate(offsets), np.concatenate(strides), np.full(sum(sizes), 8)


def staging_rows(structure: Structure) -> int:
    """How many rows of lanes there must be room for, to store results of a structure side by side.

    They are put in order there; and as many numbers may be the same for all samples.
    """
    sizes = (leaf.size for leaf in structure.leaves)
    return 2 * max((size for size in sizes if size <= staging.MOST), default=0)


class Columns:
    """Results as columns, one for each slot, in an array of shape (rows, size) for each leaf.

    dtypes: of each leaf's array, float64 or float32; all float64 where there is a single row.
    n_signed: of so many leaves zeros keep their sign, as those of values do; of gradients they are
    positive.
    """

    def __init__(
        self,
        rows: int,
        sizes: Sequence[int],
        dtypes: Sequence[Any],
        recycler: Recycler,
        name: str,
        n_signed: int,
    ) -> None:
        n = sum(sizes)
        self._unsigned = np.repeat(np.arange(len(sizes)) >= n_signed, sizes).astype(np.bool_)
        self.staged = np.repeat(
            [
                rows > 1 and staging.FEWEST <= size <= staging.MOST and dtype == np.float64
                for size, dtype in zip(sizes, dtypes, strict=False)
            ],
            sizes,
        ).astype(np.bool_)
        """Whether each is stored side by side with its leaf's others, by way of the cache."""
        # A single row is one run of numbers, which the leaves' arrays are views of.
        self._row = np.empty(n) if rows == 1 else None
        self.arrays: list[Floats] = []
        if 8 * rows * n < _LARGE and all(dtype == np.float64 for dtype in dtypes):
            memory = np.empty(rows * n) if self._row is None else self._row
            first = 0
            for size in sizes:
                last = first + rows * size
                self.arrays.append(memory[first:last].reshape(rows, size))
                first = last
            offsets, self.strides, self.item_sizes = _side_by_side(rows, tuple(sizes))
            self.addresses = address_of(memory) + offsets
            return
        self.addresses, self.strides = np.empty(n, np.int64), np.empty(n, np.int64)
        self.item_sizes = np.full(n, 8)
        first = 0
        for k, size in enumerate(sizes):
            last = first + size
            if self._row is None:
                array = recycler.array((name, k), (rows, size), dtypes[k])
            else:
                array = self._row[first:last].reshape(1, size)
            self.item_sizes[first:last] = array.itemsize
            self.addresses[first:last] = address_of(array) + array.itemsize * np.arange(size)
            self.strides[first:last] = array.strides[0]
            self.arrays.append(array)
            first = last

    def tables(self, places: Ints, columns: Ints) -> tuple[Ints, Ints]:
        """The tables that store rows of lanes, at their places, in some of the columns.

        The first is of the columns in float64, the second of those in float32.
        """
        flags = staging.UNSIGNED * self._unsigned[columns]
        table = table_of(places + flags, self.addresses[columns], self.strides[columns])
        return by_size(table, self.item_sizes[columns])

    def staged_table(self, places: Ints) -> Ints:
        """The table of the staged columns (`staging.store_staged`); places: of all columns."""
        tables, first = [np.empty((0, 3), np.int64)], 0
        for array in self.arrays:
            size = array.shape[1]
            own = np.arange(first, first + size)
            if size and self.staged[first]:
                flag = staging.UNSIGNED * int(self._unsigned[first])
                head = np.array([[size + flag, self.addresses[first], self.strides[first]]])
                tables += [head, table_of(places[own], 0, 0)]
            first += size
        return np.concatenate(tables)

    def fill(self, columns: Ints, numbers: Floats) -> None:
        """Write one number down each of some columns."""
        numbers = np.where(self._unsigned[columns], numbers + 0.0, numbers)
        if self._row is not None:
            self._row[columns] = numbers
            return
        ends = np.cumsum([array.shape[1] for array in self.arrays])
        for column, number in zip(columns.tolist(), numbers.tolist(), strict=True):
            k = int(np.searchsorted(ends, column, side="right"))
            self.arrays[k][:, column - ends[k]] = number
