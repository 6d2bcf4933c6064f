"""Derivatives of the same functions by JAX, where it is installed: to the second order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest

import tapeflow as tpf

jax = pytest.importorskip("jax")

rng = np.random.default_rng(11)
X, V = rng.normal(size=4), rng.normal(size=4)
P = {"w": rng.normal(size=(3, 4)), "b": (rng.normal(size=3), 0.7)}

# Each takes the module of functions, tapeflow's being NumPy.
FUNCTIONS: dict[str, tuple[Callable[..., Any], Any]] = {
    "chain": (lambda m, x: m.sum(m.sin(x[:-1]) * m.exp(x[1:]) ** 2), X),
    "softmax": (lambda m, x: m.sum(m.exp(x) * m.cos(x)) / m.sum(m.exp(x)), X),
    "layer": (lambda m, p: m.sum(m.tanh(p["w"] @ V + p["b"][0]) ** 2) * p["b"][1], P),
    "quadratic": (lambda m, p: p["b"][0] @ p["w"] @ p["w"].T @ p["b"][0] / p["b"][1], P),
    "determinant": (lambda m, p: m.linalg.slogdet(p["w"] @ p["w"].T)[1], P),
    "solve": (
        lambda m, p: m.sum(m.linalg.solve(p["w"] @ p["w"].T + 3.0 * m.eye(3), p["b"][0]) ** 2),
        P,
    ),
    "ties": (
        lambda m, x: m.max(m.stack([x[0] * x[1], x[1] * x[0]])) ** 2 + m.maximum(x[2], 0.1),
        X,
    ),
    "gather": (lambda m, x: m.sum(m.cumsum(x[np.array([0, 0, 2])]) ** 3), X),
    "norm": (lambda m, x: m.linalg.norm(x) * m.std(x), X),
}


def close(ours: Any, theirs: Any) -> None:
    ours, theirs = optree.tree_leaves(ours), jax.tree.leaves(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert np.shape(a) == np.shape(b)
        # Some hundred roundings, of numbers up to some tens, in another order.
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_jax(name: str) -> None:
    f, x = FUNCTIONS[name]
    v = optree.tree_map(lambda leaf: np.cos(np.asarray(leaf) + 1.0) * 1.0, x)
    v = optree.tree_map(lambda leaf: leaf if leaf.ndim else float(leaf), v)

    def ours(x: Any) -> Any:
        return f(np, x)

    def theirs(x: Any) -> Any:
        return f(jax.numpy, x)

    def all_of_jax(x: Any, v: Any) -> Any:
        gradient = jax.grad(theirs)
        return (
            jax.value_and_grad(theirs)(x),
            jax.jvp(theirs, (x,), (v,)),
            jax.vjp(theirs, x)[1](0.3),
            jax.hessian(theirs)(x),
            jax.jvp(gradient, (x,), (v,))[1],
        )

    with jax.enable_x64(True):
        expected = jax.jit(all_of_jax)(x, v)
    found = (
        tpf.value_and_grad(ours)(x),
        tpf.jvp(ours, (x,), (v,)),
        tpf.vjp(ours, x)[1](0.3),
        tpf.hessian(ours)(x),
        tpf.hvp(ours, (x,), (v,)),
    )
    for a, b in zip(found, expected, strict=True):
        close(a, b)


def test_argnums_and_aux_against_jax() -> None:
    def f(m: Any, p: Any, x: Any, s: Any) -> Any:
        y = m.tanh(p["w"] @ x) * s
        return {"y": y, "more": (m.sum(y), s * x)}, {"largest": m.max(y)}

    def ours(*args: Any) -> Any:
        return f(np, *args)

    def theirs(*args: Any) -> Any:
        return f(jax.numpy, *args)

    args, choices = ({"w": P["w"]}, X, 0.5), (0, (0, 2), (2, 1))
    with jax.enable_x64(True):
        expected = jax.jit(
            lambda *args: [
                transform(theirs, argnums, has_aux=True)(*args)
                for argnums in choices
                for transform in (jax.jacfwd, jax.jacrev)
            ]
        )(*args)
    found = [
        tpf.jacobian(ours, argnums, mode, has_aux=True)(*args)
        for argnums in choices
        for mode in ("forward", "reverse")
    ]
    for a, b in zip(found, expected, strict=True):
        close(a, b)
