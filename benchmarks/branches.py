"""Branches: a barrier option, Newton's method to a tolerance, and what guards cost.

Each function is plain Python with `if` and `while`. Peers run the same function written without.
"""

import time
from typing import Any

import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report
from benchmarks.peers import jax64

# Some roundings of 2**-53 for each of the 50 steps, in sums over a million paths of like sign.
TOLERANCE = 1e-12

PATHS, STEPS, DT = 1_000_000, 50, 1.0 / 50
STRIKE, REBATE = 100.0, 3.0
MARKET = np.array([100.0, 0.25, 0.03, 85.0])
"""Spot, volatility, rate, barrier."""


def barrier(market: Any, z: Any) -> Any:
    """A call that is knocked out, for a rebate, at the first step below the barrier."""
    s, volatility, rate, level = market
    drift, scale = (rate - 0.5 * volatility * volatility) * DT, volatility * np.sqrt(DT)
    for k in range(STEPS):
        s = s * np.exp(drift + scale * z[k])
        if s <= level:
            return REBATE * np.exp(-rate * (DT * (k + 1)))
    return np.exp(-rate) * max(s - STRIKE, 0.0)


def barrier_by_jax(z: Any, scanned: bool) -> Contender | Missing:
    name = "JAX, where by hand, " + ("scan" if scanned else "unrolled")
    jax = jax64(name)
    if isinstance(jax, Missing):
        return jax
    m = jax.numpy

    def one(market: Any, z: Any) -> Any:
        s, volatility, rate, level = market
        drift, scale = (rate - 0.5 * volatility**2) * DT, volatility * np.sqrt(DT)

        def step(state: Any, given: Any) -> Any:
            s, alive, paid = state
            z, at = given
            s = s * m.exp(drift + scale * z)
            out = alive & (s <= level)
            return (s, alive & ~out, m.where(out, REBATE * m.exp(-rate * at), paid)), None

        state, times = (s, True, 0.0), DT * np.arange(1.0, STEPS + 1)
        if scanned:
            state, _ = jax.lax.scan(step, state, (z, times))
        else:
            for k in range(STEPS):
                state, _ = step(state, (z[k], times[k]))
        s, alive, paid = state
        return m.where(alive, m.exp(-rate) * m.maximum(s - STRIKE, 0.0), paid)

    mean = lambda market, z: m.mean(jax.vmap(one, (None, 0))(market, z))  # noqa: E731
    f = jax.jit(jax.value_and_grad(mean))
    args = m.asarray(MARKET), m.asarray(z)
    return lambda: jax.block_until_ready(f(*args))


def run_barrier() -> None:
    z = np.random.default_rng(0).standard_normal((PATHS, STEPS))

    def ours(tier: str, threads: int) -> Contender:
        mapped = tpf.vmap(tpf.value_and_grad(barrier), in_axes=(None, 0), reduce="mean")

        def run() -> Any:
            with tpf.config(tier=tier, threads=threads):
                return mapped(MARKET, z)

        return run

    rows = measure(
        {
            "tapeflow": ours("auto", 2),
            "tapeflow, one thread": ours("auto", 1),
            "JAX, where by hand, scan": barrier_by_jax(z, True),
            "JAX, where by hand, unrolled": barrier_by_jax(z, False),
        },
        "tapeflow",
        TOLERANCE,
        repeats=3,
        seconds=1.0,
    )
    report("barrier option, a million paths", rows, "tapeflow", PATHS, "path")


POINTS = 100_000

# The derivative of an iteration lags behind its value by one step: that of the root differs from it
# by the last step, below 1e-13, times the equation's curvature over its slope, at most 9, times the
# root's own derivative, at most 10; and a root's rounding by as much.
NEWTON_TOLERANCE = 1e-10


def kepler(mean: Any, e: Any) -> Any:
    """The eccentric anomaly, by Newton's method to a tolerance."""
    x = mean
    while True:
        step = (x - e * np.sin(x) - mean) / (1.0 - e * np.cos(x))
        x = x - step
        if abs(step) < 1e-13:
            return x


def kepler_by_loop(mean: Any, e: Any) -> Any:
    """The same with the loop as one instruction."""

    def improve(state: Any) -> Any:
        x, _ = state
        step = (x - e * np.sin(x) - mean) / (1.0 - e * np.cos(x))
        return x - step, step

    first = mean, 1.0 + 0.0 * mean
    return tpf.while_loop(lambda state: abs(state[1]) >= 1e-13, improve, first)[0]


