"""The compiled kernels of whole-array ops against their meaning in NumPy, over shapes and lanes."""

from typing import Any

import numpy as np
import pytest

from tapeflow.arrays import RULES
from tapeflow.arrays.products import Product
from tapeflow.engine.array_kernels import array_kernel
from tapeflow.engine.interpreter import execute
from tapeflow.primitives import fma

pytestmark = pytest.mark.jit

rng = np.random.default_rng(5)


@pytest.mark.parametrize("lanes", [1, 8])
def test_singular_matrices_are_nan_and_have_no_determinant(lanes: int) -> None:
    singular = np.repeat(np.array([[1.0], [2.0], [2.0], [4.0]]), lanes, axis=1)
    assert np.isnan(run("inv", (1, 2), [singular], lanes, (False,))).all()
    assert (run("det", (1, 2), [singular], lanes, (False,)) == 0.0).all()
    sign, log = run("slogdet", (1, 2), [singular], lanes, (False,))
    assert (sign == 0.0).all()
    assert (log == -np.inf).all()


CASES: list[tuple[str, tuple[int, ...]]] = [
    ("view", (24, 0, 4, 6, 1, 4)),
    ("view", (24, 23, 2, 3, -12, -4)),
    ("view", (24, 3, 5, 4, 0, 1)),
    ("view", (24, 2, 3, 0, 2, 6, 0, 1)),
    ("view", (1, 0)),
    ("view", (24, 1, 2, 1, 3, 2, 12, 5, 4, 1)),
    ("unview", (24, 0, 4, 6, 1, 4)),
    ("unview", (24, 1, 3, 4, 2, 2)),
    ("take", (7, 3, -1, 0, 0, 6)),
    ("put", (7, 3, -1, 0, 0, 6)),
    ("concat", (3, 1, 5)),
    *[
        ("sum", (o, n, i))
        for o in (1, 3) for n in (0, 1, 3, 7, 8, 130, 1000) for i in (1, 3, 9, 20)
    ],
    *[("amax", (o, n, i)) for o in (1, 3) for n in (1, 5, 30) for i in (1, 9)],
    ("log_of_sum", (2, 3, 4)),
    *[
        ("matmul", Product(batch, 5, 7, 3, ta, tb, sa, sb).parameters)
        for batch in (1, 3) for ta in (0, 1) for tb in (0, 1) for sa in (0, 1)
        for sb in (0, 1) if batch == 1 or not (sa and sb)
    ],
    ("azmatmul", Product(2, 5, 7, 3, 0, 1, 1, 0).parameters),
    ("azmatmul", Product(2, 20, 10, 30, 1, 0).parameters),
    ("azsolve", (2, 3, 4, 1)),
    ("aztriangular_solve", (2, 5, 3, 0, 1)),
    ("matmul", Product(2, 20, 10, 30, 1, 0).parameters),
    ("matmul", Product(1, 20, 10, 30, 0, 1).parameters),
    ("matmul", Product(1, 20, 10, 30, 1, 1).parameters),
    ("cholesky", (3, 6)),
    ("cholesky", (1, 1)),
    *[("solve", (batch, n, k, turned))
      for batch in (1, 2) for n in (1, 3, 16) for k in (1, 4) for turned in (0, 1)],
    *[(name, (batch, n)) for name in ("inv", "det", "slogdet") for batch in (1, 2) for n in (1, 5)],
    *[
        ("triangular_solve", (2, 5, k, lower, turned))
        for k in (1, 3) for lower in (0, 1) for turned in (0, 1)
    ],
]  # fmt: skip


# LAPACK may take another order.
BY_LAPACK = {
    "matmul", "azmatmul", "cholesky", "triangular_solve", "aztriangular_solve", "solve", "azsolve",
    "inv", "det", "slogdet",
}  # fmt: skip


