"""Writes the table of docs/conventions.md: first and second derivatives at edges, in four systems.

Run by ``python -m benchmarks.conventions_table``. Each case is written once, in names that every
system has for it; a system that is not installed keeps the column that the page has.
"""

import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

PAGE = Path("docs/conventions.md")
BEGIN, END = "<!-- by python -m benchmarks.conventions_table -->\n", "<!-- end -->\n"
SYSTEMS = ("tapeflow", "JAX", "PyTorch", "autograd")

Point = tuple[Any, ...]
Case = tuple[Callable[..., Any], Point]

# In each case ``m`` has a system's functions, by NumPy's names.
CASES: dict[str, Case] = {
    "abs x at 0": (lambda m, x: m.abs(x), (0.0,)),
    "x abs x at 0": (lambda m, x: x * m.abs(x), (0.0,)),
    "sqrt x at 0": (lambda m, x: m.sqrt(x), (0.0,)),
    "sqrt(x²) at 0": (lambda m, x: m.sqrt(x**2), (0.0,)),
    "norm of [0, 0]": (lambda m, x: m.norm(x), ([0.0, 0.0],)),
    "norm² of [0, 0]": (lambda m, x: m.norm(x) ** 2, ([0.0, 0.0],)),
    "norm of [3, 4]": (lambda m, x: m.norm(x), ([3.0, 4.0],)),
    "hypot(0, 0)": (lambda m, x, y: m.hypot(x, y), (0.0, 0.0)),
    "atan2(0, 0)": (lambda m, y, x: m.arctan2(y, x), (0.0, 0.0)),
    "x⁰ at 0": (lambda m, x: x**0.0, (0.0,)),
    "x¹ at 0": (lambda m, x: x**1.0, (0.0,)),
    "x² at 0": (lambda m, x: x**2.0, (0.0,)),
    "x³ at 0": (lambda m, x: x**3.0, (0.0,)),
    "x² at 1e-310": (lambda m, x: x**2, (1e-310,)),
    "pow(x, y) at 0, 0": (lambda m, x, y: m.power(x, y), (0.0, 0.0)),
    "pow(x, y) at 0, 1": (lambda m, x, y: m.power(x, y), (0.0, 1.0)),
    "pow(x, y) at 0, 2": (lambda m, x, y: m.power(x, y), (0.0, 2.0)),
    "pow(x, y) at 0, 3": (lambda m, x, y: m.power(x, y), (0.0, 3.0)),
    "pow(x, y) at -2, 3": (lambda m, x, y: m.power(x, y), (-2.0, 3.0)),
    "0**y at 2": (lambda m, y: m.power(0.0 * y, y), (2.0,)),
    "maximum(x, y) at 1, 1": (lambda m, x, y: m.maximum(x, y), (1.0, 1.0)),
    "minimum(x, y) at 1, 1": (lambda m, x, y: m.minimum(x, y), (1.0, 1.0)),
    "maximum(x², y³) at 1, 1": (lambda m, x, y: m.maximum(x**2, y**3), (1.0, 1.0)),
    "maximum(x, y)² at 1, 1": (lambda m, x, y: m.maximum(x, y) ** 2, (1.0, 1.0)),
    "maximum(x, 1) at nan": (lambda m, x: m.maximum(x, 1.0 + 0.0 * x), (math.nan,)),
    "max of [1, 2, 2]": (lambda m, x: m.amax(x), ([1.0, 2.0, 2.0],)),
    "max of x², at [1, 2, 2]": (lambda m, x: m.amax(x**2), ([1.0, 2.0, 2.0],)),
    "clip(x, -1, 1)² at 1": (lambda m, x: m.clip(x, -1.0, 1.0) ** 2, (1.0,)),
    "relu(x)² at 0": (lambda m, x: m.relu(x) ** 2, (0.0,)),
    "relu(x) at 0": (lambda m, x: m.relu(x), (0.0,)),
    "where(x > 0, x³, x²) at 0": (lambda m, x: m.where(x > 0.0, x**3, x**2), (0.0,)),
    "where(x > 0, log x, 0) at 0": (lambda m, x: m.where(x > 0.0, m.log(x), 0.0 * x), (0.0,)),
    "where(x > 0, sqrt x, 0) at -1": (lambda m, x: m.where(x > 0.0, m.sqrt(x), 0.0 * x), (-1.0,)),
    "where(x < 1, exp x, x²) at 1000": (lambda m, x: m.where(x < 1.0, m.exp(x), x**2), (1000.0,)),
    "x log x at 0": (lambda m, x: x * m.log(x), (0.0,)),
    "xlogy(x, y) at 0, 0": (lambda m, x, y: m.xlogy(x, y), (0.0, 0.0)),
    "arcsin x at 1": (lambda m, x: m.arcsin(x), (1.0,)),
    "sinc x at 0": (lambda m, x: m.sinc(x), (0.0,)),
    "1 / (1 + exp(-x)) at -1000": (lambda m, x: 1.0 / (1.0 + m.exp(-x)), (-1000.0,)),
    "prod of [0, 2, 3]": (lambda m, x: m.prod(x), ([0.0, 2.0, 3.0],)),
    "prod of [0, 0, 3]": (lambda m, x: m.prod(x), ([0.0, 0.0, 3.0],)),
    "std of [1, 1]": (lambda m, x: m.std(x), ([1.0, 1.0],)),
    "logsumexp of [-inf, -inf]": (lambda m, x: m.logsumexp(x), ([-math.inf, -math.inf],)),
    "sum of x[[0, 0]]²": (lambda m, x: m.sum(x[m.index([0, 0])] ** 2), ([1.0, 2.0],)),
}

