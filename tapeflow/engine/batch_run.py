"""One evaluation of a batch: blocks of lanes, shared by threads, with sums in a fixed tree."""

import ctypes
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow import settings
from tapeflow.engine import blocks, debug
from tapeflow.engine.addresses import GROUP
from tapeflow.engine.columns import Columns, Recycler, by_size, table_of
from tapeflow.engine.interpreter import execute
from tapeflow.engine.nonfinite import check_results
from tapeflow.engine.program import Code
from tapeflow.kernels.callbacks import makers_of, raise_pending
from tapeflow.memory import address_of, aligned
from tapeflow.structure import Floats, Ints
from tapeflow.threads import pool

_SMALL = 200_000
"""Instructions times lanes below which handing work to another thread costs more than it saves."""

_LONG = 50_000_000
"""Instructions times lanes of one task: some milliseconds, between which Ctrl-C is heard."""

_STREAMED = 1 << 24
"""Bytes of results above which they go past the caches, which they would only sweep clean."""

Workspace = tuple[Floats, Floats, Floats]
"""Rows of values and of cotangents, and the stack of sums, of one thread."""

_NO_ROWS = np.empty((0, 3), np.int64)

NO_ROWS = _NO_ROWS, _NO_ROWS
"""Tables of nothing, in numbers of eight bytes and of four."""


@dataclass(frozen=True)
class Source:
    """Where a batch's inputs come from, by input slot, and the dtypes of its results.

    addresses: of sample 0; strides: in bytes, 0 for an input that all samples share; sizes: bytes
    of a number, 8 or 4. ``keep`` holds the arrays, to keep them alive. values, gradients: the dtype
    of each leaf of the output, and of each wanted leaf's gradients.

    indices: addresses of the 32-bit index of sample 0, of an input that is element index of those
    that ``strides`` are between; 0 for an input that is none. index_strides: in bytes.
    """

    addresses: Ints
    strides: Ints
    sizes: Ints
    shared_values: Floats
    keep: tuple[Any, ...]
    values: Sequence[Any]
    gradients: Sequence[Any]
    indices: Ints | None = None
    index_strides: Ints | None = None

    def first_sample(self) -> Floats:
        """The inputs of sample 0."""
        kinds = {8: ctypes.c_double, 4: ctypes.c_float}
        pairs = zip(self.addresses.tolist(), self.sizes.tolist(), strict=True)
        return np.array([kinds[size].from_address(address).value for address, size in pairs])


