"""Which path each sample of a batch takes: all of them walk down the tree together.

A group of samples at a node walks the next leg of the path that most have taken from there. Those
that a guard sends elsewhere are groups of their own from then on; where nobody has been before,
the path of one of them is recorded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeflow import settings
from tapeflow.branches.legs import Leg, leg_of, needed_after, owner
from tapeflow.branches.paths import Node, Path, Tree
from tapeflow.engine.outcomes import has_python
from tapeflow.engine.programs import sample_program
from tapeflow.errors import renumbered
from tapeflow.guards import TRUTH
from tapeflow.memory import address_of
from tapeflow.passes.extract import Run
from tapeflow.plans import Axis
from tapeflow.structure import Ints, Structure
from tapeflow.tape import Tape

_STAYS = 0.75
"""A leg ends where fewer than this part of the samples that set out are left."""

_FEW = 64
"""Samples that walk to the end in one leg: to gather them costs more than what they waste."""


@dataclass(frozen=True)
class Column:
    """Numbers of a run of slots: shape (samples, size), or (1, size) if all samples share them.

    rows: which rows the samples' are, int32; all, one after the other, if None.
    """

    array: Any
    shared: bool
    rows: Any = None

    def of(self, chosen: Any) -> "Column":
        if self.shared:
            return self
        assert self.rows is None
        own = self.array[chosen] if isinstance(chosen, slice) else taken(self.array, chosen)
        return Column(own, False)


@dataclass
class _Group:
    """Samples at a node: their numbers (None: all), and values of the tree's instructions."""

    node: Node
    lanes: Ints | None
    known: dict[int, Column] = field(default_factory=dict)


class Lanes:
    """The samples of one call: leaves, and the axis of each along which the samples lie."""

    def __init__(self, leaves: Sequence[Any], axes: Sequence[Axis], n: int) -> None:
        self.leaves, self.axes, self.n = leaves, axes, n
        self._rows: dict[int, Any] = {}

    @property
    def in_place(self) -> bool:
        """Whether compiled code can read some samples alone in the caller's arrays."""
        if settings.current().debugging or self.n >= 2**31:
            return False
        return all(
            axis is None or (leaf.dtype == np.float64 and leaf.flags.aligned)
            for leaf, axis in zip(self.leaves, self.axes, strict=True)
        )

    def sample(self, lane: int) -> list[Any]:
        """One sample's leaves, as the function is recorded on."""
        found = []
        for leaf, axis in zip(self.leaves, self.axes, strict=True):
            found.append(leaf if axis is None else sample_of(leaf, axis, lane))
        return found

    def chosen(self, lanes: Ints, widths: Sequence[int]) -> list[Any]:
        """The leaves of some samples alone.

        widths: how many numbers of a sample's part of each leaf are read, from the first on; beyond
        them there is nothing, whatever the leaf's shape says.
        """
        found = []
        for leaf, axis, width in zip(self.leaves, self.axes, widths, strict=True):
            if axis is None:
                found.append(leaf)
                continue
            moved = np.moveaxis(leaf, axis, 0)
            shape = (len(lanes), *moved.shape[1:])
            own = taken(moved.reshape(len(moved), -1)[:, :width], lanes)
            if width < math.prod(shape[1:]):
                inner = np.empty(shape[1:], own.dtype).strides
                own = np.lib.stride_tricks.as_strided(own, shape, (own.strides[0], *inner))
            found.append(np.moveaxis(own.reshape(shape), 0, axis))
        return found

    def part(self, first: int, last: int) -> "Lanes":
        """The samples from one to before another, in place."""
        leaves = [
            leaf if axis is None else np.moveaxis(np.moveaxis(leaf, axis, 0)[first:last], 0, axis)
            for leaf, axis in zip(self.leaves, self.axes, strict=True)
        ]
        return Lanes(leaves, self.axes, last - first)

    def column(self, structure: Structure, run: Run, lanes: Ints | None, in_place: bool) -> Column:
        """A run of the inputs' slots, of some samples; read where it is, or copied."""
        ends = [last for _, last in structure.bounds]
        k = int(np.searchsorted(ends, run[0], "right"))
        rows, axis = self._rows.get(k), self.axes[k]
        if rows is None:
            leaf = np.asarray(self.leaves[k])
            if leaf.dtype not in (np.float64, np.float32) or not leaf.flags.aligned:
                leaf = leaf.astype(np.float64)
            moved = leaf[None] if axis is None else np.moveaxis(leaf, axis, 0)
            rows = self._rows[k] = moved.reshape(len(moved), -1)
        first = run[0] - structure.bounds[k][0]
        own = rows[:, first : first + run[1]]
        if axis is None or lanes is None:
            return Column(own, axis is None)
        return Column(own, False, lanes) if in_place else Column(taken(own, lanes), False)