Derivatives = tuple[list[float], list[float]]
"""The gradient in all numbers of the arguments, and the Hessian row by row."""


def point(case: Case) -> list[Any]:
    return [np.array(x) if isinstance(x, list) else x for x in case[1]]


def flat(numbers: Any) -> list[float]:
    return [float(x) for x in np.ravel(numbers)]


def by_tapeflow() -> Callable[[Case], Derivatives]:
    import tapeflow as tpf

    m = functions_of_tapeflow()

    def derivatives(case: Case) -> Derivatives:
        args = point(case)
        every = tuple(range(len(args)))
        f = lambda *x: case[0](m, *x)  # noqa: E731
        first = tpf.grad(f, every)(*args)
        second = tpf.hessian(f, every)(*args)
        return [y for g in first for y in flat(g)], rows(second, args)

    return derivatives


def functions_of_tapeflow() -> Any:
    import tapeflow as tpf

    names = "abs sqrt exp log hypot arctan2 power maximum minimum amax clip where arcsin sinc prod"
    own = {name: getattr(np, name) for name in [*names.split(), "std", "sum"]}
    return SimpleNamespace(
        **own,
        norm=np.linalg.norm,
        relu=tpf.relu,
        xlogy=tpf.special.xlogy,
        logsumexp=tpf.special.logsumexp,
        index=np.array,
    )


def rows(second: Any, args: list[Any]) -> list[float]:
    """A nested Hessian, whose blocks are of the shapes of two arguments, row by row."""
    sizes = [np.size(x) for x in args]
    blocks = [
        [
            np.reshape(np.asarray(second[i][j], float), (sizes[i], sizes[j]))
            for j in range(len(args))
        ]
        for i in range(len(args))
    ]
    return flat(np.block(blocks))


def by_jax() -> Callable[[Case], Derivatives]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    m = SimpleNamespace(
        **{name: getattr(jnp, name) for name in dir(jnp) if not name.startswith("_")}
    )
    m.norm, m.relu, m.index = jnp.linalg.norm, jax.nn.relu, jnp.array
    m.xlogy, m.logsumexp = jax.scipy.special.xlogy, jax.scipy.special.logsumexp

    def derivatives(case: Case) -> Derivatives:
        args = [jnp.asarray(x, float) for x in point(case)]
        every = tuple(range(len(args)))
        f = lambda *x: case[0](m, *x)  # noqa: E731
        first = jax.grad(f, every)(*args)
        second = jax.jacrev(jax.grad(f, every), every)(*args)
        return [y for g in first for y in flat(g)], rows(second, args)

    return derivatives


