# mypy: allow-untyped-defs
"""Groups of instructions, each of which one kernel runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow.jit import WORD, compiled, helper, plain
from tapeflow.kernels.body import Body, Kernel, body_of
from tapeflow.structure import Ints
from tapeflow.tape import Tape

Flags = npt.NDArray[np.bool_]


_FEW = 200
"""Instructions up to which Python hashes as fast as a compiled function is loaded."""


class Groups:
    """Instructions in runs: run g is instructions[starts[g]:starts[g + 1]].

    operands, operand_starts: the slots that each group reads and does not compute. exports,
    export_starts: the slots of its results that others read. codes: for each operand of each
    instruction, k where it is the result of the group's instruction k, and ~k where it is the
    group's operand k.
    """

    def __init__(
        self,
        tape: Tape,
        instructions: Ints,
        starts: Ints,
        operands: Ints,
        operand_starts: Ints,
        exports: Ints,
        export_starts: Ints,
        codes: Ints | None = None,
    ) -> None:
        self.tape, self.instructions, self.starts = tape, instructions, starts
        self.operands, self.operand_starts = operands, operand_starts
        self.exports, self.export_starts = exports, export_starts
        self.codes = codes

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def references(self) -> tuple[Ints, Ints, Ints, Ints]:
        return self.operand_starts, self.operands, self.export_starts, self.exports

    @property
    def last(self) -> Ints:
        """Each group's last instruction."""
        return self.instructions[self.starts[1:] - 1]

    def body(self, g: int) -> Body:
        own = self.instructions[self.starts[g] : self.starts[g + 1]].tolist()
        if self.codes is None:
            return body_of(self.tape.op(own[0]))
        ops = tuple(map(self.tape.op, own))
        codes = iter(self.codes[self._code_starts[self.starts[g]] :].tolist())
        operands = tuple(tuple(next(codes) for _ in range(op.arity)) for op in ops)
        arity = int(self.operand_starts[g + 1] - self.operand_starts[g])
        return Body(ops, operands, arity, tuple(self._positions(g).tolist()))

    def _positions(self, g: int) -> Ints:
        """Which of the group's instructions make its exports."""
        exports = self.exports[self.export_starts[g] : self.export_starts[g + 1]]
        own = self.tape.slots[self.instructions[self.starts[g] : self.starts[g + 1]]]
        return np.searchsorted(own, exports)

    def has_python(self, g: int) -> bool:
        first = int(self.instructions[self.starts[g]])
        return self.tape.op(first).python is not None

    @cached_property
    def _code_starts(self) -> Ints:
        """Where each instruction's codes begin."""
        return np.concatenate([[0], np.cumsum(self.tape.arities[self.instructions])])

    def kinds(self, chosen: Ints, flags: Sequence[Flags], flowing: Flags | None) -> Any:
        """A number for each chosen group: groups of equal numbers run by the same kernel.

        flags: sets of operands; flowing: a set of exports.
        """
        if self.codes is None:
            return self._kinds_of_singles(chosen, flags)
        if flowing is None:
            flowing = np.zeros(len(self.exports), np.bool_)
        marks = np.zeros(len(self.operands), np.int64)
        for k, flag in enumerate(flags):
            marks |= flag.astype(np.int64) << k
        pairs = np.empty((len(chosen), 2), np.uint64)
        slots = self.tape.slots[self.instructions]
        # A few are hashed by Python, before a compiled function would be loaded.
        hashes = hash_groups if len(self.instructions) > _FEW else plain(hash_groups)
        with np.errstate(over="ignore"):
            hashes(
                chosen,
                self.starts,
                self.tape.opcodes[self.instructions],
                slots,
                self._code_starts,
                self.codes,
                self.operand_starts,
                marks,
                self.export_starts,
                self.exports,
                flowing,
                pairs,
            )
        # Two of 64 bits: kernels are shared between millions of groups on their word.
        return pairs.view("V16").ravel()

    def _kinds_of_singles(self, chosen: Ints, flags: Sequence[Flags]) -> Any:
        starts = self.operand_starts
        counts = starts[chosen + 1] - starts[chosen]
        owner = np.repeat(np.arange(len(chosen)), counts)
        position = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        index = starts[chosen][owner] + position
        key = self.tape.opcodes[self.instructions[chosen]].astype(np.int64) << 48
        for k, flag in enumerate(flags):
            bits = np.bincount(owner, np.where(flag[index], 1 << position, 0), len(chosen))
            key |= bits.astype(np.int64) << (16 * k)
        return key


def singles(tape: Tape, instructions: Ints) -> Groups:
    """A group for each instruction, its operands one by one and its result exported."""
    counts = tape.arities[instructions]
    starts = np.concatenate([[0], np.cumsum(counts)])
    owner = np.repeat(np.arange(len(instructions)), counts)
    position = np.arange(len(owner)) - starts[owner]
    operands = tape.operands[tape.starts[instructions][owner] + position].astype(np.int64)
    every = np.arange(len(instructions) + 1)
    exports = tape.slots[instructions].astype(np.int64)
    return Groups(tape, instructions, every, operands, starts, exports, every)


def kernels_of(
    groups: Groups,
    chosen: Ints,
    sets: Mapping[str, Flags],
    flowing: Flags | None,
    make: Callable[[Body, dict[str, Any]], Kernel],
) -> tuple[list[Kernel], Ints]:
    """The kernels for the chosen groups, and which of them each one's is.

    sets: of operands, and ``flowing`` of exports: flags of all groups. ``make`` is given a body and
    its own part of each set, as the bits of a number.
    """
    kinds = groups.kinds(chosen, list(sets.values()), flowing)
    _, first, which = np.unique(kinds, return_index=True, return_inverse=True)
    kernels = []
    for g in chosen[first].tolist():
        reads = slice(groups.operand_starts[g], groups.operand_starts[g + 1])
        own = slice(groups.export_starts[g], groups.export_starts[g + 1])
        masks = {name: _bits(flags[reads]) for name, flags in sets.items()}
        if flowing is not None:
            masks["flowing"] = _bits(flowing[own])
        kernels.append(make(groups.body(g), masks))
    return kernels, which


def _bits(flags: Flags) -> int:
    return sum(1 << int(k) for k in np.flatnonzero(flags))


@helper(WORD)
def _mixed(state, word):
    state = (state ^ np.uint64(word)) * np.uint64(0x9E3779B97F4A7C15)
    return state ^ (state >> np.uint64(29))


@compiled()
def hash_groups(
    chosen,
    starts,
    opcodes,
    slots,
    code_starts,
    codes,
    operand_starts,
    marks,
    export_starts,
    exports,
    flowing,
    pairs,
):
    """Two hashes for each chosen group, of all that its kernel depends on."""
    for c in range(len(chosen)):
        g = chosen[c]
        a, b = np.uint64(starts[g + 1] - starts[g]), np.uint64(0x5851F42D4C957F2D)
        for i in range(starts[g], starts[g + 1]):
            a, b = _mixed(a, opcodes[i]), _mixed(b, opcodes[i])
            for k in range(code_starts[i], code_starts[i + 1]):
                a, b = _mixed(a, codes[k]), _mixed(b, codes[k])
        for k in range(operand_starts[g], operand_starts[g + 1]):
            a, b = _mixed(a, marks[k]), _mixed(b, marks[k])
        i = starts[g]
        for k in range(export_starts[g], export_starts[g + 1]):
            while slots[i] < exports[k]:
                i += 1
            word = 2 * (i - starts[g]) + flowing[k]
            a, b = _mixed(a, word), _mixed(b, word)
        pairs[c, 0], pairs[c, 1] = a, b
