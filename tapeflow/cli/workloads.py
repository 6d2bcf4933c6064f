"""What ``tapeflow bench`` measures: functions, and their gradients by hand in NumPy.

The hand-written gradients share no code with the library: each is the chain rule worked out on
paper for its function alone. They say whether ours are right, and what they are worth.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tapeflow as tpf


@dataclass(frozen=True)
class Workload:
    """ours, by_hand: take nothing, and return a value and gradients, in any structure.

    samples: how many values and gradients of one sample that is. tolerance: how far the two may be
    apart, relative to the largest number; it is said why, where they are made.
    """

    name: str
    ours: Callable[[], Any]
    by_hand: Callable[[], Any]
    samples: int
    tolerance: float


def neuron() -> Workload:
    """The lecture's neuron, in one call."""
    w, x = (2.0, -3.0, -3.0), (-1.0, -2.0)

    def f(w: Any, x: Any) -> Any:
        return tpf.sigmoid(w[0] * x[0] + w[1] * x[1] + w[2])

    gradient = tpf.value_and_grad(f, argnums=(0, 1))

    def by_hand() -> Any:
        s = 1.0 / (1.0 + math.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))
        d = s * (1.0 - s)
        return s, ((d * x[0], d * x[1], d), (d * w[0], d * w[1]))

    # A dozen operations, each rounded once.
    return Workload("a neuron: one call", lambda: gradient(w, x), by_hand, 1, 1e-14)


def neurons() -> Workload:
    """The same for a batch, with the gradient summed."""
    n = 100_000
    rng = np.random.default_rng(0)
    w, x, y = np.array([2.0, -3.0, -3.0]), rng.standard_normal((n, 2)), rng.standard_normal(n)

    def loss(w: Any, x: Any, y: Any) -> Any:
        return (tpf.sigmoid(w[0] * x[0] + w[1] * x[1] + w[2]) - y) ** 2

    step = tpf.vmap(tpf.value_and_grad(loss), in_axes=(None, 0, 0), reduce="mean")

    def by_hand() -> Any:
        s = 1.0 / (1.0 + np.exp(-(x @ w[:2] + w[2])))
        d = 2.0 * (s - y) * s * (1.0 - s)
        return np.mean((s - y) ** 2), np.array([*(d @ x), d.sum()]) / n

    # Sums of 10^5 terms, in two orders: some roundings of their size.
    return Workload(f"a neuron: mean over {n:,} samples", lambda: step(w, x, y), by_hand, n, 1e-12)


def rosenbrock() -> Workload:
    """A long tape of numbers, one sample."""
    n = 1000
    x = np.random.default_rng(0).uniform(-1.0, 1.0, n)

    def f(x: Any) -> Any:
        total = 0.0
        for a, b in itertools.pairwise(x):
            total = total + 100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2
        return total

    gradient = tpf.value_and_grad(f)

    def by_hand() -> Any:
        a, b = x[:-1], x[1:]
        d = b - a * a
        g = np.zeros(n)
        g[:-1] += -400.0 * d * a - 2.0 * (1.0 - a)
        g[1:] += 200.0 * d
        return np.sum(100.0 * d**2 + (1.0 - a) ** 2), g

    # Sums of 10^3 terms in two orders.
    name = f"Rosenbrock: {n:,} numbers, one sample"
    return Workload(name, lambda: gradient(x), by_hand, 1, 1e-12)


