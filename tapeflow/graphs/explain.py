"""A page that steps through both sweeps of a tape, gate by gate: `Tape.explain`."""

import copy
import html
import json
import linecache
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tapeflow.errors import TapeError
from tapeflow.evaluate import Sweeps, last_sweeps, leaves_at
from tapeflow.graphs.collapse import GATES, collapsed, level_of
from tapeflow.graphs.compose import compose
from tapeflow.graphs.formula import formulas
from tapeflow.graphs.graph import Graph, graph_of
from tapeflow.graphs.javascript import Script, arrows
from tapeflow.graphs.svg import svg_of
from tapeflow.graphs.text import isolated
from tapeflow.graphs.theme import DARK, FONT, LIGHT, MONO, variables
from tapeflow.graphs.unroll import unrolled
from tapeflow.ops import Op
from tapeflow.structure import Floats
from tapeflow.tape import Tape

MOST_GATES = 3_000
"""Gates of a page: more than anyone steps through."""

MOST_BYTES = 300_000
"""Bytes of a page, so that it can be mailed and opens at once."""

_LONGEST = "−1.234e−5"
"""As long as a number is in the page's graph: what is edited must fit as well."""


@dataclass(frozen=True, repr=False)
class Page:
    """A page in HTML that needs nothing else; ``html`` is its text, and `save` writes it."""

    name: str
    html: str

    def save(self, path: str | Path) -> None:
        """Write it to a file, whose name ends in .html or .htm; ValueError otherwise."""
        if Path(path).suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"cannot write a page as {Path(path).name!r}: end its name in .html")
        Path(path).write_text(self.html, encoding="utf-8")

    def _repr_html_(self) -> str:
        """In a frame of its own, as its style and scripts are for a whole page."""
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" title="{html.escape(self.name)}" '
            'style="width:100%;height:720px;border:0"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<tapeflow page of {self.name}: {len(self.html.encode()) // 1000} kB>"


def explain(
    tape: Tape, path: str | Path | None = None, *, at: tuple[Any, ...] | None = None
) -> Page:
    numbers = unrolled(tape, MOST_GATES)
    if len(numbers) > MOST_GATES:
        raise TapeError(
            f"{tape.name} has {len(tape):,} gates, and a page steps through up to {MOST_GATES:,}: "
            "record a smaller one, or use draw"
        )
    page = _Builder(numbers, _inputs(tape, at)).page()
    if path is not None:
        page.save(path)
    return page


def _inputs(tape: Tape, at: tuple[Any, ...] | None) -> Floats:
    """The inputs' numbers: as given, as in the last `forward`, or else each 1."""
    if at is not None:
        found = np.empty(tape.n_inputs)
        tape.input_structure.pack(leaves_at(tape, at), found)
        return found
    values = last_sweeps(tape).values
    return np.ones(tape.n_inputs) if values is None else values[: tape.n_inputs].copy()


