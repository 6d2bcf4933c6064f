"""Runs a tape with arrays on a batch: its pullback, forward, with gradients among its values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow import settings
from tapeflow.engine import blocks
from tapeflow.engine.array_program import ArrayProgram
from tapeflow.engine.batch import BatchProgram
from tapeflow.engine.batch_run import NO_ROWS, Ready, Run, Tables
from tapeflow.engine.columns import Columns, staging_rows, table_of
from tapeflow.engine.groups import Flags
from tapeflow.engine.loop_kernels import keep_within
from tapeflow.memory import aligned
from tapeflow.ops import BY_NAME
from tapeflow.passes import executable
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape
from tapeflow.transforms import pullback

_NARROWEST = 8
"""Lanes of a block: an instruction on an array has work for each dispatch with few of them."""

_LARGE_MATRIX, _NARROWEST_BY_MATRIX = 1 << 16, 16
"""A shared matrix of so many numbers is read anew for each block: that pays with more lanes."""

_WIDEST_LOOPS = 512
"""The same at the most, where there are loops: each step of one takes some dispatches."""

_FEWEST = 32
"""Lanes of a block below which it is not made narrower for another thread."""

_WHOLE = 1 << 62
"""Added to the key of a row that is summed as it is."""


def _outer_products(program: ArrayProgram, n_outputs: int) -> list[int]:
    """Instructions that multiply a column by a row in each lane, for gradients that are summed.

    Such is the gradient of a layer's weights: as large as they are in every lane, but its sum over
    the lanes takes only the column and the row.
    """
    tape = program.tape
    values = set(tape.outputs[:n_outputs].tolist())
    found = []
    for i in range(len(tape)):
        if tape.op(i).name != "azmatmul" or program.readers[i] or not program.outputs[i]:
            continue
        if not values.isdisjoint(range(*tape.slots[i : i + 2].tolist())):
            continue
        batch, _, k, *_ = tape.parameters_of(i).tolist()
        if batch == 1 and k == 1 and program.lane[tape.operands_of(i)].all():
            found.append(i)
    return found


def _large_matrices(program: ArrayProgram) -> bool:
    """Whether lanes are multiplied by a large matrix that they share."""
    tape = program.tape
    kinds = [BY_NAME[name].opcode for name in ("matmul", "azmatmul")]
    products = np.flatnonzero(np.isin(tape.opcodes, kinds) & program.lane[tape.slots[:-1]])
    for i in products.tolist():
        shared = ~program.lane[tape.operands_of(i)]
        if (np.array(tape.runs_of(i)[0])[shared] >= _LARGE_MATRIX).any():
            return True
    return False


class ArrayBatch(BatchProgram):
    """As BatchProgram, for a tape with arrays. leaf_wanted: the inputs to differentiate in."""

    def __init__(
        self,
        tape: Tape,
        lane: Flags,
        leaf_wanted: Sequence[bool],
        reduced: bool,
        with_value: bool = True,
    ) -> None:
        sizes = [
            leaf.size
            for leaf, own in zip(tape.input_structure.leaves, leaf_wanted, strict=True)
            if own
        ]
        self.tape, self.leaves, self.reduced = tape, sizes, reduced
        self.with_value = with_value
        self.recyclers = []
        run = executable(pullback(tape, leaf_wanted) if any(leaf_wanted) else tape)
        # The seeds are shared, and one each.
        lanes = np.concatenate([lane, np.zeros(run.n_inputs - tape.n_inputs, np.bool_)])
        self.arrays = ArrayProgram(run, lanes)
        outer = _outer_products(self.arrays, len(tape.outputs)) if reduced else []
        if outer:
            self.arrays = ArrayProgram(run, lanes, left_out=outer)
        self.narrowest = _NARROWEST_BY_MATRIX if _large_matrices(self.arrays) else _NARROWEST
        self.lane_inputs = np.flatnonzero(lane)
        n_outputs = len(tape.outputs)
        outputs, gradients = np.split(run.outputs.astype(np.int64), [n_outputs])
        self.output_slots, self.gradient_slots = outputs, gradients
        varies = self.arrays.lane
        self.lane_outputs = np.flatnonzero(varies[self.output_slots])
        self.shared_outputs = np.flatnonzero(~varies[self.output_slots])
        self.lane_wanted = np.flatnonzero(varies[self.gradient_slots])
        self.shared_wanted = np.flatnonzero(~varies[self.gradient_slots])
        self.output_rows = self.arrays.value_rows[self.output_slots[self.lane_outputs]]
        self.gradient_rows = self.arrays.value_rows[self.gradient_slots[self.lane_wanted]]
        own = self.output_rows
        keys = [_WHOLE + (own << 31), self._gradient_keys(outer)] if reduced else [own[:0]] * 2
        found, place = np.unique(np.concatenate(keys), return_inverse=True)
        kinds = np.where(found < _WHOLE, blocks.PRODUCT + self.arrays.n_value_rows - 1, 0)
        self._sums = table_of((found % _WHOLE) >> 31, kinds, found & (1 << 31) - 1)
        self.output_sums, self.gradient_sums = np.split(place, [len(keys[0])])
        self.work = self.arrays.work
        if self.arrays.controls:
            self.widest = _WIDEST_LOOPS
        room = 0 if reduced or not with_value else staging_rows(tape.output_structure)
        self.ready = Ready(self.arrays, len(self._sums), room)

    def tables(self, program: Any, values: Columns, gradients: Columns) -> Tables:
        inputs, stored = program.value_rows[self.lane_inputs], NO_ROWS
        staged = NO_ROWS[0]
        if not self.reduced:
            # Gradients are values too.
            stored = gradients.tables(self.gradient_rows, self.lane_wanted)
            if self.with_value:
                slots = self.output_slots
                rows = program.value_rows[slots]
                places = np.where(program.lane[slots], rows, ~program.places[slots])
                staged = values.staged_table(places)
                alone = self.lane_outputs[~values.staged[self.lane_outputs]]
                own = values.tables(places[alone], alone)
                stored = tuple(map(np.concatenate, zip(own, stored, strict=True)))  # type: ignore[assignment]
        return Tables(inputs, NO_ROWS[0], self._sums, staged, stored, NO_ROWS, NO_ROWS[0])

    def _gradient_keys(self, outer: Sequence[int]) -> Ints:
        """What is summed for each number of the gradients: a row, or a product of two.

        Products come first, as summing a row takes it apart.
        """
        keys = _WHOLE + (self.gradient_rows << 31)
        slots = self.gradient_slots[self.lane_wanted]
        tape, rows = self.arrays.tape, self.arrays.value_rows
        for i in outer:
            own = np.flatnonzero((slots >= tape.slots[i]) & (slots < tape.slots[i + 1]))
            a, b = tape.operands_of(i).tolist()
            m, n = tape.parameters_of(i)[[1, 3]]
            left, right = np.divmod(slots[own] - tape.slots[i], n)
            assert left.max() < m
            keys[own] = (rows[a + left] << 31) + rows[b + right]
        return keys

    @property
    def rows(self) -> int:
        inner: int = sum(control.rows for control in self.arrays.controls)
        return self.ready.rows + inner

    def width(self, n_lanes: int) -> int:
        """As for numbers, but no wider than gives each thread a block: lanes have much to do."""
        widest = super().width(n_lanes)
        if settings.current().block is not None:
            return widest
        share = max(n_lanes // settings.current().threads, _FEWEST)
        return min(widest, 1 << share.bit_length() - 1)

    def _begin(self, n_lanes: int) -> None:
        """Its kernels are fused, and loaded, as they are."""
        if self.arrays.controls:
            keep_within(settings.current().max_memory, settings.current().threads)

    def _new_run(self, *args: object) -> Run:
        return _ArrayRun(self, *args)  # type: ignore[arg-type]


class _ArrayRun(Run):
    batch: ArrayBatch

    def _new_shared(self) -> Floats:
        batch, source = self.batch, self.source
        run = batch.arrays.tape
        shared = aligned(batch.arrays.n_places)
        n_inputs = batch.tape.n_inputs
        shared[:n_inputs] = source.shared_values
        shared[n_inputs : run.n_inputs] = 1.0
        shared[run.n_inputs : int(run.slots[0])] = run.constants
        return shared

    def _shared_results(self) -> None:
        """Fill in what is the same for all lanes, and what is summed over them."""
        batch = self.batch
        totals = self._totals()
        scale = float(self.n_lanes) if self.reduce == "sum" else 1.0
        for columns, slots, chosen in (
            (self.values, batch.output_slots, batch.shared_outputs),
            (self.gradients, batch.gradient_slots, batch.shared_wanted),
        ):
            if columns is self.values and not batch.with_value:
                continue
            chosen = chosen[~columns.staged[chosen]] if columns is self.values else chosen
            places = batch.arrays.places[slots[chosen]]
            numbers = scale * self.shared[places]
            columns.fill(chosen, numbers + 0.0 if self.reduce else numbers)
        if self.reduce:
            if batch.with_value:
                self.values.fill(batch.lane_outputs, totals[batch.output_sums])
            self.gradients.fill(batch.lane_wanted, totals[batch.gradient_sums])
