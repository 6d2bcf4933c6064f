"""The primitives as JavaScript: evaluating a rule on these values writes its text.

Floats are numbers, ints are BigInts of 64 bits and masks are booleans; a page's arithmetic is the
same as NumPy's, fma included (``runtime.js``), so its numbers have the library's bits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tapeflow.ops import BY_UFUNC
from tapeflow.primitives import wrap

T = TypeVar("T")

_PYTHON_NUMBERS = (int, float, np.floating, np.integer)


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


class Writer:
    """Writes the statements of one function. It is the backend of its values (see `primitives`)."""

    def __init__(self, script: Script, parent: "Writer | None" = None) -> None:
        self.script = script
        self.lines: list[_Line] = []
        self.cost = 0
        self._count: list[int] = parent._count if parent else [0]

    def new(self, kind: type[T], text: str, *reads: Any) -> T:
        """A value of a kind, made by an expression of others."""
        names = frozenset(v.name for v in reads if isinstance(v, _Value))
        name = self._name()
        self.lines.append(_Line((name,), names, lambda _: f"const {name}={text};"))
        return kind(self, name)  # type: ignore[call-arg]

    def _name(self) -> str:
        self._count[0] += 1
        return f"t{self._count[0]}"

    def lift(self, x: Any) -> Any:
        return x if isinstance(x, _Value) else self.float(x)

    def float(self, x: Any) -> "Float":
        if isinstance(x, Float):
            return x
        if isinstance(x, _PYTHON_NUMBERS):
            return Float(self, literal(float(x)))
        raise TypeError(f"a rule computes with numbers, not with a {type(x).__name__}")

    def int(self, x: Any) -> "Int":
        return x if isinstance(x, Int) else Int(self, f"{wrap(int(x))}n")

    def body(self, result: Any) -> str:
        """The function's body: what the result needs, and nothing else."""
        several = isinstance(result, (tuple, list))
        values = [self.lift(value) for value in (result if several else (result,))]
        needed = {value.name for value in values}
        text = self.text(needed)
        shown = ",".join(value.name for value in values)
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
        call = f"{name}({','.join(value.name for value in values)})"
        several = isinstance(kinds, list)
        names = tuple(self._name() for _ in (kinds if several else (kinds,)))
        reads = frozenset(value.name for value in values)
        shown = f"[{','.join(names)}]" if several else names[0]
        cost = self.script.costs(name)
        self.lines.append(_Line(names, reads, lambda _: f"const {shown}={call};", cost))
        if not several:
            return kinds(self, names[0])
        return tuple(kind(self, name) for kind, name in zip(kinds, names, strict=True))

    # The primitives.

    def _call(self, kind: type[T], function: str, *values: Any) -> T:
        names = ",".join(value.name for value in values)
        return self.new(kind, f"{function}({names})", *values)

    def fma(self, a: Any, b: Any, c: Any) -> "Float":
        return self._call(Float, "fma", self.float(a), self.float(b), self.float(c))

    def sqrt(self, x: Any) -> "Float":
        return self._call(Float, "Math.sqrt", self.float(x))

    def floor(self, x: Any) -> "Float":
        return self._call(Float, "Math.floor", self.float(x))

    def ceil(self, x: Any) -> "Float":
        return self._call(Float, "Math.ceil", self.float(x))

    def rint(self, x: Any) -> "Float":
        return self._call(Float, "rint", self.float(x))

    def trunc(self, x: Any) -> "Float":
        return self._call(Float, "Math.trunc", self.float(x))

    def absolute(self, x: Any) -> "Float":
        return self._call(Float, "Math.abs", self.float(x))

    def copysign(self, x: Any, y: Any) -> "Float":
        return self._call(Float, "copysign", self.float(x), self.float(y))

    def where(self, mask: Any, a: Any, b: Any) -> Any:
        kind = next((type(v) for v in (a, b) if isinstance(v, (Int, Mask))), Float)
        lift = self.int if kind is Int else self.lift
        a, b = lift(a), lift(b)
        return self.new(kind, f"{mask.name}?{a.name}:{b.name}", mask, a, b)

    def bits(self, x: Any) -> "Int":
        return self._call(Int, "bits", self.float(x))

    def from_bits(self, i: Any) -> "Float":
        return self._call(Float, "fromBits", self.int(i))

    def shift_right_logical(self, i: Any, n: Any) -> "Int":
        return self._call(Int, "shiftRight", self.int(i), self.int(n))

    def mul_high(self, i: Any, j: Any) -> "Int":
        return self._call(Int, "mulHigh", self.int(i), self.int(j))

    def to_float(self, i: Any) -> "Float":
        return self._call(Float, "Number", self.int(i))

    def to_int(self, x: Any) -> "Int":
        return self._call(Int, "toInt", self.float(x))

    def table(self, values: Sequence[Any], index: Any) -> Any:
        kind = Int if isinstance(values[0], int) else Float
        index = self.int(index)
        return self.new(kind, f"{self.script.table(values)}[Number({index.name})]", index)

    def rarely(self, mask: Any, slow: Callable[..., Any], fast: Any, *args: Any) -> Any:
        several = isinstance(fast, tuple)
        fasts = [self.float(value) for value in (fast if several else (fast,))]
        inner = Writer(self.script, self)
        found = slow(*(inner.moved(arg) for arg in args))
        slows = [inner.lift(value) for value in (found if several else (found,))]
        names = tuple(self._name() for _ in fasts)

        def text(needed: set[str]) -> str:
            chosen = [k for k, name in enumerate(names) if name in needed]
            own = {slows[k].name for k in chosen}
            body = inner.text(own)
            start = ",".join(f"{names[k]}={fasts[k].name}" for k in chosen)
            set_ = "".join(f"{names[k]}={slows[k].name};" for k in chosen)
            return f"let {start};if({mask.name}){{{body}{set_}}}"

        reads = {mask.name, *(value.name for value in fasts), *(value.name for value in slows)}
        for line in inner.lines:
            reads |= line.reads
        self.lines.append(_Line(names, frozenset(reads), text))
        results = tuple(Float(self, name) for name in names)
        return results if several else results[0]

    def moved(self, x: Any) -> Any:
        """A value of the function around a block, inside it."""
        return type(x)(self, x.name) if isinstance(x, _Value) else x


