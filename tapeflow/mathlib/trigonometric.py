"""Circular functions: x = k pi/2 + r with |r| <= pi/4, r as the sum of two floats.

The polynomials are fdlibm's (Sun Microsystems, 1993: k_sin.c, k_cos.c). Up to 2^30 the reduction
is Cody and Waite's in three parts; beyond it is Payne and Hanek's, by the bits of 2/pi that
matter, in integers (Muller et al., Handbook of Floating-Point Arithmetic, 11.3).
"""

from typing import Any

from tapeflow.mathlib.doubledouble import (
    fast_two_sum,
    polynomial,
    quotient,
    two_product,
    two_sum,
)
from tapeflow.mathlib.exponential import round_to_int
from tapeflow.primitives import (
    absolute,
    backend_of,
    bits,
    elementary,
    fma,
    from_bits,
    mul_high,
    rarely,
    shift_right_logical,
    table,
    to_float,
    where,
)

Value = Any

_TWO_OVER_PI = 0.6366197723675814
_PI_2 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
_SIN = (
    1.58969099521155010221e-10,
    -2.50507602534068634195e-08,
    2.75573137070700676789e-06,
    -1.98412698298579493134e-04,
    8.33333333332248946124e-03,
)
_SIN_3 = -1.66666666666666324348e-01
_COS = (
    -1.13596475577881948265e-11,
    2.08757232129817482790e-09,
    -2.75573143513906633035e-07,
    2.48015872894767294178e-05,
    -1.38888888888741095749e-03,
    4.16666666666666019037e-02,
)

_LARGE = 2.0**30

# 2/pi in words of 64 bits, after one word of zeros.
_WORDS = (
    0x0000000000000000, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041,
    0xFE5163ABDEBBC561, 0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E,
    0xE88235F52EBB4484, 0xE99C7026B45F7E41, 0x3991D639835339F4, 0x9C845F8BBDF9283B,
    0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D,
    0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB,
    0xF0CFBC209AF4361D,
)  # fmt: skip


def _reduce(x: Value) -> tuple[Value, Value, Value]:
    """(r, low, q): x less its nearest multiple of pi/2, in two floats, and the multiple mod 4."""
    large = ~(absolute(x) <= _LARGE)
    near = where(large, 0.0, x)
    k, _ = round_to_int(near * _TWO_OVER_PI)
    # Exact: the product's last bit is not below 2^-52, and the difference is below 1.
    r = fma(-k, _PI_2[0], near)
    second, lost = two_product(k, _PI_2[1])
    high, low = two_sum(r, -second)
    low = fma(-k, _PI_2[2], low - lost)
    high, low, k = rarely(large, _reduce_large, (*fast_two_sum(high, low), k), x)
    _, q = round_to_int(k)
    return high, low, q & 3


def _reduce_large(x: Value) -> tuple[Value, Value, Value]:
    """The reduction of large x, in integers: 192 bits of x * 2/pi, from the one of weight two."""
    pattern = bits(x) & 0x7FFFFFFFFFFFFFFF
    exponent = (pattern >> 52) - 1075
    mantissa = (pattern & 0xFFFFFFFFFFFFF) | 0x10000000000000
    position = exponent + 62
    # Infinite and NaN x are put right below: here they only must not look outside the table.
    position = where(position > 1033, 1033, where(position < 0, 0, position))
    word, shift = position >> 6, position & 63
    window = [_window(word + k, shift) for k in range(3)]
    low = mantissa * window[2]
    middle, carry = _add(mantissa * window[1], mul_high(mantissa, window[2]))
    high = mantissa * window[0] + (mul_high(mantissa, window[1]) + carry)
    quadrant = shift_right_logical(high, 62)
    fraction = (high << 2) | shift_right_logical(middle, 62)
    rest = (middle << 2) | shift_right_logical(low, 62)
    # As a signed number the fraction lies within +-1/2, one quadrant on where it is negative.
    quadrant = quadrant + shift_right_logical(fraction, 63)
    f, f_low = two_sum(
        to_float(fraction >> 32) * 2.0**-32, to_float(fraction & 0xFFFFFFFF) * 2.0**-64
    )
    f, more = two_sum(f, to_float(shift_right_logical(rest, 11)) * 2.0**-117)
    f_low = f_low + more
    product, lost = two_product(f, _PI_2[0])
    r, r_low = fast_two_sum(product, lost + fma(f, _PI_2[1], f_low * _PI_2[0]))
    negative = x < 0.0
    # x - x is the NaN of an infinite or NaN argument.
    r = where(negative, -r, r) + (x - x)
    return r, where(negative, -r_low, r_low), to_float(where(negative, -quadrant, quadrant))


def _window(word: Value, shift: Value) -> Value:
    """64 bits of the table from a bit of a word on."""
    # A shift by 64 is undefined, so the second part is shifted twice.
    second = shift_right_logical(shift_right_logical(table(_WORDS, word + 1), 1), 63 - shift)
    return (table(_WORDS, word) << shift) | second


def _add(a: Value, b: Value) -> tuple[Value, Value]:
    """The sum of two unsigned words, and its carry."""
    total = a + b
    lowest = -0x8000000000000000
    return total, where((total ^ lowest) < (a ^ lowest), total ^ total ^ 1, total ^ total)


def _sin_kernel(r: Value, low: Value) -> tuple[Value, Value]:
    """The sine of r + low as a first number and a small correction."""
    z = r * r
    v = z * r
    tail = polynomial(z, _SIN)
    return r, v * _SIN_3 - fma(z, fma(-v, tail, 0.5 * low), -low)


def _cos_kernel(r: Value, low: Value) -> tuple[Value, Value]:
    """The cosine of r + low as a first number and a small correction."""
    z = r * r
    half = 0.5 * z
    w = 1.0 - half
    return w, ((1.0 - w) - half) + fma(z, z * polynomial(z, _COS), -r * low)


def _added(pair: tuple[Value, Value]) -> Value:
    return pair[0] + pair[1]


def _sin_cos(x: Value) -> tuple[Value, Value]:
    r, low, q = _reduce(x)
    s, c = _added(_sin_kernel(r, low)), _added(_cos_kernel(r, low))
    odd = (q & 1) == 1
    sine, cosine = where(odd, c, s), where(odd, s, c)
    sine = from_bits(bits(sine) ^ ((q & 2) << 62))
    cosine = from_bits(bits(cosine) ^ (((q + 1) & 2) << 62))
    return where(x == 0.0, x, sine), cosine


def sincos(x: Value) -> tuple[Value, Value]:
    """Sine and cosine from one reduction; a tracer records each."""
    if hasattr(backend_of(x), "elementary"):
        return sin(x), cos(x)
    return _both(x)  # type: ignore[no-any-return]


@elementary
def _both(x: Value) -> tuple[Value, Value]:
    return _sin_cos(x)


@elementary
def sin(x: Value) -> Value:
    """The sine of x radians."""
    return _sin_cos(x)[0]


@elementary
def cos(x: Value) -> Value:
    """The cosine of x radians."""
    return _sin_cos(x)[1]


@elementary
def tan(x: Value) -> Value:
    """The tangent of x radians: sine over cosine, both and the quotient in two floats."""
    r, low, q = _reduce(x)
    s, s_low = fast_two_sum(*_sin_kernel(r, low))
    c, c_low = fast_two_sum(*_cos_kernel(r, low))
    odd = (q & 1) == 1
    result = quotient(
        where(odd, -c, s), where(odd, -c_low, s_low), where(odd, s, c), where(odd, s_low, c_low)
    )
    return where(x == 0.0, x, result)
