"""The primitives as JavaScript: evaluating a rule on these values writes its text.

Floats are numbers, ints are BigInts of 64 bits and masks are booleans; a page's arithmetic is the
same as NumPy's, fma included (``runtime.js``), so its numbers have the library's bits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tapeflow.backend import COMPARISONS, KINDS, Backend, Float, Int, Value
from tapeflow.primitives import wrap

_CALLS = {
    "fma": "fma",
    "sqrt": "Math.sqrt",
    "floor": "Math.floor",
    "ceil": "Math.ceil",
    "rint": "rint",
    "trunc": "Math.trunc",
    "absolute": "Math.abs",
    "copysign": "copysign",
    "bits": "bits",
    "from_bits": "fromBits",
    "shift_right_logical": "shiftRight",
    "mul_high": "mulHigh",
    "to_float": "Number",
    "to_int": "toInt",
}
"""Functions, here or in ``runtime.js``."""

_SIGNS = {"==": "===", "!=": "!==", "&": "&&", "|": "||"}
"""What operators of floats and masks are called, if not as in Python."""

_WRAPPED = ("+", "-", "*", "<<")
"""Operators whose results may not fit 64 bits."""


def literal(x: float) -> str:
    """A number as JavaScript writes it."""
    if x != x:
        return "NaN"
    if x in (float("inf"), -float("inf")):
        return "Infinity" if x > 0 else "-Infinity"
    return str(int(x)) if x == int(x) and abs(x) < 1e15 and str(x) != "-0.0" else repr(float(x))


@dataclass
class _Line:
    """A statement: the names it defines, those it reads, its text, and how many operations."""

    names: tuple[str, ...]
    reads: frozenset[str]
    text: Callable[[set[str]], str]
    cost: int = 1


class Script:
    """Functions in JavaScript, each once, from texts in the primitives."""

    def __init__(self) -> None:
        self.functions: list[str] = []
        self._known: dict[Any, tuple[str, Any]] = {}
        self._tables: dict[tuple[Any, ...], str] = {}
        self._costs: dict[str, int] = {}

    def function(
        self, name: str, text: Callable[..., Any], arity: int, choose: Callable[[Any], Any]
    ) -> str:
        """An arrow function of ``arity`` floats, for what ``choose`` takes of the text's result."""
        writer = Writer(self)
        result = choose(text(*(Float(writer, f"x{k}") for k in range(arity))))
        return f"{name}=({', '.join(f'x{k}' for k in range(arity))})=>{writer.body(result)}"

    def call(self, text: Callable[..., Any], kinds: tuple[type, ...]) -> tuple[str, Any]:
        """The name of a function for a text on such values, and the kinds of its results."""
        key = (text, kinds)
        if key not in self._known:
            writer = Writer(self)
            name = f"{text.__name__.strip('_')}_{len(self._known)}"
            self._known[key] = name, None
            result = text(*(kind(writer, f"x{k}") for k, kind in enumerate(kinds)))
            several = isinstance(result, tuple)
            results = [writer.lift(value) for value in (result if several else (result,))]
            names = ",".join(f"x{k}" for k in range(len(kinds)))
            body = writer.body(results if several else results[0])
            self.functions.append(f"const {name}=({names})=>{body};")
            self._costs[name] = writer.cost
            found = [type(value) for value in results]
            self._known[key] = name, found if several else found[0]
        return self._known[key]

    def costs(self, name: str) -> int:
        """How many operations a function takes, on the path that is taken most."""
        return self._costs[name]

    def table(self, values: Sequence[Any]) -> str:
        key = (type(values[0]), *values)
        if key not in self._tables:
            name = self._tables[key] = f"T{len(self._tables)}"
            whole = isinstance(values[0], int)
            shown = ",".join(f"{wrap(v)}n" if whole else literal(v) for v in values)
            self.functions.append(f"const {name}=[{shown}];")
        return self._tables[key]


