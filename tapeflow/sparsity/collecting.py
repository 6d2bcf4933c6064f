# mypy: allow-untyped-defs
"""Entries in order, compiled by Numba; see `entrywise`."""

import numpy as np

from tapeflow.jit import INDICES, compiled, helper


@helper(INDICES, apart=True)
def counted(keys, order, n):
    """The order of some keys below n; those that are equal stay as they are in an order."""
    place = np.zeros(n + 1, np.int64)
    for key in keys:
        place[key + 1] += 1
    for k in range(n):
        place[k + 1] += place[k]
    found = np.empty(len(keys), np.int32)
    for k in order:
        found[place[keys[k]]] = k
        place[keys[k]] += 1
    return found


@compiled()
def above(rows, columns, n):
    """Which entries of a symmetric matrix to keep: those below the diagonal only if none is above.

    n: more than any row or column.
    """
    low, high = np.minimum(rows, columns), np.maximum(rows, columns)
    order = counted(low, counted(high, np.arange(len(rows), dtype=np.int32), n), n)
    kept = np.zeros(len(rows), np.bool_)
    first = 0
    while first < len(order):
        last, is_above = first, False
        while (
            last < len(order)
            and low[order[last]] == low[order[first]]
            and high[order[last]] == high[order[first]]
        ):
            is_above = is_above or rows[order[last]] <= columns[order[last]]
            last += 1
        for k in order[first:last]:
            kept[k] = rows[k] <= columns[k] or not is_above
        first = last
    return kept


@compiled()
def ordered(rows, columns, sources, n_rows, n_columns):
    """A matrix of entries, of which those in one place add up in the order given.

    Returns where its rows start and their columns; then for each entry its first source, and those
    entries that have more, with a source each.
    """
    order = counted(columns, np.arange(len(rows), dtype=np.int32), n_columns)
    order = counted(rows, order, n_rows)
    starts = np.zeros(n_rows + 1, np.int64)
    indices, first = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
    more, then = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
    n, n_more = 0, 0
    for at in range(len(order)):
        k, before = order[at], order[max(at - 1, 0)]
        if at and rows[k] == rows[before] and columns[k] == columns[before]:
            more[n_more], then[n_more] = n - 1, sources[k]
            n_more += 1
            continue
        indices[n], first[n] = columns[k], sources[k]
        starts[rows[k] + 1] += 1
        n += 1
    for row in range(n_rows):
        starts[row + 1] += starts[row]
    return starts, indices[:n].copy(), first[:n].copy(), more[:n_more].copy(), then[:n_more].copy()
