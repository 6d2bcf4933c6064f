"""Tapes as functions for JAX: the same numbers, and JAX's derivatives of them."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.ops import OPS
from tapeflow.tracers import apply
from tests.export.test_c import matrices, moves, unused, with_nans

jax = pytest.importorskip("jax")

TOLERANCE = 1e-12
"""XLA's elementary functions are off by some units of 2**-53, in numbers near 1 to 100."""


@pytest.fixture(autouse=True)
def _in_float64() -> Any:
    with jax.enable_x64(True):
        yield


MISSING = {"j0", "j1", "y0", "y1", "polygamma"}
ON_NUMBERS = [op for op in OPS if op.array is None]


@pytest.mark.parametrize("args", [(0.3, 0.7, 1.1), (2.5, 1.5, -0.4)])
def test_ops_on_numbers(args: tuple[float, ...]) -> None:
    ops = [op for op in ON_NUMBERS if op.name not in MISSING]
    tape = tpf.record(lambda *x: [apply(op, x[: op.arity]) for op in ops], *args)
    function = tape.to_jax()
    found, expected = jax.jit(function)(*args), tape(*args)
    # Forward, as in reverse a NaN of one op reaches the others.
    gradients = jax.jit(jax.jacfwd(lambda *x: jax.numpy.stack(function(*x)), (0, 1, 2)))(*args)
    jacobians = tpf.jacobian(lambda *x: np.stack(tape_of(ops, x)), (0, 1, 2))(*args)
    for k, op in enumerate(ops):
        np.testing.assert_allclose(found[k], expected[k], TOLERANCE, TOLERANCE, err_msg=op.name)
        for one, other in zip(gradients, jacobians, strict=True):
            if np.isnan(expected[k]):
                continue
            np.testing.assert_allclose(one[k], other[k], 1e-11, 1e-11, err_msg=op.name)


def tape_of(ops: Any, x: Any) -> Any:
    return [apply(op, x[: op.arity]) for op in ops]


@pytest.mark.parametrize("name", sorted(MISSING))
def test_what_jax_has_not_is_refused_by_name(name: str) -> None:
    f = getattr(tpf.special, name)
    tape = tpf.record(f, 1.0) if name != "polygamma" else tpf.record(lambda x: f(2, x), 1.0)
    with pytest.raises(tpf.TapeError, match=f"{name} .* cannot be exported to JAX: JAX has no"):
        tape.to_jax()


def spectra(a: Any, b: Any) -> Any:
    c = a @ a.T
    _, s, _ = np.linalg.svd(b, full_matrices=False)
    _, r = np.linalg.qr(a)
    return s, np.abs(r), np.linalg.eigh(c)[0], np.linalg.pinv(b) @ b, tpf.linalg.expm(0.1 * a)


@pytest.mark.parametrize("f", [moves, matrices, spectra])
def test_arrays(f: Any) -> None:
    rng = np.random.default_rng(3)
    args = (rng.normal(size=(3, 6)), rng.normal(size=3))
    if f is not moves:
        args = (rng.normal(size=(4, 4)) + 4.0 * np.eye(4), rng.normal(size=(4, 2)))
    tape = tpf.record(f, *args)
    function = tape.to_jax()
    found, expected = jax.tree.leaves(jax.jit(function)(*args)), jax.tree.leaves(tape(*args))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, TOLERANCE, 1e-11)
    gradient = jax.jit(
        jax.grad(lambda *args: sum(x.sum() for x in jax.tree.leaves(function(*args))))
    )
    total = tpf.grad(lambda *args: sum(np.sum(x) for x in jax.tree.leaves(f(*args))))
    np.testing.assert_allclose(gradient(*args), total(*args), 1e-9, 1e-9)


@pytest.mark.parametrize("batched", [False, True])
def test_nothing_flows_back_from_what_is_of_no_use(batched: bool) -> None:
    args = with_nans()
    gradient = tpf.record(tpf.grad(unused, (0, 1, 2)), *args).to_jax()
    if batched:
        gradient = jax.vmap(gradient)
        found = [own[0] for own in jax.jit(gradient)(*(arg[None] for arg in args))]
    else:
        found = jax.jit(gradient)(*args)
    for one, other in zip(found, tpf.grad(unused, (0, 1, 2))(*args), strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, TOLERANCE, 1e-12)


def recurrence(x: Any, w: Any) -> Any:
    def body(carry: Any, x: Any) -> Any:
        carry = tpf.cond(carry > 0.3, lambda c: c * x, lambda c: c + w[0], carry)
        return carry, np.sin(carry * x)

    last, ys = tpf.scan(body, 0.5, x)
    back, _ = tpf.scan(lambda c, x: (c * x + w[1], None), 0.1, ys, reverse=True)
    return last + np.sum(ys) + back + tpf.switch(w[0], [np.sin, np.cos, np.exp], back)


def test_loops_and_branches() -> None:
    args = np.array([0.3, 0.6, -0.2]), np.array([1.2, 0.7])
    function = tpf.record(recurrence, *args).to_jax()
    value, gradient = tpf.value_and_grad(recurrence, (0, 1))(*args)
    np.testing.assert_allclose(jax.jit(function)(*args), value, TOLERANCE)
    for one, other in zip(jax.jit(jax.grad(function, (0, 1)))(*args), gradient, strict=True):
        np.testing.assert_allclose(one, other, 1e-11)
    # A derivative of ours, with its phases, as a function of JAX.
    pulled = jax.jit(tpf.record(tpf.grad(recurrence), *args).to_jax())
    np.testing.assert_allclose(pulled(*args), gradient[0], 1e-11)
    root = lambda a: tpf.while_loop(  # noqa: E731
        lambda x: abs(x * x - a) > 1e-12, lambda x: 0.5 * (x + a / x), a
    )
    np.testing.assert_allclose(
        jax.jit(tpf.record(root, 2.0).to_jax())(5.0), np.sqrt(5.0), TOLERANCE
    )


def test_structures_batches_and_second_derivatives() -> None:
    def f(p: Any, x: Any) -> Any:
        return {"loss": (p["w"] @ x - p["b"]) ** 2, "x": x}

    p, x = {"w": np.array([1.0, 2.0]), "b": 0.5}, np.array([3.0, 4.0])
    function = tpf.record(f, p, x).to_jax()
    assert function(p, x)["loss"] == 10.5**2
    assert jax.grad(lambda p: function(p, x)["loss"])(p)["b"] == -21.0
    batch = np.arange(6.0).reshape(3, 2)
    assert jax.vmap(function, (None, 0))(p, batch)["loss"].shape == (3,)
    assert jax.hessian(tpf.record(lambda x: np.exp(2.0 * x), 1.0).to_jax())(0.0) == 4.0
    with pytest.raises(tpf.StructureError, match="of another structure"):
        function(p, np.ones(3))


def test_branches_on_values_are_refused() -> None:
    tape = tpf.record(lambda x: x * 2.0 if x > 0.0 else x, 1.0)
    with pytest.raises(tpf.TapeError, match=r"takes branches on values, as at .* use tpf\.where"):
        tape.to_jax()
