"""Where entries of a Jacobian are: rows and columns of numbers that lie side by side."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tapeflow.structure import Ints


@dataclass(frozen=True, eq=False)
class Places:
    """The rows and the columns of some entries, int32; no two are the same.

    n_columns: of the whole matrix.
    """

    rows: Any
    columns: Any
    n_columns: int

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def keys(self) -> Ints:
        """A number for each entry, in the order of the rows, and then of the columns."""
        keys: Ints = self.rows.astype(np.int64) * self.n_columns + self.columns
        return keys

    @cached_property
    def order(self) -> Ints:
        """Which entry has the lowest key, and so on."""
        if (np.diff(self.keys) > 0).all():
            return np.arange(len(self))
        return np.argsort(self.keys, kind="stable")

    @cached_property
    def whole(self) -> bool:
        """Whether entry k is row k's only one."""
        return bool((self.rows == np.arange(len(self))).all())

    @cached_property
    def diagonals(self) -> tuple[int, int]:
        """The lowest and the highest diagonal that has an entry."""
        off = self.columns - self.rows
        return int(off.min(initial=0)), int(off.max(initial=0))

    @cached_property
    def row_order(self) -> tuple[Ints, Any]:
        """The entries by row, those of one row in order, and the rows in that order."""
        if (np.diff(self.rows) >= 0).all():
            return np.arange(len(self)), self.rows
        order = np.argsort(self.rows, kind="stable")
        return order, self.rows[order]

    def found(self, keys: Ints) -> Ints:
        """For each of some keys which entry has it; -1 if none has."""
        ordered = self.keys[self.order]
        at = np.minimum(np.searchsorted(ordered, keys), len(self) - 1)
        return np.where(ordered[at] == keys, self.order[at], -1)

    def meets(self, other: "Places") -> bool:
        """Whether some entry is one of the other's too."""
        (a, b), (c, d) = self.diagonals, other.diagonals
        if not len(self) or not len(other) or b < c or d < a:
            return False
        if self.rows is other.rows and self.whole:
            return bool((self.columns == other.columns).any())
        return bool((self.found(other.keys) >= 0).any())


@dataclass(eq=False)
class Table:
    """Places by what is in them, so that the same are one object, and their rows one array."""

    n_columns: int
    _arrays: dict[Any, Any] = field(default_factory=dict)
    _places: dict[tuple[int, int], Places] = field(default_factory=dict)
    _meet: dict[tuple[Places, Places], bool] = field(default_factory=dict)

    def places(self, rows: Any, columns: Any) -> Places:
        own = self._array(rows), self._array(columns)
        key = id(own[0]), id(own[1])
        if key not in self._places:
            self._places[key] = Places(*own, self.n_columns)
        return self._places[key]

    def of_keys(self, keys: Ints) -> Places:
        return self.places(keys // self.n_columns, keys % self.n_columns)

    def meet(self, a: Places, b: Places) -> bool:
        """Whether two places have an entry in common."""
        if (a, b) not in self._meet:
            self._meet[a, b] = a.meets(b)
        return self._meet[a, b]

    def _array(self, numbers: Any) -> Any:
        array = np.ascontiguousarray(numbers, np.int32)
        return self._arrays.setdefault(array.tobytes(), array)
