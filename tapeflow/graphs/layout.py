"""Layered drawing of a graph, left to right: which layer, in which order, and how high.

After Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system
structures" (IEEE Trans. SMC 11, 1981). What leaves a node is one net: it passes each layer that it
spans at one *bend*, and forks where its readers are. So a value that is read ten times is one wire
with dots where it forks, and not ten.

Heights within a layer are a least-squares fit: each vertex is drawn to its neighbours, and kept
from the next one in its layer, which is isotonic regression, solved by pooling adjacent violators.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

GAP = 12.0
"""Between two nodes of a layer."""

BEND = 5.0
"""Half the height that a wire takes up where it passes a layer."""


@dataclass
class Vertex:
    """A node, or a bend of a net. up, down: what it takes up above and below its height ``y``.

    node: its number, or for a bend that of the net's source.
    """

    node: int
    layer: int
    up: float
    down: float
    is_bend: bool = False
    y: float = 0.0
    place: int = 0


@dataclass
class Link:
    """A piece of a net, from one layer to the next, and the port where it ends (-1: at a bend)."""

    source: int
    target: int
    port: int
    offset: float


@dataclass
class Layout:
    """vertices, their links, and the vertices of each layer from top to bottom."""

    vertices: list[Vertex]
    links: list[Link]
    layers: list[list[int]] = field(default_factory=list)
    into: list[list[Link]] = field(default_factory=list)
    out: list[list[Link]] = field(default_factory=list)


Reads = Sequence[Sequence[tuple[int, int, float]]]
"""For each node: the nodes that it reads, at which of its ports, and that port's height on it."""


def layout(reads: Reads, heights: Sequence[tuple[float, float]]) -> Layout:
    """Place nodes, each of which reads only nodes before it.

    heights: what each node takes up above and below its middle.
    """
    layers = _layers(reads)
    found = _with_bends(reads, heights, layers)
    _order(found)
    _raise(found)
    return found


def _layers(reads: Reads) -> list[int]:
    """Each node as late as its readers allow, or earlier where that makes the nets shorter."""
    n = len(reads)
    readers: list[list[int]] = [[] for _ in range(n)]
    depth = [0] * n
    for node, own in enumerate(reads):
        for source, _, _ in own:
            readers[source].append(node)
            depth[node] = max(depth[node], depth[source] + 1)
    last = max(depth, default=0)
    layers = [last] * n
    for node in reversed(range(n)):
        if readers[node]:
            layers[node] = min(layers[reader] for reader in readers[node]) - 1
    for node, own in enumerate(reads):
        if not own:
            continue
        earliest = 1 + max(layers[source] for source, _, _ in own)
        by = layers[node] - earliest
        if by <= 0:
            continue
        shorter = 0
        for source in {source for source, _, _ in own}:
            others = [layers[r] for r in readers[source] if r != node]
            shorter += layers[node] - max(earliest, *others) if others else by
        if shorter > (by if readers[node] else 0):
            layers[node] = earliest
    first = min(layers, default=0)
    return [layer - first for layer in layers]


def _with_bends(
    reads: Reads, heights: Sequence[tuple[float, float]], layers: Sequence[int]
) -> Layout:
    vertices = [
        Vertex(node, layer, *height)
        for node, (layer, height) in enumerate(zip(layers, heights, strict=True))
    ]
    links = []
    bends: dict[tuple[int, int], int] = {}
    for node, own in enumerate(reads):
        for source, port, offset in own:
            before = source
            for layer in range(layers[source] + 1, layers[node]):
                bend = bends.get((source, layer))
                if bend is None:
                    bend = bends[source, layer] = len(vertices)
                    vertices.append(Vertex(source, layer, BEND, BEND, is_bend=True))
                    links.append(Link(before, bend, -1, 0.0))
                before = bend
            links.append(Link(before, node, port, offset))
    found = Layout(vertices, links)
    found.layers = [[] for _ in range(1 + max(layers, default=0))]
    found.into = [[] for _ in vertices]
    found.out = [[] for _ in vertices]
    for link in links:
        found.into[link.target].append(link)
        found.out[link.source].append(link)
    for k in _by_descent(found):
        found.layers[vertices[k].layer].append(k)
    return found


def _by_descent(found: Layout) -> list[int]:
    """All vertices, in the order in which one meets them going down from the results."""
    seen = [False] * len(found.vertices)
    order: list[int] = []
    roots = [k for k, out in enumerate(found.out) if not out]
    for root in roots:
        pending = [root]
        while pending:
            k = pending.pop()
            if seen[k]:
                continue
            seen[k] = True
            order.append(k)
            own = sorted(found.into[k], key=lambda link: link.port, reverse=True)
            pending += [link.source for link in own]
    return order


_ROUNDS = 24
_PATIENCE = 4


