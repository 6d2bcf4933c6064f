"""The op table: one row an op, from which everything else that names ops is made."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tapeflow import rules, special_rules
from tapeflow.arrays import RULES, ArrayRule, SubTapes, ZeroRule


@dataclass(frozen=True, eq=False)
class Op:
    """One operation on numbers: how it is stored, called, shown and differentiated.

    opcode: its number on a tape. name: its name on a tape. function: its name as ``tpf.<name>``.
    rule: its value and partials. symbol: how a person writes it (infix for two operands). ufuncs:
    the NumPy functions that record it. zero_derivative: nothing flows back through it.
    python: for a gate whose forward and backward are Python code, what runs them. array: for an op
    on whole arrays, its rule. host: its numbers come from SciPy, and not from compiled code.
    drawn: what stands in its circle in a drawing; its name if empty.
    """

    opcode: int
    name: str
    arity: int
    rule: Callable[..., tuple[Any, tuple[Any, ...]]]
    function: str
    symbol: str
    ufuncs: tuple[np.ufunc, ...] = ()
    zero_derivative: bool = False
    python: Any = None
    array: type[ArrayRule] | ArrayRule | None = None
    host: bool = False
    drawn: str = ""

    @property
    def comparison(self) -> bool:
        """Whether its value is that of a comparison: one or zero."""
        return self.symbol in ("<", "<=", ">", ">=", "==", "!=")

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def _row(
    opcode: int,
    name: str,
    *ufuncs: np.ufunc,
    symbol: str = "",
    drawn: str = "",
    function: str = "",
    zero_derivative: bool = False,
    host: bool = False,
) -> Op:
    rule = getattr(special_rules if host else rules, f"rule_{name}")
    arity = len(inspect.signature(rule).parameters)
    return Op(
        opcode,
        name,
        arity,
        rule,
        function or name,
        symbol or name,
        ufuncs,
        zero_derivative,
        host=host,
        drawn=drawn or symbol or name,
    )


def _array(opcode: int, name: str, drawn: str = "") -> Op:
    """An op on whole arrays: its operands are as many as its parameters say."""
    rule = RULES[name]

    def refuse(*operands: Any) -> Any:
        raise TypeError(f"{name} works on whole arrays, and has no rule for numbers")

    zero = issubclass(rule, ZeroRule)
    return Op(
        opcode, name, -1, refuse, "", name, zero_derivative=zero, array=rule, drawn=drawn or name
    )


# The number in front is what a saved tape holds: it is never changed and never used again.
OPS = (
    _row(0, "add", np.add, symbol="+"),
    _row(1, "sub", np.subtract, symbol="-", drawn="−"),
    _row(2, "mul", np.multiply, symbol="*", drawn="×"),
    _row(3, "div", np.divide, symbol="/", drawn="÷"),
    _row(4, "neg", np.negative, drawn="−"),
    _row(5, "pow", np.power, np.float_power, symbol="**", drawn="^"),
    _row(6, "square", np.square, drawn="x²"),
    _row(7, "reciprocal", np.reciprocal, drawn="1/x"),
    _row(8, "sqrt", np.sqrt, drawn="√"),
    _row(9, "cbrt", np.cbrt, drawn="∛"),
    _row(10, "abs", np.absolute, np.fabs, drawn="|x|"),
    _row(11, "sign", np.sign, zero_derivative=True),
    _row(12, "exp", np.exp),
    _row(13, "expm1", np.expm1),
    _row(14, "log", np.log),
    _row(15, "log1p", np.log1p),
    _row(16, "log2", np.log2),
    _row(17, "log10", np.log10),
    _row(18, "sin", np.sin),
    _row(19, "cos", np.cos),
    _row(20, "tan", np.tan),
    _row(21, "asin", np.arcsin),
    _row(22, "acos", np.arccos),
    _row(23, "atan", np.arctan),
    _row(24, "atan2", np.arctan2),
    _row(25, "sinh", np.sinh),
    _row(26, "cosh", np.cosh),
    _row(27, "tanh", np.tanh),
    _row(28, "asinh", np.arcsinh),
    _row(29, "acosh", np.arccosh),
    _row(30, "atanh", np.arctanh),
    _row(31, "sigmoid", drawn="σ"),
    _row(32, "softplus"),
    _row(33, "relu"),
    _row(34, "max", np.maximum, function="maximum"),
    _row(35, "min", np.minimum, function="minimum"),
    _row(36, "where"),
    _row(37, "hypot", np.hypot),
    _row(38, "fma", drawn="×+"),
    _row(39, "floor", np.floor, zero_derivative=True, drawn="⌊x⌋"),
    _row(40, "ceil", np.ceil, zero_derivative=True, drawn="⌈x⌉"),
    _row(41, "round", np.rint, zero_derivative=True),
    _row(42, "less", np.less, symbol="<", zero_derivative=True),
    _row(43, "less_equal", np.less_equal, symbol="<=", zero_derivative=True, drawn="≤"),
    _row(44, "greater", np.greater, symbol=">", zero_derivative=True),
    _row(45, "greater_equal", np.greater_equal, symbol=">=", zero_derivative=True, drawn="≥"),
    _row(46, "equal", np.equal, symbol="==", zero_derivative=True, drawn="="),
    _row(47, "not_equal", np.not_equal, symbol="!=", zero_derivative=True, drawn="≠"),
    _row(48, "erf"),
    _row(49, "erfc"),
    _row(50, "stop_gradient", zero_derivative=True, drawn="stop"),
    _row(51, "azmul", drawn="×"),
    _row(52, "azfma", drawn="×+"),
    _row(53, "mod", np.mod),
    _row(54, "fmod", np.fmod),
    _row(55, "copysign", np.copysign),
    _row(56, "trunc", np.trunc, zero_derivative=True),
    _row(60, "gamma", host=True),
    _row(61, "gammaln", host=True),
    _row(62, "digamma", host=True),
    _row(63, "polygamma", host=True),
    _row(64, "erfinv", host=True),
    _row(65, "ndtri", host=True),
    _row(66, "log_ndtr", host=True),
    _row(67, "i0", host=True),
    _row(68, "i0e", host=True),
    _row(69, "i1", host=True),
    _row(70, "i1e", host=True),
    _row(71, "j0", host=True),
    _row(72, "j1", host=True),
    _row(73, "y0", host=True),
    _row(74, "y1", host=True),
    _array(256, "view"),
    _array(257, "unview"),
    _array(258, "take"),
    _array(259, "put"),
    _array(260, "concat"),
    _array(261, "take_at"),
    _array(262, "put_at"),
    _array(270, "sum", "Σ"),
    _array(271, "amax"),
    _array(272, "amin"),
    _array(273, "cumsum"),
    _array(274, "argmax"),
    _array(275, "argmin"),
    _array(276, "argsort"),
    _array(277, "searchsorted"),
    _array(278, "log_of_sum"),
    _array(290, "matmul", "@"),
    _array(291, "azmatmul", "@"),
    _array(300, "cholesky"),
    _array(301, "triangular_solve"),
    _array(302, "solve"),
    _array(303, "inv"),
    _array(304, "slogdet"),
    _array(305, "det"),
    _array(306, "cofactors"),
    _array(307, "pinv"),
    _array(308, "expm"),
    _array(309, "azsolve"),
    _array(310, "aztriangular_solve"),
    _array(320, "qr"),
    _array(321, "eigh"),
    _array(322, "eig"),
    _array(323, "svd"),
)

FIRST_GATE = 1024
"""Opcodes from here on are a tape's own gates: opcode minus FIRST_GATE indexes ``tape.gates``."""

COMPILED = tuple(op for op in OPS if op.array is None and not op.host)
"""The ops on numbers that have kernels of machine code."""

BY_OPCODE = {op.opcode: op for op in OPS}
BY_NAME = {op.name: op for op in OPS}
BY_UFUNC = {ufunc: op for op in OPS for ufunc in op.ufuncs}

assert len(BY_OPCODE) == len(BY_NAME) == len(OPS), "an opcode or a name stands twice"
assert max(BY_OPCODE) < FIRST_GATE
assert {op.name for op in OPS if op.array} == RULES.keys(), "an array rule has no row"


def op_of(rule: SubTapes) -> Op:
    """The op of a loop or a branch: one, however often it is recorded."""
    if rule.op is None:
        object.__setattr__(
            rule, "op", Op(FIRST_GATE, rule.name, -1, _refuse, "", rule.name, array=rule)
        )
    op: Op = rule.op
    return op


def _refuse(*operands: Any) -> NoReturn:
    raise TypeError("a loop or a branch carries tapes, and has no rule for numbers")
