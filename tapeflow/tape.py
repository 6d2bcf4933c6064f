"""The tape: a recorded function as flat, read-only arrays.

A tape computes in *slots*, each one float64. The inputs' slots come first, then the constants',
then those of the instructions' results in order, so an instruction only reads slots below its own.
A value is a run of slots: one of a number, many of an array. An instruction with arrays has
parameters, which say how long its operands' runs are and how they are folded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import indent
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tapeflow import grid
from tapeflow.arrays import SubTapes
from tapeflow.errors import TapeError
from tapeflow.guards import NONE, Guards
from tapeflow.methods import Methods
from tapeflow.ops import BY_OPCODE, FIRST_GATE, OPS, Op
from tapeflow.structure import Floats, Structure
from tapeflow.verification import verify

MAX_SLOTS = 2**31 - 1
"""Slots are numbered by 32-bit integers: half the memory traffic of the interpreter's operands."""


class Location(NamedTuple):
    """Where an instruction was recorded: the user's file, line and function."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{self.line}"


@dataclass(frozen=True, eq=False, repr=False)
class Tape(Methods):
    """A recorded function; make one with ``tpf.record``.

    Arrays (all read-only copies; n instructions):

    - opcodes: uint16 (n,)
    - starts: int32 (n + 1,); instruction i's operands are operands[starts[i]:starts[i + 1]]
    - operands: int32; the first slot of each operand's run
    - slots: int32 (n + 1,); instruction i's result fills slots slots[i] to slots[i + 1] - 1
    - constants: float64; they follow the inputs' slots
    - outputs: int32; the slot of each number of the result
    - locations: (n,), of the shortest unsigned integers that hold an index into ``sources``
    - parameters: int64, and parameter_starts: int32 (n + 1,); instruction i's parameters, if it
      works on arrays, are parameters[parameter_starts[i]:parameter_starts[i + 1]]

    Making one verifies it: the compiled sweeps check no bounds. Raises TapeError.
    """

    name: str
    opcodes: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.int32]
    operands: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int32]
    constants: Floats
    outputs: npt.NDArray[np.int32]
    locations: npt.NDArray[np.unsignedinteger[Any]]
    parameters: npt.NDArray[np.int64]
    parameter_starts: npt.NDArray[np.int32]
    sources: tuple[Location, ...]
    input_structure: Structure
    output_structure: Structure
    input_names: tuple[str, ...]
    gates: tuple[Op, ...] = ()
    checkpoints: tuple[tuple[int, int], ...] = ()
    """Runs of instructions, first to last + 1, that a reverse sweep may compute again."""
    guards: Guards = NONE
    """What the function's branches were decided by where it was recorded, and how."""
    prepared: dict[Any, Any] = field(default_factory=dict, init=False)
    """What the layers above have made of the tape, to be made only once."""

    def __post_init__(self) -> None:
        for name, dtype in ARRAYS.items():
            array = _kept(getattr(self, name), dtype)
            if array.ndim != 1:
                raise TapeError(f"a tape's {name} must be one-dimensional, not {array.ndim}-d")
            object.__setattr__(self, name, array)
        if not len(self.parameters) and not self.parameter_starts.any():
            nothing = np.broadcast_to(np.int32(0), self.parameter_starts.shape)
            object.__setattr__(self, "parameter_starts", nothing)
        object.__setattr__(self, "locations", _located(self.locations, len(self.sources)))
        verify(self)

    @property
    def n_inputs(self) -> int:
        """Slots of the inputs."""
        return self.input_structure.size

    @property
    def n_slots(self) -> int:
        return int(self.slots[-1])

    @cached_property
    def first_slots(self) -> npt.NDArray[np.int64]:
        """The first slot of each leaf of the inputs, and of the constants."""
        ends = [last for _, last in self.input_structure.bounds]
        return np.array([0, *ends], np.int64)

    @property
    def arities(self) -> npt.NDArray[np.int32]:
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
        return self.op_of(int(self.opcodes[instruction]))

    def op_of(self, opcode: int) -> Op:
        return self.gates[opcode - FIRST_GATE] if opcode >= FIRST_GATE else BY_OPCODE[opcode]

    def operands_of(self, instruction: int) -> npt.NDArray[np.int32]:
        return self.operands[self.starts[instruction] : self.starts[instruction + 1]]

    def source(self, instruction: int) -> Location:
        return self.sources[int(self.locations[instruction])]

    def parameters_of(self, instruction: int) -> npt.NDArray[np.int64]:
        bounds = self.parameter_starts[instruction : instruction + 2]
        return self.parameters[bounds[0] : bounds[1]]

    def runs_of(self, instruction: int) -> tuple[tuple[int, ...], int]:
        """The length of each operand's run, and of the result's. ValueError for bad parameters."""
        op, parameters = self.op(instruction), self.parameters_of(instruction)
        if op.array is not None:
            return op.array.sizes(parameters.tolist())
        if not len(parameters):
            return (1,) * op.arity, 1
        return grid.extents(parameters, op.arity)

    @cached_property
    def numbers_only(self) -> bool:
        """Whether every instruction works on single numbers, by kernels of our own."""
        return (
            not len(self.parameters)
            and not any(gate.array is not None for gate in self.gates)
            and not any(opcode in _NEED_ARRAYS for opcode in np.unique(self.opcodes).tolist())
        )

    def slot_name(self, slot: int, size: int = 1) -> str:
        """A slot as a person would call it: its argument, its constant, or ``v`` and a number.

        size: how many numbers there are, from that slot on; of none, the slot says nothing.
        """
        if size == 0:
            return "[]"
        if slot < self.n_inputs:
            k = int(
                np.searchsorted([last for _, last in self.input_structure.bounds], slot, "right")
            )
            leaf, (first, _) = self.input_structure.leaves[k], self.input_structure.bounds[k]
            return self.input_names[k] + _place(slot - first, size, leaf.shape or ())
        first_result = int(self.slots[0])
        if slot < first_result:
            if size > 1:
                return f"constant[{size}]"
            return format(self.constants[slot - self.n_inputs], ".6g")
        i = int(np.searchsorted(self.slots, slot, "right")) - 1
        run = int(self.slots[i + 1] - self.slots[i])
        return f"v{i}" + _place(slot - int(self.slots[i]), size, () if run == 1 else (run,))

    def disassemble(self) -> str:
        """The instructions as text, one a line, each with the source line that recorded it.

        >>> print(tpf.record(lambda x: x * x + 1.0, 3.0).disassemble())
        v0 = mul x x  # ...
        v1 = add v0 1  # ...
        return v1

        The tapes that a loop or a branch carries follow it, indented.
        """
        lines = [
            f"v{i} = {self.op(i).name} {' '.join(self.operand_names(i))}  # {self.source(i)}"
            + self._carried(i)
            for i in range(len(self))
        ]
        for k in reversed(range(len(self.guards))):
            lines.insert(int(self.guards.after[k]), f"guard {self.guard_name(k)}")
        results = []
        for slots in np.split(self.outputs, [last for _, last in self.output_structure.bounds]):
            whole = len(slots) > 1 and bool((np.diff(slots) == 1).all())
            results += (
                [self.slot_name(int(slots[0]), len(slots))]
                if whole
                else [self.slot_name(slot) for slot in slots.tolist()]
            )
        return "\n".join([*lines, "return " + " ".join(results)])

    def _carried(self, instruction: int) -> str:
        """The tapes that an instruction carries, as indented text."""
        rule = self.op(instruction).array
        if not isinstance(rule, SubTapes):
            return ""
        texts = [
            f"{tape.name}({', '.join(tape.input_names)}):\n{indent(tape.disassemble(), '  ')}"
            for tape in rule.tapes
        ]
        return "".join("\n" + indent(text, "  ") for text in texts)

    def guard_name(self, k: int) -> str:
        """A guard as a person would write it, with its line: ``v3 == 1  # f.py:12``."""
        guards = self.guards
        name, line = self.slot_name(int(guards.slots[k])), self.sources[int(guards.locations[k])]
        return f"{name} == {guards.expected[k]:.17g}  # {line}"

    def operand_names(self, instruction: int) -> list[str]:
        """The operands of an instruction, as a person would call them."""
        sizes, _ = self.runs_of(instruction)
        slots = self.operands_of(instruction).tolist()
        return [self.slot_name(slot, size) for slot, size in zip(slots, sizes, strict=True)]

    def __copy__(self) -> "Tape":
        return self  # nothing of it changes

    def __deepcopy__(self, memo: Any) -> "Tape":
        return self


