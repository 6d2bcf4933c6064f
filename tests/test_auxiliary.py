"""has_aux and stop_gradient: the result shapes of JAX, and what an enclosing derivative sees."""

from typing import Any

import numpy as np
import optree
import pytest

import tapeflow as tpf
from tapeflow.errors import StructureError
from tests.strategies import same_bits

P = {"w": np.array([1.0, 2.0]), "b": 0.5}
Y = np.array([3.0, 4.0])


def loss(p: Any, y: Any) -> Any:
    r = p["w"] * y - p["b"]
    return np.sum(r * r)


def with_residuals(p: Any, y: Any) -> Any:
    return loss(p, y), {"r": p["w"] * y - p["b"], "largest": np.max(y)}


AUX = {"r": np.array([2.5, 7.5]), "largest": 4.0}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and same_bits(a, b)


@pytest.mark.parametrize("argnums", [0, 1, -1, (0, 1), (-1, 0)])
def test_results_are_those_without_and_the_aux(argnums: Any) -> None:
    for name in ("grad", "jacobian", "hessian"):
        transform = getattr(tpf, name)
        got, aux = transform(with_residuals, argnums, has_aux=True)(P, Y)
        assert same(got, transform(loss, argnums)(P, Y)), name
        assert same(aux, AUX), name
    (value, aux), gradient = tpf.value_and_grad(with_residuals, argnums, has_aux=True)(P, Y)
    assert same((value, gradient), tpf.value_and_grad(loss, argnums)(P, Y))
    assert same(aux, AUX)


def test_products_with_the_jacobian() -> None:
    tangents = {"w": np.ones(2), "b": 2.0}, np.array([0.5, -1.0])
    assert same(
        tpf.jvp(with_residuals, (P, Y), tangents, has_aux=True),
        (*tpf.jvp(loss, (P, Y), tangents), AUX),
    )
    value, pull, aux = tpf.vjp(with_residuals, P, Y, has_aux=True)
    assert same((value, pull(2.0), aux), (float(loss(P, Y)), tpf.vjp(loss, P, Y)[1](2.0), AUX))
    value, push, aux = tpf.linearize(with_residuals, P, Y, has_aux=True)
    assert same((value, push(*tangents), aux), (*tpf.jvp(loss, (P, Y), tangents), AUX))


@pytest.mark.parametrize("reduce", [None, "sum", "mean"])
@pytest.mark.parametrize("arrays", [False, True])
def test_batches(reduce: Any, arrays: bool) -> None:
    """On numbers the native sweep seeds every result; on arrays the pullback runs."""
    x = np.random.default_rng(0).standard_normal(40)

    def f(w: Any, x: Any) -> Any:
        value = np.sum(np.full(3, w) * x * x) if arrays else w * x * x
        return value, (np.sin(x), w)

    got = tpf.vmap(tpf.value_and_grad(f, (0, 1), has_aux=True), (None, 0), reduce=reduce)(2.0, x)
    k = 3.0 if arrays else 1.0
    each = ((k * 2 * x * x, (np.sin(x), np.full(40, 2.0))), (k * x * x, k * 4 * x))
    (value, aux), gradient = each
    for a, b in zip((got[0][0], *got[0][1], *got[1]), (value, *aux, *gradient), strict=True):
        expected = b if reduce is None else getattr(np, reduce)(b)
        # A sum of 40 numbers of size 10 at most, in another order.
        np.testing.assert_allclose(a, expected, rtol=1e-14, atol=40 * 40 * 2.0**-53)


def test_an_enclosing_derivative_goes_through_the_aux() -> None:
    def cube(x: Any) -> Any:
        return x**3, x**2

    assert tpf.grad(lambda x: tpf.grad(cube, has_aux=True)(x)[1])(2.0) == 4.0
    assert tpf.grad(lambda x: tpf.grad(cube, has_aux=True)(x)[0])(2.0) == 12.0
    assert tpf.grad(lambda x: tpf.jacobian(cube, has_aux=True)(x)[1])(2.0) == 4.0
    assert tpf.grad(lambda x: tpf.vjp(cube, x, has_aux=True)[2])(2.0) == 4.0
    assert tpf.grad(lambda x: tpf.jvp(cube, (x,), (1.0,), has_aux=True)[2])(2.0) == 4.0
    closed = tpf.grad(lambda a: tpf.grad(lambda x: (a * x**3, a * x), has_aux=True)(2.0)[1])
    assert closed(3.0) == 2.0


def test_a_result_that_is_no_pair() -> None:
    for result, kind in (((1.0, 2.0, 3.0), "a tuple of 3"), (1.0, "a float")):
        with pytest.raises(StructureError, match=f"must return a pair with has_aux=True.*{kind}"):
            tpf.grad(lambda x, result=result: result, has_aux=True)(1.0)
    with pytest.raises(StructureError, match="not a traced value"):
        tpf.jacobian(lambda x: x, has_aux=True)(1.0)
    with pytest.raises(StructureError, match="returns 2 numbers, and a gradient is of one"):
        tpf.grad(lambda x: ((x, x), 1.0), has_aux=True)(1.0)


def test_stop_gradient_of_structures() -> None:
    def f(x: Any) -> Any:
        held = tpf.stop_gradient({"a": x, "b": (x[0], 2)})
        return np.sum(held["a"] * x) * held["b"][0] * held["b"][1]

    x = np.array([3.0, 5.0])
    for how in (tpf.grad(f), lambda x: tpf.vmap(tpf.grad(f))(np.stack([x, x]))[1]):
        assert same_bits(how(x), 6.0 * x)
    assert not tpf.jacobian(lambda x: tpf.stop_gradient(x) * 1.0)(x).any()
    assert tpf.jvp(lambda x: tpf.stop_gradient(x), (x,), (x,))[1].tolist() == [0.0, 0.0]
    # Plain values are given back as they are.
    assert tpf.stop_gradient(x) is x
    assert tpf.stop_gradient([1, "name", None]) == [1, "name", None]
    # Through every enclosing derivative.
    assert tpf.grad(lambda x: tpf.grad(lambda y: tpf.stop_gradient(y) ** 2 * y)(x))(3.0) == 0.0


@pytest.mark.parametrize("argnums", [0, -2, (0,), (1, 0)])
def test_products_with_the_hessian(argnums: Any) -> None:
    chosen = argnums if isinstance(argnums, tuple) else (argnums,)
    v = tuple(({"w": np.array([1.0, -1.0]), "b": 2.0}, np.array([0.5, 1.0]))[k] for k in chosen)
    expected = tpf.hvp(loss, (P, Y), v, argnums)
    assert same(
        tpf.hvp(with_residuals, (P, Y), v, argnums, has_aux=True),
        (expected, AUX),
    )

    def of_a_batch(y: Any) -> Any:
        return tpf.hvp(with_residuals, (P, y), v, argnums, has_aux=True)

    batch = tpf.vmap(of_a_batch)(np.stack([Y, Y + 1.0]))
    alone = of_a_batch(Y)
    for many, one in zip(optree.tree_leaves(batch), optree.tree_leaves(alone), strict=True):
        assert same_bits(many[0], one)
