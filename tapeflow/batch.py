"""Runs a tape on a batch: blocks of lanes, shared by threads, with sums in a fixed tree."""

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow import blocks
from tapeflow import debug, settings
from tapeflow.interpreter import execute, fill_zero
from tapeflow.kernels.callbacks import raise_pending
from tapeflow.program import Flags, Ints, Program, aligned
from tapeflow.structure import Floats
from tapeflow.tape import Tape

_CACHE = 192 * 1024
"""Bytes of rows that a block may fill: well inside the second-level cache of today's cores."""

_SMALL = 200_000
"""Instructions times lanes below which handing work to another thread costs more than it saves."""


@dataclass(frozen=True)
class Source:
    """Where a batch's inputs come from: address of sample 0 and stride in bytes, by input slot.

    An input that all samples share has stride 0. ``keep`` holds the arrays, to keep them alive.
    """

    addresses: Ints
    strides: Ints
    shared_values: Floats
    keep: tuple[Any, ...]


@dataclass(frozen=True)
class Outcome:
    """A batch's results: values (lanes or 1, outputs), gradients of the wanted inputs likewise."""

    values: Floats
    gradients: Floats


class BatchProgram:
    """A tape ready for batches in which the same inputs are per lane and the same are wanted."""

    def __init__(self, tape: Tape, lane: Flags, wanted: Flags, reverse: bool) -> None:
        self.tape = tape
        self.program = Program(tape, lane, wanted, reverse)
        self.wanted = np.flatnonzero(wanted) if reverse else np.empty(0, np.int64)
        self.lane_inputs = np.flatnonzero(lane)
        self.lane_outputs = np.flatnonzero(self.program.lane[tape.outputs])
        self.shared_outputs = np.flatnonzero(~self.program.lane[tape.outputs])

    def run(self, source: Source, n_lanes: int, reduce: str | None) -> Outcome:
        """Sweep the batch. With ``reduce`` "sum" or "mean" the results have one row."""
        return _Run(self, source, n_lanes, reduce).outcome()

    def width(self) -> int:
        """The block width in force: the configured one, or one that keeps a block in cache."""
        configured = settings.current().block
        if configured is not None:
            return configured
        rows = self.program.n_value_rows + self.program.n_cotangent_rows
        lanes = _CACHE // (8 * max(rows, 1))
        return min(512, max(blocks.GROUP, 1 << lanes.bit_length() - 1)) if lanes else blocks.GROUP


def evaluate_elementwise(tape: Tape, arrays: Sequence[Floats]) -> Floats:
    """A tape of single numbers on arrays of one shape, element by element."""
    shape = arrays[0].shape
    flat = [np.ascontiguousarray(array).ravel() for array in arrays]
    lane = np.ones(len(flat), np.bool_)
    key = "elementwise"
    if key not in tape.prepared:
        tape.prepared[key] = BatchProgram(tape, lane, ~lane, False)
    source = Source(
        np.array([array.ctypes.data for array in flat], np.int64),
        np.full(len(flat), 8, np.int64),
        np.zeros(len(flat)),
        tuple(flat),
    )
    return tape.prepared[key].run(source, flat[0].size, None).values.reshape(shape)  # type: ignore[no-any-return]


