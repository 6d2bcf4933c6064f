"""One tape as functions of C: its parts, and one that runs them all."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.errors import TapeError
from tapeflow.export.c_arrays import ARRAYS, FUNCTIONS, called
from tapeflow.export.c_loops import loop, switch
from tapeflow.export.c_ops import Operations, comment
from tapeflow.export.c_text import Writer, lines, live, number
from tapeflow.loops import Loop, Switch
from tapeflow.ops import BY_NAME
from tapeflow.passes import executable
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.tape import Tape

CHUNK = 256
"""Instructions of one function: compilers take long for large ones."""

Regions = Sequence[tuple[str, int]]
"""Arrays of the caller, one after the other, with their lengths."""


@dataclass
class Shared:
    """What the functions of a file have in common: ops, functions of arrays, tables."""

    prefix: str
    operations: Operations = field(init=False)
    functions: dict[str, None] = field(default_factory=dict)
    tables: dict[tuple[str, str], str] = field(default_factory=dict)
    bodies: dict[Tape, "Function"] = field(default_factory=dict)
    n_bodies: int = 0

    def __post_init__(self) -> None:
        self.operations = Operations(self.prefix)

    def function(self, name: str) -> str:
        """A function of arrays, which is then in the file."""
        for other in called(name):
            self.function(other)
        self.functions[name] = None
        return f"tape_{name}"

    def table(self, values: Sequence[Any]) -> str:
        """The name of a table of whole numbers, or of floats."""
        floats = any(isinstance(value, float) for value in values)
        kind = "double" if floats else "long"
        text = ", ".join(map(number if floats else str, values))
        own = kind, f"[{len(values)}] = {{{text}}};"
        return self.tables.setdefault(own, f"{self.prefix}_table{len(self.tables) + 1}")

    def texts(self, used: str) -> Iterator[str]:
        """What stands before the functions of tapes, as far as they use it."""
        used += "".join(text for function in self.bodies.values() for text in function.texts)
        functions = self.operations.functions.items()
        own = [text for op, text in functions if _reads(self.operations.name_of(op), used)]
        used += "".join(own)
        for name, text in self.operations.tables.items():
            if f"{name}[" in used:
                yield text
        for (kind, text), name in self.tables.items():
            if _reads(name, used):
                yield f"static const {kind} {name}{text}"
        yield from (FUNCTIONS[name] for name in FUNCTIONS if name in self.functions)
        yield from own
        for function in self.bodies.values():
            *parts, whole = function.texts
            yield from [*parts, f"static {whole}"]


class Function:
    """A tape as C. inputs, outputs: where its inputs come from, and its results go.

    texts: its functions. work: how many numbers of room they need.
    """

    def __init__(
        self, tape: Tape, name: str, shared: Shared, inputs: Regions, outputs: Regions
    ) -> None:
        self.tape, self.name, self.shared = tape, name, shared
        self.inputs, self.outputs = inputs, outputs
        self.work = 0
        n = len(tape)
        cuts = list(range(0, n, CHUNK)) or [0]
        self._chunk = np.arange(n) // CHUNK
        self._places = self._stored(len(cuts) > 1)
        self._known: dict[int, str] = {}
        self.texts: list[str] = []
        body: list[str] = []
        for k, first in enumerate(cuts):
            chosen = range(first, min(first + CHUNK, n))
            if len(cuts) == 1:
                body += self._instructions(chosen, True)
            else:
                body.append(self._part(k, self._instructions(chosen, False)))
        if len(cuts) > 1:
            self._known.clear()
            body += self._ends()
        self.texts.append(self._whole(body))

    # Where values are.

    def _stored(self, several: bool) -> dict[int, int]:
        """The place among the work of each value that needs one, by its first slot."""
        tape = self.tape
        first = int(tape.slots[0])
        owners = np.searchsorted(tape.slots, np.arange(tape.n_slots), "right") - 1
        needed = np.diff(tape.slots) != 1
        for i in range(len(tape)):
            slots = tape.operands_of(i)
            own = slots[slots >= first]
            if len(tape.parameters_of(i)) or tape.op(i).array is not None:
                needed[i] = True
                needed[owners[own[own < tape.n_slots]]] = True
            elif several:
                before = owners[own]
                needed[before[self._chunk[before] != self._chunk[i]]] = True
        ends = [*tape.outputs.tolist(), *tape.guards.slots.tolist()] if several else []
        needed[[owners[slot] for slot in ends if slot >= first]] = True
        places = {}
        for i in np.flatnonzero(needed).tolist():
            places[int(tape.slots[i])] = self.work
            self.work += int(tape.slots[i + 1] - tape.slots[i])
        return places

    def _pointer(self, slot: int, size: int) -> str:
        """Where a run of values begins."""
        tape = self.tape
        if slot < tape.n_inputs:
            for name, length in self.inputs:
                if slot < length or not size:
                    return _sum(name, slot)
                slot -= length
        first = int(tape.slots[0])
        if slot < first:
            own = tape.constants[slot - tape.n_inputs : slot - tape.n_inputs + max(size, 1)]
            return self.shared.table(own.tolist())
        if not size:
            return "w"
        i = int(np.searchsorted(tape.slots, slot, "right")) - 1
        start = int(tape.slots[i])
        return _sum("w", self._places[start] + slot - start)

    def _value(self, slot: int) -> str:
        """One number: a variable, a number's text, or an entry of an array."""
        tape = self.tape
        if slot in self._known:
            return self._known[slot]
        if tape.n_inputs <= slot < tape.slots[0]:
            return number(float(tape.constants[slot - tape.n_inputs]))
        name, _, place = self._pointer(slot, 1).partition(" + ")
        return f"{name}[{place or 0}]"

    # Statements.

    def _instructions(self, chosen: range, last: bool) -> list[str]:
        """The lines of some instructions, and with ``last`` of the results."""
        self._known.clear()
        writer = Writer(self.shared.operations.tables, "v")
        where = None
        for i in chosen:
            source = comment(self.tape.source(i))
            if source != where:
                writer.line(f"    /* {source} */", ())
            where = source
            for line in self._instruction(i, writer):
                writer.line(line, _names(line))
        for line in self._ends() if last else []:
            writer.line(line, _names(line))
        return list(lines(live(writer.statements, set())))

    def _instruction(self, i: int, writer: Writer) -> list[str]:
        """Write an instruction; the lines that follow its statements."""
        tape, op = self.tape, self.tape.op(i)
        p, slot = tape.parameters_of(i).tolist(), int(tape.slots[i])
        if op.array is None and not len(p):
            operands = [self._value(k) for k in tape.operands_of(i).tolist()]
            self._known[slot] = self.shared.operations.write(op, writer, operands)
            if slot in self._places:
                return [f"    w[{self._places[slot]}] = {self._known[slot]};"]
            return []
        sizes, size = tape.runs_of(i)
        if not size:
            return []
        pairs = zip(tape.operands_of(i).tolist(), sizes, strict=True)
        operands = [self._pointer(k, n) for k, n in pairs]
        result = _sum("w", self._places[slot])
        if op.array is None:
            return self._grid(op, p, result, operands)
        if isinstance(op.array, Loop):
            if p[0] < 0 and op.array.streams:
                raise TapeError(
                    f"{op.name} ({tape.source(i)}) cannot be exported to C: it keeps something at "
                    "each step, and how many there are is not known: give the loop a number"
                )
            return self._indented(loop(self, op.array, p, result, operands))
        if isinstance(op.array, Switch):
            return self._indented(switch(self, op.array, result, operands))
        call = ARRAYS.get(op.name) if op.name in BY_NAME else None
        if call is None:
            raise TapeError(
                f"{op.name} ({tape.source(i)}) cannot be exported to C: compute it outside the "
                "tape, and pass it as an argument"
            )
        return self._indented(call(self, p, result, *operands))

    @staticmethod
    def _indented(lines: Sequence[str]) -> list[str]:
        return [f"    {line}" for line in lines]

    def _grid(self, op: Any, p: Sequence[int], result: str, operands: Sequence[str]) -> list[str]:
        """An elementwise instruction on arrays: loops around its rule."""
        lengths = p[: grid.AXES]
        used = [k for k in range(grid.AXES) if lengths[k] != 1]
        entries = []
        for k, operand in enumerate(operands):
            strides = p[grid.AXES * (1 + k) : grid.AXES * (2 + k)]
            terms = [f"i{axis} * {strides[axis]}" for axis in used if strides[axis]]
            entries.append(f"({operand})[{' + '.join(terms) or 0}]")
        whole = [lengths[1] * lengths[2], lengths[2], 1]
        target = " + ".join(f"i{axis} * {whole[axis]}" for axis in used) or "0"
        writer = Writer(self.shared.operations.tables, "t")
        value = self.shared.operations.write(op, writer, [f"a{k}" for k in range(len(operands))])
        wanted = {value}
        kept = live(writer.statements, wanted)
        loops = "".join(
            f"for (i{axis} = 0; i{axis} < {lengths[axis]}; i{axis}++) " for axis in used
        )
        reads = [
            f"        const double a{k} = {entry};"
            for k, entry in enumerate(entries)
            if f"a{k}" in wanted
        ]
        counters = f"size_t {', '.join(f'i{axis}' for axis in used)};" if used else ""
        return [
            f"    {{ {counters} {loops}{{",
            *reads,
            *lines(kept, "        "),
            f"        ({result})[{target}] = {value};",
            "    } }",
        ]

    # What an array's call needs (see `c_arrays.Needs`).

    def function(self, name: str) -> str:
        return self.shared.function(name)

    def table(self, values: Sequence[int]) -> str:
        return self.shared.table(values)

    def room(self, n: int) -> str:
        place = self.work
        self.work += n
        return f"(w + {place})"

    def op(self, name: str) -> str:
        return self.shared.operations.name(BY_NAME[name])

    def body(self, tape: Tape) -> Callable[[Sequence[str], Sequence[str]], str]:
        """What calls a tape that this one carries, which is a function of its own then."""
        function = self.shared.bodies.get(tape)
        if function is None:
            self.shared.n_bodies += 1
            name = f"{self.shared.prefix}_body{self.shared.n_bodies}"
            inputs = [(f"in{k}", leaf.size) for k, leaf in enumerate(tape.input_structure.leaves)]
            leaves = tape.output_structure.leaves
            outputs = [(f"out{k}", leaf.size) for k, leaf in enumerate(leaves)]
            run = remove_dead_code(executable(tape))
            function = Function(run, name, self.shared, inputs, outputs)
            self.shared.bodies[tape] = function
        # Its room is part of the caller's.
        room = self.room(function.work)
        return lambda given, taken: f"(void){function.name}({', '.join([*given, *taken, room])});"

    # Functions.

    def _ends(self) -> list[str]:
        """The results, and the guards."""
        found, tape = [], self.tape
        slots = tape.outputs.tolist()
        k = 0
        for name, length in self.outputs:
            for j in range(length):
                # A sweep in reverse starts from minus zero, and its results do not show that.
                end = " + 0.0" if name == "g" else ""
                found.append(f"    {name}[{j}] = {self._value(slots[k])}{end};")
                k += 1
        guards = tape.guards
        for g, (slot, expected) in enumerate(
            zip(guards.slots.tolist(), guards.expected.tolist(), strict=True)
        ):
            line = comment(tape.sources[int(guards.locations[g])])
            held = f"{self._value(slot)} == {number(expected)}"
            found.append(f"    if (!({held})) return {g + 1}; /* {line} */")
        return found

    def _part(self, k: int, body: list[str]) -> str:
        name = f"{self.name}_part{k + 1}"
        text = "\n".join(body)
        regions = [region for region, _ in self.inputs if _reads(region, text)]
        head = ", ".join([f"const double *{region}" for region in regions] + ["double *w"])
        unused = "" if _reads("w", text) else "    (void)w;\n"
        self.texts.append(f"static void {name}({head})\n{{\n{unused}{text}\n}}\n")
        return f"    {name}({', '.join([*regions, 'w'])});"

    @property
    def head(self) -> str:
        """The declaration of the function that runs all."""
        given = [f"const double *{name}" for name, _ in self.inputs]
        taken = [f"double *{name}" for name, _ in self.outputs]
        return f"int {self.name}({', '.join([*given, *taken, 'double *w'])})"

    def _whole(self, body: list[str]) -> str:
        text = "\n".join(body)
        names = [name for name, _ in [*self.inputs, *self.outputs]]
        unused = [f"    (void){name};" for name in [*names, "w"] if not _reads(name, text)]
        return "\n".join([self.head, "{", *unused, text, "    return 0;", "}", ""])


def _names(line: str) -> list[str]:
    """The variables that a line reads, and some other words of it."""
    return re.findall(r"[A-Za-z_]\w*", line)


def _sum(name: str, place: int) -> str:
    return f"{name} + {place}" if place else name


def _reads(name: str, text: str) -> bool:
    return re.search(rf"\b{name}\b", text) is not None
