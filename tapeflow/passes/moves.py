"""Moves: read numbers where they were, and not where they have only been put together.

What joins runs, or takes places of one, computes nothing: an instruction that reads a single number
of its result, or a part that lay side by side before, may as well read that.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from tapeflow.ops import BY_NAME
from tapeflow.passes.rewriting import same
from tapeflow.tape import Tape

_MOVES = [BY_NAME[name].opcode for name in ("concat", "view", "take")]


def forward_moves(tape: Tape) -> Tape:
    """The same tape, whose instructions read what was moved from where it came."""
    moves = np.flatnonzero(np.isin(tape.opcodes, _MOVES)).tolist()
    if not moves:
        return tape
    origin = same(tape)
    for i in moves:
        origin[tape.slots[i] : tape.slots[i + 1]] = _sources(tape, i, origin)
    operands = origin[tape.operands]
    ends = np.concatenate([tape.first_slots, tape.slots])
    for i in np.flatnonzero(np.diff(tape.parameter_starts)).tolist():
        for k, size in enumerate(tape.runs_of(i)[0], int(tape.starts[i])):
            slot = int(tape.operands[k])
            own = origin[slot : slot + size]
            if size == 0 or not _is_run(own, ends):
                operands[k] = slot
    return replace(
        tape,
        operands=operands,
        outputs=origin[tape.outputs],
        guards=tape.guards.moved(slots=origin[tape.guards.slots], after=tape.guards.after),
    )


def _sources(tape: Tape, i: int, origin: Any) -> Any:
    """The slot that each number of a move's result comes from; its own where it is none."""
    own = np.arange(tape.slots[i], tape.slots[i + 1])
    p = tape.parameters_of(i)
    slots = tape.operands_of(i)
    name = tape.op(i).name
    if name == "concat":
        runs = zip(slots.tolist(), p.tolist(), strict=True)
        return np.concatenate([own[:0], *(origin[slot : slot + n] for slot, n in runs)])
    if name == "take":
        places = p[1:]
        # Zero, where there is no place.
        return np.where(places < 0, own, origin[slots[0] + np.maximum(places, 0)])
    n_axes = (len(p) - 2) // 2
    places = np.full((), int(p[1]), np.int64)
    for length, stride in zip(p[2 : 2 + n_axes].tolist(), p[2 + n_axes :].tolist(), strict=True):
        places = np.add.outer(places, np.arange(length) * stride)
    return origin[slots[0] + places.ravel()]


def _is_run(slots: Any, ends: Any) -> bool:
    """Whether slots are a run, and part of one value."""
    if len(slots) == 1:
        return True
    if (np.diff(slots) != 1).any():
        return False
    first, last = np.searchsorted(ends, [slots[0], slots[-1]], "right")
    return bool(first == last)
