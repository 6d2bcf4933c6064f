"""Seams: where derivatives are a rule of the user's own, and where none is needed any more."""

from collections.abc import Sequence

import numpy as np

from tapeflow.arrays import Seam
from tapeflow.ops import FIRST_GATE
from tapeflow.passes.rewriting import rewritten, run_lengths, same
from tapeflow.tape import Tape


def seams_of(tape: Tape) -> list[int]:
    """The instructions that are seams."""
    gates = [FIRST_GATE + k for k, gate in enumerate(tape.gates) if isinstance(gate.array, Seam)]
    return np.flatnonzero(np.isin(tape.opcodes, gates)).tolist() if gates else []


def seams_reached(tape: Tape, wanted: Sequence[bool]) -> frozenset[int]:
    """The seams that a derivative in some leaves of the inputs goes through."""
    seams = seams_of(tape)
    if not seams:
        return frozenset()
    reached = np.zeros(tape.n_slots, np.bool_)
    for (first, last), own in zip(tape.input_structure.bounds, wanted, strict=True):
        reached[first:last] = own
    for i in range(seams[-1] + 1):
        if not tape.op(i).zero_derivative:
            runs = zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True)
            own = any(reached[slot : slot + size].any() for slot, size in runs)
            reached[tape.slots[i] : tape.slots[i + 1]] = own
    return frozenset(i for i in seams if reached[tape.slots[i] : tape.slots[i + 1]].any())


def is_read_across(tape: Tape, i: int) -> bool:
    """Whether an instruction reads numbers of several results of a seam as one run."""
    n_results, *lengths = tape.parameters_of(i).tolist()
    if n_results < 2:
        return False
    first = tape.operands.astype(np.int64)
    last = first + run_lengths(tape)
    borders = int(tape.slots[i]) + np.cumsum(lengths[len(lengths) - n_results :])[:-1, None]
    return bool(((first < borders) & (borders < last)).any())


def without_seams(tape: Tape) -> Tape:
    """The same tape without its seams, whose operands are read in their place.

    It computes the same, has other derivatives, and may have no arrays any more.
    """
    alias, kept = same(tape), np.ones(len(tape), np.bool_)
    for i in seams_of(tape):
        if is_read_across(tape, i):
            continue
        n_results, *lengths = tape.parameters_of(i).tolist()
        first = len(lengths) - n_results
        place = int(tape.slots[i])
        for slot, length in zip(tape.operands_of(i)[first:], lengths[first:], strict=True):
            alias[place : place + length] = alias[slot : slot + length]
            place += length
        kept[i] = False
    return tape if kept.all() else rewritten(tape, kept, alias)
