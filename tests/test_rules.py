"""Every rule's partials against central differences in long double, over domains and edges."""

from typing import Any

import mpmath
import numpy as np
import pytest

from tapeflow.ops import BY_NAME, COMPILED, Op

LONG = np.longdouble


def _mp(function: Any) -> Any:
    """An mpmath function on arrays of long doubles, to their precision."""

    def call(*columns: Any) -> Any:
        mpmath.mp.prec = 100
        return np.array(
            [LONG(mpmath.nstr(function(*(mpmath.mpf(str(x)) for x in row)), 25))
             for row in zip(*columns, strict=True)]
        )  # fmt: skip

    return call


# What each op computes, on long doubles; and where it is smooth.
DOMAINS: dict[str, tuple[Any, tuple[tuple[float, float], ...]]] = {
    "add": (lambda x, y: x + y, ((-5, 5), (-5, 5))),
    "sub": (lambda x, y: x - y, ((-5, 5), (-5, 5))),
    "mul": (lambda x, y: x * y, ((-5, 5), (-5, 5))),
    "div": (lambda x, y: x / y, ((-5, 5), (0.1, 9))),
    "neg": (lambda x: -x, ((-5, 5),)),
    "pow": (lambda x, y: x**y, ((0.1, 5), (-3, 3))),
    "square": (lambda x: x * x, ((-5, 5),)),
    "reciprocal": (lambda x: 1 / x, ((0.1, 9),)),
    "sqrt": (np.sqrt, ((0.01, 9),)),
    "cbrt": (np.cbrt, ((0.01, 9),)),
    "abs": (np.abs, ((0.1, 5),)),
    "sign": (np.sign, ((0.1, 5),)),
    "exp": (np.exp, ((-20, 20),)),
    "expm1": (np.expm1, ((-20, 20),)),
    "log": (np.log, ((0.01, 9),)),
    "log1p": (np.log1p, ((-0.9, 9),)),
    "log2": (np.log2, ((0.01, 9),)),
    "log10": (np.log10, ((0.01, 9),)),
    "sin": (np.sin, ((-9, 9),)),
    "cos": (np.cos, ((-9, 9),)),
    "tan": (np.tan, ((-1.4, 1.4),)),
    "asin": (np.arcsin, ((-0.95, 0.95),)),
    "acos": (np.arccos, ((-0.95, 0.95),)),
    "atan": (np.arctan, ((-9, 9),)),
    "atan2": (np.arctan2, ((0.1, 5), (-5, 5))),
    "sinh": (np.sinh, ((-9, 9),)),
    "cosh": (np.cosh, ((-9, 9),)),
    "tanh": (np.tanh, ((-9, 9),)),
    "asinh": (np.arcsinh, ((-9, 9),)),
    "acosh": (np.arccosh, ((1.1, 9),)),
    "atanh": (np.arctanh, ((-0.95, 0.95),)),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), ((-9, 9),)),
    "softplus": (lambda x: np.log1p(np.exp(x)), ((-9, 9),)),
    "relu": (lambda x: np.maximum(x, 0), ((0.1, 5),)),
    "max": (np.maximum, ((-5, 0), (0.1, 5))),
    "min": (np.minimum, ((-5, 0), (0.1, 5))),
    "where": (lambda c, x, y: np.where(c != 0, x, y), ((1, 2), (-5, 5), (-5, 5))),
    "hypot": (np.hypot, ((0.1, 5), (-5, 5))),
    "fma": (lambda x, y, z: x * y + z, ((-5, 5), (-5, 5), (-5, 5))),
    "floor": (np.floor, ((0.1, 0.9),)),
    "ceil": (np.ceil, ((0.1, 0.9),)),
    "round": (np.rint, ((0.6, 1.4),)),
    "less": (lambda x, y: x < y, ((0, 1), (2, 3))),
    "less_equal": (lambda x, y: x <= y, ((0, 1), (2, 3))),
    "greater": (lambda x, y: x > y, ((0, 1), (2, 3))),
    "greater_equal": (lambda x, y: x >= y, ((0, 1), (2, 3))),
    "equal": (lambda x, y: x == y, ((0, 1), (2, 3))),
    "not_equal": (lambda x, y: x != y, ((0, 1), (2, 3))),
    "erf": (_mp(mpmath.erf), ((-3, 3),)),
    "erfc": (_mp(mpmath.erfc), ((-3, 3),)),
    "mod": (np.mod, ((2.1, 2.9), (0.95, 1.05))),
    "fmod": (np.fmod, ((-2.9, -2.1), (0.95, 1.05))),
    "copysign": (np.copysign, ((-5, -0.1), (0.1, 5))),
    "trunc": (np.trunc, ((0.1, 0.9),)),
    "azmul": (lambda x, y: x * y, ((0.1, 5), (0.1, 5))),
    "azfma": (lambda x, y, z: x * y + z, ((0.1, 5), (0.1, 5), (-5, 5))),
}
# Treated apart: its partial is zero by definition, not by its value.
WITHOUT = {"stop_gradient"}


