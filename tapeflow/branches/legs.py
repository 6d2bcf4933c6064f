"""Legs of a path: the part of a tape from some of its guards to others, as a tape of its own.

A leg says how far each sample gets. What later guards need of what it computes is handed on, so
that no sample computes anything twice on its way to its path.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tapeflow.branches.paths import Path
from tapeflow.guards import NONE, TRUTH
from tapeflow.passes import simplified
from tapeflow.passes.extract import Run, extract
from tapeflow.passes.status import with_number
from tapeflow.tape import Tape


@dataclass(frozen=True)
class Leg:
    """Guards ``first`` to ``last`` - 1 of a path.

    tape: its arguments are ``inputs``, runs of the path's raw tape. Its results are the values
    ``handed`` on (instructions of the raw tape), then the number in each guard of ``asked`` (those
    that are not true or false), then how many guards hold, which ``numbers`` turns into the number
    of the first that does not.
    """

    first: int
    last: int
    tape: Tape
    inputs: tuple[Run, ...]
    handed: tuple[int, ...]
    asked: tuple[int, ...]
    numbers: Any


def leg_of(path: Path, first: int, last: int, known: Sequence[int]) -> Leg:
    """A leg that starts where some instructions' values are known."""
    key = ("leg", first, last, tuple(known))
    leg: Leg | None = path.prepared.get(key)
    if leg is None:
        leg = path.prepared[key] = _new_leg(path, first, last, known)
    return leg


def _new_leg(path: Path, first: int, last: int, known: Sequence[int]) -> Leg:
    raw, guards = path.raw, path.raw.guards[first:last]
    flags = np.zeros(raw.n_slots, np.bool_)
    for i in known:
        flags[raw.slots[i] : raw.slots[i + 1]] = True
    handed = tuple(i for i in needed_after(path, last) if i not in set(known))
    asked = tuple(first + k for k in np.flatnonzero(guards.kinds != TRUTH).tolist())
    outputs = [(int(raw.slots[i]), int(raw.slots[i + 1] - raw.slots[i])) for i in handed]
    outputs += [(int(raw.guards.slots[k]), 1) for k in asked]
    part = extract(replace(raw, guards=NONE, checkpoints=()), flags, outputs, guards)
    tape = simplified(part.tape)
    # A guard that always holds has gone.
    numbers = np.append(tape.guards.numbers, last)
    return Leg(first, last, with_number(tape), part.inputs, handed, asked, numbers)


def needed_after(path: Path, k: int) -> tuple[int, ...]:
    """The instructions before guard k - 1 whose values guard k, or a later one, needs."""
    key = ("needed", k)
    found: tuple[int, ...] | None = path.prepared.get(key)
    if found is None:
        raw = path.raw
        found = ()
        if 0 < k < len(raw.guards):
            before = int(raw.guards.after[k - 1])
            flags = np.zeros(raw.n_slots, np.bool_)
            flags[raw.slots[0] : raw.slots[before]] = True
            part = extract(replace(raw, guards=NONE, checkpoints=()), flags, [], raw.guards[k:])
            owners = [owner(raw, run) for run in part.inputs if run[0] >= raw.slots[0]]
            found = tuple(sorted(set(owners)))
        path.prepared[key] = found
    return found


def owner(tape: Tape, run: Run) -> int:
    """The instruction whose result a run is part of."""
    return int(np.searchsorted(tape.slots, run[0], "right")) - 1
