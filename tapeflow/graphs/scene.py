"""What a picture consists of: strokes, discs, boxes and texts at places, whatever the format.

Lengths are in CSS pixels, y downwards. A role names a colour of `theme`.
"""

from dataclasses import dataclass, field

from tapeflow.graphs.text import width_of

Point = tuple[float, float]


@dataclass(frozen=True)
class Text:
    """One line of text; x is its start, middle or end, by the anchor, and y its baseline."""

    x: float
    y: float
    text: str
    role: str
    size: float
    anchor: str = "start"
    bold: bool = False

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what it may cover."""
        width = width_of(self.text, self.size, self.bold)
        left = self.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor] * width
        return left, self.y - 0.8 * self.size, left + width, self.y + 0.25 * self.size


@dataclass(frozen=True)
class Stroke:
    """A line of pieces: ("M" or "L", point) or ("C", two control points and the end)."""

    pieces: tuple[tuple[str, tuple[Point, ...]], ...]
    role: str = "wire"
    width: float = 1.4
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
