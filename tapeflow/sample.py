"""Runs a tape on one sample, forward and in reverse."""

from typing import Any

import numpy as np

from tapeflow import debug, settings
from tapeflow import interpreter as vm
from tapeflow.kernels.callbacks import raise_pending
from tapeflow.program import Program, aligned
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape
from tapeflow.tier import TierUp

_SAVED = 5e-9
"""Seconds that an instruction takes longer, in one sweep, when it has its own kernel."""

_SAVED_A_CALL = 1e-8
"""At the least: a call takes a microsecond whatever it runs."""


class Workspace:
    """The memory of one evaluation. ``inputs`` and ``seeds`` are written before, ``results`` read
    after: outputs, then the gradient of every input.
    """

    def __init__(self, program: Program, home: list["Workspace"]) -> None:
        self.program, self.home = program, home
        tape, places = program.tape, program.places
        n_inputs, n_outputs = tape.n_inputs, len(tape.outputs)
        self.values = aligned(program.n_places)
        self.inputs = self.values[:n_inputs]
        self.values[n_inputs : n_inputs + len(tape.constants)] = tape.constants
        self.output_places = places[tape.outputs].astype(np.int32)
        self.cotangents = aligned(program.n_places if program.reverse else 0)
        self.results = aligned(n_outputs + (n_inputs if program.reverse else 0))
        self.outputs, self.gradients = self.results[:n_outputs], self.results[n_outputs:]
        self.seeds = np.ones(n_outputs)
        job = np.zeros(vm.SAMPLE_SIZE, np.int64)
        job[vm.SAMPLE_FORWARD] = program.shared_forward.address
        job[vm.SAMPLE_N_FORWARD] = len(program.shared_forward)
        job[vm.SAMPLE_REVERSE] = program.shared_reverse.address
        job[vm.SAMPLE_N_REVERSE] = len(program.shared_reverse)
        job[vm.SAMPLE_VALUES] = self.values.ctypes.data
        job[vm.SAMPLE_COTANGENTS] = self.cotangents.ctypes.data if program.reverse else 0
        job[vm.SAMPLE_N_SLOTS] = program.n_places
        job[vm.SAMPLE_OUTPUTS] = self.output_places.ctypes.data
        job[vm.SAMPLE_N_OUTPUTS] = n_outputs
        job[vm.SAMPLE_N_INPUTS] = n_inputs
        job[vm.SAMPLE_RESULTS] = self.results.ctypes.data
        job[vm.SAMPLE_SEEDS] = self.seeds.ctypes.data
        # For the struct module, which takes a memoryview faster than an array.
        self.memory, self.result_memory = self.values.data, self.results.data
        self.job = job
        self.forward_job = job.copy()
        self.forward_job[vm.SAMPLE_COTANGENTS] = 0
        self.reverse_job = job.copy()
        self.reverse_job[vm.SAMPLE_N_FORWARD] = 0

    def take_results(self) -> Floats:
        """The results, for the caller to keep."""
        return self.results.copy()


class SampleProgram:
    """A tape ready for one sample at a time, from any number of threads at once."""

    def __init__(self, tape: Tape, wanted: Any, reverse: bool) -> None:
        self._use = np.zeros(tape.n_inputs, np.bool_), np.asarray(wanted, np.bool_), reverse
        self.program = self._running = Program(tape, *self._use)
        # Workspaces that nobody uses: taking one with pop() is a single step, so no two callers
        # get the same; give it back to its home with append().
        self.free: list[Workspace] = []
        self._checks_gates = self.program.has_python_gates
        code = len(self.program.shared_forward) + len(self.program.shared_reverse)
        self._saved = _SAVED * code + _SAVED_A_CALL
        self._left = 0
        self._tier_up = TierUp(self._fused, self._adopt)

    def _fused(self) -> Program:
        return Program(self.program.tape, *self._use, fused=True)

    def _adopt(self, program: Program) -> None:
        self._running, self.free = program, []

    def _count(self) -> None:
        """Now and then, not at every call: say what a fused program would have saved."""
        if settings.current().debug_nans:
            return
        self._left = 1 + int(0.001 / self._saved)
        self._tier_up.saves(self._left * self._saved)
        self._running.load()

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
        if settings.current().debug_nans or self._checks_gates:
            self._run(workspace, workspace.job)
        else:
            vm.run_sample(workspace.job)

    def run_forward(self, workspace: Workspace) -> None:
        """From the workspace's inputs to its values and outputs."""
        self._run(workspace, workspace.forward_job)

    def run_reverse(self, workspace: Workspace) -> None:
        """From the values that `run_forward` has left, and the seeds, to the gradients."""
        self._run(workspace, workspace.reverse_job)

    def _run(self, workspace: Workspace, job: Ints) -> None:
        if settings.current().debug_nans:
            self._check(workspace, job)
        else:
            vm.run_sample(job)
        if self._checks_gates:
            raise_pending(workspace.values.ctypes.data)

    def _check(self, workspace: Workspace, job: Ints) -> None:
        """Run instruction by instruction, looking for NaN."""
        if not workspace.program.fused:
            workspace.program.load()
            debug.run_sample(workspace, job)
            return
        own = self.new_workspace()
        own.inputs[:], own.seeds[:] = workspace.inputs, workspace.seeds
        debug.run_sample(own, own.job)
        workspace.results[:] = own.results

    def results(self, leaves: Any) -> Floats:
        """Outputs, and with a reverse sweep gradients, at these leaves: a fresh array."""
        workspace = self.take()
        self.program.tape.input_structure.pack(leaves, workspace.inputs)
        self.run(workspace)
        results = workspace.take_results()
        workspace.home.append(workspace)
        return results
