"""The sweeps one instruction at a time, to find the first NaN (``tpf.config(debug_nans=True)``)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow.addresses import GROUP
from tapeflow.interpreter import execute
from tapeflow.program import Code, Program
from tapeflow.structure import Floats, Ints
from tapeflow.transforms import PULLBACK


def run_sample(program: Program, workspace: Any, forward: bool, reverse: bool) -> None:
    """Do what the interpreter's run_sample does; FloatingPointError at the first NaN.

    program: the tape's, with a kernel for each instruction; the workspace is of a threaded one.
    """
    tape = program.tape
    values = workspace.values.reshape(-1, 1)
    cotangents = workspace.cotangents.reshape(-1, 1)
    checker = _Checker(program, values, cotangents, values, shared=True, first_lane=None)
    if forward:
        _check_inputs(program, values, np.arange(tape.n_inputs), None)
        checker.forward(program.shared_forward)
    workspace.outputs[:] = workspace.values[tape.outputs]
    if reverse:
        cotangents[:] = -0.0
        np.add.at(cotangents[:, 0], tape.outputs, workspace.seeds)
        checker.reverse(program.shared_reverse)
        workspace.gradients[:] = cotangents[: tape.n_inputs, 0] + 0.0


def check_shared(program: Program, code: Code, shared: Floats, cotangents: Floats | None) -> None:
    """Run code of a batch's shared part, forward or reverse; FloatingPointError at a NaN."""
    if code is program.shared_forward:
        # Instruction by instruction, where the sweeps run several by one kernel.
        program = program.unfused
        code = program.shared_forward
    values = shared.reshape(-1, 1)
    rows = values if cotangents is None else cotangents.reshape(-1, 1)
    checker = _Checker(program, values, rows, values, shared=True, first_lane=None)
    if cotangents is not None:
        checker.reverse(code)
        return
    inputs = np.arange(program.tape.n_inputs)
    _check_inputs(program, values, np.where(program.lane[inputs], -1, inputs), None)
    checker.forward(code)