class _Run:
    """One evaluation of a batch: its memory, its tables and its threads."""

    def __init__(
        self, batch: BatchProgram, source: Source, n_lanes: int, reduce: str | None
    ) -> None:
        self.batch, self.source, self.n_lanes, self.reduce = batch, source, n_lanes, reduce
        self.program = program = batch.program
        tape = batch.tape
        self.width = batch.width()
        rows = 1 if reduce else n_lanes
        self.values = np.zeros((rows, len(tape.outputs)))
        self.gradients = np.zeros((rows, len(batch.wanted)))
        self.shared = aligned(tape.n_slots)
        self.shared[: tape.n_inputs] = source.shared_values
        self.shared[tape.n_inputs : int(tape.slots[0])] = tape.constants
        self.stop = np.zeros(1, np.int64)
        self.reduced = self._reduced_rows()
        self.tables = self._tables()
        self.job = self._job()
        self._sums: Floats = np.empty(0)

    def outcome(self) -> Outcome:
        program = self.program
        execute(
            program.shared_forward.address,
            len(program.shared_forward),
            self.shared.ctypes.data,
            0,
            0,
            1,
        )
        if self.n_lanes:
            self._sweep()
        if program.has_python_gates:
            raise_pending(self.shared.ctypes.data)
        self._shared_results()
        return Outcome(self.values, self.gradients)

    # Tables for the compiled sweep.

    def _reduced_rows(self) -> list[tuple[int, int]]:
        """The rows that are summed over the lanes: (place, 1 for a cotangent or 0 for a value)."""
        program, outputs = self.program, self.batch.tape.outputs
        rows = [(int(program.cotangent_rows[slot]), 1) for slot in program.boundary]
        if self.reduce:
            rows += [(int(program.value_rows[outputs[k]]), 0) for k in self.batch.lane_outputs]
            rows += [(int(program.cotangent_rows[slot]), 1) for slot in self._lane_wanted()]
        return list(dict.fromkeys(rows))

    def _lane_wanted(self) -> Ints:
        return self.batch.wanted[self.program.lane[self.batch.wanted]]

    def _tables(self) -> dict[str, Ints]:
        batch, program, source = self.batch, self.program, self.source
        inputs = batch.lane_inputs
        outputs, seeds, gradients = [], [], []
        for k in batch.lane_outputs.tolist():
            slot = batch.tape.outputs[k]
            if not self.reduce:
                place = self.values.ctypes.data + 8 * k, self.values.strides[0]
                outputs.append((program.value_rows[slot], *place))
            if program.active[slot]:
                seeds.append((program.cotangent_rows[slot], 0, 0))
        if not self.reduce:
            for k, slot in enumerate(batch.wanted.tolist()):
                place = self.gradients.ctypes.data + 8 * k, self.gradients.strides[0]
                gradients.append((program.cotangent_rows[slot], *place))
        columns = program.value_rows[inputs], source.addresses[inputs], source.strides[inputs]
        return {
            "inputs": np.stack(columns, axis=1),
            "outputs": _table(outputs),
            "seeds": _table(seeds),
            "gradients": _table(gradients),
            "reduced": _table([(*row, 0) for row in self.reduced]),
        }

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
            (blocks.BATCH_REDUCED, "reduced"),
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
        size = 1 << max(0, (n_blocks // (8 * threads)).bit_length() - 1)
        n_tasks = -(-n_blocks // size)
        threads = min(threads, n_tasks)
        self.sums = aligned((n_tasks, len(self.reduced) * blocks.GROUP))
        tasks = iter(range(n_tasks))
        run = self._check_tasks if current.debug_nans else self._run_tasks
        if threads == 1:
            run(tasks, size, n_blocks)
            return
        helpers = [
            _pool(threads).submit(self._run_tasks, tasks, size, n_blocks)
            for _ in range(threads - 1)
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

    def _workspace(self) -> tuple[Floats, Floats, Floats]:
        """Values, cotangents and the stack of sums, for one thread."""
        program = self.program
        return (
            aligned(program.n_value_rows * self.width),
            aligned(program.n_cotangent_rows * self.width),
            aligned((blocks.LEVELS, len(self.reduced) * blocks.GROUP)),
        )

    def _run_tasks(self, tasks: Iterator[int], size: int, n_blocks: int) -> None:
        values, cotangents, stack = self._workspace()
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

    def _check_tasks(self, tasks: Iterator[int], size: int, n_blocks: int) -> None:
        """As `_run_tasks`, after looking for the first NaN of each block."""
        values, cotangents, _ = self._workspace()
        for block in range(n_blocks):
            debug.check_block(self.program, self.job, values, cotangents, block, self.shared)
        self._run_tasks(tasks, size, n_blocks)

    # What is left when the lanes are done.

    def _shared_results(self) -> None:
        """Fill in what is the same for all lanes, and sweep the shared part in reverse."""
        program, batch, tape = self.program, self.batch, self.batch.tape
        totals = self._totals()
        scale = float(self.n_lanes) if self.reduce == "sum" else 1.0
        for k in batch.shared_outputs.tolist():
            self.values[:, k] = scale * self.shared[tape.outputs[k]]
        if self.reduce:
            for k in batch.lane_outputs.tolist():
                self.values[0, k] = totals[int(program.value_rows[tape.outputs[k]]), 0]
        if not program.reverse:
            return
        cotangents = aligned(tape.n_slots)
        fill_zero(cotangents.ctypes.data, tape.n_slots)
        for k in batch.shared_outputs.tolist():
            cotangents[tape.outputs[k]] += scale
        for slot in program.boundary.tolist():
            cotangents[slot] += totals[int(program.cotangent_rows[slot]), 1]
        execute(
            program.shared_reverse.address,
            len(program.shared_reverse),
            self.shared.ctypes.data,
            cotangents.ctypes.data,
            0,
            1,
        )
        for k, slot in enumerate(batch.wanted.tolist()):
            if not program.lane[slot]:
                self.gradients[:, k] = cotangents[slot] + 0.0
            elif self.reduce:
                self.gradients[0, k] = totals[int(program.cotangent_rows[slot]), 1]

    def _totals(self) -> dict[tuple[int, int], float]:
        """The sum, or mean, of each reduced row over the whole batch."""
        if not self.reduced:
            return {}
        if not self.n_lanes:
            empty = 0.0 if self.reduce == "sum" else np.nan
            return dict.fromkeys(self.reduced, empty)
        sums = self.sums
        while len(sums) > 1:
            pairs = sums[: len(sums) // 2 * 2]
            odd = sums[len(pairs) :]
            sums = np.concatenate([pairs[0::2] + pairs[1::2], odd])
        groups = sums.reshape(len(self.reduced), blocks.GROUP)
        for half in (4, 2, 1):
            groups = groups[:, :half] + groups[:, half:]
        totals = groups[:, 0] + 0.0
        if self.reduce == "mean":
            totals = totals / self.n_lanes
        return dict(zip(self.reduced, totals.tolist(), strict=True))


def _table(rows: list[tuple[Any, ...]]) -> Ints:
    return np.array(rows, np.int64).reshape(-1, 3)


_lock = threading.Lock()
_executor: ThreadPoolExecutor | None = None
_executor_size = 0


def _pool(threads: int) -> ThreadPoolExecutor:
    """Our own threads, made when first needed and grown when more are asked for."""
    global _executor, _executor_size
    with _lock:
        if _executor is None or _executor_size < threads:
            _executor = ThreadPoolExecutor(threads, thread_name_prefix="tapeflow")
            _executor_size = threads
        return _executor


def _forget_pool() -> None:
    """A forked child has none of its parent's threads, and perhaps its lock."""
    global _executor, _lock
    _executor, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
