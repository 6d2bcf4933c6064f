"""Derivatives beyond one gradient: Hessian products, Jacobians, high orders; and what a gradient
costs over its function.
"""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import optree

import tapeflow as tpf
from benchmarks import bundle_adjustment, gmm, heston, libor, lotka_volterra, single
from benchmarks.harness import Contender, Missing, Row, measure, report, save
from benchmarks.peers import casadi, jax64
from tapeflow.engine.programs import sample_program
from tapeflow.ops import COMPILED
from tapeflow.tracers import apply, is_traced

POINTS = 100_000

TOLERANCE = 1e-10
"""Sums of a hundred thousand terms of both signs, of some hundred roundings each, in another order
for each contender: sqrt(1e5) * 100 * 2**-53 is 4e-12; thirty times that."""

WIDTH, FEATURES = 1000, 20


# Hessian-vector products, summed over points.


def logistic(w: Any, x: Any, y: Any) -> Any:
    """One point, written with numbers."""
    margin = 0.0
    for k in range(FEATURES):
        margin = margin + w[k] * x[k]
    return tpf.softplus(-y * margin)


def logistic_by_arrays(w: Any, x: Any, y: Any) -> Any:
    """All points at once."""
    return np.sum(tpf.softplus(-y * (x @ w)))


def by_jax(f: Callable[..., Any], p: Any, v: Any, data: Any, product: bool) -> Any:
    """JAX's gradient of a function of (parameters, *data), or its product with the Hessian."""
    jax = jax64("JAX")
    if isinstance(jax, Missing):
        return jax
    p, v, data = jax.tree.map(jax.numpy.asarray, (p, v, data))
    gradient = jax.grad(f)
    if product:
        run = jax.jit(lambda p, v, *d: jax.jvp(lambda p: gradient(p, *d), (p,), (v,))[1])
        return lambda: jax.block_until_ready(run(p, v, *data))
    run = jax.jit(gradient)
    return lambda: jax.block_until_ready(run(p, *data))


def products(
    title: str, one: Any, others: dict[str, tuple[Any, Any]], p: Any, v: Any, data: Any, jax_f: Any
) -> None:
    """The gradient and the Hessian's product, side by side.

    one: the function of a point; others: contenders of ours that are written in another way, as
    pairs of a gradient and a product.
    """
    n, shared = len(p), (None,) * len(p)
    argnums = tuple(range(n))
    axes = (0,) * len(data)
    gradient = tpf.vmap(tpf.grad(one, argnums=argnums), in_axes=(*shared, *axes), reduce="sum")

    def product_of_one(*args: Any) -> Any:
        own, vectors, rest = args[:n], args[n : 2 * n], args[2 * n :]
        found = tpf.hvp(lambda *q: one(*q, *rest), own, vectors)
        return found if n > 1 else (found,)

    product = tpf.vmap(product_of_one, in_axes=(*shared, *shared, *axes), reduce="sum")
    fused = {"tier": "fused"}

    def within(call: Callable[[], Any]) -> Contender:
        def run() -> Any:
            with tpf.config(**fused):
                return call()

        return run

    first = {
        "tapeflow": within(lambda: gradient(*p, *data)),
        **{f"tapeflow, {name}": within(own[0]) for name, own in others.items()},
        "JAX": by_jax(jax_f, p, v, data, False),
    }
    second = {
        "tapeflow": within(lambda: product(*p, *v, *data)),
        **{f"tapeflow, {name}": within(own[1]) for name, own in others.items()},
        "JAX": by_jax(jax_f, p, v, data, True),
    }
    gradients = measure(first, "JAX", TOLERANCE, repeats=5, seconds=1.0)
    rows = measure(second, "JAX", TOLERANCE, repeats=5, seconds=1.0)
    report(f"Gradient of a {title}, 100000 points, summed", gradients, "tapeflow", POINTS, "point")
    report(f"Hessian product of a {title}, 100000 points", rows, "tapeflow", POINTS, "point")
    for a, b in zip(gradients, rows, strict=True):
        if isinstance(a, Row) and isinstance(b, Row):
            print(f"{b.name}: the product takes {b.median / a.median:.2f} gradients")


