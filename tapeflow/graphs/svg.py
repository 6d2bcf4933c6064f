"""Scenes as SVG, for light and dark paper."""

import html

from tapeflow.graphs.scene import Box, Group, Item, Point, Scene, Stroke, Text
from tapeflow.graphs.theme import DARK, FONT, LIGHT, variables


def svg_of(scene: Scene) -> str:
    """A document of its own, that may as well stand in a page."""
    width, height = format(scene.width, "g"), format(scene.height, "g")
    groups = "".join(map(_group, scene.groups))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tapeflow-graph" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" direction="ltr" role="img" '
        f'aria-label="computational graph of {html.escape(scene.name)}">'
        f"<style>{style()}</style>"
        f'<rect class="paper" width="100%" height="100%"/>{groups}</svg>'
    )


def style() -> str:
    """The style of graphs, in an SVG file or in a page around it."""
    own = ".tapeflow-graph"
    return (
        f"{own}{{{variables(LIGHT)}font-family:{FONT};background:var(--paper)}}"
        f"@media (prefers-color-scheme:dark){{{own}{{{variables(DARK)}}}}}"
        f"{own} .paper{{fill:var(--paper)}}"
        f"{own} path{{fill:none;stroke-linecap:round;stroke-linejoin:round}}"
        + "".join(
            f"{own} .{role}{{fill:var(--{role})}}{own} .on-{role}{{stroke:var(--{role})}}"
            for role in LIGHT
            if role != "paper"
        )
        + f"{own} rect,{own} circle{{stroke-width:1.5}}"
    )


def _group(group: Group) -> str:
    title = f"<title>{html.escape(group.title)}</title>" if group.title else ""
    items = "".join(map(_item, group.items))
    return f'<g id="{group.id}" class="{group.kind}">{title}{items}</g>'


def _item(item: Item) -> str:
    if isinstance(item, Text):
        anchor = "" if item.anchor == "start" else f' text-anchor="{item.anchor}"'
        bold = ' font-weight="bold"' if item.bold else ""
        return (
            f'<text x="{_n(item.x)}" y="{_n(item.y)}" class="{item.role}" '
            f'font-size="{_n(item.size)}"{anchor}{bold}>{html.escape(item.text)}</text>'
        )
    if isinstance(item, Stroke):
        path = "".join(kind + " ".join(map(_point, points)) for kind, points in item.pieces)
        dashes = ' stroke-dasharray="5 4"' if item.dashed else ""
        return f'<path d="{path}" class="on-{item.role}" stroke-width="{_n(item.width)}"{dashes}/>'
    assert isinstance(item, Box)
    kind = item.fill + (f" on-{item.edge}" if item.edge else "")
    if item.width == item.height == 2 * item.radius:
        x, y = item.x + item.radius, item.y + item.radius
        return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(item.radius)}" class="{kind}"/>'
    return (
        f'<rect x="{_n(item.x)}" y="{_n(item.y)}" width="{_n(item.width)}" '
        f'height="{_n(item.height)}" rx="{_n(item.radius)}" class="{kind}"/>'
    )


def _point(point: Point) -> str:
    return f"{_n(point[0])} {_n(point[1])}"


def _n(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")