def check_block(
    program: Program, job: Ints, values: Floats, cotangents: Floats, block: int, shared: Floats
) -> None:
    """Sweep one block of a batch, both ways; FloatingPointError at the first NaN."""
    from tapeflow import blocks

    program = program.unfused
    width = int(job[blocks.BATCH_WIDTH])
    first = block * width
    n = min(width, int(job[blocks.BATCH_LANES]) - first)
    lanes = -(-n // GROUP) * GROUP
    blocks.load_block(job, values.ctypes.data, first, n, lanes)
    value_rows = values[: program.n_value_rows * lanes].reshape(-1, lanes)
    cotangent_rows = cotangents[: program.n_cotangent_rows * lanes].reshape(-1, lanes)
    _check_inputs(program, value_rows, program.value_rows[: program.tape.n_inputs], first, n)
    checker = _Checker(
        program, value_rows, cotangent_rows, shared.reshape(-1, 1), shared=False, first_lane=first
    )
    checker.n = n
    checker.forward(program.lane_forward)
    blocks.seed_lanes(job, cotangents.ctypes.data, lanes)
    checker.reverse(program.lane_reverse)


def check_arrays(program: Any, values: Floats, sweep: str) -> None:
    """Run a tape with arrays on one sample; FloatingPointError at the first NaN."""
    checker = _Checker(
        program, values.reshape(-1, 1), values.reshape(-1, 1), values.reshape(-1, 1), True, None
    )
    _check_inputs(program, values.reshape(-1, 1), np.arange(program.tape.n_inputs), None)
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
        self.program = program
        self.values, self.cotangents, self.shared_values = values, cotangents, shared_values
        self.shared = shared
        self.first_lane = first_lane
        self.n = values.shape[1]

    def forward(self, code: Code, sweep: str = "forward") -> None:
        for i in self._steps(code):
            for slot in range(*self.program.tape.slots[i : i + 2].tolist()):
                self._check(self.values[self._row(slot)], i, sweep)

    def _row(self, slot: int) -> int:
        if not self.shared:
            return int(self.program.value_rows[slot])
        return self._place(slot)

    def _place(self, slot: int) -> int:
        # On a tape with arrays, some are kept elsewhere.
        places = getattr(self.program, "places", None)
        return slot if places is None else int(places[slot])

    def reverse(self, code: Code) -> None:
        place = 0
        for i in self._steps(code):
            place += int(code.stream[place])
            # A record ends with the rows of the operands' cotangents.
            arity = len(self.program.tape.operands_of(i))
            for row in code.stream[place - arity : place].tolist():
                if row >= 0:
                    self._check(self.cotangents[row], i, "reverse")

    def _steps(self, code: Code) -> Iterator[int]:
        """Run one instruction after the other, and say which it was."""
        place = 0
        for i in code.instructions.tolist():
            execute(
                code.address + 4 * place,
                1,
                self.values.ctypes.data,
                self.cotangents.ctypes.data,
                self.shared_values.ctypes.data,
                self.values.shape[1],
            )
            yield i
            place += int(code.stream[place])

    def _check(self, row: npt.NDArray[np.float64], instruction: int, sweep: str) -> None:
        bad = np.isnan(row[: self.n])
        if not bad.any():
            return
        lane = int(bad.argmax())
        tape = self.program.tape
        sizes, _ = tape.runs_of(instruction)
        operands = [
            f"{tape.slot_name(slot, size)} = {self._shown(slot, size, lane)}"
            for slot, size in zip(tape.operands_of(instruction).tolist(), sizes, strict=True)
        ]
        name = tape.name.removeprefix(PULLBACK)
        if name != tape.name and sweep == "forward" and _follows_the_seed(tape, instruction):
            sweep = "reverse"
        raise FloatingPointError(
            f"NaN in the {sweep} sweep of {name} at gate {tape.op(instruction).name} "
            f"({tape.source(instruction)}){_sample(self.first_lane, lane)}: "
            f"{', '.join(operands)}"
        )

    def _shown(self, slot: int, size: int, lane: int) -> str:
        if size == 1:
            return repr(self._value(slot, lane))
        numbers = np.array([self._value(slot + k, lane) for k in range(size)])
        return np.array2string(numbers, threshold=6, edgeitems=2, separator=", ")

    def _value(self, slot: int, lane: int) -> float:
        if self.shared or not self.program.lane[slot]:
            return float(self.shared_values[self._place(slot), 0])
        return float(self.values[self.program.value_rows[slot], lane])


def _follows_the_seed(tape: Any, instruction: int) -> bool:
    """Whether an instruction of a pullback's tape depends on the seed, its last input."""
    flows = np.zeros(tape.n_slots, np.bool_)
    flows[tape.input_structure.bounds[-1][0] : tape.n_inputs] = True
    for i in range(instruction + 1):
        sizes, _ = tape.runs_of(i)
        runs = zip(tape.operands_of(i).tolist(), sizes, strict=True)
        reached = any(flows[slot : slot + size].any() for slot, size in runs)
        flows[tape.slots[i] : tape.slots[i + 1]] = reached
    return bool(flows[tape.slots[instruction]])


def _check_inputs(
    program: Program, values: Floats, rows: Ints, first_lane: int | None, n: int = 1
) -> None:
    for slot, row in enumerate(rows.tolist()):
        bad = np.isnan(values[row, :n]) if row >= 0 else np.zeros(1, np.bool_)
        if bad.any():
            name = program.tape.slot_name(slot)
            raise FloatingPointError(
                f"NaN in the input {name} of {program.tape.name}"
                f"{_sample(first_lane, int(bad.argmax()))}"
            )


def _sample(first_lane: int | None, lane: int) -> str:
    return "" if first_lane is None else f", sample {first_lane + lane}"
