"""First values of parameters: functions of a generator and a shape.

The last two axes of a shape are what comes in and what goes out, (n_in, n_out); for convolutions
the shape is (n_out, n_in, *window).
"""

import math
from collections.abc import Sequence

import numpy as np

from tapeflow.structure import Floats

Shape = Sequence[int]


def _fans(shape: Shape) -> tuple[int, int]:
    """How many numbers come in, and how many go out."""
    if len(shape) < 2:
        return max(1, math.prod(shape)), max(1, math.prod(shape))
    if len(shape) == 2:
        return shape[0], shape[1]
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def zeros(rng: np.random.Generator, shape: Shape) -> Floats:
    """Zeros; rng is not used.

    >>> tpf.nn.zeros(np.random.default_rng(0), (2,))
    array([0., 0.])
    """
    return np.zeros(shape)


def ones(rng: np.random.Generator, shape: Shape) -> Floats:
    """Ones; rng is not used.

    >>> tpf.nn.ones(np.random.default_rng(0), (2,))
    array([1., 1.])
    """
    return np.ones(shape)


def glorot_uniform(rng: np.random.Generator, shape: Shape) -> Floats:
    """Uniform with variance 2 / (in + out) (Glorot and Bengio, 2010): for tanh and sigmoid.

    >>> w = tpf.nn.glorot_uniform(np.random.default_rng(0), (300, 100))
    >>> round(float(np.var(w)), 3)
    0.005
    """
    bound = math.sqrt(6.0 / sum(_fans(shape)))
    return rng.uniform(-bound, bound, shape)


def glorot_normal(rng: np.random.Generator, shape: Shape) -> Floats:
    """Normal with variance 2 / (in + out) (Glorot and Bengio, 2010): for tanh and sigmoid.

    >>> w = tpf.nn.glorot_normal(np.random.default_rng(0), (300, 100))
    >>> round(float(np.var(w)), 3)
    0.005
    """
    return rng.normal(0.0, math.sqrt(2.0 / sum(_fans(shape))), shape)


def he_uniform(rng: np.random.Generator, shape: Shape) -> Floats:
    """Uniform with variance 2 / in (He et al., 2015): for relu and its kin.

    >>> w = tpf.nn.he_uniform(np.random.default_rng(0), (200, 100))
    >>> round(float(np.var(w)), 3)
    0.01
    """
    bound = math.sqrt(6.0 / _fans(shape)[0])
    return rng.uniform(-bound, bound, shape)


def he_normal(rng: np.random.Generator, shape: Shape) -> Floats:
    """Normal with variance 2 / in (He et al., 2015): for relu and its kin.

    >>> w = tpf.nn.he_normal(np.random.default_rng(0), (200, 100))
    >>> round(float(np.var(w)), 3)
    0.01
    """
    return rng.normal(0.0, math.sqrt(2.0 / _fans(shape)[0]), shape)


def lecun_normal(rng: np.random.Generator, shape: Shape) -> Floats:
    """Normal with variance 1 / in (LeCun et al., 1998): for selu, and layers without activation.

    >>> w = tpf.nn.lecun_normal(np.random.default_rng(0), (200, 100))
    >>> round(float(np.var(w)), 3)
    0.005
    """
    return rng.normal(0.0, math.sqrt(1.0 / _fans(shape)[0]), shape)


def orthogonal(rng: np.random.Generator, shape: Shape) -> Floats:
    """Rows or columns of a random rotation (Saxe et al., 2013), whichever are fewer.

    Further axes of the shape are taken together with the second.

    >>> w = tpf.nn.orthogonal(np.random.default_rng(0), (4, 3))
    >>> np.allclose(w.T @ w, np.eye(3))
    True
    """
    n, m = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.normal(size=(max(n, m), min(n, m))))
    q = q * np.sign(np.diag(r))
    result: Floats = (q if n >= m else q.T).reshape(shape)
    return result
