"""What reports on a tape have in common: rows of text, which whoever asks for them prints.

The same rows are plain text, HTML in a notebook, and by rich coloured text on a terminal.
"""

import html
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

from tapeflow.graphs.text import isolated
from tapeflow.graphs.theme import RICH, html_style

Cell = str


class Report:
    """A table, or several: its ``str`` and ``repr``, so a console and a notebook show it."""

    def sections(self) -> Sequence["Section"]:
        """The tables, one below the other."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n\n".join(str(section) for section in self.sections())

    def __repr__(self) -> str:
        return str(self)

    def __rich__(self) -> Any:
        from rich.text import Text

        text = Text(no_wrap=True, overflow="ignore")
        for k, section in enumerate(self.sections()):
            text.append("\n\n" if k else "")
            for j, line in enumerate(section.lines()):
                text.append("\n" if j else "")
                for cell, kind in line:
                    text.append(cell, RICH["heading"] if j == section.heading else RICH.get(kind))
        return text

    def _repr_html_(self) -> str:
        tables = "".join(section.html() for section in self.sections())
        return f'<div class="tapeflow">{html_style()}{tables}</div>'


class Section:
    """One table: a heading, rows of cells, and the kind of each column.

    kinds: "text", "number" (on the right), or "value" and "gradient", which are numbers in their
    colours. title: a line above it, or nothing.
    """

    def __init__(
        self,
        headings: Sequence[str],
        kinds: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        title: str = "",
    ) -> None:
        self.headings, self.kinds, self.rows, self.title = headings, kinds, rows, title
        self.heading = 1 if title else 0

    def lines(self) -> list[list[tuple[str, str]]]:
        """Each line as its padded cells and their kinds."""
        rows = [self.headings, *self.rows]
        widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
        lines = [[(self.title, "title")]] if self.title else []
        for row in rows:
            line = []
            for k, (cell, width, kind) in enumerate(zip(row, widths, self.kinds, strict=True)):
                room, shown = " " * (width - columns(cell)), isolated(cell)
                padded = shown + room if kind == "text" else room + shown
                line.append(("  " * (k > 0) + padded, kind))
            line[-1] = (line[-1][0].rstrip(), line[-1][1])
            lines.append(line)
        return lines

    def __str__(self) -> str:
        return "\n".join("".join(cell for cell, _ in line).rstrip() for line in self.lines())

    def html(self) -> str:
        caption = f"<caption>{_bdi(self.title)}</caption>" if self.title else ""
        head = "".join(
            f'<th class="{kind}">{html.escape(cell)}</th>'
            for cell, kind in zip(self.headings, self.kinds, strict=True)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td class="{kind}">{_bdi(cell)}</td>'
                for cell, kind in zip(row, self.kinds, strict=True)
            )
            + "</tr>"
            for row in self.rows
        )
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _bdi(cell: str) -> str:
    """Text that keeps its order beside text in another direction."""
    escaped = html.escape(cell)
    return escaped if cell.isascii() else f"<bdi>{escaped}</bdi>"


def columns(text: str) -> int:
    """How many columns a terminal needs for a text."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(c) or unicodedata.category(c) == "Cf"
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )


def show(report: Report) -> None:
    """Print a report, in colours on a terminal."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(soft_wrap=True).print(report)
    else:
        print(report)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
