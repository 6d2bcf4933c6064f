"""A tape as the graph that is drawn: gates, inputs and results, and the wires between them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.arrays import SubTapes
from tapeflow.engine.evaluate import Sweeps
from tapeflow.errors import GateError
from tapeflow.graphs.text import counted, isolated, number, numbers
from tapeflow.loops import Switch
from tapeflow.ops import Op
from tapeflow.structure import Floats
from tapeflow.tape import Tape


@dataclass
class Port:
    """Where an operand enters a node. source: the node it comes from, or None for a constant.

    text: the constant, or which part of an array is read. gradient: what flows back here, where
    that is not all that flows to the source. id: by which a page finds the gradient.
    """

    source: int | None
    text: str = ""
    gradient: str = ""
    id: str = ""


@dataclass
class Node:
    """A gate, an input, a result, or a group of gates.

    text: its symbol or name. ports: its operands in order. shape, value, gradient: what stands at
    the wire that leaves it. details: the lines that are shown where one points at it. instructions:
    those of the tape that it stands for. lines: further text in a group's box. guarded: a branch
    was decided by its value.
    """

    kind: str
    text: str
    ports: list[Port] = field(default_factory=list)
    shape: str = ""
    value: str = ""
    gradient: str = ""
    details: tuple[str, ...] = ()
    instructions: Sequence[int] = ()
    slot: int = -1
    lines: tuple[str, ...] = ()
    guarded: bool = False


@dataclass
class Graph:
    """Nodes, each after those it reads; a group may read one that comes after it, or itself."""

    name: str
    nodes: list[Node]

    def readers(self) -> Counter[int | None]:
        """How often each node is read."""
        return Counter(port.source for node in self.nodes for port in node.ports)


def graph_of(tape: Tape, sweeps: Sweeps) -> Graph:
    """Every gate of a tape as a node."""
    return _Builder(tape, sweeps).graph()


class _Builder:
    def __init__(self, tape: Tape, sweeps: Sweeps) -> None:
        self.tape, self.sweeps = tape, sweeps
        self.nodes: list[Node] = []
        self.parts: dict[tuple[int, int], int] = {}
        self.gate_of: dict[int, int] = {}
        self.guards: dict[int, list[str]] = {}
        # Whether a gradient flows through: what depends on an input, smoothly or not.
        self.active = np.arange(tape.n_slots) < tape.n_inputs
        for k, slot in enumerate(tape.guards.slots.tolist()):
            self.guards.setdefault(slot, []).append(tape.guard_name(k))

    def graph(self) -> Graph:
        tape = self.tape
        read = self._parts_read()
        for (first, last), leaf in zip(
            tape.input_structure.bounds, tape.input_structure.leaves, strict=True
        ):
            own = sorted(part for part in read if first <= part[0] < last)
            for slot, size in own or [(first, last - first)]:
                whole = leaf.shape if size == leaf.size and leaf.shape else None
                self._input(slot, size, whole)
        for i in range(len(tape)):
            self._gate(i)
        for name, ports in self._outputs():
            self.nodes.append(Node("output", isolated(name), ports))
        graph = Graph(tape.name, self.nodes)
        self._only_at_forks(graph)
        return graph

    def _only_at_forks(self, graph: Graph) -> None:
        """Where a value is read once, the gradient at its wire's end is that at its beginning."""
        readers = graph.readers()
        for node in graph.nodes:
            for port in node.ports:
                if port.source is None or (readers[port.source] == 1 and not port.text):
                    port.gradient = ""

    def _parts_read(self) -> set[tuple[int, int]]:
        """The runs of the inputs that something reads."""
        tape = self.tape
        runs = {
            (slot, size)
            for i in range(len(tape))
            for slot, size in zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True)
            if slot < tape.n_inputs and size
        }
        return runs | {run for run in _output_runs(tape) if run[0] < tape.n_inputs}

    def _input(self, slot: int, size: int, shape: tuple[int, ...] | None) -> None:
        name = self.tape.slot_name(slot, size)
        node = Node("input", isolated(name), slot=slot)
        self._label(node, slot, size, shape)
        node.details = (name, *self._exact(slot, size))
        self.parts[slot, size] = len(self.nodes)
        self.nodes.append(node)

    def _gate(self, i: int) -> None:
        tape, op = self.tape, self.tape.op(i)
        slots, (sizes, size) = tape.operands_of(i).tolist(), tape.runs_of(i)
        constants = [
            number(float(tape.constants[slot - tape.n_inputs])) if self._is_constant(slot) else ""
            for slot in slots
        ]
        text, merged = gate_text(op, constants if max(sizes, default=1) == 1 else [])
        flows = self._flows(i)
        ports = [
            Port(*self._source(slot, n), numbers(flow), f"f{i}_{k}")
            for k, (slot, n, flow) in enumerate(zip(slots, sizes, flows, strict=True))
            if k != merged and n
        ]
        slot = int(tape.slots[i])
        read = zip(slots, sizes, strict=True)
        flowing = any(self.active[first : first + n].any() for first, n in read)
        self.active[slot : slot + size] = flowing and not op.zero_derivative
        node = Node("gate", text, ports, slot=slot, instructions=(i,))
        self._label(node, slot, size, shape_of(tape, i) if size != 1 else None)
        names = ", ".join(map(isolated, tape.operand_names(i)))
        if isinstance(op.array, SubTapes):
            node.kind, node.lines = "group", lines_of(op.array, tape.parameters_of(i).tolist())
        guards = self.guards.get(slot, [])
        node.guarded = bool(guards)
        node.details = (
            f"v{i} = {op.name}({names})",
            *self._exact(slot, size),
            *(f"guard {guard}" for guard in guards),
            str(tape.source(i)),
        )
        self.gate_of[i] = len(self.nodes)
        self.nodes.append(node)

    def _is_constant(self, slot: int) -> bool:
        return self.tape.n_inputs <= slot < int(self.tape.slots[0])

    def _source(self, slot: int, size: int) -> tuple[int | None, str]:
        """The node that makes a run, and which part of its value the run is."""
        if (slot, size) in self.parts:
            return self.parts[slot, size], ""
        if self._is_constant(slot):
            return None, self.tape.slot_name(slot, size)
        i = int(np.searchsorted(self.tape.slots, slot, "right")) - 1
        return self.gate_of[i], self.tape.slot_name(slot, size).removeprefix(f"v{i}")

    def _outputs(self) -> Sequence[tuple[str, list[Port]]]:
        """The results by name, and the runs that each is made of."""
        tape, structure = self.tape, self.tape.output_structure
        name = tape.name if tape.name.isidentifier() else "result"
        results = []
        for accessor, (first, last) in zip(
            structure.treedef.accessors(), structure.bounds, strict=True
        ):
            ports = []
            for slot, size, place in _runs(tape, first, last):
                source, text = self._source(slot, size)
                seeds = self.sweeps.seeds
                flow = None if seeds is None else seeds[place : place + size]
                ports.append(Port(source, text, numbers(flow), f"s{place}"))
            results.append((accessor.codify(name), ports))
        return results

    def _label(self, node: Node, slot: int, size: int, shape: tuple[int, ...] | None) -> None:
        own = slice(slot, slot + size)
        sweeps = self.sweeps
        if shape is not None or size != 1:
            node.shape = "×".join(map(str, shape if shape else (size,)))
        node.value = numbers(None if sweeps.values is None else sweeps.values[own])
        node.gradient = numbers(None if sweeps.cotangents is None else sweeps.cotangents[own])

    def _exact(self, slot: int, size: int) -> list[str]:
        """The value and the gradient with all their digits."""
        lines = []
        for name, flat in (("value", self.sweeps.values), ("gradient", self.sweeps.cotangents)):
            if flat is not None and size == 1:
                lines.append(f"{name} {float(flat[slot])!r}")
        return lines

    def _flows(self, i: int) -> list[Floats | None]:
        """What flows back to each operand of an instruction on numbers, or elementwise."""
        tape, sweeps, op = self.tape, self.sweeps, self.tape.op(i)
        slots = tape.operands_of(i).tolist()
        nothing: list[Floats | None] = [None] * len(slots)
        if sweeps.values is None or sweeps.cotangents is None or op.array is not None:
            return nothing
        parameters, (sizes, size) = tape.parameters_of(i), tape.runs_of(i)
        places = [
            grid.places(parameters, k) if len(parameters) else np.zeros(1, np.int64)
            for k in range(len(slots))
        ]
        try:
            with np.errstate(all="ignore"):
                _, partials = op.rule(
                    *(sweeps.values[slot + own] for slot, own in zip(slots, places, strict=True))
                )
                flowing = sweeps.cotangents[tape.slots[i] : tape.slots[i] + size]
                products = [_product(flowing, partial) for partial in partials]
        except GateError:  # its backward is Python code
            return nothing
        return [
            np.bincount(own, flow, n).astype(np.float64)
            if self.active[slot : slot + n].any()
            else np.zeros(n)
            for slot, own, flow, n in zip(slots, places, products, sizes, strict=True)
        ]


