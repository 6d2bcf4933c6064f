"""Gradients at ties, kinks and infinities: one test a row of docs/conventions.md."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

import tapeflow as tpf
from benchmarks import conventions_table as pages
from tests.strategies import same_bits

INF, NAN = math.inf, math.nan

ROWS: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "abs at 0": (lambda x: abs(x), (0.0,), 0.0),
    "sqrt at 0": (lambda x: np.sqrt(x), (0.0,), INF),
    "sqrt(x**2) at 0": (lambda x: np.sqrt(x**2), (0.0,), 0.0),
    "sqrt(x*x) at 0": (lambda x: np.sqrt(x * x), (0.0,), 0.0),
    "norm([0,0,0])": (lambda x: np.linalg.norm(x), (np.zeros(3),), np.zeros(3)),
    "sqrt(sum(x*x)) at 0": (lambda x: np.sqrt(np.sum(x * x)), (np.zeros(3),), np.zeros(3)),
    "max([1,2,2])": (lambda x: np.max(x), (np.array([1.0, 2.0, 2.0]),), [0.0, 0.5, 0.5]),
    "max([1,nan])": (lambda x: np.max(x), (np.array([1.0, NAN]),), [NAN, NAN]),
    "clip at a bound": (lambda x: np.clip(x, -1.0, 1.0), (1.0,), 1.0),
    "xlogy(0,0)": (lambda x, y: special.xlogy(x, y), (0.0, 0.0), (0.0, 0.0)),
    "sinc at 0": (lambda x: np.sinc(x), (0.0,), 0.0),
    "logsumexp(-inf,-inf)": (
        lambda x: tpf.special.logsumexp(x),
        (np.full(2, -INF),),
        [NAN, NAN],
    ),
    "std([1,1,1]), np.std": (lambda x: np.std(x), (np.ones(3),), np.zeros(3)),
    "cumprod([0,2,3]), np.cumprod": (
        lambda x: np.sum(np.cumprod(x)),
        (np.array([0.0, 2.0, 3.0]),),
        [9.0, 0.0, 0.0],
    ),
    "prod of zero elements": (lambda x: np.prod(x), (np.zeros(0),), np.zeros(0)),
    "eigenvalues that are equal": (
        lambda a: np.sum(np.linalg.eigvalsh(a) * np.array([1.0, 1.0])),
        (2 * np.eye(2),),
        np.eye(2),
    ),
    "hypot(0,0)": (lambda x, y: np.hypot(x, y), (0.0, 0.0), (0.0, 0.0)),
    "atan2(0,0)": (lambda y, x: np.arctan2(y, x), (0.0, 0.0), (0.0, 0.0)),
    "x**0.0 at 0": (lambda x: x**0.0, (0.0,), 0.0),
    "pow(0,0)": (lambda x, y: x**y, (0.0, 0.0), (0.0, 0.0)),
    "pow(0,2)": (lambda x, y: x**y, (0.0, 2.0), (0.0, 0.0)),
    "pow(-2,3)": (lambda x, y: x**y, (-2.0, 3.0), (12.0, NAN)),
    "maximum(1,1)": (lambda x, y: np.maximum(x, y), (1.0, 1.0), (0.5, 0.5)),
    "minimum(1,1)": (lambda x, y: np.minimum(x, y), (1.0, 1.0), (0.5, 0.5)),
    "maximum(nan,1)": (lambda x, y: np.maximum(x, y), (NAN, 1.0), (NAN, NAN)),
    "relu at 0": (lambda x: tpf.relu(x), (0.0,), 0.0),
    "where(x>0, log x, 0) at 0": (lambda x: tpf.where(x > 0, np.log(x), 0.0), (0.0,), 0.0),
    "where(x>0, sqrt x, 0) at 0": (lambda x: tpf.where(x > 0, np.sqrt(x), 0.0), (0.0,), 0.0),
    "where(x>0, sqrt x, 0) at -1": (lambda x: tpf.where(x > 0, np.sqrt(x), 0.0), (-1.0,), 0.0),
    "where(x<1, exp x, 0) at 1000": (lambda x: tpf.where(x < 1, np.exp(x), 0.0), (1e3,), 0.0),
    "x log x at 0": (lambda x: x * np.log(x), (0.0,), -INF),
    "arcsin at 1": (lambda x: np.arcsin(x), (1.0,), INF),
    "1/(1+exp(-x)) at -1000": (lambda x: 1.0 / (1.0 + np.exp(-x)), (-1000.0,), 0.0),
    "prod([0,2,3])": (lambda x: np.prod(x), (np.array([0.0, 2.0, 3.0]),), [6.0, 0.0, 0.0]),
    "cumprod([0,2,3]) summed": (
        lambda x: x[0] + x[0] * x[1] + x[0] * x[1] * x[2],
        (np.array([0.0, 2.0, 3.0]),),
        [9.0, 0.0, 0.0],
    ),
    "std([1,1,1])": (
        lambda x: np.sqrt(np.sum((x - np.sum(x) / 3.0) ** 2) / 3.0),
        (np.ones(3),),
        np.zeros(3),
    ),
    "x**2 at 1e-310": (lambda x: x**2, (1e-310,), 2e-310),
    "roots of a value that is cut off": (
        lambda x: np.sqrt(np.maximum(x, 0.0)) - np.sqrt(np.maximum(x, 0.0) * 2.0),
        (-1.0,),
        0.0,
    ),
    "argument not used": (lambda x, y: x * 1.0, (1.0, 2.0), (1.0, 0.0)),
    "sum of zero elements": (lambda x: np.sum(x) + 0.0, (np.zeros(0),), np.zeros(0)),
    "x[[0,0]] summed": (lambda x: np.sum(x[[0, 0]]), (np.ones(2),), [2.0, 0.0]),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("how", ["sample", "batch", "pullback"])
def test_row(row: str, how: str) -> None:
    f, args, expected = ROWS[row]
    every = tuple(range(len(args)))
    gradient = tpf.grad(f, argnums=every)
    if how == "sample":
        got = gradient(*args)
    elif how == "batch":
        batch = [np.stack([np.asarray(arg)] * 3) for arg in args]
        got = tuple(g[1] for g in tpf.vmap(gradient)(*batch))
    else:
        # A gradient inside a recording is the pullback's instructions.
        tape = tpf.record(lambda *a: gradient(*a), *args)
        got = tape(*args)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for g, e in zip(got, expected, strict=True):
        assert same_bits(g, e), (g, e)


def test_float32_in_float32_out() -> None:
    g = tpf.grad(lambda x: np.sum(x * x))(np.ones(3, np.float32))
    assert g.dtype == np.float32
    assert same_bits(g, 2 * np.ones(3))
    assert type(tpf.grad(lambda x: x * x)(np.float32(3.0))) is np.float32
    batch = tpf.vmap(tpf.grad(lambda x: x * x))(np.ones(3, np.float32))
    assert batch.dtype == np.float32


@pytest.mark.parametrize("x", [3, np.int32(3), True, np.arange(3)])
def test_an_integer_is_refused_and_told_how(x: Any) -> None:
    with pytest.raises(TypeError, match=r"in an integer \(.*\): pass a real number, as in"):
        tpf.grad(lambda x: np.sum(x * x))(x)


def test_the_determinant_of_a_singular_matrix() -> None:
    a = np.array([[1.0, 2.0], [2.0, 4.0]])
    # Its adjugate; the singular values are some units in the last place off.
    assert np.allclose(tpf.grad(np.linalg.det)(a), [[4, -2], [-2, 1]], rtol=0, atol=2.0**-49)


def test_a_matrix_that_cannot_be_factorised_is_an_error_on_one_sample() -> None:
    for f, message in (
        (np.linalg.cholesky, "not positive definite"),
        (np.linalg.inv, "Singular matrix"),
        (lambda a: np.linalg.solve(a, np.ones(2)), "Singular matrix"),
    ):
        gradient = tpf.grad(lambda a, f=f: np.sum(f(a)))
        with pytest.raises(np.linalg.LinAlgError, match=rf"{message}.*\(test_conventions\.py:"):
            gradient(np.array([[1.0, 1.0], [1.0, 1.0]]) * -1.0)
        batch = tpf.vmap(gradient)(np.stack([np.eye(2), -np.ones((2, 2)), np.eye(2)]))
        assert np.isnan(batch[1]).any()
        assert np.isfinite(batch[[0, 2]]).all()


def test_equal_eigenvalues_give_nan_and_a_warning() -> None:
    vectors = tpf.grad(lambda a: np.sum(np.linalg.eigh(a)[1] * np.array([[1.0, 2.0], [3.0, 5.0]])))
    with pytest.warns(RuntimeWarning, match="eigenvalues are equal"):
        assert np.isnan(vectors(np.eye(2))).any()


def test_the_sign_of_a_nan_is_not_copied() -> None:
    for nan in (np.nan, -np.nan):
        assert tpf.copysign(-2.0, nan) == 2.0
        assert tpf.grad(tpf.copysign)(-2.0, nan) == -1.0


# The table of first and second derivatives, which a script writes.

M = pages.functions_of_tapeflow()
PAGE = Path(__file__).parent.parent / "docs" / "conventions.md"
CELLS = dict(pages.cells_of_the_page(PAGE.read_text()))

First = Callable[[Any, tuple[Any, ...]], Any]


def every(args: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(range(len(args)))


def stacked(args: tuple[Any, ...]) -> list[Any]:
    return [np.stack([np.asarray(arg)] * 3) for arg in args]


def native(f: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """By the sweeps of a tape of f."""
    tape = tpf.record(f, *args)
    tape.forward(*args)
    gradient = tape.backward()
    return gradient if len(args) > 1 else (gradient,)


FIRST: dict[str, First] = {
    "sample": lambda f, args: tpf.grad(f, every(args))(*args),
    "native": native,
    "pullback": lambda f, args: tpf.function(lambda *x: tpf.grad(f, every(args))(*x))(*args),
    "forward": lambda f, args: tpf.jacobian(f, every(args), mode="forward")(*args),
    "batch": lambda f, args: [g[1] for g in tpf.vmap(tpf.grad(f, every(args)))(*stacked(args))],
}


def numbers(results: Any) -> list[float]:
    return [y for result in results for y in pages.flat(result)]


def component(f: Any, args: tuple[Any, ...], k: int) -> Any:
    """One number of the gradient, as a function."""

    def chosen(*x: Any) -> Any:
        return np.concatenate([np.reshape(g, -1) for g in tpf.grad(f, every(args))(*x)])[k]

    return chosen


def units(args: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """A tangent for each number of the arguments."""
    ends = np.cumsum([0, *(np.size(arg) for arg in args)])
    made = []
    for row in np.eye(ends[-1]):
        parts = [row[a:b] for a, b in itertools.pairwise(ends)]
        pairs = zip(parts, args, strict=True)
        made.append(tuple(part if np.ndim(arg) else part.item() for part, arg in pairs))
    return made


def by_products(f: Any, args: tuple[Any, ...]) -> list[float]:
    products = [tpf.hvp(f, args, unit) for unit in units(args)]
    return [y for p in products for y in numbers(p if len(args) > 1 else (p,))]


def by_batch(f: Any, args: tuple[Any, ...]) -> list[float]:
    found = tpf.vmap(tpf.hessian(f, every(args)))(*stacked(args))
    return pages.rows([[block[1] for block in row] for row in found], list(args))


def by_components(first: First) -> Callable[[Any, tuple[Any, ...]], list[float]]:
    def rows(f: Any, args: tuple[Any, ...]) -> list[float]:
        n = sum(np.size(arg) for arg in args)
        return [y for k in range(n) for y in numbers(first(component(f, args, k), args))]

    return rows


def jacobian_of_grad(mode: str) -> Callable[[Any, tuple[Any, ...]], list[float]]:
    def rows(f: Any, args: tuple[Any, ...]) -> list[float]:
        own = every(args)
        return pages.rows(tpf.jacobian(tpf.grad(f, own), own, mode=mode)(*args), list(args))

    return rows


SECOND: dict[str, Callable[[Any, tuple[Any, ...]], list[float]]] = {
    "reverse over reverse": jacobian_of_grad("reverse"),
    "forward over reverse": jacobian_of_grad("forward"),
    "grad of grad": by_components(FIRST["sample"]),
    "native sweep of a gradient": by_components(native),
    "batch of hessians": by_batch,
}


def taken(case: str) -> tuple[Any, tuple[Any, ...]]:
    function, _ = pages.CASES[case]
    return lambda *x: function(M, *x), tuple(pages.point(pages.CASES[case]))


def test_the_page_has_the_cases() -> None:
    assert {case for case, _, _ in CELLS} == set(pages.CASES)
    filled = [content for (_, _, system), content in CELLS.items() if system == "tapeflow"]
    assert len(filled) == 2 * len(pages.CASES) and all(filled)


@pytest.mark.parametrize("case", pages.CASES)
def test_the_first_order(case: str) -> None:
    f, args = taken(case)
    for way, first in FIRST.items():
        assert pages.cell(numbers(first(f, args))) == CELLS[case, 0, "tapeflow"], way


@pytest.mark.parametrize("case", pages.CASES)
def test_the_second_order(case: str) -> None:
    f, args = taken(case)
    expected = CELLS[case, 1, "tapeflow"]
    for way, second in SECOND.items():
        assert pages.cell(second(f, args)) == expected, way
    # Products give columns.
    n = sum(np.size(arg) for arg in args)
    columns = np.reshape(by_products(f, args), (n, n))
    assert pages.cell(pages.flat(columns.T)) == expected
