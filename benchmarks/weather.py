"""The weather models: the mean squared error's gradient over a minibatch and over all days."""

import functools
from typing import Any

import numba
import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report
from tapeflow.weather import features, models, records

HIDDEN = 12


def network_by_hand(p: Any, x: Any, y: Any) -> Any:
    """NumPy, with the chain rule by hand, on n days at once."""
    h = np.tanh(x @ p["hidden"]["w"].T + p["hidden"]["b"])
    error = h @ p["output"]["w"] + p["output"]["b"] - y
    up = 2.0 * error / len(y)
    down = up[:, None] * p["output"]["w"] * (1.0 - h * h)
    gradient = {
        "hidden": {"w": down.T @ x, "b": down.sum(axis=0)},
        "output": {"w": h.T @ up, "b": up.sum()},
    }
    return np.mean(error * error), gradient


@numba.njit(error_model="numpy")
def _loop(w: Any, b: Any, v: Any, c: float, x: Any, y: Any) -> Any:  # pragma: no cover
    n, k = len(y), len(b)
    dw, db, dv, dc, total = np.zeros_like(w), np.zeros(k), np.zeros(k), 0.0, 0.0
    h = np.empty(k)
    for i in range(n):
        out = c
        for j in range(k):
            a = b[j]
            for m in range(x.shape[1]):
                a += w[j, m] * x[i, m]
            h[j] = np.tanh(a)
            out += v[j] * h[j]
        error = out - y[i]
        total += error * error
        up = 2.0 * error / n
        dc += up
        for j in range(k):
            dv[j] += up * h[j]
            down = up * v[j] * (1.0 - h[j] * h[j])
            db[j] += down
            for m in range(x.shape[1]):
                dw[j, m] += down * x[i, m]
    return total / n, dw, db, dv, dc


def network_by_loop(p: Any, x: Any, y: Any) -> Any:
    value, dw, db, dv, dc = _loop(
        p["hidden"]["w"], p["hidden"]["b"], p["output"]["w"], p["output"]["b"], x, y
    )
    return value, {"hidden": {"w": dw, "b": db}, "output": {"w": dv, "b": dc}}


def network_by_autograd(p: Any, x: Any, y: Any) -> Contender | Missing:
    try:
        import autograd
        import autograd.numpy as anp
    except ImportError:
        return Missing("HIPS autograd", "not installed: pip install autograd")

    def loss(p: Any) -> Any:
        h = anp.tanh(anp.dot(x, p["hidden"]["w"].T) + p["hidden"]["b"])
        return anp.mean((anp.dot(h, p["output"]["w"]) + p["output"]["b"] - y) ** 2)

    g = autograd.value_and_grad(loss)
    return lambda: g(p)


def linear_by_hand(p: Any, x: Any, y: Any) -> Any:
    """NumPy, with the chain rule by hand, on n days at once."""
    error = x @ p["w"] + p["b"] - y
    up = 2.0 * error / len(y)
    return np.mean(error * error), {"w": up @ x, "b": up.sum()}


@numba.njit(error_model="numpy")
def _linear_loop(w: Any, b: float, x: Any, y: Any) -> Any:  # pragma: no cover
    dw, db, total = np.zeros_like(w), 0.0, 0.0
    for i in range(len(y)):
        error = b - y[i]
        for m in range(len(w)):
            error += w[m] * x[i, m]
        total += error * error
        up = 2.0 * error / len(y)
        db += up
        for m in range(len(w)):
            dw[m] += up * x[i, m]
    return total / len(y), dw, db


def linear_by_loop(p: Any, x: Any, y: Any) -> Any:
    value, dw, db = _linear_loop(p["w"], p["b"], x, y)
    return value, {"w": dw, "b": db}


def linear_by_autograd(p: Any, x: Any, y: Any) -> Contender | Missing:
    try:
        import autograd
        import autograd.numpy as anp
    except ImportError:
        return Missing("HIPS autograd", "not installed: pip install autograd")

    g = autograd.value_and_grad(lambda p: anp.mean((anp.dot(x, p["w"]) + p["b"] - y) ** 2))
    return lambda: g(p)


def main() -> None:
    training, _ = features.split(records.seattle())
    n_features = training.x.shape[1]
    rng = np.random.default_rng(0)
    start = {"w": rng.standard_normal(n_features), "b": 0.5}
    networks = (network_by_hand, network_by_loop, network_by_autograd)
    linears = (linear_by_hand, linear_by_loop, linear_by_autograd)
    for model, loss, params, peers in (
        ("linear model", models.linear_loss, start, linears),
        ("network", models.network_loss, models.network_start(n_features, HIDDEN, rng), networks),
    ):
        step = tpf.vmap(tpf.value_and_grad(loss), in_axes=(None, 0, 0), reduce="mean")
        for days in (64, 1095, 100_000):
            rows_of = np.arange(days) % len(training)
            x, y = training.x[rows_of], training.y[rows_of]
            by_hand, by_loop, by_autograd = (functools.partial(f, params, x, y) for f in peers)
            rows = measure(
                {
                    "tapeflow": functools.partial(step, params, x, y),
                    "NumPy by hand": by_hand,
                    "njit loop by hand": by_loop,
                    "HIPS autograd": by_autograd(),
                },
                "NumPy by hand",
                # Sums over the days, in three orders; each term has some thirty roundings.
                (30 + days) * 2.0**-52,
                seconds=1.0,
            )
            report(f"weather {model}, {days:,} days", rows, "tapeflow", days, "day")


if __name__ == "__main__":
    main()
