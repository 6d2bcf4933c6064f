"""Guards as ordinary instructions: whether all hold, or which is the first that does not."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tapeflow.guards import NONE, TRUTH
from tapeflow.ops import BY_NAME
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.structure import Leaf, Structure, flatten
from tapeflow.tape import Tape


def without_guards(tape: Tape) -> Tape:
    """The tape for arguments at which its guards are known to hold."""
    return remove_dead_code(replace(tape, guards=NONE)) if len(tape.guards) else tape


def with_flag(tape: Tape) -> Tape:
    """A plain tape with one more output: 1.0 where all guards hold, and 0.0 elsewhere.

    It is one instruction a guard, next to what the guard looks at: a chain that ends there.
    """
    added = _Added(tape)
    flag = added.constant(1.0)
    for k in range(len(tape.guards)):
        holds, passes = added.test(k)
        ways = (flag, added.constant(0.0))
        flag = added.where(k, holds, ways if passes else ways[::-1])
    return added.finish(flag)


def with_number(tape: Tape) -> Tape:
    """A plain tape with one more output: how many guards hold before the first that does not."""
    added = _Added(tape)
    number = added.constant(float(len(tape.guards)))
    tests = [added.test(k) for k in range(len(tape.guards))]
    for k in reversed(range(len(tape.guards))):
        holds, passes = tests[k]
        ways = (number, added.constant(float(k)))
        number = added.where(len(tape.guards) - 1, holds, ways if passes else ways[::-1])
    return added.finish(number)


class _Added:
    """Instructions on single numbers to be put among those of a tape.

    Slots are the tape's, but for ~k, the result of the k-th of the added ones, and what is beyond
    the tape's, the added constants.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.constants: list[float] = []
        self.rows: list[tuple[int, int, int, tuple[int, ...]]] = []

    def constant(self, number: float) -> int:
        if number not in self.constants:
            self.constants.append(number)
        return self.tape.n_slots + self.constants.index(number)

    def _append(self, k: int, name: str, operands: tuple[int, ...]) -> int:
        guards = self.tape.guards
        row = (int(guards.after[k]), BY_NAME[name].opcode, int(guards.locations[k]), operands)
        self.rows.append(row)
        return ~(len(self.rows) - 1)

    def test(self, k: int) -> tuple[int, bool]:
        """A slot that is true or false, and whether guard k holds where it is true."""
        guards = self.tape.guards
        slot, expected = int(guards.slots[k]), float(guards.expected[k])
        if guards.kinds[k] == TRUTH:
            return slot, expected != 0.0
        return self._append(k, "equal", (slot, self.constant(expected))), True

    def where(self, k: int, condition: int, ways: Sequence[int]) -> int:
        return self._append(k, "where", (condition, *ways))

    def finish(self, result: int) -> Tape:
        """The tape with all of them, and their result as the last output."""
        tape, n, first = self.tape, len(self.tape), int(self.tape.slots[0])
        # In the order of their places; of equal ones, as they came.
        after = np.array([row[0] for row in self.rows], np.int64)
        order = np.argsort(after, kind="stable")
        position = np.empty(len(order), np.int64)
        position[order] = np.arange(len(order))
        shift = len(self.constants)
        before = np.searchsorted(after[order], np.arange(n), "right")
        slots = np.arange(tape.n_slots + shift)
        slots[first : tape.n_slots] += shift + np.repeat(before, np.diff(tape.slots))
        slots[tape.n_slots :] = first + np.arange(shift)
        own = tape.slots[after] + shift + position

        def moved(slot: int) -> int:
            return int(own[~slot] if slot < 0 else slots[slot])

        rows = [self.rows[k] for k in order.tolist()]
        at = np.array([row[0] for row in rows], np.int64)
        counts = np.insert(tape.arities, at, [len(row[3]) for row in rows])
        sizes = np.insert(np.diff(tape.slots), at, 1)
        parameters = np.insert(np.diff(tape.parameter_starts), at, 0)
        operands: Any = [moved(slot) for row in rows for slot in row[3]]
        places = np.repeat(tape.starts[at], [len(row[3]) for row in rows])
        leaves = (*tape.output_structure.leaves, Leaf(None))
        return replace(
            tape,
            opcodes=np.insert(tape.opcodes, at, [row[1] for row in rows]),
            starts=np.concatenate([[0], np.cumsum(counts)]),
            operands=np.insert(slots[tape.operands], places, operands),
            slots=first + shift + np.concatenate([[0], np.cumsum(sizes)]),
            constants=np.concatenate([tape.constants, self.constants]),
            outputs=np.append(slots[tape.outputs], moved(result)),
            locations=np.insert(tape.locations, at, [row[2] for row in rows]),
            parameter_starts=np.concatenate([[0], np.cumsum(parameters)]),
            output_structure=Structure(flatten([0.0] * len(leaves))[1], leaves),
            checkpoints=tuple(
                (first + int(np.sum(at < first)), last + int(np.sum(at < last)))
                for first, last in tape.checkpoints
            ),
            guards=NONE,
        )
