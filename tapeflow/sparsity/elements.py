"""The elements of a scattered problem: which unknowns, and which data, each of them has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow.errors import StructureError, TracingError
from tapeflow.recorded import flatten_args
from tapeflow.structure import Ints


@dataclass(frozen=True, eq=False)
class Group:
    """A leaf of the arguments.

    index: which of its entries each element has, int32 (n, times); None for data. entry: the shape
    of an entry, of the index too if there are several; None for a number that all share. size:
    numbers of one of its entries. first: the column of its first number, if it is unknown.
    """

    index: Any
    entry: tuple[int, ...] | None
    size: int
    first: int

    @property
    def wanted(self) -> bool:
        return self.index is not None


class Elements:
    """The leaves of a function's arguments, element by element. Raises as `scatter_jacobian`."""

    def __init__(self, name: str, indices: Sequence[Any], example: tuple[Any, ...]) -> None:
        self.name = name
        if len(indices) != len(example):
            raise StructureError(
                f"there are {len(indices)} indices for {len(example)} arguments of {name}: "
                "give one for each, None for data"
            )
        leaves, self.treedef, traced = flatten_args(example)
        if traced:
            raise TracingError(f"cannot plan the Jacobian of {name} inside a recording")
        self.shapes = [np.shape(leaf) for leaf in leaves]
        children = self.treedef.children()
        pairs = zip(indices, children, strict=True)
        by_leaf = [index for index, child in pairs for _ in range(child.num_leaves)]
        self.groups: list[Group] = []
        self.n_columns = 0
        lengths = {len(leaf) for leaf in map(self._add, by_leaf, leaves) if leaf is not None}
        if len(lengths) != 1 or not self.n_columns:
            listed = ", ".join(map(str, sorted(lengths))) or "none"
            raise StructureError(
                f"{name} needs an index at least, and its indices and data must be of one length, "
                f"the number of elements: there are {listed}"
            )
        if self.n_columns >= 2**31:
            raise StructureError(f"{name} has {self.n_columns} unknowns, more than 32-bit indices")
        self.n = int(lengths.pop())

    def _add(self, index: Any, leaf: Any) -> Any:
        """Enter a leaf, and return what has an entry for each element, if anything."""
        if index is None:
            entry = None if np.ndim(leaf) == 0 else leaf.shape[1:]
            self.groups.append(Group(None, entry, _product(entry), 0))
            return None if entry is None else leaf
        index = self._checked(np.asarray(index), leaf)
        size, shape = _product(leaf.shape[1:]), index.shape[1:]
        own = np.array(index.reshape(len(index), _product(shape)), np.int32)
        own.setflags(write=False)
        self.groups.append(Group(own, shape + leaf.shape[1:], size, self.n_columns))
        self.n_columns += leaf.size
        return index

    def _checked(self, index: Any, leaf: Any) -> Any:
        if np.ndim(leaf) == 0 or not np.issubdtype(leaf.dtype, np.floating):
            what = "a number" if np.ndim(leaf) == 0 else f"an array of {leaf.dtype}"
            raise StructureError(
                f"an indexed argument of {self.name} is {what}: pass an array of real numbers, "
                "with the unknowns along its first axis"
            )
        if not np.issubdtype(index.dtype, np.integer) or index.ndim == 0:
            raise StructureError(
                f"an index of {self.name} must be an array of integers, not of {index.dtype} and "
                f"shape {index.shape}"
            )
        if index.size and not 0 <= index.min() <= index.max() < len(leaf):
            raise IndexError(
                f"an index of {self.name} goes from {index.min()} to {index.max()}, and there are "
                f"{len(leaf)} unknowns"
            )
        return index

    def leaves(self, args: tuple[Any, ...]) -> list[Any]:
        """The leaves of arguments like those of the example. Raises StructureError for others."""
        leaves, treedef, traced = flatten_args(args)
        if traced:
            raise TracingError(
                f"cannot evaluate the scattered Jacobian of {self.name} inside a recording: "
                "use tpf.jacobian there"
            )
        shapes = [np.shape(leaf) for leaf in leaves]
        if treedef != self.treedef or shapes != self.shapes:
            raise StructureError(
                f"the Jacobian of {self.name} was planned for arguments of shapes {self.shapes}, "
                f"not {shapes}: plan it again for these"
            )
        return leaves

    def sample(self, leaves: Sequence[Any]) -> list[Any]:
        """The leaves as the first element has them; zeros where there is none."""
        found: list[Any] = []
        for group, leaf in zip(self.groups, leaves, strict=True):
            if group.entry is None:
                found.append(float(leaf))
                continue
            rows = slice(0, 1) if group.index is None else group.index[:1].ravel()
            own = np.zeros(group.entry)
            if self.n:
                own[...] = np.asarray(leaf)[rows].reshape(group.entry)
            found.append(own if group.entry else own.item())
        return found

    def columns(self) -> Ints:
        """The columns of each element's unknowns, in the order of its arguments: (n, count)."""
        found = [np.empty((self.n, 0), np.int32)]
        for group in self.groups:
            if group.wanted:
                starts = group.first + group.index * np.int32(group.size)
                inside = np.arange(group.size, dtype=np.int32)
                count = group.index.shape[1] * group.size
                found.append((starts[:, :, None] + inside).reshape(self.n, count))
        return np.concatenate(found, axis=1)


def _product(shape: tuple[int, ...] | None) -> int:
    return int(np.prod(shape or (), dtype=np.int64))