class _Builder:
    def __init__(self, tape: Tape, inputs: Floats) -> None:
        self.tape, self.inputs = tape, inputs
        self.ops = list(dict.fromkeys(tape.op(i) for i in range(len(tape))))

    def page(self) -> Page:
        graph = self._graph(level_of(self.tape, "auto"))
        text = self._page(graph)
        if len(text.encode()) > MOST_BYTES and len(self.tape) > 1:
            graph = self._graph(_coarser(self.tape))
            text = self._page(graph)
        size = len(text.encode())
        if size > MOST_BYTES:
            raise TapeError(
                f"the page of {self.tape.name} would have {size // 1000} kB, and may have "
                f"{MOST_BYTES // 1000}: record a smaller function, or use draw"
            )
        return Page(self.tape.name, text)

    def _graph(self, level: str) -> Graph:
        """The picture, with room for the numbers that the page writes into it."""
        if level != "gate":
            return collapsed(self.tape, level)
        graph = graph_of(self.tape, Sweeps(None, None, None))
        readers = graph.readers()
        for node in graph.nodes:
            node.details = ()
            if node.kind != "output" and not node.shape:
                node.value = node.gradient = _LONGEST
            for port in node.ports:
                if port.source is not None and readers[port.source] > 1:
                    port.gradient = _LONGEST
        return graph

    def _page(self, graph: Graph) -> str:
        folder = files("tapeflow.graphs") / "page"
        svg = svg_of(compose(graph), ids=True).replace(f">{_LONGEST}<", "><")
        styles = (
            f":root{{{variables(LIGHT)}--text:{FONT};--mono:{MONO}}}"
            f"@media (prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}"
            + (folder / "page.css").read_text("utf-8")
        )
        data = json.dumps(self._data(graph), ensure_ascii=False, separators=(",", ":"))
        parts = {
            "TITLE": html.escape(self.tape.name),
            "STYLE": styles,
            "GRAPH": svg,
            "DATA": data.replace("</", "<\\/"),
            "OPS": self._script(),
            "RUNTIME": (folder / "runtime.js").read_text("utf-8"),
            "PAGE": (folder / "page.js").read_text("utf-8"),
        }
        text = (folder / "page.html").read_text("utf-8")
        for name, part in parts.items():
            text = text.replace(f"@{name}@", part)
        return text

    def _script(self) -> str:
        """The ops' values and partials as JavaScript."""
        script = Script()
        methods = []
        for k, op in enumerate(self.ops):
            try:
                methods.append(arrows(script, [(str(k), _rule(op), op.arity)]))
            except Exception as error:
                where = next(
                    self.tape.source(i) for i in range(len(self.tape)) if self.tape.op(i) is op
                )
                raise TapeError(
                    f"a page cannot compute {op.name} ({where}), which is not arithmetic alone: "
                    "show the tape by draw and table instead"
                ) from error
        return "\n".join(script.functions) + "\nconst OPS={" + ",\n".join(methods) + "};"

    def _data(self, graph: Graph) -> dict[str, Any]:
        tape = self.tape
        names = [isolated(tape.slot_name(slot)) for slot in range(tape.n_inputs)]
        holders, owners = [-1] * tape.n_slots, [-1] * len(tape)
        for k, node in enumerate(graph.nodes):
            if node.kind == "input" and not node.shape:
                holders[node.slot] = k
            for i in node.instructions:
                owners[i] = k
                holders[int(tape.slots[i])] = k
        return {
            "name": tape.name,
            "inputs": names,
            "values": [_json(x) for x in self.inputs.tolist()],
            "constants": [_json(x) for x in tape.constants.tolist()],
            "gates": [self._gate(i) for i in range(len(tape))],
            "ops": [
                {"name": op.name, "zero": op.zero_derivative, "formulas": _formulas(op)}
                for op in self.ops
            ],
            "outputs": [
                [isolated(name), int(slot)]
                for name, slot in zip(_output_names(tape), tape.outputs.tolist(), strict=True)
            ],
            "sources": [
                [isolated(str(place)), linecache.getline(place.file, place.line).strip()[:100]]
                for place in tape.sources
            ],
            "guards": [
                [int(slot), _json(float(x)), isolated(tape.guard_name(k))]
                for k, (slot, x) in enumerate(
                    zip(tape.guards.slots, tape.guards.expected, strict=True)
                )
            ],
            "holders": holders,
            "owners": owners,
        }

    def _gate(self, i: int) -> list[Any]:
        """An instruction: its op, where it was recorded, and its operands' slots."""
        tape = self.tape
        return [self.ops.index(tape.op(i)), int(tape.locations[i]), *tape.operands_of(i).tolist()]


def _coarser(tape: Tape) -> str:
    lines = len({place[:2] for place in tape.sources})
    return "line" if lines <= GATES // 4 else "function"


def _formulas(op: Op) -> list[str]:
    """The value and the partials of an op; characters from U+E000 on stand for its operands and,
    the last of them, for its value.
    """
    marks = [chr(0xE000 + k) for k in range(op.arity + 1)]
    value, partials = formulas(op, marks[:-1], marks[-1])
    return [value, *partials]


def _rule(op: Op) -> Callable[..., Any]:
    """What computes an op's value and partials; a gate in Python is run as it is, both ways."""
    if op.python is None:
        return op.rule
    prototype = op.python.prototype

    def run(*operands: Any) -> Any:
        gate = copy.copy(prototype)
        value = gate.forward(*operands)
        return value, tuple(gate.backward(1.0))

    return run


def _output_names(tape: Tape) -> list[str]:
    """A name for each number of the result."""
    structure = tape.output_structure
    own = tape.name if tape.name.isidentifier() else "result"
    names = []
    for accessor, leaf in zip(structure.treedef.accessors(), structure.leaves, strict=True):
        name = accessor.codify(own)
        if leaf.shape:
            names += [name + str(list(index)) for index in np.ndindex(*leaf.shape)]
        else:
            names += [name] * leaf.size
    return names


def _json(x: float) -> float | str:
    return x if np.isfinite(x) else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(x), "NaN")
