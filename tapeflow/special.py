"""scipy.special's functions on traced values, and on plain ones.

A ufunc of scipy.special may be called on traced values itself; those that are not ufuncs
(``logsumexp``, ``softmax``, ``log_softmax``, ``polygamma``) are to be taken from here.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tapeflow import meanings
from tapeflow.numpy_api.reductions import log_of_sum
from tapeflow.ops import BY_NAME, OPS
from tapeflow.tracers import elementwise, is_traced, lift
from tapeflow.tracers.protocol import UFUNCS

_HALF_SQRT = math.sqrt(0.5)


def _op(name: str, *operands: Any) -> Any:
    return elementwise(BY_NAME[name], operands)


def _ndtr(x: Any) -> Any:
    return 0.5 * _op("erfc", -_HALF_SQRT * x)


def _xlogy(x: Any, y: Any) -> Any:
    """x log y; zero, with zero derivatives, where x is zero."""
    zero = _op("equal", x, 0.0)
    return _op("where", zero, 0.0, x * _op("log", _op("where", zero, 1.0, y)))


def _xlog1py(x: Any, y: Any) -> Any:
    zero = _op("equal", x, 0.0)
    return _op("where", zero, 0.0, x * _op("log1p", _op("where", zero, 0.0, y)))


def _entr(x: Any) -> Any:
    positive = _op("greater", x, 0.0)
    safe = _op("where", positive, x, 1.0)
    below = _op("where", _op("equal", x, 0.0), 0.0, -math.inf)
    return _op("where", positive, -(safe * _op("log", safe)), below)


def _rel_entr(x: Any, y: Any) -> Any:
    inside = _op("min", _op("greater", x, 0.0), _op("greater", y, 0.0))
    a, b = _op("where", inside, x, 1.0), _op("where", inside, y, 1.0)
    at_zero = _op("min", _op("equal", x, 0.0), _op("greater_equal", y, 0.0))
    outside = _op("where", at_zero, 0.0, math.inf)
    return _op("where", inside, a * _op("log", a / b), outside)


def _betaln(a: Any, b: Any) -> Any:
    return _op("gammaln", a) + _op("gammaln", b) - _op("gammaln", a + b)


def _beta(a: Any, b: Any) -> Any:
    return _op("gamma", a) * _op("gamma", b) / _op("gamma", a + b)


_MADE_OF_OTHERS: dict[str, Callable[..., Any]] = {
    "expit": lambda x: _op("sigmoid", x),
    "log_expit": lambda x: -_op("softplus", -x),
    "logit": lambda x: _op("log", x) - _op("log1p", -x),
    "softplus": lambda x: _op("softplus", x),
    "ndtr": _ndtr,
    "erf": lambda x: _op("erf", x),
    "erfc": lambda x: _op("erfc", x),
    "psi": lambda x: _op("digamma", x),
    "xlogy": _xlogy,
    "xlog1py": _xlog1py,
    "entr": _entr,
    "rel_entr": _rel_entr,
    "betaln": _betaln,
    "beta": _beta,
    "exp2": lambda x: _op("pow", 2.0, x),
    "expm1": lambda x: _op("expm1", x),
    "log1p": lambda x: _op("log1p", x),
    "cbrt": lambda x: _op("cbrt", x),
}

UFUNCS.update({name: own for name, own in _MADE_OF_OTHERS.items() if name not in UFUNCS})
UFUNCS.update(
    {
        op.name: lambda *operands, _op=op: elementwise(_op, operands)
        for op in OPS
        if op.host and op.name != "polygamma"
    }
)


def _plain_or_traced(name: str) -> Callable[..., Any]:
    def call(*operands: Any) -> Any:
        if any(map(is_traced, operands)):
            return UFUNCS[name](*operands)
        from scipy import special

        return getattr(special, name)(*operands)

    says, operands, value = meanings.SPECIAL[name]
    call.__name__ = call.__qualname__ = name
    call.__doc__ = (
        f"``scipy.special.{name}``: {says}.\n\n"
        "Elementwise, on numbers, and on arrays and traced values, whose shapes broadcast; of\n"
        "plain ones it is SciPy's own.\n\n"
        f">>> round(float(tpf.special.{name}({operands})), 9)\n{value}\n"
    )
    return call


UFUNCS["digamma"] = UFUNCS["psi"]
globals().update({name: _plain_or_traced(name) for name in meanings.SPECIAL})
__all__ = [*meanings.SPECIAL, "log_softmax", "logsumexp", "polygamma", "softmax"]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"tapeflow.special has no {name}: it has {', '.join(__all__)}")


def polygamma(n: Any, x: Any) -> Any:
    """The n-th derivative of digamma at x, elementwise.

    >>> float(tpf.special.polygamma(1, 1.0))
    1.6449340668482266
    """
    if is_traced(x):
        return elementwise(BY_NAME["polygamma"], (n, x))
    from scipy import special

    return special.polygamma(n, x)


def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False) -> Any:
    """log of the sum of ``b * exp(a)`` along axes, without overflow; b is 1 if not given.

    a: numbers of any shape; b: scales that broadcast with it. Returns the shape of ``a`` without
    the axes, which stay as ones with keepdims.

    >>> float(tpf.special.logsumexp(np.array([1000.0, 1000.0])))
    1000.6931471805599
    """
    if not is_traced(a) and not is_traced(b):
        from scipy import special

        return special.logsumexp(a, axis=axis, b=b, keepdims=keepdims)
    a = lift(a)
    if b is not None:
        zero = b == 0.0 if is_traced(b) else np.asarray(b) == 0.0
        a = lift(np.where(zero, -np.inf, a + np.log(np.where(zero, 1.0, b))))
    return log_of_sum(a, axis, keepdims)


def softmax(x: Any, axis: Any = None) -> Any:
    """exp(x) over its sum along axes, the shape of x.

    >>> tpf.special.softmax(np.array([0.0, 0.0]))
    array([0.5, 0.5])
    """
    if not is_traced(x):
        from scipy import special

        return special.softmax(x, axis=axis)
    x = lift(x)
    top = np.max(x, axis=axis, keepdims=True)
    powers = np.exp(x - _op("stop_gradient", top))
    return powers / np.sum(powers, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: Any = None) -> Any:
    """The logarithm of `softmax`, exact where that underflows.

    >>> tpf.special.log_softmax(np.array([0.0, 1e4])).tolist()
    [-10000.0, 0.0]
    """
    if not is_traced(x):
        from scipy import special

        return special.log_softmax(x, axis=axis)
    return lift(x) - log_of_sum(x, axis, keepdims=True)
