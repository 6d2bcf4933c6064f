"""scipy.linalg's functions on traced matrices, against SciPy and differences."""

from typing import Any

import numpy as np
import pytest
from scipy import linalg

import tapeflow as tpf
from tests.numpy_api.test_numpy_api import difference, directions_of, inner, weighted

rng = np.random.default_rng(9)
A = rng.normal(size=(4, 4)) + 3 * np.eye(4)
SPD = A @ A.T
B, C = rng.normal(size=4), rng.normal(size=(4, 2))


def gradient_is_right(f: Any, *args: Any) -> None:
    loss = weighted(f)
    every = tuple(range(len(args)))
    gradient = tpf.grad(loss, every)
    v, w = directions_of(args, 1), directions_of(args, 2)
    estimate, bound = difference(loss, args, v)
    assert abs(inner(gradient(*args), v) - estimate) <= bound

    def slope(*xs: Any) -> Any:
        return sum(np.sum(g * d) for g, d in zip(gradient(*xs), v, strict=True))

    estimate, bound = difference(slope, args, w)
    assert abs(inner(tpf.grad(slope, every)(*args), w) - estimate) <= bound + 2.0**-30


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("trans", [0, 1, "T"])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("b", [B, C], ids=["vector", "columns"])
def test_solve_triangular(lower: bool, trans: Any, unit: bool, b: Any) -> None:
    options = {"lower": lower, "trans": trans, "unit_diagonal": unit}

    def f(a: Any, b: Any) -> Any:
        return tpf.linalg.solve_triangular(a, b, **options)

    expected = linalg.solve_triangular(A, b, **options)
    assert np.allclose(tpf.record(f, A, b)(A, b), expected, rtol=1e-12, atol=1e-12)
    gradient_is_right(f, A, b)


@pytest.mark.parametrize("lower", [False, True])
def test_cho_solve(lower: bool) -> None:
    def f(a: Any, b: Any) -> Any:
        return tpf.linalg.cho_solve(tpf.linalg.cho_factor(a, lower=lower), b)

    assert np.allclose(f(SPD, B), np.linalg.solve(SPD, B), rtol=1e-11)
    assert np.allclose(tpf.record(f, SPD, B)(SPD, B), np.linalg.solve(SPD, B), rtol=1e-11)
    gradient_is_right(lambda a, b: f(0.5 * (a + a.T), b), SPD, B)


def test_expm() -> None:
    stack = np.stack([0.3 * A, -0.2 * A.T])
    f = tpf.record(tpf.linalg.expm, stack)
    assert np.allclose(f(stack), linalg.expm(stack), rtol=1e-12)
    gradient_is_right(tpf.linalg.expm, 0.3 * A)


def shrinking(a: Any, _: Any) -> Any:
    factor = np.linalg.cholesky(a)
    return a - 0.6 * np.eye(2), np.log(factor[0, 0])


def test_a_matrix_that_cannot_be_factorised_in_a_loop() -> None:
    """The line of the body; NaN from something else in a loop is a result like any other."""

    def f(a: Any, steps: int) -> Any:
        return np.sum(tpf.scan(shrinking, a, length=steps)[1])

    gradient = tpf.grad(lambda a: f(a, 3))
    assert np.isfinite(tpf.grad(lambda a: f(a, 2))(np.eye(2))).all()
    line = shrinking.__code__.co_firstlineno + 1
    message = rf"Matrix is not positive definite \(test_linalg.py:{line}\)"
    with pytest.raises(np.linalg.LinAlgError, match=message):
        gradient(np.eye(2))

    def logs(a: Any) -> Any:
        def body(c: Any, _: Any) -> Any:
            return np.linalg.cholesky(c), np.log(c[0, 0] - 3.0)

        return np.sum(tpf.scan(body, a, length=2)[1])

    assert np.isnan(tpf.function(logs)(np.eye(2)))


@pytest.mark.parametrize("fill", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    "f",
    [
        lambda a: np.linalg.svd(a, full_matrices=False)[1],
        lambda a: np.linalg.eigvalsh(a),
        lambda a: np.linalg.eig(a)[0],
        lambda a: np.linalg.pinv(a),
        lambda a: np.linalg.norm(a, "nuc"),
        lambda a: tpf.grad(np.linalg.det)(a),
    ],
)
def test_spectra_of_what_is_not_finite_are_nan(f: Any, fill: float) -> None:
    """LAPACK may look for them without an end."""
    a = A + A.T
    a[0, 0] = fill
    assert np.isnan(tpf.function(f)(a)).all()
    assert np.isnan(tpf.grad(lambda a: np.sum(f(a)))(a)).any()
    batch = tpf.vmap(f)(np.stack([A + A.T, a]))
    assert np.isfinite(batch[0]).all() and np.isnan(batch[1]).all()
