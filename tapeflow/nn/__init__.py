"""Networks as plain functions: activations, layers over dicts of parameters, likelihoods, losses.

Everything works on plain arrays and on traced ones. There are no classes to inherit from: a
network is a function of its parameters (a nested dict) and its input.

>>> rng = np.random.default_rng(0)
>>> parameters = {"hidden": tpf.nn.dense_init(rng, 3, 8), "last": tpf.nn.dense_init(rng, 8, 1)}
>>> def network(p, x):
...     return tpf.nn.dense(p["last"], np.tanh(tpf.nn.dense(p["hidden"], x)))
>>> network(parameters, np.ones((5, 3))).shape
(5, 1)
"""

from tapeflow.nn.activations import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from tapeflow.nn.initializers import (
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    ones,
    orthogonal,
    zeros,
)
from tapeflow.nn.layers import (
    conv1d,
    conv2d,
    conv_init,
    dense,
    dense_init,
    dropout,
    embedding,
    embedding_init,
    layer_norm,
    layer_norm_init,
    lstm_cell,
    lstm_init,
    max_pool2d,
)
from tapeflow.nn.losses import (
    LIKELIHOODS,
    Likelihood,
    absolute_error,
    bernoulli_nll,
    categorical_nll,
    gamma_nll,
    gaussian_nll,
    huber,
    ordinal_nll,
    ordinal_probabilities,
    pinball,
    poisson_nll,
    squared_error,
    student_t_nll,
)

__all__ = [
    "LIKELIHOODS",
    "Likelihood",
    "absolute_error",
    "bernoulli_nll",
    "categorical_nll",
    "conv1d",
    "conv2d",
    "conv_init",
    "dense",
    "dense_init",
    "dropout",
    "elu",
    "embedding",
    "embedding_init",
    "gamma_nll",
    "gaussian_nll",
    "gelu",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "huber",
    "layer_norm",
    "layer_norm_init",
    "leaky_relu",
    "lecun_normal",
    "log_softmax",
    "lstm_cell",
    "lstm_init",
    "max_pool2d",
    "ones",
    "ordinal_nll",
    "ordinal_probabilities",
    "orthogonal",
    "pinball",
    "poisson_nll",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "squared_error",
    "student_t_nll",
    "tanh",
    "zeros",
]