class Writer(Backend):
    """Writes the statements of one function. It is the backend of its values (see `primitives`)."""

    def __init__(self, script: Script, parent: "Writer | None" = None) -> None:
        self.script = script
        self.lines: list[_Line] = []
        self.cost = 0
        self._count: list[int] = parent._count if parent else [0]

    def constant(self, kind: str, number: Any) -> Value:
        if kind == "int":
            return Int(self, f"{wrap(int(number))}n")
        return Float(self, literal(float(number)))

    def make(self, kind: str, name: str, *operands: Value) -> Value:
        return self._new(kind, self._text(kind, name, *operands), *operands)

    def _text(self, kind: str, name: str, *operands: Value) -> str:
        names = [operand.value for operand in operands]
        if name in _CALLS:
            return f"{_CALLS[name]}({','.join(names)})"
        if name == "where":
            return f"{names[0]}?{names[1]}:{names[2]}"
        shown = [f"({own})" if own.startswith("-") else own for own in names]
        if len(shown) == 1:
            text = f"{name}{shown[0]}"
        else:
            own = operands[0].kind == "int" and name not in COMPARISONS
            text = f"{shown[0]}{name if own else _SIGNS.get(name, name)}{shown[1]}"
        return f"BigInt.asIntN(64,{text})" if kind == "int" and name in _WRAPPED else text

    def _new(self, kind: str, text: str, *reads: Value) -> Value:
        """A value of a kind, made by an expression of others."""
        name = self._name()
        names = frozenset(value.value for value in reads)
        self.lines.append(_Line((name,), names, lambda _: f"const {name}={text};"))
        return KINDS[kind](self, name)

    def _name(self) -> str:
        self._count[0] += 1
        return f"t{self._count[0]}"

    def body(self, result: Any) -> str:
        """The function's body: what the result needs, and nothing else."""
        several = isinstance(result, (tuple, list))
        values = [self.lift(value) for value in (result if several else (result,))]
        needed = {value.value for value in values}
        text = self.text(needed)
        shown = ",".join(value.value for value in values)
        end = f"[{shown}]" if several else shown
        return f"{{{text}return {end};}}" if text else f"({end})"

    def text(self, needed: set[str]) -> str:
        """The statements that define the needed names; adds what these read to them."""
        kept = []
        for line in reversed(self.lines):
            if needed.intersection(line.names):
                needed |= line.reads
                kept.append(line.text(needed))
                self.cost += line.cost
        return "".join(reversed(kept))

    def once(self, text: Callable[..., Any], args: Sequence[Any]) -> Any:
        """A text's value as a call of its function."""
        values = [self.lift(arg) for arg in args]
        name, kinds = self.script.call(text, tuple(type(value) for value in values))
        call = f"{name}({','.join(value.value for value in values)})"
        several = isinstance(kinds, list)
        names = tuple(self._name() for _ in (kinds if several else (kinds,)))
        reads = frozenset(value.value for value in values)
        shown = f"[{','.join(names)}]" if several else names[0]
        cost = self.script.costs(name)
        self.lines.append(_Line(names, reads, lambda _: f"const {shown}={call};", cost))
        if not several:
            return kinds(self, names[0])
        return tuple(kind(self, name) for kind, name in zip(kinds, names, strict=True))

    def table(self, values: Sequence[Any], index: Value) -> Value:
        kind = "int" if isinstance(values[0], int) else "float"
        return self._new(kind, f"{self.script.table(values)}[Number({index.value})]", index)

    def rarely(self, mask: Any, slow: Callable[..., Any], fast: Any, *args: Any) -> Any:
        several = isinstance(fast, tuple)
        fasts = [self.float(value) for value in (fast if several else (fast,))]
        inner = Writer(self.script, self)
        found = slow(*(inner.moved(arg) for arg in args))
        slows = [inner.lift(value) for value in (found if several else (found,))]
        names = tuple(self._name() for _ in fasts)

        def text(needed: set[str]) -> str:
            chosen = [k for k, name in enumerate(names) if name in needed]
            own = {slows[k].value for k in chosen}
            body = inner.text(own)
            start = ",".join(f"{names[k]}={fasts[k].value}" for k in chosen)
            set_ = "".join(f"{names[k]}={slows[k].value};" for k in chosen)
            return f"let {start};if({mask.value}){{{body}{set_}}}"

        reads = {mask.value, *(value.value for value in fasts), *(value.value for value in slows)}
        for line in inner.lines:
            reads |= line.reads
        self.lines.append(_Line(names, frozenset(reads), text))
        results = tuple(Float(self, name) for name in names)
        return results if several else results[0]

    def moved(self, x: Any) -> Any:
        """A value of the function around a block, inside it."""
        return type(x)(self, x.value) if isinstance(x, Value) else x


def arrows(script: Script, items: Iterable[tuple[str, Callable[..., Any], int]]) -> str:
    """For each (name, rule, arity) an object with its value and its partials as functions."""
    texts = []
    for name, rule, arity in items:
        value = script.function("v", rule, arity, lambda result: result[0])
        partials = script.function("p", rule, arity, lambda result: tuple(result[1]))
        texts.append(f"{name}:{{{_method(value)},{_method(partials)}}}")
    return ",\n".join(texts)


def _method(arrow: str) -> str:
    return arrow.replace("=", ":", 1)
