"""Scenes as SVG, for light and dark paper."""

import html

from tapeflow.graphs.scene import STYLES, WIRE, Box, Group, Point, Scene, Stroke, Text
from tapeflow.graphs.theme import DARK, FONT, LIGHT, variables


def svg_of(scene: Scene, ids: bool = False) -> str:
    """A document of its own, that may as well stand in a page.

    ids: give groups and numbers theirs, for a page in which it stands alone.
    """
    width, height = format(scene.width, "g"), format(scene.height, "g")
    groups = "".join(_group(group, ids) for group in scene.groups)
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
    rules = [
        f"{own}{{{variables(LIGHT)}font-family:{FONT};background:var(--paper)}}",
        f"@media (prefers-color-scheme:dark){{{own}{{{variables(DARK)}}}}}",
        f"{own} .paper{{fill:var(--paper)}}",
        f"{own} path{{fill:none;stroke:var(--wire);stroke-width:{_n(WIRE)};"
        "stroke-linecap:round;stroke-linejoin:round}",
        f"{own} rect,{own} circle{{stroke-width:1.5}}",
    ]
    rules += [
        f"{own} .fill-{role}{{fill:var(--{role})}}{own} .on-{role}{{stroke:var(--{role})}}"
        for role in ("gate", "edge", "accent", "paper", "value", "gradient")
    ]
    for kind, look in STYLES.items():
        anchor = "" if look.anchor == "start" else f";text-anchor:{look.anchor}"
        bold = ";font-weight:bold" if look.bold else ""
        size = f"font-size:{_n(look.size)}px"
        rules.append(f"{own} text.{kind}{{fill:var(--{look.role});{size}{anchor}{bold}}}")
    return "".join(rules)


def _group(group: Group, ids: bool) -> str:
    title = f"<title>{html.escape(group.title)}</title>" if group.title else ""
    items: list[str] = []
    lines: dict[tuple[float, bool], list[str]] = {}
    for item in group.items:
        if isinstance(item, Stroke):
            # What is drawn alike is one path.
            lines.setdefault((item.width, item.dashed), []).append(_path(item))
        else:
            items.append(_item(item, ids))
    paths = [f'<path d="{"".join(own)}"{_look(*look)}/>' for look, own in lines.items()]
    inside = "".join([title, *paths, *items])
    own = f' id="{group.id}"' if ids else ""
    return f'<g{own} class="{group.kind}">{inside}</g>'


def _path(stroke: Stroke) -> str:
    return "".join(kind + " ".join(map(_point, points)) for kind, points in stroke.pieces)


def _look(width: float, dashed: bool) -> str:
    shown = "" if width == WIRE else f' style="stroke-width:{_n(width)}"'
    return shown + (' stroke-dasharray="5 4"' if dashed else "")


def _item(item: Text | Box, ids: bool) -> str:
    if isinstance(item, Text):
        own = f' id="{item.id}"' if ids and item.id else ""
        return (
            f'<text{own} x="{_n(item.x)}" y="{_n(item.y)}" class="{item.kind}">'
            f"{html.escape(item.text)}</text>"
        )
    kind = f"fill-{item.fill}" + (f" on-{item.edge}" if item.edge else "")
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