def hessian_products() -> None:
    rng = np.random.default_rng(0)
    k, d = gmm.COMPONENTS, gmm.DIMENSIONS
    p = rng.normal(size=k), rng.normal(size=(k, d)), 0.3 * rng.normal(size=(k, d))
    v = tuple(rng.normal(size=part.shape) for part in p)
    x = rng.normal(size=(POINTS, d))
    arrays = (None, None, None, 0)
    gradient = tpf.vmap(tpf.grad(gmm.by_arrays, argnums=(0, 1, 2)), in_axes=arrays, reduce="sum")
    product = tpf.vmap(
        lambda a, m, s, va, vm, vs, x: tpf.hvp(
            lambda *q: gmm.by_arrays(*q, x), (a, m, s), (va, vm, vs)
        ),
        in_axes=(*[None] * 6, 0),
        reduce="sum",
    )

    def likelihood(q: Any, x: Any) -> Any:
        import jax

        alpha, means, logs = q
        jnp = jax.numpy
        scaled = (x[:, None] - means) * jnp.exp(-logs)
        inner = alpha - jnp.sum(logs, axis=1) - 0.5 * jnp.sum(scaled * scaled, axis=2)
        logsumexp = jax.scipy.special.logsumexp
        return jnp.sum(logsumexp(inner, axis=1) - logsumexp(alpha))

    others = {"written with arrays": (lambda: gradient(*p, x), lambda: product(*p, *v, x))}
    products("Gaussian mixture", gmm.by_numbers, others, p, v, (x,), likelihood)

    w, u = rng.normal(size=FEATURES), rng.normal(size=FEATURES)
    x = rng.normal(size=(POINTS, FEATURES))
    y = np.sign(x @ rng.normal(size=FEATURES) + rng.normal(size=POINTS))
    of_all = tpf.grad(logistic_by_arrays)
    product_of_all = tpf.function(
        lambda w, u, x, y: tpf.hvp(lambda w: logistic_by_arrays(w, x, y), (w,), (u,))
    )

    def loss(q: Any, x: Any, y: Any) -> Any:
        import jax

        return jax.numpy.sum(jax.nn.softplus(-y * (x @ q[0])))

    others = {
        "one sample of arrays": (lambda: (of_all(w, x, y),), lambda: (product_of_all(w, u, x, y),))
    }
    products("logistic regression", logistic, others, (w,), (u,), (x, y), loss)


# A dense Jacobian.


def jacobians() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)
    x = rng.normal(size=WIDTH)

    def layers(x: Any, m: Any = np) -> Any:
        y = m.tanh(a @ x)
        return m.sin(a.T @ y) + x * y

    def ours(mode: str) -> Contender:
        jacobian = tpf.jacobian(layers, mode=mode)
        return lambda: jacobian(x)

    def peer(forward: bool) -> Contender | Missing:
        jax = jax64("JAX")
        if isinstance(jax, Missing):
            return jax
        transform = jax.jacfwd if forward else jax.jacrev
        run = jax.jit(transform(lambda x: layers(x, jax.numpy)))
        given = jax.numpy.asarray(x)
        return lambda: jax.block_until_ready(run(given))

    def by_casadi() -> Contender | Missing:
        ca = casadi("CasADi")
        if isinstance(ca, Missing):
            return ca
        s = ca.MX.sym("x", WIDTH)
        y = ca.tanh(ca.mtimes(ca.DM(a), s))
        f = ca.sin(ca.mtimes(ca.DM(a.T), y)) + s * y
        own = ca.Function("j", [s], [ca.jacobian(f, s)])
        return lambda: own(x).full()

    rows = measure(
        {
            "tapeflow": ours("auto"),
            "tapeflow, reverse": ours("reverse"),
            "JAX, jacfwd": peer(True),
            "JAX, jacrev": peer(False),
            "CasADi, MX": by_casadi(),
        },
        "JAX, jacrev",
        1e-12,  # two sums of a thousand terms, of one rounding each: 2 * sqrt(1e3) * 2**-53 * 30
        repeats=5,
        seconds=1.0,
    )
    report("Dense Jacobian, 1000 x 1000", rows, "tapeflow", 1, "Jacobian")


# High orders.


def short(x: Any, m: Any) -> Any:
    return m.sin(x * m.exp(-x))


def of_fifty(x: Any, m: Any) -> Any:
    """Fifty operations."""
    for k in range(10):
        x = m.sin(x * m.exp(-x)) + m.tanh(x) / (1.5 + 0.1 * k)
    return x


def orders() -> None:
    for title, f in (("sin(x exp(-x))", short), ("a function of 50 operations", of_fifty)):
        with mpmath.workdps(60):
            exact = float(720 * mpmath.taylor(lambda x, f=f: f(x, mpmath), mpmath.mpf(0.7), 6)[6])
        series = tpf.function(
            lambda x, f=f: 720.0 * tpf.directional_taylor(lambda x: f(x, np), x, 1.0, 6)[6]
        )
        nested: Any = lambda x, f=f: f(x, np)  # noqa: E731
        for _ in range(6):
            nested = tpf.grad(nested)
        jax = jax64("JAX")
        contenders: dict[str, Any] = {
            "mpmath": lambda exact=exact: exact,
            "tapeflow, series": lambda own=series: own(0.7),
            "tapeflow, grad six times": lambda own=nested: own(0.7),
            "JAX, grad six times": jax,
        }
        if not isinstance(jax, Missing):
            contenders["JAX, grad six times"] = jax_nested(f, jax)
        # The bar: ten digits of the sixth derivative.
        rows = measure(contenders, "mpmath", 1e-10)
        rows = [row for row in rows if row.name != "mpmath"]
        report(f"Sixth derivative of {title}", rows, "tapeflow, series", 1, "derivative")


def jax_nested(f: Callable[..., Any], jax: Any) -> Contender:
    """It compiles for minutes, where the function has fifty operations."""
    deep: Any = lambda x: f(x, jax.numpy)  # noqa: E731
    for _ in range(6):
        deep = jax.grad(deep)
    compiled = jax.jit(deep)
    return lambda: compiled(0.7).block_until_ready()


