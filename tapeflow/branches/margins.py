"""How far samples are from where a branch would go the other way."""

from dataclasses import replace
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.guards import NONE, TRUTH, WHOLE
from tapeflow.passes import simplified
from tapeflow.recorder import Recorder
from tapeflow.structure import NUMBER
from tapeflow.tape import Tape
from tapeflow.trace import inputs_of
from tapeflow.tracers import lift
from tapeflow.transforms.replay import Replay

_LOGICAL = {"min", "max", "amin", "amax", "sub", "concat"}
"""Ops that combine truth values, in a condition such as ``(x > 0) & (y > 0)``."""


def margin_tape(tape: Tape) -> Tape:
    """The tape of inputs -> the smallest distance to a guard; infinity where there is none.

    Of a comparison it is the distance of its two sides, of the truth of a number its magnitude, of
    an int the distance to the next number that is rounded elsewhere, and of a concrete value zero.
    """
    made: Tape | None = tape.prepared.get("margins")
    if made is None:
        made = tape.prepared["margins"] = _new_tape(tape)
    return made


def _new_tape(tape: Tape) -> Tape:
    guards, plain = tape.guards, replace(tape, guards=NONE)
    structure = tape.input_structure
    recorder = Recorder(structure.size)
    with recorder:
        inputs_of(recorder, structure)
        replay = Replay(plain, recorder, np.array([first for first, _ in structure.bounds]))
        margin: Any = np.inf
        for k in range(len(guards)):
            own = _margin(replay, int(guards.slots[k]), int(guards.kinds[k]))
            margin = own if margin is np.inf else np.minimum(margin, own)
        whole = lift(margin)
        slots = np.array([whole.run_in(recorder)], np.int64)
        recorder.location = None
    name = f"guard margins of {tape.name}"
    names = list(tape.input_names)
    return simplified(recorder.finish(name, slots, structure, NUMBER, names))


def _margin(replay: Replay, slot: int, kind: int) -> Any:
    tape = replay.tape
    i = int(np.searchsorted(tape.slots, slot, "right")) - 1
    if kind == WHOLE:
        x = replay.value(int(tape.operands_of(i)[0]), None)
        whole = np.trunc(x)
        below = np.where(whole > 0.0, x - whole, x - (whole - 1.0))
        above = np.where(whole < 0.0, whole - x, whole + 1.0 - x)
        return np.minimum(below, above)
    if kind != TRUTH:
        return 0.0 * replay.value(slot, None)
    found: Any = None
    for a, b in _compared(replay, i, set()):
        own = np.min(np.abs(lift(a) - lift(b)))
        found = own if found is None else np.minimum(found, own)
    return np.abs(replay.value(slot, None)) if found is None else found


def _compared(replay: Replay, i: int, seen: set[int]) -> list[tuple[Any, Any]]:
    """The two sides of each comparison that a condition is made of."""
    tape = replay.tape
    if i < 0 or i in seen:
        return []
    seen.add(i)
    op = tape.op(i)
    sizes, _ = tape.runs_of(i)
    slots = tape.operands_of(i).tolist()
    found = []
    if op.name in _LOGICAL or op.comparison:
        for slot in slots:
            if slot >= tape.slots[0]:
                j = int(np.searchsorted(tape.slots, slot, "right")) - 1
                if tape.op(j).comparison or tape.op(j).name in _LOGICAL:
                    found += _compared(replay, j, seen)
    if found or not op.comparison:
        return found
    sides = [
        replay.value(slot, None if size == 1 else (size,))
        for slot, size in zip(slots, sizes, strict=True)
    ]
    if len(tape.parameters_of(i)):
        shapes = grid.shapes(tape.parameters_of(i).tolist(), op.arity)
        sides = [lift(side).reshape(shape) for side, shape in zip(sides, shapes, strict=True)]
    return [(sides[0], sides[1])]
