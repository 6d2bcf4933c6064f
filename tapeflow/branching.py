"""A batch of a function that branches: each sample on its own path.

Where nearly all samples took one path the last time, that path's program runs on all of them and
says where a guard failed, and only those samples go another way. Otherwise all of them are walked
down the tree first. Either way a path's program runs on its own samples, side by side, and what it
leaves is put in their places.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow import settings
from tapeflow.arguments import Part
from tapeflow.errors import StructureError, renumbered
from tapeflow.lanes import Lanes, find_paths
from tapeflow.outcomes import flagged, has_python
from tapeflow.passes.extract import extract
from tapeflow.paths import Path, Tree
from tapeflow.plans import Axis, Plan, Results
from tapeflow.structure import Floats, Ints, Structure
from tapeflow.tape import Tape

_NEARLY_ALL = 0.8
"""The part of the samples on one path from which it is run on all: to walk costs as much."""

_GROUP = 8
"""Lanes of a group in the tree of sums: `addresses.GROUP`, which would bring Numba."""

_CHUNK_BYTES, _CHUNK = 1 << 25, 1 << 16
"""What the results of samples may take that are then summed, and how many there are at most."""


class Branching:
    """What was found out for calls with arguments of these shapes and axes."""

    def __init__(
        self,
        tree: Tree,
        axes: Sequence[Axis],
        parts: Sequence[Part],
        leaves: Sequence[Any],
        reduce: str | None,
        with_value: bool,
    ) -> None:
        self.tree, self.axes, self.parts, self.reduce = tree, axes, parts, reduce
        self.with_value = with_value
        # Only their shapes and types matter.
        self._like = [np.empty(np.shape(x), getattr(x, "dtype", np.float64)) for x in leaves]
        self._favourite: Path | None = None
        self._plans: dict[tuple[Path, str, str | None], Plan] = {}

    def plan(self, path: Path, reduce: str | None = None) -> Plan:
        """The path's program for samples that take it."""
        return self._plan(path, "bare", path.bare, reduce, self.with_value)

    def _plan(
        self, path: Path, name: str, tape: Tape, reduce: str | None, with_value: bool
    ) -> Plan:
        key = (path, name, reduce)
        plan = self._plans.get(key)
        if plan is None:
            plan = Plan(self.axes, tape, self.parts, self._like, reduce, with_value)
            self._plans[key] = plan
        return plan

    @property
    def value_dtypes(self) -> list[Any]:
        """The dtype of each leaf of the values."""
        return self.plan(self.tree.last).value_dtypes

    def run(self, leaves: Sequence[Any], n: int) -> tuple[Structure, Results]:
        """The structure of the result, and the values and gradients, as `Plan.run` gives them."""
        lanes = Lanes(leaves, self.axes, n)
        path = self._shared_path(lanes)
        if path is not None:
            path.runs += n
            return path.tape.output_structure, self.plan(path, self.reduce).sweep(leaves, n)
        if self.reduce is None:
            return self._samples(lanes)
        return self._reduced(lanes)

    def _shared_path(self, lanes: Lanes) -> Path | None:
        """The one path of all samples, if no guard depends on what differs between them."""
        path = self.tree.last
        if not lanes.n:
            return path
        if not self._is_shared(path):
            return None
        (path, _), *others = find_paths(self.tree, lanes, None)
        self.tree.last = path
        return path if not others and self._is_shared(path) else None

    def _is_shared(self, path: Path) -> bool:
        key = ("shared", tuple(axis is None for axis in self.axes))
        found: bool | None = path.prepared.get(key)
        if found is None:
            raw = path.raw
            nothing = np.zeros(raw.n_slots, np.bool_)
            whole = extract(raw, nothing, [], raw.guards)
            ends = [last for _, last in raw.input_structure.bounds]
            of = [int(np.searchsorted(ends, first, "right")) for first, _ in whole.inputs]
            found = path.prepared[key] = all(self.axes[k] is None for k in of)
        return found

    # A result for each sample.

    def _samples(self, lanes: Lanes) -> tuple[Structure, Results]:
        favourite = self._favourite
        if favourite is None and len(self.tree.paths) == 1:
            favourite = self.tree.last
        if favourite is None or settings.current().debugging or has_python(favourite.raw):
            return self._by_path(lanes)
        plan = self._plan(favourite, "flagged", flagged(favourite.tape), None, True)
        values, gradients = plan.sweep(lanes.leaves, lanes.n)
        flags = values.pop()[:, 0]
        others = np.flatnonzero(flags == 0.0)
        favourite.runs += lanes.n - len(others)
        structure = favourite.tape.output_structure
        if not self.with_value:
            values = []
        if len(others):
            for path, own in find_paths(self.tree, lanes, others):
                assert own is not None
                path.runs += len(own)
                self._check(favourite, path)
                self._scatter(self._on(path, lanes, own), (values, gradients), own)
        if len(others) > (1.0 - _NEARLY_ALL) * lanes.n:
            self._favourite = None
            if len(self.tree.paths) == 1:
                self._favourite = favourite
        return structure, (values, gradients)

    def _by_path(self, lanes: Lanes) -> tuple[Structure, Results]:
        groups = find_paths(self.tree, lanes, None)
        first, lanes_of_first = max(
            groups, key=lambda group: lanes.n if group[1] is None else len(group[1])
        )
        n = lanes.n if lanes_of_first is None else len(lanes_of_first)
        self._favourite = first if n >= _NEARLY_ALL * lanes.n else None
        structure = first.tape.output_structure
        whole: Results | None = None
        for path, own in groups:
            self._check(first, path)
            if own is None or len(own) == lanes.n:
                path.runs += lanes.n
                return structure, self.plan(path).sweep(lanes.leaves, lanes.n)
            path.runs += len(own)
            results = self._on(path, lanes, own)
            if whole is None:
                whole = _room(results, lanes.n)
            self._scatter(results, whole, own)
        assert whole is not None
        return structure, whole

    def _on(self, path: Path, lanes: Lanes, own: Ints) -> Results:
        """A path's results for some samples."""
        with renumbered(own):
            return self.plan(path).sweep(lanes.chosen(own), len(own))

    def _scatter(self, results: Results, whole: Results, own: Ints) -> None:
        for found, arrays in zip(results, whole, strict=True):
            for array, target in zip(found, arrays, strict=True):
                target[own] = array

    def _check(self, a: Path, b: Path) -> None:
        """StructureError unless two paths have results of one structure."""
        left, right = a.tape.output_structure, b.tape.output_structure
        if left.treedef != right.treedef or [x.shape or () for x in left.leaves] != [
            x.shape or () for x in right.leaves
        ]:
            raise StructureError(
                f"{self.tree.name} returns results of different structures or shapes on different "
                "branches, and a batch is of one: return the same on all of them"
            )

    # A sum.

    def _reduced(self, lanes: Lanes) -> tuple[Structure, Results]:
        """The sums of the samples' results, in the order of the samples, by the fixed tree."""
        total: list[Any] = []
        structure = None
        size = max(1, sum(leaf.size for leaf in self._sizes()))
        chunk = min(_CHUNK, max(_GROUP, 1 << (_CHUNK_BYTES // (8 * size)).bit_length() - 1))
        n_values = 0
        for first in range(0, lanes.n, chunk):
            own = np.arange(first, min(first + chunk, lanes.n))
            part = lanes if len(own) == lanes.n else Lanes(lanes.chosen(own), self.axes, len(own))
            with renumbered(own):
                structure, (values, gradients) = self._samples(part)
            n_values = len(values)
            total.append([_groups_sum(array) for array in [*values, *gradients]])
        assert structure is not None
        sums = [_tree_sum(list(parts)) for parts in zip(*total, strict=True)]
        results = [_lanes_sum(own, lanes.n, self.reduce) for own in sums]
        return structure, (results[:n_values], results[n_values:])

    def _sizes(self) -> list[Any]:
        path = self.tree.last
        own = [leaf for part in self.parts for leaf in part.structure.leaves]
        return [*path.tape.output_structure.leaves, *own]


def _room(results: Results, n: int) -> Results:
    values, gradients = (
        [np.empty((n, *array.shape[1:]), array.dtype) for array in arrays] for arrays in results
    )
    return values, gradients


def _groups_sum(array: Floats) -> Floats:
    """Samples' numbers, shape (n, size), summed over groups of lanes: shape (8, size)."""
    n = -(-len(array) // _GROUP) * _GROUP
    rows = np.full((n, array.shape[1]), -0.0)
    rows[: len(array)] = array
    return _tree_sum(list(rows.reshape(-1, _GROUP, array.shape[1])))


def _tree_sum(parts: list[Floats]) -> Floats:
    """The balanced tree over arrays, in their order."""
    sums: Any = np.array(parts)
    with np.errstate(over="ignore", invalid="ignore"):
        while len(sums) > 1:
            pairs = sums[: len(sums) // 2 * 2]
            sums = np.concatenate([pairs[0::2] + pairs[1::2], sums[len(pairs) :]])
    found: Floats = sums[0]
    return found


def _lanes_sum(group: Floats, n: int, reduce: str | None) -> Floats:
    """The eight lanes of a sum added last: shape (1, size); or the mean of n."""
    with np.errstate(over="ignore", invalid="ignore"):
        for half in (4, 2, 1):
            group = group[:half] + group[half:]
        total: Floats = group + 0.0
        return total / n if reduce == "mean" else total
