"""A long tape as a graph of few nodes: one for each source line, function or file."""

import linecache
import re
from collections.abc import Callable, Sequence

import numpy as np

from tapeflow.graphs.graph import Graph, Node, Port
from tapeflow.graphs.text import counted, isolated
from tapeflow.structure import Ints
from tapeflow.tape import Location, Tape

GATES = 200
"""Gates up to which each is drawn on its own."""

MOST_GATES = 3_000
"""Gates up to which each can be drawn on its own: that takes some ten seconds."""

_GROUPS = 60
"""Lines, or functions, up to which they are drawn on their own."""

_MOST_NAMES = 8
"""Results up to which each has its name; arguments have one node each, whatever is in them."""

_KEYS: dict[str, Callable[[Location], tuple[object, ...]]] = {
    "line": lambda place: (place.file, place.line),
    "function": lambda place: (place.file, place.function),
    "file": lambda place: (place.file,),
}

LEVELS = ("auto", "gate", *_KEYS)


def level_of(tape: Tape, asked: str) -> str:
    """How a tape is drawn: by gate where they are few, or else by the finest level with few nodes.

    Raises ValueError for a level that there is not, and for more gates than can be drawn.
    """
    if asked not in LEVELS:
        raise ValueError(f"cannot draw by {asked!r}: choose one of {', '.join(LEVELS)}")
    if asked == "gate" and len(tape) > MOST_GATES:
        raise ValueError(
            f"cannot draw {len(tape):,} gates one by one, but up to {MOST_GATES:,}: "
            'draw by "line", or leave it to "auto"'
        )
    if asked != "auto":
        return asked
    if len(tape) <= GATES:
        return "gate"
    used = [tape.sources[k] for k in np.unique(tape.locations).tolist()]
    few = (level for level, key in _KEYS.items() if len(set(map(key, used))) <= _GROUPS)
    return next(few, "file")


def collapsed(tape: Tape, level: str) -> Graph:
    """The graph of a tape with a node for each line, function or file that recorded gates."""
    return _Collapsed(tape, level).graph()


class _Collapsed:
    def __init__(self, tape: Tape, level: str) -> None:
        self.tape, self.level = tape, level
        keys = [_KEYS[level](place) for place in tape.sources]
        numbers = {key: k for k, key in enumerate(dict.fromkeys(keys))}
        groups = np.array([numbers[key] for key in keys], np.int64)[tape.locations]
        # In the order in which they begin.
        used, first, which = np.unique(groups, return_index=True, return_inverse=True)
        order = np.argsort(first)
        self.firsts = first[order].tolist()
        self.groups = np.argsort(order)[which]
        self.n_groups = len(used)
        children = tape.input_structure.treedef.children()
        ends = np.cumsum([0, *(child.num_leaves for child in children)])
        bounds = [first for first, _ in tape.input_structure.bounds] + [tape.n_inputs]
        self.leaves = ends
        self.argument_ends = np.array([bounds[k] for k in ends[1:]], np.int64)
        self.n_arguments = len(children)

    def graph(self) -> Graph:
        nodes = [self._argument(k) for k in range(self.n_arguments)]
        reads = self._reads()
        nodes += [self._group(g, reads) for g in range(self.n_groups)]
        nodes += self._results()
        return Graph(self.tape.name, nodes)

    def _owners(self, slots: Ints) -> Ints:
        """The node of each slot; -1 for constants."""
        tape = self.tape
        owners = np.full(len(slots), -1, np.int64)
        inputs, results = slots < tape.n_inputs, slots >= tape.slots[0]
        owners[inputs] = np.searchsorted(self.argument_ends, slots[inputs], "right")
        makers = np.searchsorted(tape.slots, slots[results], "right") - 1
        owners[results] = self.n_arguments + self.groups[makers]
        return owners

    def _reads(self) -> dict[int, list[tuple[int, int]]]:
        """For each group: the nodes that it reads, and how often."""
        readers = np.repeat(self.groups, self.tape.arities)
        sources = self._owners(self.tape.operands.astype(np.int64))
        real = sources >= 0
        width = self.n_arguments + self.n_groups
        pairs, counts = np.unique(readers[real] * width + sources[real], return_counts=True)
        found: dict[int, list[tuple[int, int]]] = {}
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            found.setdefault(pair // width, []).append((pair % width, count))
        return found

    def _argument(self, k: int) -> Node:
        structure, names = self.tape.input_structure, self.tape.input_names
        first, last = self.leaves[k : k + 2].tolist()
        size = sum(leaf.size for leaf in structure.leaves[first:last])
        if last - first == 1:
            name, shape = names[first], structure.leaves[first].shape
        else:
            start = re.match(r"\w+", names[first] if last > first else "")
            name, shape = start[0] if start else f"arg{k}", (size,)
        text = "×".join(map(str, shape)) if shape else ""
        details = f"{name}: {size:,} numbers" if size != 1 else name
        return Node("input", isolated(name), shape=text, details=(details,))

    def _group(self, g: int, reads: dict[int, list[tuple[int, int]]]) -> Node:
        tape = self.tape
        own = np.flatnonzero(self.groups == g)
        opcodes, counts = np.unique(tape.opcodes[own], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        kinds = [f"{counts[k]:,} {tape.op_of(int(opcodes[k])).name}" for k in order.tolist()]
        place = tape.source(self.firsts[g])
        heading, *text = self._heading(place)
        shown = ", ".join(kinds[:3]) + (", …" if len(kinds) > 3 else "")
        gates = f"{counted(len(own), 'gate')}: {shown}"
        ports, repeats = [], False
        for source, count in reads.get(g, []):
            if source == self.n_arguments + g:
                repeats = True
            else:
                ports.append(Port(source, f"{count:,}" if count > 1 else ""))
        lines = (*text, gates + (" ↻" if repeats else ""))
        details = (str(place), *text, *kinds, *(["reads its own results"] if repeats else []))
        return Node(
            "group", heading, ports, lines=lines, details=details, instructions=own.tolist()
        )

    def _heading(self, place: Location) -> Sequence[str]:
        if self.level == "line":
            code = linecache.getline(place.file, place.line).strip()
            shown = code if len(code) <= 44 else code[:43] + "…"
            return [str(place), *([isolated(shown)] if code else [])]
        file = str(place).rsplit(":", 1)[0]
        return [isolated(place.function), file] if self.level == "function" else [file]

    def _results(self) -> list[Node]:
        tape, structure = self.tape, self.tape.output_structure
        name = tape.name if tape.name.isidentifier() else "result"
        if len(structure.leaves) > _MOST_NAMES:
            return [self._result(f"{name}: {len(tape.outputs):,} numbers", 0, len(tape.outputs))]
        return [
            self._result(accessor.codify(name), first, last)
            for accessor, (first, last) in zip(
                structure.treedef.accessors(), structure.bounds, strict=True
            )
        ]

    def _result(self, name: str, first: int, last: int) -> Node:
        owners = np.unique(self._owners(self.tape.outputs[first:last].astype(np.int64)))
        ports = [Port(owner) for owner in owners.tolist() if owner >= 0]
        return Node("output", isolated(name), ports)
