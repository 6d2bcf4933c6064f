"""A tape of numbers made ready to run on one sample at a time: as threaded code.

The code is the tape itself: its operands, and for each instruction the number of a kernel forward,
and of one in reverse. Results lie in their order, so that no instruction says where its own goes.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tapeflow.engine.groups import Flags, Groups, kernels_of
from tapeflow.engine.layout import mark_active, propagate
from tapeflow.engine.program import opaque
from tapeflow.jit import walk
from tapeflow.kernels.body import FORWARD, HALT, REVERSE, TURN, Kernel, body_of
from tapeflow.kernels.compiler import addresses
from tapeflow.structure import Ints
from tapeflow.tape import Tape

MOST = 2**16
"""Kernels that one code can have: they are numbered by 16 bits."""

_CHUNK = 1 << 16
"""Instructions looked at together: what is needed on the way stays small on a long tape."""


class ThreadedProgram:
    """A tape with its kernels for one sample, and gradients of the wanted inputs.

    wanted: one flag for each input slot. reverse: whether there is a reverse sweep at all. fused:
    kernels run as many instructions as is worth it, and not one each.

    operands: int32, places of numbers. forward, reverse_ids: uint16, in the order in which they
    run. table: int64, the kernels' addresses once they are loaded. outputs: int32, places. places:
    of each slot, -1 for none; where gates in Python may raise, as errors tell them by it.
    """

    def __init__(self, tape: Tape, wanted: Flags, reverse: bool, fused: bool = False) -> None:
        self.tape, self.reverse = tape, reverse
        self.kernels: list[Kernel] = [HALT]
        self._numbers: dict[Kernel, int] = {HALT: 0}
        active = np.zeros(tape.n_slots, np.bool_)
        active[: tape.n_inputs] = wanted & reverse
        n, first = len(tape), int(tape.slots[0])
        lane = np.zeros(tape.n_slots, np.bool_)
        walk(propagate, n, tape.starts, tape.operands, first, opaque(tape), lane, active)
        del lane
        self.fused = fused and n > 0 and self._fuse(active)
        if not self.fused:
            self._thread(active)
        self.table = np.zeros(len(self.kernels), np.int64)
        self._loaded = False

    def load(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Load or compile the kernels.

        Stops between two kernels, and says so with False, when ``stop`` does.
        """
        if not self._loaded:
            for kernel in self.kernels if self.fused else ():
                if stop():
                    return False
                addresses([kernel])
            self.table[:] = addresses(self.kernels)
            self._loaded = True
        return True

    @property
    def has_python_gates(self) -> bool:
        return any(gate.python is not None for gate in self.tape.gates)

    def __len__(self) -> int:
        """How many kernels run, in both directions."""
        return len(self.forward) + (len(self.reverse_ids) if self.reverse else 0)

    # A kernel for each instruction.

    def _thread(self, active: Flags) -> None:
        tape, n = self.tape, len(self.tape)
        self.n_places, self.operands, self.outputs = tape.n_slots, tape.operands, tape.outputs
        if self.has_python_gates:
            self.places = np.arange(tape.n_slots)
        self.forward = np.zeros(n + 1, np.uint16)
        self.reverse_ids = np.zeros(n + 1 if self.reverse else 0, np.uint16)
        for start in range(0, n, _CHUNK):
            end = min(start + _CHUNK, n)
            codes = tape.opcodes[start:end].astype(np.int64)
            self.forward[start:end] = self._numbered(codes, FORWARD)
            if self.reverse:
                # A set bit for each operand that a gradient flows to, if it flows at all.
                marks = np.zeros(end - start, np.int64)
                flows = active[tape.slots[start] : tape.slots[end]]
                offsets = tape.starts[start : end + 1]
                walk(mark_active, n, offsets, tape.operands, active, flows, marks)
                ids = self._numbered(codes | marks << 16, REVERSE)
                self.reverse_ids[n - end : n - start] = ids[::-1]

    def _numbered(self, kinds: Ints, sweep: str) -> npt.NDArray[np.uint16]:
        """The number of each instruction's kernel, by its opcode and the operands' bits."""
        found, which = np.unique(kinds, return_inverse=True)
        numbers = []
        for kind in found.tolist():
            op, active = self.tape.op_of(kind & 0xFFFF), kind >> 16
            keep = self.reverse and op.python is not None
            kernel = Kernel(
                body_of(op),
                sweep,
                lanes=False,
                active=active,
                flowing=int(active > 0),
                keep=keep,
                threaded=True,
            )
            numbers.append(self._number(kernel))
        return np.array(numbers, np.uint16)[which]

    def _number(self, kernel: Kernel) -> int:
        number = self._numbers.setdefault(kernel, len(self.kernels))
        if number == len(self.kernels):
            self.kernels.append(kernel)
        return number

    # A kernel for many.

    def _fuse(self, active: Flags) -> bool:
        """Lay out kernels for many instructions, unless there would be too many of them."""
        from tapeflow.engine.grouping import grouped

        tape = self.tape
        read = np.zeros(tape.n_slots, np.bool_)
        read[tape.outputs] = True
        lane = np.zeros(tape.n_slots, np.bool_)
        groups = grouped(tape, np.arange(len(tape)), lane, active, read)
        # What a kernel keeps to itself has no place.
        used = lane
        used[: tape.slots[0]] = True
        used[groups.exports] = True
        places = np.cumsum(used, dtype=np.int32) - np.int32(1)
        flowing = active[groups.exports]
        marks = active[groups.operands]
        last = len(groups) - 1
        turn = self.reverse and bool(flowing[groups.export_starts[last] :].any())
        turn = turn and not groups.has_python(last)
        every = np.arange(len(groups))
        forward = self._kernels(groups, every[: len(every) - turn], FORWARD, marks, flowing)
        back = every[::-1]
        reverse = self._kernels(groups, back[:turn], TURN, marks, flowing)
        reverse += self._kernels(groups, back[turn:], REVERSE, marks, flowing)
        if len(self.kernels) > MOST:
            self.kernels, self._numbers = [HALT], {HALT: 0}
            return False
        if self.has_python_gates:
            self.places = np.where(used, places, -1)
        self.n_places, self.outputs = int(used.sum()), places[tape.outputs]
        self.operands = places[groups.operands]
        self.forward = np.array([*forward, 0], np.uint16)
        self.reverse_ids = np.array([*reverse, 0] if self.reverse else [], np.uint16)
        return True

    def _kernels(
        self, groups: Groups, chosen: Ints, sweep: str, active: Flags, flowing: Flags
    ) -> list[int]:
        """The numbers of the kernels that run the chosen groups."""
        if not len(chosen) or not (self.reverse or sweep == FORWARD):
            return []
        sets = {} if sweep == FORWARD else {"active": active}
        kernels, which = kernels_of(
            groups,
            chosen,
            sets,
            None if sweep == FORWARD else flowing,
            lambda body, masks: Kernel(
                body,
                sweep,
                lanes=False,
                keep=self.reverse and body.ops[0].python is not None,
                threaded=True,
                **masks,
            ),
        )
        numbers = np.array([self._number(kernel) for kernel in kernels], np.int64)
        return numbers[which].tolist()  # type: ignore[no-any-return]
