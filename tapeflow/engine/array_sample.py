"""Runs a tape with arrays on one sample: the tape itself, or the pullback that gives gradients."""

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from tapeflow import settings
from tapeflow.engine import debug
from tapeflow.engine.array_program import ArrayProgram
from tapeflow.engine.failures import Failures
from tapeflow.engine.interpreter import execute
from tapeflow.engine.loop_kernels import keep_within
from tapeflow.kernels.callbacks import makers_of, raise_pending
from tapeflow.memory import aligned
from tapeflow.passes import executable
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape
from tapeflow.threads import pool
from tapeflow.transforms import pullback

Moves = list[tuple[slice, slice]]


_NONE = np.empty(0)
_ALONE = [np.empty(0)]
_FREE = sys.getrefcount(_ALONE[0])
"""How many references an array has that only a list holds."""

_KEPT = 3
"""Arrays of results that a workspace remembers: a caller often has the last one still."""


class ArrayWorkspace:
    """The memory of one evaluation. ``inputs`` and ``seeds`` are written before, ``results`` read
    after: outputs, then the gradient of every input (zero where it is not wanted).
    """

    def __init__(self, sample: "ArraySample") -> None:
        self.home = sample.free
        tape, program = sample.tape, sample.program
        n_outputs = len(tape.outputs)
        self.memory_of_values = aligned(program.n_places)
        first = program.tape.n_inputs
        constants = program.tape.constants
        self.memory_of_values[first : first + len(constants)] = constants
        self.inputs = self.memory_of_values[: tape.n_inputs]
        self.seeds = (
            self.memory_of_values[tape.n_inputs : first] if sample.reverse else np.ones(n_outputs)
        )
        self.seeds[:] = 1.0
        self.n_outputs = n_outputs
        self.n_results = sample.n_results
        self.results = np.zeros(self.n_results)
        self._given: list[Floats] = []
        self.memory = self.memory_of_values.data
        self.values = np.empty(0)
        self.cotangents = np.empty(0)

    @property
    def outputs(self) -> Floats:
        return self.results[: self.n_outputs]

    @property
    def gradients(self) -> Floats:
        return self.results[self.n_outputs :]

    @property
    def result_memory(self) -> memoryview:
        return self.results.data

    def next_results(self) -> Floats:
        """An array for results, which the caller of the evaluation then keeps.

        One that an earlier caller has let go is used again: the pages of large fresh arrays cost
        more time than writing to them. What is not a result is zero in all of them.
        """
        for k in range(len(self._given)):
            # Nobody else has it, or a view of it.
            if sys.getrefcount(self._given[k]) == _FREE:
                self.results = self._given[k]
                return self.results
        self.results = np.zeros(self.n_results)
        if len(self._given) == _KEPT:
            self._given.pop(0)
        self._given.append(self.results)
        return self.results

    def take_results(self) -> Floats:
        """The results, for the caller to keep."""
        results, self.results = self.results, _NONE
        return results


