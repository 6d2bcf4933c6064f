"""Lotka and Volterra's equations by 200 steps of Runge and Kutta: six gradients, an ensemble."""

from typing import Any

import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report
from benchmarks.peers import jax64, torch64

TRAJECTORIES = 100_000
STEPS, H = 200, 0.05

TOLERANCE = 1e-10
"""200 steps of some 60 roundings of 2**-53 are 1.3e-12, which a trajectory's own sensitivity to
its state, at most some tens here, multiplies."""


def step(p: Any, x: Any, y: Any) -> Any:
    a, b, c, d = p

    def f(x: Any, y: Any) -> Any:
        return a * x - b * x * y, c * x * y - d * y

    k1 = f(x, y)
    k2 = f(x + 0.5 * H * k1[0], y + 0.5 * H * k1[1])
    k3 = f(x + 0.5 * H * k2[0], y + 0.5 * H * k2[1])
    k4 = f(x + H * k3[0], y + H * k3[1])
    return (
        x + H / 6.0 * (k1[0] + 2.0 * k2[0] + 2.0 * k3[0] + k4[0]),
        y + H / 6.0 * (k1[1] + 2.0 * k2[1] + 2.0 * k3[1] + k4[1]),
    )


def loss(p: Any, start: Any) -> Any:
    x, y = start
    for _ in range(STEPS):
        x, y = step(p, x, y)
    return x * x + y * y


def by_jax(p: Any, start: Any) -> Contender | Missing:
    jax = jax64("JAX, scan over the steps")
    if isinstance(jax, Missing):
        return jax

    def scanned(p: Any, start: Any) -> Any:
        body = lambda s, _: (step(p, *s), None)  # noqa: E731
        (x, y), _ = jax.lax.scan(body, (start[0], start[1]), None, length=STEPS)
        return x * x + y * y

    f = jax.jit(jax.vmap(jax.value_and_grad(scanned, argnums=(0, 1))))
    args = jax.numpy.asarray(p), jax.numpy.asarray(start)

    def run() -> Any:
        value, (gp, gs) = jax.block_until_ready(f(*args))
        return value, gp, gs

    return run


def by_torch(p: Any, start: Any) -> Contender | Missing:
    torch = torch64("PyTorch, batched")
    if isinstance(torch, Missing):
        return torch

    def run() -> Any:
        columns = torch.from_numpy(p.T.copy()).requires_grad_(True)
        state = torch.from_numpy(start.T.copy()).requires_grad_(True)
        value = loss(tuple(columns), tuple(state))
        gp, gs = torch.autograd.grad(value.sum(), (columns, state))
        return value.detach().numpy(), gp.numpy().T, gs.numpy().T

    return run


def ensemble() -> tuple[Any, Any]:
    """Parameters, and where each trajectory starts."""
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1.5, (TRAJECTORIES, 4)) * [1.1, 0.4, 0.1, 0.4]
    return p, rng.uniform(5.0, 15.0, (TRAJECTORIES, 2))


def main() -> None:
    p, start = ensemble()

    def ours(tier: str, threads: int) -> Contender:
        mapped = tpf.vmap(tpf.value_and_grad(loss, argnums=(0, 1)))

        def run() -> Any:
            with tpf.config(tier=tier, threads=threads):
                value, (gp, gs) = mapped(p, start)
            return value, gp, gs

        return run

    rows = measure(
        {
            "tapeflow": ours("fused", 2),
            "tapeflow, one thread": ours("fused", 1),
            "tapeflow, interpreter only": ours("interpret", 2),
            "JAX, scan over the steps": by_jax(p, start),
            "PyTorch, batched": by_torch(p, start),
        },
        "tapeflow, interpreter only",
        TOLERANCE,
        repeats=5,
        seconds=1.0,
    )
    report("Lotka-Volterra, 100000 trajectories", rows, "tapeflow", TRAJECTORIES, "trajectory")


if __name__ == "__main__":
    main()
