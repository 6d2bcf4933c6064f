"""Colourings, against the definitions of what is valid, on random patterns."""

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.sparsity import color_both, color_columns, color_rows, color_symmetric
from tapeflow.sparsity.coloring import COLUMN_ORDERS, ORDERS, both_of, symmetric_of
from tapeflow.sparsity.patterns import Pattern

orders = st.sampled_from(ORDERS)
column_orders = st.sampled_from(COLUMN_ORDERS)

LARGE = pytest.param(64, marks=pytest.mark.jit)
"""Points along a side of a grid; half a minute without compiled loops."""


@st.composite
def patterns(draw: st.DrawFn, square: bool = False) -> Any:
    m = draw(st.integers(1, 9))
    n = m if square else draw(st.integers(1, 9))
    density = draw(st.sampled_from([0.1, 0.3, 0.6, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    found = rng.random((m, n)) < density
    # Full rows and columns, as arrows have.
    if draw(st.booleans()):
        found[draw(st.integers(0, m - 1))] = True
    if draw(st.booleans()):
        found[:, draw(st.integers(0, n - 1))] = True
    return found


def symmetric_patterns() -> Any:
    return patterns(square=True).map(lambda a: a | a.T)


def columns_are_apart(a: Any, colors: Any) -> bool:
    """Whether no row has two columns of one colour: the definition, pair by pair."""
    pairs = itertools.combinations(range(a.shape[1]), 2)
    return not any(colors[j] == colors[k] and (a[:, j] & a[:, k]).any() for j, k in pairs)


@given(patterns(), column_orders)
def test_columns_and_rows(a: Any, order: str) -> None:
    columns, rows = color_columns(a, order), color_rows(a, order)
    assert columns_are_apart(a, columns.colors)
    assert columns_are_apart(a.T, rows.colors)
    assert columns.n_colors >= a.sum(axis=1).max()
    assert min(columns.colors.min(), rows.colors.min()) == 0


@given(patterns(), orders)
def test_both(a: Any, order: str) -> None:
    rows, columns = (coloring.colors for coloring in color_both(a, order))
    _, _, by_columns = both_of(Pattern.of_matrix(a), order)
    for own, (i, j) in zip(by_columns, np.argwhere(a), strict=True):
        by_column = columns[j] >= 0 and not any(
            columns[k] == columns[j] for k in np.flatnonzero(a[i]) if k != j
        )
        by_row = rows[i] >= 0 and not any(
            rows[k] == rows[i] for k in np.flatnonzero(a[:, j]) if k != i
        )
        assert by_column if own else by_row


def is_proper(a: Any, colors: Any) -> bool:
    return not any(colors[i] == colors[j] for i, j in np.argwhere(a) if i != j)


def has_path_of_two_colors(a: Any, colors: Any) -> bool:
    """Whether a path of four vertices has two colours: what a star colouring forbids."""
    n = len(a)
    return any(
        a[p, q] and a[q, r] and a[r, s] and colors[p] == colors[r] and colors[q] == colors[s]
        for p, q, r, s in itertools.permutations(range(n), 4)
    )


def has_cycle_of_two_colors(a: Any, colors: Any) -> bool:
    """Whether some two colours have as many edges as make a cycle: no forest has."""
    for c, d in itertools.combinations(range(colors.max() + 1), 2):
        own = np.flatnonzero((colors == c) | (colors == d))
        part = a[np.ix_(own, own)] & ~np.eye(len(own), dtype=bool)
        reached, trees = np.zeros(len(own), bool), 0
        for k in range(len(own)):
            if not reached[k]:
                trees += 1
                pending = [k]
                while pending:
                    v = pending.pop()
                    if not reached[v]:
                        reached[v] = True
                        pending += np.flatnonzero(part[v]).tolist()
        if part.sum() // 2 > len(own) - trees:
            return True
    return False


@given(symmetric_patterns(), column_orders)
def test_star(a: Any, order: str) -> None:
    coloring = color_symmetric(a, "star", order)
    assert is_proper(a, coloring.colors)
    assert not has_path_of_two_colors(a, coloring.colors)


@given(symmetric_patterns(), column_orders)
def test_the_hubs_of_stars_are_alone_in_their_spokes_rows(a: Any, order: str) -> None:
    coloring = symmetric_of(Pattern.of_matrix(a), "star", order)
    starts, near, edges = coloring.graph
    for v in range(len(a)):
        for k in range(starts[v], starts[v + 1]):
            hub = coloring.parts[edges[k]]
            assert hub in (v, near[k])
            spoke = v + near[k] - hub
            same = np.flatnonzero(a[spoke] & (coloring.colors == coloring.colors[hub]))
            assert same.tolist() == [hub]


@given(symmetric_patterns(), orders)
def test_acyclic(a: Any, order: str) -> None:
    coloring = color_symmetric(a, "acyclic", order)
    assert is_proper(a, coloring.colors)
    assert not has_cycle_of_two_colors(a, coloring.colors)


def test_the_checkers_see_bad_colorings() -> None:
    path = np.eye(4, k=1, dtype=bool) | np.eye(4, k=-1, dtype=bool)
    ring = path.copy()
    ring[0, 3] = ring[3, 0] = True
    two = np.array([0, 1, 0, 1])
    assert has_path_of_two_colors(path, two)
    assert not has_cycle_of_two_colors(path, two)
    assert has_cycle_of_two_colors(ring, two)
    assert not has_cycle_of_two_colors(ring, np.array([0, 1, 0, 2]))
    assert not columns_are_apart(ring, two)
    assert not is_proper(ring, np.zeros(4))


def laplacian(points: int, reach: list[tuple[int, int]]) -> Any:
    """The pattern of a stencil on a square grid."""
    from scipy.sparse import coo_array

    x, y = (a.ravel() for a in np.meshgrid(range(points), range(points), indexing="ij"))
    rows, columns = [x * points + y], [x * points + y]
    for dx, dy in reach:
        inside = (x + dx >= 0) & (x + dx < points) & (y + dy >= 0) & (y + dy < points)
        rows.append((x * points + y)[inside])
        columns.append(((x + dx) * points + y + dy)[inside])
    i, j = np.concatenate(rows), np.concatenate(columns)
    return coo_array((np.ones(len(i)), (i, j)), shape=(points**2, points**2)).tocsr()


FIVE = [(0, 1), (0, -1), (1, 0), (-1, 0)]
SEVEN = [*FIVE, (1, -1), (-1, 1)]


NINE = [*SEVEN, (1, 1), (-1, -1)]


def brusselator(points: int) -> Any:
    """Two species that diffuse, and react with each other in place."""
    from scipy.sparse import block_array, eye_array

    diffusion, reaction = laplacian(points, FIVE), eye_array(points**2)
    return block_array([[diffusion, reaction], [reaction, diffusion]]).tocsr()


@pytest.mark.parametrize("points", [8, 32, LARGE])
def test_few_colors_for_a_brusselator(points: int) -> None:
    a = brusselator(points)
    # At most two over the six entries of a row, and fewer than in the orders of degrees.
    assert 6 <= color_columns(a).n_colors <= 8
    assert color_columns(a).n_colors <= min(color_columns(a, order).n_colors for order in ORDERS)


def test_many_colors() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((30, 300)) < 0.6
    assert columns_are_apart(a, color_columns(a, "saturation").colors)
    assert color_columns(np.ones((3, 200))).n_colors == 200


@pytest.mark.parametrize(("reach", "lowest"), [(FIVE, 5), (SEVEN, 7), (NINE, 9)])
@pytest.mark.parametrize("points", [10, 31, LARGE])
def test_few_colors_for_stencils(reach: list[tuple[int, int]], lowest: int, points: int) -> None:
    a = laplacian(points, reach)
    # The bar of the project: at most two over as many as a row has entries.
    assert lowest <= color_columns(a).n_colors <= lowest + 2
    star, acyclic = (color_symmetric(a, kind).n_colors for kind in ("star", "acyclic"))
    assert acyclic <= star <= color_columns(a).n_colors


@pytest.mark.parametrize("n", [2, 3, 50, 1000])
def test_three_colors_for_an_arrow(n: int) -> None:
    from scipy.sparse import eye_array

    a = eye_array(n, format="lil")
    a[0] = 1.0
    a[:, 0] = 1.0
    rows, columns = color_both(a)
    assert rows.n_colors + columns.n_colors == min(n, 3)


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="order must be auto or one of saturation, natural"):
        color_columns(np.eye(3), "best")
    with pytest.raises(ValueError, match='kind must be "star" or "acyclic"'):
        color_symmetric(np.eye(3), "planet")
    with pytest.raises(ValueError, match="not symmetric: use color_columns"):
        color_symmetric(np.triu(np.ones((3, 3))))
    assert repr(tpf.sparsity.color_columns(np.eye(3))) == "<1 colours of 3, saturation>"


@given(patterns())
def test_auto_is_valid_and_no_worse_than_any_order(a: Any) -> None:
    found = color_columns(a)
    assert columns_are_apart(a, found.colors)
    assert found.n_colors <= min(color_columns(a, order).n_colors for order in COLUMN_ORDERS)
    assert found.n_colors >= a.sum(axis=1).max()


def torus(points: int) -> Any:
    """A Laplacian on a grid whose ends meet."""
    shift = np.roll(np.eye(points), 1, axis=1)
    line = shift + shift.T + np.eye(points)
    return sp.csr_array(sp.kron(line, np.eye(points)) + sp.kron(np.eye(points), line))


@pytest.mark.jit
@pytest.mark.parametrize(
    ("points", "of_laplacian", "of_brusselator"), [(10, 5, 8), (16, 7, 8), (32, 7, 9), (64, 7, 9)]
)
def test_few_colors_on_a_torus(points: int, of_laplacian: int, of_brusselator: int) -> None:
    """The greedy orders take 8 to 9 and 10 to 12."""
    a = torus(points)
    reaction = sp.eye_array(points**2)
    both = sp.block_array([[a, reaction], [reaction, a]]).tocsr()
    for matrix, most in ((a, of_laplacian), (both, of_brusselator)):
        found = color_columns(matrix)
        assert found.n_colors <= most
        seeds = sp.csr_array((np.ones(len(found.colors)), (range(len(found.colors)), found.colors)))
        ones = sp.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), matrix.shape)
        assert (ones @ seeds).max() == 1.0
        assert np.array_equal(found.colors, color_columns(matrix).colors)
        assert color_symmetric(matrix).n_colors <= found.n_colors
