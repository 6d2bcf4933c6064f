"""What each elementwise op means: its value and its first partials, one function an op.

A rule is evaluated, never parsed. On NumPy arrays it is the reference; on values of the kernel
compiler it emits machine code; on tracers it records the op's derivative as instructions. So it
uses only operators and the functions of `mathlib`, and takes no branch. A partial that is the
Python number 0.0 says that nothing flows back. At ties, kinks and infinities the partials are
those of the minimum-norm subgradient (docs/conventions.md).
"""

import math
from typing import Any

from tapeflow import mathlib as m
from tapeflow.primitives import elementary

Value = Any
Rule = tuple[Value, tuple[Value, ...]]

_LOG2_E = 1.0 / math.log(2.0)
_LOG10_E = 1.0 / math.log(10.0)
_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


# Values that more than one rule needs, or that take more than one line.


@elementary
def azmul(x: Value, y: Value) -> Value:
    """x times y with an absolute zero: zero if either is, be the other infinite or NaN.

    The zero is negative, as that is what adds without a trace.
    """
    return m.where((x == 0.0) | (y == 0.0), -0.0, x * y)


@elementary
def azfma(x: Value, y: Value, total: Value) -> Value:
    """``total`` plus `azmul` of x and y, rounded once: how a sweep collects cotangents."""
    return m.where((x == 0.0) | (y == 0.0), total, m.fma(x, y, total))


def unless_idle(found: Value, idle: Value) -> Value:
    """What a text of the user's has found: not NaN, but zero, where it is idle.

    Nothing flows into it there. It looks at NaNs alone, as the derivative of what flows counts
    where that happens to be zero.
    """
    return m.where(idle, m.where(found == found, found, 0.0), found)


@elementary
def sign(x: Value) -> Value:
    return m.where(x > 0.0, 1.0, m.where(x < 0.0, -1.0, m.where(x == 0.0, 0.0, x)))


@elementary
def max(x: Value, y: Value) -> Value:
    return m.where(x >= y, x, m.where(x < y, y, x + y))


@elementary
def min(x: Value, y: Value) -> Value:
    return m.where(x <= y, x, m.where(x > y, y, x + y))


@elementary
def relu(x: Value) -> Value:
    return m.where(x <= 0.0, 0.0, x)


def _share(x: Value, y: Value) -> Value:
    """The part of a maximum's gradient that goes to x: all, half at a tie, none; NaN for a NaN.

    It steps, so its own derivative is zero; the sign of a NaN is NaN.
    """
    return m.where(x > y, 1.0, m.where(x == y, 0.5, m.where(x < y, 0.0, sign(x + y))))


# Arithmetic


def rule_add(x: Value, y: Value) -> Rule:
    return x + y, (1.0, 1.0)


def rule_sub(x: Value, y: Value) -> Rule:
    return x - y, (1.0, -1.0)


def rule_mul(x: Value, y: Value) -> Rule:
    return x * y, (y, x)


def rule_div(x: Value, y: Value) -> Rule:
    v, inverse = x / y, 1.0 / y
    return v, (inverse, -(v * inverse))


def rule_neg(x: Value) -> Rule:
    return -x, (-1.0,)


def rule_fma(x: Value, y: Value, z: Value) -> Rule:
    return m.fma(x, y, z), (y, x, 1.0)


def rule_square(x: Value) -> Rule:
    return x * x, (x + x,)


def rule_reciprocal(x: Value) -> Rule:
    v = 1.0 / x
    return v, (-(v * v),)


def rule_sqrt(x: Value) -> Rule:
    v = m.sqrt(x)
    return v, (0.5 / v,)


def rule_cbrt(x: Value) -> Rule:
    v = m.cbrt(x)
    return v, (1.0 / (3.0 * (v * v)),)


def rule_hypot(x: Value, y: Value) -> Rule:
    v = m.hypot(x, y)
    return v, (m.where(v == 0.0, 0.0, x / v), m.where(v == 0.0, 0.0, y / v))


def rule_pow(x: Value, y: Value) -> Rule:
    v = m.pow(x, y)
    dx = m.where(y == 0.0, 0.0, y * m.pow(x, y - 1.0))
    dy = m.where(x == 0.0, m.where(y < 0.0, -math.inf, 0.0), azmul(v, m.log(x)))
    return v, (dx, dy)


# Kinks, steps and choices


def rule_abs(x: Value) -> Rule:
    return m.absolute(x), (sign(x),)


def rule_sign(x: Value) -> Rule:
    return sign(x), (0.0,)


def rule_relu(x: Value) -> Rule:
    return relu(x), (m.where(x > 0.0, 1.0, m.where(x <= 0.0, 0.0, sign(x))),)


def rule_max(x: Value, y: Value) -> Rule:
    return max(x, y), (_share(x, y), _share(y, x))


def rule_min(x: Value, y: Value) -> Rule:
    return min(x, y), (_share(y, x), _share(x, y))


def rule_where(condition: Value, x: Value, y: Value) -> Rule:
    chosen = condition != 0.0
    return m.where(chosen, x, y), (0.0, m.where(chosen, 1.0, 0.0), m.where(chosen, 0.0, 1.0))


def rule_floor(x: Value) -> Rule:
    return m.floor(x), (0.0,)


def rule_ceil(x: Value) -> Rule:
    return m.ceil(x), (0.0,)


