"""Ops on numbers as C: a short rule stands where it is used, a long one is a function."""

from collections.abc import Sequence
from typing import Any

from tapeflow.backend import Float
from tapeflow.errors import TapeError
from tapeflow.export.c_text import Statement, Writer, lines, live
from tapeflow.ops import FIRST_GATE, Op

_INLINE = 3
"""Statements of a rule that are written where it is used."""


class Operations:
    """The ops that a file's functions use, and their texts."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.tables: dict[str, str] = {}
        self.functions: dict[Op, str] = {}
        self._short: dict[Op, bool] = {}
        self._gates: dict[Op, int] = {}

    def write(self, op: Op, writer: Writer, operands: Sequence[str]) -> str:
        """Write an op of some values (names and numbers); the name of its result, or a number."""
        if op.array is not None or op.host or op.python is not None:
            why = "is computed by SciPy" if op.host else "runs in Python"
            raise TapeError(f"{op.name} cannot be exported to C: it {why}")
        if op not in self._short:
            self._define(op)
        values = [Float(writer, text) for text in operands]
        if self._short[op]:
            return str(writer.lift(op.rule(*values)[0]).value)
        call = f"{self.name_of(op)}({', '.join(operands)})"
        name = writer.fresh()
        writer.statements.append(Statement(name, "float", call, tuple(operands)))
        return name

    def name_of(self, op: Op) -> str:
        """The name of an op's function: a user's gates may be called like anything."""
        if op.opcode < FIRST_GATE:
            return f"{self.prefix}_{op.name}"
        k = self._gates.setdefault(op, len(self._gates) + 1)
        return f"{self.prefix}_gate{k}_{identifier(op.name)}"

    def name(self, op: Op) -> str:
        """The function of an op with a long rule, which is then in the file."""
        if op not in self._short:
            self._define(op)
        assert not self._short[op], op.name
        return self.name_of(op)

    def _define(self, op: Op) -> None:
        tables = dict(self.tables)
        writer = Writer(tables, "t")
        names = [chr(ord("a") + k) if op.arity <= 8 else f"a{k}" for k in range(op.arity)]
        result = writer.lift(op.rule(*(Float(writer, name) for name in names))[0])
        wanted = {str(result.value)}
        kept = live(writer.statements, wanted)
        # An operand that is not read would be a warning: such a rule is short.
        simple = all(not statement.merged for statement in kept)
        self._short[op] = (simple and len(kept) <= _INLINE) or not wanted.issuperset(names)
        if self._short[op]:
            return
        self.tables.update(tables)
        head = f"static double {self.name_of(op)}({', '.join(f'double {name}' for name in names)})"
        body = "\n".join(lines(kept))
        self.functions[op] = f"{head}\n{{\n{body}\n    return {result.value};\n}}\n"


_TAKEN = """
auto break case char const continue default do double else enum extern float for goto if inline int
long register restrict return short signed sizeof static struct switch typedef union unsigned void
volatile while main x y s g w acos asin atan atan2 ceil cos cosh exp fabs floor fmod frexp ldexp log
log10 modf pow sin sinh sqrt tan tanh acosh asinh atanh cbrt copysign erf erfc exp2 expm1 fdim fma
fmax fmin hypot ilogb lgamma llrint llround log1p log2 logb lrint lround nan nearbyint nextafter
nexttoward remainder remquo rint round scalbln scalbn tgamma trunc j0 j1 jn y0 y1 yn gamma memcpy
memset strlen index
"""
"""Names that C, its compilers or its headers have for something else."""


def identifier(name: str) -> str:
    """A name that C takes, made of another."""
    found = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
    found = found.strip("_")
    return (
        f"tape_{found}".rstrip("_")
        if not found or found[0].isdigit() or found in _TAKEN.split()
        else found
    )


def comment(text: Any) -> str:
    """A text that can stand in a comment."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.:<>- ") else "_" for c in str(text))
