"""Unevaluated sums of two floats, which hold about 106 bits.

The algorithms are Knuth's, Dekker's and the fused product, as in Muller et al., Handbook of
Floating-Point Arithmetic, chapter 4. Each returns the rounded result and what it lacks.
"""

from typing import Any

from tapeflow.primitives import fma

Value = Any


def two_sum(a: Value, b: Value) -> tuple[Value, Value]:
    """a + b exactly."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def fast_two_sum(a: Value, b: Value) -> tuple[Value, Value]:
    """a + b exactly, where a is the larger or zero."""
    total = a + b
    return total, b - (total - a)


def two_product(a: Value, b: Value) -> tuple[Value, Value]:
    """a * b exactly, unless the lower part underflows."""
    product = a * b
    return product, fma(a, b, -product)


def quotient(top: Value, top_low: Value, bottom: Value, bottom_low: Value) -> Value:
    """(top + top_low) / (bottom + bottom_low), rounded once or nearly."""
    inverse = 1.0 / bottom
    first = top * inverse
    rest = fma(-first, bottom, top) + fma(-first, bottom_low, top_low)
    return fma(rest, inverse, first)


def polynomial(x: Value, coefficients: tuple[float, ...]) -> Value:
    """The polynomial with these coefficients, the highest power's first, by Horner's rule."""
    result: Value = coefficients[0]
    for coefficient in coefficients[1:]:
        result = fma(result, x, coefficient)
    return result
