"""Rules as formulas for people: evaluating one on these values writes its local derivatives.

What is the op's value is called v in the partials, as in the rule's own text: of tanh, 1 − v².
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.graphs.text import number
from tapeflow.ops import BY_UFUNC, Op

# How strongly an operator binds: alternatives, comparisons, sums, products, signs, powers, atoms.
_CHOICE, _COMPARISON, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(7)


def formulas(op: Op, names: Sequence[str], own: str) -> tuple[str, list[str]]:
    """The value of an op in its operands' names, and its partials, in which the value has its own.

    Of a rule for which there is no such text, as of a gate in Python: the op called like a
    function, and no partials.
    """
    writer = _Writer()
    operands = [_Formula(writer, name, _ATOM) for name in names]
    call = f"{op.name}({', '.join(names)})"
    try:
        value, partials = op.rule(*operands)
        text = writer.lift(value).written(_CHOICE)
        if isinstance(value, _Formula) and not any(value is operand for operand in operands):
            value.text, value.binds = own, _ATOM
        return text, [writer.lift(partial).written(_CHOICE) for partial in partials]
    except Exception:  # a rule of the user's own may use anything
        return call, []


class _Formula:
    """A formula: parts that are written when the whole is, as one of them may become v."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, writer: "_Writer", text: str | Callable[[], str], binds: int, kind: str = "number"
    ) -> None:
        self.writer, self.text, self.binds, self.kind = writer, text, binds, kind

    @property
    def __tapeflow_backend__(self) -> "_Writer":
        return self.writer

    def __bool__(self) -> bool:
        raise TypeError("a rule takes no branch on a value: use tpf.where")

    def written(self, at_least: int) -> str:
        text = self.text if isinstance(self.text, str) else self.text()
        return text if self.binds >= at_least else f"({text})"

    def _infix(self, other: Any, sign: str, binds: int, tighter: bool = False) -> "_Formula":
        other = self.writer.lift(other)
        right = binds + 1 if tighter else binds
        return _Formula(
            self.writer, lambda: self.written(binds) + sign + other.written(right), binds
        )

    def _turned(self, other: Any, sign: str, binds: int, tighter: bool = False) -> "_Formula":
        return self.writer.lift(other)._infix(self, sign, binds, tighter)

    def __add__(self, other: Any) -> "_Formula":
        return self._infix(other, " + ", _SUM)

    def __radd__(self, other: Any) -> "_Formula":
        return self._turned(other, " + ", _SUM)

    def __sub__(self, other: Any) -> "_Formula":
        return self._infix(other, " − ", _SUM, tighter=True)

    def __rsub__(self, other: Any) -> "_Formula":
        return self._turned(other, " − ", _SUM, tighter=True)

    def __mul__(self, other: Any) -> "_Formula":
        if other is self:
            return _Formula(self.writer, lambda: self.written(_ATOM) + "²", _POWER)
        return self._infix(other, "·", _PRODUCT, tighter=True)

    def __rmul__(self, other: Any) -> "_Formula":
        return self._turned(other, "·", _PRODUCT, tighter=True)

    def __truediv__(self, other: Any) -> "_Formula":
        return self._infix(other, " / ", _PRODUCT, tighter=True)

    def __rtruediv__(self, other: Any) -> "_Formula":
        return self._turned(other, " / ", _PRODUCT, tighter=True)

    def __neg__(self) -> "_Formula":
        return _Formula(self.writer, lambda: "−" + self.written(_SIGN), _SIGN)

    def __abs__(self) -> "_Formula":
        return self.writer.absolute(self)

    def __pow__(self, other: Any) -> "_Formula":
        return self.writer.elementary("pow", (self, other))

    def __rpow__(self, other: Any) -> "_Formula":
        return self.writer.elementary("pow", (other, self))

    def __lt__(self, other: Any) -> "_Formula":
        return self._infix(other, " < ", _COMPARISON)

    def __le__(self, other: Any) -> "_Formula":
        return self._infix(other, " ≤ ", _COMPARISON)

    def __gt__(self, other: Any) -> "_Formula":
        return self._infix(other, " > ", _COMPARISON)

    def __ge__(self, other: Any) -> "_Formula":
        return self._infix(other, " ≥ ", _COMPARISON)

    def __eq__(self, other: Any) -> Any:
        return self._infix(other, " = ", _COMPARISON)

    def __ne__(self, other: Any) -> Any:
        return self._infix(other, " ≠ ", _COMPARISON)

    def __or__(self, other: Any) -> "_Formula":
        return self._infix(other, " or ", _CHOICE, tighter=True)

    def __and__(self, other: Any) -> "_Formula":
        return self._infix(other, " and ", _CHOICE, tighter=True)

    def __invert__(self) -> "_Formula":
        return _Formula(self.writer, lambda: f"not {self.written(_COMPARISON)}", _CHOICE)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        op = BY_UFUNC[ufunc]
        return self.writer.elementary(op.name, inputs)


class _Writer:
    """The primitives on formulas."""

    def lift(self, x: Any) -> _Formula:
        if isinstance(x, _Formula):
            return x
        return _Formula(self, number(float(x)), _ATOM if x >= 0 else _SIGN)

    def elementary(self, name: str, args: Sequence[Any]) -> _Formula:
        parts = [self.lift(arg) for arg in args]
        if name == "pow":
            base, exponent = parts
            return _Formula(
                self, lambda: f"{base.written(_ATOM)}^{exponent.written(_ATOM)}", _POWER
            )
        if name == "azmul":
            return parts[0]._infix(parts[1], "·", _PRODUCT, tighter=True)
        return self._function(name, *parts)

    def _function(self, name: str, *parts: Any) -> _Formula:
        lifted = [self.lift(part) for part in parts]
        return _Formula(
            self, lambda: f"{name}({', '.join(p.written(_CHOICE) for p in lifted)})", _ATOM
        )

    def where(self, mask: Any, a: Any, b: Any) -> _Formula:
        a, b = self.lift(a), self.lift(b)
        return _Formula(
            self,
            lambda: (
                f"{a.written(_COMPARISON)} if {mask.written(_CHOICE)}, else {b.written(_CHOICE)}"
            ),
            _CHOICE,
        )

    def fma(self, a: Any, b: Any, c: Any) -> _Formula:
        return self.lift(a)._infix(b, "·", _PRODUCT, tighter=True)._infix(c, " + ", _SUM)

    def sqrt(self, x: Any) -> _Formula:
        return _Formula(self, lambda: "√" + self.lift(x).written(_ATOM), _POWER)

    def absolute(self, x: Any) -> _Formula:
        return _Formula(self, lambda: f"|{self.lift(x).written(_CHOICE)}|", _ATOM)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *parts: self._function(name, *parts)