# What a gradient costs over its function.


def chain(op: Any) -> Callable[[Any], Any]:
    """An op again and again, on numbers that stay where it is smooth."""

    def f(x: Any) -> Any:
        total = 0.0
        for k in range(64):
            operands = [x[(k + j) % 8] for j in range(op.arity)]
            traced = any(map(is_traced, operands))
            total = total + (apply(op, operands) if traced else op.rule(*operands)[0])
        return total

    return f


def ratios() -> None:
    """Forward and reverse over forward, in batches by fused kernels, and on one sample."""
    rng = np.random.default_rng(0)
    n = 20_000
    z = rng.standard_normal((n, 2 * heston.STEPS))
    trajectories, starts = lotka_volterra.ensemble()
    k, d = gmm.COMPONENTS, gmm.DIMENSIONS
    mixture = rng.normal(size=k), rng.normal(size=(k, d)), 0.3 * rng.normal(size=(k, d))
    rates, paths = np.full(libor.RATES, 0.05), 0.3 + rng.standard_normal((2000, libor.STEPS))
    sums: dict[str, tuple[Any, Any, Any, Any]] = {
        "bundle adjustment": (
            lambda *p: bundle_adjustment.residual(p), tuple(range(17)), 0,
            bundle_adjustment.columns(n),
        ),
        "Heston": (heston.payoff, 0, (None, 0), (heston.MARKET, z)),
        "Lotka-Volterra": (
            lotka_volterra.loss, (0, 1), 0, (trajectories[:n], starts[:n])
        ),
        "Gaussian mixture": (
            gmm.by_numbers, (0, 1, 2), (None, None, None, 0), (*mixture, rng.normal(size=(n, d)))
        ),
        "LIBOR": (
            libor.portfolio, (0, 1), (None, None, 0), (rates, 4.0 * rates, paths)
        ),
    }  # fmt: skip
    x = rng.uniform(0.2, 0.8, (n, 8))
    for op in COMPILED:
        if not op.zero_derivative:
            own = x + 1.0 if op.name == "acosh" else x
            sums[f"64 x {op.name}"] = (chain(op), 0, 0, (own,))
    found: dict[str, float] = {}
    for name, (f, argnums, axes, args) in sums.items():
        value = tpf.vmap(f, in_axes=axes, reduce="sum")
        both = tpf.vmap(tpf.value_and_grad(f, argnums=argnums), in_axes=axes, reduce="sum")
        found[name] = ratio(lambda: value(*args), lambda: both(*args))  # noqa: B023
    x = rng.uniform(0.9, 1.1, 10_000)
    alone: dict[str, tuple[Any, Any]] = {
        "Rosenbrock": (single.rosenbrock, (x,)),
        "Speelpenning": (single.speelpenning, (x,)),
        **{name: (f, sample(axes, args)) for name, (f, _, axes, args) in sums.items()},
    }
    for name, (f, args) in alone.items():
        found[f"{name}, one sample"] = sweeps(tpf.function(f).tape(*args), args)
    for name, times in found.items():
        print(f"{name}: {times:.2f} times its function")
    print(f"the most: {max(found.values()):.2f}")
    save("Gradients over their functions", {"ratios": found})


def sample(axes: Any, args: Any) -> tuple[Any, ...]:
    """The first sample's arguments."""
    each = axes if isinstance(axes, tuple) else (axes,) * len(args)

    def first(arg: Any) -> Any:
        return tuple(map(first, arg)) if isinstance(arg, tuple) else arg[0]

    found = [arg if axis is None else first(arg) for arg, axis in zip(args, each, strict=True)]
    return tuple(float(arg) if np.ndim(arg) == 0 else arg for arg in found)


def sweeps(tape: Any, args: Any) -> float:
    """The same of the compiled sweeps over one sample alone, without Python's part of a call."""
    leaves = optree.tree_leaves(args)
    contenders = {}
    for name, wanted in (("value", None), ("value and gradient", slice(0, tape.n_inputs))):
        program = sample_program(tape, wanted)
        workspace = program.new_workspace()
        tape.input_structure.pack(leaves, workspace.inputs)

        def run(program: Any = program, workspace: Any = workspace) -> Any:
            program.run(workspace)
            return workspace.outputs

        contenders[name] = run
    rows = measure(contenders, "value", 0.0, repeats=5, seconds=0.1)
    a, b = (row for row in rows if isinstance(row, Row))
    return b.fastest / a.fastest


def ratio(value: Contender, both: Contender) -> float:
    def fused(call: Contender, first: bool) -> Contender:
        def run() -> Any:
            with tpf.config(tier="fused"):
                return call()[0] if first else call()

        return run

    # The value beside a gradient has the same bits but for how its sum is taken.
    rows = measure(
        {"value": fused(value, False), "value and gradient": fused(both, True)},
        "value",
        1e-13,
        repeats=5,
        seconds=0.1,
    )
    a, b = (row for row in rows if isinstance(row, Row))
    return b.fastest / a.fastest


def main() -> None:
    orders()
    jacobians()
    hessian_products()
    ratios()


if __name__ == "__main__":
    main()
