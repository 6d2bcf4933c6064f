"""A page that steps through both sweeps of a tape, gate by gate: `Tape.explain`."""

import html
import json
import linecache
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from tapeflow.arrays import SubTapes
from tapeflow.differences import derivative
from tapeflow.engine.evaluate import Sweeps, last_sweeps, leaves_at
from tapeflow.engine.programs import sample_program
from tapeflow.graphs.collapse import GATES, collapsed, level_of
from tapeflow.graphs.compose import compose
from tapeflow.graphs.formula import formulas
from tapeflow.graphs.graph import Graph, graph_of
from tapeflow.graphs.javascript import Script, arrows
from tapeflow.graphs.known import rule_of
from tapeflow.graphs.svg import svg_of
from tapeflow.graphs.text import isolated
from tapeflow.graphs.theme import DARK, FONT, LIGHT, MONO, variables
from tapeflow.graphs.unroll import Apart, TooLong, unrolled
from tapeflow.ops import Op
from tapeflow.structure import Floats
from tapeflow.tape import Location, Tape

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
    inputs = _inputs(tape, at)
    try:
        page = _Builder(tape, unrolled(tape, inputs, MOST_GATES), inputs).page()
    except TooLong:
        if not any(isinstance(gate.array, SubTapes) for gate in tape.gates):
            raise
        apart = unrolled(tape, inputs, MOST_GATES, whole_loops=True)
        page = _Builder(tape, apart, inputs).page()
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
    """recorded: the tape as it was; apart: what is shown."""

    def __init__(self, recorded: Tape, apart: Apart, inputs: Floats) -> None:
        self.recorded, self.inputs = recorded, inputs
        self.tape, self.known = apart
        self.ops = list(dict.fromkeys(self.tape.op(i) for i in range(len(self.tape))))

    def page(self) -> Page:
        graph = self._graph(level_of(self.tape, "auto"))
        text = self._page(graph)
        if len(text.encode()) > MOST_BYTES and len(self.tape) > 1:
            graph = self._graph(_coarser(self.tape))
            text = self._page(graph)
        size = len(text.encode())
        if size > MOST_BYTES:
            raise TooLong(
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
            "FIXED": html.escape(self._fixed()),
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
        methods = [(str(k), rule_of(op), op.arity) for k, op in enumerate(self.ops)]
        text = arrows(script, methods)
        return "\n".join(script.functions) + "\nconst OPS={" + text + "};"

    def _fixed(self) -> str:
        """What the page does not compute, and what follows from it; nothing if it computes all."""
        tape = self.tape
        found = {
            f"{tape.op(i).name.split('[')[0]} ({isolated(str(tape.source(i)))})": None
            for i in range(len(tape))
            if tape.op(i) in self.known
        }
        names = list(found)
        if not names:
            return ""
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return (
            f"Not computed by this page, but by the library, at these inputs: {shown}. Inputs that "
            "flow into it cannot be edited."
        )

    def _differences(self) -> dict[int, list[float | str]]:
        """Of the inputs that flow into what the page does not compute: each output's derivative."""
        tape, flows = self.tape, np.zeros(self.tape.n_slots, np.bool_)
        for i in reversed(range(len(tape))):
            if tape.op(i) in self.known or flows[tape.slots[i]]:
                flows[tape.operands_of(i)] = True
        found = np.flatnonzero(flows[: tape.n_inputs]).tolist()
        if not found:
            return {}
        program = sample_program(self.recorded, None)
        split = self.recorded.input_structure.split

        def value(x: Floats) -> Floats:
            results: Floats = program.results(split(x))
            return results

        along = np.eye(tape.n_inputs)
        rows = {k: derivative(value, self.inputs, along[k]) for k in found}
        return {k: [_json(x) for x in row.tolist()] for k, row in rows.items()}

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
                {
                    "name": op.name,
                    "zero": op.zero_derivative,
                    "known": op in self.known,
                    "formulas": [_call(op)] if op in self.known else _formulas(op),
                }
                for op in self.ops
            ],
            "differences": self._differences(),
            "outputs": [
                [isolated(name), int(slot)]
                for name, slot in zip(_output_names(tape), tape.outputs.tolist(), strict=True)
            ],
            "sources": [[isolated(str(place)), isolated(_code(place))] for place in tape.sources],
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


def _code(place: Location) -> str:
    return linecache.getline(place.file, place.line).strip()[:100]


_SHOWN = 4
"""Operands of a known gate that are written out."""


def _call(op: Op) -> str:
    """A gate of known numbers as a call, with the first of its operands."""
    name, bracket, index = op.name.partition("[")
    marks = [chr(0xE000 + k) for k in range(min(op.arity, _SHOWN))]
    more = [] if op.arity <= _SHOWN else [f"… {op.arity - _SHOWN} more"]
    return f"{name}({', '.join([*marks, *more])}){bracket}{index}"


def _formulas(op: Op) -> list[str]:
    """The value and the partials of an op; characters from U+E000 on stand for its operands and,
    the last of them, for its value.
    """
    marks = [chr(0xE000 + k) for k in range(op.arity + 1)]
    value, partials = formulas(op, marks[:-1], marks[-1])
    return [value, *partials]


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