def option() -> Workload:
    """Monte Carlo: price and Greeks of an Asian option, pathwise."""
    n, steps, rate = 20_000, 24, 0.03
    noise = np.random.default_rng(0).standard_normal((n, steps))
    dt = 1.0 / steps

    def payoff(spot: Any, volatility: Any, noise: Any) -> Any:
        s, total = spot, 0.0
        for k in range(steps):
            s = s * np.exp(
                (rate - 0.5 * volatility**2) * dt + volatility * math.sqrt(dt) * noise[k]
            )
            total = total + s
        return math.exp(-rate) * np.maximum(total / steps - 100.0, 0.0)

    price = tpf.vmap(
        tpf.value_and_grad(payoff, argnums=(0, 1)), in_axes=(None, None, 0), reduce="mean"
    )

    def by_hand() -> Any:
        spot, volatility = 100.0, 0.2
        log = np.cumsum(
            (rate - 0.5 * volatility**2) * dt + volatility * math.sqrt(dt) * noise, axis=1
        )
        s = spot * np.exp(log)
        mean = s.mean(axis=1)
        discount = math.exp(-rate) * (mean > 100.0)
        slopes = np.cumsum(-volatility * dt + math.sqrt(dt) * noise, axis=1)
        return np.mean(discount * (mean - 100.0)), (
            np.mean(discount * mean) / spot,
            np.mean(discount * (s * slopes).mean(axis=1)),
        )

    # Products of 24 factors and sums of 2 x 10^4 terms, in two orders.
    name = f"Asian option: mean over {n:,} paths"
    return Workload(name, lambda: price(100.0, 0.2, noise), by_hand, n, 1e-11)


def network() -> Workload:
    """A minibatch through a network, whole arrays."""
    rng = np.random.default_rng(0)
    n, sizes = 64, (32, 64, 10)
    x, y = rng.standard_normal((n, sizes[0])), np.eye(sizes[2])[rng.integers(0, sizes[2], n)]
    p = {
        "a": rng.standard_normal(sizes[:2]) / 6.0,
        "b": np.zeros(sizes[1]),
        "c": rng.standard_normal(sizes[1:]) / 8.0,
    }

    def loss(p: Any, x: Any, y: Any) -> Any:
        z = np.tanh(x @ p["a"] + p["b"]) @ p["c"]
        return np.mean(tpf.special.logsumexp(z, axis=1) - np.sum(z * y, axis=1))

    gradient = tpf.value_and_grad(loss)

    def by_hand() -> Any:
        h = np.tanh(x @ p["a"] + p["b"])
        z = h @ p["c"]
        top = z.max(axis=1, keepdims=True)
        e = np.exp(z - top)
        total = e.sum(axis=1, keepdims=True)
        dz = (e / total - y) / n
        dh = (dz @ p["c"].T) * (1.0 - h * h)
        value = np.mean((np.log(total) + top)[:, 0] - np.sum(z * y, axis=1))
        return value, {"a": x.T @ dh, "b": dh.sum(axis=0), "c": h.T @ dz}

    # Products of matrices, whose sums of 64 terms BLAS may take in any order.
    return Workload(f"network: a minibatch of {n}", lambda: gradient(p, x, y), by_hand, n, 1e-11)


def process() -> Workload:
    """The log likelihood of a Gaussian process: dense linear algebra."""
    n = 100
    t = np.linspace(0.0, 1.0, n)
    squares = (t[:, None] - t[None, :]) ** 2
    y = np.sin(6.0 * t) + 0.1 * np.random.default_rng(0).standard_normal(n)

    def loss(p: Any) -> Any:
        k = np.exp(p["size"]) * np.exp(-squares * np.exp(p["rate"]))
        factor = np.linalg.cholesky(k + np.exp(p["noise"]) * np.eye(n))
        z = tpf.linalg.solve_triangular(factor, y, lower=True)
        return 0.5 * z @ z + np.sum(np.log(np.diagonal(factor)))

    p = {"noise": -3.0, "rate": 3.0, "size": 0.0}
    gradient = tpf.value_and_grad(loss)

    def by_hand() -> Any:
        scale, rate, noise = math.exp(p["size"]), math.exp(p["rate"]), math.exp(p["noise"])
        k = scale * np.exp(-squares * rate)
        inverse = np.linalg.inv(k + noise * np.eye(n))
        a = inverse @ y
        slope = 0.5 * (inverse - np.outer(a, a))
        _, determinant = np.linalg.slogdet(k + noise * np.eye(n))
        return 0.5 * y @ a + 0.5 * determinant, {
            "noise": noise * np.trace(slope),
            "rate": np.sum(slope * k * -squares * rate),
            "size": np.sum(slope * k),
        }

    # The matrix has a condition of some 10^3, by which the roundings of 10^-16 grow, and traces of
    # 100 terms.
    return Workload(f"Gaussian process: {n} points", lambda: gradient(p), by_hand, 1, 1e-10)


WORKLOADS = (neuron, neurons, rosenbrock, option, network, process)
