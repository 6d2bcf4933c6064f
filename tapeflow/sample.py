"""Runs a tape on one sample, forward and in reverse."""

from typing import Any

import numpy as np

from tapeflow import debug, settings
from tapeflow import interpreter as vm
from tapeflow.kernels.callbacks import raise_pending
from tapeflow.program import Program, aligned
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape


class Workspace:
    """The memory of one evaluation. ``inputs`` and ``seeds`` are written before, ``results`` read
    after: outputs, then the gradient of every input.
    """

    def __init__(self, program: Program) -> None:
        tape = program.tape
        n_inputs, n_outputs = tape.n_inputs, len(tape.outputs)
        self.values = aligned(tape.n_slots)
        self.inputs = self.values[:n_inputs]
        self.values[n_inputs : n_inputs + len(tape.constants)] = tape.constants
        self.cotangents = aligned(tape.n_slots if program.reverse else 0)
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
        job[vm.SAMPLE_N_SLOTS] = tape.n_slots
        job[vm.SAMPLE_OUTPUTS] = tape.outputs.ctypes.data
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
        lane = np.zeros(tape.n_inputs, np.bool_)
        self.program = Program(tape, lane, np.asarray(wanted, np.bool_), reverse)
        # Workspaces that nobody uses: taking one with pop() is a single step, so no two callers
        # get the same; give it back with append().
        self.free: list[Workspace] = []
        self._checks_gates = self.program.has_python_gates

    def new_workspace(self) -> Workspace:
        """A workspace for the caller to keep."""
        return Workspace(self.program)

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
            debug.run_sample(self.program, workspace, job)
        else:
            vm.run_sample(job)
        if self._checks_gates:
            raise_pending(workspace.values.ctypes.data)

    def results(self, leaves: Any) -> Floats:
        """Outputs, and with a reverse sweep gradients, at these leaves: a fresh array."""
        try:
            workspace = self.free.pop()
        except IndexError:
            workspace = self.new_workspace()
        self.program.tape.input_structure.pack(leaves, workspace.inputs)
        self.run(workspace)
        results = workspace.take_results()
        self.free.append(workspace)
        return results
