"""What passes share: a tape with some instructions dropped, and others' results in their place."""

from dataclasses import replace
from typing import Any

import numpy as np

from tapeflow.structure import Floats
from tapeflow.tape import Tape


def rewritten(tape: Tape, kept: Any, alias: Any, added: Floats | None = None) -> Tape:
    """The tape's kept instructions, which read each slot's alias in its place.

    kept: one flag an instruction. alias: for each slot, and for the end of the last, the slot to
    read; ~k for number k of the added constants. None: each slot is read itself.
    """
    first, n_added = int(tape.slots[0]), 0 if added is None else len(added)
    sizes = np.diff(tape.slots)
    own = np.where(kept, sizes, 0)
    slots = np.concatenate([[0], np.cumsum(own)]) + first + n_added
    # How far each instruction's slots move, and the end of the last; what is before, not at all.
    shifts = np.concatenate([[0], slots - tape.slots])
    if tape.n_slots > _WIDE * len(tape):
        # Fewer slots are read than there are: those of long runs are not all gone through.
        def renumbered(found: Any) -> Any:
            return found + shifts[np.searchsorted(tape.slots, found, "right")]
    else:
        renumbered = (np.arange(tape.n_slots + 1) + _spread(shifts, first, sizes)).__getitem__

    def moved(given: Any) -> Any:
        found = given.astype(np.int64) if alias is None else alias[given]
        return np.where(found < 0, first + ~found, renumbered(found))

    position = np.concatenate([[0], np.cumsum(kept)])
    checkpoints = (tuple(position[list(run)].tolist()) for run in tape.checkpoints)
    guards = tape.guards
    reads = np.repeat(kept, tape.arities)
    uses = np.repeat(kept, np.diff(tape.parameter_starts))
    return replace(
        tape,
        opcodes=tape.opcodes[kept],
        starts=_bounds(tape.starts, kept),
        operands=moved(tape.operands[reads]),
        slots=np.concatenate([slots[:-1][kept], slots[-1:]]),
        constants=tape.constants if added is None else np.concatenate([tape.constants, added]),
        outputs=moved(tape.outputs),
        locations=tape.locations[kept],
        parameters=tape.parameters[uses],
        parameter_starts=_bounds(tape.parameter_starts, kept),
        checkpoints=tuple(run for run in checkpoints if run[1] > run[0]),
        guards=guards.moved(slots=moved(guards.slots), after=position[guards.after]),
    )


_WIDE = 8
"""Slots an instruction from which a tape is one of long runs."""


def _spread(shifts: Any, first: int, sizes: Any) -> Any:
    """What is there for each instruction, for each slot."""
    return np.repeat(shifts, np.concatenate([[first], sizes, [1]]))


def _bounds(starts: Any, kept: Any) -> Any:
    return np.concatenate([[0], np.cumsum(np.diff(starts)[kept])])


def same(tape: Tape) -> Any:
    """Each slot as its own alias."""
    return np.arange(tape.n_slots + 1)


def run_lengths(tape: Tape) -> Any:
    """How many slots each operand of each instruction reads."""
    lengths = np.ones(len(tape.operands), np.int64)
    for i in np.flatnonzero(np.diff(tape.parameter_starts)).tolist():
        lengths[tape.starts[i] : tape.starts[i + 1]] = tape.runs_of(i)[0]
    return lengths
