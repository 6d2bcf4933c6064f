"""Layers: functions of a dict of parameters and an input; each has a function for first values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.functions import FUNCTIONS
from tapeflow.nn.initializers import Shape, glorot_uniform, he_normal
from tapeflow.structure import Floats

Parameters = dict[str, Any]
Initializer = Callable[[np.random.Generator, Shape], Floats]


def dense_init(
    rng: np.random.Generator, n_in: int, n_out: int, weights: Initializer = glorot_uniform
) -> Parameters:
    """Parameters of `dense`: w of shape (n_in, n_out), b of shape (n_out,).

    >>> p = tpf.nn.dense_init(np.random.default_rng(0), 3, 2)
    >>> p["w"].shape, p["b"]
    ((3, 2), array([0., 0.]))
    """
    return {"w": weights(rng, (n_in, n_out)), "b": np.zeros(n_out)}


def dense(parameters: Parameters, x: Any) -> Any:
    """``x @ w + b``; x of shape (..., n_in) gives (..., n_out).

    >>> tpf.nn.dense({"w": np.array([[1.0], [2.0]]), "b": np.array([0.5])}, np.array([3.0, 4.0]))
    array([11.5])
    """
    return np.matmul(x, parameters["w"]) + parameters["b"]


def embedding_init(rng: np.random.Generator, n: int, size: int) -> Parameters:
    """Parameters of `embedding`: a table of shape (n, size), normal with variance 1 / size.

    >>> tpf.nn.embedding_init(np.random.default_rng(0), 10, 4)["table"].shape
    (10, 4)
    """
    return {"table": rng.normal(0.0, 1.0 / np.sqrt(size), (n, size))}


def embedding(parameters: Parameters, index: Any) -> Any:
    """Rows of a table by whole numbers; an index of shape (...) gives (..., size).

    >>> tpf.nn.embedding({"table": np.array([[0.0, 1.0], [2.0, 3.0]])}, np.array([1, 1, 0]))
    array([[2., 3.],
           [2., 3.],
           [0., 1.]])
    """
    return np.take(parameters["table"], index, axis=0)


def layer_norm_init(size: int) -> Parameters:
    """Parameters of `layer_norm`: scale and shift of shape (size,).

    >>> tpf.nn.layer_norm_init(2)
    {'scale': array([1., 1.]), 'shift': array([0., 0.])}
    """
    return {"scale": np.ones(size), "shift": np.zeros(size)}


def layer_norm(parameters: Parameters, x: Any, eps: float = 1e-5) -> Any:
    """Mean 0 and variance 1 along the last axis, then scaled and shifted (Ba et al., 2016).

    x and the result: (..., size). eps is added to the variance.

    >>> tpf.nn.layer_norm(tpf.nn.layer_norm_init(2), np.array([1.0, 3.0]), eps=0.0)
    array([-1.,  1.])
    """
    gap = x - np.mean(x, axis=-1, keepdims=True)
    spread = np.mean(gap * gap, axis=-1, keepdims=True)
    return gap / np.sqrt(spread + eps) * parameters["scale"] + parameters["shift"]


def conv_init(
    rng: np.random.Generator,
    n_in: int,
    n_out: int,
    window: int | Sequence[int],
    weights: Initializer = he_normal,
) -> Parameters:
    """Parameters of `conv1d` and `conv2d`: w, ``(n_out, n_in, *window)``, and b, ``(n_out,)``.

    window: one number for `conv1d`, two for `conv2d`.

    >>> tpf.nn.conv_init(np.random.default_rng(0), 3, 8, (5, 5))["w"].shape
    (8, 3, 5, 5)
    """
    own = (window,) if isinstance(window, int) else tuple(window)
    return {"w": weights(rng, (n_out, n_in, *own)), "b": np.zeros(n_out)}


def _padded(x: Any, window: Sequence[int], padding: Any) -> Any:
    if padding == "valid":
        return x
    if padding == "same":
        sides = [((n - 1) // 2, n // 2) for n in window]
    elif isinstance(padding, int):
        sides = [(padding, padding)] * len(window)
    else:
        raise ValueError(f'padding must be "valid", "same" or a number, not {padding!r}')
    return np.pad(x, [(0, 0)] * (x.ndim - len(window)) + sides)


def _conv(parameters: Parameters, x: Any, axes: int, stride: int, padding: Any) -> Any:
    w = parameters["w"]
    if x.ndim != axes + 2 or x.shape[1] != w.shape[1]:
        raise ValueError(
            f"conv{axes}d takes (samples, {w.shape[1]} channels, and {axes} axes), "
            f"not an array of shape {x.shape}"
        )
    window = w.shape[2:]
    x = _padded(x, window, padding)
    places = tuple(range(2, 2 + axes))
    windows = np.lib.stride_tricks.sliding_window_view(x, window, places)
    windows = windows[(slice(None), slice(None), *[slice(None, None, stride)] * axes)]
    inside = [1, *range(2 + axes, 2 + 2 * axes)]
    result = np.tensordot(windows, w, (inside, [1, *range(2, 2 + axes)]))
    return np.moveaxis(result + parameters["b"], -1, 1)


def conv1d(parameters: Parameters, x: Any, stride: int = 1, padding: Any = "valid") -> Any:
    """Cross-correlation of (samples, n_in, length) to (samples, n_out, length').

    padding: "valid", "same" (zeros, so that a stride of 1 keeps the length) or how many zeros.
    length' is (length + zeros - window) // stride + 1. Raises ValueError for another padding, and
    for an array of another number of axes or channels.

    >>> p = {"w": np.array([[[1.0, -1.0]]]), "b": np.zeros(1)}
    >>> tpf.nn.conv1d(p, np.array([[[1.0, 2.0, 4.0]]]))
    array([[[-1., -2.]]])
    """
    return _conv(parameters, x, 1, stride, padding)


def conv2d(parameters: Parameters, x: Any, stride: int = 1, padding: Any = "valid") -> Any:
    """Cross-correlation of (samples, n_in, height, width) to (samples, n_out, height', width').

    padding, and the errors: as in `conv1d`, of both axes.

    >>> p = tpf.nn.conv_init(np.random.default_rng(0), 3, 8, (5, 5))
    >>> tpf.nn.conv2d(p, np.ones((2, 3, 28, 28)), stride=2, padding="same").shape
    (2, 8, 14, 14)
    """
    return _conv(parameters, x, 2, stride, padding)


def max_pool2d(x: Any, window: int = 2) -> Any:
    """The largest of each window of (samples, channels, height, width), which do not overlap.

    Returns (samples, channels, height // window, width // window); what is over is left out.

    >>> tpf.nn.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    n, c, h, w = x.shape
    h, w = h // window, w // window
    cut = x[:, :, : h * window, : w * window]
    return np.max(np.reshape(cut, (n, c, h, window, w, window)), axis=(3, 5))


def dropout(rng: np.random.Generator, x: Any, rate: float) -> Any:
    """Zeros for a random share of the numbers, the others scaled up to keep the mean.

    The choice is made when the function runs: a recorded tape repeats it. Pass the mask as an
    argument to draw anew (Srivastava et al., 2014). Raises ValueError for a rate that is not from
    0 up to 1.

    >>> tpf.nn.dropout(np.random.default_rng(1), np.ones(4), 0.5)
    array([2., 2., 0., 2.])
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"rate must be from 0 up to 1, not {rate}")
    return x * ((rng.random(x.shape) >= rate) / (1.0 - rate))


def lstm_init(rng: np.random.Generator, n_in: int, size: int) -> Parameters:
    """Parameters of `lstm_cell`; the forget gate starts open.

    >>> p = tpf.nn.lstm_init(np.random.default_rng(0), 3, 5)
    >>> p["x"].shape, p["h"].shape, p["b"].shape
    ((3, 20), (5, 20), (20,))
    """
    bias = np.zeros(4 * size)
    bias[size : 2 * size] = 1.0
    return {
        "x": glorot_uniform(rng, (n_in, 4 * size)),
        "h": glorot_uniform(rng, (size, 4 * size)),
        "b": bias,
    }


def lstm_cell(parameters: Parameters, state: tuple[Any, Any], x: Any) -> tuple[Any, Any]:
    """One step of an LSTM: (h, c) after the input x (Hochreiter and Schmidhuber, 1997).

    x: (..., n_in); h and c: (..., size). The gates are input, forget, candidate, output.

    >>> p = tpf.nn.lstm_init(np.random.default_rng(0), 3, 5)
    >>> h, c = tpf.nn.lstm_cell(p, (np.zeros((2, 5)), np.zeros((2, 5))), np.ones((2, 3)))
    >>> h.shape, c.shape
    ((2, 5), (2, 5))
    """
    h, c = state
    size = c.shape[-1]
    gates = np.matmul(x, parameters["x"]) + np.matmul(h, parameters["h"]) + parameters["b"]
    i, f, g, o = (gates[..., k * size : (k + 1) * size] for k in range(4))
    sigmoid, tanh = FUNCTIONS["sigmoid"], FUNCTIONS["tanh"]
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c
