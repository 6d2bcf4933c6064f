"""A batch's arguments, of certain shapes and axes, and the program that runs a tape on them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeflow.arguments import Part
from tapeflow.engine.programs import has_native_reverse
from tapeflow.memory import address_of
from tapeflow.passes import executable
from tapeflow.passes.seams import seams_of
from tapeflow.structure import Floats, Ints, Structure
from tapeflow.tape import Tape

if TYPE_CHECKING:
    from tapeflow.engine.batch import BatchProgram
    from tapeflow.engine.batch_run import Source

Axis = int | None

Results = tuple[list[Floats], list[Floats]]


def wanted_leaves(parts: Sequence[Part]) -> list[int]:
    """The leaves of all arguments to differentiate in, each once."""
    return sorted({k for part in parts for k in range(part.leaves.start, part.leaves.stop)})


def is_single(leaf: Any) -> bool:
    return getattr(leaf, "dtype", None) == np.float32


def widths(tape: Tape, parts: Sequence[Part]) -> list[int]:
    """How many numbers of each leaf are read in a batch, or differentiated in, from the first."""
    bounds = tape.input_structure.bounds
    if not tape.numbers_only:
        return [last - first for first, last in bounds]
    used = np.zeros(tape.n_inputs, np.bool_)
    for slots in (tape.operands, tape.outputs):
        used[slots[slots < tape.n_inputs]] = True
    for part in parts:
        used[part.slots] = True
    return [int(np.append(-1, np.flatnonzero(used[a:b])).max()) + 1 for a, b in bounds]


def batch_program(
    tape: Tape,
    axes: Sequence[Axis],
    parts: Sequence[Part],
    leaves: Sequence[Any],
    reduced: bool,
    with_value: bool,
    signed: bool = True,
) -> "BatchProgram":
    """The tape's program for batches whose samples lie along these axes of the leaves.

    signed: the results are values, whose zeros keep their sign, and not derivatives.
    """
    columns = np.zeros(tape.n_inputs, np.bool_)
    if not reduced:
        # Gradients of single numbers lie as columns; those of an array side by side.
        for leaf, (first, last) in zip(leaves, tape.input_structure.bounds, strict=True):
            if last == first + 1:
                columns[first] = not is_single(leaf)
    key = (
        "batch",
        with_value,
        signed,
        columns.tobytes(),
        tuple(axis is not None for axis in axes),
        reduced,
        *((part.slots.start, part.slots.stop) for part in parts),
    )
    program: BatchProgram | None = tape.prepared.get(key)
    if program is None:
        program = _program(tape, axes, parts, columns, reduced, with_value)
        if not signed:
            program.n_signed = 0
        tape.prepared[key] = program
    return program


def _program(
    tape: Tape,
    axes: Sequence[Axis],
    parts: Sequence[Part],
    columns: Any,
    reduced: bool,
    with_value: bool,
) -> "BatchProgram":
    # These bring Numba, which takes a while.
    from tapeflow.engine.array_batch import ArrayBatch
    from tapeflow.engine.batch import BatchProgram
    from tapeflow.engine.pulled_batch import PulledBatch, gradients_as_numbers

    lane = np.zeros(tape.n_inputs, np.bool_)
    for axis, width, (first, _) in zip(
        axes, widths(tape, parts), tape.input_structure.bounds, strict=True
    ):
        lane[first : first + width] = axis is not None
    chosen = wanted_leaves(parts)
    run = tape if parts else executable(tape)
    if not run.numbers_only or (parts and not has_native_reverse(tape)):
        wanted_of = [k in chosen for k in range(len(axes))]
        own_rules = parts and (tape.numbers_only or seams_of(tape))
        pulled = gradients_as_numbers(tape, wanted_of) if own_rules else None
        if pulled is not None:
            n_values = len(tape.output_structure.leaves)
            return PulledBatch(pulled, n_values, lane, reduced, with_value)
        return ArrayBatch(tape, lane, wanted_of, reduced, with_value)
    wanted = np.zeros(tape.n_inputs, np.bool_)
    for part in parts:
        wanted[part.slots] = True
    if not reduced:
        # A gradient for each sample in a shared argument: each lane has its own copy.
        lane |= wanted
    sizes = [tape.input_structure.leaves[k].size for k in chosen]
    return BatchProgram(run, lane, wanted, sizes, reduced, with_value, columns)


_Layout = tuple[Ints, Ints]


class Plan:
    """Calls with arguments of certain shapes: their axes, the tape and its program.

    parts: what to differentiate in. reduce: as in ``tpf.vmap``. signed: as in `batch_program`.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        tape: Tape,
        parts: Sequence[Part],
        leaves: Sequence[Any],
        reduce: str | None,
        with_value: bool,
        signed: bool = True,
    ) -> None:
        self.axes, self.tape, self.parts, self.reduce = axes, tape, parts, reduce
        self.batch = batch_program(
            tape, axes, parts, leaves, reduce is not None, with_value, signed
        )
        self.widths = widths(tape, parts)
        structure = tape.input_structure
        self._sizes = [leaf.size for leaf in structure.leaves]
        self._shared = [
            (k, slice(*structure.bounds[k])) for k, axis in enumerate(axes) if axis is None
        ]
        self._layouts: dict[Any, _Layout] = {}
        # Read and written in place; the arithmetic is float64.
        stored = [
            axis is not None and is_single(leaf) for leaf, axis in zip(leaves, axes, strict=True)
        ]
        self._dtypes = [np.dtype(np.float32 if single else np.float64) for single in stored]
        reals = [leaf for leaf in leaves if not isinstance(leaf, (float, int))]
        of_all = np.float32 if reals and all(map(is_single, reals)) else np.float64
        self.value_dtypes = [np.dtype(of_all)] * len(tape.output_structure.leaves)
        self.gradient_dtypes = [
            np.dtype(np.float32 if is_single(leaves[k]) else np.float64)
            for k in wanted_leaves(parts)
        ]

    def run(self, leaves: Sequence[Any], n_lanes: int) -> tuple[Structure, Results]:
        """The structure of the result, and `sweep`."""
        return self.tape.output_structure, self.sweep(leaves, n_lanes)

    def sweep(self, leaves: Sequence[Any], n_lanes: int, rows: Any = None) -> Results:
        """The values by leaf of the result, and the gradients by wanted leaf.

        rows: which samples, int32 (n_lanes,), of arrays of float64; all if None.
        """
        return self.batch.run(self.source(leaves, rows), n_lanes, self.reduce)

    def source(self, leaves: Sequence[Any], rows: Any = None) -> "Source":
        """Where every input's numbers are: in the caller's own arrays, if they fit."""
        from tapeflow.engine.batch_run import Source

        arrays = [
            np.ascontiguousarray(leaf, np.float64)
            if axis is None
            else np.require(leaf, dtype, ["ALIGNED"])
            for leaf, axis, dtype in zip(leaves, self.axes, self._dtypes, strict=True)
        ]
        key = tuple([array.strides for array in arrays])
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = self._layout(arrays)
        offsets, strides = layout
        bases = np.array([array.__array_interface__["data"][0] for array in arrays], np.int64)
        shared = np.zeros(self.tape.n_inputs)
        for k, slots in self._shared:
            shared[slots] = arrays[k].ravel()
        source = Source(
            offsets + np.repeat(bases, self._sizes),
            strides,
            np.repeat([array.itemsize for array in arrays], self._sizes),
            shared,
            (*arrays, rows),
            self.value_dtypes,
            self.gradient_dtypes,
        )
        if rows is None:
            return source
        by_row = np.repeat([axis is not None for axis in self.axes], self._sizes)
        return replace(
            source,
            indices=np.where(by_row, address_of(rows), 0),
            index_strides=np.full(len(by_row), rows.itemsize),
        )

    def _layout(self, arrays: Sequence[Any]) -> _Layout:
        """Each slot's offset from the start of its array, and its stride from lane to lane."""
        offsets, strides = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for array, axis in zip(arrays, self.axes, strict=True):
            lanes = array[None] if axis is None else np.moveaxis(array, axis, 0)
            own = np.zeros((), np.int64)
            for length, stride in zip(lanes.shape[1:], lanes.strides[1:], strict=True):
                own = np.add.outer(own, np.arange(length) * stride)
            offsets.append(own.ravel())
            strides.append(np.full(own.size, 0 if axis is None else lanes.strides[0]))
        return np.concatenate(offsets), np.concatenate(strides)
