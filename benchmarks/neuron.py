"""The lecture's neuron, f(w, x) = 1 / (1 + exp(-(w0 x0 + w1 x1 + w2))).

Value and gradient in w and x, for one sample from Python and for a batch of samples.
"""

import math
from typing import Any

import numba
import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report

W, X = (2.0, -3.0, -3.0), (-1.0, -2.0)
SAMPLES = 1_000_000

# Some ten roundings, and an exp of at most a few units in the last place, of numbers up to 1.
TOLERANCE = 20 * 2.0**-53


def neuron(w: Any, x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))


def by_hand(w: Any, x: Any) -> Any:
    """NumPy, on all samples at once: x of shape (n, 2)."""
    s = 1.0 / (1.0 + np.exp(-(w[0] * x[:, 0] + w[1] * x[:, 1] + w[2])))
    local = (1.0 - s) * s
    dw = np.stack([local * x[:, 0], local * x[:, 1], local], axis=1)
    dx = np.stack([local * w[0], local * w[1]], axis=1)
    return s, dw, dx


@numba.njit(parallel=True, error_model="numpy")
def by_loop(w: Any, x: Any) -> Any:  # pragma: no cover
    n = len(x)
    s, dw, dx = np.empty(n), np.empty((n, 3)), np.empty((n, 2))
    for i in numba.prange(n):
        v = 1.0 / (1.0 + math.exp(-(w[0] * x[i, 0] + w[1] * x[i, 1] + w[2])))
        local = (1.0 - v) * v
        s[i] = v
        dw[i, 0], dw[i, 1], dw[i, 2] = local * x[i, 0], local * x[i, 1], local
        dx[i, 0], dx[i, 1] = local * w[0], local * w[1]
    return s, dw, dx


def one_by_hand(w: Any, x: Any) -> Any:
    s = 1.0 / (1.0 + math.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))
    local = (1.0 - s) * s
    return s, (local * x[0], local * x[1], local), (local * w[0], local * w[1])


def autograd_single() -> Contender | Missing:
    try:
        import autograd
        import autograd.numpy as anp
    except ImportError:
        return Missing("HIPS autograd", "not installed: pip install autograd")
    w, x = np.array(W), np.array(X)
    g = autograd.value_and_grad(
        lambda p: 1.0 / (1.0 + anp.exp(-(p[0] * p[3] + p[1] * p[4] + p[2])))
    )
    both = np.concatenate([w, x])
    return lambda: g(both)


def autograd_batch(w: Any, x: Any) -> Contender | Missing:
    try:
        import autograd
        import autograd.numpy as anp
    except ImportError:
        return Missing("HIPS autograd", "not installed: pip install autograd")

    # One pass over the whole batch: each sample has its own copy of the weights.
    def total(w: Any, x: Any) -> Any:
        values = 1.0 / (1.0 + anp.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))
        return anp.sum(values), values

    def run() -> Any:
        weights, columns = np.repeat(w[:, None], len(x), axis=1), np.ascontiguousarray(x.T)
        vjp, values = autograd.make_vjp(lambda p: total(p[:3], p[3:])[1])(
            np.concatenate([weights, columns])
        )
        gradient = vjp(np.ones(len(x)))
        return values, gradient[:3].T, gradient[3:].T

    return run


def main() -> None:
    ours = tpf.value_and_grad(neuron, argnums=(0, 1))
    rows = measure(
        {
            "tapeflow": lambda: ours(W, X),
            "by hand in Python": lambda: one_by_hand(W, X),
            "HIPS autograd": autograd_single(),
        },
        "by hand in Python",
        TOLERANCE,
    )
    report("neuron, one call of value and gradient", rows, "tapeflow", 1, "call")

    w, x = np.array(W), np.random.default_rng(0).standard_normal((SAMPLES, 2))
    mapped = tpf.vmap(ours, in_axes=(None, 0))
    rows = measure(
        {
            "tapeflow": lambda: mapped(w, x),
            "NumPy by hand": lambda: by_hand(w, x),
            "njit loop by hand, parallel": lambda: by_loop(w, x),
            "HIPS autograd": autograd_batch(w, x),
        },
        "NumPy by hand",
        TOLERANCE,
        seconds=4.0,
    )
    report("neuron, value and gradients of a million samples", rows, "tapeflow", SAMPLES, "sample")

    summed = tpf.vmap(ours, in_axes=(None, 0), reduce="sum")

    def numpy_sum() -> Any:
        s, dw, dx = by_hand(w, x)
        return s.sum(), dw.sum(axis=0), dx.sum(axis=0)

    def loop_sum() -> Any:
        return _loop_sum(w, x)

    rows = measure(
        {
            "tapeflow": lambda: summed(w, x),
            "NumPy by hand": numpy_sum,
            "njit loop by hand, parallel": loop_sum,
        },
        "NumPy by hand",
        # Sums of a million terms, which NumPy and the loop add in another order.
        1000 * 2.0**-52,
        seconds=4.0,
    )
    report("neuron, summed gradient of a million samples", rows, "tapeflow", SAMPLES, "sample")


@numba.njit(parallel=True, error_model="numpy")
def _loop_sum(w: Any, x: Any) -> Any:  # pragma: no cover
    s = a = b = c = d = e = 0.0
    for i in numba.prange(len(x)):
        v = 1.0 / (1.0 + math.exp(-(w[0] * x[i, 0] + w[1] * x[i, 1] + w[2])))
        local = (1.0 - v) * v
        s += v
        a += local * x[i, 0]
        b += local * x[i, 1]
        c += local
        d += local * w[0]
        e += local * w[1]
    return s, (a, b, c), (d, e)


if __name__ == "__main__":
    main()
