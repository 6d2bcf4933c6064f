"""Scenes as PNG and PDF, painted by matplotlib."""

import math
from pathlib import Path as FilePath
from typing import Any

from tapeflow.graphs.scene import Box, Item, Scene, Stroke, Text
from tapeflow.graphs.theme import LIGHT

_DPI = 96.0
"""CSS pixels an inch."""

_SCALE = 2.0
"""Dots of a PNG file for each pixel."""

_CIRCLE = 4.0 / 3.0 * (math.sqrt(2.0) - 1.0)
"""How far the control points of a quarter of a circle are from its ends, in radii."""

_MOST_DOTS = 30_000
"""Of a PNG file along one side: what matplotlib's painter takes, with room to spare."""


def paint(scene: Scene, path: str | FilePath) -> None:
    """Write a scene to a .png or .pdf file. Raises ImportError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            f"drawing {FilePath(path).name} needs matplotlib: "
            'pip install "tapeflow[plot]", or draw an .svg file'
        ) from None
    figure = Figure(figsize=(scene.width / _DPI, scene.height / _DPI), facecolor=LIGHT["paper"])
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0.0, scene.width)
    axes.set_ylim(scene.height, 0.0)
    axes.axis("off")
    for group in scene.groups:
        for item in group.items:
            _paint(axes, item)
    longest = max(scene.width, scene.height)
    figure.savefig(path, dpi=_DPI * min(_SCALE, _MOST_DOTS / longest))


def _paint(axes: Any, item: Item) -> None:
    if isinstance(item, Text):
        _text(axes, item)
    elif isinstance(item, Stroke):
        _patch(axes, _stroke(item))
    else:
        _patch(axes, _box(item))


def _patch(axes: Any, patch: Any) -> None:
    # Not add_patch: it looks for the patch's extent, which takes longer than painting it.
    patch.set_transform(axes.transData)
    axes.add_artist(patch)


def _text(axes: Any, item: Text) -> None:
    axes.text(
        item.x,
        item.y,
        item.text,
        color=LIGHT[item.style.role],
        fontsize=_points(item.style.size),
        ha={"start": "left", "middle": "center", "end": "right"}[item.style.anchor],
        va="baseline",
        fontweight="bold" if item.style.bold else "normal",
        fontfamily=["DejaVu Sans", "sans-serif"],
        parse_math=False,
    )


def _stroke(item: Stroke) -> Any:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    kinds = {"M": [Path.MOVETO], "L": [Path.LINETO], "C": [Path.CURVE4] * 3}
    codes = [code for kind, _ in item.pieces for code in kinds[kind]]
    points = [point for _, own in item.pieces for point in own]
    return PathPatch(
        Path(points, codes),
        fill=False,
        edgecolor=LIGHT[item.role],
        linewidth=_points(item.width),
        linestyle=(0, (4, 3)) if item.dashed else "solid",
        capstyle="round",
    )


def _box(item: Box) -> Any:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    x, y, right, bottom = item.x, item.y, item.x + item.width, item.y + item.height
    r = item.radius
    k = r * (1.0 - _CIRCLE)
    points = [
        (x + r, y), (right - r, y), (right - k, y), (right, y + k), (right, y + r),
        (right, bottom - r), (right, bottom - k), (right - k, bottom), (right - r, bottom),
        (x + r, bottom), (x + k, bottom), (x, bottom - k), (x, bottom - r),
        (x, y + r), (x, y + k), (x + k, y), (x + r, y),
    ]  # fmt: skip
    codes = [Path.MOVETO, *([Path.LINETO] + [Path.CURVE4] * 3) * 4]
    return PathPatch(
        Path(points, codes),
        facecolor=LIGHT[item.fill],
        edgecolor=LIGHT[item.edge] if item.edge else "none",
        linewidth=_points(1.5),
    )


def _points(pixels: float) -> float:
    return pixels * 72.0 / _DPI
