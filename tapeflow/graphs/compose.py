"""A graph as a scene: how large each node is, where it stands, and what is drawn there.

Every text lies within the room that its own node takes up in its layer, and the layout keeps these
apart; wires turn only between layers. So no two texts overlap, and no wire crosses one.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tapeflow.graphs.graph import Graph, Node, Port
from tapeflow.graphs.layout import Layout, Link, layout
from tapeflow.graphs.scene import Box, Group, Item, Point, Scene, Stroke, Text, width_in

RADIUS = 17.0
MARGIN = 14.0
_LANE = 9.0
_RING = 4.0
"""What a second circle around a gate takes, which says that a branch was decided there."""

_ABOVE, _BELOW = 16.0, 17.0
"""The room of a label above and below its wire."""


@dataclass
class Room:
    """What a node takes up around its middle, and where its ports are.

    left, right: with ports and labels; body_left, body_right: the circle or the name alone.
    """

    node: Node
    ports: list[float]
    left: float
    right: float
    up: float
    down: float
    body_left: float
    body_right: float


def room_of(node: Node) -> Room:
    offsets, up, down = _ports(node.ports)
    body_left, body_right, body_height = _body(node)
    stub = 0.0
    if node.ports:
        widths = [
            max(width_in(port.text, "part"), width_in(port.gradient, "flow")) for port in node.ports
        ]
        stub = 14.0 + max(widths)
    labels = _width(node.shape, node.value) if node.shape or node.value else 0.0
    labels = max(labels, width_in(node.gradient, "gradient"))
    trunk = 0.0 if node.kind == "output" else 10.0 + labels
    return Room(
        node,
        offsets,
        body_left + stub,
        body_right + trunk,
        max(up, body_height, _ABOVE if node.value or node.shape else 0.0),
        max(down, body_height, _BELOW if node.gradient else 0.0),
        body_left,
        body_right,
    )


def _width(shape: str, value: str) -> float:
    """The width of what stands above a wire: the shape, and the value after it."""
    gap = 5.0 if shape and value else 0.0
    return width_in(shape, "shape") + gap + width_in(value, "value")


def _body(node: Node) -> tuple[float, float, float]:
    """How far a node's circle, box or name reaches to the left and right, and half its height."""
    if node.kind == "gate":
        half = max(RADIUS, width_in(node.text, "symbol") / 2 + 9.0)
        return half, half, RADIUS + (_RING if node.guarded else 0.0)
    if node.kind == "group":
        widths = [width_in(node.text, "title")]
        widths += [width_in(line, "line") for line in node.lines]
        half = max(widths) / 2 + 12.0
        _, up, down = _ports(node.ports)
        return half, half, max(14.0 + 8.0 * len(node.lines), up, down)
    width = width_in(node.text, node.kind) + 6.0
    return (width, 0.0, 9.0) if node.kind == "input" else (0.0, width, 9.0)


def _ports(ports: Sequence[Port]) -> tuple[list[float], float, float]:
    """Each port's height about the middle, and what they take up above and below it."""
    if not ports:
        return [], 0.0, 0.0
    heights = [0.0]
    for before, port in itertools.pairwise(ports):
        heights.append(heights[-1] + max(_beside(before)[1] + _beside(port)[0], 10.0))
    middle = heights[-1] / 2
    offsets = [height - middle for height in heights]
    return offsets, middle + _beside(ports[0])[0], middle + _beside(ports[-1])[1]


def _beside(port: Port) -> tuple[float, float]:
    """What a port takes up above and below: a constant stands where its wire would be."""
    if port.source is None:
        return 7.0, 8.0
    return 13.0 if port.text else 3.0, 15.0 if port.gradient else 3.0


def compose(graph: Graph) -> Scene:
    """The scene of a graph."""
    rooms = [room_of(node) for node in graph.nodes]
    reads = [
        [
            (port.source, k, offset)
            for k, (port, offset) in enumerate(zip(node.ports, room.ports, strict=True))
            if port.source is not None and port.source < number
        ]
        for number, (node, room) in enumerate(zip(graph.nodes, rooms, strict=True))
    ]
    placed = layout(reads, [(room.up, room.down) for room in rooms])
    return _Composer(graph, rooms, placed).scene()