def taken(array: Any, lanes: Ints) -> Any:
    """Some rows of an array of shape (n, size)."""
    if array.flags.c_contiguous:
        return np.take(array, lanes, axis=0)  # three times as fast as indexing
    if array.shape[1] and array.strides[1] == array.itemsize:
        whole = array.view(f"V{array.itemsize * array.shape[1]}")[:, 0]
        return whole[lanes].view(array.dtype).reshape(len(lanes), -1)
    return array[lanes]


def put(array: Any, rows: Ints | None, target: Any) -> None:
    """Put an array's rows in the places of some rows of another, or of all."""
    if rows is None:
        target[...] = array
    elif array.shape[1] == 1:
        target[:, 0][rows] = array[:, 0]  # half the time
    elif array.dtype == target.dtype and array.flags.c_contiguous and target.flags.c_contiguous:
        kind = f"V{array.itemsize * array.shape[1]}"
        target.view(kind)[rows] = array.view(kind)
    else:
        target[rows] = array


def sample_of(leaf: Any, axis: int, lane: int) -> Any:
    """A sample's part of a leaf; of one number, that number."""
    # Not np.take, which copies an array that is not contiguous first.
    own = np.moveaxis(leaf, axis, 0)[lane]
    return own if own.shape else own.item()


def find_paths(tree: Tree, lanes: Lanes, chosen: Ints | None) -> list[tuple[Path, Ints | None]]:
    """The path of each of the chosen samples (None: all): paths, and which samples take each.

    Raises what the function itself raises where it is recorded at a sample.
    """
    found: dict[Path, list[Ints | None]] = {}
    pending = [_Group(tree.root, chosen)]
    while pending:
        group = pending.pop()
        if group.node.is_leaf:
            found.setdefault(group.node.path, []).append(group.lanes)
        else:
            pending += _walk(tree, lanes, group)
    results: list[tuple[Path, Ints | None]] = []
    for path, parts in found.items():
        several: Any = parts
        whole = parts[0] if len(parts) == 1 else np.sort(np.concatenate(several))
        results.append((path, whole))
    return results


def _walk(tree: Tree, lanes: Lanes, group: _Group) -> list[_Group]:
    """The groups that a group becomes by a leg of its favourite path."""
    node, path = group.node, group.node.favourite()
    n = lanes.n if group.lanes is None else len(group.lanes)
    leg = leg_of(path, node.depth, _end_of(path, node.depth, n), sorted(group.known))
    results = _run_leg(path, leg, lanes, group)
    handed = dict(zip(leg.handed, results, strict=False))
    asked = dict(zip(leg.asked, results[len(handed) :], strict=False))
    groups = []
    for place, own in _sorted_out(results[-1], len(leg.numbers)):
        k = int(leg.numbers[place])
        if k == leg.last:
            needed = needed_after(path, k)
            both = group.known | handed
            known = {i: both[i].of(own) for i in needed}
            groups.append(_Group(path.nodes[k], _of(group.lanes, own), known))
            continue
        before = int(path.raw.guards.after[k])
        both = group.known | {i: column for i, column in handed.items() if i < before}
        for outcome, part in _outcomes(path, k, asked, own, lanes, group):
            left = _of(group.lanes, part)
            forced = (*path.outcomes[:k], outcome)
            child = tree.follow(forced)
            if child is None:
                child = tree.add(lanes.sample(0 if left is None else int(left[0])), forced)
            known = {} if child.is_leaf else {i: column.of(part) for i, column in both.items()}
            groups.append(_Group(child, left, known))
    return groups


def _sorted_out(column: Column, n: int) -> list[tuple[int, Any]]:
    """The whole numbers below n in a column, each with the rows that have it."""
    numbers = column.array[:, 0]
    counts = np.bincount(numbers.astype(np.intp), minlength=n)
    found = np.flatnonzero(counts).tolist()
    if len(found) == 1:
        return [(found[0], slice(None))]
    if len(found) <= 8:
        return [(k, np.flatnonzero(numbers == k)) for k in found]
    order = np.argsort(numbers.astype(np.min_scalar_type(n)), kind="stable")
    rows = np.split(order, np.cumsum(counts[found])[:-1])
    return list(zip(found, rows, strict=True))


def _of(lanes: Any, part: Any) -> Any:
    if isinstance(part, slice):
        return lanes
    return part if lanes is None else lanes[part]


