"""Nested arguments and results as flat runs of numbers, and back.

optree does the nesting (tuples, lists, dicts, named tuples, registered classes); this module adds
the leaves: Python and NumPy numbers, and NumPy arrays of them.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import optree

from tapeflow.errors import StructureError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_NUMBERS = frozenset([float, int, bool, *(np.dtype(code).type for code in "efdbhilqBHILQ?")])


@dataclass(frozen=True)
class Leaf:
    """One leaf of a structure: ``shape`` is None for a plain number."""

    shape: tuple[int, ...] | None

    @property
    def size(self) -> int:
        return 1 if self.shape is None else int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Structure:
    """How a nested structure of numbers and arrays lies in one flat run of slots."""

    treedef: optree.PyTreeSpec
    leaves: tuple[Leaf, ...]

    @cached_property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """First and last+1 slot of each leaf."""
        ends = np.cumsum([0, *(leaf.size for leaf in self.leaves)]).tolist()
        return tuple(itertools.pairwise(ends))

    @cached_property
    def size(self) -> int:
        """The number of slots."""
        return self.bounds[-1][1] if self.bounds else 0

    @cached_property
    def numbers_only(self) -> bool:
        return all(leaf.shape is None for leaf in self.leaves)

    def pack(self, leaves: Sequence[Any], out: Floats) -> None:
        """Write leaves that fit this structure into ``out``, shape (size,)."""
        if self.numbers_only:
            out[: self.size] = leaves
            return
        for leaf, value, (first, last) in zip(self.leaves, leaves, self.bounds, strict=True):
            if leaf.shape is None or len(leaf.shape) == 1:
                out[first:last] = value
            else:
                out[first:last].reshape(leaf.shape)[...] = value

    def split(self, flat: Any) -> list[Any]:
        """The leaves' runs of ``flat``, reshaped to their shapes; plain numbers as floats."""
        if self.numbers_only:
            numbers: list[Any] = flat[: self.size].tolist()
            return numbers
        return [
            flat[first].item() if leaf.shape is None else flat[first:last].reshape(leaf.shape)
            for leaf, (first, last) in zip(self.leaves, self.bounds, strict=True)
        ]

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        return self.treedef.unflatten(leaves)


def flatten(tree: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    """The leaves of a tree and its shape; a structure optree refuses is a StructureError."""
    try:
        leaves, treedef = optree.tree_flatten(tree)
    except (TypeError, ValueError, RecursionError) as error:
        raise StructureError(f"cannot take these arguments apart: {error}") from error
    return leaves, treedef


def is_number(value: Any) -> bool:
    """Whether a leaf is a plain real number of Python or NumPy."""
    return type(value) in _NUMBERS


def leaf_of(value: Any) -> Leaf:
    """What a leaf is; StructureError for anything that is not a real number or array of them."""
    kind = type(value)
    if kind in _NUMBERS:
        return Leaf(None)
    if isinstance(value, np.ma.MaskedArray):
        raise StructureError("cannot record a masked array: fill it first, as in x.filled(0.0)")
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "fiub" and value.dtype.itemsize <= 8:
            return Leaf(value.shape)
        raise StructureError(
            f"cannot record an array of dtype {value.dtype}: "
            "convert it to real numbers first, as in x.astype(float)"
        )
    raise StructureError(
        f"cannot record an argument of type {kind.__name__} ({str(value)[:40]!r}): "
        "pass numbers, NumPy arrays, or lists, tuples and dicts of them, "
        "and close over anything else"
    )


def structure_of(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a tree of numbers and arrays, and its structure."""
    leaves, treedef = flatten(tree)
    return leaves, Structure(treedef, tuple(map(leaf_of, leaves)))


NUMBER = Structure(flatten(0.0)[1], (Leaf(None),))
"""The structure of one plain number."""


def flat_structure(n: int) -> Structure:
    """The structure of n numbers given as n arguments."""
    return Structure(flatten((0.0,) * n)[1], (Leaf(None),) * n)


class _Word(str):
    """Shown as it is."""

    def __repr__(self) -> str:
        return str(self)


def outline(structure: Structure) -> str:
    """A structure as a person would write it, with its leaves' shapes: ``{'w': array(2, 3)}``."""
    words = ["number" if leaf.shape is None else f"array{leaf.shape}" for leaf in structure.leaves]
    return repr(structure.unflatten(map(_Word, words)))
