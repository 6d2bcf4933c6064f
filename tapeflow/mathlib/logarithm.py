"""Logarithms: x = 2^n m with m in [sqrt(1/2), sqrt 2), and ln m by a series in (m - 1) / (m + 1).

The polynomial and the order of the sums are fdlibm's (Sun Microsystems, 1993: e_log.c, s_log1p.c).
"""

import math
from typing import Any

from tapeflow.mathlib.doubledouble import fast_two_sum, polynomial, two_product, two_sum
from tapeflow.mathlib.exponential import LN2_HIGH, LN2_LOW, exp
from tapeflow.primitives import absolute, bits, elementary, fma, from_bits, to_float, where

Value = Any

_SERIES = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)
_SQRT_HALF = 0x3FE6A09E667F3BCD
_MIN_NORMAL = 2.0**-1022
_LOG2_E_HIGH, _LOG2_E_LOW = 1.4426950408889634, 2.0355273740931033e-17
_LOG10_E_HIGH, _LOG10_E_LOW = 0.4342944819032518, 1.098319650216765e-17
_LOG10_2_HIGH, _LOG10_2_LOW = 0.3010299955494702, 1.1451100898021838e-10


def split(x: Value) -> tuple[Value, Value]:
    """(m, n) with x = m 2^n and m in [sqrt(1/2), sqrt 2), for positive finite x; n as a float."""
    small = x < _MIN_NORMAL
    pattern = bits(where(small, x * 2.0**54, x))
    n = (pattern - _SQRT_HALF) >> 52
    return from_bits(pattern - (n << 52)), to_float(n) - where(small, 54.0, 0.0)


def _parts(f: Value) -> tuple[Value, Value]:
    """(h, t) with ln(1 + f) = f - (h - t): h is f^2 / 2, t the rest of the series."""
    s = f / (2.0 + f)
    half_square = 0.5 * f * f
    z = s * s
    return half_square, s * fma(z, polynomial(z, _SERIES), half_square)


def _at_edges(x: Value, result: Value) -> Value:
    """The result, but for zero, negative, infinite and NaN x."""
    special = where(x == 0.0, -math.inf, where(x < 0.0, math.nan, x))
    return where((x > 0.0) & (x < math.inf), result, special)


@elementary
def log(x: Value) -> Value:
    """The natural logarithm."""
    m, n = split(x)
    f = m - 1.0
    half_square, rest = _parts(f)
    return _at_edges(x, fma(n, LN2_HIGH, f - (half_square - fma(n, LN2_LOW, rest))))


def log1p_sum(x: Value, low: Value) -> Value:
    """ln(1 + x + low) for a small ``low``; x above -1 and finite."""
    u, lost = two_sum(1.0, x)
    lost = lost + low
    m, n = split(u)
    f = m - 1.0
    half_square, rest = _parts(f)
    # What u lacks of 1 + x + low, relative to u.
    correction = fma(n, LN2_LOW, rest) + lost / u
    return fma(n, LN2_HIGH, f - (half_square - correction))


@elementary
def log1p(x: Value) -> Value:
    """ln(1 + x) without cancellation."""
    result = where(x == 0.0, x, log1p_sum(x, 0.0))
    special = where(x == -1.0, -math.inf, where(x < -1.0, math.nan, x))
    return where((x > -1.0) & (x < math.inf), result, special)


@elementary
def softplus(x: Value) -> Value:
    """ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)."""
    return where(x < 0.0, 0.0, x) + log1p(exp(-absolute(x)))


def _high_low(m: Value) -> tuple[Value, Value]:
    """ln m as the sum of two floats."""
    f = m - 1.0
    half_square, rest = _parts(f)
    high = f - half_square
    low = ((f - high) - half_square) + fma(-0.5 * f, f, half_square) + rest
    return fast_two_sum(high, low)


@elementary
def log2(x: Value) -> Value:
    """The logarithm to base 2, exact for powers of two."""
    m, n = split(x)
    high, low = _high_low(m)
    product, lost = two_product(high, _LOG2_E_HIGH)
    total, remainder = two_sum(n, product)
    rest = fma(low, _LOG2_E_HIGH, fma(high, _LOG2_E_LOW, lost))
    return _at_edges(x, total + (remainder + rest))


@elementary
def log10(x: Value) -> Value:
    """The logarithm to base 10."""
    m, n = split(x)
    high, low = _high_low(m)
    product, lost = two_product(high, _LOG10_E_HIGH)
    total, remainder = two_sum(n * _LOG10_2_HIGH, product)
    rest = fma(low, _LOG10_E_HIGH, fma(high, _LOG10_E_LOW, fma(n, _LOG10_2_LOW, lost)))
    return _at_edges(x, total + (remainder + rest))
