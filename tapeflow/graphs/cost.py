"""How much arithmetic a tape is, counted from the texts of its rules."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapeflow.arrays import SubTapes, linear, spectral
from tapeflow.backend import Float
from tapeflow.graphs.javascript import Script, Writer
from tapeflow.ops import Op
from tapeflow.tape import Tape


class Cost(NamedTuple):
    """Operations on numbers: of the value, and of what flows back to all operands."""

    forward: int
    reverse: int

    def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
        return Cost(self.forward + other.forward, self.reverse + other.reverse)

    def times(self, n: int) -> "Cost":
        return Cost(self.forward * n, self.reverse * n)


UNKNOWN = Cost(1, 2)
"""Of a gate whose text cannot be counted, as it runs in Python or SciPy."""


@functools.cache
def cost_of(op: Op) -> Cost:
    """The operations of an op on numbers: the statements that its rule comes to.

    Each product with what flows back, and its sum, counts as one more: it is an fma.
    """
    try:
        value = _statements(op, lambda value, partials: (value,))
        both = _statements(op, lambda value, partials: (value, *partials))
    except Exception:  # a rule of the user's own may use anything
        return UNKNOWN
    # What the value has computed is there in reverse.
    return Cost(max(value, 1), 0 if op.zero_derivative else both - value + op.arity)


def _statements(op: Op, choose: Callable[[Any, Any], tuple[Any, ...]]) -> int:
    writer = Writer(Script())
    writer.body(choose(*op.rule(*(Float(writer, f"x{k}") for k in range(op.arity)))))
    return writer.cost


def instruction_cost(op: Op, parameters: Sequence[int], sizes: Sequence[int], size: int) -> Cost:
    """The operations of an instruction, from the lengths of its operands and of its result."""
    rule = op.array
    if rule is None:
        return cost_of(op).times(size)
    if isinstance(rule, SubTapes):
        steps = max(parameters[0], 1) if hasattr(rule, "phases") else 1
        bodies = [tape_cost(body) for body in rule.tapes]
        return functools.reduce(Cost.__add__, bodies, Cost(0, 0)).times(steps)
    moved = sum(sizes) + size
    if op.name in ("matmul", "azmatmul"):
        batch, m, k, n = parameters[:4]
        moved = 2 * batch * m * k * n
    elif getattr(rule, "__module__", "") in (linear.__name__, spectral.__name__):
        moved = max(*sizes, size) * parameters[1]  # a stack of matrices, each of size cubed
    return Cost(moved, 0 if op.zero_derivative else 2 * moved)


def tape_cost(tape: Tape) -> Cost:
    """The operations of a tape on one sample."""
    total = Cost(0, 0)
    for _, _, _, cost in by_kind(tape):
        total += cost
    return total


def by_kind(tape: Tape) -> list[tuple[Op, int, int, Cost]]:
    """For each op: its instructions, the numbers they make, and their operations; most first."""
    found: dict[Op, tuple[int, int, Cost]] = {}
    plain = not len(tape.parameters) and not any(
        tape.op_of(code).array for code in np.unique(tape.opcodes).tolist()
    )
    if plain:
        for code, count in zip(*np.unique(tape.opcodes, return_counts=True), strict=True):
            op = tape.op_of(int(code))
            found[op] = int(count), int(count), cost_of(op).times(int(count))
    else:
        for i in range(len(tape)):
            op, (sizes, size) = tape.op(i), tape.runs_of(i)
            cost = instruction_cost(op, tape.parameters_of(i).tolist(), sizes, size)
            n, numbers, before = found.get(op, (0, 0, Cost(0, 0)))
            found[op] = n + 1, numbers + size, before + cost
    rows = [(op, *row) for op, row in found.items()]
    return sorted(rows, key=lambda row: -sum(row[3]))
