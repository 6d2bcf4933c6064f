"""Tapes taken apart into gates on numbers compute what the whole arrays and loops do."""

import math
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.graphs.unroll import TooLong, unrolled
from tapeflow.transforms import pullback

X = np.linspace(0.5, 1.5, 6).reshape(2, 3)


def assigned(x: Any) -> Any:
    y = np.zeros(3) + x[0]
    y[1] = x[1, 2]
    return np.sum(y * y)


def scanned(x: Any) -> Any:
    carry, ys = tpf.scan(lambda c, t: (c * t + x[0, 1], c + t), x[0, 0], x[1])
    return carry * np.sum(ys)


def branched(x: Any) -> Any:
    branches = [lambda u: u * 2.0, lambda u: np.sin(u), lambda u: u**2]
    return sum(tpf.switch(k, branches, x[0, 1]) for k in (-3, 0, 1, 2, 7)) + tpf.switch(
        x[0, 0] * 2.5, branches, x[1, 1]
    )


FUNCTIONS: dict[str, Any] = {
    "sum": lambda x: np.sum(np.sum(x, axis=1) ** 2),
    "matmul": lambda x: (x @ x.T)[0, 1],
    "max": lambda x: np.max(x, axis=0)[1] * np.min(x),
    "cumsum": lambda x: np.cumsum(x)[3],
    "std": lambda x: np.std(x),
    "norm": lambda x: np.linalg.norm(x),
    "gather": lambda x: np.sum(x[[0, 1, 1], [2, 0, 1]] * x[0]),
    "transpose": lambda x: np.concatenate([x.T.ravel(), x[0]])[2] * x[1, 1],
    "softmax": lambda x: tpf.nn.softmax(x)[0, 1],
    "where": lambda x: np.sum(np.where(x > 1.0, x, x * x)),
    "assigned": assigned,
    "fori": lambda x: tpf.fori_loop(0, 5, lambda k, c: c * x[0, 1] + k, x[1, 1]),
    "scan": scanned,
    "switch": branched,
    "arrays in a loop": lambda x: np.sum(tpf.fori_loop(0, 3, lambda k, c: np.tanh(c) * x[0], x[1])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_stay(name: str) -> None:
    tape = tpf.record(FUNCTIONS[name], X)
    apart, known = unrolled(tape, X.ravel(), 10_000)
    assert not known
    assert apart.numbers_only or any(op.name in ("amax", "amin") for op in apart.gates)
    assert apart.input_structure == tape.input_structure
    (value, gradient), (own, own_gradient) = tape.value_and_grad(X), apart.value_and_grad(X)
    # Sums of a few dozen terms of size 1, in another order.
    assert np.isclose(own, value, rtol=1e-13, atol=1e-14)
    assert np.allclose(own_gradient, gradient, rtol=1e-12, atol=1e-13)


def test_guards_are_moved() -> None:
    def f(x: Any) -> Any:
        return np.sum(x) if x[1] > 0.0 else x[0]

    apart, _ = unrolled(tpf.record(f, np.ones(3)), np.ones(3), 100)
    assert len(apart.guards) == 1
    assert "> 0" in apart.disassemble().splitlines()[0] or apart.op(0).name == "greater"
    assert apart(np.array([1.0, 2.0, 3.0])) == 6.0


def test_a_tape_of_numbers_stays_as_it_is() -> None:
    tape = tpf.record(lambda x: np.sin(x) * x, 1.0)
    assert unrolled(tape, np.ones(1), 2).tape is tape


def newton(x: Any) -> Any:
    return tpf.while_loop(lambda c: abs(c * c - x) > 1e-9, lambda c: c - (c * c - x) / (2.0 * c), x)


@pytest.mark.parametrize(
    "f, at, elsewhere",
    [
        (newton, (2.0,), (200.0,)),
        (lambda x: tpf.while_loop(lambda c: c < 9.0, lambda c: c * x, 20.0), (2.0,), None),
        (lambda x, n: tpf.fori_loop(0, n, lambda k, c: c * x + k, 0.5), (1.5, 4.0), (1.5, 5.0)),
        (lambda x, n: tpf.fori_loop(0, n, lambda k, c: c * x, 0.5), (1.5, -2.0), (1.5, 1.0)),
    ],
)
def test_steps_that_depend_on_values_are_guarded(f: Any, at: Any, elsewhere: Any) -> None:
    """The steps are those at the inputs, in every bit, and elsewhere the guards do not hold."""
    tape = tpf.record(f, *(x + 1.0 for x in at))
    apart, known = unrolled(tape, np.array(at), 1_000)
    assert not known
    assert apart.numbers_only
    assert apart.value_and_grad(*at) == tape.value_and_grad(*at)
    if elsewhere is not None:
        with pytest.raises(tpf.GuardError):
            apart(*elsewhere)


def test_the_pullback_of_a_loop_is_taken_apart() -> None:
    tape = pullback(tpf.record(newton, 2.0))
    apart, _ = unrolled(tape, np.array([2.0, 1.0]), 1_000)
    assert apart.numbers_only
    assert apart(2.0, 1.0) == tape(2.0, 1.0)


@tpf.gate
class Cube:
    def forward(self, x: Any) -> Any:
        self.x = float(x)
        return math.pow(self.x, 3.0)

    def backward(self, dz: Any) -> Any:
        return [dz * 3.0 * self.x**2]


KNOWN: dict[str, Any] = {
    "det": lambda x: np.linalg.det(x[:, :2]) * x[0, 0],
    "argsort": lambda x: x.ravel()[np.argsort(x.ravel())[1]],
    "argmax": lambda x: x[0, np.argmax(x[0])] * np.argmax(x[1]),
    "sort": lambda x: np.sort(x, axis=1)[1, 0] * np.sum(x),
    "gamma": lambda x: np.sum(tpf.special.gamma(x)),
    "cube": lambda x: Cube()(x[0, 1]) * x[0, 1],
    "solve": lambda x: np.sum(np.linalg.solve(x[:, :2], x[:, 2]) ** 2),
    "svd": lambda x: np.linalg.svd(x, compute_uv=False)[1],
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_cannot_be_taken_apart_is_known_at_the_inputs(name: str) -> None:
    tape = tpf.record(KNOWN[name], X)
    at = np.array([[2.0, 0.5, 1.5], [0.25, 3.0, -1.25]])
    apart, known = unrolled(tape, at.ravel(), 500)
    assert known
    assert known <= set(apart.gates)
    (value, gradient), (own, own_gradient) = tape.value_and_grad(at), apart.value_and_grad(at)
    assert np.isclose(own, value, rtol=1e-13, atol=1e-14)
    assert np.allclose(own_gradient, gradient, rtol=1e-12, atol=1e-13)


def test_long_loops_stay_whole() -> None:
    tape = tpf.record(lambda x: tpf.fori_loop(0, 999, lambda k, c: c * x, 2.0) * x, 1.0)
    with pytest.raises(TooLong, match="up to 500 gates, and <lambda> has more"):
        unrolled(tape, np.array([1.01]), 500)
    apart, known = unrolled(tape, np.array([1.01]), 500, whole_loops=True)
    assert [op.name for op in known] == ["fori_loop"]
    assert len(apart) == 2
    value, gradient = tape.value_and_grad(1.01)
    assert apart.value_and_grad(1.01) == (value, pytest.approx(gradient, rel=1e-12))


def test_steps_without_gates_are_counted() -> None:
    swapped = tpf.record(
        lambda x: tpf.fori_loop(0, 10**9, lambda k, c: (c[1], c[0]), (x, 2.0 * x))[0], 1.0
    )
    with pytest.raises(TooLong):
        unrolled(swapped, np.ones(1), 500)


def test_more_known_derivatives_than_a_page_holds_are_refused() -> None:
    tape = tpf.record(lambda x: np.sum(np.linalg.inv(x)), 2.0 * np.eye(9))
    message = r"no room for the 6,561 local derivatives of inv \(test_unroll.py:\d+\): record it"
    with pytest.raises(tpf.TapeError, match=message):
        unrolled(tape, np.eye(9).ravel(), 500)
