# mypy: allow-untyped-defs
"""The loops over graphs of dependence, compiled by Numba; see `dependence` and `patterns`."""

import numpy as np
from numba import types

from tapeflow.jit import INDICES, INTS, compiled, helper


@compiled()
def group_edges(targets, sources, n):
    """Edges by their target, in the order given: where each target's begin, and their sources."""
    starts = np.zeros(n + 1, np.int64)
    for target in targets:
        starts[target + 1] += 1
    for k in range(n):
        starts[k + 1] += starts[k]
    place = starts[:-1].copy()
    grouped = np.empty(len(sources), np.int32)
    for k in range(len(targets)):
        grouped[place[targets[k]]] = sources[k]
        place[targets[k]] += 1
    return starts, grouped


@compiled()
def index_sets(starts, sources, column, outputs, n_columns):
    """For each output node the columns of the inputs that it depends on, in no order.

    column: the column of each input node, the first nodes, or -1. A node that only one other reads
    has no set of its own: whoever asks looks through it. So a chain of sums, however long, costs as
    much as its terms. A set equal to that of a node it is made of is the same stretch of memory.
    """
    n, n_inputs = len(starts) - 1, len(column)
    reads = np.zeros(n, np.int32)
    for source in sources:
        reads[source] += 1
    for node in outputs:
        reads[node] += 2
    first, last = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    pool, used = np.empty(1024, np.int32), 0
    seen, stack = np.full(n_columns, -1, np.int32), np.empty(n + 1, np.int32)
    for node in range(n_inputs, n):
        if reads[node] < 2:
            continue
        start, largest, top = used, -1, 1
        stack[0] = node
        while top:
            top -= 1
            own = stack[top]
            for source in sources[starts[own] : starts[own + 1]]:
                if source < n_inputs:
                    if used == len(pool):
                        pool = np.concatenate((pool, pool))
                    found = column[source]
                    if found >= 0 and seen[found] != node:
                        seen[found], pool[used] = node, found
                        used += 1
                    continue
                size = last[source] - first[source]
                if first[source] < 0:
                    stack[top] = source
                    top += 1
                elif size and (largest < 0 or first[largest] != first[source]):
                    while used + size > len(pool):
                        pool = np.concatenate((pool, pool))
                    for found in pool[first[source] : last[source]]:
                        if seen[found] != node:
                            seen[found], pool[used] = node, found
                            used += 1
                    if largest < 0 or size > last[largest] - first[largest]:
                        largest = source
        first[node], last[node] = start, used
        if largest >= 0 and last[largest] - first[largest] == used - start:
            first[node], last[node] = first[largest], last[largest]
            used = start
    return rows_of(first, last, pool, column, outputs)


@helper(types.Tuple((INTS, INDICES)))
def rows_of(first, last, pool, column, outputs):
    """The sets of the output nodes, one after the other."""
    bounds = np.zeros(len(outputs) + 1, np.int64)
    for k in range(len(outputs)):
        node = outputs[k]
        if node < len(column):
            bounds[k + 1] = bounds[k] + (column[node] >= 0)
        else:
            bounds[k + 1] = bounds[k] + last[node] - first[node]
    indices = np.empty(bounds[-1], np.int32)
    for k in range(len(outputs)):
        node, place = outputs[k], bounds[k]
        if node >= len(column):
            # Numba compiles the assignment of a part for a second.
            for j in range(last[node] - first[node]):
                indices[place + j] = pool[first[node] + j]
        elif column[node] >= 0:
            indices[place] = column[node]
    return bounds, indices


@compiled()
def transposed(starts, indices, n):
    """The rows of a pattern as columns, each in ascending order; n: how many there are."""
    bounds = np.zeros(n + 1, np.int64)
    for index in indices:
        bounds[index + 1] += 1
    for k in range(n):
        bounds[k + 1] += bounds[k]
    place = bounds[:-1].copy()
    found = np.empty(len(indices), np.int32)
    for row in range(len(starts) - 1):
        for k in range(starts[row], starts[row + 1]):
            found[place[indices[k]]] = row
            place[indices[k]] += 1
    return bounds, found