class ArraySample:
    """A tape with arrays, ready for one sample at a time, from any number of threads at once."""

    def __init__(
        self, tape: Tape, wanted: Any, reverse: bool, fuse: bool = True, every: bool = False
    ) -> None:
        self.tape, self.reverse = tape, reverse
        flags = np.asarray(wanted, bool)
        bounds = tape.input_structure.bounds
        leaves = [bool(flags[first:last].any()) for first, last in bounds]
        run = pullback(tape, leaves, every) if reverse else tape
        if fuse:
            run = executable(run)
        self.program = ArrayProgram(run, np.zeros(run.n_inputs, np.bool_), fuse)
        self.failures = Failures(run, self.program.places)
        self.free: list[ArrayWorkspace] = []
        n_outputs = len(tape.outputs)
        self.n_results = n_outputs + (tape.n_inputs if reverse else 0)
        self.output_places = self.program.places[run.outputs[:n_outputs]]
        self.moves = consecutive(self.output_places, 0)
        first = n_outputs
        for (start, last), own in zip(bounds, leaves, strict=True):
            if reverse and own:
                slots = run.outputs[first : first + last - start]
                self.moves += consecutive(self.program.places[slots], n_outputs + start)
                first += last - start

    def take(self) -> ArrayWorkspace:
        """A workspace for one evaluation by `run`; give it back with ``home.append``."""
        try:
            return self.free.pop()
        except IndexError:
            return ArrayWorkspace(self)

    def new_workspace(self) -> ArrayWorkspace:
        """A workspace for the caller to keep."""
        return ArrayWorkspace(self)

    def run(self, workspace: ArrayWorkspace) -> None:
        """From the workspace's inputs and seeds to its results."""
        values = self._sweep(workspace)
        results = workspace.next_results()
        for source, target in self.moves:
            # Gradients have no negative zeros; values keep theirs.
            zero = 0.0 if target.start >= len(self.tape.outputs) else -0.0
            np.add(values[source], zero, out=results[target])
        self.failures.check(values, results)

    def read(self, leaves: Any, take: Callable[[Floats], None]) -> None:
        """Let a function take the results at these leaves from where they are computed.

        It is given the program's memory, in which they are at ``output_places``.
        """
        workspace = self.take()
        self.tape.input_structure.pack(leaves, workspace.inputs)
        values = self._sweep(workspace)
        take(values)
        self.failures.check(values, values[self.output_places] if self.failures else _NONE)
        workspace.home.append(workspace)

    def _sweep(self, workspace: ArrayWorkspace) -> Floats:
        """Run the program on a workspace's memory."""
        values = workspace.memory_of_values
        code = self.program.shared_forward
        if self.program.controls:
            keep_within(settings.current().max_memory, 1)
        if settings.current().debugging:
            self._check(values)
        address = values.ctypes.data
        threads = settings.current().threads
        if self.program.parallel and threads > 1:
            self._execute(values, threads)
        else:
            execute(code.address, len(code), address, 0, 0, 1)
        raise_pending(address, self.program.tape, self._makers)
        return values

    def _makers(self, place: int) -> list[int]:
        return makers_of(self.program.tape, self.program.places, place)

    def _execute(self, values: Floats, threads: int) -> None:
        """Run the code, large instructions by several threads."""
        code = self.program.shared_forward
        lengths, done, place = code.stream, 0, 0

        def run(place: int, n: int) -> None:
            # The task holds the memory, which an interrupted caller may have let go.
            execute(code.address + 4 * place, n, values.ctypes.data, 0, 0, 1)

        for start, before, count in self.program.parallel:
            if before > done:
                run(place, before - done)
            # The pieces of an instruction are of one length, one after the other.
            length = int(lengths[start])
            ends = [count * k // threads for k in range(threads + 1)]
            shares = [(a, b) for a, b in itertools.pairwise(ends) if b > a]
            others = [pool(threads).submit(run, start + length * a, b - a) for a, b in shares[1:]]
            try:
                run(start + length * shares[0][0], shares[0][1] - shares[0][0])
            finally:
                for other in others:
                    other.result()
            done, place = before + count, start + length * count
        if len(code) > done:
            run(place, len(code) - done)

    def run_forward(self, workspace: ArrayWorkspace) -> None:
        """From the workspace's inputs to its outputs, keeping every slot's value."""
        sample = ArraySample(self.tape, np.zeros(self.tape.n_inputs), False, fuse=False)
        own = sample.new_workspace()
        own.inputs[:] = workspace.inputs
        sample.run(own)
        workspace.outputs[:] = own.outputs
        workspace.values = own.memory_of_values[sample.program.places]

    def run_reverse(self, workspace: ArrayWorkspace) -> None:
        """From the inputs that `run_forward` was given, and the seeds, to all cotangents."""
        tape = self.tape
        sample = tape.prepared.get("cotangents")
        if sample is None:
            wanted = np.ones(tape.n_inputs, np.bool_)
            sample = tape.prepared["cotangents"] = ArraySample(tape, wanted, True, every=True)
        own = sample.new_workspace()
        own.inputs[:], own.seeds[:] = workspace.inputs, workspace.seeds
        sample.run(own)
        workspace.results = own.results
        outputs = sample.program.tape.outputs[len(tape.outputs) + tape.n_inputs :]
        workspace.cotangents = np.zeros(tape.n_slots)
        workspace.cotangents[: tape.n_inputs] = own.gradients
        flowed = own.memory_of_values[sample.program.places[outputs]]
        workspace.cotangents[int(tape.slots[0]) :] = flowed

    def results(self, leaves: Any) -> Floats:
        """Outputs, and with a reverse sweep gradients, at these leaves: a fresh array."""
        workspace = self.take()
        self.tape.input_structure.pack(leaves, workspace.inputs)
        self.run(workspace)
        results = workspace.take_results()
        workspace.home.append(workspace)
        return results

    def _check(self, values: Floats) -> None:
        """Look for the first NaN, an instruction at a time: in the tape, then in its pullback."""
        programs = [(self.program.unfused, "forward")]
        if self.reverse:
            forward = ArraySample(self.tape, np.zeros(self.tape.n_inputs), False, fuse=False)
            programs = [(forward.program, "forward"), (self.program.unfused, "reverse")]
        for program, sweep in programs:
            own = aligned(program.n_places)
            tape = program.tape
            own[: tape.n_inputs] = values[: tape.n_inputs]
            own[tape.n_inputs : int(tape.slots[0])] = tape.constants
            debug.check_arrays(program, own, sweep)


def consecutive(places: Ints, first: int) -> Moves:
    """Runs of places, and where each goes from ``first`` on."""
    moves: Moves = []
    for run in np.split(places, np.flatnonzero(np.diff(places) != 1) + 1):
        if len(run):
            source = slice(int(run[0]), int(run[0]) + len(run))
            moves.append((source, slice(first, first + len(run))))
            first += len(run)
    return moves
