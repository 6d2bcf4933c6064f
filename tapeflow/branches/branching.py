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
from tapeflow.branches.lanes import Lanes, find_paths, put
from tapeflow.branches.margins import margin_tape
from tapeflow.branches.paths import Path, Tree
from tapeflow.engine.outcomes import flagged, has_python
from tapeflow.errors import StructureError, renumbered
from tapeflow.passes.extract import extract
from tapeflow.plans import Axis, Plan, Results, wanted_leaves
from tapeflow.structure import Floats, Ints, Structure
from tapeflow.tape import Tape
from tapeflow.threads import each

_NEARLY_ALL = 0.8
"""The part of the samples on one path from which it is run on all: to walk costs as much."""

_PART, _MOST_PART = 1 << 14, 1 << 18
"""Samples that one thread takes together: fewer cost Python more time than they save, and more
leave the cache."""

_GROUP = 8
"""Lanes of a group in the tree of sums: `addresses.GROUP`, which would bring Numba."""

_CHUNK_BYTES = 1 << 25
"""What the results of samples may take that are then summed."""


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
        signed: bool = True,
    ) -> None:
        self.tree, self.axes, self.parts, self.reduce = tree, axes, parts, reduce
        self.with_value, self._signed = with_value, signed
        # Only their shapes and types matter.
        self._like = [np.empty(np.shape(x), getattr(x, "dtype", np.float64)) for x in leaves]
        self._favourite: Path | None = None
        self._walked = False
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
            plan = Plan(self.axes, tape, self.parts, self._like, reduce, with_value, self._signed)
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
            path.count(n)
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
            path = self.tree.last
            whole = self._room(path, lanes.n)
            self._by_path(lanes, path, None, whole)
            return path.tape.output_structure, whole
        plan = self._plan(favourite, "flagged", flagged(favourite.tape), None, True)
        values, gradients = plan.sweep(lanes.leaves, lanes.n)
        others = np.flatnonzero(values.pop()[:, 0] == 0.0)
        favourite.count(lanes.n - len(others))
        whole = values if self.with_value else [], gradients
        if len(others):
            self._by_path(lanes, favourite, others, whole)
        if len(others) > (1.0 - _NEARLY_ALL) * lanes.n:
            self._favourite = None
        return favourite.tape.output_structure, whole

    def _by_path(self, lanes: Lanes, like: Path, others: Ints | None, whole: Results) -> None:
        """Put the results of all samples, or of some others, in their places.

        like: a path whose results are of the structure that all must have.
        """
        n = lanes.n if others is None else len(others)
        threads = settings.current().threads
        size = max(_PART, -(-n // threads)) if threads > 1 and self._walked else n
        size = min(size, _MOST_PART)
        taken: list[tuple[Path, int]] = []

        def work(k: int) -> None:
            first, last = k * size, min((k + 1) * size, n)
            if others is not None:
                self._put(lanes, others[first:last], like, whole, taken)
                return
            with renumbered(range(first, last)):
                part = lanes.part(first, last)
                self._put(part, None, like, _rows(whole, first, last), taken)

        if n <= size:
            work(0)
        else:
            with settings.overridden(threads=1):
                each(threads, -(-n // size), work)
        self._walked = True
        counts: dict[Path, int] = {}
        for path, count in taken:
            counts[path] = counts.get(path, 0) + count
        for path, count in counts.items():
            path.count(count)
        favourite, most = max(counts.items(), key=lambda item: item[1])
        if others is None:
            self._favourite = favourite if most >= _NEARLY_ALL * n else None

    def _put(
        self,
        lanes: Lanes,
        chosen: Ints | None,
        like: Path,
        whole: Results,
        taken: list[tuple[Path, int]],
    ) -> None:
        for path, own in find_paths(self.tree, lanes, chosen):
            self._check(like, path)
            n = lanes.n if own is None else len(own)
            taken.append((path, n))
            plan = self.plan(path)
            with renumbered(own):
                if own is not None and lanes.in_place:
                    results = plan.sweep(lanes.leaves, n, own.astype(np.int32))
                else:
                    leaves = lanes.leaves if own is None else lanes.chosen(own, plan.widths)
                    results = plan.sweep(leaves, n)
            for found, arrays in zip(results, whole, strict=True):
                for array, target in zip(found, arrays, strict=True):
                    put(array, own, target)

    def _room(self, path: Path, n: int) -> Results:
        """Memory for the results of n samples."""
        plan = self.plan(path)
        of_values = zip(path.tape.output_structure.leaves, plan.value_dtypes, strict=True)
        inputs = path.tape.input_structure.leaves
        wanted = zip(wanted_leaves(self.parts), plan.gradient_dtypes, strict=True)
        values = [np.empty((n, leaf.size), dtype) for leaf, dtype in of_values]
        gradients = [np.empty((n, inputs[k].size), dtype) for k, dtype in wanted]
        return values if self.with_value else [], gradients

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

    def margins(self, leaves: Sequence[Any], n: int) -> Floats:
        """Each sample's smallest distance to a guard, shape (n,)."""
        found = np.empty((n, 1))
        lanes = Lanes(leaves, self.axes, n)
        for path, own in find_paths(self.tree, lanes, None) if n else []:
            tape = margin_tape(path.tape)
            plan = Plan(self.axes, tape, (), self._like, None, True)
            part = leaves if own is None else lanes.chosen(own, plan.widths)
            values, _ = plan.sweep(part, n if own is None else len(own))
            put(values[0].astype(np.float64), own, found)
        return found[:, 0]

    # A sum.

    def _reduced(self, lanes: Lanes) -> tuple[Structure, Results]:
        """The sums of the samples' results, in the order of the samples, by the fixed tree."""
        total: list[Any] = []
        structure = None
        size = max(1, sum(leaf.size for leaf in self._sizes()))
        chunk = max(_GROUP, 1 << (_CHUNK_BYTES // (8 * size)).bit_length() - 1)
        n_values = 0
        for first in range(0, lanes.n, chunk):
            part = lanes.part(first, min(first + chunk, lanes.n)) if lanes.n > chunk else lanes
            with renumbered(range(first, lanes.n)):
                structure, (values, gradients) = self._samples(part)
            n_values = len(values)
            total.append([_groups_sum(array) for array in [*values, *gradients]])
        assert structure is not None
        sums = [_tree_sum(np.array(parts)) for parts in zip(*total, strict=True)]
        results = [_lanes_sum(own, lanes.n, self.reduce) for own in sums]
        return structure, (results[:n_values], results[n_values:])

    def _sizes(self) -> list[Any]:
        path = self.tree.last
        own = [leaf for part in self.parts for leaf in part.structure.leaves]
        return [*path.tape.output_structure.leaves, *own]


def _rows(results: Results, first: int, last: int) -> Results:
    values, gradients = ([array[first:last] for array in arrays] for arrays in results)
    return values, gradients


def _groups_sum(array: Floats) -> Floats:
    """Samples' numbers, shape (n, size), summed over groups of lanes: shape (8, size)."""
    n = -(-len(array) // _GROUP) * _GROUP
    rows = np.full((n, array.shape[1]), -0.0)
    rows[: len(array)] = array
    return _tree_sum(rows.reshape(-1, _GROUP, array.shape[1]))


def _tree_sum(sums: Any) -> Floats:
    """The balanced tree over the first axis."""
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