def _product(flowing: Floats, partial: Any) -> Floats:
    partial = np.broadcast_to(np.asarray(partial, float), flowing.shape)
    return np.where((flowing == 0.0) | (partial == 0.0), 0.0, flowing * partial)


def gate_text(op: Op, constants: Sequence[str]) -> tuple[str, int | None]:
    """What stands in a gate's circle, and which operand, a constant, has become part of it.

    constants: each operand's text, empty where it is not a constant.
    """
    text = op.drawn or op.name
    if op.arity == 2 and len(constants) == 2 and not text.isalnum():
        left, right = constants
        short = [len(c) in range(1, 6) for c in (left, right)]
        if op.name in ("add", "mul") and (short[0] or short[1]):
            k = 0 if short[0] else 1
            return text + constants[k], k
        if op.name == "pow" and right in _SUPERSCRIPTS:
            return "x" + _SUPERSCRIPTS[right], 1
        if short[1]:
            return ("x" if op.name == "pow" else "") + text + right, 1
        if short[0]:
            return left + ("/" if op.name == "div" else text) + "x", 0
    return text, None


def lines_of(rule: SubTapes, parameters: Sequence[int]) -> tuple[str, ...]:
    """What stands in the box of a loop or a branch: its tapes, and how often they run."""
    tapes = [f"{isolated(body.name)}: {counted(len(body), 'gate')}" for body in rule.tapes]
    if isinstance(rule, Switch):
        return tuple(f"{k}: {text}" for k, text in enumerate(tapes))
    steps = parameters[0]
    return (counted(steps, "step") if steps >= 0 else "as many steps as it takes", *tapes)


