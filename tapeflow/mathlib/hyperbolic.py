"""Hyperbolic functions and their inverses."""

import math
from typing import Any

from tapeflow.mathlib.doubledouble import polynomial, quotient, two_sum
from tapeflow.mathlib.exponential import clamp, exp_parts, expm1_parts, scale
from tapeflow.mathlib.logarithm import log, log1p_sum
from tapeflow.primitives import absolute, copysign, elementary, fma, sqrt, where

Value = Any

_LN2 = math.log(2.0)
_TINY = 2.0**-28
"""Below it tanh, asinh and atanh are their arguments, to a quarter of a unit."""
_SINH = tuple(1.0 / math.factorial(k) for k in range(21, 2, -2))
"""The Taylor coefficients of sinh from x^21 down to x^3: the next is below 2^-70 at 1."""


def _half_exp(x: Value) -> tuple[Value, Value]:
    """e^x / 2 in two floats; it is finite a little longer than e^x."""
    y, y_low, n = exp_parts(clamp(x), 0.0)
    return scale(y, n - 1), scale(y_low, n - 1)


@elementary
def sinh(x: Value) -> Value:
    """(e^x - e^-x) / 2; below 1 by the Taylor series."""
    a = absolute(x)
    half, low = _half_exp(a)
    z = a * a
    near = fma(a * z, polynomial(z, _SINH), a)
    far = where(half == math.inf, half, (half - 0.25 / half) + low)
    return copysign(where(a < 1.0, near, far), x)


@elementary
def cosh(x: Value) -> Value:
    """(e^x + e^-x) / 2."""
    half, _ = _half_exp(absolute(x))
    return half + 0.25 / half


@elementary
def tanh(x: Value) -> Value:
    """t / (t + 2) with t = e^2x - 1, and 1 - 2 / (t + 2) where that is closer."""
    a = absolute(x)
    t, t_low = expm1_parts(2.0 * where(a > 22.0, 22.0, a))  # half of t
    total, lost = two_sum(t, 1.0)
    near = a < 0.55
    ratio = quotient(where(near, t, -1.0), where(near, t_low, 0.0), total, lost + t_low)
    result = copysign(where(near, ratio, 1.0 + ratio), x)
    return where(a < _TINY, x, result)


@elementary
def asinh(x: Value) -> Value:
    """ln(x + sqrt(x^2 + 1)): through log1p below 2, and ln 2x for large x."""
    a = absolute(x)
    near, far = a < 2.0, a > 2.0**28
    z = a * a
    root = sqrt(z + 1.0)
    argument, low = two_sum(a, z / (1.0 + root))
    small = log1p_sum(where(near, argument, 0.0), where(near, low, 0.0))
    large = log(where(far, a, 2.0 * a + 1.0 / (root + a)))
    result = where(near, small, where(far, large + _LN2, large))
    return where(a < _TINY, x, copysign(result, x))


@elementary
def acosh(x: Value) -> Value:
    """ln(x + sqrt(x^2 - 1)): through log1p of x - 1 below 2, and ln 2x for large x."""
    near, far = x < 2.0, x > 2.0**28
    t = x - 1.0
    argument, low = two_sum(t, sqrt(fma(t, t, 2.0 * t)))
    valid = near & (x >= 1.0)
    small = log1p_sum(where(valid, argument, 0.0), where(valid, low, 0.0))
    large = log(where(far, x, 2.0 * x - 1.0 / (x + sqrt(fma(x, x, -1.0)))))
    result = where(near, small, where(far, large + _LN2, large))
    return where(x < 1.0, math.nan, where(x != x, x, result))


@elementary
def atanh(x: Value) -> Value:
    """ln((1 + x) / (1 - x)) / 2 as log1p(2 x + 2 x^2 / (1 - x)) / 2."""
    a = absolute(x)
    t = a + a
    quotient = t / (1.0 - a)
    argument, low = two_sum(t, quotient * a)
    near = a < 0.5
    inside = a < 1.0
    high = where(inside, where(near, argument, quotient), 0.0)
    result = 0.5 * log1p_sum(high, where(inside & near, low, 0.0))
    result = where(a == 1.0, math.inf, where(a > 1.0, math.nan, result))
    return where((a < _TINY) | (x != x), x, copysign(result, x))