class _Composer:
    def __init__(self, graph: Graph, rooms: list[Room], placed: Layout) -> None:
        self.graph, self.rooms, self.placed = graph, rooms, placed
        # What is read by nodes before its own: a lane over everything for each source.
        self.returns: dict[int, list[tuple[int, float]]] = {}
        for number, (node, room) in enumerate(zip(graph.nodes, rooms, strict=True)):
            for port, offset in zip(node.ports, room.ports, strict=True):
                if port.source is not None and port.source >= number:
                    self.returns.setdefault(port.source, []).append((number, offset))
        self.top = MARGIN + _LANE * len(self.returns)
        self._columns()

    def _columns(self) -> None:
        """Each layer's left and right border, and the middle of its nodes."""
        vertices = self.placed.vertices
        self.lefts: list[float] = []
        self.middles: list[float] = []
        self.rights: list[float] = []
        x = MARGIN
        for layer in self.placed.layers:
            own = [self.rooms[k] for k in layer if not vertices[k].is_bend]
            self.lefts.append(x)
            self.middles.append(x + max((room.left for room in own), default=0.0))
            x = self.middles[-1] + max((room.right for room in own), default=0.0)
            self.rights.append(x)
            steep = max(
                (
                    abs(self._end(link)[1] - vertices[link.source].y)
                    for k in layer
                    for link in self.placed.out[k]
                ),
                default=0.0,
            )
            x += min(26.0 + 0.14 * steep, 90.0) + 6.0 * min(len(self.returns), 6)

    def _end(self, link: Link) -> Point:
        """Where a link ends: a port, or a bend."""
        target = self.placed.vertices[link.target]
        if target.is_bend:
            return self.lefts_of(link.target), target.y
        room = self.rooms[target.node]
        left = self.middles[target.layer] - room.left if target.layer < len(self.lefts) else 0.0
        return left, target.y + link.offset

    def lefts_of(self, vertex: int) -> float:
        layer = self.placed.vertices[vertex].layer
        return self.lefts[layer] if layer < len(self.lefts) else 0.0

    def scene(self) -> Scene:
        wires = [Group(f"w{k}", "wire") for k in range(len(self.graph.nodes))]
        for k, vertex in enumerate(self.placed.vertices):
            for item in self._net(k):
                wires[vertex.node].items.append(item)
        for lane, source in enumerate(self.returns):
            wires[source].items += self._return(lane, source)
        nodes = [self._node(k) for k in range(len(self.graph.nodes))]
        vertices = self.placed.vertices
        height = self.top + max((v.y + v.down for v in vertices), default=0.0) + MARGIN
        width = (self.rights[-1] if self.rights else 0.0) + MARGIN
        groups = [group for group in wires if group.items] + nodes
        return Scene(self.graph.name, math.ceil(width), math.ceil(height), groups)

    def _net(self, k: int) -> list[Item]:
        """What leaves a vertex: wires to the next layer, and a dot where there are several."""
        vertex = self.placed.vertices[k]
        node = self.graph.nodes[vertex.node]
        width = 2.6 if node.shape else 1.4
        y, right = self.top + vertex.y, self.rights[vertex.layer]
        items: list[Item] = []
        if vertex.is_bend:
            items.append(_line([(self.lefts[vertex.layer], y), (right, y)], width))
        links = self.placed.out[k]
        if links and not vertex.is_bend:
            start = self.middles[vertex.layer] + self.rooms[vertex.node].body_right
            items.append(_line([(start, y), (right, y)], width))
        elif not links and not vertex.is_bend and node.kind != "output":
            room = self.rooms[vertex.node]
            start = self.middles[vertex.layer] + room.body_right
            items.append(_line([(start, y), (start + room.right - room.body_right, y)], width))
        for link in links:
            end_x, end_y = self._end(link)
            left, end_y = self.lefts_of(link.target), end_y + self.top
            middle = (right + left) / 2
            pieces: list[tuple[str, tuple[Point, ...]]] = [
                ("M", ((right, y),)),
                ("C", ((middle, y), (middle, end_y), (left, end_y))),
            ]
            if end_x > left:
                pieces.append(("L", ((end_x, end_y),)))
            items.append(Stroke(tuple(pieces), width=width))
        if len(links) > 1:
            items.append(Box(right - 3.2, y - 3.2, 6.4, 6.4, 3.2, "edge"))
        return items

    def _return(self, lane: int, source: int) -> list[Item]:
        """A wire back to nodes before its own: up, over everything, and down again."""
        vertex, high = self.placed.vertices[source], MARGIN + _LANE * lane
        aside = 6.0 + 4.0 * (lane % 6)
        right, y = self.rights[vertex.layer], self.top + vertex.y
        start = self.middles[vertex.layer] + self.rooms[source].body_right
        items: list[Item] = []
        for target, offset in self.returns[source]:
            own, room = self.placed.vertices[target], self.rooms[target]
            left, end = self.lefts[own.layer], self.top + own.y + offset
            items.append(
                _line(
                    [
                        (start, y),
                        (right + aside, y),
                        (right + aside, high),
                        (left - aside, high),
                        (left - aside, end),
                        (self.middles[own.layer] - room.left, end),
                    ],
                    1.2,
                    dashed=True,
                )
            )
        return items

    def _node(self, k: int) -> Group:
        node, room, vertex = self.graph.nodes[k], self.rooms[k], self.placed.vertices[k]
        x, y = self.middles[vertex.layer], self.top + vertex.y
        group = Group(f"n{k}", node.kind, title="\n".join(node.details))
        for port, offset in zip(node.ports, room.ports, strict=True):
            group.items += _stub(room, port, x, y, offset)
        group.items += _drawn_body(room, x, y)
        start = x + room.body_right + 6.0
        if node.shape:
            group.items.append(Text(start, y - 5.0, node.shape, "shape"))
        if node.value:
            after = _width(node.shape, "") + 5.0 if node.shape else 0.0
            group.items.append(Text(start + after, y - 5.0, node.value, "value", f"v{node.slot}"))
        if node.gradient:
            group.items.append(Text(start, y + 13.5, node.gradient, "gradient", f"g{node.slot}"))
        return group


