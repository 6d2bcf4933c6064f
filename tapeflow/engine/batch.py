"""Runs a tape on a batch: blocks of lanes, shared by threads, with sums in a fixed tree."""

from collections.abc import Sequence

import numpy as np

from tapeflow import settings
from tapeflow.engine.addresses import GROUP
from tapeflow.engine.batch_run import NO_ROWS, Ready, Run, Source, Tables
from tapeflow.engine.columns import Columns, Recycler, staging_rows, table_of
from tapeflow.engine.groups import Flags
from tapeflow.engine.program import Program
from tapeflow.engine.tier import TierUp
from tapeflow.memory import address_of
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape

_CACHE = 512 * 1024
"""Bytes of rows that a block may fill. Rows are swept in order, so they may outgrow the cache."""

_NARROWEST, _WIDEST = 64, 128
"""Lanes of a block: below, dispatching kernels takes as long as running them; above is no gain."""


_SAVED = 0.15e-9
"""Seconds that an instruction takes longer in a lane, in one sweep, when it has its own kernel."""


class BatchProgram:
    """A tape ready for batches in which the same inputs are per lane and the same are wanted.

    leaves: the size of each leaf of the inputs whose gradient is wanted; empty for no reverse
    sweep. reduced: whether results are summed over the lanes or given for each. with_value: whether
    values are wanted, or gradients alone. columns: the inputs whose gradients are float64 in a
    column of their own.
    """

    narrowest, widest = _NARROWEST, _WIDEST
    n_signed: int | None = None
    """How many leaves of the result are values, and not gradients; None for all."""

    def __init__(
        self,
        tape: Tape,
        lane: Flags,
        wanted: Flags,
        leaves: Sequence[int],
        reduced: bool,
        with_value: bool = True,
        columns: Flags | None = None,
    ) -> None:
        self.tape, self.leaves, self.reduced = tape, leaves, reduced
        self.with_value, self._columns = with_value, columns
        # Taking one with pop() is a single step, so no two evaluations have the same.
        self.recyclers: list[Recycler] = []
        self._use = lane, wanted, bool(leaves)
        self._most_rows: int | None = None
        program = Program(tape, *self._use)
        self.wanted = np.flatnonzero(wanted) if leaves else np.empty(0, np.int64)
        self.lane_inputs = np.flatnonzero(lane)
        lanes, outputs = program.lane, tape.outputs
        self.lane_outputs = np.flatnonzero(lanes[outputs])
        self.shared_outputs = np.flatnonzero(~lanes[outputs])
        self.lane_wanted = np.flatnonzero(lanes[self.wanted])
        self.shared_wanted = np.flatnonzero(~lanes[self.wanted])
        self.output_slots = outputs[self.lane_outputs].astype(np.int64)
        self.gradient_slots = self.wanted[self.lane_wanted]
        # What is summed over the lanes, each once: a slot's cotangent has an odd number, its value
        # an even one. Every program sums in this order.
        keys = [2 * program.boundary + 1]
        if reduced:
            keys += [
                2 * self.output_slots[: None if with_value else 0],
                2 * self.gradient_slots + 1,
            ]
        self._summed, place = np.unique(np.concatenate(keys), return_inverse=True)
        ends = np.cumsum([len(part) for part in keys])
        self.boundary_sums, *results = np.split(place, ends[:-1])
        self.output_sums, self.gradient_sums = results or (place[:0], place[:0])

        self.work = len(program.lane_forward) + len(program.lane_reverse)
        room = 0 if reduced or not with_value else staging_rows(tape.output_structure)
        self.ready = Ready(program, len(self._summed), room)
        self.tier_up = TierUp(self._fused, self._adopt)

    def _fused(self) -> Program:
        return Program(self.tape, *self._use, True, self._columns, self._most_rows)

    def _adopt(self, program: Program) -> None:
        self.ready = Ready(program, self.ready.n_sums, self.ready.staging)

    def tables(self, program: Program, values: Columns, gradients: Columns) -> "Tables":
        """Which rows a program's sweep of a block starts from, and what becomes of others."""
        slots, odd = self._summed // 2, self._summed % 2
        summed = np.where(odd == 1, program.cotangent_rows[slots], program.value_rows[slots])
        direct = program.direct[self.gradient_slots]
        own = self.with_value and not self.reduced
        outputs = self.tape.outputs.astype(np.int64)
        places = np.where(program.lane[outputs], program.value_rows[outputs], ~outputs)
        alone = self.lane_outputs[~values.staged[self.lane_outputs]] if own else self.lane_outputs
        rows = program.cotangent_rows[self.gradient_slots]
        return Tables(
            inputs=program.value_rows[self.lane_inputs],
            seeds=_seeds(program),
            sums=table_of(summed, odd, 0),
            staged=values.staged_table(places) if own else NO_ROWS[0],
            outputs=values.tables(places[alone], alone) if own else NO_ROWS,
            gradients=gradients.tables(rows[~direct], self.lane_wanted[~direct])
            if not self.reduced
            else NO_ROWS,
            direct=gradients.tables(rows[direct], self.lane_wanted[direct])[0],
        )

    def run(
        self, source: Source, n_lanes: int, reduce: str | None
    ) -> tuple[list[Floats], list[Floats]]:
        """Sweep the batch: values by leaf of the output, and gradients by wanted leaf.

        Each is of shape (n_lanes, size of the leaf); with ``reduce`` "sum" or "mean", (1, size).
        There are no values where they are not wanted.
        """
        self._begin(n_lanes)
        run = self._new_run(source, n_lanes, reduce)
        run.run()
        self.recyclers.append(run.recycler)
        return run.values.arrays, run.gradients.arrays

    def _begin(self, n_lanes: int) -> None:
        """Have a program ready, the faster one if it is worth while."""
        current = settings.current()
        if current.max_memory is not None or self.ready.program.segmented:
            self._fit(current)
        if not current.debugging:
            self.tier_up.saves(_SAVED * self.work * n_lanes / current.threads)
        self.ready.program.load()

    def _fit(self, current: settings.Settings) -> None:
        """Take a program into use that has no more rows than there is memory for."""
        most = None
        if current.max_memory is not None:
            most = current.max_memory // (8 * current.threads * _NARROWEST)
        fits = not self.ready.program.segmented and (most is None or self.ready.rows <= most)
        if fits or most == self._most_rows:
            return
        self._most_rows = most
        self._adopt(Program(self.tape, *self._use, most_rows=most))
        self.tier_up = TierUp(self._fused, self._adopt)

    def _new_run(self, source: Source, n_lanes: int, reduce: str | None) -> Run:
        return Run(self, source, n_lanes, reduce)

    @property
    def rows(self) -> int:
        """Rows of a block that are at work at once."""
        return self.ready.rows

    def width(self, n_lanes: int) -> int:
        """The block width in force: the configured one, or one that keeps a block in cache."""
        current = settings.current()
        if current.block is not None:
            return current.block
        rows = max(self.rows, 1)
        lanes = min(self.widest, max(self.narrowest, _CACHE // (8 * rows)))
        if current.max_memory is not None:
            lanes = min(lanes, current.max_memory // (8 * rows * current.threads))
            if lanes < GROUP:
                raise MemoryError(
                    f"{self.tape.name} needs {8 * rows * GROUP * current.threads} bytes, more than "
                    f"max_memory={current.max_memory}: raise it, or set fewer threads"
                )
        return 1 << lanes.bit_length() - 1


def _seeds(program: Program) -> Ints:
    """Rows of cotangents and what they start with: a seed for each output, or nothing."""
    rows = np.concatenate([program.seeds[:, 0], program.zero_rows])
    return table_of(rows, np.append(program.seeds[:, 1], 0 * program.zero_rows), 0)


def evaluate_elementwise(tape: Tape, arrays: Sequence[Floats]) -> Floats:
    """A tape of single numbers on arrays of one shape, element by element."""
    shape = arrays[0].shape
    flat = [np.ascontiguousarray(array).ravel() for array in arrays]
    lane = np.ones(len(flat), np.bool_)
    key = "elementwise"
    if key not in tape.prepared:
        tape.prepared[key] = BatchProgram(tape, lane, ~lane, (), False)
    source = Source(
        np.array([address_of(array) for array in flat], np.int64),
        np.full(len(flat), 8, np.int64),
        np.full(len(flat), 8, np.int64),
        np.zeros(len(flat)),
        tuple(flat),
        [np.dtype(np.float64)],
        [],
    )
    values, _ = tape.prepared[key].run(source, flat[0].size, None)
    result: Floats = values[0].reshape(shape)
    return result
