"""A tape made ready to run: which kernel runs each instruction, and where its operands lie.

A program is made for one use of a tape: which inputs differ from lane to lane, and which inputs'
gradients are wanted. What does not depend on the lanes is *shared*: it lies at its slot in an
array of single numbers, and is computed once. The rest lies in rows of lanes. A shared value that
lanes read has a row of cotangents as well, which the batch sums over its lanes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapeflow.kernels.compiler import Kernel, addresses
from tapeflow.ops import FIRST_GATE, OPS
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape

Flags = npt.NDArray[np.bool_]

_HEADER = 3  # an instruction's length and the two halves of its kernel's address


@dataclass(frozen=True)
class Code:
    """A stream of n instructions for the interpreter; ``instructions`` says which of the tape."""

    stream: npt.NDArray[np.int32]
    instructions: Ints

    @property
    def address(self) -> int:
        return self.stream.ctypes.data

    def __len__(self) -> int:
        return len(self.instructions)


class Program:
    """A tape with its kernels, for inputs that differ by lane and gradients that are wanted.

    lane, wanted: one flag for each input slot. reverse: whether there is a reverse sweep at all.
    """

    def __init__(self, tape: Tape, lane: Flags, wanted: Flags, reverse: bool) -> None:
        self.tape = tape
        self.reverse = reverse
        first_result = int(tape.slots[0])
        self.lane = np.zeros(tape.n_slots, np.bool_)
        self.lane[: tape.n_inputs] = lane
        self.active = np.zeros(tape.n_slots, np.bool_)
        self.active[: tape.n_inputs] = wanted & reverse
        _propagate(tape.starts, tape.operands, first_result, _opaque(tape), self.lane, self.active)
        lane_results = self.lane[first_result:]
        self.boundary = self._boundary(lane_results)
        self.places = np.arange(tape.n_slots)
        self.n_places = tape.n_slots
        self.value_rows, self.n_value_rows = _number(self.lane)
        with_cotangent = self.lane & self.active
        with_cotangent[self.boundary] = True
        self.cotangent_rows, self.n_cotangent_rows = _number(with_cotangent)
        everything = np.arange(len(tape))
        active_results = self.active[first_result:]
        self.shared_forward = self._code(everything[~lane_results], False, False)
        self.lane_forward = self._code(everything[lane_results], False, True)
        self.shared_reverse = self._code(everything[active_results & ~lane_results], True, False)
        self.lane_reverse = self._code(everything[active_results & lane_results], True, True)

    def _boundary(self, lane_results: Flags) -> Ints:
        """The shared slots that a gradient flows to from the lanes."""
        if not lane_results.any():
            return np.empty(0, np.int64)
        read = self.tape.operands[np.repeat(lane_results, self.tape.arities)]
        return np.unique(read[~self.lane[read] & self.active[read]]).astype(np.int64)

    def _code(self, instructions: Ints, reverse: bool, lanes: bool) -> Code:
        """Lay out the given instructions, the last first for a reverse sweep."""
        tape = self.tape
        if reverse:
            instructions = instructions[::-1]
        arity = tape.arities[instructions]
        owner = np.repeat(np.arange(len(instructions)), arity)
        position = np.arange(len(owner)) - np.repeat(np.cumsum(arity) - arity, arity)
        slots = tape.operands[np.repeat(tape.starts[instructions], arity) + position]
        shared = _masks(owner, position, ~self.lane[slots] & lanes, len(arity))
        active = _masks(owner, position, self.active[slots] & reverse, len(arity))
        kernels = self._kernels(tape.opcodes[instructions], shared, active, reverse, lanes)
        results = tape.slots[instructions]
        places = np.where(self.lane[slots], self.value_rows[slots], slots) if lanes else slots
        lengths = _HEADER + (2 + 2 * arity if reverse else 1 + arity)
        starts = np.cumsum(lengths) - lengths
        stream = np.empty(int(lengths.sum()), np.int32)
        stream[starts] = lengths
        halves = kernels.view(np.int32).reshape(-1, 2)
        stream[starts + 1], stream[starts + 2] = halves[:, 0], halves[:, 1]
        record = starts + _HEADER
        stream[record] = self.value_rows[results] if lanes else results
        if reverse:
            stream[record + 1] = self.cotangent_rows[results] if lanes else results
            stream[record[owner] + 2 + position] = places
            cotangents = self.cotangent_rows[slots] if lanes else slots
            stream[record[owner] + 2 + arity[owner] + position] = cotangents
        else:
            stream[record[owner] + 1 + position] = places
        return Code(stream, instructions)

    def _kernels(
        self,
        opcodes: npt.NDArray[np.uint16],
        shared: Ints,
        active: Ints,
        reverse: bool,
        lanes: bool,
    ) -> Ints:
        """The address of each instruction's kernel, compiling those that are new."""
        keys = (opcodes.astype(np.int64) << 32) | (shared << 16) | active
        unique, inverse = np.unique(keys, return_inverse=True)
        kernels = []
        for key in unique.tolist():
            opcode = key >> 32
            op = (
                self.tape.gates[opcode - FIRST_GATE] if opcode >= FIRST_GATE else _BY_OPCODE[opcode]
            )
            keep = self.reverse and op.python is not None
            kernels.append(Kernel(op, reverse, lanes, (key >> 16) & 0xFFFF, key & 0xFFFF, keep))
        return np.array(addresses(kernels), np.int64)[inverse]

    @property
    def unfused(self) -> "Program":
        """The same with a kernel for each instruction: as it is."""
        return self

    @property
    def has_python_gates(self) -> bool:
        return any(gate.python is not None for gate in self.tape.gates)


