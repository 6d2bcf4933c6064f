"""How a sparse matrix is found: its colouring, and the way from the sums back to its entries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow.sparsity.coloring import (
    Coloring,
    SymmetricColoring,
    both_of,
    columns_of,
    symmetric_of,
)
from tapeflow.sparsity.patterns import Pattern
from tapeflow.structure import Floats, Ints


@dataclass(frozen=True, eq=False)
class Method:
    """colors of columns, which are swept forward, and of rows, in reverse; -1 for none.

    recover: from sums of shape (points, sums) to entries of shape (points, nnz).
    """

    mode: str
    columns: Any
    rows: Any
    recover: Callable[[Floats], Floats]
    order: str

    @property
    def n_colors(self) -> int:
        return int(self.columns.max(initial=-1) + self.rows.max(initial=-1)) + 2


JACOBIAN_MODES = ("auto", "entrywise", "forward", "reverse", "both")
HESSIAN_MODES = ("auto", "entrywise", "star", "acyclic", "forward")


def jacobian_method(pattern: Pattern, mode: str, order: str) -> Method:
    """The way with the fewest colours; "auto" tries those first that may need the fewest."""
    if mode != "auto":
        return _WAYS[mode](pattern, order)
    row = int(np.diff(pattern.starts).max(initial=0))
    column = int(np.diff(pattern.transposed.starts).max(initial=0))
    best: Method | None = None
    for lowest, name in sorted([(row, "forward"), (column, "reverse")], key=lambda pair: pair[0]):
        # A full row and a full column: what is left would be no sparse method at all.
        if min(row, column) > _FULL and best is None:
            best = _by_both(pattern, order)
        if best is None or lowest < best.n_colors:
            found = _WAYS[name](pattern, order)
            best = found if best is None or found.n_colors < best.n_colors else best
    assert best is not None
    if best.mode != "both" and best.n_colors > 3:
        found = _by_both(pattern, order)
        best = found if found.n_colors < best.n_colors else best
    return best


_FULL = 64
"""Entries of a row, and of a column, from which rows and columns together are tried first."""


def _none(n: int) -> Any:
    return np.full(n, -1, np.int32)


def _by_columns(pattern: Pattern, order: str) -> Method:
    coloring = columns_of(pattern, order)
    rows = np.repeat(np.arange(pattern.n_rows), np.diff(pattern.starts))
    places = coloring.colors[pattern.indices].astype(np.int64) * pattern.n_rows + rows
    return _direct("forward", pattern, coloring, None, places)


def _by_rows(pattern: Pattern, order: str) -> Method:
    coloring = columns_of(pattern.transposed, order)
    rows = np.repeat(np.arange(pattern.n_rows), np.diff(pattern.starts))
    places = coloring.colors[rows].astype(np.int64) * pattern.n_columns + pattern.indices
    return _direct("reverse", pattern, None, coloring, places)


def _by_both(pattern: Pattern, order: str) -> Method:
    of_rows, of_columns, by_columns = both_of(pattern, order)
    rows = np.repeat(np.arange(pattern.n_rows), np.diff(pattern.starts))
    forward = of_columns.colors[pattern.indices].astype(np.int64) * pattern.n_rows + rows
    before = of_columns.n_colors * pattern.n_rows
    reverse = before + of_rows.colors[rows].astype(np.int64) * pattern.n_columns + pattern.indices
    return _direct("both", pattern, of_columns, of_rows, np.where(by_columns, forward, reverse))


_WAYS = {"forward": _by_columns, "reverse": _by_rows, "both": _by_both}


def _direct(
    mode: str, pattern: Pattern, columns: Coloring | None, rows: Coloring | None, places: Ints
) -> Method:
    def recover(sums: Floats) -> Floats:
        from tapeflow.sparsity.recovery import gathered

        found: Floats = gathered(sums, places)
        return found

    orders = {coloring.order for coloring in (columns, rows) if coloring is not None}
    return Method(
        mode,
        _colors(columns, pattern.transposed),
        _colors(rows, pattern),
        recover,
        ", ".join(sorted(orders)),
    )


def _colors(coloring: Coloring | None, lines: Pattern) -> Any:
    """Colours of rows, or of columns, but for those without an entry."""
    if coloring is None:
        return _none(lines.n_rows)
    return np.where(np.diff(lines.starts) > 0, coloring.colors, -1)


def hessian_method(pattern: Pattern, mode: str, order: str) -> Method:
    """ "auto" is by stars: as exact as a sweep for each column."""
    if mode == "forward":
        return _by_columns(pattern, order)
    kind = "acyclic" if mode == "acyclic" else "star"
    coloring = symmetric_of(pattern, kind, order)
    return (_by_trees if kind == "acyclic" else _by_stars)(pattern, coloring)


def _by_stars(pattern: Pattern, coloring: SymmetricColoring) -> Method:
    """Each entry from the sum that its hub's column is in, in the spoke's row."""
    rows = np.repeat(np.arange(pattern.n_rows), np.diff(pattern.starts))
    hubs, spokes = rows.copy(), rows.copy()
    off = np.flatnonzero(pattern.indices != rows)
    _, near, edges = coloring.graph
    hubs[off] = coloring.parts[edges]
    spokes[off] = rows[off] + near - hubs[off]
    # Only hubs, and what has a diagonal entry, need to be in a sum.
    needed = np.zeros(pattern.n_columns, np.bool_)
    needed[hubs] = True
    used = np.unique(coloring.colors[needed])
    fewer = np.where(needed, np.searchsorted(used, coloring.colors), -1).astype(np.int32)
    kept = Coloring(fewer, coloring.order)
    places = kept.colors[hubs].astype(np.int64) * pattern.n_rows + spokes
    return _direct("star", pattern, kept, None, places)


def _by_trees(pattern: Pattern, coloring: SymmetricColoring) -> Method:
    from tapeflow.sparsity.recovery import substitution_steps

    n = pattern.n_rows
    colors = coloring.colors.astype(np.int64)
    starts, near, edges = coloring.graph
    rows = np.repeat(np.arange(n), np.diff(pattern.starts))
    off, on = np.flatnonzero(pattern.indices != rows), np.flatnonzero(pattern.indices == rows)
    steps = substitution_steps(starts, near, edges, coloring.colors)
    edge, leaf = steps[:, 0], steps[:, 1]
    # Both entries of each edge: the first met is the upper one.
    upper, lower = np.empty(len(edge), np.int64), np.empty(len(edge), np.int64)
    above = near > rows[off]
    upper[edges[above]], lower[edges[~above]] = off[above], off[~above]
    other = rows[upper[edge]] + pattern.indices[upper[edge]] - leaf
    tables = (
        colors[rows[on]] * n + rows[on],
        on,
        colors[other] * n + leaf,
        upper[edge],
        lower[edge],
        steps[:, 2].copy(),
        steps[:, 3].copy(),
    )

    def recover(sums: Floats) -> Floats:
        from tapeflow.sparsity.recovery import substituted

        found: Floats = substituted(sums, *tables)
        return found

    return Method("acyclic", coloring.colors, _none(n), recover, coloring.order)