class _Value:
    """A value of a function: a name, or a literal."""

    __slots__ = ("name", "writer")

    def __init__(self, writer: Writer, name: str) -> None:
        self.writer, self.name = writer, name

    @property
    def __tapeflow_backend__(self) -> Writer:
        return self.writer

    def __bool__(self) -> bool:
        raise TypeError("a rule takes no branch on a value: use tpf.where")


def _operand(name: str) -> str:
    return f"({name})" if name.startswith("-") else name


def _binary(sign: str, lift: str, wraps: bool = False) -> Any:
    """A pair of methods: the operator, and the one with a plain number on its left."""

    def write(kind: type, writer: Writer, a: Any, b: Any) -> Any:
        text = f"{_operand(a.name)}{sign}{_operand(b.name)}"
        return writer.new(kind, f"BigInt.asIntN(64,{text})" if wraps else text, a, b)

    def forward(self: Any, other: Any) -> Any:
        return write(type(self), self.writer, self, getattr(self.writer, lift)(other))

    def reflected(self: Any, other: Any) -> Any:
        return write(type(self), self.writer, getattr(self.writer, lift)(other), self)

    return forward, reflected


def _comparison(sign: str, lift: str) -> Any:
    def compare(self: Any, other: Any) -> "Mask":
        other = getattr(self.writer, lift)(other)
        text = f"{_operand(self.name)}{sign}{_operand(other.name)}"
        found: Mask = self.writer.new(Mask, text, self, other)
        return found

    return compare


class Float(_Value):
    """A number."""

    __slots__ = ()

    __add__, __radd__ = _binary("+", "float")
    __sub__, __rsub__ = _binary("-", "float")
    __mul__, __rmul__ = _binary("*", "float")
    __truediv__, __rtruediv__ = _binary("/", "float")
    __lt__, __le__ = _comparison("<", "float"), _comparison("<=", "float")
    __gt__, __ge__ = _comparison(">", "float"), _comparison(">=", "float")
    __eq__ = _comparison("===", "float")
    __ne__ = _comparison("!==", "float")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> "Float":
        return self.writer.new(Float, f"-{_operand(self.name)}", self)

    def __pos__(self) -> "Float":
        return self

    def __abs__(self) -> "Float":
        return self.writer.absolute(self)

    def __pow__(self, other: Any) -> Any:
        return self.__array_ufunc__(np.power, "__call__", self, other)

    def __rpow__(self, other: Any) -> Any:
        return self.__array_ufunc__(np.power, "__call__", other, self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        op = BY_UFUNC.get(ufunc)
        if op is None or op.host or method != "__call__" or options:
            raise TypeError(f"a rule cannot use np.{ufunc.__name__}: see docs/ops.md")
        return op.rule(*map(self.writer.float, inputs))[0]


class Int(_Value):
    """A BigInt that wraps around at 64 bits."""

    __slots__ = ()

    __add__, __radd__ = _binary("+", "int", wraps=True)
    __sub__, __rsub__ = _binary("-", "int", wraps=True)
    __mul__, __rmul__ = _binary("*", "int", wraps=True)
    __and__, __rand__ = _binary("&", "int")
    __or__, __ror__ = _binary("|", "int")
    __xor__, __rxor__ = _binary("^", "int")
    __lshift__, _ = _binary("<<", "int", wraps=True)
    __rshift__, _ = _binary(">>", "int")
    __lt__, __le__ = _comparison("<", "int"), _comparison("<=", "int")
    __gt__, __ge__ = _comparison(">", "int"), _comparison(">=", "int")
    __eq__ = _comparison("===", "int")
    __ne__ = _comparison("!==", "int")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> "Int":
        return self.writer.new(Int, f"BigInt.asIntN(64,-{_operand(self.name)})", self)

    def __invert__(self) -> "Int":
        return self.writer.new(Int, f"~{_operand(self.name)}", self)


class Mask(_Value):
    """A boolean."""

    __slots__ = ()

    def __and__(self, other: "Mask") -> "Mask":
        return self.writer.new(Mask, f"{self.name}&&{other.name}", self, other)

    def __or__(self, other: "Mask") -> "Mask":
        return self.writer.new(Mask, f"{self.name}||{other.name}", self, other)

    def __invert__(self) -> "Mask":
        return self.writer.new(Mask, f"!{self.name}", self)


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
