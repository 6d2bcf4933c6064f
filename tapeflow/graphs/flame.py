"""Times as a flame: rows of boxes, each as wide as what it stands for takes of the whole."""

from collections.abc import Callable, Sequence
from typing import Any

from tapeflow.graphs.scene import Box, Group, Item, Scene, Text, width_in
from tapeflow.graphs.text import isolated

_WIDTH, _ROW, _MARGIN = 1000.0, 24.0, 12.0

_NARROWEST = 1.0
"""Boxes below this width are left out: they would be lines."""

_LEVELS: tuple[Callable[[Any], str], ...] = (
    lambda one: one.place.function,
    lambda one: str(one.place),
    lambda one: one.op,
)


def flame(name: str, spent: Sequence[Any]) -> Scene:
    """Function, line and op from top to bottom; at the bottom the forward sweep and the reverse."""
    groups: list[Group] = []
    total = sum(one.total for one in spent)
    _box(groups, 0, 0.0, _WIDTH, isolated(name), f"{name}: {_share(total, total)}", "gate")
    if total:
        _level(groups, spent, 0, 0.0, total)
    height = 2 * _MARGIN + _ROW * (2 + len(_LEVELS))
    return Scene(f"time of {name}", _WIDTH + 2 * _MARGIN, height, groups)


def _level(groups: list[Group], spent: Sequence[Any], level: int, x: float, total: float) -> None:
    if level == len(_LEVELS):
        for seconds, kind in (
            (sum(one.forward for one in spent), "value"),
            (sum(one.reverse for one in spent), "gradient"),
        ):
            width = _WIDTH * seconds / total
            text = "forward" if kind == "value" else "reverse"
            _box(groups, level + 1, x, width, text, f"{text}: {_share(seconds, total)}", kind)
            x += width
        return
    parts: dict[str, list[Any]] = {}
    for one in spent:
        parts.setdefault(_LEVELS[level](one), []).append(one)
    for name, own in sorted(parts.items(), key=lambda item: -sum(one.total for one in item[1])):
        seconds = sum(one.total for one in own)
        width = _WIDTH * seconds / total
        _box(
            groups, level + 1, x, width, isolated(name), f"{name}: {_share(seconds, total)}", "gate"
        )
        _level(groups, own, level + 1, x, total)
        x += width


def _box(
    groups: list[Group], level: int, x: float, width: float, text: str, title: str, fill: str
) -> None:
    if width < _NARROWEST:
        return
    left, top = _MARGIN + x, _MARGIN + _ROW * level
    edge = "edge" if fill == "gate" else "paper"
    items: list[Item] = [Box(left, top, width, _ROW, 2.0, fill, edge)]
    kind = "line" if fill == "gate" else "inverse"
    if width_in(text, kind) + 4.0 <= width:
        items.append(Text(left + width / 2, top + 16.0, text, kind))
    groups.append(Group(f"b{len(groups)}", "box", items, title))


def _share(seconds: float, total: float) -> str:
    return f"{1e6 * seconds:.4g} us, {seconds / total:.1%}" if total else "no time"
