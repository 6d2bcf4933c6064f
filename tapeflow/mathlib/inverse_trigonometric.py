"""Inverse circular functions, by fdlibm's formulas (Sun Microsystems, 1993).

e_asin.c, e_acos.c, s_atan.c and e_atan2.c; where those branch, all cases are prepared and one
division serves them.
"""

import math
from typing import Any

from tapeflow.mathlib.doubledouble import polynomial
from tapeflow.primitives import absolute, bits, copysign, elementary, fma, sqrt, where

Value = Any

_PI_HIGH, _PI_LOW = math.pi, 1.2246467991473532e-16

_ASIN_P = (
    3.47933107596021167570e-05,
    7.91534994289814532176e-04,
    -4.00555345006794114027e-02,
    2.01212532134862925881e-01,
    -3.25565818622400915405e-01,
    1.66666666666666657415e-01,
)
_ASIN_Q = (
    7.70381505559019352791e-02,
    -6.88283971605453293030e-01,
    2.02094576023350569471e00,
    -2.40339491173441421878e00,
    1.0,
)


def _asin_tail(z: Value) -> Value:
    """(asin(s) - s) / s for z = s^2 up to 1/4."""
    return z * polynomial(z, _ASIN_P) / polynomial(z, _ASIN_Q)


def _half_angle(a: Value) -> tuple[Value, Value, Value]:
    """(s, low, tail): s + low is sqrt((1 - a) / 2), and tail is that of its arc sine."""
    z = 0.5 * (1.0 - a)
    s = sqrt(z)
    low = where(s == 0.0, 0.0, fma(-s, s, z) / (s + s))
    return s, low, _asin_tail(z)


@elementary
def asin(x: Value) -> Value:
    """The arc sine, in radians: above 1/2, pi/2 - 2 asin(sqrt((1 - x) / 2))."""
    a = absolute(x)
    near = fma(x, _asin_tail(x * x), x)
    s, low, tail = _half_angle(a)
    twice = 2.0 * fma(s, tail, low)
    far = 0.5 * _PI_HIGH - (2.0 * s - (0.5 * _PI_LOW - twice))
    result = where(a < 0.5, near, copysign(far, x))
    return where(a > 1.0, math.nan, where(a < 2.0**-30, x, result))


@elementary
def acos(x: Value) -> Value:
    """The arc cosine, in radians."""
    a = absolute(x)
    near = 0.5 * _PI_HIGH - (x - (0.5 * _PI_LOW - x * _asin_tail(x * x)))
    s, low, tail = _half_angle(a)
    rest = fma(s, tail, low)
    far = where(x < 0.0, _PI_HIGH - 2.0 * (s + (rest - 0.5 * _PI_LOW)), 2.0 * (s + rest))
    return where(a > 1.0, math.nan, where(a < 0.5, near, far))


_ATAN = (
    1.62858201153657823623e-02,
    -3.65315727442169155270e-02,
    4.97687799461593236017e-02,
    -5.83357013379057348645e-02,
    6.66107313738753120669e-02,
    -7.69187620504482999495e-02,
    9.09088713343650656196e-02,
    -1.11111104054623557880e-01,
    1.42857142725034663711e-01,
    -1.99999999998764832476e-01,
    3.33333333333329318027e-01,
)
# tan of the angle that each interval is measured from, and the angle in two floats.
_CENTRES = (
    (0.5, 4.63647609000806093515e-01, 2.26987774529616870924e-17),
    (1.0, 7.85398163397448278999e-01, 3.06161699786838301793e-17),
    (1.5, 9.82793723247329054082e-01, 1.39033110312309984516e-17),
)
_EDGES = (7.0 / 16.0, 11.0 / 16.0, 19.0 / 16.0, 39.0 / 16.0)


def _atan_positive(a: Value) -> Value:
    """The arc tangent of a >= 0: atan(c) + atan((a - c) / (1 + c a)) for a centre c nearby."""
    numerator: Value = where(a < _EDGES[0], a, a - _CENTRES[0][0])
    denominator: Value = where(a < _EDGES[0], 1.0, fma(_CENTRES[0][0], a, 1.0))
    angle: Value = where(a < _EDGES[0], 0.0, _CENTRES[0][1])
    low: Value = where(a < _EDGES[0], 0.0, _CENTRES[0][2])
    for (centre, centre_angle, centre_low), edge in zip(_CENTRES[1:], _EDGES[1:3], strict=True):
        beyond = a >= edge
        numerator = where(beyond, a - centre, numerator)
        denominator = where(beyond, fma(centre, a, 1.0), denominator)
        angle, low = where(beyond, centre_angle, angle), where(beyond, centre_low, low)
    beyond = a >= _EDGES[3]
    numerator = where(beyond, -1.0, numerator)
    denominator = where(beyond, a, denominator)
    angle = where(beyond, 0.5 * _PI_HIGH, angle)
    low = where(beyond, 0.5 * _PI_LOW, low)
    t = numerator / denominator
    z = t * t
    tail = t * (z * polynomial(z, _ATAN))
    return angle - ((tail - low) - t)


@elementary
def atan(x: Value) -> Value:
    """The arc tangent, in radians."""
    return where(x != x, x, copysign(_atan_positive(absolute(x)), x))


@elementary
def atan2(y: Value, x: Value) -> Value:
    """The angle of the point (x, y), in radians, as C99 has it at zeros and infinities."""
    a, b = absolute(y), absolute(x)
    left = bits(x) < 0
    infinite = (a == math.inf) & (b == math.inf)
    zero = (a == 0.0) & (b == 0.0)
    ratio = where(infinite, 1.0, where(zero, 0.0, a / b))
    angle = _atan_positive(ratio)
    result = where(left, _PI_HIGH - (angle - _PI_LOW), angle)
    return where((x != x) | (y != y), x + y, copysign(result, y))
