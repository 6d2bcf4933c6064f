"""Colourings of a sparse matrix: which columns, or rows, can share one sweep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow.sparsity.patterns import Pattern
from tapeflow.structure import Ints

ORDERS = ("natural", "largest_first", "smallest_last")
"""In which vertices are coloured."""

COLUMN_ORDERS = ("saturation", *ORDERS)
"""The same for columns alone, or rows."""

_MANY = 1024
"""Colours from which the saturation, which has a bit a colour and column, is only for who asks."""


@dataclass(frozen=True, eq=False)
class Coloring:
    """Colours, numbered from 0, of the rows or columns of a matrix.

    colors: int32, -1 for one that needs no sweep. order: in which they were coloured.
    """

    colors: Any
    order: str

    @property
    def n_colors(self) -> int:
        return int(self.colors.max(initial=-1)) + 1

    def __repr__(self) -> str:
        return f"<{self.n_colors} colours of {len(self.colors)}, {self.order}>"


@dataclass(frozen=True, eq=False, repr=False)
class SymmetricColoring(Coloring):
    """Colours of a symmetric matrix's rows, which are its columns as well.

    graph: the neighbours of each row, where they start and which edge leads to each. parts: for
    each edge the hub of its star, or the tree of two colours that it is part of.
    """

    graph: tuple[Any, Any, Any]
    parts: Ints


def color_columns(matrix: Any, order: str = "auto") -> Coloring:
    """Colours of a matrix's columns such that no row has entries in two columns of one colour.

    matrix: sparse or dense; only where it has entries matters. order: "natural", "largest_first",
    "smallest_last" or "saturation", by the colours already around a column; "auto" tries all, keeps
    the one of fewest colours, and moves columns about until it does with fewer, if it can. The
    columns of one colour share a sweep forward, and their entries are read off its result: the
    partial distance-2 colouring of Gebremedhin, Manne and Pothen (2005). Raises ValueError for
    another order.

    >>> tpf.sparsity.color_columns(np.eye(4)).n_colors
    1
    """
    return columns_of(Pattern.of_matrix(matrix), order)


def color_rows(matrix: Any, order: str = "auto") -> Coloring:
    """Colours of a matrix's rows such that no column has entries in two rows of one colour.

    As `color_columns` of the transpose; the rows of one colour share a sweep in reverse.
    """
    return columns_of(Pattern.of_matrix(matrix).transposed, order)


def color_both(matrix: Any, order: str = "auto") -> tuple[Coloring, Coloring]:
    """Colours of some rows and some columns that together give every entry.

    Returns (of the rows, of the columns). Each entry is alone of its colour among the coloured
    columns of its row, or among the coloured rows of its column. For arrow-shaped matrices, which
    have full rows as well as full columns. The cover is Coleman and Verma's (1998).

    >>> arrow = np.eye(9); arrow[0] = arrow[:, 0] = 1.0
    >>> rows, columns = tpf.sparsity.color_both(arrow)
    >>> rows.n_colors + columns.n_colors
    3
    """
    rows, columns, _ = both_of(Pattern.of_matrix(matrix), order)
    return rows, columns


def color_symmetric(matrix: Any, kind: str = "star", order: str = "auto") -> Coloring:
    """Colours of a symmetric matrix's columns, fewer than without the symmetry.

    kind: "star", where no path of four has two colours, and each entry is read off its own column's
    sweep or its row's; or "acyclic", where no cycle has two colours, and entries are found by
    substitution: fewer colours still, but differences of results. The algorithms are those of
    Gebremedhin, Tarafdar, Manne and Pothen (2007). order: as in `color_columns`, but that there is
    no "saturation" of acyclic colourings. Raises ValueError for another kind or order, and
    for a pattern that is not symmetric.

    >>> full = np.ones((4, 4))
    >>> tridiagonal = np.triu(np.tril(full, 1), -1)
    >>> tpf.sparsity.color_symmetric(tridiagonal, "acyclic").n_colors
    2
    """
    pattern = Pattern.of_matrix(matrix)
    other = pattern.transposed
    if pattern.n_rows != pattern.n_columns or not (
        np.array_equal(pattern.starts, other.starts)
        and np.array_equal(pattern.indices, other.indices)
    ):
        raise ValueError("the pattern is not symmetric: use color_columns, or add its transpose")
    return symmetric_of(pattern, kind, order)


def columns_of(pattern: Pattern, order: str = "auto") -> Coloring:
    from tapeflow.sparsity import greedy, orders

    by_row, by_column = _sides(pattern)
    lowest = int(np.diff(pattern.starts).max(initial=0))
    used = np.diff(by_column[0]) > 0
    if order == "auto" and lowest == used.sum():
        # Some row has them all.
        return Coloring(np.where(used, np.cumsum(used) - 1, 0).astype(np.int32), "natural")

    def ordered(name: str) -> Ints:
        if name == "natural":
            return np.arange(pattern.n_columns)
        degree = orders.degrees_of_columns(*by_column, *by_row)
        if name == "largest_first":
            return np.argsort(-degree, kind="stable")
        found: Ints = orders.smallest_last_columns(degree, *by_column, *by_row)
        return found

    def color(name: str) -> Coloring:
        if name != "saturation":
            return Coloring(greedy.partial_distance_two(ordered(name), *by_column, *by_row), name)
        words = 1
        while True:
            found = greedy.most_saturated_first(*by_column, *by_row, words)
            if len(found) == pattern.n_columns:
                return Coloring(found, name)
            words *= 2

    tried = COLUMN_ORDERS if order != "auto" or lowest < _MANY else ORDERS
    best: Coloring = _fewest(color, order, lowest, tried)
    return _moved(best, lowest, by_row, by_column) if order == "auto" else best


def _moved(found: Coloring, lowest: int, by_row: Any, by_column: Any) -> Coloring:
    """The colouring with as few colours as moving columns about finds, but not below the lowest."""
    if found.n_colors <= lowest:
        return found
    from tapeflow.sparsity import fewer

    graph = fewer.neighbours_of_columns(*by_column, *by_row, _MOST_NEIGHBOURS)
    if len(graph[0]) == 1 or len(found.colors) * found.n_colors > _MOST_NEIGHBOURS:
        return found
    patience = min(_PATIENCE, 100 * len(found.colors))
    while found.n_colors > lowest:
        # The colour of the fewest columns is the one to do without.
        sizes = np.bincount(found.colors)
        rank = np.empty(len(sizes), np.int32)
        rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
        n = found.n_colors - 1
        colors = fewer.with_fewer(*graph, rank[found.colors], n, patience)
        if (colors < 0).any():
            break
        found = Coloring(colors, f"{found.order.removesuffix(_MOVED)}{_MOVED}")
    return found


_MOVED = ", moved"

_MOST_NEIGHBOURS = 1 << 24
"""Pairs of columns that share a row, up to which columns are moved about."""

_PATIENCE = 200_000
"""Moves, of about a microsecond, after which there is no hope of doing with a colour fewer; and at
most a hundred a column."""


def both_of(pattern: Pattern, order: str = "auto") -> tuple[Coloring, Coloring, Any]:
    """The colours of rows and of columns, and for each entry whether it is found by columns."""
    from tapeflow.sparsity import orders

    by_row, by_column = _sides(pattern)
    by_columns = orders.direct_cover(*by_row, *by_column)
    # The same flags in the order of the columns.
    number = np.argsort(pattern.indices, kind="stable")
    covers = by_row, by_columns, by_column
    of_columns = _cover_coloring(*covers, order)
    of_rows = _cover_coloring(by_column, ~by_columns[number], by_row, order)
    return of_rows, of_columns, by_columns


def _cover_coloring(by_row: Any, flags: Any, by_column: Any, order: str) -> Coloring:
    """Colours of the columns that have entries to find by them."""
    from tapeflow.sparsity import greedy, orders

    starts = np.concatenate([[0], np.cumsum(flags)])[by_row[0]]
    cover = by_row[1][flags]
    degree = np.bincount(cover, minlength=len(by_column[0]) - 1)

    def color(name: str) -> Coloring:
        if name == "natural":
            own = np.arange(len(degree))
        elif name == "largest_first":
            own = np.argsort(-degree, kind="stable")
        else:
            columns = _turned(starts, cover, len(degree))
            count = orders.degrees_of_columns(*columns, starts, cover)
            own = orders.smallest_last_columns(count, *columns, starts, cover)
        found = greedy.partial_cover(own, *by_column, *by_row, starts, cover)
        return Coloring(found, name)

    best: Coloring = _fewest(color, order, lowest=int(np.diff(starts).max(initial=0)))
    return best


def symmetric_of(pattern: Pattern, kind: str = "star", order: str = "auto") -> SymmetricColoring:
    from tapeflow.sparsity import greedy, orders

    if kind not in ("star", "acyclic"):
        raise ValueError(f'kind must be "star" or "acyclic", not {kind!r}')
    graph = orders.neighbours(pattern.starts, pattern.indices)
    starts, near, _ = graph
    run = greedy.star if kind == "star" else greedy.acyclic

    def color(name: str) -> SymmetricColoring:
        degree = np.diff(starts)
        if name == "saturation":
            # Colours apart in every row are a star colouring too, and either end is the hub.
            whole = columns_of(_with_diagonal(pattern), order)
            ends = np.empty(len(near) // 2, np.int64)
            ends[graph[2]] = near
            return SymmetricColoring(whole.colors, whole.order, graph, ends)
        if name == "natural":
            own = np.arange(len(degree))
        elif name == "largest_first":
            own = np.argsort(-degree, kind="stable")
        else:
            own = orders.smallest_last(degree, starts, near)
        colors, parts = run(own, *graph)
        return SymmetricColoring(colors, name, graph, parts)

    tried = ORDERS if kind == "acyclic" or len(near) > _MANY * len(starts) else COLUMN_ORDERS
    best: SymmetricColoring = _fewest(color, order, 1 + (len(near) > 0), tried)
    return best


def _with_diagonal(pattern: Pattern) -> Pattern:
    from scipy.sparse import eye_array

    return Pattern.of_matrix(pattern.matrix(np.ones(pattern.nnz)) + eye_array(pattern.n_rows))


def _fewest(
    color: Callable[[str], Any], order: str, lowest: int, names: Sequence[str] = ORDERS
) -> Any:
    """The colouring in an order; or, of all orders, the first with the fewest colours.

    lowest: as many colours as there must be, after which no other order is tried.
    """
    if order != "auto":
        if order not in names:
            raise ValueError(f"order must be auto or one of {', '.join(names)}, not {order!r}")
        return color(order)
    best = None
    for name in names:
        found = color(name)
        if best is None or found.n_colors < best.n_colors:
            best = found
        if best.n_colors <= lowest:
            break
    return best


def _sides(pattern: Pattern) -> tuple[Any, Any]:
    """Where rows start and their columns, and where columns start and their rows."""
    other = pattern.transposed
    return (pattern.starts, pattern.indices), (other.starts, other.indices)


def _turned(starts: Any, indices: Any, n: int) -> Any:
    from tapeflow.sparsity.walks import transposed

    return transposed(starts, indices, n)
