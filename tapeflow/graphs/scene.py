"""What a picture consists of: strokes, discs, boxes and texts at places, whatever the format.

Lengths are in CSS pixels, y downwards. A role names a colour of `theme`.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from tapeflow.graphs.text import width_of

Point = tuple[float, float]

WIRE = 1.4
"""The width of a wire."""


class Style(NamedTuple):
    """How a kind of text looks: the role of its colour, its size, its anchor, and its weight."""

    role: str
    size: float
    anchor: str = "start"
    bold: bool = False


STYLES = {
    "symbol": Style("ink", 14.0, "middle"),
    "input": Style("ink", 13.5, "end", bold=True),
    "output": Style("ink", 13.5, bold=True),
    "title": Style("ink", 13.5, "middle", bold=True),
    "line": Style("faint", 10.5, "middle"),
    "shape": Style("faint", 10.5),
    "part": Style("faint", 10.5),
    "value": Style("value", 11.5),
    "gradient": Style("gradient", 11.5),
    "flow": Style("gradient", 10.5),
    "inverse": Style("paper", 10.5, "middle"),
}
"""A gate's symbol; names of inputs, results and groups; a group's further lines; the shape and the
value above a wire, and the gradient below it; at a port the part that is read, and its own
gradient; and text on a box that is full of colour.
"""


@dataclass(frozen=True)
class Text:
    """One line of text; x is its start, middle or end, by the style, and y its baseline.

    id: by which a page finds it, if it does.
    """

    x: float
    y: float
    text: str
    kind: str
    id: str = ""

    @property
    def style(self) -> Style:
        return STYLES[self.kind]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what it may cover."""
        size, width = self.style.size, width_in(self.text, self.kind)
        left = self.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[self.style.anchor] * width
        return left, self.y - 0.8 * size, left + width, self.y + 0.25 * size


def width_in(text: str, kind: str) -> float:
    """No less than the width of a text in a style."""
    return width_of(text, STYLES[kind].size, STYLES[kind].bold)


@dataclass(frozen=True)
class Stroke:
    """A line of pieces: ("M" or "L", point) or ("C", two control points and the end)."""

    pieces: tuple[tuple[str, tuple[Point, ...]], ...]
    role: str = "wire"
    width: float = WIRE
    dashed: bool = False


@dataclass(frozen=True)
class Box:
    """A rectangle with rounded corners; a circle is one as round as it is wide."""

    x: float
    y: float
    width: float
    height: float
    radius: float
    fill: str
    edge: str = ""


Item = Text | Stroke | Box


@dataclass
class Group:
    """Items that belong to one node, or one net; ``title`` is shown where one points at them."""

    id: str
    kind: str
    items: list[Item] = field(default_factory=list)
    title: str = ""


@dataclass
class Scene:
    """Groups in the order in which they are painted."""

    name: str
    width: float
    height: float
    groups: list[Group]

    @property
    def texts(self) -> list[Text]:
        return [item for group in self.groups for item in group.items if isinstance(item, Text)]
