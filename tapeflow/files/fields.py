"""What a file holds of a tape: each field of `Tape`, as JSON or as an array.

A tape has no other fields, and a test holds that. Of a user's gates there is the name alone: they
are code, which no file holds. Loops and branches carry tapes, which are others of the file.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tapeflow import gates
from tapeflow.arrays.base import SubTapes
from tapeflow.errors import TapeError
from tapeflow.files import checks, structures, subtapes
from tapeflow.guards import KINDS, NONE, Guards
from tapeflow.ops import Op, op_of
from tapeflow.structure import Structure
from tapeflow.tape import Location, Tape

DEPTH = 64
"""How deep tapes may carry others."""


@dataclass
class Code:
    """What a file cannot hold, by the names it has there: gates, and classes of named tuples."""

    gates: dict[str, Any] = field(default_factory=dict)
    types: dict[str, type] = field(default_factory=dict)

    def name(self, gate: Any, name: str) -> str:
        """The name of a gate in the file; of those that are called alike, each has its own."""
        names = [name, *(f"{name}#{k}" for k in range(2, len(self.gates) + 2))]
        return next(n for n in names if self.gates.setdefault(n, gate) is gate)


class Tapes:
    """The tapes of a file: the first, and those that it carries. Each carries later ones alone.

    So that no tape carries itself. own: the place of the one at hand.
    """

    def __init__(self, code: Code, first: Tape | None = None) -> None:
        self.code, self.own = code, 0
        self.found: dict[int, Tape] = {} if first is None else {0: first}
        self._depths: dict[int, int] = {}

    def place(self, tape: Tape) -> int:
        """Where a tape is that the one at hand carries."""
        for place, known in self.found.items():
            if known is tape and place > self.own:
                return place
        self.found[len(self.found)] = tape
        return len(self.found) - 1

    def tape(self, place: int) -> Tape:
        """A tape that the one at hand carries: it has been read before."""
        if place <= self.own or place not in self.found:
            raise TapeError(f"tape {self.own} carries tape {place}, which is not one after it")
        depth = self._depths.get(place, 0) + 1
        self._depths[self.own] = max(self._depths.get(self.own, 0), depth)
        if depth > DEPTH:
            raise TapeError(f"more than {DEPTH} tapes are in each other")
        return self.found[place]


class Codec(NamedTuple):
    """How a field is written, and read again. ``what`` it is called in errors is its name."""

    encode: Callable[[Any, Tapes], Any]
    decode: Callable[[Any, Tapes], Any]


def _encode_sources(sources: tuple[Location, ...], tapes: Tapes) -> Any:
    return [[source.file, source.line, source.function] for source in sources]


def _decode_sources(given: Any, tapes: Tapes) -> tuple[Location, ...]:
    found = []
    for source in checks.of(list, given, "sources"):
        if len(checks.of(list, source, "a source")) != 3:
            raise TapeError("a source is not a file, a line and a function")
        file, line, function = source
        found.append(
            Location(
                checks.text(file, "a source's file"),
                checks.count(line, "a source's line"),
                checks.text(function, "a source's function"),
            )
        )
    return tuple(found)


def _encode_structure(structure: Structure, tapes: Tapes) -> Any:
    return structures.encoded(structure, tapes.code.types)


def _decode_inputs(given: Any, tapes: Tapes) -> Any:
    structure = structures.decoded(given, tapes.code.types, "input_structure")
    if structure.treedef.type is not tuple:
        raise TapeError("input_structure is not a tuple of arguments")
    return structure


def _decode_names(given: Any, tapes: Tapes) -> tuple[str, ...]:
    names = checks.of(list, given, "input_names")
    return tuple(checks.text(name, "an input's name") for name in names)


def _encode_gates(ops: tuple[Op, ...], tapes: Tapes) -> Any:
    found = []
    for op in ops:
        if isinstance(op.array, SubTapes):
            found.append(subtapes.encoded(op.array, tapes))
            continue
        gate, gradient = gates.gate_of(op)
        entry = {"name": tapes.code.name(gate, op.name), "arity": op.arity}
        found.append(entry if gradient is None else {**entry, "gradient": gradient})
    return found


def _decode_gates(given: Any, tapes: Tapes) -> tuple[Op, ...]:
    return tuple(_decode_gate(gate, tapes) for gate in checks.of(list, given, "gates"))


def _decode_gate(given: Any, tapes: Tapes) -> Op:
    code = tapes.code
    if len(checks.of(dict, given, "a gate")) == 1 and subtapes.KINDS.keys() >= given.keys():
        return op_of(subtapes.decoded(given, tapes))
    name = checks.text(checks.member(given, "name", "a gate"), "a gate's name")
    arity = checks.count(checks.member(given, "arity", "a gate"), "a gate's arity", 2**15)
    gradient = given.get("gradient")
    if name not in code.gates:
        raise TapeError(
            f"the tape has a gate {name}, which is Python code that a file does not hold: pass it, "
            f"as in tpf.load(path, gates={{{name!r}: {name.split('#')[0]}}})"
        )
    op = gates.op_of(code.gates[name])
    if gradient is not None:
        operand = checks.count(gradient, f"the operand of a gradient of {name}")
        if op.python is None or operand >= op.arity:
            raise TapeError(f"a gate is the gradient of {name} in an operand that it has not")
        op = gates.backward_op(op, gradient)
    if op.arity != arity:
        raise TapeError(f"gates[{name!r}] takes {op.arity} inputs, and the tape's takes {arity}")
    return op


def _decode_checkpoints(given: Any, tapes: Tapes) -> tuple[tuple[int, int], ...]:
    found = []
    for pair in checks.of(list, given, "checkpoints"):
        if len(checks.of(list, pair, "a checkpoint")) != 2:
            raise TapeError("a checkpoint is not its first instruction and its last")
        first, last = (checks.count(i, "a checkpoint's instruction") for i in pair)
        found.append((first, last))
    return tuple(found)


def _encode_guards(guards: Guards, tapes: Tapes) -> Any:
    whole = (guards.slots, guards.kinds, guards.locations, guards.numbers, guards.after)
    columns = [column.tolist() for column in whole]
    # In hexadecimal, as JSON has no infinity.
    return list(map(list, zip(*columns, map(float.hex, guards.expected.tolist()), strict=True)))


def _decode_guards(given: Any, tapes: Tapes) -> Guards:
    rows = []
    for guard in checks.of(list, given, "guards"):
        if len(checks.of(list, guard, "a guard")) != 6:
            raise TapeError("a guard is not a slot, kind, location, number, place and outcome")
        *whole, expected = guard
        try:
            outcome = float.fromhex(checks.text(expected, "a guard's outcome"))
        except (ValueError, OverflowError):
            raise TapeError(f"a guard's outcome is no number: {expected!r}") from None
        rows.append([*(checks.count(number, "a guard's number") for number in whole), outcome])
    if not rows:
        return NONE
    slots, kinds, locations, numbers, after, outcomes = zip(*rows, strict=True)
    if max(kinds) >= len(KINDS):
        raise TapeError("a guard is of no kind there is")
    columns: Any = (slots, outcomes, kinds, locations, numbers, after)
    return Guards(*columns)


FIELDS: dict[str, Codec] = {
    "name": Codec(lambda name, _: name, lambda given, _: checks.text(given, "name")),
    "sources": Codec(_encode_sources, _decode_sources),
    "input_structure": Codec(_encode_structure, _decode_inputs),
    "output_structure": Codec(
        _encode_structure,
        lambda given, tapes: structures.decoded(given, tapes.code.types, "output_structure"),
    ),
    "input_names": Codec(lambda names, _: list(names), _decode_names),
    "gates": Codec(_encode_gates, _decode_gates),
    "checkpoints": Codec(lambda pairs, _: [list(pair) for pair in pairs], _decode_checkpoints),
    "guards": Codec(_encode_guards, _decode_guards),
}
"""The fields that are JSON in the header."""


def encoded(tape: Tape, tapes: Tapes) -> dict[str, Any]:
    """A tape's fields as JSON."""
    return {name: codec.encode(getattr(tape, name), tapes) for name, codec in FIELDS.items()}


def decoded(given: Any, tapes: Tapes) -> dict[str, Any]:
    """The fields that JSON describes; TapeError where it lacks one or has another."""
    unknown = checks.of(dict, given, "a tape's fields").keys() - FIELDS.keys()
    if unknown:
        raise TapeError(f"the header has a field that a tape has not: {min(unknown)!r}")
    return {
        name: codec.decode(checks.member(given, name, "a tape"), tapes)
        for name, codec in FIELDS.items()
    }
