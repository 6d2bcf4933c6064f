"""Extraction: the part of a tape that computes some of its slots from others that are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow.guards import Guards
from tapeflow.passes.rewriting import run_lengths
from tapeflow.structure import Ints, Leaf, Structure, flatten
from tapeflow.tape import Tape

Run = tuple[int, int]
"""Slots that lie side by side: the first, and how many."""


@dataclass(frozen=True)
class Extract:
    """A part of a tape as a tape. Its arguments are runs of the whole tape's slots, in order."""

    tape: Tape
    inputs: tuple[Run, ...]


def extract(
    tape: Tape, known: npt.NDArray[np.bool_], outputs: Sequence[Run], guards: Guards
) -> Extract:
    """The instructions that some runs and guards of a tape need, where other slots are known.

    known: flags of slots whose values are given, besides the inputs; whole runs of results. The
    result is a list with the runs asked for.
    """
    from tapeflow.jit import walk
    from tapeflow.passes.loops import mark_needed_between

    n, first = len(tape), int(tape.slots[0])
    needed = np.zeros(tape.n_slots + 1, np.bool_)
    for start, size in outputs:
        needed[start : start + size] = True
    needed[guards.slots] = True
    kept = np.zeros(n, np.bool_)
    columns = (tape.starts, tape.operands, run_lengths(tape), tape.slots)
    walk(mark_needed_between, n, *columns, np.append(known, False), needed, kept)
    given = needed[:-1].copy()
    given[tape.n_inputs : first] = False
    given[first:] &= known[first:]
    runs = _runs(given, np.concatenate([tape.first_slots[:-1], tape.slots]))
    constants = np.flatnonzero(needed[tape.n_inputs : first]) + tape.n_inputs
    sizes = np.diff(tape.slots)[kept]
    n_given, n_own = int(given.sum()), int(given.sum()) + len(constants)
    moved = np.full(tape.n_slots + 1, -1, np.int64)
    moved[np.flatnonzero(given)] = np.arange(n_given)
    moved[constants] = n_given + np.arange(len(constants))
    computed = np.flatnonzero(np.repeat(kept, np.diff(tape.slots))) + first
    moved[computed] = n_own + np.arange(len(computed))
    leaves = tuple(Leaf(None if size == 1 else (size,)) for _, size in runs)
    results = tuple(Leaf(None if size == 1 else (size,)) for _, size in outputs)
    places = [np.arange(start, start + size) for start, size in outputs]
    position = np.concatenate([[0], np.cumsum(kept)])
    part = Tape(
        name=tape.name,
        opcodes=tape.opcodes[kept],
        starts=_bounds(tape.arities[kept]),
        operands=moved[tape.operands[np.repeat(kept, tape.arities)]].astype(np.int32),
        slots=(n_own + _bounds(sizes)).astype(np.int32),
        constants=tape.constants[constants - tape.n_inputs],
        outputs=moved[np.concatenate([np.empty(0, np.int64), *places])].astype(np.int32),
        locations=tape.locations[kept],
        parameters=tape.parameters[np.repeat(kept, np.diff(tape.parameter_starts))],
        parameter_starts=_bounds(np.diff(tape.parameter_starts)[kept]),
        sources=tape.sources,
        input_structure=Structure(flatten((0.0,) * len(leaves))[1], leaves),
        output_structure=Structure(flatten([0.0] * len(results))[1], results),
        input_names=tuple(tape.slot_name(start, size) for start, size in runs),
        gates=tape.gates,
        guards=guards.moved(slots=moved[guards.slots], after=position[guards.after]),
    )
    return Extract(part, tuple(runs))


def _bounds(lengths: Any) -> npt.NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def _runs(flags: npt.NDArray[np.bool_], borders: Ints) -> list[Run]:
    """The runs of flagged slots, none across a border of two values."""
    slots = np.flatnonzero(flags)
    cuts = np.flatnonzero((np.diff(slots) != 1) | np.isin(slots[1:], borders)) + 1
    return [(int(run[0]), len(run)) for run in np.split(slots, cuts) if len(run)]