class Ready:
    """A program with memory for the threads that run it."""

    def __init__(self, program: Any, n_sums: int, staging: int = 0) -> None:
        self.program, self.n_sums, self.staging = program, n_sums, staging
        self._free: dict[int, list[Workspace]] = {}

    @property
    def rows(self) -> int:
        n: int = self.program.n_value_rows + self.program.n_cotangent_rows
        return n

    def workspace(self, width: int) -> Workspace:
        """Memory for one thread that nothing else uses; give it back with `release`."""
        try:
            return self._free.setdefault(width, []).pop()
        except IndexError:
            # Pointers stand before the rows, whose first begins a cache line.
            before = -(-self.program.n_pointers // GROUP) * GROUP
            return (
                aligned((self.program.n_value_rows + self.staging) * width),
                aligned(before + self.program.n_cotangent_rows * width)[before:],
                aligned((blocks.LEVELS, self.n_sums * GROUP)),
            )

    def release(self, width: int, workspace: Workspace) -> None:
        self._free[width].append(workspace)


@dataclass(frozen=True)
class Tables:
    """What the sweeps of a block read and leave, as rows of three numbers (see `blocks`).

    inputs: the row of each input that differs by lane. direct: gradients that the kernels store
    where they go.
    """

    inputs: Ints
    seeds: Ints
    sums: Ints
    staged: Ints
    outputs: tuple[Ints, Ints]
    gradients: tuple[Ints, Ints]
    direct: Ints


class Run:
    """One evaluation of a batch: its memory, its tables and its threads."""

    def __init__(self, batch: Any, source: Source, n_lanes: int, reduce: str | None) -> None:
        self.batch, self.source, self.n_lanes, self.reduce = batch, source, n_lanes, reduce
        tape = batch.tape
        self.ready: Ready = batch.ready
        self.program = self.ready.program
        self.width = batch.width(n_lanes)
        rows = 1 if reduce else n_lanes
        try:
            self.recycler = batch.recyclers.pop()
        except IndexError:
            self.recycler = Recycler()
        self.recycler.forget(rows)
        sizes = [leaf.size for leaf in tape.output_structure.leaves] if batch.with_value else []
        n_signed = len(sizes) if batch.n_signed is None else batch.n_signed
        self.values = Columns(rows, sizes, source.values, self.recycler, "values", n_signed)
        self.gradients = Columns(
            rows, batch.leaves, source.gradients, self.recycler, "gradients", 0
        )
        self.shared = self._new_shared()
        self.stop = np.zeros(1, np.int64)
        self.n_sums = self.ready.n_sums
        self.sums: Floats = aligned((0, self.n_sums * GROUP))
        self._jobs: dict[Ready, tuple[Ints, Any]] = {}

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
        # Infinity and NaN are results like others here, as they are in the sweeps.
        with np.errstate(over="ignore", invalid="ignore"):
            self._shared_results()
        self._raise_errors_of_gates()
        if settings.current().debugging:
            how = "the sum over the batch" if self.reduce else "rounding them to float32"
            for what, columns in (("value", self.values), ("gradient", self.gradients)):
                check_results(self.batch.tape.name, what, columns.arrays, how, not self.reduce)

    def _execute_shared(self, code: Code, cotangents: Floats | None = None) -> None:
        """Run forward or, with cotangents, reverse code of the shared part."""
        if settings.current().debugging:
            first = self.source.first_sample() if self.n_lanes else None
            debug.check_shared(self.program, code, self.shared, cotangents, first)
            return
        address = 0 if cotangents is None else address_of(cotangents)
        execute(code.address, len(code), address_of(self.shared), address, 0, 1)

    def _raise_errors_of_gates(self) -> None:
        if self.program.has_python_gates:
            raise_pending(address_of(self.shared), self.program.tape, self._makers)

    def _makers(self, place: int) -> list[int]:
        """Each slot's number is in its row or, if lanes share it, among the single numbers."""
        program = self.program
        single = getattr(program, "places", np.arange(program.tape.n_slots))
        places = np.stack([program.value_rows, np.where(program.lane, -1, single)], axis=1)
        return makers_of(program.tape, places, place)

    def _job(self, ready: Ready) -> Ints:
        """The compiled sweep's job, for a program."""
        found = self._jobs.get(ready)
        if found is None:
            # The first one stays: what another thread has made and begun to use is not let go.
            found = self._jobs.setdefault(ready, self._new_job(ready))
        return found[0]

    def _new_job(self, ready: Ready) -> tuple[Ints, Any]:
        batch, program = self.batch, ready.program
        tables: Tables = batch.tables(program, self.values, self.gradients)
        chosen, source = batch.lane_inputs, self.source
        inputs = table_of(tables.inputs, source.addresses[chosen], source.strides[chosen])
        sizes = source.sizes[chosen]
        gathered = _NO_ROWS
        if source.indices is not None:
            inputs, sizes, gathered = _apart(inputs, sizes, source, chosen)
        columns = (sizes == 8) & (inputs[:, 2] == 8)
        read = inputs[columns], *by_size(inputs[~columns], sizes[~columns])
        results = sum(array.nbytes for array in self.values.arrays + self.gradients.arrays)
        job = np.zeros(blocks.BATCH_SIZE, np.int64)
        job[blocks.BATCH_LANES], job[blocks.BATCH_WIDTH] = self.n_lanes, self.width
        job[blocks.BATCH_STOP] = address_of(self.stop)
        job[blocks.BATCH_STREAM] = results > _STREAMED
        job[blocks.BATCH_FORWARD] = program.lane_forward.address
        job[blocks.BATCH_N_FORWARD] = len(program.lane_forward)
        job[blocks.BATCH_REVERSE] = program.lane_reverse.address
        job[blocks.BATCH_N_REVERSE] = len(program.lane_reverse)
        job[blocks.BATCH_SHARED] = address_of(self.shared)
        job[blocks.BATCH_STAGING] = program.n_value_rows
        placed = (
            (blocks.BATCH_COLUMNS, read[0]),
            (blocks.BATCH_INPUTS, read[1]),
            (blocks.BATCH_SINGLE_INPUTS, read[2]),
            (blocks.BATCH_OUTPUTS, tables.outputs[0]),
            (blocks.BATCH_SINGLE_OUTPUTS, tables.outputs[1]),
            (blocks.BATCH_SEEDS, tables.seeds),
            (blocks.BATCH_DIRECT, tables.direct),
            (blocks.BATCH_GRADIENTS, tables.gradients[0]),
            (blocks.BATCH_SINGLE_GRADIENTS, tables.gradients[1]),
            (blocks.BATCH_REDUCED, tables.sums),
            (blocks.BATCH_GATHERED, gathered),
            (blocks.BATCH_STAGED, tables.staged),
        )
        # One after the other: asking an array for its address takes a microsecond.
        together = np.concatenate([table for _, table in placed])
        address = address_of(together)
        for place, table in placed:
            job[place], job[place + 1] = address, len(table)
            address += 24 * len(table)
        return job, together

    # The sweep itself.

    def _sweep(self) -> None:
        n_blocks = -(-self.n_lanes // self.width)
        current = settings.current()
        work = self.n_lanes * self.batch.work
        threads = 1 if work < _SMALL or current.debugging else current.threads
        # A task is a power of two of blocks, so that its sums are a subtree of the whole tree.
        share = min(n_blocks, _LONG * n_blocks // max(work, 1))
        if threads > 1:
            share = min(share, n_blocks // (8 * threads))
        size = 1 << max(0, share.bit_length() - 1)
        n_tasks = -(-n_blocks // size)
        threads = min(threads, n_tasks)
        self.sums = aligned((n_tasks, self.n_sums * GROUP))
        tasks = iter(range(n_tasks))
        run = self._check_tasks if current.debugging else self._run_tasks
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
        ready, workspace = self.ready, self.ready.workspace(self.width)
        for task in tasks:
            if self.batch.ready is not ready:
                # A faster program of the same bits has been made meanwhile.
                ready.release(self.width, workspace)
                ready = self.batch.ready
                workspace = ready.workspace(self.width)
            values, cotangents, stack = workspace
            blocks.run_blocks(
                self._job(ready),
                address_of(values),
                address_of(cotangents),
                address_of(stack),
                task * size,
                min((task + 1) * size, n_blocks),
                address_of(self.sums[task]),
            )
        ready.release(self.width, workspace)

    def _check_tasks(self, tasks: Iterator[int], size: int, n_blocks: int) -> None:
        """As `_run_tasks`, after looking for the first NaN of each block."""
        checked = Ready(self.program.unfused, self.n_sums, self.ready.staging)
        values, cotangents, _ = checked.workspace(self.width)
        job = self._job(checked)
        for block in range(n_blocks):
            debug.check_block(checked.program, job, values, cotangents, block, self.shared)
        self._run_tasks(tasks, size, n_blocks)

    # What is left when the lanes are done.

    def _shared_results(self) -> None:
        """Fill in what is the same for all lanes, and sweep the shared part in reverse."""
        program, batch, tape = self.program, self.batch, self.batch.tape
        totals = self._totals()
        scale = float(self.n_lanes) if self.reduce == "sum" else 1.0
        shared_slots = tape.outputs[batch.shared_outputs]
        if batch.with_value:
            alone = batch.shared_outputs[~self.values.staged[batch.shared_outputs]]
            numbers = scale * self.shared[tape.outputs[alone]]
            self.values.fill(alone, numbers + 0.0 if self.reduce else numbers)
        if self.reduce:
            if batch.with_value:
                self.values.fill(batch.lane_outputs, totals[batch.output_sums])
            self.gradients.fill(batch.lane_wanted, totals[batch.gradient_sums])
        if not batch.shared_wanted.size:
            return
        cotangents = aligned(tape.n_slots)
        cotangents.fill(-0.0)
        np.add.at(cotangents, shared_slots, scale)
        cotangents[program.boundary] += totals[batch.boundary_sums]
        self._execute_shared(program.shared_reverse, cotangents)
        self.gradients.fill(batch.shared_wanted, cotangents[batch.wanted[batch.shared_wanted]])

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


def _apart(inputs: Ints, sizes: Ints, source: Source, chosen: Ints) -> tuple[Ints, Ints, Ints]:
    """The table of the inputs that are read in place, their sizes, and that of the gathered ones.

    A gathered input has two rows: see `staging.gather_lanes`.
    """
    assert source.indices is not None
    assert source.index_strides is not None
    indices, steps = source.indices[chosen], source.index_strides[chosen]
    own = np.flatnonzero(indices)
    rest = np.flatnonzero(indices == 0)
    pairs = np.concatenate([inputs[own], table_of(indices[own], steps[own], 0)], axis=1)
    return inputs[rest], sizes[rest], pairs.reshape(-1, 3)
