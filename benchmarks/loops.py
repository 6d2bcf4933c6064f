"""Loops of one instruction: a million steps of an ODE, and Newton's method from many points."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, Row, measure, report, save
from benchmarks.lotka_volterra import step
from benchmarks.peers import jax64

STEPS = 1_000_000
SCALE = 1e-3
"""The steps of the ODE are Runge and Kutta's of length 0.05, in slow time."""

P, START = (1.1 * SCALE, 0.4 * SCALE, 0.1 * SCALE, 0.4 * SCALE), (10.0, 5.0)

TOLERANCE = 1e-9
"""A million steps of some 60 roundings of 2**-53 are 7e-9 if all go one way, and 7e-12 if they do
not; contenders that sum in other orders differ by that."""

POINTS = 100_000
CLOSE = 1e-10

NEWTON_TOLERANCE = 1e-12
"""Two methods that converge quadratically below 1e-10 differ by roundings of x."""


def ode(scan: Any, p: Any, start: Any) -> Any:
    (x, y), _ = scan(lambda state, _: (step(p, *state), None), start, None, length=STEPS)
    return x * x + y * y


def million_steps() -> None:
    ours = tpf.value_and_grad(lambda p, s: ode(tpf.scan, p, s), argnums=(0, 1))
    forward = tpf.function(lambda p, s: ode(tpf.scan, p, s))
    again = 1 << 20

    def within(max_memory: int | None) -> Contender:
        def run() -> Any:
            with tpf.config(max_memory=max_memory):
                return ours(P, START)

        return run

    assert np.array_equal(_flat(within(again)()), _flat(within(None)())), "a bit differs"
    contenders: dict[str, Contender | Missing] = {
        "tapeflow": within(None),
        "tapeflow, carries in 1 MiB": within(again),
    }
    jax = jax64("JAX, scan")
    if isinstance(jax, Missing):
        contenders["JAX, scan"] = jax
    else:
        f = jax.jit(jax.value_and_grad(lambda p, s: ode(jax.lax.scan, p, s), argnums=(0, 1)))
        contenders["JAX, scan"] = lambda: jax.block_until_ready(f(P, START))
    rows = measure(contenders, "tapeflow", TOLERANCE, repeats=3, seconds=1.0)
    report("A million steps of an ODE, value and gradient", rows, "tapeflow", STEPS, "step")
    sweep = min(_seconds(lambda: forward(P, START)) for _ in range(5))
    kept, limited = (row.fastest for row in rows[:2] if isinstance(row, Row))
    peaks = {name: _in_a_process(_peak, limit) for name, limit in PEAKS.items()}
    lines = {
        "forward sweep alone, ns a step": 1e9 * sweep / STEPS,
        "carries computed again, over carries kept": limited / kept,
        **{f"{name}, MB at the peak": peak for name, (peak, _) in peaks.items()},
        **{f"{name}, MB more than before": more for name, (_, more) in peaks.items()},
    }
    Console(width=110).print(lines)
    save("A million steps of an ODE, memory", lines)


PEAKS = {"carries kept": None, "carries in 1 MiB": 1 << 20}


def _peak(limit: int | None) -> tuple[float, float]:
    """What a process needs at the most for the gradient, all of Python and Numba included.

    And by how much that is more than it had before; compiled code is loaded in between.
    """
    before = _memory("VmRSS")
    gradient = tpf.grad(lambda p: ode(tpf.scan, p, START))
    with tpf.config(max_memory=limit):
        gradient(P)
    peak = _memory("VmHWM")
    return peak, peak - before


