# mypy: allow-untyped-defs
"""Greedy colouring, compiled by Numba: each vertex in turn gets the first colour that is allowed.

The algorithms and their names are those of Gebremedhin, Manne and Pothen, "What color is your
Jacobian? Graph coloring for computing derivatives", SIAM Review 47 (2005), and, for star and
acyclic colourings, of Gebremedhin, Tarafdar, Manne and Pothen, "New acyclic and star coloring
algorithms with application to computing Hessians", SIAM J. Sci. Comput. 29 (2007).

A graph is its vertices' neighbours: those of v are near[starts[v]:starts[v + 1]]. Colours are
numbered from 0, and -1 is none.
"""

import numpy as np

from tapeflow.jit import INT, compiled, helper
from tapeflow.sparsity.orders import link, unlink


@helper(INT)
def first_allowed(forbidden, vertex):
    """The first colour not forbidden to a vertex."""
    color = 0
    while forbidden[color] == vertex:
        color += 1
    return color


@compiled()
def partial_distance_two(order, starts, rows, row_starts, columns):
    """Colours of columns such that no row has two of one colour. rows: those of each column."""
    n = len(starts) - 1
    colors, forbidden = np.full(n, -1, np.int32), np.full(n + 1, -1, np.int64)
    for v in order:
        for row in rows[starts[v] : starts[v + 1]]:
            for w in columns[row_starts[row] : row_starts[row + 1]]:
                if colors[w] >= 0:
                    forbidden[colors[w]] = v
        colors[v] = first_allowed(forbidden, v)
    return colors


