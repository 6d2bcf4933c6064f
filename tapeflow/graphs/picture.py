"""The drawn graph of a tape: `Tape.draw`, and how a tape shows itself in a notebook."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tapeflow.engine.evaluate import last_sweeps, sweeps_at
from tapeflow.graphs.collapse import collapsed, level_of
from tapeflow.graphs.compose import compose
from tapeflow.graphs.dot import dot_of
from tapeflow.graphs.graph import Graph, graph_of
from tapeflow.graphs.scene import Scene
from tapeflow.graphs.svg import svg_of
from tapeflow.tape import Tape


@dataclass(frozen=True, repr=False)
class Picture:
    """A drawn graph. ``svg`` and ``dot`` are its texts; `save` writes a file; a notebook shows it.

    graph: what is drawn. scene: where.
    """

    graph: Graph
    scene: Scene

    @cached_property
    def svg(self) -> str:
        return svg_of(self.scene)

    @cached_property
    def dot(self) -> str:
        return dot_of(self.graph)

    def save(self, path: str | Path) -> None:
        """Write it to a file, in the format that the name ends in: .svg, .dot, .png or .pdf.

        Raises ValueError for another ending, and ImportError where matplotlib is missing, which
        draws .png and .pdf.
        """
        ending = Path(path).suffix.lower()
        if ending in (".svg", ".dot"):
            Path(path).write_text(self.svg if ending == ".svg" else self.dot, encoding="utf-8")
        elif ending in (".png", ".pdf"):
            from tapeflow.graphs.paint import paint

            paint(self.scene, path)
        else:
            raise ValueError(
                f"cannot draw a graph as {ending or Path(path).name!r}: "
                "end the file's name in .svg, .png, .pdf or .dot"
            )

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        """In a box that scrolls: a graph is often wider than a page."""
        return f'<div style="overflow-x:auto;max-width:100%">{self.svg}</div>'

    def __repr__(self) -> str:
        return f"<tapeflow picture of {self.graph.name}: {len(self.graph.nodes)} nodes>"


def draw(
    tape: Tape,
    path: str | Path | None = None,
    *,
    at: tuple[Any, ...] | None = None,
    by: str = "auto",
) -> Picture:
    level = level_of(tape, by)
    sweeps = last_sweeps(tape) if at is None else sweeps_at(tape, at)
    graph = graph_of(tape, sweeps) if level == "gate" else collapsed(tape, level)
    picture = Picture(graph, compose(graph))
    if path is not None:
        picture.save(path)
    return picture


def repr_mimebundle(tape: Tape, include: Any = None, exclude: Any = None) -> dict[str, str]:
    """What a notebook may choose from to show a tape."""
    picture = draw(tape)
    return {
        "text/plain": repr(tape),
        "image/svg+xml": picture.svg,
        "text/html": picture._repr_html_(),
    }