@pytest.mark.parametrize(("name", "p"), CASES, ids=str)
@pytest.mark.parametrize("lanes", [1, 8, 24])
def test_kernel(name: str, p: tuple[int, ...], lanes: int) -> None:
    sizes, _ = RULES[name].sizes(p)
    several = len(sizes) > 1 and lanes > 1 and name != "concat"
    for shared in [(False,) * len(sizes)] + [(True, False), (False, True)] * several:
        check(name, p, lanes, shared)


@pytest.mark.parametrize("k", [0, 1, 9])
@pytest.mark.parametrize(("m", "n"), [(31, 3), (2, 45), (16, 16), (1, 8)])
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_products_in_lanes_add_their_terms_in_order(
    m: int, n: int, k: int, turned: tuple[int, int]
) -> None:
    """However many rows, columns and lanes go together: what a lane has does not depend on it."""
    p = Product(2, m, k, n, *turned, 1, 0).parameters
    a, b = rng.normal(size=(m * k, 1)), rng.normal(size=(2 * k * n, 24))
    left = a.reshape((k, m) if turned[0] else (m, k))
    left = left.T if turned[0] else left
    right = b.reshape((2, n, k, 24) if turned[1] else (2, k, n, 24))
    right = right.swapaxes(1, 2) if turned[1] else right
    expected = np.zeros((2, m, n, 24))
    for j in range(k):
        expected = fma(left[None, :, j, None, None], right[:, None, j], expected)
    expected = expected.reshape(-1, 24)
    assert np.array_equal(run("matmul", p, [a, b], 24, (True, False)), expected)
    # The other way round, transposed.
    p = Product(2, n, k, m, 1 - turned[1], 1 - turned[0], 0, 1).parameters
    found = run("matmul", p, [b, a], 24, (False, True)).reshape(2, n, m, 24)
    assert np.array_equal(found.swapaxes(1, 2).reshape(-1, 24), expected)
    p = Product(2, m, k, n, *turned, 1, 0).parameters
    both = run("matmul", p, [np.repeat(a, 24, axis=1), b], 24, (False, False))
    assert np.array_equal(both, expected)


def absolute_product(a: Any, b: Any) -> Any:
    """The products of stacks of matrices, lane by lane, of terms without a zero factor."""
    zero = (a == 0.0)[:, :, :, None] | (b == 0.0)[:, None, :, :]
    with np.errstate(all="ignore"):
        terms = a[:, :, :, None] * b[:, None, :, :]
        return np.where(zero, 0.0, terms).sum(axis=2)


@pytest.mark.parametrize("lanes", [1, 8, 24])
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(("m", "k", "n"), [(5, 4, 3), (12, 11, 10)])
def test_absolute_zeros_in_products(
    m: int, k: int, n: int, turned: tuple[int, int], lanes: int
) -> None:
    """By loops and by BLAS: zero times infinity or NaN adds nothing."""
    p = Product(2, m, k, n, *turned).parameters
    odds = [0.6, 0.2, 0.1, 0.05, 0.05]
    a = rng.choice([0.0, 1.0, -2.0, np.inf, np.nan], (2, m, k, lanes), p=odds)
    b = rng.choice([0.0, 1.0, 3.0, -np.inf, np.nan], (2, k, n, lanes), p=odds)
    # Finite numbers are small integers, so no sum rounds.
    expected = absolute_product(a, b).reshape(-1, lanes)
    assert 0 < np.isnan(expected).sum() < expected.size
    own = [
        (x.swapaxes(1, 2) if flag else x).reshape(-1, lanes)
        for x, flag in zip((a, b), turned, strict=True)
    ]
    assert np.array_equal(run("azmatmul", p, own, lanes, (False, False)), expected, equal_nan=True)
    with np.errstate(all="ignore"):
        assert np.array_equal(RULES["azmatmul"].forward(p, *own), expected, equal_nan=True)


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize(
    ("name", "p"), [("azsolve", (2, 3, 2, 1)), ("aztriangular_solve", (2, 3, 2, 1, 0))]
)
def test_solutions_for_columns_of_zeros(name: str, p: tuple[int, ...], lanes: int) -> None:
    """They are zero where the matrix is NaN or singular; other columns are as for the plain op."""
    a = 3.0 * np.eye(3) + np.tril(rng.normal(size=(2, 3, 3)))
    a[0] = np.nan
    b = rng.normal(size=(2, 3, 2))
    b[0, :, 0] = 0.0
    b[1, :, 1] = 0.0
    own = [np.repeat(x.reshape(-1, 1), lanes, axis=1) for x in (a, b)]
    got = run(name, p, own, lanes, (False, False)).reshape(2, 3, 2, lanes)
    plain = run(name[2:], p, own, lanes, (False, False)).reshape(2, 3, 2, lanes)
    assert (got[0, :, 0] == 0.0).all() and np.isnan(got[0, :, 1]).all()
    assert (got[1, :, 1] == 0.0).all() and np.array_equal(got[1, :, 0], plain[1, :, 0])
    assert np.isnan(plain[0]).all()
    oracle = RULES[name].forward(p, *own).reshape(2, 3, 2, lanes)
    assert np.allclose(oracle, got, rtol=2.0**-40, atol=2.0**-44, equal_nan=True)


