"""Optimisers: one step by hand, convergence, and that nothing is changed in place."""

import math
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow import optim

OPTIMIZERS = {
    "sgd": optim.sgd(0.05),
    "momentum": optim.sgd(0.02, momentum=0.9),
    "nesterov": optim.sgd(0.02, momentum=0.9, nesterov=True),
    "adam": optim.adam(0.05),
    "adamw": optim.adamw(0.05, decay=1e-4),
    "scheduled": optim.adam(optim.cosine(0.1, 600, warmup=20)),
    "clipped": optim.sgd(0.1, clip=1.0),
}


def bowl(p: dict[str, Any]) -> Any:
    return np.sum((p["x"] - 1.0) ** 2 * np.array([1.0, 4.0])) + (p["y"] + 2.0) ** 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_finds_the_minimum_and_changes_nothing_in_place(name: str) -> None:
    optimizer = OPTIMIZERS[name]
    p: Any = {"x": np.array([3.0, -1.0]), "y": 0.5}
    start = p["x"].copy()
    state = optimizer.init(p)
    first, first_state = p, state
    gradient = tpf.grad(bowl)
    for _ in range(600):
        p, state = optimizer.update(gradient(p), state, p)
    # Adam's steps are of the size of its rate, and so is what is left of them.
    assert np.allclose(p["x"], 1.0, atol=0.02)
    assert math.isclose(p["y"], -2.0, abs_tol=0.02)
    assert np.array_equal(first["x"], start)
    assert first_state.step == 0


def test_one_step_of_adam_by_hand() -> None:
    optimizer = optim.adam(0.1, eps=0.0)
    p, state = optimizer.update({"x": np.array([3.0, -0.5])}, optimizer.init({"x": np.zeros(2)}),
                                {"x": np.zeros(2)})  # fmt: skip
    # The first step is the rate, against the gradient's sign.
    assert np.allclose(p["x"], [-0.1, 0.1], rtol=1e-12)
    assert state.step == 1


def test_clipping_scales_all_gradients_together() -> None:
    optimizer = optim.sgd(1.0, clip=1.0)
    zeros = {"a": np.zeros(1), "b": np.zeros(1)}
    p, _ = optimizer.update(
        {"a": np.array([3.0]), "b": np.array([4.0])}, optimizer.init(zeros), zeros
    )
    assert np.allclose([p["a"][0], p["b"][0]], [-0.6, -0.8])
    assert optim.global_norm({"a": np.array([3.0]), "b": 4.0}) == 5.0


def test_float32_stays() -> None:
    optimizer = optim.adam(0.1)
    p = {"x": np.ones(2, np.float32)}
    q, _ = optimizer.update(p, optimizer.init(p), p)
    assert q["x"].dtype == np.float32


def test_schedules() -> None:
    assert [optim.piecewise({0: 1.0, 3: 0.5})(k) for k in range(5)] == [1.0, 1.0, 1.0, 0.5, 0.5]
    assert optim.exponential(1.0, 10, 0.5)(20) == 0.25
    assert optim.constant(0.3)(99) == 0.3
    with pytest.raises(ValueError, match="rate from step 0"):
        optim.piecewise({1: 0.1})
    with pytest.raises(ValueError, match="momentum must be"):
        optim.sgd(0.1, momentum=1.5)
