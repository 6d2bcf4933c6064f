"""Layers, their order and their heights, on random graphs."""

import itertools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from tapeflow.graphs.layout import (
    GAP,
    Layout,
    Vertex,
    _apart,
    _crossings,
    _layers,
    _order,
    _with_bends,
    layout,
)


@st.composite
def graphs(draw: st.DrawFn) -> list[list[tuple[int, int, float]]]:
    """What each node reads, at which port, of which height."""
    reads: list[list[tuple[int, int, float]]] = []
    for node in range(draw(st.integers(1, 30))):
        n = draw(st.integers(0, min(node, 3)))
        sources = [draw(st.integers(0, node - 1)) for _ in range(n)]
        reads.append([(source, k, 12.0 * (k - (n - 1) / 2)) for k, source in enumerate(sources)])
    return reads


@settings(max_examples=60)
@given(graphs())
def test_wires_go_to_the_right_one_layer_at_a_time(reads: Any) -> None:
    found = layout(reads, [(17.0, 20.0)] * len(reads))
    for link in found.links:
        assert found.vertices[link.target].layer == found.vertices[link.source].layer + 1
    assert sorted(k for layer in found.layers for k in layer) == list(range(len(found.vertices)))
    # Every read is a wire that ends at its port and begins, bend by bend, at its source.
    for node, own in enumerate(reads):
        ends = {(link.port, found.vertices[link.source].node) for link in found.into[node]}
        assert ends == {(port, source) for source, port, _ in own}


@settings(max_examples=60)
@given(graphs())
def test_neighbours_in_a_layer_are_apart(reads: Any) -> None:
    found = layout(reads, [(17.0, 20.0)] * len(reads))
    for layer in found.layers:
        for a, b in itertools.pairwise(found.vertices[k] for k in layer):
            assert b.y - b.up - (a.y + a.down) >= GAP - 1e-6


@settings(max_examples=60)
@given(graphs())
def test_ordering_never_adds_a_crossing(reads: Any) -> None:
    found = _with_bends(reads, [(17.0, 20.0)] * len(reads), _layers(reads))
    before = _crossings(found)
    _order(found)
    assert _crossings(found) <= before
    assert _crossings(found) == slow_crossings(found)


def slow_crossings(found: Layout) -> int:
    """All pairs of links between the same layers, one by one."""
    total = 0
    for a, b in itertools.combinations(found.links, 2):
        if found.vertices[a.source].layer == found.vertices[b.source].layer:
            starts = found.vertices[a.source].place - found.vertices[b.source].place
            end_a = (found.vertices[a.target].place, a.offset)
            end_b = (found.vertices[b.target].place, b.offset)
            total += (starts > 0 and end_a < end_b) or (starts < 0 and end_a > end_b)
    return total


def test_a_tree_has_no_crossings() -> None:
    # Four inputs, two products, a sum: the lecture's neuron.
    reads = [[], [], [], [], [(0, 0, -5.0), (2, 1, 5.0)], [(1, 0, -5.0), (3, 1, 5.0)]]
    reads.append([(4, 0, -5.0), (5, 1, 5.0)])
    assert _crossings(layout(reads, [(10.0, 10.0)] * len(reads))) == 0


def test_a_value_that_is_read_far_away_bends_once_a_layer() -> None:
    """However many read it: its wire is one."""
    chain: list[Any] = [[], []] + [[(k - 1, 0, 0.0)] for k in range(2, 8)]
    chain += [[(0, 0, -5.0), (7, 1, 5.0)], [(0, 0, -5.0), (8, 1, 5.0)], [(0, 0, -5.0), (9, 1, 5.0)]]
    found = layout(chain, [(10.0, 10.0)] * len(chain))
    bends = [v.layer for v in found.vertices if v.is_bend and v.node == 0]
    assert len(bends) == len(set(bends))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.1, 10)), min_size=1, max_size=8))
def test_heights_are_the_nearest_to_the_wishes(pairs: list[tuple[float, float]]) -> None:
    """Pooled neighbours against a general solver, in the gaps above the smallest allowed."""
    wishes, weights = map(np.array, zip(*pairs, strict=True))
    n = len(pairs)
    found = Layout([Vertex(k, 0, 4.0, 6.0) for k in range(n)], [])
    heights = np.array(_apart(found, list(range(n)), wishes.tolist(), weights.tolist()))
    assert (np.diff(heights) >= 10.0 + GAP - 1e-9).all()
    # heights = first + sums of gaps: bounded least squares.
    matrix = np.tril(np.ones((n, n))) * np.sqrt(weights)[:, None]
    lowest = np.array([-np.inf] + [10.0 + GAP] * (n - 1))
    best = lsq_linear(matrix, wishes * np.sqrt(weights), (lowest, np.inf), tol=1e-14)
    cost = float(weights @ (heights - wishes) ** 2)
    assert cost <= 2.0 * best.cost * (1.0 + 1e-6) + 1e-6