def check(name: str, p: tuple[int, ...], lanes: int, shared: tuple[bool, ...]) -> None:
    sizes, _ = RULES[name].sizes(p)
    operands = [
        rng.normal(size=(n, 1 if own else lanes)) for n, own in zip(sizes, shared, strict=True)
    ]
    if name == "cholesky":
        batch, n = p
        a = rng.normal(size=(operands[0].shape[1], batch, n, n))
        a = a @ a.mT + n * np.eye(n)
        operands[0] = a.reshape(len(a), -1).T.copy()
    if name in ("solve", "azsolve", "inv"):
        own = operands[0].reshape(p[0], p[1], p[1], -1)
        own += 3.0 * np.sqrt(p[1]) * np.eye(p[1])[::-1][None, :, :, None]
    if name.endswith("triangular_solve"):
        own = operands[0].reshape(p[0], p[1], p[1], -1)
        own += 3.0 * np.eye(p[1])[None, :, :, None]
    got = run(name, p, operands, lanes, shared)
    expected = RULES[name].forward(p, *(np.broadcast_to(x, (len(x), lanes)) for x in operands))
    if name in BY_LAPACK:
        # Some tens of roundings in another order, of well-conditioned problems.
        assert np.allclose(got, expected, rtol=2.0**-40, atol=2.0**-44)
    else:
        assert np.array_equal(got, expected)


def run(name: str, p: Any, operands: Any, lanes: int, shared: tuple[bool, ...]) -> Any:
    """The kernel's result, shape (size, lanes), on operands laid out as a sweep has them."""
    sizes, size = RULES[name].sizes(p)
    # Rows of lanes: the result first, then the operands, with room to run over.
    values = np.full((size + sum(sizes) + 8) * lanes + 8, np.nan)
    single = np.full(sum(sizes) + 8, np.nan)
    places, row, at = [0], size, 0
    for x, own in zip(operands, shared, strict=True):
        if own:
            places.append(at)
            single[at : at + len(x)] = x[:, 0]
            at += len(x)
        else:
            places.append(row)
            values[row * lanes : (row + len(x)) * lanes] = x.ravel()
            row += len(x)
    found = array_kernel(name, p, (sizes, size), places, shared, lanes > 1)
    assert found is not None
    address, record = found
    halves = np.array([address], np.int64).view(np.int32).tolist()
    stream = np.array([3 + len(record), *halves, *record], np.int32)
    execute(stream.ctypes.data, 1, values.ctypes.data, 0, single.ctypes.data, lanes)
    return values[: size * lanes].reshape(size, lanes)
