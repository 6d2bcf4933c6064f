"""Every transform of every transform, of functions and of recorded ones, alone and in batches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf

Scalar = Callable[[Any], Any]

FIRST: dict[str, Callable[[Scalar], Scalar]] = {
    "grad": lambda f: tpf.grad(f),
    "grad of a function": lambda f: tpf.grad(tpf.function(f)),
    "function of grad": lambda f: tpf.function(tpf.grad(f)),
    "value_and_grad": lambda f: lambda x: tpf.value_and_grad(f)(x)[1],
    "grad with aux": lambda f: lambda x: tpf.grad(lambda y: (f(y), y), has_aux=True)(x)[0],
    "jacobian": lambda f: tpf.jacobian(f),
    "jacobian forward": lambda f: tpf.jacobian(f, mode="forward"),
    "jacobian reverse": lambda f: tpf.jacobian(tpf.function(f), mode="reverse"),
    "jvp": lambda f: lambda x: tpf.jvp(f, (x,), (1.0,))[1],
    "jvp of a function": lambda f: tpf.function(
        lambda x: tpf.jvp(tpf.function(f), (x,), (1.0,))[1]
    ),
    "vjp": lambda f: lambda x: tpf.vjp(f, x)[1](1.0)[0],
    "linearize": lambda f: lambda x: tpf.linearize(f, x)[1](1.0),
    "closed over by grad": lambda f: lambda x: tpf.grad(lambda s: f(x + s))(0.0),
    "closed over by jvp": lambda f: lambda x: tpf.jvp(lambda s: f(x + s), (0.0,), (1.0,))[1],
    "closed over by vjp": lambda f: lambda x: tpf.vjp(lambda s: f(x + s), 0.0)[1](1.0)[0],
    "closed over by linearize": lambda f: lambda x: tpf.linearize(lambda s: f(x + s), 0.0)[1](1.0),
    "closed over by jacobian": lambda f: lambda x: tpf.jacobian(lambda s: f(x + s))(0.0),
    "among arrays": lambda f: (
        lambda x: tpf.jacobian(lambda v: np.array([f(v[0]) * 1.0, v[1]]))(np.array([1.0, 2.0]) * x)[
            0, 0
        ]
    ),
}

SECOND: dict[str, Callable[[Scalar], Scalar]] = {
    "hessian": lambda f: tpf.hessian(f),
    "hessian of a function": lambda f: tpf.hessian(tpf.function(f)),
    "function of a hessian": lambda f: tpf.function(tpf.hessian(f)),
    "hvp": lambda f: lambda x: tpf.hvp(f, (x,), (1.0,)),
    "closed over by hvp": lambda f: lambda x: tpf.hvp(lambda s: f(x + s), (0.0,), (1.0,)),
    "closed over by hessian": lambda f: lambda x: tpf.hessian(lambda s: f(x + s))(0.0),
}


def f(x: Any) -> Any:
    return np.sin(x) * x**2


def second(x: Any) -> Any:
    return 2.0 * np.sin(x) + 4.0 * x * np.cos(x) - x * x * np.sin(x)


def third(x: Any) -> Any:
    return 6.0 * np.cos(x) - 6.0 * x * np.sin(x) - x * x * np.cos(x)


X = 0.7
XS = np.array([0.1, X, 0.3])

# Sums of ten products, each some roundings off, of numbers below four.
CLOSE = 100 * 2.0**-53


@pytest.mark.parametrize("outer", FIRST)
@pytest.mark.parametrize("inner", FIRST)
def test_first_of_first(outer: str, inner: str) -> None:
    twice = FIRST[outer](FIRST[inner](f))
    assert abs(twice(X) - second(X)) <= CLOSE


@pytest.mark.parametrize("outer", FIRST)
@pytest.mark.parametrize("inner", ["grad", "jvp", "jacobian", "closed over by grad"])
def test_first_of_first_in_a_batch(outer: str, inner: str) -> None:
    twice = FIRST[outer](FIRST[inner](f))
    assert np.all(np.abs(tpf.vmap(twice)(XS) - second(XS)) <= CLOSE)
    assert abs(tpf.vmap(twice, reduce="sum")(XS) - np.sum(second(XS))) <= 3 * CLOSE


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("twice", SECOND)
def test_second_of_first_and_first_of_second(first: str, twice: str) -> None:
    for thrice in (SECOND[twice](FIRST[first](f)), FIRST[first](SECOND[twice](f))):
        assert abs(thrice(X) - third(X)) <= CLOSE


@pytest.mark.parametrize("twice", SECOND)
def test_second_in_a_batch(twice: str) -> None:
    assert np.all(np.abs(tpf.vmap(SECOND[twice](f))(XS) - second(XS)) <= CLOSE)


def quartic(p: Any, y: Any) -> Any:
    return np.sum((p["w"] @ y) ** 2) * p["s"] ** 2


def test_structures_through_two_transforms() -> None:
    """d2/dp dp of |w y|^2 s^2, by each way to a second derivative."""
    rng = np.random.default_rng(0)
    p = {"w": rng.standard_normal((2, 3)), "s": 1.5}
    y = rng.standard_normal(3)
    r = p["w"] @ y
    ww = 2.0 * p["s"] ** 2 * np.einsum("ik,j,l->ijkl", np.eye(2), y, y)
    ws = 4.0 * p["s"] * np.outer(r, y)
    ss = 2.0 * (r @ r)
    for hessian in (
        tpf.hessian(quartic),
        tpf.jacobian(tpf.grad(quartic), mode="forward"),
        tpf.jacobian(tpf.grad(quartic), mode="reverse"),
        tpf.jacobian(tpf.jacobian(tpf.function(quartic))),
        tpf.function(tpf.hessian(quartic)),
    ):
        found = hessian(p, y)
        np.testing.assert_allclose(found["w"]["w"], ww, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(found["w"]["s"], ws, rtol=1e-14)
        np.testing.assert_allclose(found["s"]["w"], ws, rtol=1e-14)
        np.testing.assert_allclose(found["s"]["s"], ss, rtol=1e-14)
    v = {"w": rng.standard_normal((2, 3)), "s": 0.5}
    product = tpf.hvp(quartic, (p, y), (v,), argnums=0)
    expected = np.einsum("ijkl,kl->ij", ww, v["w"]) + ws * v["s"]
    np.testing.assert_allclose(product["w"], expected, rtol=1e-13)
    np.testing.assert_allclose(product["s"], np.sum(ws * v["w"]) + ss * v["s"], rtol=1e-13)
    (same,) = tpf.hvp(quartic, (p, y), (v,), argnums=[-2])
    assert np.array_equal(same["w"], product["w"])


@pytest.mark.jit
@pytest.mark.parametrize("reduce", [None, "sum", "mean"])
def test_many_points_in_one_call(reduce: Any) -> None:
    n = 100_000
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((2, n, 3))

    def g(x: Any) -> Any:
        return np.array([x[0] * x[1], np.sin(x[2])])

    def h(x: Any) -> Any:
        return np.sum(x**3) + x[0] * x[1]

    def total(each: Any) -> Any:
        return each if reduce is None else getattr(np, reduce)(each, axis=0)

    jacobians = np.zeros((n, 2, 3))
    jacobians[:, 0, 0], jacobians[:, 0, 1], jacobians[:, 1, 2] = x[:, 1], x[:, 0], np.cos(x[:, 2])
    hessians = np.zeros((n, 3, 3))
    hessians[:, [0, 1, 2], [0, 1, 2]] = 6.0 * x
    hessians[:, 0, 1] = hessians[:, 1, 0] = 1.0
    products = np.einsum("nij,nj->ni", hessians, v)
    # A sum of n numbers of size ten, in another order; its error grows with the root of n.
    close = {"rtol": 1e-13, "atol": 1e-9 if reduce == "sum" else 1e-13}
    found = tpf.vmap(tpf.jacobian(g), reduce=reduce)(x)
    np.testing.assert_allclose(found, total(jacobians), **close)
    found = tpf.vmap(tpf.hessian(h), reduce=reduce)(x)
    np.testing.assert_allclose(found, total(hessians), **close)
    found = tpf.vmap(lambda x, v: tpf.hvp(h, (x,), (v,)), reduce=reduce)(x, v)
    np.testing.assert_allclose(found, total(products), **close)


def test_a_variable_bound_anew_is_seen_through_transforms() -> None:
    factor = 2.0
    transforms = [
        tpf.grad(tpf.grad(lambda x: factor * x**2)),
        tpf.hessian(lambda x: factor * x**2),
        tpf.function(tpf.grad(tpf.grad(lambda x: factor * x**2))),
        tpf.jacobian(tpf.grad(lambda x: factor * x**2)),
        lambda x: tpf.grad(tpf.grad(lambda x: (factor * x**2, x), has_aux=True), has_aux=True)(x)[
            0
        ],
    ]
    assert [own(1.0) for own in transforms] == [4.0] * 5
    factor = 3.0
    assert [own(1.0) for own in transforms] == [6.0] * 5
    batch = tpf.vmap(tpf.jacobian(lambda x: factor * x**2))
    assert batch(np.ones(2)).tolist() == [6.0, 6.0]
    factor = 5.0
    assert batch(np.ones(2)).tolist() == [10.0, 10.0]
