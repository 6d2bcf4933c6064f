"""exp and its relatives: x = n ln 2 + r with |r| <= ln(2) / 2, and e^x = 2^n e^r."""

import math
from typing import Any

from tapeflow.mathlib.doubledouble import fast_two_sum, polynomial, quotient, two_sum
from tapeflow.primitives import absolute, bits, elementary, fma, from_bits, where

Value = Any

LN2_HIGH = 6.93147180369123816490e-01
"""33 bits of ln 2, so that its product with an exponent is exact."""
LN2_LOW = 1.9082149292705877e-10
_LOG2_E = 1.4426950408889634
_ROUND = 6755399441055744.0
"""1.5 * 2**52: adding it rounds to a whole number, left in the low bits."""

# (e^r - 1 - r) / r^2 on |r| <= 0.347, error 1.4e-18, by Chebyshev interpolation (mpmath.chebyfit).
_EXP = (
    2.09147553258932e-09,
    2.5105312729622103e-08,
    2.755727347871858e-07,
    2.755725517000089e-06,
    2.480158732567746e-05,
    0.0001984126987500228,
    0.0013888888888883711,
    0.008333333333326084,
    0.04166666666666667,
    0.1666666666666667,
    0.5,
)


def round_to_int(x: Value) -> tuple[Value, Value]:
    """The nearest whole number as a float and as an int; |x| below 2**51."""
    shifted = x + _ROUND
    return shifted - _ROUND, bits(shifted) - 0x4338000000000000


def scale(x: Value, n: Value) -> Value:
    """x * 2**n, rounded once, for x near 1 and n from -2044 to 2046."""
    half = n >> 1
    return x * power_of_two(half) * power_of_two(n - half)


def power_of_two(n: Value) -> Value:
    """2**n for n from -1022 to 1023."""
    return from_bits((n + 1023) << 52)


def reduce(x: Value, low: Value) -> tuple[Value, Value, Value]:
    """(r, e^r - 1 - r, n) for the sum of x and a small ``low``; x within +-1000.

    What r lacks of the exact reduced argument is in the second number.
    """
    k, n = round_to_int(x * _LOG2_E)
    r, lost = fast_two_sum(fma(k, -LN2_HIGH, x), fma(k, -LN2_LOW, low))
    return r, fma(r * r, polynomial(r, _EXP), lost), n


def exp_parts(x: Value, low: Value) -> tuple[Value, Value, Value]:
    """(y, y_low, n) with e^(x + low) = (y + y_low) * 2**n."""
    r, rest, n = reduce(x, low)
    one, lost = fast_two_sum(1.0, r)
    return (*fast_two_sum(one, lost + rest), n)


def clamp(x: Value) -> Value:
    """x, but no further from 0 than where every result is 0 or infinite; NaN stays."""
    return where(x > 800.0, 800.0, where(x < -800.0, -800.0, x))


@elementary
def exp(x: Value) -> Value:
    """e^x."""
    y, _, n = exp_parts(clamp(x), 0.0)
    return scale(y, n)


def expm1_parts(x: Value) -> tuple[Value, Value]:
    """Half of e^x - 1 in two floats, for x from -60 to 709.8.

    It is 2^n (e^r - 1) + (2^n - 1) without cancellation; half, lest 2^n overflow.
    """
    r, rest, n = reduce(x, 0.0)
    half = power_of_two(n - 1)
    shift, shift_lost = two_sum(half, -0.5)
    total, lost = two_sum(shift, half * r)
    return fast_two_sum(total, lost + fma(half, rest, shift_lost))


@elementary
def expm1(x: Value) -> Value:
    """e^x - 1 without cancellation."""
    high, _ = expm1_parts(where(x < -60.0, -60.0, where(x > 709.8, 709.8, x)))
    return where(absolute(x) < 2.0**-54, x, where(x > 709.8, math.inf, 2.0 * high))


@elementary
def sigmoid(x: Value) -> Value:
    """1 / (1 + e^-x), through e^-|x|, which does not overflow."""
    y, y_low, n = exp_parts(clamp(-absolute(x)), 0.0)
    e, e_low = scale(y, n), scale(y_low, n)
    total, lost = fast_two_sum(1.0, e)
    negative = x < 0.0
    return quotient(where(negative, e, 1.0), where(negative, e_low, 0.0), total, lost + e_low)
