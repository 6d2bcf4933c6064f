"""pow, cbrt and hypot."""

import math
from typing import Any

from tapeflow.mathlib.doubledouble import fast_two_sum, polynomial, two_product, two_sum
from tapeflow.mathlib.exponential import LN2_HIGH, LN2_LOW, exp_parts, scale
from tapeflow.mathlib.logarithm import split
from tapeflow.primitives import (
    absolute,
    bits,
    copysign,
    elementary,
    fma,
    from_bits,
    rint,
    sqrt,
    to_float,
    to_int,
    where,
)

Value = Any

# 2 atanh(s) = 2 s + s^3 (2/3 + 2/5 s^2 + ...): the terms from s^5 on.
_ATANH = tuple(2.0 / k for k in range(25, 3, -2))
_TWO_THIRDS_LOW = 3.700743415417188e-17
"""What the float nearest to 2/3 lacks."""


def _log_high_low(x: Value) -> tuple[Value, Value]:
    """ln x as the sum of two floats, to about 2^-64; x positive and finite."""
    m, n = split(x)
    f = m - 1.0
    u, u_low = two_sum(m, 1.0)
    s = f / u
    s_low = (fma(-s, u, f) - s * u_low) / u
    z, z_low = two_product(s, s)
    z_low = fma(2.0 * s, s_low, z_low)
    tail = z * polynomial(z, _ATANH)
    c, c_low = fast_two_sum(2.0 / 3.0, tail)
    c_low = c_low + _TWO_THIRDS_LOW
    # s^3 c, and then the sum with 2 s and n ln 2.
    cz, cz_low = two_product(c, z)
    cz_low = fma(c, z_low, fma(c_low, z, cz_low))
    cube, cube_low = two_product(cz, s)
    cube_low = fma(cz, s_low, fma(cz_low, s, cube_low))
    series, series_low = fast_two_sum(2.0 * s, cube)
    series_low = series_low + (2.0 * s_low + cube_low)
    high, low = two_sum(n * LN2_HIGH, series)
    second, second_low = two_product(n, LN2_LOW)
    high, more = two_sum(high, second)
    low = low + more + (second_low + series_low + n * 1.1612227229362532e-26)
    return fast_two_sum(high, low)


@elementary
def pow(x: Value, y: Value) -> Value:
    """x^y = e^(y ln |x|), the logarithm and the product in two floats; C99's special cases."""
    magnitude = absolute(x)
    log_high, log_low = _log_high_low(magnitude)
    product, lost = two_product(y, log_high)
    far = absolute(product) > 800.0
    high = where(far, copysign(800.0, product), product)
    low = where(far, 0.0, fma(y, log_low, lost))
    e, _, n = exp_parts(high, low)
    result = scale(e, n)
    # Zero and infinite operands, for which the logarithm is none.
    grows = ((magnitude > 1.0) & (y > 0.0)) | ((magnitude < 1.0) & (y < 0.0))
    unbounded = (magnitude == 0.0) | (magnitude == math.inf) | (absolute(y) == math.inf)
    result = where(unbounded, where(grows, math.inf, 0.0), result)
    result = where(magnitude == 1.0, 1.0, result)
    whole = rint(y) == y
    odd = whole & (rint(0.5 * y) != 0.5 * y)
    result = where((bits(x) < 0) & odd, -result, result)
    result = where((x < 0.0) & (x != -math.inf) & ~whole, math.nan, result)
    result = where((x != x) | (y != y), x + y, result)
    return where((x == 1.0) | (y == 0.0), 1.0, result)


@elementary
def cbrt(x: Value) -> Value:
    """The cube root: a third of the bits, two steps of Halley, one of Newton in two floats."""
    magnitude = absolute(x)
    small, large = magnitude < 2.0**-900, magnitude > 2.0**900
    m = magnitude * where(small, 2.0**300, where(large, 2.0**-300, 1.0))
    # The constant is fdlibm's (s_cbrt.c): 1023 * 2/3 less 0.03306, in the exponent's place.
    t = from_bits(to_int(to_float(bits(m)) * (1.0 / 3.0)) + (715094163 << 32))
    for _ in range(3):
        cube = t * t * t
        t = t * ((cube + 2.0 * m) / (2.0 * cube + m))
    square, square_low = two_product(t, t)
    cube, cube_low = two_product(square, t)
    excess = (m - cube) - fma(square_low, t, cube_low)
    t = t + excess / (3.0 * square)
    root = t * where(small, 2.0**-100, where(large, 2.0**100, 1.0))
    finite = (magnitude < math.inf) & (magnitude > 0.0)
    return where(finite, copysign(root, x), x)


@elementary
def hypot(x: Value, y: Value) -> Value:
    """sqrt(x^2 + y^2) without overflow: the sum of squares in two floats, and one Newton step."""
    a, b = absolute(x), absolute(y)
    larger, smaller = where(a >= b, a, b), where(a >= b, b, a)
    tiny, huge = larger < 2.0**-500, larger > 2.0**500
    factor = where(tiny, 2.0**600, where(huge, 2.0**-600, 1.0))
    p, p_low = two_product(larger * factor, larger * factor)
    q, q_low = two_product(smaller * factor, smaller * factor)
    total, lost = fast_two_sum(p, q)
    root = sqrt(total)
    correction = (fma(-root, root, total) + (lost + (p_low + q_low))) / (2.0 * root)
    result = (root + correction) * where(tiny, 2.0**-600, where(huge, 2.0**600, 1.0))
    result = where(larger == 0.0, 0.0, result)
    result = where((x != x) | (y != y), x + y, result)
    return where((a == math.inf) | (b == math.inf), math.inf, result)