def _memory(what: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1e3


def _in_a_process(function: Callable[..., Any], *args: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def _seconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def _flat(result: Any) -> Any:
    value, (p, s) = result
    return np.array([value, *p, *s])


# Newton's method.


def condition(state: Any) -> Any:
    return abs(state[1]) > CLOSE


def improved(m: Any, a: Any, state: Any) -> Any:
    x, _ = state
    e = m.exp(x)
    change = (e + x - a) / (e + 1.0)
    return x - change, change


def root(a: Any, start: Any) -> Any:
    """The x of exp(x) + x = a."""
    return tpf.while_loop(condition, lambda s: improved(np, a, s), (start, 1.0))[0]


def _with_rule(a: Any, start: Any) -> tuple[Any, Any]:
    x = root(a, start)
    return x, x


by_rule = tpf.custom_vjp(root)
by_rule.defvjp(_with_rule, lambda x, flowing: (flowing / (np.exp(x) + 1.0), 0.0 * flowing))


def trips(a: Any, start: Any) -> Any:
    def body(s: Any) -> Any:
        return (*improved(np, a, s[:2]), s[2] + 1.0)

    return tpf.while_loop(condition, body, (start, 1.0, 0.0))[2]


def newton_by_jax(a: Any, start: Any, most: int) -> dict[str, Contender | Missing]:
    names = "JAX, while_loop and a rule for its root", "JAX, unrolled"
    jax = jax64(names[0])
    if isinstance(jax, Missing):
        return {name: Missing(name, jax.reason) for name in names}
    jnp = jax.numpy

    @jax.custom_vjp
    def by_rule(a: Any, start: Any) -> Any:
        state = start, 1.0
        return jax.lax.while_loop(condition, lambda s: improved(jnp, a, s), state)[0]

    def forward(a: Any, start: Any) -> Any:
        x = by_rule(a, start)
        return x, x

    by_rule.defvjp(forward, lambda x, flowing: (flowing / (jnp.exp(x) + 1.0), 0.0 * flowing))

    def unrolled(a: Any, start: Any) -> Any:
        state = start, 1.0
        for _ in range(most):
            new, goes_on = improved(jnp, a, state), condition(state)
            state = tuple(jnp.where(goes_on, n, s) for n, s in zip(new, state, strict=True))  # type: ignore[assignment]
        return state[0]

    def contender(function: Any) -> Contender:
        f = jax.jit(jax.vmap(jax.value_and_grad(function)))
        args = jnp.asarray(a), jnp.asarray(start)
        return lambda: jax.block_until_ready(f(*args))

    return dict(zip(names, map(contender, (by_rule, unrolled)), strict=True))


class InOrder:
    """Results that are put in another order when they are compared: that is not timed."""

    def __init__(self, results: Any, order: Any = slice(None)) -> None:
        self.results, self.order = results, order

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.asarray(self.results, dtype)[..., self.order]


def newton() -> None:
    rng = np.random.default_rng(0)
    a, start = rng.uniform(1.0, 5.0, POINTS), rng.uniform(-0.5, 9.0, POINTS)
    n = tpf.vmap(trips)(a, start)
    order = np.argsort(n, kind="stable")
    mapped = tpf.vmap(tpf.value_and_grad(root))
    value, ruled = tpf.vmap(root), tpf.vmap(tpf.value_and_grad(by_rule))
    contenders: dict[str, Contender | Missing] = {
        "tapeflow": lambda: mapped(a, start),
        "tapeflow, and a rule for its root": lambda: ruled(a, start),
        **newton_by_jax(a, start, int(n.max())),
    }
    rows = measure(contenders, "tapeflow", NEWTON_TOLERANCE, repeats=9, seconds=1.0)
    title = f"Newton's method, {POINTS} points, {int(n.min())} to {int(n.max())} steps"
    report(f"{title}, value and gradient", rows, "tapeflow", POINTS, "point")
    sorted_a, sorted_start = a[order], start[order]
    for what, function in (("value", value), ("value and gradient", mapped)):
        expected = np.asarray(function(a, start))[..., order]
        assert np.array_equal(np.asarray(function(sorted_a, sorted_start)), expected)
        lanes: dict[str, Contender | Missing] = {
            "as they come": lambda f=function: InOrder(f(a, start), order),
            "sorted by their steps": lambda f=function: InOrder(f(sorted_a, sorted_start)),
        }
        rows = measure(lanes, "as they come", 1e-15, repeats=9, seconds=0.5)
        report(f"{title}, in what order, {what}", rows, "sorted by their steps", POINTS, "point")


def main() -> None:
    million_steps()
    newton()


if __name__ == "__main__":
    main()
