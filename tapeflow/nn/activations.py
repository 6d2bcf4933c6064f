"""Activations, elementwise unless said otherwise, on plain and traced arrays of any shape."""

import math
from typing import Any

from tapeflow import special
from tapeflow.functions import FUNCTIONS

_where, _erf = FUNCTIONS["where"], FUNCTIONS["erf"]


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), exact at both ends.

    >>> float(tpf.nn.sigmoid(-1e4)), float(tpf.nn.sigmoid(0.0))
    (0.0, 0.5)
    """
    return FUNCTIONS["sigmoid"](x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, from -1 to 1.

    >>> tpf.nn.tanh(np.array([-1e4, 0.0]))
    array([-1.,  0.])
    """
    return FUNCTIONS["tanh"](x)


def relu(x: Any) -> Any:
    """max(x, 0); its derivative at 0 is 0.

    >>> tpf.nn.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return FUNCTIONS["relu"](x)


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """x, or ``slope * x`` where x is negative; the derivative at 0 is 1.

    >>> tpf.nn.leaky_relu(np.array([-1.0, 2.0]), slope=0.1)
    array([-0.1,  2. ])
    """
    return _where(x < 0.0, slope * x, x)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x, or ``alpha * (exp(x) - 1)`` where x is negative (Clevert et al., 2015).

    >>> tpf.nn.elu(np.array([-1000.0, 2.0]))
    array([-1.,  2.])
    """
    return _where(x < 0.0, alpha * FUNCTIONS["expm1"](FUNCTIONS["minimum"](x, 0.0)), x)


def gelu(x: Any) -> Any:
    """x times the normal distribution function at x (Hendrycks and Gimpel, 2016), exact.

    >>> round(float(tpf.nn.gelu(1.0)), 6)
    0.841345
    """
    return 0.5 * x * (1.0 + _erf(x * math.sqrt(0.5)))


def silu(x: Any) -> Any:
    """``x * sigmoid(x)``, also called swish (Elfwing et al., 2017).

    >>> round(float(tpf.nn.silu(1.0)), 6)
    0.731059
    """
    return x * sigmoid(x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)), exact at both ends.

    >>> float(tpf.nn.softplus(-1e4)), float(tpf.nn.softplus(1e4))
    (0.0, 10000.0)
    """
    return FUNCTIONS["softplus"](x)


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) over its sum along an axis, of the shape of x; it does not overflow.

    >>> tpf.nn.softmax(np.array([1e4, 1e4]))
    array([0.5, 0.5])
    """
    return special.softmax(x, axis=axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of `softmax`, of the shape of x, exact where that underflows.

    >>> tpf.nn.log_softmax(np.array([0.0, 1e4])).tolist()
    [-10000.0, 0.0]
    """
    return special.log_softmax(x, axis=axis)