def kepler_by_jax(mean: Any, e: Any, custom: bool) -> Contender | Missing:
    jax = jax64("JAX, while_loop with a custom rule" if custom else "JAX, 12 steps unrolled")
    if isinstance(jax, Missing):
        return jax
    m = jax.numpy

    def step(x: Any, mean: Any, e: Any) -> Any:
        return (x - e * m.sin(x) - mean) / (1.0 - e * m.cos(x))

    def solved(mean: Any, e: Any) -> Any:
        def body(state: Any) -> Any:
            x, _ = state
            change = step(x, mean, e)
            return x - change, change

        return jax.lax.while_loop(lambda s: m.abs(s[1]) >= 1e-13, body, (mean, 1.0))[0]

    def unrolled(mean: Any, e: Any) -> Any:
        x, going = mean, True
        for _ in range(12):
            change = step(x, mean, e)
            x = m.where(going, x - change, x)
            going = going & (m.abs(change) >= 1e-13)
        return x

    ruled = jax.custom_vjp(solved)

    def forward(mean: Any, e: Any) -> Any:
        x = solved(mean, e)
        return x, (x, e)

    def backward(kept: Any, flowing: Any) -> Any:
        x, e = kept
        slope = flowing / (1.0 - e * m.cos(x))
        return slope, slope * m.sin(x)

    ruled.defvjp(forward, backward)
    f = jax.jit(jax.vmap(jax.value_and_grad(ruled if custom else unrolled, (0, 1))))
    args = m.asarray(mean), m.asarray(e)
    return lambda: jax.block_until_ready(f(*args))


def kepler_sorted(mean: Any, e: Any) -> Contender:
    """The same work without branches: each trip count's own tape, on its points, side by side."""
    counts = np.zeros(len(mean), np.int64)
    x, going = mean.copy(), np.ones(len(mean), bool)
    while going.any():
        step = (x - e * np.sin(x) - mean) / (1.0 - e * np.cos(x))
        x = np.where(going, x - step, x)
        counts += going
        going &= np.abs(step) >= 1e-13
    groups = []
    for n in np.unique(counts).tolist():

        def fixed(mean: Any, e: Any, n: int = n) -> Any:
            x = mean
            for _ in range(n):
                x = x - (x - e * np.sin(x) - mean) / (1.0 - e * np.cos(x))
            return x

        fixed.__defaults__ = (n,)
        own = counts == n
        f = tpf.vmap(tpf.value_and_grad(lambda m, e, f=fixed: f(m, e), argnums=(0, 1)))
        groups.append((f, mean[own], e[own], np.flatnonzero(own)))
    print("iterations:", dict(zip(*np.unique(counts, return_counts=True), strict=True)))

    checks = iter([True])

    def run() -> Any:
        parts = [f(m, e) for f, m, e, _ in groups]
        if not next(checks, False):
            return parts
        # In the order of the points for the check alone, which is of the first call.
        value, slopes = np.empty(len(mean)), np.empty((2, len(mean)))
        for (_, _, _, own), (v, g) in zip(groups, parts, strict=True):
            value[own], slopes[:, own] = v, g
        return value, (slopes[0], slopes[1])

    return run


def run_newton() -> None:
    rng = np.random.default_rng(0)
    mean, e = rng.uniform(0.05, 3.0, POINTS), rng.uniform(0.0, 0.9, POINTS)
    mapped, by_loop = (
        tpf.vmap(tpf.value_and_grad(f, argnums=(0, 1))) for f in (kepler, kepler_by_loop)
    )
    rows = measure(
        {
            "tapeflow": lambda: mapped(mean, e),
            "tapeflow, while_loop": lambda: by_loop(mean, e),
            "tapeflow, sorted by trip count": kepler_sorted(mean, e),
            "JAX, while_loop with a custom rule": kepler_by_jax(mean, e, True),
            "JAX, 12 steps unrolled": kepler_by_jax(mean, e, False),
        },
        "tapeflow",
        NEWTON_TOLERANCE,
        repeats=5,
        seconds=1.0,
    )
    report("Newton to a tolerance, 100000 points", rows, "tapeflow", POINTS, "point")


def chain(guarded: bool, n: int = 50) -> Any:
    """Twenty operations for each of n guards, which always hold."""

    def f(x: Any, y: Any) -> Any:
        for _ in range(n):
            for _ in range(5):
                x = x + 0.01 * y
                y = y - 0.01 * x
            if guarded and x > 1e6:
                return y
        return x * y

    return f


def run_guards() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, POINTS), rng.uniform(-1, 1, POINTS)
    for tier in ("interpret", "fused"):
        for derivative in (False, True):
            own = [tpf.value_and_grad(f) if derivative else f for f in map(chain, (True, False))]
            mapped = [tpf.vmap(f) for f in own]

            def run(f: Any, tier: str = tier) -> Contender:
                def call() -> Any:
                    with tpf.config(tier=tier):
                        return f(x, y)

                return call

            rows = measure(
                {"with guards": run(mapped[0]), "without": run(mapped[1])},
                "without",
                0.0,
                repeats=9,
                seconds=1.0,
            )
            what = "value and gradient" if derivative else "value"
            report(
                f"a guard every 20 operations, {what}, {tier}", rows, "without", POINTS, "sample"
            )


def main() -> None:
    run_guards()
    run_newton()
    run_barrier()


if __name__ == "__main__":
    begin = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begin:.0f} s")