def by_torch() -> Callable[[Case], Derivatives]:
    import torch

    m = SimpleNamespace(
        **{name: getattr(torch, name) for name in dir(torch) if not name.startswith("_")}
    )
    m.norm, m.power, m.index = torch.linalg.norm, torch.pow, torch.tensor
    m.xlogy = torch.special.xlogy
    m.std = lambda x: torch.std(x, correction=0)
    m.logsumexp = lambda x: torch.logsumexp(x, 0)

    def derivatives(case: Case) -> Derivatives:
        args = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in point(case)]
        value = case[0](m, *args)
        first = torch.autograd.grad(value, args, create_graph=True, materialize_grads=True)
        numbers = torch.cat([g.reshape(-1) for g in first])
        second = []
        for number in numbers:
            if number.requires_grad:
                row = torch.autograd.grad(number, args, retain_graph=True, materialize_grads=True)
                second += [y for g in row for y in flat(g.detach().numpy(force=True))]
            else:
                second += [0.0] * len(numbers)
        return flat(numbers.detach().numpy()), second

    return derivatives


def by_autograd() -> Callable[[Case], Derivatives]:
    import autograd
    import autograd.numpy as anp
    from autograd.scipy import special

    m = SimpleNamespace(
        **{name: getattr(anp, name) for name in dir(anp) if not name.startswith("_")}
    )
    m.norm, m.index, m.amax = anp.linalg.norm, np.array, anp.max
    m.logsumexp = special.logsumexp

    def derivatives(case: Case) -> Derivatives:
        args = point(case)
        sizes = [np.size(x) for x in args]
        ends = np.cumsum([0, *sizes])

        def f(x: Any) -> Any:
            parts = [x[a:b] for a, b in itertools.pairwise(ends)]
            pairs = zip(parts, args, strict=True)
            return case[0](m, *(part if np.ndim(arg) else part[0] for part, arg in pairs))

        x = np.concatenate([np.ravel(arg) for arg in args]).astype(float)
        return flat(autograd.grad(f)(x)), flat(autograd.jacobian(autograd.grad(f))(x))

    return derivatives


MAKERS = {
    "tapeflow": by_tapeflow,
    "JAX": by_jax,
    "PyTorch": by_torch,
    "autograd": by_autograd,
}


def column(system: str) -> dict[str, tuple[str, str]] | None:
    """The cells of a system, by case: first and second order; None where it is not installed."""
    try:
        derivatives = MAKERS[system]()
    except ImportError:
        return None
    found = {}
    for name, case in CASES.items():
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                first, second = derivatives(case)
                found[name] = cell(first), cell(second)
            except AttributeError:
                found[name] = "-", "-"  # it has no such function
            except Exception:
                found[name] = "raises", "raises"
    return found


def cell(numbers: list[float]) -> str:
    return " ".join(shown(x) for x in numbers)


def shown(x: float) -> str:
    text = f"{x + 0.0:.4g}"
    return {"0.5": "½", "-0.5": "-½"}.get(text, text)


def table() -> str:
    known = dict(cells_of_the_page())
    columns = {system: column(system) for system in SYSTEMS}
    before = lines_of_the_page(PAGE.read_text())
    titles = before[0].strip("|").split("|")[2:] if before else [""] * len(SYSTEMS)
    head = [
        title(system) if columns[system] else old.strip()
        for system, old in zip(SYSTEMS, titles, strict=True)
    ]
    lines = [f"| case | order | {' | '.join(head)} |", "|---|--:|---|---|---|---|"]
    for name in CASES:
        for order in (0, 1):
            cells = []
            for system in SYSTEMS:
                own = columns[system]
                cells.append(own[name][order] if own else known.get((name, order, system), ""))
            lines.append(f"| {name if order == 0 else ''} | {order + 1} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def title(system: str) -> str:
    """A system's name and version."""
    package = {"PyTorch": "torch"}.get(system, system.lower())
    version = "" if system == "tapeflow" else f" {metadata.version(package).partition('+')[0]}"
    return system + version


def lines_of_the_page(text: str) -> list[str]:
    return text.partition(BEGIN)[2].partition(END)[0].splitlines()


def cells_of_the_page(text: str | None = None) -> Iterator[tuple[tuple[str, int, str], str]]:
    """What the page has: (case, order from 0, system), and the cell."""
    text = PAGE.read_text() if text is None else text
    name = ""
    for line in lines_of_the_page(text)[2:]:
        own, order, *cells = (part.strip() for part in line.strip("|").split("|"))
        name = own or name
        for system, content in zip(SYSTEMS, cells, strict=True):
            yield (name, int(order) - 1, system), content


def main() -> None:
    text = PAGE.read_text()
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    assert pattern.search(text), f"{PAGE} has no place for the table"
    made = BEGIN + table() + END
    PAGE.write_text(pattern.sub(lambda _: made, text))


if __name__ == "__main__":
    main()
