"""vjp, jvp, Jacobians and Hessians: against the native sweep, each other, and closed forms."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.errors import StructureError
from tapeflow.tape import Tape
from tapeflow.transforms import pullback, pushforward
from tests.strategies import SMOOTH, numbers, same_bits, tapes

X = np.array([0.3, -0.7, 1.1])


def vector(x: Any) -> Any:
    return np.sin(x) * x[0] + np.sum(x * x)


def by_hand(x: Any) -> Any:
    jacobian = np.diag(np.cos(x) * x[0]) + 2.0 * x
    jacobian[:, 0] += np.sin(x)
    return jacobian


@given(tapes(SMOOTH, longest=15), st.data())
def test_a_tangent_and_a_cotangent_meet_in_one_number(tape: Tape, data: st.DataObject) -> None:
    x = data.draw(st.lists(numbers, min_size=tape.n_inputs, max_size=tape.n_inputs))
    t = data.draw(st.lists(numbers, min_size=tape.n_inputs, max_size=tape.n_inputs))
    n = len(tape.outputs)
    w = data.draw(st.lists(numbers, min_size=n, max_size=n))
    push, pull = pushforward(tape), pullback(tape)
    tangent = t[0] if len(t) == 1 else np.array(t)
    cotangent = w[0] if n == 1 else np.array(w)
    pushed = np.array(push(*x, tangent)[n:])
    pulled = np.array(pull(*x, cotangent)[n:])
    left, right = w @ pushed, pulled @ t
    # Both are sums over paths from inputs to outputs; each product and sum rounds once, relative
    # to the sum of magnitudes, for which the same sums at magnitudes of one are a bound of scale.
    # A product below the normal numbers is off by half of the smallest subnormal, 2**-1075, however
    # small it is. What is off so in the pullback at some value is multiplied by the magnitudes of
    # the paths from there back to the inputs; in the pushforward by those on to the outputs.
    back, forth = _magnitudes(tape, x, np.abs(w), np.abs(t))
    magnitude = back[: tape.n_inputs] @ np.abs(t)
    roundings = 8 * (len(tape) + 4) ** 2
    subnormal = 2.0**-1074 * (1.0 + back.max()) * (1.0 + forth.max())
    if np.isfinite(magnitude):
        assert abs(left - right) <= roundings * (2.0**-53 * magnitude + subnormal)


def _magnitudes(tape: Tape, x: list[float], w: Any, t: Any) -> tuple[Any, Any]:
    """For each slot, the sum over all paths of the product of the partials' magnitudes.

    Those to the outputs, which are seeded with w, and those from the inputs, with tangents t.
    """
    from tapeflow import reference

    values = reference.forward(tape, np.array(x)[:, None])
    back, forth = np.zeros(tape.n_slots), np.zeros(tape.n_slots)
    np.add.at(back, tape.outputs, w)
    forth[: tape.n_inputs] = t
    sizes: list[Any] = []
    with np.errstate(all="ignore"):
        for i in range(len(tape)):
            operands, slot = tape.operands_of(i), tape.slots[i]
            _, partials = tape.op(i).rule(*(values[own] for own in operands))
            sizes.append([np.abs(np.asarray(partial)).max() for partial in partials])
            forth[slot] = sum(
                forth[own] * size for own, size in zip(operands, sizes[i], strict=True)
            )
        for i in reversed(range(len(tape))):
            for own, size in zip(tape.operands_of(i), sizes[i], strict=True):
                back[own] += back[tape.slots[i]] * size
    return back, forth


@given(tapes(SMOOTH, n_outputs=1, longest=15), st.data())
def test_the_pullback_of_one_is_the_native_gradient(tape: Tape, data: st.DataObject) -> None:
    x = data.draw(st.lists(numbers, min_size=tape.n_inputs, max_size=tape.n_inputs))
    tape.forward(*x)
    seed = (1.0,)
    native = tape.backward(seed)
    _, *pulled = pullback(tape)(*x, 1.0)
    assert same_bits(np.ravel(native), np.ravel(pulled))


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian(mode: str) -> None:
    found = tpf.jacobian(vector, mode=mode)(X)
    # Each entry is a sum of at most three products.
    np.testing.assert_allclose(found, by_hand(X), rtol=0, atol=8 * 2.0**-53 * 4.0)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian_of_structures(mode: str) -> None:
    def f(p: Any, s: Any) -> Any:
        return {"a": np.outer(p["w"], p["w"]) * s, "b": (p["w"][0] * p["c"], 2.0 * s)}

    p = {"w": X, "c": 2.0}
    found = tpf.jacobian(f, argnums=(0, 1), mode=mode)(p, 3.0)
    by_p, by_s = found["a"]
    eye = np.eye(3)
    outer = np.einsum("ik,j->ijk", eye, X) + np.einsum("i,jk->ijk", X, eye)
    np.testing.assert_allclose(by_p["w"], 3.0 * outer, rtol=0, atol=8 * 2.0**-53 * 4.0)
    assert by_p["c"].shape == by_s.shape == (3, 3)
    assert not by_p["c"].any()
    assert np.array_equal(by_s, np.outer(X, X))
    first, second = found["b"]
    assert np.array_equal(first[0]["w"], [2.0, 0.0, 0.0])
    assert first[0]["c"] == X[0] and isinstance(first[0]["c"], float)
    assert second == ({"w": pytest.approx([0, 0, 0]), "c": 0.0}, 2.0)


def test_of_one_number() -> None:
    assert tpf.jacobian(lambda x: x**3)(2.0) == 12.0
    assert tpf.hessian(lambda x: x**3)(2.0) == 12.0
    assert tpf.jacobian(lambda x: np.array([x, x * x]))(3.0).tolist() == [1.0, 6.0]


def test_modes_agree_on_matrices() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((3, 2))

    def f(a: Any, b: Any) -> Any:
        return np.tanh(a @ b).T

    for argnums in (0, 1, (0, 1)):
        forward, reverse = (tpf.jacobian(f, argnums, mode)(a, b) for mode in ("forward", "reverse"))
        if not isinstance(argnums, tuple):
            forward, reverse = (forward,), (reverse,)
        for x, y in zip(forward, reverse, strict=True):
            np.testing.assert_allclose(x, y, rtol=0, atol=1e-15)


def test_hessian_and_hvp() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.exp(x[:-1]) * x[1:] ** 2)

    h = tpf.hessian(f)(X)
    expected = np.zeros((3, 3))
    for k in range(2):
        e = np.exp(X[k])
        expected[k, k] += e * X[k + 1] ** 2
        expected[k, k + 1] += e * 2 * X[k + 1]
        expected[k + 1, k] += e * 2 * X[k + 1]
        expected[k + 1, k + 1] += e * 2
    np.testing.assert_allclose(h, expected, rtol=0, atol=1e-15)
    v = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(tpf.hvp(f, (X,), (v,)), expected @ v, rtol=0, atol=4e-15)
    both = tpf.hvp(lambda x, s: f(x) * s, (X, 2.0), (v, 0.0))
    np.testing.assert_allclose(both[0], 2 * expected @ v, rtol=0, atol=8e-15)


def test_batches_of_jacobians() -> None:
    points = np.random.default_rng(0).standard_normal((50, 3))
    found = tpf.vmap(tpf.jacobian(vector))(points)
    for point, own in zip(points, found, strict=True):
        np.testing.assert_allclose(own, by_hand(point), rtol=0, atol=1e-14)
    v = np.ones(3)
    products = tpf.vmap(lambda x: tpf.hvp(lambda x: np.sum(x**3), (x,), (v,)))(points)
    np.testing.assert_allclose(products, 6.0 * points, rtol=4 * 2.0**-53)


def test_closing_over_values_of_an_enclosing_derivative() -> None:
    # d/da of 12 a at x = 2.
    assert tpf.grad(lambda a: tpf.grad(lambda x: a * x**3)(2.0))(1.0) == 12.0
    outer = tpf.jacobian(lambda a: tpf.jvp(lambda x: a * x * x, (3.0,), (1.0,))[1])
    assert outer(np.array([1.0, 2.0])).tolist() == [[6.0, 0.0], [0.0, 6.0]]
    assert tpf.grad(lambda x: tpf.vjp(lambda y: y * y * x, x)[1](1.0)[0])(3.0) == 12.0
    value, push = tpf.linearize(lambda x: x**2, 3.0)
    assert (value, push(1.0), push(0.5)) == (9.0, 6.0, 3.0)


def test_sixth_derivative() -> None:
    def f(x: Any) -> Any:
        return np.sin(x * np.exp(-x))

    sixth = f
    for _ in range(6):
        sixth = tpf.grad(sixth)
    import mpmath

    with mpmath.workdps(40):
        expected = mpmath.diff(lambda x: mpmath.sin(x * mpmath.exp(-x)), mpmath.mpf(0.7), 6)
    # The bar of the project; some hundred roundings of terms some tens of times the result.
    assert sixth(0.7) == pytest.approx(float(expected), rel=1e-10)


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="mode must be one of auto, forward, reverse"):
        tpf.jacobian(vector, mode="sideways")
    with pytest.raises(TypeError, match="cannot differentiate vector in an integer"):
        tpf.jacobian(vector)(np.array([1, 2, 3]))
    with pytest.raises(TypeError, match="cannot differentiate vector in an integer"):
        tpf.jvp(vector, (np.array([1, 2, 3]),), (X,))
    with pytest.raises(StructureError, match="argnums=1 is out of range"):
        tpf.jacobian(vector, argnums=1)(X)
    with pytest.raises(
        StructureError,
        match=r"the tangents of vector must have .*\(array\(3,\),\), not \(array\(2,\),\)",
    ):
        tpf.jvp(vector, (X,), (np.ones(2),))
    with pytest.raises(StructureError, match="the tangents of vector must have"):
        tpf.jvp(vector, (X,), ())
    with pytest.raises(StructureError, match="the cotangent of vector must have"):
        tpf.vjp(vector, X)[1](1.0)
    with pytest.raises(TypeError, match="as a tuple with one an argument"):
        tpf.jvp(vector, X, X)
    with pytest.raises(StructureError, match="returns 3 numbers"):
        tpf.hessian(vector)(X)
