"""Runs a tape with arrays on a batch: its pullback, forward, with gradients among its values."""

from collections.abc import Sequence

import numpy as np

from tapeflow.array_program import ArrayProgram
from tapeflow.batch import BatchProgram, _Run
from tapeflow.columns import table_of
from tapeflow.program import Flags, aligned
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape
from tapeflow.transforms import pullback

_NARROWEST = 8
"""Lanes of a block: an instruction on an array has work for each dispatch with few of them."""


class ArrayBatch(BatchProgram):
    """As BatchProgram, for a tape with arrays. leaf_wanted: the inputs to differentiate in."""

    narrowest = _NARROWEST

    def __init__(self, tape: Tape, lane: Flags, leaf_wanted: Sequence[bool], reduced: bool) -> None:
        sizes = [
            leaf.size
            for leaf, own in zip(tape.input_structure.leaves, leaf_wanted, strict=True)
            if own
        ]
        self.tape, self.leaves, self.reduced = tape, sizes, reduced
        run = pullback(tape, leaf_wanted) if any(leaf_wanted) else tape
        # The seeds are shared, and one each.
        lanes = np.concatenate([lane, np.zeros(run.n_inputs - tape.n_inputs, np.bool_)])
        self.arrays = ArrayProgram(run, lanes)
        self.program = self.arrays  # type: ignore[assignment]
        self.lane_inputs = np.flatnonzero(lane)
        n_outputs = len(tape.outputs)
        self.output_slots, self.gradient_slots = np.split(run.outputs, [n_outputs])
        varies = self.arrays.lane
        self.lane_outputs = np.flatnonzero(varies[self.output_slots])
        self.shared_outputs = np.flatnonzero(~varies[self.output_slots])
        self.lane_wanted = np.flatnonzero(varies[self.gradient_slots])
        self.shared_wanted = np.flatnonzero(~varies[self.gradient_slots])
        self.output_rows = self.arrays.value_rows[self.output_slots[self.lane_outputs]]
        self.gradient_rows = self.arrays.value_rows[self.gradient_slots[self.lane_wanted]]
        self.seeds = table_of(np.empty(0, np.int64), 0, 0)
        keys = [self.output_rows, self.gradient_rows] if reduced else [self.output_rows[:0]] * 2
        rows, place = np.unique(np.concatenate(keys), return_inverse=True)
        self.sums = table_of(rows, 0, 0)
        self.output_sums, self.gradient_sums = np.split(place, [len(keys[0])])
        self._free = {}

    def _new_run(self, *args: object) -> "_Run":
        return _ArrayRun(self, *args)  # type: ignore[arg-type]


class _ArrayRun(_Run):
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

    def _tables(self) -> dict[str, Ints]:
        batch = self.batch
        tables = super()._tables()
        if not self.reduce:
            gradients = self.gradients.table(batch.gradient_rows, batch.lane_wanted)
            outputs = self.values.table(batch.output_rows, batch.lane_outputs)
            tables["outputs"] = np.concatenate([outputs, gradients])
            tables["gradients"] = gradients[:0]
        return tables

    def _shared_results(self) -> None:
        """Fill in what is the same for all lanes, and what is summed over them."""
        batch = self.batch
        totals = self._totals()
        scale = float(self.n_lanes) if self.reduce == "sum" else 1.0
        for columns, slots, chosen in (
            (self.values, batch.output_slots, batch.shared_outputs),
            (self.gradients, batch.gradient_slots, batch.shared_wanted),
        ):
            places = batch.arrays.places[slots[chosen]]
            columns.fill(chosen, scale * self.shared[places] + 0.0)
        if self.reduce:
            self.values.fill(batch.lane_outputs, totals[batch.output_sums])
            self.gradients.fill(batch.lane_wanted, totals[batch.gradient_sums])
