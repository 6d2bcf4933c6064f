# mypy: allow-untyped-defs
"""The orders in which vertices are coloured, and their degrees, compiled by Numba.

`smallest_last` is Matula and Beck's: the last vertex has the fewest neighbours, the one before it
the fewest among the rest, and so on. Around columns of a Jacobian, neighbours are the columns that
share a row with one.
"""

import numpy as np
from numba import types

from tapeflow.jit import INTS, PAIR, compiled, helper


@compiled()
def degrees(starts, near):
    """How many neighbours each vertex has."""
    return starts[1:] - starts[:-1]


@compiled()
def degrees_of_columns(starts, rows, row_starts, columns):
    """How many other columns share a row with each."""
    n = len(starts) - 1
    found, seen = np.zeros(n, np.int64), np.full(n, -1, np.int64)
    for v in range(n):
        seen[v] = v
        for row in rows[starts[v] : starts[v + 1]]:
            for w in columns[row_starts[row] : row_starts[row + 1]]:
                if seen[w] != v:
                    seen[w] = v
                    found[v] += 1
    return found


@helper(types.UniTuple(INTS, 3))
def filled_buckets(degree):
    """Doubly linked lists of the vertices of each degree, lower numbers first."""
    n = len(degree)
    heads = np.full(max(degree.max(), 0) + 1 if n else 1, -1, np.int64)
    after, before = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    for v in range(n - 1, -1, -1):
        link(heads, after, before, v, degree[v])
    return heads, after, before


@helper()
def link(heads, after, before, v, degree):
    after[v], before[v] = heads[degree], -1
    if heads[degree] >= 0:
        before[heads[degree]] = v
    heads[degree] = v


@helper()
def unlink(heads, after, before, v, degree):
    if before[v] >= 0:
        after[before[v]] = after[v]
    else:
        heads[degree] = after[v]
    if after[v] >= 0:
        before[after[v]] = before[v]


@helper(PAIR)
def take_smallest(heads, after, before, lowest):
    """The vertex of the lowest degree, which leaves its bucket, and that degree."""
    while heads[lowest] < 0:
        lowest += 1
    v = heads[lowest]
    unlink(heads, after, before, v, lowest)
    return v, lowest


@compiled()
def smallest_last(degree, starts, near):
    """Each vertex has, among those before it and itself, the fewest neighbours."""
    n = len(degree)
    degree, gone, order = degree.copy(), np.zeros(n, np.bool_), np.empty(n, np.int64)
    heads, after, before = filled_buckets(degree)
    lowest = 0
    for k in range(n - 1, -1, -1):
        v, lowest = take_smallest(heads, after, before, lowest)
        order[k], gone[v] = v, True
        for w in near[starts[v] : starts[v + 1]]:
            if not gone[w]:
                unlink(heads, after, before, w, degree[w])
                degree[w] -= 1
                link(heads, after, before, w, degree[w])
                lowest = min(lowest, degree[w])
    return order


@compiled()
def smallest_last_columns(degree, starts, rows, row_starts, columns):
    """As `smallest_last`, of columns."""
    n = len(degree)
    degree, gone, order = degree.copy(), np.zeros(n, np.bool_), np.empty(n, np.int64)
    seen = np.full(n, -1, np.int64)
    heads, after, before = filled_buckets(degree)
    lowest = 0
    for k in range(n - 1, -1, -1):
        v, lowest = take_smallest(heads, after, before, lowest)
        order[k], gone[v] = v, True
        for row in rows[starts[v] : starts[v + 1]]:
            for w in columns[row_starts[row] : row_starts[row + 1]]:
                if not gone[w] and seen[w] != v:
                    seen[w] = v
                    unlink(heads, after, before, w, degree[w])
                    degree[w] -= 1
                    link(heads, after, before, w, degree[w])
                    lowest = min(lowest, degree[w])
    return order


@compiled()
def neighbours(starts, indices):
    """A symmetric pattern's graph: neighbours without the diagonal, and the number of each edge."""
    n = len(starts) - 1
    bounds = np.zeros(n + 1, np.int64)
    for v in range(n):
        own = 0
        for w in indices[starts[v] : starts[v + 1]]:
            own += w != v
        bounds[v + 1] = bounds[v] + own
    near, edges = np.empty(bounds[-1], np.int32), np.empty(bounds[-1], np.int64)
    place, m = bounds[:-1].copy(), 0
    # Rows in order and ascending neighbours: the lower end meets each edge in its own order.
    for v in range(n):
        for w in indices[starts[v] : starts[v + 1]]:
            if w > v:
                near[place[v]], edges[place[v]] = w, m
                near[place[w]], edges[place[w]] = v, m
                place[v] += 1
                place[w] += 1
                m += 1
    return bounds, near, edges


@compiled()
def direct_cover(row_starts, columns, starts, rows):
    """Which entries are to be found by columns, the others by rows: True for the former.

    Coleman and Verma, "The efficient computation of sparse Jacobian matrices using automatic
    differentiation", SIAM J. Sci. Comput. 19 (1998), by minimum nonzero counts: the row or column
    with the fewest entries left is taken away, whichever raises the larger counts taken so far by
    less; a row's entries are found by columns, and a column's by rows.
    """
    n_rows, n_columns = len(row_starts) - 1, len(starts) - 1
    by_column = np.zeros(len(columns), np.bool_)
    row_degree, column_degree = row_starts[1:] - row_starts[:-1], starts[1:] - starts[:-1]
    row_gone, column_gone = np.zeros(n_rows, np.bool_), np.zeros(n_columns, np.bool_)
    row_heads, row_after, row_before = filled_buckets(row_degree)
    heads, after, before = filled_buckets(column_degree)
    left, most_by_columns, most_by_rows, lowest_row, lowest = len(columns), 0, 0, 0, 0
    row_next = True
    while left:
        while row_heads[lowest_row] < 0:
            lowest_row += 1
        while heads[lowest] < 0:
            lowest += 1
        with_row = most_by_rows + max(most_by_columns, lowest_row)
        with_column = most_by_columns + max(most_by_rows, lowest)
        if with_row != with_column:
            row_next = with_row < with_column
        elif lowest_row != lowest:
            row_next = lowest_row < lowest
        # Else as the last time: what is left of a full row is then not torn apart.
        if row_next:
            row = row_heads[lowest_row]
            unlink(row_heads, row_after, row_before, row, lowest_row)
            row_gone[row], left = True, left - lowest_row
            most_by_columns = max(most_by_columns, lowest_row)
            for k in range(row_starts[row], row_starts[row + 1]):
                w = columns[k]
                if not column_gone[w]:
                    by_column[k] = True
                    unlink(heads, after, before, w, column_degree[w])
                    column_degree[w] -= 1
                    link(heads, after, before, w, column_degree[w])
                    lowest = min(lowest, column_degree[w])
        else:
            v = heads[lowest]
            unlink(heads, after, before, v, lowest)
            column_gone[v], left = True, left - lowest
            most_by_rows = max(most_by_rows, lowest)
            for row in rows[starts[v] : starts[v + 1]]:
                if not row_gone[row]:
                    degree = row_degree[row]
                    unlink(row_heads, row_after, row_before, row, degree)
                    row_degree[row] = degree - 1
                    link(row_heads, row_after, row_before, row, degree - 1)
                    lowest_row = min(lowest_row, degree - 1)
    return by_column
