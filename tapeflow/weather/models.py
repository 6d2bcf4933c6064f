"""The models: plain functions of parameters and one day's features, shape (12,).

By maximum likelihood: the target is a real number with Gaussian noise, so the last layer is the
identity and the loss is the squared error.
"""

from typing import Any

import numpy as np

from tapeflow.weather.records import Floats

Params = dict[str, Any]


def linear(params: Params, x: Any) -> Any:
    """w . x + b."""
    return np.sum(params["w"] * x) + params["b"]


def network(params: Params, x: Any) -> Any:
    """One layer of tanh units, and the identity on their weighted sum."""
    hidden = np.tanh(params["hidden"]["w"] @ x + params["hidden"]["b"])
    return np.sum(params["output"]["w"] * hidden) + params["output"]["b"]


def linear_loss(params: Params, x: Any, y: Any) -> Any:
    """The squared error of one day."""
    return (linear(params, x) - y) ** 2


def network_loss(params: Params, x: Any, y: Any) -> Any:
    """The squared error of one day."""
    return (network(params, x) - y) ** 2


def linear_start(n_features: int) -> Params:
    return {"w": np.zeros(n_features), "b": 0.0}


def network_start(n_features: int, n_hidden: int, rng: np.random.Generator) -> Params:
    """Weights of a third of the scale that keeps a signal's (Glorot and Bengio, 2010).

    Near zero tanh is almost linear: training starts from simple models and leaves them as it must.
    """
    scale = 0.3 * np.sqrt(2.0 / (n_features + n_hidden))
    return {
        "hidden": {
            "w": scale * rng.standard_normal((n_hidden, n_features)),
            "b": np.zeros(n_hidden),
        },
        "output": {"w": 0.3 * rng.standard_normal(n_hidden) / np.sqrt(n_hidden), "b": 0.0},
    }


def closed_form(x: Floats, y: Floats) -> Params:
    """The least-squares solution of the linear model, of least norm where there are several."""
    columns = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    solution = np.linalg.lstsq(columns, y, rcond=None)[0]
    return {"w": solution[:-1], "b": float(solution[-1])}
