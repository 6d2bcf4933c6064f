"""Segments of a tape, whose values a reverse sweep computes again instead of keeping them.

The forward sweep keeps what one segment reads of another, and the inputs; the rest lies in rows
that the segments use by turns. The reverse sweep runs each segment forward once more before it
runs it in reverse (checkpointing: Griewank and Walther, "Evaluating Derivatives", chapter 12, with
one level). The values are the same bits again, so the gradients are.
"""

import numpy as np

from tapeflow.groups import Flags, Groups
from tapeflow.structure import Ints


def cut(groups: Groups, kept: Flags, first_row: int, most_rows: int) -> tuple[Ints, Ints, int]:
    """The fewest segments, by powers of two, whose values fit into a number of rows.

    If none do, those that take the fewest. kept: the slots whose rows are read after the sweeps;
    first_row: rows that are taken. Returns the group at which each segment begins and the last
    ends, each slot's row (-1 for a slot that has none), and how many rows there are.
    """
    best = _laid_out(groups, kept, first_row, 1)
    n_segments = 2
    while best[2] > most_rows and n_segments <= len(groups):
        found = _laid_out(groups, kept, first_row, n_segments)
        if found[2] < best[2]:
            best = found
        n_segments *= 2
    return best


def _laid_out(
    groups: Groups, kept: Flags, first_row: int, n_segments: int
) -> tuple[Ints, Ints, int]:
    starts = len(groups) * np.arange(n_segments + 1) // n_segments
    segment = np.searchsorted(starts, np.arange(len(groups)), "right") - 1
    own = np.repeat(segment, np.diff(groups.export_starts))
    reader = np.repeat(segment, np.diff(groups.operand_starts))
    made_in = np.full(len(kept), -1, np.int64)
    made_in[groups.exports] = own
    read = made_in[groups.operands]
    lasting = kept.copy()
    lasting[groups.operands[(read >= 0) & (read != reader)]] = True
    rows = np.full(len(kept), -1, np.int64)
    stays = lasting[groups.exports]
    there = groups.exports[stays]
    rows[there] = first_row + np.arange(len(there))
    first_row += len(there)
    # The others of a segment one after the other, from the same row on in each.
    others, turn = groups.exports[~stays], own[~stays]
    counts = np.bincount(turn, minlength=n_segments)
    rows[others] = first_row + np.arange(len(others)) - (np.cumsum(counts) - counts)[turn]
    return starts, rows, first_row + int(counts.max(initial=0))
