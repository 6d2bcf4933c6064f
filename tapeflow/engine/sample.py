"""Runs a tape on one sample, forward and in reverse."""

from functools import cached_property
from typing import Any

import numpy as np

from tapeflow import settings
from tapeflow.engine import debug
from tapeflow.engine import interpreter as vm
from tapeflow.engine.program import Program
from tapeflow.engine.threaded import ThreadedProgram
from tapeflow.engine.tier import TierUp
from tapeflow.kernels.callbacks import makers_of, raise_pending
from tapeflow.memory import aligned
from tapeflow.structure import Floats
from tapeflow.tape import Tape

_SAVED = 5e-9
"""Seconds that an instruction takes longer, in one sweep, when it has its own kernel."""

_SAVED_A_CALL = 1e-8
"""At the least: a call takes a microsecond whatever it runs."""


class Workspace:
    """The memory of one evaluation. ``inputs`` and ``seeds`` are written before, ``results`` read
    after: outputs, then the gradient of every input.
    """

    def __init__(self, program: ThreadedProgram, home: list["Workspace"]) -> None:
        self.program, self.home = program, home
        tape, reverse = program.tape, program.reverse
        n_inputs, n_outputs = tape.n_inputs, len(tape.outputs)
        first = int(tape.slots[0])
        self.values = aligned(program.n_places)
        self.inputs = self.values[:n_inputs]
        self.values[n_inputs:first] = tape.constants
        self.cotangents = aligned(program.n_places if reverse else 0)
        self.results = aligned(n_outputs + (n_inputs if reverse else 0))
        self.outputs, self.gradients = self.results[:n_outputs], self.results[n_outputs:]
        self.seeds = np.ones(n_outputs)
        job = np.zeros(vm.SAMPLE_SIZE, np.int64)
        job[vm.SAMPLE_FORWARD] = program.forward.ctypes.data
        job[vm.SAMPLE_REVERSE] = program.reverse_ids.ctypes.data if reverse else 0
        job[vm.SAMPLE_TABLE] = program.table.ctypes.data
        job[vm.SAMPLE_FIRST_PLACE], job[vm.SAMPLE_LAST_PLACE] = first, program.n_places
        job[vm.SAMPLE_OPERANDS] = program.operands.ctypes.data
        job[vm.SAMPLE_LAST_OPERAND] = program.operands.ctypes.data + program.operands.nbytes
        job[vm.SAMPLE_VALUES] = self.values.ctypes.data
        job[vm.SAMPLE_COTANGENTS] = self.cotangents.ctypes.data
        job[vm.SAMPLE_OUTPUTS] = program.outputs.ctypes.data
        job[vm.SAMPLE_N_OUTPUTS] = n_outputs
        job[vm.SAMPLE_N_INPUTS] = n_inputs
        job[vm.SAMPLE_RESULTS] = self.results.ctypes.data
        job[vm.SAMPLE_SEEDS] = self.seeds.ctypes.data
        # For the struct module, which takes a memoryview faster than an array.
        self.memory, self.result_memory = self.values.data, self.results.data
        self.job, self.job_address = job, job.ctypes.data

    def take_results(self) -> Floats:
        """The results, for the caller to keep."""
        return self.results.copy()


class SampleProgram:
    """A tape ready for one sample at a time, from any number of threads at once."""

    def __init__(self, tape: Tape, wanted: Any, reverse: bool) -> None:
        self._use = np.asarray(wanted, np.bool_), reverse
        self.program = self._running = ThreadedProgram(tape, *self._use)
        # Workspaces that nobody uses: taking one with pop() is a single step, so no two callers
        # get the same; give it back to its home with append().
        self.free: list[Workspace] = []
        self._checks_gates = self.program.has_python_gates
        self._saved = _SAVED * len(self.program) + _SAVED_A_CALL
        self._left = 0
        self._tier_up = TierUp(self._fused, self._adopt)

    def _fused(self) -> ThreadedProgram:
        return ThreadedProgram(self.program.tape, *self._use, fused=True)

    @cached_property
    def _checked(self) -> Program:
        """What is run instruction by instruction, to look for NaN."""
        tape = self.program.tape
        program = Program(tape, np.zeros(tape.n_inputs, np.bool_), *self._use)
        program.load()
        return program

    def _adopt(self, program: ThreadedProgram) -> None:
        self._running, self.free = program, []

    def _count(self) -> None:
        """Now and then, not at every call: say what a fused program would have saved."""
        if settings.current().debugging:
            return
        calls = 1 + int(0.001 / self._saved)
        self._tier_up.saves(calls * self._saved)
        self._running.load()
        # Not before: another thread may come by meanwhile, and must not run what is not loaded.
        self._left = calls

    def take(self) -> Workspace:
        """A workspace for one evaluation by `run`; give it back with ``home.append``."""
        self._left -= 1
        if self._left < 0:
            self._count()
        try:
            return self.free.pop()
        except IndexError:
            return Workspace(self._running, self.free)

    def new_workspace(self) -> Workspace:
        """A workspace for the caller to keep, forward and in reverse in two steps."""
        self.program.load()
        return Workspace(self.program, [])

    def run(self, workspace: Workspace) -> None:
        """From the workspace's inputs and seeds to its results, in both directions."""
        if settings.current().debugging or self._checks_gates:
            self._run(workspace, True, self.program.reverse)
        else:
            vm.run_sample(workspace.job_address)

    def run_forward(self, workspace: Workspace) -> None:
        """From the workspace's inputs to its values and outputs."""
        self._run(workspace, True, False)

    def run_reverse(self, workspace: Workspace) -> None:
        """From the values that `run_forward` has left, and the seeds, to the gradients."""
        self._run(workspace, False, True)

    def _run(self, workspace: Workspace, forward: bool, reverse: bool) -> None:
        if settings.current().debugging:
            own = self.new_workspace() if workspace.program.fused else workspace
            own.inputs[:], own.seeds[:] = workspace.inputs, workspace.seeds
            debug.run_sample(self._checked, own, forward, reverse)
            workspace.results[:] = own.results
        else:
            job = workspace.job.copy()
            job[vm.SAMPLE_FORWARD] *= forward
            job[vm.SAMPLE_REVERSE] *= reverse
            vm.run_sample(job.ctypes.data)
        if self._checks_gates:
            tape, places = self.program.tape, workspace.program.places
            address = workspace.values.ctypes.data
            raise_pending(address, tape, lambda place: makers_of(tape, places, place))

    def results(self, leaves: Any) -> Floats:
        """Outputs, and with a reverse sweep gradients, at these leaves: a fresh array."""
        workspace = self.take()
        self.program.tape.input_structure.pack(leaves, workspace.inputs)
        self.run(workspace)
        results = workspace.take_results()
        workspace.home.append(workspace)
        return results
