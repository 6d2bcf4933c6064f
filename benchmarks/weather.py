"""The weather models: the mean squared error's gradient over a minibatch and over all days."""

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


def main() -> None:
    training, _ = features.split(records.seattle())
    params = models.network_start(training.x.shape[1], HIDDEN, np.random.default_rng(0))
    step = tpf.vmap(tpf.value_and_grad(models.network_loss), in_axes=(None, 0, 0), reduce="mean")
    for title, days in (
        ("a minibatch of 64 days", 64),
        ("1,095 days", 1095),
        ("100,000 days", 100_000),
    ):
        rows_of = np.arange(days) % len(training)
        x, y = training.x[rows_of], training.y[rows_of]
        rows = measure(
            {
                "tapeflow": lambda x=x, y=y: step(params, x, y),
                "NumPy by hand": lambda x=x, y=y: network_by_hand(params, x, y),
                "njit loop by hand": lambda x=x, y=y: network_by_loop(params, x, y),
                "HIPS autograd": network_by_autograd(params, x, y),
            },
            "NumPy by hand",
            # Sums over the days, in three orders; each term has some thirty roundings.
            (30 + days) * 2.0**-52,
            seconds=2.0,
        )
        report(f"weather network, {title}", rows, "tapeflow", days, "day")


if __name__ == "__main__":
    main()