def _line(points: Sequence[Point], width: float, dashed: bool = False) -> Stroke:
    pieces = [("M", (points[0],)), *(("L", (point,)) for point in points[1:])]
    return Stroke(tuple(pieces), width=width, dashed=dashed)


def _stub(room: Room, port: Port, x: float, y: float, offset: float) -> list[Item]:
    """A port: the last piece of its wire, the text above it, and its gradient below."""
    left, at = x - room.left, y + offset
    items: list[Item] = []
    if port.source is not None:
        points = [(left, at)]
        if room.node.kind == "gate":
            reach = max(min(offset, RADIUS - 5.0), 5.0 - RADIUS)
            edge = x - room.body_left + RADIUS - math.sqrt(RADIUS**2 - reach**2)
            if reach != offset:
                points.append((x - room.body_left - 4.0, at))
            points.append((edge, y + reach))
        else:
            points.append((x - room.body_left, at))
        items.append(_line(points, 1.4))
    if port.text:
        where = at - 4.0 if port.source is not None else at + 4.0
        items.append(Text(left + 4.0, where, port.text, "part"))
    if port.gradient:
        items.append(Text(left + 4.0, at + 11.5, port.gradient, "flow", port.id))
    return items


def _drawn_body(room: Room, x: float, y: float) -> list[Item]:
    node = room.node
    if node.kind == "input":
        return [Text(x - 5.0, y + 4.5, node.text, "input")]
    if node.kind == "output":
        return [Text(x + 5.0, y + 4.5, node.text, "output")]
    half, high = room.body_right, RADIUS if node.kind == "gate" else _body(node)[2]
    radius = RADIUS if node.kind == "gate" else 7.0
    items: list[Item] = []
    if node.guarded:
        width, height = 2 * (half + _RING), 2 * (high + _RING)
        items.append(
            Box(x - width / 2, y - height / 2, width, height, radius + _RING, "paper", "accent")
        )
    items.append(Box(x - half, y - high, 2 * half, 2 * high, radius, "gate", "edge"))
    if node.kind == "gate":
        items.append(Text(x, y + 5.0, node.text, "symbol"))
        return items
    first = y + 4.5 - 8.0 * len(node.lines)
    items.append(Text(x, first, node.text, "title"))
    for k, line in enumerate(node.lines):
        items.append(Text(x, first + 17.0 + 16.0 * k, line, "line"))
    return items
