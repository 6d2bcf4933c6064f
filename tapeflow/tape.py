"""The tape: a recorded function as flat, read-only arrays.

A tape computes in *slots*, each one float64. The inputs' slots come first, then the constants',
then those of the instructions' results in order, so an instruction only reads slots below its own.
A value is a run of slots; every op so far makes a run of one, a scalar.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from tapeflow.errors import TapeError
from tapeflow.ops import BY_OPCODE, FIRST_GATE, Op
from tapeflow.structure import Floats, Structure

MAX_SLOTS = 2**31 - 1
"""Slots are numbered by 32-bit integers: half the memory traffic of the interpreter's operands."""


class Location(NamedTuple):
    """Where an instruction was recorded: the user's file, line and function."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{self.line}"


class Evaluator(Protocol):
    """What runs tapes. The layer above provides it (see ``api.py``), so this one stays below."""

    def call(self, tape: "Tape", args: tuple[Any, ...]) -> Any: ...
    def value_and_grad(self, tape: "Tape", args: tuple[Any, ...]) -> tuple[Any, Any]: ...
    def forward(self, tape: "Tape", args: tuple[Any, ...]) -> Any: ...
    def backward(self, tape: "Tape", seed: Any) -> Any: ...
    def table(self, tape: "Tape") -> Any: ...


@dataclass(frozen=True, eq=False, repr=False)
class Tape:
    """A recorded function; make one with ``tpf.record``.

    Arrays (all read-only copies; n instructions):

    - opcodes: uint16 (n,)
    - starts: int64 (n + 1,); instruction i's operands are operands[starts[i]:starts[i + 1]]
    - operands: int32; the first slot of each operand's run
    - slots: int32 (n + 1,); instruction i's result fills slots slots[i] to slots[i + 1] - 1
    - constants: float64; they follow the inputs' slots
    - outputs: int32; the slot of each number of the result
    - locations: int32 (n,); an index into ``sources``

    Making one verifies it: the compiled sweeps check no bounds. Raises TapeError.
    """

    name: str
    opcodes: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.int64]
    operands: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int32]
    constants: Floats
    outputs: npt.NDArray[np.int32]
    locations: npt.NDArray[np.int32]
    sources: tuple[Location, ...]
    input_structure: Structure
    output_structure: Structure
    input_names: tuple[str, ...]
    gates: tuple[Op, ...] = ()
    prepared: dict[Any, Any] = field(default_factory=dict, init=False)
    """What the layers above have made of the tape, to be made only once."""

    evaluator: ClassVar[Evaluator]

    def __post_init__(self) -> None:
        for name, dtype in _ARRAYS.items():
            array = np.array(getattr(self, name), dtype=dtype, order="C", copy=True)
            if array.ndim != 1:
                raise TapeError(f"a tape's {name} must be one-dimensional, not {array.ndim}-d")
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        verify(self)

    @property
    def n_inputs(self) -> int:
        """Slots of the inputs."""
        return self.input_structure.size

    @property
    def n_slots(self) -> int:
        return int(self.slots[-1])

    @cached_property
    def arities(self) -> npt.NDArray[np.int64]:
        return np.diff(self.starts)

    def __len__(self) -> int:
        """The number of instructions."""
        return len(self.opcodes)

    def __repr__(self) -> str:
        return (
            f"<tapeflow.Tape {self.name}: {self.n_inputs} inputs, "
            f"{len(self)} instructions, {len(self.outputs)} outputs>"
        )

    def op(self, instruction: int) -> Op:
        opcode = int(self.opcodes[instruction])
        return self.gates[opcode - FIRST_GATE] if opcode >= FIRST_GATE else BY_OPCODE[opcode]

    def operands_of(self, instruction: int) -> npt.NDArray[np.int32]:
        return self.operands[self.starts[instruction] : self.starts[instruction + 1]]

    def source(self, instruction: int) -> Location:
        return self.sources[int(self.locations[instruction])]

    def slot_name(self, slot: int) -> str:
        """A slot as a person would call it: its argument, its constant, or ``v`` and a number."""
        first_constant, first_result = self.n_inputs, int(self.slots[0])
        if slot < first_constant:
            return self.input_names[slot]
        if slot < first_result:
            return format(self.constants[slot - first_constant], ".6g")
        return f"v{slot - first_result}"

    def disassemble(self) -> str:
        """The instructions as text, one a line, each with the source line that recorded it.

        >>> print(tpf.record(lambda x: x * x + 1.0, 3.0).disassemble())
        v0 = mul x x  # ...
        v1 = add v0 1  # ...
        return v1
        """
        lines = [
            f"{self.slot_name(int(self.slots[i]))} = {self.op(i).name} "
            f"{' '.join(self.slot_name(int(slot)) for slot in self.operands_of(i))}"
            f"  # {self.source(i)}"
            for i in range(len(self))
        ]
        return "\n".join([*lines, "return " + " ".join(map(self.slot_name, self.outputs.tolist()))])

    # The lecture's computational graph, and one-sample evaluation, by the layers above.

    def __call__(self, *args: Any) -> Any:
        """The recorded function's value at other arguments of the same structure and shapes."""
        return self.evaluator.call(self, args)

    def value_and_grad(self, *args: Any) -> tuple[Any, Any]:
        """The value and the gradient in every argument, for a tape with one number as result.

        Returns ``(value, gradient)``; the gradient has the structure of the argument, or is a
        tuple with one for each argument where there are several. Raises StructureError for
        arguments of another structure or shape than recorded, and for a result that is not one
        number.

        >>> tpf.record(lambda x, y: x * y, 1.0, 1.0).value_and_grad(3.0, 4.0)
        (12.0, (4.0, 3.0))
        """
        return self.evaluator.value_and_grad(self, args)

    def forward(self, *inputs: Any) -> Any:
        """Run every gate at these inputs, keep each one's value for `backward`, give the output.

        The values are kept for the calling thread alone.
        """
        return self.evaluator.forward(self, inputs)

    def backward(self, seed: Any = 1.0) -> Any:
        """The gradients of the inputs, from the values that the last `forward` kept.

        seed: the gradient that flows into the output, in the output's structure. Returns one
        gradient for one argument, and a tuple for several. Raises RuntimeError before `forward`.

        >>> tape = tpf.record(lambda x, y: x * y, 1.0, 1.0)
        >>> tape.forward(3.0, 4.0), tape.backward()
        (12.0, (4.0, 3.0))
        """
        return self.evaluator.backward(self, seed)

    def table(self) -> Any:
        """Print and return the Wengert list: each gate, its operands, value and gradient.

        Values and gradients are those of the last `forward` and `backward` in this thread.
        """
        return self.evaluator.table(self)


