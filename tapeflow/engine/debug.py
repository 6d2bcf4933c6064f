"""The sweeps one instruction at a time, to find the first NaN or infinity.

``tpf.config(debug_nans=True, debug_infs=True)`` turns it on. The kernels are those of the
interpreter, so the numbers are as without; after each instruction what it has written is looked at.
"""

from typing import Any

import numpy as np

from tapeflow import reference
from tapeflow.arrays import SubTapes
from tapeflow.engine.addresses import GROUP
from tapeflow.engine.interpreter import execute
from tapeflow.engine.nonfinite import (
    called,
    check_seeds,
    find,
    first_bad,
    follows_the_seed,
    look_inside,
    made_by,
)
from tapeflow.engine.program import Code, Program
from tapeflow.errors import NonFiniteError
from tapeflow.kernels.callbacks import raise_pending
from tapeflow.structure import Floats, Ints
from tapeflow.transforms import PULLBACK, PULLED


def run_sample(program: Program, workspace: Any, forward: bool, reverse: bool) -> None:
    """Do what the interpreter's run_sample does; NonFiniteError at the first bad number.

    program: the tape's, with a kernel for each instruction; the workspace is of a threaded one.
    """
    tape = program.tape
    values = workspace.values.reshape(-1, 1)
    cotangents = workspace.cotangents.reshape(-1, 1)
    checker = _Checker(program, values, cotangents, values, shared=True, first_lane=None)
    if forward:
        checker.inputs(np.arange(tape.n_inputs))
        checker.forward(program.shared_forward)
    workspace.outputs[:] = workspace.values[tape.outputs]
    if reverse:
        cotangents[:] = -0.0
        np.add.at(cotangents[:, 0], tape.outputs, workspace.seeds)
        check_seeds(tape, workspace.seeds)
        checker.reverse(program.shared_reverse)
        workspace.gradients[:] = cotangents[: tape.n_inputs, 0] + 0.0


def check_shared(
    program: Program, code: Code, shared: Floats, cotangents: Floats | None, sample: Floats | None
) -> None:
    """Run code of a batch's shared part, forward or reverse; NonFiniteError at a bad number.

    sample: the inputs of one of the batch, if it has any.
    """
    if code is program.shared_forward:
        # Instruction by instruction, where the sweeps run several by one kernel.
        program = program.unfused
        code = program.shared_forward
    values = shared.reshape(-1, 1)
    rows = values if cotangents is None else cotangents.reshape(-1, 1)
    checker = _Checker(program, values, rows, values, shared=True, first_lane=None)
    checker.sample = sample
    if cotangents is not None:
        checker.reverse(code)
        return
    inputs = np.arange(program.tape.n_inputs)
    checker.inputs(np.where(program.lane[inputs], -1, inputs))
    checker.forward(code)


