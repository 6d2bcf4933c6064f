"""A tape made ready to run: which kernels run its instructions, and where their operands lie.

A program is made for one use of a tape: which inputs differ from lane to lane, and which inputs'
gradients are wanted. What does not depend on the lanes is *shared*: it lies at its slot in an
array of single numbers, and is computed once. The rest lies in rows of lanes. A shared value that
lanes read has a row of cotangents as well, which the batch sums over its lanes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow.engine.groups import Flags, Groups, kernels_of, singles
from tapeflow.engine.layout import place_cotangents, place_values, propagate
from tapeflow.engine.segments import Segments, cut, of_checkpoints
from tapeflow.jit import walk
from tapeflow.kernels.body import FORWARD, REVERSE, TURN, Body, Kernel
from tapeflow.kernels.compiler import addresses
from tapeflow.memory import address_of
from tapeflow.ops import FIRST_GATE, OPS
from tapeflow.structure import Ints
from tapeflow.tape import Tape

HEADER = 3
"""Entries before an instruction's record: its length, the two halves of its kernel's address."""


@dataclass(frozen=True)
class Code:
    """A stream of n instructions for the interpreter; ``instructions`` says which of the tape.

    The instruction of a kernel that runs several is the last of them.
    """

    stream: npt.NDArray[np.int32]
    instructions: Ints

    @cached_property
    def address(self) -> int:
        return address_of(self.stream)

    def __len__(self) -> int:
        return len(self.instructions)


class Program:
    """A tape with its kernels, for inputs that differ by lane and gradients that are wanted.

    lane, wanted: one flag for each input slot. reverse: whether there is a reverse sweep at all.
    fused: kernels run as many instructions as is worth it, and not one each. columns: the inputs
    whose gradients go to a column each; a fused program writes them there itself where it can,
    and flags those in ``direct``. most_rows: if there would be more rows, values and cotangents
    together, the reverse sweep computes some again (see `segments`).
    """

    def __init__(
        self,
        tape: Tape,
        lane: Flags,
        wanted: Flags,
        reverse: bool,
        fused: bool = False,
        columns: Flags | None = None,
        most_rows: int | None = None,
    ) -> None:
        self.tape, self.reverse, self.fused = tape, reverse, fused
        self.segmented = False
        self.direct = np.zeros(tape.n_slots, np.bool_)
        if columns is not None and fused and not self.has_python_gates:
            self.direct[: tape.n_inputs] = columns
        self._given = lane, wanted
        self._uses: list[_Use] = []
        first_result = int(tape.slots[0])
        self.lane = np.zeros(tape.n_slots, np.bool_)
        self.lane[: tape.n_inputs] = lane
        self.active = np.zeros(tape.n_slots, np.bool_)
        self.active[: tape.n_inputs] = wanted & reverse
        walk(
            propagate,
            len(tape),
            tape.starts,
            tape.operands,
            first_result,
            opaque(tape),
            self.lane,
            self.active,
        )
        lane_results = self.lane[first_result:]
        self.boundary = self._boundary(lane_results)
        everything = np.arange(len(tape))
        read = np.zeros(tape.n_slots, np.bool_)
        read[tape.outputs] = True
        # What all lanes share is run once a call: seldom worth a kernel of its own.
        shared = singles(tape, everything[~lane_results])
        lanes = self._groups(everything[lane_results], read)
        self._lay_out_rows(lanes, read)
        self._segments: Segments | None = None
        if reverse and not self.has_python_gates:
            self._cut(lanes, read, most_rows)
        self._shared_code(shared)
        self._lane_code(lanes)

    @property
    def kernels(self) -> list[Kernel]:
        """The kernels that the code calls."""
        return [kernel for use in self._uses for kernel in use.kernels]

    def load(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Load or compile the kernels and write their addresses into the code.

        Stops between two kernels, and says so with False, when ``stop`` does.
        """
        if self.fused:
            for kernel in self.kernels:
                if stop():
                    return False
                addresses([kernel])
        for use in self._uses:
            places = np.array(addresses(use.kernels), np.int64)[use.which]
            use.stream[use.at], use.stream[use.at + 1] = places.view(np.int32).reshape(-1, 2).T
        if self._uses:
            self.lane_reverse = _joined(self._reverse_codes)
            self._uses.clear()
        return True

    def _groups(self, instructions: Ints, read: Flags) -> Groups:
        """What runs together; ``read`` flags the slots that are read by others than these."""
        if self.fused:
            from tapeflow.engine.grouping import grouped

            return grouped(self.tape, instructions, self.lane, self.active, read)
        return singles(self.tape, instructions)

    def _boundary(self, lane_results: Flags) -> Ints:
        """The shared slots that a gradient flows to from the lanes."""
        if not lane_results.any():
            return np.empty(0, np.int64)
        read = self.tape.operands[np.repeat(lane_results, self.tape.arities)]
        return np.unique(read[~self.lane[read] & self.active[read]]).astype(np.int64)

    # Rows of lanes.

    def _lay_out_rows(self, lanes: Groups, read: Flags) -> None:
        """Give the lanes' values and cotangents rows, each for as long as it is needed."""
        tape, n = self.tape, len(self.tape)
        self.value_rows = np.full(tape.n_slots, -1, np.int64)
        inputs = np.flatnonzero(self.lane[: tape.n_inputs])
        self.value_rows[inputs] = np.arange(len(inputs))
        n_refs = len(lanes.operands) + len(lanes.exports) + 1
        n_value_rows = walk(
            place_values,
            n,
            *lanes.references,
            self.lane,
            read,
            np.full(tape.n_slots, -1, np.int64),
            not self.reverse,
            self.value_rows,
            np.zeros(n_refs, np.int64),
        )
        self.n_value_rows = int(n_value_rows)
        kept = np.zeros(tape.n_slots, np.bool_)
        kept[: tape.n_inputs] = self.lane[: tape.n_inputs] & self.active[: tape.n_inputs]
        kept[self.boundary] = True
        seeded, counts = np.unique(tape.outputs, return_counts=True)
        flowed = self.lane[seeded] & self.active[seeded]
        # Kept rows lie side by side in the order of their slots, after those of the seeds.
        rows = np.full(tape.n_slots, -1, np.int64)
        rows[kept] = -2 - int(flowed.sum()) - np.arange(kept.sum())
        rows[seeded[flowed]] = np.arange(flowed.sum())
        self.seeds = np.stack([np.arange(flowed.sum()), counts[flowed]], axis=1)
        self._runs = np.zeros(len(lanes), np.bool_)
        self._flowing = np.full(len(lanes.exports), -1, np.int64)
        self._operand_rows = np.full(len(lanes.operands), -1, np.int64)
        self._fresh = np.zeros(len(lanes.operands), np.bool_)
        n_rows = walk(
            place_cotangents,
            n,
            *lanes.references,
            self.active,
            rows,
            int(flowed.sum() + kept.sum()),
            self._runs,
            self._flowing,
            self._operand_rows,
            self._fresh,
            np.zeros(n_refs + len(seeded), np.int64),
        )
        without = np.flatnonzero(rows < -1)
        rows[without] = -2 - rows[without]
        self.zero_rows = rows[without]
        self.cotangent_rows, self.n_cotangent_rows = rows, int(n_rows)
        # A cotangent is direct if one kernel alone writes it, and nothing else.
        uses = np.bincount(lanes.operands[self._operand_rows >= 0], minlength=tape.n_slots)
        self.direct &= uses == 1
        self.direct[seeded] = self.direct[self.boundary] = False
        self.n_pointers = 1 + int(flowed.sum() + kept.sum()) if self.direct.any() else 0

    def _cut(self, lanes: Groups, read: Flags, most_rows: int | None) -> None:
        """Give the lanes' values rows by segments, where that is asked for."""
        n_inputs = int(self.lane[: self.tape.n_inputs].sum())
        if self.tape.checkpoints:
            self._segments = of_checkpoints(lanes, read, n_inputs)
            self.n_value_rows = self._segments.n_rows
        if most_rows is not None and self.n_value_rows + self.n_cotangent_rows > most_rows:
            self._segments = cut(lanes, read, n_inputs, most_rows - self.n_cotangent_rows)
            self.segmented = True
        if self._segments is not None:
            inputs = self.value_rows[: self.tape.n_inputs]
            self.value_rows, self.n_value_rows = self._segments.rows, self._segments.n_rows
            self.value_rows[: self.tape.n_inputs] = inputs

    def _lane_code(self, lanes: Groups) -> None:
        """The code over rows. The last group turns from forward to reverse in one kernel."""
        shared = ~self.lane[lanes.operands]
        places = np.where(shared, lanes.operands, self.value_rows[lanes.operands])
        results = self.value_rows[lanes.exports]
        every = np.arange(len(lanes))
        direct = self.direct[lanes.operands] & (self._operand_rows >= 0)
        refs = _Refs(
            places, results, shared, self._operand_rows, self._fresh, direct, self._flowing
        )
        turn = bool(
            self.fused and len(lanes) and self._runs[-1] and not lanes.has_python(len(lanes) - 1)
        )
        self.lane_forward = self._code(lanes, every[: len(every) - turn], FORWARD, True, refs)
        self._reverse_codes = []
        starts, again = [0, len(lanes)], [False]
        if self._segments is not None:
            starts, again = self._segments.starts.tolist(), self._segments.again.tolist()
        for k in reversed(range(len(again))):
            start, end = starts[k : k + 2]
            if again[k] and end < len(every):
                code = self._code(lanes, every[start:end], FORWARD, True, refs)
                self._reverse_codes.append(code)
            own = every[start:end][self._runs[start:end]][::-1]
            last = turn and k == len(again) - 1
            self._reverse_codes.append(self._code(lanes, own, REVERSE, True, refs, last))
        self.lane_reverse = _joined(self._reverse_codes)

    # Single numbers.

    def _shared_code(self, groups: Groups) -> None:
        """The code over single numbers, each at its slot."""
        slots, results = groups.operands, groups.exports
        none = np.zeros(len(slots), np.bool_)
        flows = self.active[results]
        refs = _Refs(
            slots,
            results,
            none,
            np.where(self.active[slots], slots, -1),
            none,
            none,
            np.where(flows, results, -1),
        )
        every = np.arange(len(groups))
        self.shared_forward = self._code(groups, every, FORWARD, False, refs)
        self.shared_reverse = self._code(groups, every[flows][::-1], REVERSE, False, refs)

    # Code.

    def _code(
        self,
        groups: Groups,
        chosen: Ints,
        sweep: str,
        lanes: bool,
        refs: "_Refs",
        turn: bool = False,
    ) -> Code:
        """Lay out the chosen groups in their order; with ``turn``, the first is a TURN."""
        own, reads = _expand(groups.export_starts, chosen), _expand(groups.operand_starts, chosen)
        n, arity = own.counts, reads.counts
        twice = 1 if sweep == FORWARD else 2
        lengths = HEADER + twice * (n + arity)
        starts = np.cumsum(lengths) - lengths
        stream = np.empty(int(lengths.sum()), np.int32)
        stream[starts] = lengths
        if len(chosen):
            kernels, which = self._kernels(groups, chosen, sweep, lanes, refs, turn)
            self._uses.append(_Use(stream, starts + 1, kernels, which))
        record = starts + HEADER
        stream[record[own.owner] + own.position] = refs.results[own.index]
        second = record + twice * n
        stream[second[reads.owner] + reads.position] = refs.places[reads.index]
        if sweep != FORWARD:
            stream[(record + n)[own.owner] + own.position] = refs.flowing[own.index]
            cotangents = (second + arity)[reads.owner] + reads.position
            stream[cotangents] = refs.cotangents[reads.index]
        return Code(stream, groups.last[chosen])

    def _kernels(
        self, groups: Groups, chosen: Ints, sweep: str, lanes: bool, refs: "_Refs", turn: bool
    ) -> tuple[list[Kernel], Ints]:
        """The kernels for groups, and which of them each one's is."""
        sets = {"shared": refs.shared}
        flowing = None
        if sweep != FORWARD:
            sets |= {
                "active": refs.cotangents >= 0,
                "fresh": refs.fresh,
                "direct": refs.direct,
            }
            flowing = refs.flowing >= 0

        def made(chosen: Ints, sweep: str) -> tuple[list[Kernel], Ints]:
            def make(body: Body, masks: dict[str, Any]) -> Kernel:
                keep = self.reverse and body.ops[0].python is not None
                return Kernel(body, sweep, lanes, keep=keep, **masks)

            return kernels_of(groups, chosen, sets, flowing, make)

        kernels, which = made(chosen[turn:], sweep)
        if turn:
            which = np.append(len(kernels), which)
            kernels += made(chosen[:1], TURN)[0]
        return kernels, which

    @property
    def unfused(self) -> "Program":
        """The same with a kernel for each instruction."""
        program = Program(self.tape, *self._given, self.reverse) if self.fused else self
        program.load()
        return program

    @property
    def has_python_gates(self) -> bool:
        return any(gate.python is not None for gate in self.tape.gates)


