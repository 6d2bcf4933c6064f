"""erf and erfc, by fdlibm's rational functions (Sun Microsystems, 1993: s_erf.c).

Four intervals of |x| share one evaluation, each with its own coefficients; in the outer two erfc
is e^(-x^2 - 9/16 + R) / x, whose exponent is taken in two floats.
"""

from typing import Any

from tapeflow.mathlib.doubledouble import fast_two_sum, quotient, two_product, two_sum
from tapeflow.mathlib.exponential import exp_parts, scale
from tapeflow.primitives import absolute, copysign, elementary, fma, where

Value = Any

_ERF_1 = 8.45062911510467529297e-01
"""A float near erf(1), which the second interval is measured from."""
_EDGES = (0.84375, 1.25, 1.0 / 0.35)
_NUMERATORS = (
    (
        -2.37630166566501626084e-05,
        -5.77027029648944159157e-03,
        -2.84817495755985104766e-02,
        -3.25042107247001499370e-01,
        1.28379167095512558561e-01,
    ),
    (
        -2.16637559486879084300e-03,
        3.54783043256182359371e-02,
        -1.10894694282396677476e-01,
        3.18346619901161753674e-01,
        -3.72207876035701323847e-01,
        4.14856118683748331666e-01,
        -2.36211856075265944077e-03,
    ),
    (
        -9.81432934416914548592e00,
        -8.12874355063065934246e01,
        -1.84605092906711035994e02,
        -1.62396669462573470355e02,
        -6.23753324503260060396e01,
        -1.05586262253232909814e01,
        -6.93858572707181764372e-01,
        -9.86494403484714822705e-03,
    ),
    (
        -4.83519191608651397019e02,
        -1.02509513161107724954e03,
        -6.37566443368389627722e02,
        -1.60636384855821916062e02,
        -1.77579549177547519889e01,
        -7.99283237680523006574e-01,
        -9.86494292470009928597e-03,
    ),
)
_DENOMINATORS = (
    (
        -3.96022827877536812320e-06,
        1.32494738004321644526e-04,
        5.08130628187576562776e-03,
        6.50222499887672944485e-02,
        3.97917223959155352819e-01,
        1.0,
    ),
    (
        1.19844998467991074170e-02,
        1.36370839120290507362e-02,
        1.26171219808761642112e-01,
        7.18286544141962662868e-02,
        5.40397917702171048937e-01,
        1.06420880400844228286e-01,
        1.0,
    ),
    (
        -6.04244152148580987438e-02,
        6.57024977031928170135e00,
        1.08635005541779435134e02,
        4.29008140027567833386e02,
        6.45387271733267880336e02,
        4.34565877475229228821e02,
        1.37657754143519042600e02,
        1.96512716674392571292e01,
        1.0,
    ),
    (
        -2.24409524465858183362e01,
        4.74528541206955367215e02,
        2.55305040643316442583e03,
        3.19985821950859553908e03,
        1.53672958608443695994e03,
        3.25792512996573918826e02,
        3.03380607434824582924e01,
        1.0,
    ),
)


def _chosen(a: Value, t: Value, rows: tuple[tuple[float, ...], ...]) -> tuple[Value, Value]:
    """The polynomial in t with the coefficients of the interval that a lies in, in two floats."""
    length = max(map(len, rows))
    padded = [(0.0,) * (length - len(row)) + row for row in rows]
    coefficients = []
    for first, second, third, fourth in zip(*padded, strict=True):
        outer = where(a < _EDGES[2], third, fourth)
        coefficients.append(where(a < _EDGES[0], first, where(a < _EDGES[1], second, outer)))
    result = coefficients[0]
    for coefficient in coefficients[1:-1]:
        result = fma(result, t, coefficient)
    # The last step's roundings are kept, as they are most of the error.
    product, lost = two_product(result, t)
    total, more = two_sum(product, coefficients[-1])
    return total, lost + more


def _ratio(a: Value) -> Value:
    """The rational function of a's interval, at its variable."""
    outer = 1.0 / (a * a)
    t = where(a < _EDGES[0], a * a, where(a < _EDGES[1], a - 1.0, outer))
    return quotient(*_chosen(a, t, _NUMERATORS), *_chosen(a, t, _DENOMINATORS))


def _tail(a: Value, ratio: Value) -> Value:
    """erfc(a) for a from 1.25 on; it is zero from 27.3 on."""
    a = where(a > 28.0, 28.0, a)
    square, lost = two_product(a, a)
    high, low = two_sum(-square, ratio - 0.5625)
    y, y_low, n = exp_parts(*fast_two_sum(high, low - lost))
    return scale(quotient(y, y_low, a, 0.0), n)


@elementary
def erf(x: Value) -> Value:
    """The error function, 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    a = absolute(x)
    ratio = _ratio(where(a > 6.0, 6.0, a))
    near = fma(a, ratio, a)
    far = where(a < _EDGES[1], _ERF_1 + ratio, 1.0 - _tail(where(a < 1.25, 1.25, a), ratio))
    result = where(a < _EDGES[0], near, where(a > 6.0, 1.0, far))
    return where(x != x, x, copysign(result, x))


@elementary
def erfc(x: Value) -> Value:
    """1 - erf(x), accurate where that is small."""
    a = absolute(x)
    ratio = _ratio(where(a > 28.0, 28.0, a))
    near = fma(-x, ratio, 1.0 - x)
    negative = x < 0.0
    middle = where(negative, 1.0 + (_ERF_1 + ratio), (1.0 - _ERF_1) - ratio)
    tail = _tail(where(a < 1.25, 1.25, a), ratio)
    outer = where(negative, 2.0 - tail, tail)
    result = where(a < _EDGES[0], near, where(a < _EDGES[1], middle, outer))
    return where(x != x, x, result)