_BY_OPCODE = {op.opcode: op for op in OPS}
_OPAQUE = {op.opcode for op in OPS if op.zero_derivative}


_SHORT = 1000
"""Instructions up to which Python is faster than loading a compiled function."""


def _propagate(
    starts: Ints,
    operands: npt.NDArray[np.int32],
    first_result: int,
    opaque: Flags,
    lane: Flags,
    active: Flags,
) -> None:
    """Mark the results that differ by lane, and those that a gradient flows through.

    ``lane`` and ``active`` hold one flag a slot, set for inputs and constants; ``opaque`` says
    which instructions no gradient passes.
    """
    if len(opaque) > _SHORT:
        from tapeflow.blocks import propagate

        propagate(starts, operands, first_result, opaque, lane, active)
        return
    places, lanes, actives = operands.tolist(), lane.tolist(), active.tolist()
    bounds = starts.tolist()
    for i, blocked in enumerate(opaque.tolist()):
        own = places[bounds[i] : bounds[i + 1]]
        lanes[first_result + i] = any(lanes[slot] for slot in own)
        actives[first_result + i] = not blocked and any(actives[slot] for slot in own)
    lane[:], active[:] = lanes, actives


def _opaque(tape: Tape) -> Flags:
    flags = np.zeros(FIRST_GATE + len(tape.gates), np.bool_)
    flags[list(_OPAQUE)] = True
    return flags[tape.opcodes]


def _number(wanted: Flags) -> tuple[Ints, int]:
    """The rank of each wanted slot among them (others have none), and their count."""
    ranks = np.cumsum(wanted) - 1
    return np.where(wanted, ranks, -1), int(wanted.sum())


def _masks(owner: Ints, position: Ints, flags: Flags, n: int) -> Ints:
    """The flags of each instruction's operands as the bits of one number."""
    return np.bincount(owner, np.where(flags, 1 << position, 0), n).astype(np.int64)


def aligned(shape: int | Sequence[int]) -> Floats:
    """An uninitialised array that starts at a cache line."""
    size = int(np.prod(shape)) * 8
    buffer = np.empty(size + 64, np.uint8)
    offset = -buffer.ctypes.data % 64
    return buffer[offset : offset + size].view(np.float64).reshape(shape)
