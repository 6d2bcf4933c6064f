"""Activations, layers and likelihoods: against their definitions, and stable at the ends."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

import tapeflow as tpf
from tapeflow import nn
from tests.numpy_api.test_numpy_api import difference, directions_of, inner, weighted

rng = np.random.default_rng(8)
X = rng.normal(size=(6, 5))

ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "sigmoid": (nn.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": (nn.tanh, np.tanh),
    "relu": (nn.relu, lambda x: np.maximum(x, 0)),
    "leaky_relu": (nn.leaky_relu, lambda x: np.where(x < 0, 0.01 * x, x)),
    "elu": (nn.elu, lambda x: np.where(x < 0, np.exp(x) - 1, x)),
    "gelu": (nn.gelu, lambda x: x * stats.norm.cdf(x)),
    "silu": (nn.silu, lambda x: x / (1 + np.exp(-x))),
    "softplus": (nn.softplus, lambda x: np.log(1 + np.exp(x))),
    "softmax": (nn.softmax, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    "log_softmax": (nn.log_softmax, lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    f, definition = ACTIVATIONS[name]
    # A few functions that are within some ulp, of numbers of order one.
    assert np.allclose(f(X), definition(X), rtol=1e-13, atol=1e-14)
    assert np.allclose(tpf.record(f, X)(X), definition(X), rtol=1e-13, atol=1e-14)
    gradient = tpf.grad(weighted(f))(X)
    v = directions_of((X,), 4)
    estimate, bound = difference(weighted(f), (X,), v)
    assert abs(inner((gradient,), v) - estimate) <= bound


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_gradients_are_finite_at_the_ends(name: str) -> None:
    x = np.array([-1e4, -50.0, 0.0, 50.0, 1e4])
    f = ACTIVATIONS[name][0]
    value, gradient = tpf.value_and_grad(lambda x: np.sum(f(x)))(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


# Each loss against the logarithm of SciPy's density, up to what does not depend on the network.
counts, ordered = np.array([0.0, 3.0, 1.0]), np.array([0, 2, 1])
z = np.array([0.3, -1.2, 2.0])
cuts = np.array([-0.5, 0.2])


def constant_apart(loss: Any, density: Any) -> bool:
    """Whether two losses of shape (n,) at two sets of logits differ by the same constants."""
    first, second = (loss(s * z) + density(s * z) for s in (1.0, 0.5))
    return bool(np.allclose(first, second, rtol=0, atol=1e-12))


@pytest.mark.parametrize(
    ("loss", "density"),
    [
        (lambda z: 0.5 * nn.squared_error(z, counts), lambda z: stats.norm.logpdf(counts, z)),
        (lambda z: nn.absolute_error(z, counts), lambda z: stats.laplace.logpdf(counts, z)),
        (
            lambda z: nn.gaussian_nll(0.5, z, counts),
            lambda z: stats.norm.logpdf(counts, 0.5, np.exp(0.5 * z)),
        ),
        (
            lambda z: nn.student_t_nll(z, counts, 4.0, 0.7),
            lambda z: stats.t.logpdf(counts, 4.0, z, 0.7),
        ),
        (
            lambda z: nn.bernoulli_nll(z, np.array([0.0, 1.0, 1.0])),
            lambda z: stats.bernoulli.logpmf([0, 1, 1], 1 / (1 + np.exp(-z))),
        ),
        (lambda z: nn.poisson_nll(z, counts), lambda z: stats.poisson.logpmf(counts, np.exp(z))),
        (
            lambda z: nn.gamma_nll(z, counts + 0.5, 2.5),
            lambda z: stats.gamma.logpdf(counts + 0.5, 2.5, scale=np.exp(z) / 2.5),
        ),
        (
            lambda z: nn.ordinal_nll(z, cuts, ordered),
            lambda z: np.log(nn.ordinal_probabilities(z, cuts)[np.arange(3), ordered]),
        ),
    ],
)
def test_losses_are_likelihoods(loss: Any, density: Any) -> None:
    assert constant_apart(loss, density)
    gradient = tpf.grad(lambda z: np.sum(loss(z)))(z)
    v = directions_of((z,), 5)
    estimate, bound = difference(lambda z: np.sum(loss(z)), (z,), v)
    assert abs(inner((gradient,), v) - estimate) <= bound


def test_categorical() -> None:
    logits, target = rng.normal(size=(4, 3)), np.array([2, 0, 1, 1])
    expected = -np.log(nn.softmax(logits)[np.arange(4), target])
    for how in (target, np.eye(3)[target]):
        assert np.allclose(nn.categorical_nll(logits, how), expected, rtol=1e-13)
        loss = tpf.grad(lambda z, how=how: np.sum(nn.categorical_nll(z, how)))
        assert np.allclose(loss(logits), nn.softmax(logits) - np.eye(3)[target], atol=1e-14)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: nn.bernoulli_nll(z, np.array([0.0, 1.0])),
        lambda z: nn.categorical_nll(np.stack([z, -z]), np.array([0, 1])),
        lambda z: nn.ordinal_nll(z, cuts, np.array([0, 1])),
        lambda z: nn.huber(z, 0.0),
        lambda z: nn.pinball(z, 0.0, 0.9),
        lambda z: nn.student_t_nll(z, 0.0),
        lambda z: nn.squared_error(z, 0.0),
        lambda z: nn.absolute_error(z, 0.0),
        lambda z: nn.log_softmax(z),
    ],
)
@pytest.mark.parametrize("ends", [(1e4, -1e4), (-1e4, 1e4), (1e4, 1e4), (0.0, 0.0)])
def test_losses_and_gradients_are_finite_at_the_ends(loss: Any, ends: Any) -> None:
    value, gradient = tpf.value_and_grad(lambda z: np.sum(loss(z)))(np.array(ends))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_the_table_names_the_lectures_losses() -> None:
    assert nn.LIKELIHOODS["gaussian"].loss is nn.squared_error
    assert nn.LIKELIHOODS["bernoulli"].layer_name == "sigmoid"
    assert nn.LIKELIHOODS["categorical"].last_layer is nn.softmax
    for likelihood in nn.LIKELIHOODS.values():
        assert callable(likelihood.last_layer)
        assert callable(likelihood.loss)


def test_convolutions_against_loops() -> None:
    p = nn.conv_init(rng, 2, 3, (3, 2))
    x = rng.normal(size=(2, 2, 6, 5))
    got = nn.conv2d(p, x, stride=2, padding=1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for n, o, i, j in np.ndindex(*got.shape):
        patch = padded[n, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2]
        assert math.isclose(got[n, o, i, j], np.sum(patch * p["w"][o]) + p["b"][o], abs_tol=1e-13)

    def loss(w: Any, b: Any, x: Any) -> Any:
        return nn.conv2d({"w": w, "b": b}, x, 2, 1)

    args = (p["w"], p["b"], x)
    gradient = tpf.grad(weighted(loss), (0, 1, 2))(*args)
    v = directions_of(args, 6)
    estimate, bound = difference(weighted(loss), args, v)
    assert abs(inner(gradient, v) - estimate) <= bound


def test_conv1d_keeps_the_length_with_padding_same() -> None:
    p = nn.conv_init(rng, 1, 4, 3)
    assert nn.conv1d(p, np.ones((2, 1, 7)), padding="same").shape == (2, 4, 7)
    with pytest.raises(ValueError, match="conv1d takes"):
        nn.conv1d(p, np.ones((2, 3, 7)))


def test_layer_norm_embedding_and_pooling() -> None:
    y = nn.layer_norm(nn.layer_norm_init(5), X, eps=0.0)
    assert np.allclose(y.mean(-1), 0, atol=1e-15)
    assert np.allclose(y.std(-1), 1)
    table = nn.embedding_init(rng, 7, 3)
    index = np.array([[1, 1], [6, 0]])
    assert np.array_equal(nn.embedding(table, index), table["table"][index])
    gradient = tpf.grad(lambda p: np.sum(nn.embedding(p, index)))(table)["table"]
    assert gradient[:, 0].tolist() == [1, 2, 0, 0, 0, 0, 1]
    pooled = nn.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4))
    assert pooled.tolist() == [[[[5, 7], [13, 15]]]]


def test_initializers_have_their_variances() -> None:
    shape = (400, 300)
    for make, variance in (
        (nn.glorot_uniform, 2 / 700),
        (nn.glorot_normal, 2 / 700),
        (nn.he_uniform, 2 / 400),
        (nn.he_normal, 2 / 400),
        (nn.lecun_normal, 1 / 400),
    ):
        # 120,000 numbers: the variance's standard error is below 0.5 %, five of them below 2.5 %.
        assert math.isclose(np.var(make(rng, shape)), variance, rel_tol=0.025)
    q = nn.orthogonal(rng, (5, 3))
    assert np.allclose(q.T @ q, np.eye(3))