def test_every_op_has_a_domain() -> None:
    assert {op.name for op in COMPILED} == DOMAINS.keys() | WITHOUT


def differences(f: Any, columns: list[Any], k: int) -> tuple[Any, Any]:
    """The partial in operand k by central differences of fourth order, and a bound on its error.

    The bound: how much halving the step changes it (at least the truncation error, of which
    halving takes 15/16 off) and the rounding of values, a few units of long double, over the step.
    """
    estimates = []
    for power in (-9, -10):
        h = LONG(2.0) ** power * np.minimum(1, np.abs(columns[k]) + LONG(2.0) ** -4)
        h = (columns[k] + h) - columns[k]

        def at(steps: int, h: Any = h) -> Any:
            moved = list(columns)
            moved[k] = columns[k] + steps * h
            return np.asarray(f(*moved), LONG)

        estimates.append((8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h))
    size = np.abs(at(1)) + np.abs(at(2)) + np.abs(columns[k] * estimates[1])
    rounding = 16 * np.finfo(LONG).eps * size / h
    return estimates[1], np.abs(estimates[1] - estimates[0]) + rounding


@pytest.mark.parametrize("op", [BY_NAME[name] for name in DOMAINS], ids=str)
def test_partials(op: Op) -> None:
    f, ranges = DOMAINS[op.name]
    rng = np.random.default_rng(op.opcode)
    n = 200
    columns = [rng.uniform(low, high, n) for low, high in ranges]
    value, partials = op.rule(*columns)
    exact = np.asarray(f(*(c.astype(LONG) for c in columns)), LONG)
    assert np.all(np.abs(value - exact) <= 2 * np.spacing(np.abs(exact.astype(np.float64))))
    if op.zero_derivative:
        assert all(partial == 0.0 for partial in partials)
    for k, partial in enumerate(partials):
        if op.name == "where" and k == 0:
            continue
        estimate, bound = differences(f, [c.astype(LONG) for c in columns], k)
        # A partial takes at most eight roundings, of numbers no larger than it, or than 1 where
        # it is 1 - v^2 and the like, and may use two functions that are off by two ulp.
        rounding = 16 * 2.0**-53 * np.maximum(np.abs(estimate), 1.0)
        assert np.all(np.abs(partial - estimate) <= bound + rounding), (op, k)


def test_stop_gradient() -> None:
    value, partials = BY_NAME["stop_gradient"].rule(np.array([1.5, -2.0]))
    assert np.array_equal(value, [1.5, -2.0])
    assert partials == (0.0,)


COMPARISONS = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"}


@pytest.mark.parametrize("op", [op for op in COMPILED if op.name not in COMPARISONS], ids=str)
def test_nan_in_nan_out(op: Op) -> None:
    for k in range(op.arity):
        operands = [np.float64(0.75)] * op.arity
        operands[k] = np.float64(np.nan)
        value, _ = op.rule(*operands)
        if op.name == "where" and k != 1:
            continue  # NaN is not zero, and what is not chosen does not show
        if op.name == "copysign" and k == 1:
            continue  # a NaN has a sign
        assert np.isnan(value), (op, k)
