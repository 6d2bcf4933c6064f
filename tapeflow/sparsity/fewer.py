# mypy: allow-untyped-defs
"""One colour fewer than a greedy colouring has, by moving columns about; compiled by Numba.

Blöchliger and Zufferey, "A graph coloring heuristic using partial solutions and a reactive tabu
scheme", Computers & Operations Research 35 (2008): columns without a colour are given one in turn,
that which the fewest neighbours have; these lose it, and may not have it again for a while.
"""

import numpy as np

from tapeflow.jit import INT, compiled, helper

SAMPLED = 20
"""Columns without a colour of which the best is looked for."""


@compiled()
def neighbours_of_columns(starts, rows, row_starts, columns, most):
    """Where each column's neighbours, which share a row with it, begin, and which they are.

    There are none in the result if all have more than ``most`` together.
    """
    n = len(starts) - 1
    bounds, seen = np.zeros(n + 1, np.int64), np.full(n, -1, np.int64)
    near, count = np.empty(1024, np.int32), 0
    for v in range(n):
        seen[v] = v
        for row in rows[starts[v] : starts[v + 1]]:
            for w in columns[row_starts[row] : row_starts[row + 1]]:
                if seen[w] == v:
                    continue
                if count == most:
                    return bounds[:1], near[:0]
                if count == len(near):
                    near = np.concatenate((near, near))
                seen[w], near[count] = v, w
                count += 1
        bounds[v + 1] = count
    return bounds, near[:count].copy()


@helper(INT)
def drawn(state, n):
    """A number below n, and the next state of a generator of random ones (Marsaglia's xorshift)."""
    x = state[0]
    x ^= (x << 13) & 0x7FFFFFFFFFFFFFFF
    x ^= x >> 7
    x ^= (x << 17) & 0x7FFFFFFFFFFFFFFF
    state[0] = x
    return x % n


@compiled()
def with_fewer(bounds, near, colors, n_colors, patience):
    """Colours below n_colors; -1 for columns that none was found for.

    patience: steps without fewer such columns after which it is given up.
    """
    n = len(colors)
    colors, place = colors.copy(), np.full(n, -1, np.int64)
    left, n_left, state = np.empty(n, np.int64), 0, np.full(1, 88172645463325252, np.int64)
    around, barred = np.zeros((n, n_colors), np.int32), np.zeros((n, n_colors), np.int64)
    for v in range(n):
        if colors[v] >= n_colors:
            colors[v], place[v], left[n_left] = -1, n_left, v
            n_left += 1
            continue
        for w in near[bounds[v] : bounds[v + 1]]:
            around[w, colors[v]] += 1
    fewest, since, step = n_left, 0, 0
    while n_left and since < patience:
        step, since = step + 1, since + 1
        best, color, lowest, ties = -1, -1, n, 0
        for k in range(min(n_left, SAMPLED)):
            v = left[k] if n_left <= SAMPLED else left[drawn(state, n_left)]
            for c in range(n_colors):
                if around[v, c] > lowest or (barred[v, c] > step and around[v, c]):
                    continue
                ties = ties + 1 if around[v, c] == lowest else 1
                if drawn(state, ties) == 0:
                    best, color, lowest = v, c, around[v, c]
        if best < 0:
            continue
        n_left -= 1
        left[place[best]], place[left[n_left]] = left[n_left], place[best]
        colors[best], place[best] = color, -1
        for w in near[bounds[best] : bounds[best + 1]]:
            around[w, color] += 1
            if colors[w] == color:
                colors[w], place[w], left[n_left] = -1, n_left, w
                n_left += 1
                barred[w, color] = step + 3 * n_left // 5 + drawn(state, 10)
                for x in near[bounds[w] : bounds[w + 1]]:
                    around[x, color] -= 1
        if n_left < fewest:
            fewest, since = n_left, 0
    return colors