def rule_round(x: Value) -> Rule:
    return m.rint(x), (0.0,)


def rule_less(x: Value, y: Value) -> Rule:
    return m.where(x < y, 1.0, 0.0), (0.0, 0.0)


def rule_less_equal(x: Value, y: Value) -> Rule:
    return m.where(x <= y, 1.0, 0.0), (0.0, 0.0)


def rule_greater(x: Value, y: Value) -> Rule:
    return m.where(x > y, 1.0, 0.0), (0.0, 0.0)


def rule_greater_equal(x: Value, y: Value) -> Rule:
    return m.where(x >= y, 1.0, 0.0), (0.0, 0.0)


def rule_equal(x: Value, y: Value) -> Rule:
    return m.where(x == y, 1.0, 0.0), (0.0, 0.0)


def rule_not_equal(x: Value, y: Value) -> Rule:
    return m.where(x != y, 1.0, 0.0), (0.0, 0.0)


def rule_stop_gradient(x: Value) -> Rule:
    return x, (0.0,)


# Exponentials and logarithms


def rule_exp(x: Value) -> Rule:
    v = m.exp(x)
    return v, (v,)


def rule_expm1(x: Value) -> Rule:
    return m.expm1(x), (m.exp(x),)


def rule_log(x: Value) -> Rule:
    return m.log(x), (1.0 / x,)


def rule_log1p(x: Value) -> Rule:
    return m.log1p(x), (1.0 / (1.0 + x),)


def rule_log2(x: Value) -> Rule:
    return m.log2(x), (_LOG2_E / x,)


def rule_log10(x: Value) -> Rule:
    return m.log10(x), (_LOG10_E / x,)


def rule_sigmoid(x: Value) -> Rule:
    v = m.sigmoid(x)
    return v, ((1.0 - v) * v,)


def rule_softplus(x: Value) -> Rule:
    return m.softplus(x), (m.sigmoid(x),)


# Circular and hyperbolic functions


def rule_sin(x: Value) -> Rule:
    s, c = m.sincos(x)
    return s, (c,)


def rule_cos(x: Value) -> Rule:
    s, c = m.sincos(x)
    return c, (-s,)


def rule_tan(x: Value) -> Rule:
    v = m.tan(x)
    return v, (1.0 + v * v,)


def rule_asin(x: Value) -> Rule:
    return m.asin(x), (1.0 / m.sqrt((1.0 - x) * (1.0 + x)),)


def rule_acos(x: Value) -> Rule:
    return m.acos(x), (-1.0 / m.sqrt((1.0 - x) * (1.0 + x)),)


def rule_atan(x: Value) -> Rule:
    return m.atan(x), (1.0 / (1.0 + x * x),)


def rule_atan2(y: Value, x: Value) -> Rule:
    r = m.hypot(x, y)
    return m.atan2(y, x), (m.where(r == 0.0, 0.0, x / r / r), m.where(r == 0.0, 0.0, -y / r / r))


def rule_sinh(x: Value) -> Rule:
    return m.sinh(x), (m.cosh(x),)


def rule_cosh(x: Value) -> Rule:
    return m.cosh(x), (m.sinh(x),)


def rule_tanh(x: Value) -> Rule:
    v = m.tanh(x)
    return v, (1.0 - v * v,)


def rule_asinh(x: Value) -> Rule:
    return m.asinh(x), (1.0 / m.hypot(x, 1.0),)


def rule_acosh(x: Value) -> Rule:
    return m.acosh(x), (1.0 / (m.sqrt(x - 1.0) * m.sqrt(x + 1.0)),)


def rule_atanh(x: Value) -> Rule:
    return m.atanh(x), (1.0 / ((1.0 - x) * (1.0 + x)),)


# Error functions


def rule_erf(x: Value) -> Rule:
    return m.erf(x), (_TWO_OVER_SQRT_PI * m.exp(-(x * x)),)


def rule_erfc(x: Value) -> Rule:
    return m.erfc(x), (-_TWO_OVER_SQRT_PI * m.exp(-(x * x)),)


# Products with an absolute zero: what a pullback is made of


def rule_azmul(x: Value, y: Value) -> Rule:
    return azmul(x, y), (y, x)


def rule_azfma(x: Value, y: Value, total: Value) -> Rule:
    return azfma(x, y, total), (y, x, 1.0)


# Remainders


def rule_mod(x: Value, y: Value) -> Rule:
    whole = m.floor(x / y)
    rest = m.fma(-whole, y, x)
    # The quotient may have been rounded up to a whole number.
    return m.where(rest * y < 0.0, rest + y, rest), (1.0, -whole)


def rule_fmod(x: Value, y: Value) -> Rule:
    whole = m.trunc(x / y)
    rest = m.fma(-whole, y, x)
    return m.where(rest * x < 0.0, rest + m.copysign(y, x), rest), (1.0, -whole)


def rule_copysign(x: Value, y: Value) -> Rule:
    # The sign of a NaN is any: IEEE 754 leaves it open, and compilers and processors differ.
    y = m.where(y == y, y, 1.0)
    v = m.copysign(x, y)
    return v, (sign(x) * m.copysign(1.0, y), 0.0)


def rule_trunc(x: Value) -> Rule:
    return m.trunc(x), (0.0,)
