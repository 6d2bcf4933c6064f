"""A large instruction of one sample as pieces, which threads may work on side by side.

Each piece is an instruction of its own, with a part of the results; all of them in turn are the
whole. No bit depends on how many there are.
"""

import itertools
from collections.abc import Sequence

PIECES = 8

_LARGE = 200_000
"""Numbers times steps from which handing pieces to threads costs less than it saves."""

Record = list[int]


def of_grid(record: Record, n_results: int, full: Sequence[bool], steps: int) -> list[Record]:
    """The records of an elementwise kernel's pieces (see `kernels.grid_kernel`).

    full: for each input, whether the inner loop reads one number after the other.
    """
    n0, n1, n2, count = record[:4]
    if n0 * n1 * n2 * count * steps < _LARGE:
        return [record]
    results, inputs = record[4 : 4 + n_results], record[4 + n_results :]
    rows = next((axis for axis in range(3) if record[axis] > 1), None)
    length = -(-count // 8) if rows is None else record[rows]
    if length < 2 * PIECES:
        return [record]
    pieces = []
    for first, last in _cuts(length):
        own = record[:4]
        if rows is None:
            # In groups of eight numbers; the last piece has what is left.
            first, last = 8 * first, min(8 * last, count)
            own[3] = last - first
            moved = [place + first for place in results]
            for k, whole in enumerate(full):
                place, *strides = inputs[4 * k : 4 * k + 4]
                moved += [place + first * whole, *strides]
        else:
            own[rows] = last - first
            inside = [n1 * n2, n2, 1][rows] * count
            moved = [place + first * inside for place in results]
            for k in range(len(full)):
                place, *strides = inputs[4 * k : 4 * k + 4]
                moved += [place + first * strides[rows], *strides]
        pieces.append([*own, *moved])
    return pieces


def of_reduction(record: Record) -> list[Record]:
    """The records of the pieces of a sum or an extreme: some of its groups each."""
    result, place, shared, outer, n, inner = record
    if outer * n * inner < _LARGE or outer < 2 * PIECES:
        return [record]
    return [
        [result + first * inner, place + first * n * inner, shared, last - first, n, inner]
        for first, last in _cuts(outer)
    ]


def _cuts(length: int) -> list[tuple[int, int]]:
    ends = [length * k // PIECES for k in range(PIECES + 1)]
    return list(itertools.pairwise(ends))
