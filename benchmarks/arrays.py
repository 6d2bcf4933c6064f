"""Whole arrays: a network's minibatch, logsumexp, a chain of products, a Gaussian process, and
small solves by the hundred thousand; against PyTorch and JAX, in float64 on all cores.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report
from tapeflow.engine.evaluate import sample_program

Arguments = tuple[Any, ...]
Program = Callable[..., Any]


def torch_gradient(make: Callable[[Any], Program], args: Arguments) -> Contender | Missing:
    """Value and gradients in all arguments, eager. make: the function, in terms of torch."""
    try:
        import torch
    except ImportError:
        return Missing("PyTorch", "not installed: pip install torch")
    f = make(torch)
    # By way of NumPy: of a Python float torch makes a float32.
    arrays = [np.asarray(a) for a in args]
    inputs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    real = [x for x in inputs if x.requires_grad]

    def run() -> Any:
        value = f(*inputs)
        return [value.item(), *(g.numpy() for g in torch.autograd.grad(value, real))]

    return run


def jax_gradient(
    make: Callable[[Any], Program], args: Arguments, batch: bool = False
) -> Contender | Missing:
    """Value and gradients in all real arguments, by jit, or by jit of vmap."""
    try:
        import jax
    except ImportError:
        return Missing("JAX", "not installed: pip install jax")
    jax.config.update("jax_enable_x64", True)
    real = tuple(k for k, a in enumerate(args) if np.asarray(a).dtype.kind == "f")
    both = jax.value_and_grad(make(jax.numpy), argnums=real)
    both = jax.jit(jax.vmap(both) if batch else both)
    inputs = [jax.numpy.asarray(a) for a in args]

    def run() -> Any:
        value, gradients = jax.block_until_ready(both(*inputs))
        return [np.asarray(value), *map(np.asarray, gradients)]

    return run


def ours(f: Program, args: Arguments, batch: bool = False) -> Contender:
    real = tuple(k for k, a in enumerate(args) if np.asarray(a).dtype.kind == "f")
    both: Any = tpf.value_and_grad(f, argnums=real)
    both = tpf.vmap(both) if batch else both

    def run() -> Any:
        value, gradients = both(*args)
        return [value, *gradients]

    return run


def compare(
    title: str,
    functions: tuple[Program, Callable[[Any], Program], Callable[[Any], Program]],
    args: Arguments,
    tolerance: float,
    per: int = 1,
    unit: str = "call",
    batch: bool = False,
) -> None:
    """functions: ours, in NumPy; and what makes the same in terms of torch, and of jax.numpy."""
    own, torch, jax = functions
    contenders: dict[str, Contender | Missing] = {"tapeflow": ours(own, args, batch)}
    if not batch:
        contenders["PyTorch eager"] = torch_gradient(torch, args)
    contenders["JAX jit(vmap)" if batch else "JAX jit"] = jax_gradient(jax, args, batch)
    reference = "tapeflow"
    rows = measure(contenders, reference, tolerance, seconds=1.0)
    report(title, rows, "tapeflow", per, unit)


def network() -> None:
    rng = np.random.default_rng(0)
    sizes = (784, 256, 64, 10)
    parameters: list[Any] = []
    for n, m in itertools.pairwise(sizes):
        parameters += [rng.normal(0, 1 / math.sqrt(n), (n, m)), np.zeros(m)]
    x, y = rng.normal(size=(256, 784)), rng.integers(0, 10, 256)
    hot = np.eye(10)[y]

    def loss(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
        h = np.tanh(np.tanh(x @ w1 + b1) @ w2 + b2)
        return np.mean(tpf.nn.categorical_nll(h @ w3 + b3, y))

    def by_torch(torch: Any) -> Program:
        data, target = torch.tensor(x), torch.tensor(y)

        def run(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
            h = torch.tanh(torch.tanh(data @ w1 + b1) @ w2 + b2)
            return torch.nn.functional.cross_entropy(h @ w3 + b3, target)

        return run

    def by_jax(jnp: Any) -> Program:
        import jax

        data, target = jnp.asarray(x), jnp.asarray(hot)

        def run(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
            h = jnp.tanh(jnp.tanh(data @ w1 + b1) @ w2 + b2)
            return -jnp.mean(jnp.sum(jax.nn.log_softmax(h @ w3 + b3) * target, axis=1))

        return run

    # A thousand roundings of sums whose terms are below 1.
    compare(
        "784-256-64-10 network, minibatch of 256",
        (loss, by_torch, by_jax), tuple(parameters), 2.0**-40,
    )  # fmt: skip


def logsumexp() -> None:
    x = np.random.default_rng(1).normal(size=(1000, 1000))

    def by_jax(jnp: Any) -> Program:
        import jax

        return lambda x: jnp.sum(jax.nn.logsumexp(x, axis=1))

    compare(
        "logsumexp of 1000 x 1000",
        (
            lambda x: np.sum(tpf.special.logsumexp(x, axis=1)),
            lambda torch: lambda x: torch.sum(torch.logsumexp(x, 1)),
            by_jax,
        ),
        (x,),
        2.0**-40,
    )


def chain() -> None:
    rng = np.random.default_rng(2)
    args = tuple(rng.normal(0, 1 / math.sqrt(512), (512, 512)) for _ in range(4))
    compare(
        "chain of four 512 x 512 products",
        (
            lambda a, b, c, d: np.sum(a @ b @ c @ d),
            lambda torch: lambda a, b, c, d: torch.sum(a @ b @ c @ d),
            lambda jnp: lambda a, b, c, d: jnp.sum(a @ b @ c @ d),
        ),
        args,
        2.0**-36,
    )


def process() -> None:
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(0, 10, 200))
    y = np.sin(x) + 0.1 * rng.normal(size=200)
    square = (x[:, None] - x[None, :]) ** 2
    eye = np.eye(200)

    def build(m: Any, solve: Any, move: Callable[[Any], Any]) -> Program:
        gaps, unit, target = move(square), move(eye), move(y)

        def run(log_size: Any, log_length: Any, log_noise: Any) -> Any:
            k = m.exp(2 * log_size) * m.exp(-0.5 * gaps * m.exp(-2 * log_length))
            factor = m.linalg.cholesky(k + m.exp(2 * log_noise) * unit)
            alpha = solve(factor, target)
            return 0.5 * m.sum(alpha * alpha) + m.sum(m.log(m.diagonal(factor)))

        return run

    def by_torch(torch: Any) -> Program:
        def solve(factor: Any, b: Any) -> Any:
            return torch.linalg.solve_triangular(factor, b[:, None], upper=False)[:, 0]

        return build(torch, solve, torch.tensor)

    def by_jax(jnp: Any) -> Program:
        from jax.scipy.linalg import solve_triangular

        return build(jnp, lambda f, b: solve_triangular(f, b, lower=True), jnp.asarray)

    own = build(np, lambda f, b: tpf.linalg.solve_triangular(f, b, lower=True), lambda a: a)
    # A solve with 200 unknowns; the matrix's condition number is 575.
    compare(
        "Gaussian process likelihood, 200 points",
        (own, by_torch, by_jax), (0.1, 0.2, -1.0), 200 * 600 * 2.0**-53,
    )  # fmt: skip


def solves() -> None:
    rng = np.random.default_rng(4)
    n = 100_000
    a = rng.normal(size=(n, 6, 6))
    a = a @ a.mT + 6 * np.eye(6)
    b = rng.normal(size=(n, 6))

    def own(a: Any, b: Any) -> Any:
        factor = np.linalg.cholesky(a)
        z = tpf.linalg.solve_triangular(factor, b, lower=True)
        return np.sum(z * z) + np.sum(np.log(np.diagonal(factor)))

    def by_jax(jnp: Any) -> Program:
        from jax.scipy.linalg import solve_triangular

        def run(a: Any, b: Any) -> Any:
            factor = jnp.linalg.cholesky(a)
            z = solve_triangular(factor, b, lower=True)
            return jnp.sum(z * z) + jnp.sum(jnp.log(jnp.diagonal(factor)))

        return run

    compare(
        "100,000 Cholesky solves of 6 x 6",
        (own, by_jax, by_jax), (a, b), 2.0**-40, n, "solve", batch=True,
    )  # fmt: skip


def recording() -> None:
    """What recording, tapes and gradients cost as arrays grow: one expression of ten operations."""

    def f(x: Any) -> Any:
        y = np.tanh(x) * x + np.exp(-x * x)
        return np.sum(np.sqrt(1.0 + y * y) / (1.0 + x[::-1] ** 2))

    table = Table(title="an expression on N elements")
    for heading in ("N", "instructions", "record (us)", "gradient (us)", "ns an element", "MB"):
        table.add_column(heading, justify="right")
    for n in (100, 10_000, 1_000_000, 4_000_000):
        x = np.random.default_rng(n).normal(size=n)
        tape = tpf.record(f, x)
        recorded = _median(lambda x=x: tpf.record(f, x))
        gradient = tpf.grad(f)
        expected = (f(x + 1e-4 * np.cos(x)) - f(x - 1e-4 * np.cos(x))) / 2e-4
        assert math.isclose(np.sum(gradient(x) * np.cos(x)), expected, rel_tol=1e-6)
        taken = _median(lambda g=gradient, x=x: g(x))
        program = sample_program(tape, slice(0, n)).program
        table.add_row(
            f"{n:,}", str(len(tape)), f"{1e6 * recorded:,.0f}", f"{1e6 * taken:,.0f}",
            f"{1e9 * taken / n:.2f}", f"{8e-6 * program.n_places:,.1f}",
        )  # fmt: skip
    Console(width=110).print(table)


def _median(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    for run in (network, logsumexp, chain, process, solves, recording):
        run()


if __name__ == "__main__":
    main()
