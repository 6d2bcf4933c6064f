"""What a kernel is for: a straight-line run of instructions, and the sweep it is part of.

A kernel is called as ``kernel(values, cotangents, shared, record, lanes)``. Row r of ``values``
holds ``lanes`` numbers from ``values + 8 * lanes * r``, and so for ``cotangents``; ``shared``
holds single numbers. Its record has the rows of the results that it stores, and the places of what
it reads; in reverse also their rows of cotangents: results' rows, results' cotangents, operands'
places, operands' cotangents. ``lanes`` is a multiple of WIDTH; or it is 1, for the kernels that are
made for it. A cotangent that is *direct* is stored, with zero added, wherever a pointer says, which
stands before the rows: that of row r at ``cotangents - 8 * (2 + r)``; past the caches, if the
number at ``cotangents - 8`` is not zero.

A *threaded* kernel works on one sample, and at its end jumps to the next (Bell, "Threaded code",
1973): ``kernel(values, cotangents, place, operands, ids, table)``. Its results lie from ``place``
on, its record at ``operands`` has the places of what it reads, and ``ids`` says which kernel of the
table comes next; in reverse both point behind its own. A number's cotangent has its number's place.
The kernel of no instructions ends the sweep.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tapeflow.kernels.emit import WIDTH
from tapeflow.ops import FIRST_GATE, Op

__all__ = ["FORWARD", "HALT", "REVERSE", "TURN", "WIDTH", "Body", "Kernel", "body_of"]

FORWARD, REVERSE, TURN = "forward", "reverse", "turn"
"""The sweeps; TURN is the last instructions forward, and at once in reverse."""


@dataclass(frozen=True)
class Body:
    """Instructions without the slots they work on.

    operands: for each instruction, k where it reads the result of the body's instruction k, and ~k
    where it reads the body's own operand k. exports: the instructions whose results are stored.
    """

    ops: tuple[Op, ...]
    operands: tuple[tuple[int, ...], ...]
    arity: int
    exports: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ops)


def body_of(op: Op) -> Body:
    """The body of a single instruction, its operands one by one."""
    return Body((op,), (tuple(~k for k in range(op.arity)),), op.arity, (0,))


@dataclass(frozen=True)
class Kernel:
    """A body in one sweep, for one kind of operands; the sets are bits of one number.

    lanes: it works on rows; otherwise on single numbers. shared: the operands that are single
    numbers. active: those whose cotangents it adds to, or writes, where they are fresh. flowing:
    the exports that have cotangents. keep: for a gate in Python, whether a reverse sweep follows.
    threaded: it works on single numbers, and jumps to the next.
    """

    body: Body
    sweep: str
    lanes: bool
    shared: int = 0
    active: int = 0
    fresh: int = 0
    direct: int = 0
    flowing: int = 0
    keep: bool = False
    threaded: bool = False

    @property
    def has_gate(self) -> bool:
        return any(op.opcode >= FIRST_GATE for op in self.body.ops)

    @property
    def python(self) -> Any:
        """The gate in Python that the kernel calls, or None."""
        return self.body.ops[0].python if self.body.ops else None

    @cached_property
    def symbol(self) -> str:
        if not self.body.ops:
            return "halt"
        grain = "lanes" if self.lanes else "threaded" if self.threaded else "single"
        kind = f"{grain}_{self.shared:x}_{self.active:x}_{self.fresh:x}_{self.direct:x}"
        if self.body == body_of(self.body.ops[0]):
            name = "gate" if self.has_gate else self.body.ops[0].name
            return f"{self.sweep}_{name}_{kind}"
        steps = [
            f"{op.name}{operands}"
            for op, operands in zip(self.body.ops, self.body.operands, strict=True)
        ]
        text = f"{kind}_{self.flowing:x}_{self.body.exports}_{steps}"
        return f"{self.sweep}_body_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


HALT = Kernel(Body((), (), 0, ()), FORWARD, lanes=False, threaded=True)
"""The kernel that ends a sweep of threaded ones."""
