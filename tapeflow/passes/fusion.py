"""Fusion: which elementwise instructions on arrays can run as one kernel.

A group of instructions with results of the same length passes over memory once, and what only the
group itself reads is never stored. No bit changes: each number is computed as before.
"""

from collections.abc import Sequence

import numpy as np

from tapeflow import grid
from tapeflow.ops import FIRST_GATE
from tapeflow.structure import Ints
from tapeflow.tape import Tape

LONGEST = 32
"""Instructions of a group: more would run out of registers, and take long to compile."""

_MOST_INPUTS = 12


class _Group:
    def __init__(self, size: int) -> None:
        self.size = size
        self.lengths: tuple[int, ...] | None = None
        self.members: list[int] = []
        self.inputs: set[tuple[int, ...]] = set()


def groups(tape: Tape, instructions: Ints) -> list[list[int]]:
    """The instructions, in an order in which they can run, with those to be fused together."""
    return _Fusion(tape).run(instructions.tolist())


def is_free(parameters: Sequence[int], arity: int) -> bool:
    """Whether an instruction's operands are whole or single numbers, so that any grid does."""
    lengths = list(parameters[: grid.AXES])
    whole = [lengths[1] * lengths[2], lengths[2], 1]
    for k in range(arity):
        own = list(parameters[grid.AXES * (1 + k) : grid.AXES * (2 + k)])
        full = all(a == b or n == 1 for a, b, n in zip(own, whole, lengths, strict=True))
        if any(own) and not full:
            return False
    return True


def strides_on(lengths: Sequence[int], parameters: Sequence[int], operand: int) -> list[int]:
    """An operand's strides on a group's grid, which its own is or, being free, may become."""
    own = list(parameters[grid.AXES * (1 + operand) : grid.AXES * (2 + operand)])
    if tuple(parameters[: grid.AXES]) == tuple(lengths):
        return own
    return [lengths[1] * lengths[2], lengths[2], 1] if any(own) else [0, 0, 0]


class _Fusion:
    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.open: list[_Group] = []
        self.owner: dict[int, _Group] = {}
        self.order: list[list[int]] = []
        self.first = tape.slots[:-1]

    def run(self, instructions: Sequence[int]) -> list[list[int]]:
        for i in instructions:
            self._add(i)
        for group in list(self.open):
            self._close(group)
        return self.order

    def _add(self, i: int) -> None:
        tape = self.tape
        sources = self._sources(i)
        op, parameters = tape.op(i), tape.parameters_of(i).tolist()
        fusable = op.array is None and not op.host and parameters and op.opcode < FIRST_GATE
        group = self._group_for(i, parameters) if fusable else None
        for source in sources:
            if source is not group and source in self.open:
                self._close(source)
        if not fusable:
            self.order.append([i])
            return
        if group is None or group not in self.open:
            group = _Group(int(tape.slots[i + 1] - tape.slots[i]))
            self.open.append(group)
        if not is_free(parameters, op.arity):
            group.lengths = tuple(parameters[: grid.AXES])
        group.members.append(i)
        group.inputs |= self._inputs(i, parameters, group)
        self.owner[i] = group
        if len(group.members) >= LONGEST:
            self._close(group)

    def _instruction_of(self, slot: int) -> int | None:
        if slot < self.tape.slots[0]:
            return None
        return int(np.searchsorted(self.first, slot, "right")) - 1

    def _sources(self, i: int) -> list[_Group]:
        """The groups that an instruction reads from."""
        found = []
        for slot in self.tape.operands_of(i).tolist():
            instruction = self._instruction_of(slot)
            if instruction is not None and instruction in self.owner:
                found.append(self.owner[instruction])
        return found

    def _inputs(self, i: int, parameters: Sequence[int], group: _Group) -> set[tuple[int, ...]]:
        """What a member reads from outside its group."""
        found = set()
        for k, slot in enumerate(self.tape.operands_of(i).tolist()):
            instruction = self._instruction_of(slot)
            if instruction is None or self.owner.get(instruction) is not group:
                own = parameters[grid.AXES * (1 + k) : grid.AXES * (2 + k)]
                found.add((slot, *own))
        return found

    def _group_for(self, i: int, parameters: Sequence[int]) -> _Group | None:
        """The open group that an instruction may join, if any."""
        tape = self.tape
        size = int(tape.slots[i + 1] - tape.slots[i])
        free = is_free(parameters, tape.op(i).arity)
        lengths = tuple(parameters[: grid.AXES])
        for group in self.open:
            if group.size != size or not (free or group.lengths in (None, lengths)):
                continue
            if len(group.inputs | self._inputs(i, parameters, group)) > _MOST_INPUTS:
                continue
            if self._reads_whole(i, group):
                return group
        return None

    def _reads_whole(self, i: int, group: _Group) -> bool:
        """Whether an instruction reads the group's results from their first number on."""
        sizes, _ = self.tape.runs_of(i)
        for slot, size in zip(self.tape.operands_of(i).tolist(), sizes, strict=True):
            instruction = self._instruction_of(slot)
            if instruction is None or self.owner.get(instruction) is not group:
                continue
            if slot != self.tape.slots[instruction] or size != group.size:
                return False
        return True

    def _close(self, group: _Group) -> None:
        self.open.remove(group)
        self.order.append(group.members)