def check_block(
    program: Program, job: Ints, values: Floats, cotangents: Floats, block: int, shared: Floats
) -> None:
    """Sweep one block of a batch, both ways; NonFiniteError at the first bad number."""
    from tapeflow.engine import blocks
    from tapeflow.jit import entry

    program = program.unfused
    width = int(job[blocks.BATCH_WIDTH])
    first = block * width
    n = min(width, int(job[blocks.BATCH_LANES]) - first)
    lanes = -(-n // GROUP) * GROUP
    entry(blocks.load_block)(job, values.ctypes.data, first, n, lanes)
    value_rows = values[: program.n_value_rows * lanes].reshape(-1, lanes)
    cotangent_rows = cotangents[: program.n_cotangent_rows * lanes].reshape(-1, lanes)
    checker = _Checker(
        program, value_rows, cotangent_rows, shared.reshape(-1, 1), shared=False, first_lane=first
    )
    checker.n = n
    checker.inputs(program.value_rows[: program.tape.n_inputs])
    checker.forward(program.lane_forward)
    entry(blocks.seed_lanes)(job, cotangents.ctypes.data, lanes)
    checker.reverse(program.lane_reverse)


def check_arrays(program: Any, values: Floats, sweep: str) -> None:
    """Run a tape with arrays on one sample; NonFiniteError at the first bad number."""
    rows = values.reshape(-1, 1)
    checker = _Checker(program, rows, rows, rows, True, None)
    checker.inputs(np.arange(program.tape.n_inputs))
    checker.forward(program.shared_forward, sweep)


class _Checker:
    """Steps through code over rows of lanes (or, for shared code, over single numbers)."""

    def __init__(
        self,
        program: Program,
        values: Floats,
        cotangents: Floats,
        shared_values: Floats,
        shared: bool,
        first_lane: int | None,
    ) -> None:
        self.program, self.tape = program, program.tape
        self.values, self.cotangents, self.shared_values = values, cotangents, shared_values
        self.shared = shared
        self.first_lane = first_lane
        self.n = values.shape[1]
        # Inputs to run the whole tape on, where the values have none for all of it.
        self.sample: Floats | None = None

    def inputs(self, rows: Ints) -> None:
        """Look at the inputs that have rows (-1: none)."""
        own = np.flatnonzero(rows >= 0)
        found = first_bad(self.values[rows[own], : self.n])
        if found is not None:
            slot, lane = int(own[found[0]]), found[1]
            sample = self._sample(lane)
            number = self._run(slot, 1, lane)[0]
            raise NonFiniteError(
                f"{called(number)} in the input {self.tape.slot_name(slot)} of "
                f"{self.tape.name.removeprefix(PULLBACK)}",
                sweep="forward",
                sample=sample,
            )

    def forward(self, code: Code, sweep: str = "forward") -> None:
        slots = self.tape.slots
        place = 0
        for i in code.instructions.tolist():
            if isinstance(self.tape.op(i).array, SubTapes):
                look_inside(self.tape, i, self._operands(i), self.first_lane)
            place = self._step(code, place, i)
            found = first_bad(self._rows(int(slots[i]), int(slots[i + 1])))
            if found is not None:
                self._refuse(i, found, sweep)

    def reverse(self, code: Code) -> None:
        place = 0
        for i in code.instructions.tolist():
            arity = len(self.tape.operands_of(i))
            # The record: a result and its cotangent, then operands and theirs.
            end = place + int(code.stream[place])
            # Copied before, as an operand's cotangent may be put in its place.
            flowing = self.cotangents[code.stream[end - 2 * arity - 1], : self.n].copy()
            place = self._step(code, place, i)
            rows = code.stream[end - arity : end]
            own = np.flatnonzero(rows >= 0)
            found = first_bad(self.cotangents[rows[own], : self.n])
            if found is not None:
                operand, lane = int(own[found[0]]), found[1]
                number = float(self.cotangents[rows[operand], lane])
                self._refuse_reverse(i, lane, float(flowing[lane]), operand, number)

    def _step(self, code: Code, place: int, i: int) -> int:
        """Run instruction i; returns where the next one's code is."""
        values = self.values.ctypes.data
        shared = self.shared_values.ctypes.data
        lanes = self.values.shape[1]
        execute(code.address + 4 * place, 1, values, self.cotangents.ctypes.data, shared, lanes)
        raise_pending(shared, self.tape, lambda _: [i])
        return place + int(code.stream[place])

    def _rows(self, first: int, last: int) -> Floats:
        """The numbers of the slots that the code writes."""
        if self.shared:
            return self.values[self._places(first, last), : self.n]
        return self.values[self.program.value_rows[first:last], : self.n]

    def _places(self, first: int, last: int) -> Any:
        # On a tape with arrays, some are kept elsewhere.
        places = getattr(self.program, "places", None)
        return slice(first, last) if places is None else places[first:last]

    def _run(self, slot: int, size: int, lane: int) -> Floats:
        """A lane's numbers of a run of slots."""
        if self.shared or not self.program.lane[slot]:
            run: Floats = self.shared_values[self._places(slot, slot + size), 0]
        else:
            run = self.values[self.program.value_rows[slot : slot + size], lane]
        return run

    def _operands(self, i: int) -> list[Floats]:
        """The operands of an instruction, in rows of lanes or as single numbers."""
        runs = []
        sizes, _ = self.tape.runs_of(i)
        for slot, size in zip(self.tape.operands_of(i).tolist(), sizes, strict=True):
            if self.shared or not size or not self.program.lane[slot]:
                runs.append(self.shared_values[self._places(slot, slot + size)])
            else:
                runs.append(self.values[self.program.value_rows[slot : slot + size], : self.n])
        return runs

    def _sample(self, lane: int) -> int | None:
        return None if self.first_lane is None else self.first_lane + lane

    def _refuse(self, i: int, found: tuple[int, int], sweep: str) -> None:
        tape, (element, lane) = self.tape, found
        sample = self._sample(lane)
        if tape.name.startswith(PULLBACK):
            self._refuse_pulled(lane)
            if sweep == "forward" and follows_the_seed(tape, i):
                sweep = "reverse"
        sizes, _ = tape.runs_of(i)
        operands = [
            self._run(slot, size, lane)
            for slot, size in zip(tape.operands_of(i).tolist(), sizes, strict=True)
        ]
        number = float(self._rows(int(tape.slots[i]), int(tape.slots[i + 1]))[element, lane])
        raise made_by(tape, i, sweep, sample, operands, element, number)

    def _refuse_reverse(
        self, i: int, lane: int, flowing: float, operand: int, number: float
    ) -> None:
        operands = [self._run(slot, 1, lane) for slot in self.tape.operands_of(i).tolist()]
        sample = self._sample(lane)
        flow = np.array([flowing]), operand
        raise made_by(self.tape, i, "reverse", sample, operands, 0, number, flow)

    def _refuse_pulled(self, lane: int) -> None:
        """Name the instruction of the tape that a pullback is of, where it can be found.

        The oracle looks for it: one lane alone, and by the tape's own instructions.
        """
        tape = self.tape.prepared.get(PULLED)
        if tape is None or not reference.can_run(tape):
            return
        bounds = self.tape.input_structure.bounds
        given = np.concatenate([self._run(first, last - first, lane) for first, last in bounds])
        inputs, seeds = np.split(given, bounds[-1][:1])
        if self.sample is not None:
            inputs = self.sample
        find(tape, inputs[:, None], seeds[:, None], self._sample(lane))
