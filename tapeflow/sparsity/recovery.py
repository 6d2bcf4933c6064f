# mypy: allow-untyped-defs
"""From sums of rows and columns of one colour to a matrix's entries, compiled by Numba."""

import numpy as np

from tapeflow.jit import compiled


@compiled()
def gathered(sums, places):
    """Each entry from its place among the sums of each point."""
    found = np.empty((len(sums), len(places)))
    for point in range(len(sums)):
        for k in range(len(places)):
            found[point, k] = sums[point, places[k]]
    return found


@compiled()
def collected(numbers, places, found, first, last):
    """Entries first to last - 1, each from its place among some numbers."""
    for k in range(first, last):
        # Adding zero makes negative zeros positive.
        found[k] = numbers[places[k]] + 0.0


@compiled()
def added(numbers, entries, places, found):
    """Add numbers at some places to entries, in order."""
    for k in range(len(entries)):
        found[entries[k]] += numbers[places[k]]


@compiled()
def substitution_steps(starts, near, edges, colors):
    """The order in which the edges of trees of two colours are found, leaves first.

    Returns for each step its edge, its leaf, and the numbers of the leaf and of the other end among
    the vertices of all trees. A vertex is in one tree for each colour around it.
    """
    n, m = len(starts) - 1, len(near) // 2
    number, seen = np.full(colors.max() + 1, -1, np.int64), np.full(colors.max() + 1, -1, np.int64)
    ends = np.full((m, 2), -1, np.int64)
    degree, odd = np.zeros(2 * m, np.int64), np.zeros(2 * m, np.int64)
    vertex, count = np.empty(2 * m, np.int64), 0
    for v in range(n):
        for k in range(starts[v], starts[v + 1]):
            color, edge = colors[near[k]], edges[k]
            if seen[color] != v:
                seen[color], number[color], vertex[count] = v, count, v
                count += 1
            own = number[color]
            degree[own] += 1
            # The edges that are left, added bit by bit: of a leaf it is the one.
            odd[own] ^= edge
            ends[edge, 1 if ends[edge, 0] >= 0 else 0] = own
    steps, found = np.empty((m, 4), np.int64), 0
    stack, top = np.empty(2 * m, np.int64), 0
    for own in range(count):
        if degree[own] == 1:
            stack[top] = own
            top += 1
    while top:
        top -= 1
        leaf = stack[top]
        if degree[leaf] != 1:
            continue
        edge = odd[leaf]
        other = ends[edge, 0] + ends[edge, 1] - leaf
        steps[found, 0], steps[found, 1] = edge, vertex[leaf]
        steps[found, 2], steps[found, 3] = leaf, other
        found += 1
        degree[leaf], degree[other], odd[other] = 0, degree[other] - 1, odd[other] ^ edge
        if degree[other] == 1:
            stack[top] = other
            top += 1
    return steps


@compiled()
def substituted(sums, diagonal_places, diagonals, places, upper, lower, leaves, others):
    """Entries by substitution: a leaf's edge is what its sum has beyond the edges found before.

    diagonals, upper, lower: where entries go; a step's edge is two.
    """
    found = np.empty((len(sums), len(diagonals) + 2 * len(upper)))
    known = np.zeros(2 * len(upper))
    for point in range(len(sums)):
        for k in range(len(diagonals)):
            found[point, diagonals[k]] = sums[point, diagonal_places[k]]
        known[:] = 0.0
        for k in range(len(places)):
            value = sums[point, places[k]] - known[leaves[k]]
            found[point, upper[k]] = found[point, lower[k]] = value
            known[others[k]] += value
    return found
