# mypy: allow-untyped-defs
"""Sums of the blocks of a scattered problem, compiled by Numba."""

import numpy as np

from tapeflow.jit import compiled


@compiled()
def spread(blocks, places, starts, data):
    """Add each number of the blocks, (n, rows, count), to its place in its row."""
    n, n_rows, count = blocks.shape
    for k in range(n):
        for row in range(n_rows):
            first = starts[k * n_rows + row]
            for j in range(count):
                data[first + places[k, j]] += blocks[k, row, j]


@compiled()
def transposed_product(blocks, columns, residuals, gradient):
    """Add J^T r to the gradient, element by element."""
    n, n_rows, count = blocks.shape
    for k in range(n):
        for j in range(count):
            total = 0.0
            for row in range(n_rows):
                total += blocks[k, row, j] * residuals[k, row]
            gradient[columns[k, j]] += total


@compiled()
def block_columns(row_starts, columns, first, size, starts):
    """The columns of every row, of blocks by row of nodes."""
    found, row = np.empty(starts[-1], np.int32), 0
    for node in range(len(size)):
        for _ in range(size[node]):
            place = starts[row]
            for k in range(row_starts[node], row_starts[node + 1]):
                for j in range(size[columns[k]]):
                    found[place] = first[columns[k]] + j
                    place += 1
            row += 1
    return found


@compiled()
def products(jacobians, terms, term_starts, blocks, first, last, data):
    """Blocks first to last - 1 of J^T J: sums of products of two parts of an element's block."""
    n_rows = jacobians.shape[1]
    for k in range(first, last):
        m, n, place, width = blocks[k, 0], blocks[k, 1], blocks[k, 2], blocks[k, 3]
        mirror, mirror_width = blocks[k, 4], blocks[k, 5]
        diagonal = place == mirror
        for i in range(m):
            for j in range(i if diagonal else 0, n):
                data[place + i * width + j] = 0.0
        for term in range(term_starts[k], term_starts[k + 1]):
            element, a, b = terms[term, 0], terms[term, 1], terms[term, 2]
            for row in range(n_rows):
                for i in range(m):
                    left = jacobians[element, row, a + i]
                    for j in range(i if diagonal else 0, n):
                        data[place + i * width + j] += left * jacobians[element, row, b + j]
        for i in range(m):
            for j in range(i if diagonal else 0, n):
                data[mirror + j * mirror_width + i] = data[place + i * width + j]
