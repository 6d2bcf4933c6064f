"""The log likelihood of a Gaussian mixture, and its gradient summed over ten thousand points.

Ten components in 25 dimensions, each with a weight, a mean and the logarithms of its scales.
"""

from typing import Any

import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report
from benchmarks.peers import jax64, torch64

POINTS, COMPONENTS, DIMENSIONS = 10_000, 10, 25

TOLERANCE = 1e-11
"""Sums of ten thousand terms, in another order for each contender, each of some thirty roundings:
sqrt(1e4) * 30 * 2**-53 is 3e-13; thirty times that, as terms of both signs cancel."""


def by_arrays(alpha: Any, means: Any, logs: Any, x: Any) -> Any:
    """One point, written with arrays."""
    scaled = (x - means) * np.exp(-logs)
    inner = alpha - np.sum(logs, axis=1) - 0.5 * np.sum(scaled * scaled, axis=1)
    top = np.max(inner)
    return top + np.log(np.sum(np.exp(inner - top))) - np.log(np.sum(np.exp(alpha)))


def by_numbers(alpha: Any, means: Any, logs: Any, x: Any) -> Any:
    """One point, written with numbers."""
    inner = []
    for k in range(COMPONENTS):
        total = alpha[k]
        for d in range(DIMENSIONS):
            scaled = (x[d] - means[k][d]) * np.exp(-logs[k][d])
            total = total - logs[k][d] - 0.5 * (scaled * scaled)
        inner.append(total)
    top = inner[0]
    for own in inner[1:]:
        top = np.maximum(top, own)
    total, weight = 0.0, 0.0
    for own, a in zip(inner, alpha, strict=True):
        total, weight = total + np.exp(own - top), weight + np.exp(a)
    return top + np.log(total) - np.log(weight)


def by_jax(*data: Any) -> Contender | Missing:
    jax = jax64("JAX")
    if isinstance(jax, Missing):
        return jax
    jnp = jax.numpy

    def likelihood(alpha: Any, means: Any, logs: Any, x: Any) -> Any:
        scaled = (x[:, None] - means) * jnp.exp(-logs)
        inner = alpha - jnp.sum(logs, axis=1) - 0.5 * jnp.sum(scaled * scaled, axis=2)
        logsumexp = jax.scipy.special.logsumexp
        return jnp.sum(logsumexp(inner, axis=1) - logsumexp(alpha))

    f = jax.jit(jax.value_and_grad(likelihood, argnums=(0, 1, 2)))
    args = [jnp.asarray(a) for a in data]

    def run() -> Any:
        value, gradient = jax.block_until_ready(f(*args))
        return value, *gradient

    return run


def by_torch(*data: Any) -> Contender | Missing:
    torch = torch64("PyTorch")
    if isinstance(torch, Missing):
        return torch
    *parameters, x = [torch.from_numpy(a) for a in data]

    def run() -> Any:
        own = [t.detach().requires_grad_(True) for t in parameters]
        alpha, means, logs = own
        scaled = (x[:, None] - means) * torch.exp(-logs)
        inner = alpha - logs.sum(1) - 0.5 * (scaled * scaled).sum(2)
        value = (torch.logsumexp(inner, 1) - torch.logsumexp(alpha, 0)).sum()
        gradient = torch.autograd.grad(value, own)
        return value.item(), *(g.numpy() for g in gradient)

    return run


def main() -> None:
    rng = np.random.default_rng(0)
    alpha, means = rng.normal(size=COMPONENTS), rng.normal(size=(COMPONENTS, DIMENSIONS))
    logs = 0.3 * rng.normal(size=(COMPONENTS, DIMENSIONS))
    x = rng.normal(size=(POINTS, DIMENSIONS))

    def ours(function: Any, tier: str = "fused") -> Contender:
        gradient = tpf.value_and_grad(function, argnums=(0, 1, 2))
        mapped = tpf.vmap(gradient, in_axes=(None, None, None, 0), reduce="sum")

        def run() -> Any:
            with tpf.config(tier=tier):
                value, gradient = mapped(alpha, means, logs, x)
            return value, *gradient

        return run

    rows = measure(
        {
            "tapeflow": ours(by_numbers),
            "tapeflow, interpreter only": ours(by_numbers, "interpret"),
            "tapeflow, written with arrays": ours(by_arrays),
            "JAX": by_jax(alpha, means, logs, x),
            "PyTorch": by_torch(alpha, means, logs, x),
        },
        "PyTorch",
        TOLERANCE,
        seconds=2.0,
    )
    report("Gaussian mixture, 10000 points, summed", rows, "tapeflow", POINTS, "point")


if __name__ == "__main__":
    main()
