"""The primitives as statements of C99: evaluating a rule on these values writes its text."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tapeflow.backend import KINDS, Backend, Float, Int, Value
from tapeflow.primitives import wrap

TYPES = {"float": "double", "int": "uint64_t", "mask": "int"}

# What a primitive is in C, of its operands; ints are unsigned, as those wrap around.
_FORMS = {
    "float": {
        "fma": "fma({}, {}, {})",
        "sqrt": "sqrt({})",
        "floor": "floor({})",
        "ceil": "ceil({})",
        "rint": "rint({})",
        "trunc": "trunc({})",
        "absolute": "fabs({})",
        "copysign": "copysign({}, {})",
        "where": "{} ? {} : {}",
        "from_bits": "tape_from_bits({})",
        "to_float": "(double)(int64_t){}",
        "-1": "-{}",
    },
    "int": {
        "bits": "tape_bits({})",
        "shift_right_logical": "{} >> {}",
        "mul_high": "tape_mul_high({}, {})",
        "to_int": "(uint64_t)(int64_t){}",
        "where": "{} ? {} : {}",
        ">>": "tape_shift_right({}, {})",
        "-1": "0u - {}",
        "~1": "~{}",
    },
    "mask": {"!1": "!{}", "where": "{} ? {} : {}"},
}

HELPERS = {
    "tape_bits": """\
static uint64_t tape_bits(double x) { uint64_t i; memcpy(&i, &x, sizeof i); return i; }
""",
    "tape_from_bits": """\
static double tape_from_bits(uint64_t i) { double x; memcpy(&x, &i, sizeof x); return x; }
""",
    "tape_shift_right": """\
static uint64_t tape_shift_right(uint64_t i, uint64_t n)
{
    return n == 0 ? i : (i >> n) | ((i >> 63) ? ~(uint64_t)0 << (64 - n) : 0);
}
""",
    "tape_mul_high": """\
static uint64_t tape_mul_high(uint64_t a, uint64_t b)
{
    const uint64_t low = 0xffffffffu;
    const uint64_t ll = (a & low) * (b & low), lh = (a & low) * (b >> 32);
    const uint64_t hl = (a >> 32) * (b & low), hh = (a >> 32) * (b >> 32);
    const uint64_t middle = (ll >> 32) + (lh & low) + (hl & low);
    return hh + (lh >> 32) + (hl >> 32) + (middle >> 32);
}
""",
}
"""What C has no operator for."""


def number(x: float) -> str:
    """A float as C writes it, to the last bit."""
    if math.isnan(x):
        return "NAN"
    if math.isinf(x):
        return "INFINITY" if x > 0 else "-INFINITY"
    short = repr(x)
    return short if len(short) <= 6 and "e" not in short else x.hex()


def whole(i: int) -> str:
    return f"UINT64_C({wrap(i) % 2**64:#x})"


@dataclass
class Statement:
    """One assignment; a branch, with what is assigned in it; or a line of text, of kind "line"."""

    name: str
    kind: str
    text: str
    reads: tuple[str, ...]
    inner: list["Statement"] = field(default_factory=list)
    merged: list[tuple[str, str, str]] = field(default_factory=list)
    """Of a branch: each result's name, its value in the branch, and that without it."""


def live(statements: Sequence[Statement], wanted: set[str]) -> list[Statement]:
    """The statements that something wanted depends on; what they read is wanted as well."""
    kept = []
    for statement in reversed(statements):
        if not statement.merged:
            if statement.kind == "line" or statement.name in wanted:
                wanted.update(statement.reads)
                kept.append(statement)
            continue
        merged = [own for own in statement.merged if own[0] in wanted]
        if merged:
            wanted.update(statement.reads)
            for _, slow, fast in merged:
                wanted.update((slow, fast))
            inner = live(statement.inner, wanted)
            kept.append(Statement("", "", statement.text, statement.reads, inner, merged))
    return kept[::-1]


