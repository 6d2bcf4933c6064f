"""scipy.special's functions: values, and gradients of two orders against differences."""

from typing import Any

import numpy as np
import pytest
from scipy import special

import tapeflow as tpf
from tests.numpy_api.test_numpy_api import difference, directions_of, inner, weighted

UNIT, POSITIVE = np.linspace(0.1, 0.9, 7), np.linspace(0.4, 4.0, 7)
SIGNED = np.linspace(-2.1, 2.3, 7)

CASES: dict[str, tuple[Any, ...]] = {
    **{name: (SIGNED,) for name in ("erf", "erfc", "expit", "log_expit", "ndtr", "log_ndtr")},
    **{name: (SIGNED,) for name in ("i0", "i0e", "i1", "i1e", "j0", "j1")},
    **{name: (POSITIVE,) for name in ("gamma", "gammaln", "digamma", "psi", "y0", "y1", "entr")},
    "erfinv": (UNIT * 2 - 1,),
    "ndtri": (UNIT,),
    "logit": (UNIT,),
    "xlogy": (SIGNED, POSITIVE),
    "xlog1py": (SIGNED, POSITIVE),
    "rel_entr": (POSITIVE, POSITIVE[::-1].copy()),
    "beta": (POSITIVE, POSITIVE[::-1].copy()),
    "betaln": (POSITIVE, POSITIVE[::-1].copy()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("ours", [False, True])
def test_ufuncs(name: str, ours: bool) -> None:
    args = CASES[name]
    f = getattr(tpf.special if ours else special, name)
    expected = getattr(special, name)(*args)
    # Both are within a few ulp, and differences of gammaln lose some digits.
    assert np.allclose(tpf.record(f, *args)(*args), expected, rtol=1e-11, atol=1e-13)
    loss = weighted(f)
    every = tuple(range(len(args)))
    gradient = tpf.grad(loss, every)
    v, w = directions_of(args, 7), directions_of(args, 8)
    estimate, bound = difference(loss, args, v)
    assert abs(inner(gradient(*args), v) - estimate) <= bound

    def slope(*xs: Any) -> Any:
        return sum(np.sum(g * d) for g, d in zip(gradient(*xs), v, strict=True))

    estimate, bound = difference(slope, args, w)
    size = max(1.0, *(float(np.max(np.abs(g))) for g in gradient(*args)))
    assert abs(inner(tpf.grad(slope, every)(*args), w) - estimate) <= bound * size + 2.0**-30 * size


@pytest.mark.parametrize("n", [0, 1, 2])
def test_polygamma(n: int) -> None:
    f = tpf.record(lambda x: tpf.special.polygamma(n, x), POSITIVE)
    assert np.allclose(f(POSITIVE), special.polygamma(n, POSITIVE), rtol=1e-13)
    gradient = tpf.grad(lambda x: np.sum(tpf.special.polygamma(n, x)))(POSITIVE)
    assert np.allclose(gradient, special.polygamma(n + 1, POSITIVE), rtol=1e-13)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("name", ["logsumexp", "softmax", "log_softmax"])
def test_sums_of_exponentials(name: str, axis: Any) -> None:
    x = np.random.default_rng(3).normal(size=(3, 4)) * 3
    f = getattr(tpf.special, name)
    expected = getattr(special, name)(x, axis=axis)
    assert np.allclose(tpf.record(lambda x: f(x, axis=axis), x)(x), expected, rtol=1e-13)
    loss = weighted(lambda x: f(x, axis=axis))
    v = directions_of((x,), 9)
    estimate, bound = difference(loss, (x,), v)
    assert abs(inner((tpf.grad(loss)(x),), v) - estimate) <= bound


def test_logsumexp_with_scales_and_infinities() -> None:
    x, b = np.array([1.0, -np.inf, 3.0]), np.array([2.0, 1.0, 0.0])
    f = tpf.record(lambda x, b: tpf.special.logsumexp(x, b=b), x, b)
    assert np.isclose(f(x, b), special.logsumexp(x, b=b), rtol=1e-14)
    gradient = tpf.grad(lambda x: tpf.special.logsumexp(x))(x)
    assert np.allclose(gradient, special.softmax(x), rtol=1e-14)
    # No largest term: the table of conventions says NaN.
    lowest = np.full(2, -np.inf)
    value, gradient = tpf.value_and_grad(lambda x: tpf.special.logsumexp(x))(lowest)
    assert value == -np.inf
    assert np.isnan(gradient).all()


def test_xlogy_at_zero() -> None:
    assert tpf.grad(special.xlogy, (0, 1))(0.0, 0.0) == (0.0, 0.0)


def test_scipys_own_functions_in_python_say_what_to_use() -> None:
    from scipy import linalg

    x = np.eye(3)
    for f, instead in (
        (lambda x: special.logsumexp(x), "tpf.special.logsumexp"),
        (lambda x: linalg.expm(x), "tpf.linalg.expm"),
        (lambda x: linalg.solve_triangular(x, x[0]), "tpf.linalg.solve_triangular"),
    ):
        with pytest.raises(tpf.TracingError, match=rf"\(test_special\.py:\d+\): use {instead}"):
            tpf.record(f, x)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(
        tpf.TracingError, match=r"cannot record scipy\.special\.zeta \(test_special\.py"
    ):
        tpf.record(lambda x: special.zeta(x, 2.0), 3.0)
    with pytest.raises(AttributeError, match=r"tapeflow\.special has no zeta"):
        _ = tpf.special.zeta
