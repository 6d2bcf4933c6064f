"""Last layer and loss from the model of the target, by maximum likelihood.

A loss is a negative log-likelihood, up to what does not depend on the network, of each target
given what the last linear layer puts out (its *logits*): so none loses digits where a probability
is near 0 or 1. Losses are elementwise; take np.mean of them over a minibatch. The table is
`LIKELIHOODS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow import special
from tapeflow.functions import FUNCTIONS
from tapeflow.nn.activations import sigmoid, softmax, softplus
from tapeflow.tracers import is_traced

_where, _abs, _exp, _log1p = (FUNCTIONS[name] for name in ("where", "abs", "exp", "log1p"))


@dataclass(frozen=True)
class Likelihood:
    """A model of the target: what turns logits into its mean (or probabilities), and the loss."""

    target: str
    last_layer: Callable[..., Any]
    layer_name: str
    loss: Callable[..., Any]
    loss_name: str


def squared_error(prediction: Any, target: Any) -> Any:
    """``(prediction - target) ** 2``: of a Gaussian target, whose variance only scales it.

    >>> float(tpf.nn.squared_error(3.0, 1.0))
    4.0
    """
    gap = prediction - target
    return gap * gap


def gaussian_nll(prediction: Any, log_variance: Any, target: Any) -> Any:
    """Of a Gaussian target whose variance the network gives too, as its logarithm.

    Half of ``log_variance + (prediction - target)^2 / variance``, without log(2 pi) / 2.

    >>> float(tpf.nn.gaussian_nll(3.0, 0.0, 1.0))
    2.0
    """
    gap = prediction - target
    return 0.5 * (log_variance + gap * gap * _exp(-log_variance))


def absolute_error(prediction: Any, target: Any) -> Any:
    """``|prediction - target|``: of a Laplace target.

    >>> float(tpf.nn.absolute_error(3.0, 1.0))
    2.0
    """
    return _abs(prediction - target)


def student_t_nll(prediction: Any, target: Any, df: float = 4.0, scale: Any = 1.0) -> Any:
    """Of a target with Student's t errors, which outliers pull at less (Lange et al., 1989).

    df: degrees of freedom; scale: of the errors.

    >>> round(float(tpf.nn.student_t_nll(3.0, 1.0)), 6)
    1.732868
    """
    z = (prediction - target) / scale
    return 0.5 * (df + 1.0) * _log1p(z * z / df) + FUNCTIONS["log"](scale)


def bernoulli_nll(logits: Any, target: Any) -> Any:
    """Binary cross-entropy: of a target that is 1 with probability sigmoid(logits), else 0.

    >>> tpf.nn.bernoulli_nll(np.array([1e4, -1e4]), np.array([1.0, 1.0])).tolist()
    [0.0, 10000.0]
    """
    # softplus(z) - y z, without taking one large number from another.
    return target * softplus(-logits) + (1.0 - target) * softplus(logits)


def categorical_nll(logits: Any, target: Any) -> Any:
    """Cross-entropy: of a class with probabilities softmax(logits) along the last axis.

    logits: (..., classes); target: whole numbers of shape (...), or probabilities of the shape of
    the logits. Returns shape (...).

    >>> tpf.nn.categorical_nll(np.array([[0.0, 1e4], [0.0, 1e4]]), np.array([1, 0])).tolist()
    [0.0, 10000.0]
    """
    total = special.logsumexp(logits, axis=-1)
    if np.shape(target) == np.shape(logits):
        return total * np.sum(target, axis=-1) - np.sum(logits * target, axis=-1)
    index = np.expand_dims(target if is_traced(target) else np.asarray(target, np.int64), -1)
    return total - np.take_along_axis(logits, index, axis=-1)[..., 0]


def _cuts(thresholds: Any) -> Any:
    """Ascending thresholds from the first, and the logarithms of the gaps between them."""
    return np.concatenate([thresholds[:1], thresholds[:1] + np.cumsum(np.exp(thresholds[1:]))])


def ordinal_probabilities(logits: Any, thresholds: Any) -> Any:
    """Probabilities of ordered classes: P(class <= k) = sigmoid(cut_k - logits).

    logits: (...); thresholds: (classes - 1,), the first cut and the logarithms of the gaps between
    the cuts, so that any numbers are in order. Returns (..., classes).

    >>> tpf.nn.ordinal_probabilities(np.array(0.0), np.array([0.0]))
    array([0.5, 0.5])
    """
    below = sigmoid(_cuts(thresholds) - np.expand_dims(logits, -1))
    ends = np.zeros((*np.shape(logits), 1))
    return np.diff(np.concatenate([ends, below, ends + 1.0], axis=-1), axis=-1)


def ordinal_nll(logits: Any, thresholds: Any, target: Any) -> Any:
    """Of ordered classes 0, 1, …: the proportional odds model (McCullagh, 1980).

    logits, target: (...), thresholds: as in `ordinal_probabilities`. The difference of two sigmoids
    s(b) - s(a) is s(b) s(-a) (1 - exp(a - b)), whose logarithm does not overflow.

    >>> round(float(tpf.nn.ordinal_nll(np.array(0.0), np.array([0.0, 0.0]), np.array(0))), 6)
    0.693147
    """
    cuts = _cuts(thresholds)
    target = np.asarray(target, np.int64)
    n = np.shape(thresholds)[0]
    upper = cuts[np.minimum(target, n - 1)] - logits
    lower = cuts[np.maximum(target - 1, 0)] - logits
    top, bottom = target == n, target == 0
    inside = ~(top | bottom)
    gap = _where(inside, lower - upper, -1.0)
    result = _where(top, 0.0, softplus(-upper)) + _where(bottom, 0.0, softplus(lower))
    return result - _where(inside, _log1p(-_exp(gap)), 0.0)


def poisson_nll(logits: Any, target: Any) -> Any:
    """Of counts with mean exp(logits), without log(target!).

    >>> float(tpf.nn.poisson_nll(0.0, 3.0))
    1.0
    """
    return _exp(logits) - target * logits


def gamma_nll(logits: Any, target: Any, shape: float = 1.0) -> Any:
    """Of positive targets with mean exp(logits) and a gamma distribution of a shape.

    >>> float(tpf.nn.gamma_nll(0.0, 3.0, shape=2.0))
    6.0
    """
    return shape * (logits + target * _exp(-logits))


def huber(prediction: Any, target: Any, delta: float = 1.0) -> Any:
    """Half the squared error up to delta, and a straight line beyond (Huber, 1964).

    >>> tpf.nn.huber(np.array([0.5, 3.0]), 0.0).tolist()
    [0.125, 2.5]
    """
    size = _abs(prediction - target)
    near = FUNCTIONS["minimum"](size, delta)
    return near * (size - 0.5 * near)


def pinball(prediction: Any, target: Any, quantile: float = 0.5) -> Any:
    """Whose minimum is the quantile (Koenker and Bassett, 1978).

    Raises ValueError for a quantile that is not between 0 and 1.

    >>> tpf.nn.pinball(np.array([0.0, 2.0]), 1.0, quantile=0.75).tolist()
    [0.75, 0.25]
    """
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"quantile must lie between 0 and 1, not {quantile}")
    gap = target - prediction
    return FUNCTIONS["maximum"](quantile * gap, (quantile - 1.0) * gap)


def _identity(x: Any) -> Any:
    return x


LIKELIHOODS: dict[str, Likelihood] = {
    "gaussian": Likelihood(
        "a number with Gaussian errors", _identity, "identity", squared_error, "squared error"
    ),
    "gaussian with variance": Likelihood(
        "the same, with errors of a size that depends on the input",
        lambda mean, log_variance: (mean, np.exp(log_variance)),
        "identity, exp", gaussian_nll, "Gaussian NLL",
    ),
    "laplace": Likelihood(
        "a number with Laplace errors", _identity, "identity", absolute_error, "absolute error"
    ),
    "student t": Likelihood(
        "a number with outliers", _identity, "identity", student_t_nll, "Student-t NLL"
    ),
    "bernoulli": Likelihood(
        "yes or no", sigmoid, "sigmoid", bernoulli_nll, "binary cross-entropy from logits"
    ),
    "categorical": Likelihood(
        "one of several classes", softmax, "softmax", categorical_nll, "cross-entropy from logits"
    ),
    "ordinal": Likelihood(
        "one of several classes in order", ordinal_probabilities, "cumulative sigmoids",
        ordinal_nll, "proportional odds NLL",
    ),
    "poisson": Likelihood("a count", _exp, "exp", poisson_nll, "Poisson NLL"),
    "gamma": Likelihood("a positive number", _exp, "exp", gamma_nll, "gamma NLL"),
}  # fmt: skip
"""The model of the target says what the last layer and the loss are."""
