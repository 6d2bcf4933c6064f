"""Rules of special functions: Abramowitz and Stegun, Handbook, chapters 6, 7, 9 and 26.

Their values come from SciPy; the rules read like those of `rules`.
"""

import math

from tapeflow import mathlib as m
from tapeflow import rules
from tapeflow.rules import Rule, Value

_HALF_SQRT_PI = 0.5 * math.sqrt(math.pi)
_SQRT_2PI = math.sqrt(2.0 * math.pi)


def rule_gamma(x: Value) -> Rule:
    v = m.gamma(x)
    return v, (v * m.digamma(x),)


def rule_gammaln(x: Value) -> Rule:
    return m.gammaln(x), (m.digamma(x),)


def rule_digamma(x: Value) -> Rule:
    return m.digamma(x), (m.polygamma(1.0, x),)


def rule_polygamma(n: Value, x: Value) -> Rule:
    return m.polygamma(n, x), (0.0, m.polygamma(n + 1.0, x))


def rule_erfinv(x: Value) -> Rule:
    v = m.erfinv(x)
    return v, (_HALF_SQRT_PI * m.exp(v * v),)


def rule_ndtri(x: Value) -> Rule:
    v = m.ndtri(x)
    return v, (_SQRT_2PI * m.exp(0.5 * (v * v)),)


def rule_log_ndtr(x: Value) -> Rule:
    v = m.log_ndtr(x)
    return v, (m.exp(-0.5 * (x * x) - v) / _SQRT_2PI,)


def rule_i0(x: Value) -> Rule:
    return m.i0(x), (m.i1(x),)


def rule_i0e(x: Value) -> Rule:
    v = m.i0e(x)
    return v, (m.i1e(x) - rules.sign(x) * v,)


def rule_i1(x: Value) -> Rule:
    v = m.i1(x)
    return v, (m.where(x == 0.0, 0.5, m.i0(x) - v / x),)


def rule_i1e(x: Value) -> Rule:
    v = m.i1e(x)
    return v, (m.where(x == 0.0, 0.5, m.i0e(x) - v * (rules.sign(x) + 1.0 / x)),)


def rule_j0(x: Value) -> Rule:
    return m.j0(x), (-m.j1(x),)


def rule_j1(x: Value) -> Rule:
    v = m.j1(x)
    return v, (m.where(x == 0.0, 0.5, m.j0(x) - v / x),)


def rule_y0(x: Value) -> Rule:
    return m.y0(x), (-m.y1(x),)


def rule_y1(x: Value) -> Rule:
    v = m.y1(x)
    return v, (m.y0(x) - v / x,)
