"""Runs a tape on a batch: blocks of lanes, shared by threads, with sums in a fixed tree."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow import blocks, debug, settings
from tapeflow.addresses import GROUP
from tapeflow.columns import Columns, table_of
from tapeflow.interpreter import execute
from tapeflow.kernels.callbacks import raise_pending
from tapeflow.program import Code, Flags, Program, aligned
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape
from tapeflow.threads import pool

_CACHE = 2 * 1024 * 1024
"""Bytes of rows that a block may fill. Rows are swept in order, so they may outgrow the cache."""

_NARROWEST, _WIDEST = 32, 256
"""Lanes of a block: below, dispatching kernels takes as long as running them; above is no gain."""

_SMALL = 200_000
"""Instructions times lanes below which handing work to another thread costs more than it saves."""


_LONG = 50_000_000
"""Instructions times lanes of one task: some milliseconds, between which Ctrl-C is heard."""


Workspace = tuple[Floats, Floats, Floats]
"""Rows of values and of cotangents, and the stack of sums, of one thread."""


@dataclass(frozen=True)
class Source:
    """Where a batch's inputs come from: address of sample 0 and stride in bytes, by input slot.

    An input that all samples share has stride 0. ``keep`` holds the arrays, to keep them alive.
    """

    addresses: Ints
    strides: Ints
    shared_values: Floats
    keep: tuple[Any, ...]


class BatchProgram:
    """A tape ready for batches in which the same inputs are per lane and the same are wanted.

    leaves: the size of each leaf of the inputs whose gradient is wanted; empty for no reverse
    sweep. reduced: whether results are summed over the lanes or given for each.
    """

    narrowest = _NARROWEST

    def __init__(
        self, tape: Tape, lane: Flags, wanted: Flags, leaves: Sequence[int], reduced: bool
    ) -> None:
        self.tape, self.leaves, self.reduced = tape, leaves, reduced
        reverse = bool(leaves)
        self.program = program = Program(tape, lane, wanted, reverse)
        self.wanted = np.flatnonzero(wanted) if reverse else np.empty(0, np.int64)
        self.lane_inputs = np.flatnonzero(lane)
        outputs = tape.outputs
        self.lane_outputs = np.flatnonzero(program.lane[outputs])
        self.shared_outputs = np.flatnonzero(~program.lane[outputs])
        self.lane_wanted = np.flatnonzero(program.lane[self.wanted])
        self.shared_wanted = np.flatnonzero(~program.lane[self.wanted])
        self.output_rows = program.value_rows[outputs[self.lane_outputs]]
        self.gradient_rows = program.cotangent_rows[self.wanted[self.lane_wanted]]
        seeded = outputs[self.lane_outputs]
        seeded = seeded[program.active[seeded]]
        self.seeds = table_of(program.cotangent_rows[seeded], 0, 0)
        self._number_sums()
        self._free: dict[int, list[Workspace]] = {}

    def _number_sums(self) -> None:
        """Which rows are summed over the lanes, each once, and where each result is in them."""
        program = self.program
        # A row of cotangents has an odd number, one of values an even one.
        keys = [2 * program.cotangent_rows[program.boundary] + 1]
        if self.reduced:
            keys += [2 * self.output_rows, 2 * self.gradient_rows + 1]
        rows, place = np.unique(np.concatenate(keys), return_inverse=True)
        self.sums = table_of(rows // 2, rows % 2, 0)
        ends = np.cumsum([len(part) for part in keys])
        self.boundary_sums, *results = np.split(place, ends[:-1])
        self.output_sums, self.gradient_sums = results or (place[:0], place[:0])

    def run(
        self, source: Source, n_lanes: int, reduce: str | None
    ) -> tuple[list[Floats], list[Floats]]:
        """Sweep the batch: values by leaf of the output, and gradients by wanted leaf.

        Each is of shape (n_lanes, size of the leaf); with ``reduce`` "sum" or "mean", (1, size).
        """
        run = self._new_run(source, n_lanes, reduce)
        run.run()
        return run.values.arrays, run.gradients.arrays

    def _new_run(self, source: Source, n_lanes: int, reduce: str | None) -> "_Run":
        return _Run(self, source, n_lanes, reduce)

    def workspace(self, width: int) -> Workspace:
        """Memory for one thread that nothing else uses; give it back with `release`."""
        try:
            return self._free.setdefault(width, []).pop()
        except IndexError:
            return (
                aligned(self.program.n_value_rows * width),
                aligned(self.program.n_cotangent_rows * width),
                aligned((blocks.LEVELS, len(self.sums) * GROUP)),
            )

    def release(self, width: int, workspace: Workspace) -> None:
        self._free[width].append(workspace)

    def width(self, n_lanes: int) -> int:
        """The block width in force: the configured one, or one that keeps a block in cache."""
        configured = settings.current().block
        if configured is not None:
            return configured
        rows = self.program.n_value_rows + self.program.n_cotangent_rows
        lanes = min(_WIDEST, max(self.narrowest, _CACHE // (8 * max(rows, 1))))
        return 1 << lanes.bit_length() - 1


def evaluate_elementwise(tape: Tape, arrays: Sequence[Floats]) -> Floats:
    """A tape of single numbers on arrays of one shape, element by element."""
    shape = arrays[0].shape
    flat = [np.ascontiguousarray(array).ravel() for array in arrays]
    lane = np.ones(len(flat), np.bool_)
    key = "elementwise"
    if key not in tape.prepared:
        tape.prepared[key] = BatchProgram(tape, lane, ~lane, (), False)
    source = Source(
        np.array([array.ctypes.data for array in flat], np.int64),
        np.full(len(flat), 8, np.int64),
        np.zeros(len(flat)),
        tuple(flat),
    )
    values, _ = tape.prepared[key].run(source, flat[0].size, None)
    result: Floats = values[0].reshape(shape)
    return result


class _Run:
    """One evaluation of a batch: its memory, its tables and its threads."""

    def __init__(
        self, batch: BatchProgram, source: Source, n_lanes: int, reduce: str | None
    ) -> None:
        self.batch, self.source, self.n_lanes, self.reduce = batch, source, n_lanes, reduce
        self.program = batch.program
        tape = batch.tape
        self.width = batch.width(n_lanes)
        rows = 1 if reduce else n_lanes
        self.values = Columns(rows, [leaf.size for leaf in tape.output_structure.leaves])
        self.gradients = Columns(rows, batch.leaves)
        self.shared = self._new_shared()
        self.stop = np.zeros(1, np.int64)
        self.n_sums = len(batch.sums)
        self.sums: Floats = aligned((0, self.n_sums * GROUP))
        self.tables = self._tables()
        self.job = self._job()

    def _new_shared(self) -> Floats:
        """The single numbers: shared inputs and constants, with room for results."""
        tape = self.batch.tape
        shared = aligned(tape.n_slots)
        shared[: tape.n_inputs] = self.source.shared_values
        shared[tape.n_inputs : int(tape.slots[0])] = tape.constants
        return shared

    def run(self) -> None:
        """Fill in values and gradients."""
        self._execute_shared(self.program.shared_forward)
        if self.n_lanes:
            self._sweep()
        self._raise_errors_of_gates()
        self._shared_results()
        self._raise_errors_of_gates()

    def _execute_shared(self, code: Code, cotangents: Floats | None = None) -> None:
        """Run forward or, with cotangents, reverse code of the shared part."""
        if settings.current().debug_nans:
            debug.check_shared(self.program, code, self.shared, cotangents)
            return
        address = 0 if cotangents is None else cotangents.ctypes.data
        execute(code.address, len(code), self.shared.ctypes.data, address, 0, 1)

    def _raise_errors_of_gates(self) -> None:
        if self.program.has_python_gates:
            raise_pending(self.shared.ctypes.data)

    # Tables for the compiled sweep.

    def _tables(self) -> dict[str, Ints]:
        batch, source = self.batch, self.source
        inputs = batch.lane_inputs
        tables = {
            "inputs": table_of(
                self.program.value_rows[inputs], source.addresses[inputs], source.strides[inputs]
            ),
            "seeds": batch.seeds,
            "sums": batch.sums,
            "outputs": _EMPTY,
            "gradients": _EMPTY,
        }
        if not self.reduce:
            tables["outputs"] = self.values.table(batch.output_rows, batch.lane_outputs)
            tables["gradients"] = self.gradients.table(batch.gradient_rows, batch.lane_wanted)
        return tables

    def _job(self) -> Ints:
        program, tables = self.program, self.tables
        job = np.zeros(blocks.BATCH_SIZE, np.int64)
        job[blocks.BATCH_LANES], job[blocks.BATCH_WIDTH] = self.n_lanes, self.width
        job[blocks.BATCH_STOP] = self.stop.ctypes.data
        job[blocks.BATCH_FORWARD] = program.lane_forward.address
        job[blocks.BATCH_N_FORWARD] = len(program.lane_forward)
        job[blocks.BATCH_REVERSE] = program.lane_reverse.address
        job[blocks.BATCH_N_REVERSE] = len(program.lane_reverse)
        job[blocks.BATCH_SHARED] = self.shared.ctypes.data
        job[blocks.BATCH_N_COTANGENTS] = program.n_cotangent_rows
        for place, name in (
            (blocks.BATCH_INPUTS, "inputs"),
            (blocks.BATCH_OUTPUTS, "outputs"),
            (blocks.BATCH_SEEDS, "seeds"),
            (blocks.BATCH_GRADIENTS, "gradients"),
            (blocks.BATCH_REDUCED, "sums"),
        ):
            job[place], job[place + 1] = tables[name].ctypes.data, len(tables[name])
        return job

    # The sweep itself.

    def _sweep(self) -> None:
        n_blocks = -(-self.n_lanes // self.width)
        current = settings.current()
        work = self.n_lanes * (len(self.program.lane_forward) + len(self.program.lane_reverse))
        threads = 1 if work < _SMALL or current.debug_nans else current.threads
        # A task is a power of two of blocks, so that its sums are a subtree of the whole tree.
        share = min(n_blocks, _LONG * n_blocks // max(work, 1))
        if threads > 1:
            share = min(share, n_blocks // (8 * threads))
        size = 1 << max(0, share.bit_length() - 1)
        n_tasks = -(-n_blocks // size)
        threads = min(threads, n_tasks)
        self.sums = aligned((n_tasks, self.n_sums * GROUP))
        tasks = iter(range(n_tasks))
        run = self._check_tasks if current.debug_nans else self._run_tasks
        if threads == 1:
            run(tasks, size, n_blocks)
            return
        helpers = [
            pool(threads).submit(self._run_tasks, tasks, size, n_blocks) for _ in range(threads - 1)
        ]
        self._join(helpers, tasks, size, n_blocks)

    def _join(
        self, helpers: list[Future[None]], tasks: Iterator[int], size: int, n_blocks: int
    ) -> None:
        """Work beside the helpers until all is done; whatever happens, none runs on after it."""
        try:
            # This thread works too, so a batch inside a batch never waits for a full pool.
            self._run_tasks(tasks, size, n_blocks)
        except BaseException:
            self.stop[0] = 1
            raise
        finally:
            for helper in helpers:
                if not helper.cancel():
                    helper.exception()
        for helper in helpers:
            if not helper.cancelled():
                helper.result()

    def _run_tasks(self, tasks: Iterator[int], size: int, n_blocks: int) -> None:
        workspace = self.batch.workspace(self.width)
        values, cotangents, stack = workspace
        for task in tasks:
            blocks.run_blocks(
                self.job,
                values.ctypes.data,
                cotangents.ctypes.data,
                stack.ctypes.data,
                task * size,
                min((task + 1) * size, n_blocks),
                self.sums[task].ctypes.data,
            )
        self.batch.release(self.width, workspace)

    def _check_tasks(self, tasks: Iterator[int], size: int, n_blocks: int) -> None:
        """As `_run_tasks`, after looking for the first NaN of each block."""
        values, cotangents, _ = self.batch.workspace(self.width)
        for block in range(n_blocks):
            debug.check_block(self.program, self.job, values, cotangents, block, self.shared)
        self._run_tasks(tasks, size, n_blocks)

    # What is left when the lanes are done.

    def _shared_results(self) -> None:
        """Fill in what is the same for all lanes, and sweep the shared part in reverse."""
        program, batch, tape = self.program, self.batch, self.batch.tape
        totals = self._totals()
        scale = float(self.n_lanes) if self.reduce == "sum" else 1.0
        shared_slots = tape.outputs[batch.shared_outputs]
        self.values.fill(batch.shared_outputs, scale * self.shared[shared_slots])
        if self.reduce:
            self.values.fill(batch.lane_outputs, totals[batch.output_sums])
            self.gradients.fill(batch.lane_wanted, totals[batch.gradient_sums])
        if not batch.shared_wanted.size:
            return
        cotangents = aligned(tape.n_slots)
        cotangents.fill(-0.0)
        np.add.at(cotangents, shared_slots, scale)
        cotangents[program.boundary] += totals[batch.boundary_sums]
        self._execute_shared(program.shared_reverse, cotangents)
        gradients = cotangents[batch.wanted[batch.shared_wanted]] + 0.0
        self.gradients.fill(batch.shared_wanted, gradients)

    def _totals(self) -> Floats:
        """The sum, or mean, of each reduced row over the whole batch."""
        if not self.n_lanes:
            return np.full(self.n_sums, 0.0 if self.reduce == "sum" else np.nan)
        sums = self.sums
        while len(sums) > 1:
            pairs = sums[: len(sums) // 2 * 2]
            odd = sums[len(pairs) :]
            sums = np.concatenate([pairs[0::2] + pairs[1::2], odd])
        groups = sums.reshape(self.n_sums, GROUP)
        for half in (4, 2, 1):
            groups = groups[:, :half] + groups[:, half:]
        totals: Floats = groups[:, 0] + 0.0
        return totals / self.n_lanes if self.reduce == "mean" else totals


_EMPTY = np.empty((0, 3), np.int64)