_SUPERSCRIPTS = {"2": "²", "3": "³", "4": "⁴", "−1": "⁻¹", "−2": "⁻²"}


def shape_of(tape: Tape, i: int) -> tuple[int, ...]:
    """The shape of an instruction's result, as far as its parameters tell it."""
    op, parameters = tape.op(i), tape.parameters_of(i).tolist()
    if op.array is not None:
        # A loop, a branch and a gate on arrays are rules of one tape, and made by instances.
        one = not isinstance(op.array, type)
        return (op.array.sizes(parameters)[1],) if one else tuple(op.array.shape(parameters))
    return tuple(n for n in parameters[: grid.AXES] if n != 1)


def _output_runs(tape: Tape) -> set[tuple[int, int]]:
    return {
        (slot, size)
        for first, last in tape.output_structure.bounds
        for slot, size, _ in _runs(tape, first, last)
    }


def _runs(tape: Tape, first: int, last: int) -> list[tuple[int, int, int]]:
    """Outputs first to last - 1 as runs of one value: slot, size, and the first one's number."""
    slots = tape.outputs[first:last].astype(np.int64)
    if not len(slots):
        return []
    edges = np.concatenate([tape.first_slots[:-1], tape.first_slots[-1:], tape.slots])
    owner = np.searchsorted(np.unique(edges), slots, "right")
    cuts = np.flatnonzero((np.diff(slots) != 1) | (np.diff(owner) != 0)) + 1
    starts = [0, *cuts.tolist()]
    ends = [*cuts.tolist(), len(slots)]
    return [(int(slots[a]), b - a, first + a) for a, b in zip(starts, ends, strict=True)]
