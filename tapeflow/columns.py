"""Results of a batch as columns of arrays, and the tables that tell the sweeps where they lie."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.structure import Floats, Ints


def table_of(*columns: Any) -> Ints:
    """Rows of three numbers from three columns, of which some may be one number."""
    table = np.empty((len(columns[0]), 3), np.int64)
    for k, column in enumerate(columns):
        table[:, k] = column
    return table


class Columns:
    """Results as columns, one for each slot, in an array of shape (rows, size) for each leaf."""

    def __init__(self, rows: int, sizes: Sequence[int]) -> None:
        n = sum(sizes)
        self.addresses = np.empty(n, np.int64)
        self.strides = np.empty(n, np.int64)
        self.arrays: list[Floats] = []
        # A single row is one run of numbers, which the leaves' arrays are views of.
        self._row = np.empty(n) if rows == 1 else None
        first = 0
        for size in sizes:
            last = first + size
            if self._row is None:
                array = np.empty((rows, size))
            else:
                array = self._row[first:last].reshape(1, size)
            self.addresses[first:last] = array.ctypes.data + 8 * np.arange(size)
            self.strides[first:last] = array.strides[0]
            self.arrays.append(array)
            first = last

    def table(self, places: Ints, columns: Ints) -> Ints:
        """The table that stores rows of lanes, at their places, in some of the columns."""
        return table_of(places, self.addresses[columns], self.strides[columns])

    def fill(self, columns: Ints, numbers: Floats) -> None:
        """Write one number down each of some columns."""
        if self._row is not None:
            self._row[columns] = numbers
            return
        ends = np.cumsum([array.shape[1] for array in self.arrays])
        for column, number in zip(columns.tolist(), numbers.tolist(), strict=True):
            k = int(np.searchsorted(ends, column, side="right"))
            self.arrays[k][:, column - ends[k]] = number
