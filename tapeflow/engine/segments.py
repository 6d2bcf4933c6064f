"""Segments of a tape, whose values a reverse sweep computes again instead of keeping them.

The forward sweep keeps what one segment reads of another, and the inputs; the rest lies in rows
that the segments use by turns. The reverse sweep runs each segment forward once more before it
runs it in reverse (checkpointing: Griewank and Walther, "Evaluating Derivatives", chapter 12, with
one level). The values are the same bits again, so the gradients are.
"""

from typing import NamedTuple

import numpy as np

from tapeflow.engine.groups import Flags, Groups
from tapeflow.structure import Ints


class Segments(NamedTuple):
    """How a reverse sweep goes over groups.

    starts: the group at which each segment begins, and the last one ends. again: which of them
    are computed again. rows: each slot's row, -1 for a slot that has none; n_rows: how many there
    are.
    """

    starts: Ints
    again: Flags
    rows: Ints
    n_rows: int


def cut(groups: Groups, kept: Flags, first_row: int, most_rows: int) -> Segments:
    """The fewest segments, by powers of two, whose values fit into a number of rows.

    If none do, those that take the fewest. kept: the slots whose rows are read after the sweeps;
    first_row: rows that are taken.
    """
    best: Segments | None = None
    n_segments = 2
    while best is None or (best.n_rows > most_rows and n_segments <= len(groups)):
        starts = len(groups) * np.arange(n_segments + 1) // n_segments
        found = _laid_out(groups, kept, first_row, starts, np.ones(n_segments, np.bool_))
        if best is None or found.n_rows < best.n_rows:
            best = found
        n_segments *= 2
    return best


def of_checkpoints(groups: Groups, kept: Flags, first_row: int) -> Segments:
    """A segment for the groups that lie in each of the tape's checkpoints, and those between."""
    ends = np.array(groups.tape.checkpoints).reshape(-1)
    firsts, lasts = groups.instructions[groups.starts[:-1]], groups.last
    # Groups are in order; one that sticks out of a checkpoint is not part of it.
    inside = np.stack(
        [np.searchsorted(firsts, ends[0::2]), np.searchsorted(lasts, ends[1::2])], axis=1
    )
    starts, again = [0], []
    for first, end in inside.tolist():
        if end > first:
            starts += [first, end]
            again += [False, True]
    starts.append(len(groups))
    again.append(False)
    return _laid_out(groups, kept, first_row, np.array(starts), np.array(again))


def _laid_out(groups: Groups, kept: Flags, first_row: int, starts: Ints, again: Flags) -> Segments:
    n_segments = len(again)
    segment = np.repeat(np.arange(n_segments), np.diff(starts))
    own = np.repeat(segment, np.diff(groups.export_starts))
    reader = np.repeat(segment, np.diff(groups.operand_starts))
    made_in = np.full(len(kept), -1, np.int64)
    made_in[groups.exports] = own
    read = made_in[groups.operands]
    lasting = kept.copy()
    lasting[groups.operands[(read >= 0) & (read != reader)]] = True
    lasting[groups.exports[~again[own]]] = True
    rows = np.full(len(kept), -1, np.int64)
    stays = lasting[groups.exports]
    there = groups.exports[stays]
    rows[there] = first_row + np.arange(len(there))
    first_row += len(there)
    # The others of a segment one after the other, from the same row on in each.
    others, turn = groups.exports[~stays], own[~stays]
    counts = np.bincount(turn, minlength=n_segments)
    rows[others] = first_row + np.arange(len(others)) - (np.cumsum(counts) - counts)[turn]
    return Segments(starts, again, rows, first_row + int(counts.max(initial=0)))