_ARRAYS: dict[str, type[np.generic]] = {
    "opcodes": np.uint16,
    "starts": np.int64,
    "operands": np.int32,
    "slots": np.int32,
    "constants": np.float64,
    "outputs": np.int32,
    "locations": np.int32,
}


def verify(tape: Tape) -> None:
    """Raise TapeError unless every instruction reads and writes only slots that it may."""
    n = len(tape.opcodes)
    first_result = tape.n_inputs + len(tape.constants)
    if len(tape.slots) != n + 1 or len(tape.starts) != n + 1 or len(tape.locations) != n:
        raise TapeError(f"a tape of {n} instructions has arrays of other lengths")
    if tape.slots[0] != first_result:
        raise TapeError(
            f"results start at slot {tape.slots[0]}, but inputs and constants fill {first_result}"
        )
    sizes = np.diff(tape.slots.astype(np.int64))
    _first_wrong(tape, sizes != 1, "does not have one slot for its result")
    _verify_opcodes(tape)
    _verify_operands(tape)
    if len(tape.outputs) != tape.output_structure.size:
        raise TapeError(
            f"{len(tape.outputs)} outputs for a result of {tape.output_structure.size} numbers"
        )
    if len(tape.outputs) and not 0 <= tape.outputs.min() <= tape.outputs.max() < tape.n_slots:
        raise TapeError("an output names a slot that the tape does not have")
    if n and not 0 <= tape.locations.min() <= tape.locations.max() < len(tape.sources):
        raise TapeError("an instruction names a source line that the tape does not have")
    if len(tape.input_names) != tape.n_inputs:
        raise TapeError(f"{len(tape.input_names)} names for {tape.n_inputs} inputs")


def _verify_opcodes(tape: Tape) -> None:
    if tape.starts[0] != 0 or tape.starts[-1] != len(tape.operands):
        raise TapeError("the instructions do not use exactly the operands there are")
    arities = np.full(FIRST_GATE + len(tape.gates), -1, np.int64)
    for op in BY_OPCODE.values():
        arities[op.opcode] = op.arity
    arities[FIRST_GATE:] = [gate.arity for gate in tape.gates]
    if len(tape) and tape.opcodes.max() >= len(arities):
        raise TapeError(f"unknown opcode {tape.opcodes.max()}")
    expected = arities[tape.opcodes]
    _first_wrong(tape, expected < 0, "has an unknown opcode")
    _first_wrong(tape, expected != tape.arities, "has the wrong number of operands")


def _verify_operands(tape: Tape) -> None:
    owner = np.repeat(np.arange(len(tape)), tape.arities)
    bad = (tape.operands < 0) | (tape.operands >= tape.slots[owner])
    if bad.any():
        i = int(owner[bad.argmax()])
        raise TapeError(f"instruction {i} reads a slot that is not below its own")


def _first_wrong(tape: Tape, wrong: npt.NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        i = int(wrong.argmax())
        raise TapeError(f"instruction {i} (opcode {tape.opcodes[i]}) {what}")


def concatenated(parts: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Operand lists end to end, and where each starts: the ``operands`` and ``starts`` arrays."""
    starts = [0]
    operands: list[int] = []
    for part in parts:
        operands.extend(part)
        starts.append(len(operands))
    return operands, starts