def _joined(codes: Sequence[Code]) -> Code:
    """Codes one after the other."""
    if len(codes) == 1:
        return codes[0]
    streams = [code.stream for code in codes]
    return Code(np.concatenate(streams), np.concatenate([code.instructions for code in codes]))


@dataclass(frozen=True)
class _Use:
    """Kernels whose addresses go into a stream: for entry k at at[k], that of which[k]."""

    stream: npt.NDArray[np.int32]
    at: Ints
    kernels: list[Kernel]
    which: Ints


@dataclass(frozen=True)
class _Refs:
    """Where groups' operands and exports lie, one entry for each: places, rows of cotangents."""

    places: Ints
    results: Ints
    shared: Flags
    cotangents: Ints
    fresh: Flags
    direct: Flags
    flowing: Ints


@dataclass(frozen=True)
class _Expanded:
    """The entries of chosen groups: how many each has, whose, which of its, and their indices."""

    counts: Ints
    owner: Ints
    position: Ints
    index: Ints


def _expand(starts: Ints, chosen: Ints) -> _Expanded:
    counts = starts[chosen + 1] - starts[chosen]
    owner = np.repeat(np.arange(len(chosen)), counts)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return _Expanded(counts, owner, position, starts[chosen][owner] + position)


_OPAQUE = {op.opcode for op in OPS if op.zero_derivative}


def opaque(tape: Tape) -> Flags:
    """Which instructions no gradient passes."""
    flags = np.zeros(FIRST_GATE + len(tape.gates), np.bool_)
    flags[list(_OPAQUE)] = True
    return flags[tape.opcodes]