ARRAYS: dict[str, type[np.generic]] = {
    "opcodes": np.uint16,
    "starts": np.int32,
    "operands": np.int32,
    "slots": np.int32,
    "constants": np.float64,
    "outputs": np.int32,
    "parameters": np.int64,
    "parameter_starts": np.int32,
}
"""The fields that are arrays, and of which numbers; ``locations`` are of several kinds."""

_NEED_ARRAYS = frozenset(op.opcode for op in OPS if op.array is not None or op.host)


def _place(first: int, size: int, shape: tuple[int, ...]) -> str:
    """Numbers of an array by index, as Python would write it: nothing for all of them."""
    total = int(np.prod(shape, dtype=np.int64))
    if not shape or size == total != 1:
        return ""
    if size == 1:
        return f"[{', '.join(str(int(k)) for k in np.unravel_index(first, shape))}]"
    return f"[{first}:{first + size}]" if len(shape) == 1 else f".flat[{first}:{first + size}]"


def _kept(given: Any, dtype: Any) -> Any:
    """A read-only array with the given numbers: a copy, unless nobody can write to it already."""
    array = np.asarray(given)
    own = array.base is None and not array.flags.writeable and array.flags.c_contiguous
    if not own or array.dtype != dtype:
        array = np.array(array, dtype, order="C")
        array.setflags(write=False)
    return array


def _located(given: Any, n_sources: int) -> Any:
    """Indices of source lines, in the shortest integers that hold them."""
    array = np.asarray(given)
    if array.ndim != 1 or (len(array) and not 0 <= array.min() <= array.max() < n_sources):
        raise TapeError("an instruction names a source line that the tape does not have")
    return _kept(array, np.min_scalar_type(n_sources))


def concatenated(parts: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Operand lists end to end, and where each starts: the ``operands`` and ``starts`` arrays."""
    starts = [0]
    operands: list[int] = []
    for part in parts:
        operands.extend(part)
        starts.append(len(operands))
    return operands, starts
