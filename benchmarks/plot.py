"""Plots as SVG text, in the colours of the pictures of tapes, for light and dark paper.

The same numbers give the same text on any machine, so a test can compare it; what matplotlib draws
depends on its version.
"""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.graphs.theme import DARK, FONT, LIGHT, variables

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 368.0, 250.0, 56.0, 34.0, 18.0, 44.0
"""Of a panel, and of what is around its axes, in pixels."""

_OWN = ".tapeflow-plot"
STYLE = (
    f"{_OWN}{{{variables(LIGHT)}font-family:{FONT};font-size:12px;background:var(--paper)}}"
    f"@media (prefers-color-scheme:dark){{{_OWN}{{{variables(DARK)}}}}}"
    f"{_OWN} .paper{{fill:var(--paper)}}"
    f"{_OWN} path{{fill:none;stroke-linejoin:round;stroke-linecap:round;stroke-width:2}}"
    f"{_OWN} .axis{{stroke:var(--wire);stroke-width:1}}"
    f"{_OWN} .grid{{stroke:var(--wire);stroke-width:1;opacity:0.3}}"
    f"{_OWN} text.title{{font-weight:bold}}"
    f"{_OWN} circle{{stroke-width:1.6}}"
    + "".join(
        f"{_OWN} path.{role},{_OWN} circle.{role}{{stroke:var(--{role})}}"
        f"{_OWN} circle.full.{role}{{fill:var(--{role})}}"
        f"{_OWN} path.band.{role}{{fill:var(--{role});stroke:none;opacity:0.22}}"
        f"{_OWN} text.{role}{{fill:var(--{role})}}"
        for role in ("ink", "faint", "value", "gradient", "accent")
    )
    + f"{_OWN} circle.open{{fill:var(--paper)}}"
)


class Panel:
    """One pair of axes, and what is drawn in it; x and y from the first to the last number."""

    def __init__(
        self,
        title: str,
        x_name: str,
        y_name: str,
        x: tuple[float, float],
        y: tuple[float, float],
        log: bool = False,
        square: bool = False,
    ) -> None:
        self.title, self.x_name, self.y_name = title, x_name, y_name
        self.x, self.y, self.log, self.square = x, y, log, square
        self.inner = (WIDTH - LEFT - RIGHT,) * 2
        if not square:
            self.inner = self.inner[0], HEIGHT - TOP - BOTTOM
        self.items: list[str] = []
        self.rows = 0

    @property
    def size(self) -> tuple[float, float]:
        legend = 132.0 if self.square else 0.0
        return self.inner[0] + LEFT + RIGHT + legend, self.inner[1] + TOP + BOTTOM

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is, in pixels from the panel's corner."""
        first, last = self.x
        if self.log:
            x, first, last = math.log(x), math.log(first), math.log(last)
        across, up = (x - first) / (last - first), (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * self.inner[0], TOP + (1.0 - up) * self.inner[1]

    def _points(self, x: Any, y: Any) -> str:
        pairs = zip(np.ravel(x).tolist(), np.ravel(y).tolist(), strict=True)
        return "L".join(f"{a:.1f} {b:.1f}" for a, b in (self.place(*pair) for pair in pairs))

    def line(self, x: Any, y: Any, role: str, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="6 5"' if dashed else ""
        self.items.append(f'<path class="{role}"{dash} d="M{self._points(x, y)}"/>')

    def band(self, x: Any, low: Any, high: Any, role: str) -> None:
        """What lies between two lines, inside the axes."""
        low, high = np.clip(low, *self.y), np.clip(high, *self.y)
        around = self._points(np.append(x, x[::-1]), np.append(low, high[::-1]))
        self.items.append(f'<path class="band {role}" d="M{around}Z"/>')

    def dot(self, x: float, y: float, role: str, filled: bool = True, radius: float = 5.0) -> None:
        a, b = self.place(x, y)
        self._circle(a, b, role, filled, radius)

    def _circle(self, a: float, b: float, role: str, filled: bool, radius: float) -> None:
        kind = "full" if filled else "open"
        self.items.append(f'<circle class="{kind} {role}" cx="{a:.1f}" cy="{b:.1f}" r="{radius}"/>')

    def text(self, x: float, y: float, words: str, role: str) -> None:
        a, b = self.place(x, y)
        self.items.append(_text(a, b, words, role))

    def legend(self, role: str, filled: bool | None, words: str) -> None:
        """A line beside the axes: a dot, or where ``filled`` is None a stroke, and its meaning."""
        a, b = LEFT + self.inner[0] + 18.0, TOP + 10.0 + 22.0 * self.rows
        self.rows += 1
        if filled is None:
            self.items.append(f'<path class="{role}" d="M{a - 6:.1f} {b:.1f}h12"/>')
        else:
            self._circle(a, b, role, filled, 3.2)
        self.items.append(_text(a + 14.0, b + 4.0, words, "ink"))

    def drawn(self) -> str:
        """The axes, with everything in them."""
        left, right, top = LEFT, LEFT + self.inner[0], TOP
        bottom = TOP + self.inner[1]
        parts = [_text(left, TOP - 14.0, self.title, "ink title")]
        for x in _ticks(*self.x, self.log):
            a, _ = self.place(x, self.y[0])
            parts.append(f'<path class="grid" d="M{a:.1f} {top:.1f}V{bottom:.1f}"/>')
            parts.append(_text(a, bottom + 16.0, f"{x:g}", "faint", "middle"))
        for y in _ticks(*self.y):
            _, b = self.place(self.x[0], y)
            parts.append(f'<path class="grid" d="M{left:.1f} {b:.1f}H{right:.1f}"/>')
            parts.append(_text(left - 7.0, b + 4.0, f"{y:g}", "faint", "end"))
        parts.append(f'<path class="axis" d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}"/>')
        parts.append(_text((left + right) / 2.0, bottom + 34.0, self.x_name, "ink", "middle"))
        parts.append(
            f'<g transform="translate({left - 40.0:.1f} {(top + bottom) / 2.0:.1f}) rotate(-90)">'
            f"{_text(0.0, 0.0, self.y_name, 'ink', 'middle')}</g>"
        )
        return "".join(parts + self.items)


def _text(a: float, b: float, words: str, role: str, anchor: str = "start") -> str:
    own = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{role}" x="{a:.1f}" y="{b:.1f}"{own}>{html.escape(words)}</text>'


def _ticks(first: float, last: float, log: bool = False) -> list[float]:
    """Round numbers between two."""
    if log:
        powers = range(math.ceil(math.log10(first)), math.floor(math.log10(last)) + 1)
        return [10.0**k for k in powers]
    rough = (last - first) / 4.0
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * min((1.0, 2.0, 5.0, 10.0), key=lambda n: abs(n * size - rough))
    found = range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)
    return [round(k * step, 12) for k in found]


def picture(name: str, panels: Sequence[Panel]) -> str:
    """Panels beside each other, as a document of its own."""
    width, height = sum(p.size[0] for p in panels), max(p.size[1] for p in panels)
    parts, first = [], 0.0
    for panel in panels:
        parts.append(f'<g transform="translate({first:g} 0)">{panel.drawn()}</g>')
        first += panel.size[0]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tapeflow-plot" width="{width:g}" '
        f'height="{height:g}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{html.escape(name)}"><style>{STYLE}</style>'
        f'<rect class="paper" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )
