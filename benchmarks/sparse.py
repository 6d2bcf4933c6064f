"""Sparse derivatives: bundle adjustment's global Jacobian, Hessians of 10^5 variables, colours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from rich.console import Console
from rich.table import Table

import tapeflow as tpf
from benchmarks import bundle_adjustment
from benchmarks.harness import Contender, Missing, measure, report, save
from benchmarks.peers import casadi, jax64
from tapeflow.sparsity import color_both, color_columns, color_symmetric

OBSERVATIONS, CAMERAS, POINTS = 1_000_000, 1_000, 100_000
VARIABLES = 100_000
SIDE = 316
"""Points along a side of the net: 316 squared is some 10^5."""

TOLERANCE = 1e-12
"""As for `bundle_adjustment`. An entry of a Hessian here takes fewer roundings."""


# Bundle adjustment: blocks of 2 by 15, in a matrix of two million rows.


def problem() -> tuple[Any, Any]:
    """Cameras, points, weights and what was seen; and which camera and point each row is of."""
    rng = np.random.default_rng(0)
    p = bundle_adjustment.columns(OBSERVATIONS)
    cameras = np.stack([column[:CAMERAS] for column in p[:11]], axis=1)
    points = np.stack([column[:POINTS] for column in p[11:14]], axis=1)
    seen = np.stack(p[15:], axis=1)
    of_camera = np.sort(rng.integers(0, CAMERAS, OBSERVATIONS))
    of_point = rng.integers(0, POINTS, OBSERVATIONS)
    return (cameras, points, p[14], seen), (of_camera, of_point, np.arange(OBSERVATIONS), None)


def one(m: Any) -> Callable[..., Any]:
    def errors(camera: Any, point: Any, weight: Any, seen: Any) -> Any:
        own = [camera[k] for k in range(11)] + [point[k] for k in range(3)]
        return bundle_adjustment.errors((*own, weight, seen[0], seen[1]), m)

    return errors


def scattered() -> None:
    args, indices = problem()
    plan = tpf.scatter_jacobian(one(np), indices, *args)
    sample = tpf.scatter_jacobian(one(np), indices, *args)

    def ours(plan: Any, tier: str) -> Contender:
        def run() -> Any:
            with tpf.config(tier=tier):
                return plan(*args).data

        return run

    def by_jax() -> Contender | Missing:
        jax = jax64("JAX, vmap(jacrev)")
        if isinstance(jax, Missing):
            return jax
        jnp = jax.numpy
        block = jax.vmap(jax.jacrev(lambda *own: jnp.stack(one(jnp)(*own)), argnums=(0, 1, 2)))

        @jax.jit
        def entries(cameras: Any, points: Any, weights: Any, seen: Any, i: Any, j: Any) -> Any:
            a, b, c = block(cameras[i], points[j], weights, seen)
            return jnp.concatenate([a, b, c[:, :, None]], axis=2)

        own = [jnp.asarray(x) for x in (*args, *indices[:2])]
        return lambda: jax.block_until_ready(entries(*own))

    rows = measure(
        {
            "tapeflow": ours(plan, "fused"),
            "tapeflow, interpreter only": ours(sample, "interpret"),
            "JAX, vmap(jacrev)": by_jax(),
        },
        "tapeflow, interpreter only",
        TOLERANCE,
        repeats=7,
        seconds=1.0,
    )
    title = "bundle adjustment, the global Jacobian of a million observations"
    report(title, rows, "tapeflow", OBSERVATIONS, "observation")


# Hessians.


def rosenbrock(x: Any, m: Any = np) -> Any:
    return m.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_by_terms(x: Any, m: Any = np) -> Any:
    """The same, a number at a time."""
    total = 0.0
    for k in range(len(x) - 1):
        total = total + 100.0 * (x[k + 1] - x[k] ** 2) ** 2 + (1.0 - x[k]) ** 2
    return total


def net(u: Any, m: Any = np) -> Any:
    """An elastic net over obstacles: the area of a surface, and a penalty on its height."""
    u = u.reshape(SIDE, SIDE)
    dx, dy = u[1:] - u[:-1], u[:, 1:] - u[:, :-1]
    area = m.sum(m.sqrt(1.0 + dx[:, :-1] ** 2 + dy[:-1] ** 2))
    return area + 0.1 * m.sum(m.sqrt(u**2 + 1e-3)) + 0.05 * m.sum(u**2) + m.sum(m.exp(-u) * u)


def casadi_rosenbrock(ca: Any, x: Any) -> Any:
    head, tail = x[:-1], x[1:]
    return ca.sum1(100.0 * (tail - head**2) ** 2 + (1.0 - head) ** 2)


def casadi_net(ca: Any, x: Any) -> Any:
    # CasADi's arrays have columns first; a net turned over is the same net.
    u = ca.reshape(x, SIDE, SIDE)
    dx, dy = u[:, 1:] - u[:, :-1], u[1:, :] - u[:-1, :]
    area = ca.sqrt(1.0 + dx[:-1, :] ** 2 + dy[:, :-1] ** 2)
    whole = 0.1 * ca.sqrt(u**2 + 1e-3) + 0.05 * u**2 + ca.exp(-u) * u
    return ca.sum1(ca.sum2(area)) + ca.sum1(ca.sum2(whole))


def fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as another object, so that nothing made of it is used again."""
    return lambda x: function(x)


def planned_by_casadi(symbolic: Callable[..., Any], n: int) -> Any:
    """A function that plans, and gives the one that evaluates; or Missing."""
    ca = casadi("CasADi")
    if isinstance(ca, Missing):
        return ca

    def plan() -> Callable[[Any], Any]:
        x = ca.SX.sym("x", n)
        hessian, _ = ca.hessian(symbolic(ca, x), x)
        function = ca.Function("hessian", [x], [hessian])
        buffer, run = function.buffer()
        given, found = np.empty(n), np.empty(hessian.nnz())
        buffer.set_arg(0, memoryview(given))
        buffer.set_res(0, memoryview(found))

        def evaluate(point: Any) -> Any:
            given[:] = point
            run()
            return found.copy()

        evaluate.keep = buffer, function  # type: ignore[attr-defined]
        return evaluate

    return plan


def planned_by_jax(function: Callable[..., Any], n: int, colored: Any) -> Any:
    """JAX has no sparse Hessians: products with the seeds that tapeflow has found."""
    jax = jax64("JAX, with tapeflow's colours")
    if isinstance(jax, Missing):
        return jax
    way = colored._last[1].way
    seeds = jax.numpy.asarray(way.compressed.swept[0][1])

    def plan() -> Callable[[Any], Any]:
        own = fresh(lambda x: function(x, jax.numpy))
        gradient = jax.grad(own)
        products = jax.jit(lambda x: jax.vmap(lambda v: jax.jvp(gradient, (x,), (v,))[1])(seeds))
        # Compiled here, as nothing else is a plan.
        compiled = products.lower(jax.numpy.zeros(n)).compile()

        def evaluate(point: Any) -> Any:
            sums = np.asarray(compiled(jax.numpy.asarray(point))).reshape(1, -1)
            return way.method.recover(sums)[0]

        return evaluate

    return plan


def hessians(
    title: str, function: Callable[..., Any], symbolic: Callable[..., Any], n: int, arrays: bool
) -> None:
    x = np.random.default_rng(0).uniform(-1.0, 1.0, n)

    def ours(mode: str) -> Callable[[], Callable[[Any], Any]]:
        def plan() -> Callable[[Any], Any]:
            made = tpf.sparse_hessian(fresh(function), x, mode=mode)
            made.data(x)
            return made.data

        return plan

    colored = tpf.sparse_hessian(fresh(function), x, mode="star")
    planners = {
        "tapeflow": ours("auto"),
        "tapeflow, star": ours("star"),
        "tapeflow, acyclic": ours("acyclic"),
        "CasADi": planned_by_casadi(symbolic, n),
    }
    if arrays:
        planners["JAX, with tapeflow's colours"] = planned_by_jax(function, n, colored)
    there = {name: plan for name, plan in planners.items() if not isinstance(plan, Missing)}
    missing = {name: plan for name, plan in planners.items() if isinstance(plan, Missing)}
    # The plan with its first evaluation, as what is compiled then belongs to it.
    plans = {name: (lambda plan=plan: plan()(x)) for name, plan in there.items()}
    rows = measure({**plans, **missing}, _reference(there), _tolerance(n), repeats=3)
    report(f"{title}: plan and first evaluation", rows, "tapeflow", n, "variable")
    made = {name: plan() for name, plan in there.items()}
    runs = {name: (lambda evaluate=evaluate: evaluate(x)) for name, evaluate in made.items()}
    rows = measure({**runs, **missing}, _reference(there), _tolerance(n), seconds=1.0)
    report(f"{title}: one evaluation", rows, "tapeflow", n, "variable")


def _reference(there: dict[str, Any]) -> str:
    return "CasADi" if "CasADi" in there else "tapeflow, star"


def _tolerance(n: int) -> float:
    """Of what is found by substitution: an error for each edge of a tree, at random."""
    return 64 * 2.0**-53 * float(np.sqrt(n))


# Colours.


def stencil(side: int, reach: list[tuple[int, int]], torus: bool = False) -> Any:
    """The pattern of a stencil on a square grid, or on one whose ends meet."""
    x, y = (a.ravel() for a in np.meshgrid(range(side), range(side), indexing="ij"))
    rows, columns = [x * side + y], [x * side + y]
    for dx, dy in reach:
        i, j = (x + dx, y + dy) if not torus else ((x + dx) % side, (y + dy) % side)
        inside = (i >= 0) & (i < side) & (j >= 0) & (j < side)
        rows.append((x * side + y)[inside])
        columns.append((i * side + j)[inside])
    i, j = np.concatenate(rows), np.concatenate(columns)
    return sp.coo_array((np.ones(len(i)), (i, j)), shape=(side**2, side**2)).tocsr()


FIVE = [(0, 1), (0, -1), (1, 0), (-1, 0)]
SEVEN = [*FIVE, (1, -1), (-1, 1)]
NINE = [*SEVEN, (1, 1), (-1, -1)]


def colors() -> None:
    side = 100
    diffusion, reaction = stencil(side, FIVE), sp.eye_array(side**2)
    around, small = stencil(32, FIVE, torus=True), sp.eye_array(32**2)
    arrow = sp.eye_array(side**2, format="lil")
    arrow[0] = 1.0
    arrow[:, 0] = 1.0
    matrices = {
        "Laplacian, 5 points": diffusion,
        "Laplacian, 7 points": stencil(side, SEVEN),
        "Laplacian, 9 points": stencil(side, NINE),
        "Brusselator": sp.block_array([[diffusion, reaction], [reaction, diffusion]]).tocsr(),
        "Laplacian on a torus of 32": around,
        "Brusselator on a torus of 32": sp.block_array([[around, small], [small, around]]).tocsr(),
        "arrow": arrow.tocsr(),
    }
    orders = ("auto", "saturation", "natural", "largest_first", "smallest_last")
    headings = ["lower bound", *orders, "rows and columns", "star", "acyclic"]
    table = Table("matrix", *headings, title="colours")
    found: dict[str, dict[str, int | None]] = {}
    for name, a in matrices.items():
        own: dict[str, int | None] = {"lower bound": int(np.diff(a.indptr).max())}
        for order in orders:
            # Of a full row every column has its own colour, in whatever order.
            own[order] = None if name == "arrow" else checked(a, color_columns(a, order).colors)
        rows, columns = color_both(a)
        own["rows and columns"] = rows.n_colors + columns.n_colors
        if name == "arrow":
            own["lower bound"] = 2
        for kind in ("star", "acyclic"):
            own[kind] = color_symmetric(a, kind).n_colors
        found[name] = own
        table.add_row(name, *("-" if own[h] is None else str(own[h]) for h in headings))
    Console(width=130).print(table)
    save("colours", {"colors": found})


def checked(a: Any, colors: Any) -> int:
    """How many colours there are; AssertionError where a row has two of one."""
    n = len(colors)
    seeds = sp.csr_array((np.ones(n), (np.arange(n), colors)))
    pattern = sp.csr_array((np.ones(a.nnz), a.indices, a.indptr), shape=a.shape)
    assert (pattern @ seeds).max() <= 1.0
    return int(colors.max()) + 1


def main() -> None:
    scattered()
    n = VARIABLES
    hessians("chained Rosenbrock, 10^5 variables", rosenbrock, casadi_rosenbrock, n, True)
    hessians("elastic net, 10^5 variables", net, casadi_net, SIDE**2, True)
    hessians(
        "chained Rosenbrock by numbers, 10^4 variables",
        rosenbrock_by_terms, casadi_rosenbrock, n // 10, False,
    )  # fmt: skip
    colors()


if __name__ == "__main__":
    main()