def _outcomes(
    path: Path, k: int, asked: dict[int, Column], own: Any, lanes: Lanes, group: _Group
) -> list[tuple[float, Any]]:
    """What guard k is for some samples of a group that it sends elsewhere, and which they are."""
    if path.raw.guards.kinds[k] == TRUTH:
        return [(1.0 - path.outcomes[k], own)]
    column = asked[k]
    if column.shared:
        return [(float(column.array[0, 0]), own)]
    numbers = column.array[:, 0][own]
    if isinstance(own, slice):
        own = np.arange(len(numbers))
    found = np.unique(numbers, equal_nan=True)
    return [(x, own[(numbers == x) | ((x != x) & (numbers != numbers))]) for x in found.tolist()]


def _end_of(path: Path, first: int, n: int) -> int:
    """The guard up to which a leg from another goes."""
    last, nodes = len(path.outcomes), path.nodes
    if settings.current().debugging or has_python(path.raw):
        return first + 1  # what comes after may not be for all
    if n <= _FEW or nodes[first].samples == 0:
        return last
    key = ("end", first)
    known = path.prepared.get(key)
    # As long as the numbers are about the same, the leg is: its program takes time to make.
    if known is None or nodes[first].samples > 4 * known[1]:
        after = first + 1
        while after < last and nodes[after].samples >= _STAYS * nodes[first].samples:
            after += 1
        known = path.prepared[key] = after, nodes[first].samples
    end: int = known[0]
    return end


def _run_leg(path: Path, leg: Leg, lanes: Lanes, group: _Group) -> list[Column]:
    """A leg's results for a group of samples."""
    raw, columns, rows = path.raw, [], group.lanes
    in_place = rows is not None and lanes.in_place
    if rows is not None and in_place:
        rows = rows.astype(np.int32)
    for run in leg.inputs:
        if run[0] < raw.n_inputs:
            columns.append(lanes.column(raw.input_structure, run, rows, in_place))
        else:
            i = owner(raw, run)
            first = run[0] - int(raw.slots[i])
            known = group.known[i]
            columns.append(Column(known.array[:, first : first + run[1]], known.shared))
    n = lanes.n if group.lanes is None else len(group.lanes)
    with renumbered(group.lanes):
        return run_columns(leg.tape, columns, n)


def run_columns(tape: Tape, columns: Sequence[Column], n: int) -> list[Column]:
    """A tape's results, leaf by leaf, for n samples."""
    structure = tape.output_structure
    if all(column.shared for column in columns):
        leaves = [
            column.array[0] if leaf.shape is not None else column.array[0, 0]
            for column, leaf in zip(columns, tape.input_structure.leaves, strict=True)
        ]
        flat = sample_program(tape, None).results(leaves)
        return [Column(flat[None, first:last], True) for first, last in structure.bounds]
    from tapeflow.engine.batch_run import Source

    batch = _program(tape, tuple(column.shared for column in columns))
    addresses, strides, sizes, shared = [], [], [], np.zeros(tape.n_inputs)
    indices = np.zeros(tape.n_inputs, np.int64)
    for column, (first, last) in zip(columns, tape.input_structure.bounds, strict=True):
        array = column.array
        if column.shared:
            shared[first:last] = array[0]
        offsets = np.arange(last - first) * array.strides[1]
        addresses.append(address_of(array) + offsets)
        strides.append(np.full(last - first, 0 if column.shared else array.strides[0]))
        sizes.append(np.full(last - first, array.itemsize))
        if column.rows is not None:
            indices[first:last] = address_of(column.rows)
    source = Source(
        np.concatenate(addresses),
        np.concatenate(strides),
        np.concatenate(sizes),
        shared,
        tuple((column.array, column.rows) for column in columns),
        [np.dtype(np.float64)] * len(structure.leaves),
        [],
        indices if indices.any() else None,
        np.full(tape.n_inputs, np.dtype(np.int32).itemsize),
    )
    values, _ = batch.run(source, n, None)
    same = np.zeros(structure.size, np.bool_)
    same[batch.shared_outputs] = True
    return [
        Column(array[:1].copy(), True) if same[first:last].all() else Column(array, False)
        for array, (first, last) in zip(values, structure.bounds, strict=True)
    ]


def _program(tape: Tape, shared: tuple[bool, ...]) -> Any:
    key = ("leg", shared)
    program = tape.prepared.get(key)
    if program is None:
        from tapeflow.engine.array_batch import ArrayBatch
        from tapeflow.engine.batch import BatchProgram

        lane = np.zeros(tape.n_inputs, np.bool_)
        for own, (first, last) in zip(shared, tape.input_structure.bounds, strict=True):
            lane[first:last] = not own
        if tape.numbers_only:
            program = BatchProgram(tape, lane, np.zeros(tape.n_inputs, np.bool_), (), False)
        else:
            program = ArrayBatch(tape, lane, [False] * len(shared), False)
        tape.prepared[key] = program
    return program