def _order(found: Layout) -> None:
    """Order each layer by the middle of the neighbours, forth and back; keep what crosses least."""
    best, fewest = [list(layer) for layer in found.layers], _crossings(found)
    worse = 0
    for k in range(_ROUNDS):
        if not fewest or worse == _PATIENCE:
            break
        _sweep_order(found, forward=k % 2 == 0)
        crossings = _crossings(found)
        worse += 1
        if crossings < fewest:
            best, fewest, worse = [list(layer) for layer in found.layers], crossings, 0
    found.layers = best
    _number(found)


def _number(found: Layout) -> None:
    for layer in found.layers:
        for place, k in enumerate(layer):
            found.vertices[k].place = place


def _sweep_order(found: Layout, forward: bool) -> None:
    _number(found)
    vertices = found.vertices
    for layer in found.layers if forward else reversed(found.layers):
        middles = {}
        for k in layer:
            if forward:
                places = [vertices[link.source].place + 0.0 for link in found.into[k]]
            else:
                places = [vertices[link.target].place + link.offset * 1e-3 for link in found.out[k]]
            middles[k] = sum(places) / len(places) if places else float(vertices[k].place)
        layer.sort(key=middles.__getitem__)
        for place, k in enumerate(layer):
            vertices[k].place = place


def _crossings(found: Layout) -> int:
    """Pairs of links between two layers that cross: inversions, counted by a Fenwick tree."""
    _number(found)
    vertices, total = found.vertices, 0
    for layer in found.layers[:-1]:
        ends = []
        for k in layer:
            ends += sorted((vertices[link.target].place, link.offset) for link in found.out[k])
        ranks = {end: rank for rank, end in enumerate(sorted(set(ends)))}
        tree = [0] * (len(ranks) + 1)
        for seen, end in enumerate(ends):
            at_most, k = 0, ranks[end] + 1
            while k:
                at_most += tree[k]
                k &= k - 1
            total += seen - at_most
            k = ranks[end] + 1
            while k < len(tree):
                tree[k] += 1
                k += k & -k
    return total


_SWEEPS, _LAST = 16, 6
"""Sweeps over all layers, forth and back; in the last ones both neighbours count at once."""

_INWARDS = 0.05
"""How strongly everything is drawn to one height, so that a long graph does not wander off."""


def _raise(found: Layout) -> None:
    """Give each vertex its height."""
    vertices = found.vertices
    for layer in found.layers:
        y = -0.5 * sum(vertices[k].up + vertices[k].down + GAP for k in layer)
        for k in layer:
            vertices[k].y = y + vertices[k].up
            y += vertices[k].up + vertices[k].down + GAP
    for sweep in range(_SWEEPS):
        both, forward = sweep >= _SWEEPS - _LAST, sweep % 2 == 0
        for layer in found.layers if forward else reversed(found.layers):
            wishes, weights = [], []
            for k in layer:
                pulls = _pulls(found, k, forward or both, both or not forward)
                weight = (0.0 if both and pulls else _INWARDS) + sum(w for _, w in pulls)
                wishes.append(sum(y * w for y, w in pulls) / weight)
                weights.append(weight)
            for k, y in zip(layer, _apart(found, layer, wishes, weights), strict=True):
                vertices[k].y = y
    top = min((v.y - v.up for v in vertices), default=0.0)
    for vertex in vertices:
        vertex.y -= top


def _pulls(found: Layout, k: int, left: bool, right: bool) -> list[tuple[float, float]]:
    """The heights at which a vertex's links to the left and right are level, and their weights."""
    vertices = found.vertices
    pulls = []
    if left:
        pulls += [
            (vertices[link.source].y - link.offset, _weight(vertices, link))
            for link in found.into[k]
        ]
    if right:
        pulls += [
            (vertices[link.target].y + link.offset, _weight(vertices, link))
            for link in found.out[k]
        ]
    return pulls


def _weight(vertices: Sequence[Vertex], link: Link) -> float:
    """How straight a link should be: long wires above all."""
    bends = vertices[link.source].is_bend + vertices[link.target].is_bend
    return (1.0, 2.0, 8.0)[bends]


def _apart(
    found: Layout, layer: Sequence[int], wishes: Sequence[float], weights: Sequence[float]
) -> list[float]:
    """The heights nearest to the wishes, by weighted squares, that keep neighbours apart."""
    vertices = found.vertices
    offsets, offset = [], 0.0
    for place, k in enumerate(layer):
        if place:
            offset += vertices[layer[place - 1]].down + vertices[k].up + GAP
        offsets.append(offset)
    # Pools of neighbours that touch: their mean, weight and number.
    pools: list[tuple[float, float, int]] = []
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        mean, n = wish - offset, 1
        while pools and pools[-1][0] >= mean:
            before, own, m = pools.pop()
            mean = (before * own + mean * weight) / (own + weight)
            weight, n = weight + own, n + m
        pools.append((mean, weight, n))
    means = [mean for mean, _, n in pools for _ in range(n)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