@compiled()
def most_saturated_first(starts, rows, row_starts, columns, words):
    """As `partial_distance_two`; next is always the column with most colours around it (Brelaz).

    Of several the one that came there last, so colours spread from where they are. Up to 64 colours
    a word; there are none in the result if that is too few.
    """
    n = len(starts) - 1
    colors, rank, seen = np.full(n, -1, np.int32), np.zeros(n, np.int64), np.full(n, -1, np.int64)
    met = np.zeros((n, words), np.uint64)
    heads = np.full(64 * words + 1, -1, np.int64)
    after, before = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    for v in range(n - 1, -1, -1):
        link(heads, after, before, v, 0)
    highest = 0
    for _ in range(n):
        while heads[highest] < 0:
            highest -= 1
        v, color = heads[highest], 0
        unlink(heads, after, before, v, highest)
        while color < 64 * words and met[v, color // 64] & np.uint64(1) << np.uint64(color % 64):
            color += 1
        if color == 64 * words:
            return colors[:0]
        colors[v] = color
        word, bit = color // 64, np.uint64(1) << np.uint64(color % 64)
        for row in rows[starts[v] : starts[v + 1]]:
            for w in columns[row_starts[row] : row_starts[row + 1]]:
                if colors[w] >= 0 or seen[w] == v:
                    continue
                seen[w] = v
                if not met[w, word] & bit:
                    met[w, word] |= bit
                    unlink(heads, after, before, w, rank[w])
                    rank[w] += 1
                    link(heads, after, before, w, rank[w])
                    highest = max(highest, rank[w])
    return colors


@compiled()
def partial_cover(order, starts, rows, row_starts, columns, cover_starts, cover):
    """Colours of columns for the entries that they are to give.

    cover: for each row, the columns whose entries are found by columns. Such an entry is alone of
    its colour among all coloured columns of its row. A column without one has no colour.
    """
    n = len(starts) - 1
    colors, forbidden = np.full(n, -1, np.int32), np.full(n + 1, -1, np.int64)
    used = np.zeros(n, np.bool_)
    for w in cover:
        used[w] = True
    for v in order:
        if not used[v]:
            continue
        for row in rows[starts[v] : starts[v + 1]]:
            own = False
            for w in cover[cover_starts[row] : cover_starts[row + 1]]:
                own = own or w == v
                if colors[w] >= 0:
                    forbidden[colors[w]] = v
            if own:
                for w in columns[row_starts[row] : row_starts[row + 1]]:
                    if colors[w] >= 0:
                        forbidden[colors[w]] = v
        colors[v] = first_allowed(forbidden, v)
    return colors


@helper()
def forbid_around(starts, near, colors, forbidden, treated, v, w):
    """Forbid the colours of a vertex's neighbours to v."""
    for x in near[starts[w] : starts[w + 1]]:
        if colors[x] >= 0:
            forbidden[colors[x]] = v
    treated[w] = v


@compiled()
def star(order, starts, near, edges):
    """Colours such that neighbours differ, and no path of four vertices has two colours.

    edges: the number of the edge to each neighbour, the same seen from both ends. Returns the
    colours, and for each edge the hub of its star: its other end, the spoke, alone has the hub's
    colour in its row.
    """
    n, m = len(starts) - 1, len(near) // 2
    colors, forbidden = np.full(n, -1, np.int32), np.full(n + 1, -1, np.int64)
    treated, stars = np.full(n, -1, np.int64), np.full(m, -1, np.int64)
    # Of a star of one edge either end may be the hub: it has ~one.
    hubs, n_stars = np.empty(m, np.int64), 0
    seen_by, seen, seen_edge = (
        np.full(n, -1, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    for v in order:
        for k in range(starts[v], starts[v + 1]):
            w = near[k]
            if colors[w] < 0:
                continue
            forbidden[colors[w]] = v
            if seen_by[colors[w]] == v:
                # Two neighbours of one colour: v is the hub of what they would be spokes of.
                if treated[seen[colors[w]]] != v:
                    forbid_around(starts, near, colors, forbidden, treated, v, seen[colors[w]])
                forbid_around(starts, near, colors, forbidden, treated, v, w)
                continue
            seen_by[colors[w]], seen[colors[w]], seen_edge[colors[w]] = v, w, edges[k]
            for j in range(starts[w], starts[w + 1]):
                x = near[j]
                if x != v and colors[x] >= 0 and hubs[stars[edges[j]]] == x:
                    forbidden[colors[x]] = v
        colors[v] = first_allowed(forbidden, v)
        for k in range(starts[v], starts[v + 1]):
            w = near[k]
            if colors[w] < 0:
                continue
            found = -1
            for j in range(starts[w], starts[w + 1]):
                x = near[j]
                if x != v and colors[x] == colors[v]:
                    found = stars[edges[j]]
                    hubs[found] = w
                    break
            if found < 0 and seen[colors[w]] != w:
                found = stars[seen_edge[colors[w]]]
                hubs[found] = v
            if found < 0:
                found, n_stars = n_stars, n_stars + 1
                hubs[found] = ~v
            stars[edges[k]] = found
    own = hubs[stars]
    return colors, np.where(own < 0, ~own, own)


@helper(INT)
def root(parents, k):
    """The tree an edge belongs to; paths to it become shorter."""
    while parents[k] != k:
        parents[k] = parents[parents[k]]
        k = parents[k]
    return k


@compiled()
def acyclic(order, starts, near, edges):
    """Colours such that neighbours differ, and no cycle has two colours.

    Returns the colours, and for each edge the tree of two colours that it belongs to.
    """
    n, m = len(starts) - 1, len(near) // 2
    colors, forbidden = np.full(n, -1, np.int32), np.full(n + 1, -1, np.int64)
    parents, ranks = np.arange(m), np.zeros(m, np.int8)
    seen_by, seen_edge = np.full(n, -1, np.int64), np.empty(n, np.int64)
    visit_by, visit = np.full(m, -1, np.int64), np.empty(m, np.int64)
    for v in order:
        for w in near[starts[v] : starts[v + 1]]:
            if colors[w] >= 0:
                forbidden[colors[w]] = v
        for w in near[starts[v] : starts[v + 1]]:
            if colors[w] < 0:
                continue
            for j in range(starts[w], starts[w + 1]):
                x = near[j]
                if x == v or colors[x] < 0 or forbidden[colors[x]] == v:
                    continue
                tree = root(parents, edges[j])
                if visit_by[tree] != v:
                    visit_by[tree], visit[tree] = v, w
                elif visit[tree] != w:
                    # Two neighbours of v are in one tree of their colour and x's.
                    forbidden[colors[x]] = v
        colors[v] = first_allowed(forbidden, v)
        for k in range(starts[v], starts[v + 1]):
            w = near[k]
            if colors[w] < 0:
                continue
            if seen_by[colors[w]] == v:
                join(parents, ranks, edges[k], seen_edge[colors[w]])
            else:
                seen_by[colors[w]], seen_edge[colors[w]] = v, edges[k]
            for j in range(starts[w], starts[w + 1]):
                if near[j] != v and colors[near[j]] == colors[v]:
                    join(parents, ranks, edges[k], edges[j])
    for k in range(m):
        parents[k] = root(parents, k)
    return colors, parents


@helper()
def join(parents, ranks, a, b):
    """Make one tree of those of two edges."""
    a, b = root(parents, a), root(parents, b)
    if a == b:
        return
    if ranks[a] < ranks[b]:
        a, b = b, a
    parents[b] = a
    ranks[a] += ranks[a] == ranks[b]
