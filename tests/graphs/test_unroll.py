"""Tapes taken apart into gates on numbers compute what the whole arrays and loops do."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.graphs.unroll import unrolled

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
    apart = unrolled(tape, 10_000)
    assert apart.numbers_only or any(op.name in ("amax", "amin") for op in apart.gates)
    assert apart.input_structure == tape.input_structure
    (value, gradient), (own, own_gradient) = tape.value_and_grad(X), apart.value_and_grad(X)
    # Sums of a few dozen terms of size 1, in another order.
    assert np.isclose(own, value, rtol=1e-13, atol=1e-14)
    assert np.allclose(own_gradient, gradient, rtol=1e-12, atol=1e-13)


def test_guards_are_moved() -> None:
    def f(x: Any) -> Any:
        return np.sum(x) if x[1] > 0.0 else x[0]

    apart = unrolled(tpf.record(f, np.ones(3)), 100)
    assert len(apart.guards) == 1
    assert "> 0" in apart.disassemble().splitlines()[0] or apart.op(0).name == "greater"
    assert apart(np.array([1.0, 2.0, 3.0])) == 6.0


def test_a_tape_of_numbers_stays_as_it_is() -> None:
    tape = tpf.record(lambda x: np.sin(x) * x, 1.0)
    assert unrolled(tape, 1) is tape


@pytest.mark.parametrize(
    "f, message",
    [
        (lambda x: np.linalg.det(x[:, :2]), r"cannot take det apart .*\(test_unroll.py:\d+\)"),
        (lambda x: x.ravel()[np.argsort(x.ravel())[1]], "cannot take argsort apart"),
        (
            lambda x: tpf.while_loop(lambda c: c < 9.0, lambda c: c * 2.0, x[0, 0]),
            "cannot take while_loop apart",
        ),
        (lambda x: tpf.fori_loop(0, 999, lambda k, c: c * x[0, 0], x[0, 1]), "more than 500 gates"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(f: Any, message: str) -> None:
    with pytest.raises(tpf.TapeError, match=message):
        unrolled(tpf.record(f, X), 500)