def lines(statements: Sequence[Statement], indent: str = "    ") -> Iterator[str]:
    for statement in statements:
        if statement.kind == "line":
            yield statement.text
            continue
        if not statement.merged:
            yield f"{indent}const {TYPES[statement.kind]} {statement.name} = {statement.text};"
            continue
        for name, _, fast in statement.merged:
            yield f"{indent}double {name} = {fast};"
        yield f"{indent}if ({statement.text}) {{"
        yield from lines(statement.inner, indent + "    ")
        for name, slow, _ in statement.merged:
            yield f"{indent}    {name} = {slow};"
        yield indent + "}"


class Writer(Backend):
    """Writes statements; a value is the name of a variable, or a number's text.

    tables: what has been put into tables, as C text by name, for all functions of a file.
    """

    def __init__(self, tables: dict[str, str], prefix: str = "t") -> None:
        self.tables, self._prefix = tables, prefix
        self.statements: list[Statement] = []
        self._count = 0
        self._known: dict[Any, Any] = {}
        self._aside = False

    def fresh(self) -> str:
        """The name of a new variable."""
        self._count += 1
        return f"{self._prefix}{self._count}"

    def line(self, text: str, reads: Sequence[str]) -> None:
        """Write a line of text as it is."""
        self.statements.append(Statement("", "line", text, tuple(reads)))

    def constant(self, kind: str, given: Any) -> Value:
        if kind == "float":
            return Float(self, number(float(given)))
        return Int(self, whole(int(given)))

    def make(self, kind: str, name: str, *operands: Value) -> Value:
        texts = [_atom(operand.value) for operand in operands]
        form = _FORMS[kind].get(name if len(operands) > 1 or name not in "-~!" else f"{name}1")
        if form is None:
            if kind == "mask" and operands[0].kind == "int" and name not in ("==", "!="):
                texts = [f"(int64_t){text}" for text in texts]
            form = f"{{}} {name} {{}}"
        own = self.fresh()
        reads = tuple(str(operand.value) for operand in operands)
        self.statements.append(Statement(own, kind, form.format(*texts), reads))
        return KINDS[kind](self, own)

    def once(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        args = [self.lift(arg) for arg in args]
        if self._aside:  # what stands in a branch is not seen after it
            return function(*args)
        key = (function, *(arg.value for arg in args))
        if key not in self._known:
            self._known[key] = function(*args)
        return self._known[key]

    def table(self, values: Sequence[Any], index: Value) -> Value:
        integers = isinstance(values[0], int)
        kind = "int" if integers else "float"
        items = ", ".join(map(whole if integers else number, values))
        text = f"[{len(values)}] = {{{items}}};"
        name = next((known for known, own in self.tables.items() if own.endswith(text)), None)
        if name is None:
            name = f"tape_table{len(self.tables) + 1}"
            self.tables[name] = f"static const {TYPES[kind]} {name}{text}"
        own = self.fresh()
        self.statements.append(Statement(own, kind, f"{name}[{index.value}]", (index.value,)))
        return KINDS[kind](self, own)

    def rarely(self, mask: Value, slow: Callable[..., Any], fast: Any, *args: Any) -> Any:
        several = isinstance(fast, tuple)
        fasts = [self.lift(value) for value in (fast if several else (fast,))]
        outer, self.statements = self.statements, []
        aside, self._aside = self._aside, True
        found = slow(*args)
        self._aside = aside
        founds = [self.lift(value) for value in (found if several else (found,))]
        inner, self.statements = self.statements, outer
        merged = [
            (self.fresh(), str(s.value), str(f.value)) for s, f in zip(founds, fasts, strict=True)
        ]
        reads = (str(mask.value),)
        self.statements.append(Statement("", "", str(mask.value), reads, inner, merged))
        results = tuple(Float(self, name) for name, _, _ in merged)
        return results if several else results[0]


def _atom(text: str) -> str:
    """A text that stands beside any operator."""
    return f"({text})" if text.startswith("-") else text
