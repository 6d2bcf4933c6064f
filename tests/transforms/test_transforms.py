"""The pullback as a tape: equal to the native sweep, and right to every order."""

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow import reference
from tapeflow.tape import Tape
from tapeflow.transforms import pullback
from tests.strategies import SMOOTH, numbers, same_bits, tapes, wild


def run(tape: Tape, *args: Any) -> Any:
    """A tape's results end to end, a list of one number standing for a number."""
    leaves = tape.input_structure.leaves
    inputs = [x[0] if leaf.shape is None and isinstance(x, list) else x
              for leaf, x in zip(leaves, args, strict=True)]  # fmt: skip
    results = tape(*(np.array(x) if isinstance(x, list) else x for x in inputs))
    return np.concatenate([np.ravel(part) for part in results])


@given(tapes(), st.data())
def test_pullback_equals_the_native_reverse_sweep(tape: Tape, data: st.DataObject) -> None:
    x = data.draw(st.lists(numbers | wild, min_size=tape.n_inputs, max_size=tape.n_inputs))
    seeds = data.draw(st.lists(numbers, min_size=len(tape.outputs), max_size=len(tape.outputs)))
    values = reference.forward(tape, np.array(x)[:, None])
    native = reference.backward(tape, values, np.array(seeds)[:, None])
    both = run(pullback(tape), *x, seeds)
    n_outputs = len(tape.outputs)
    assert same_bits(both[:n_outputs], values[tape.outputs, 0])
    assert same_bits(both[n_outputs:], native[: tape.n_inputs, 0])


@given(tapes(SMOOTH, longest=12), st.data())
def test_inner_products(tape: Tape, data: st.DataObject) -> None:
    """<w, J v> = <J^T w, v>, J v being the pullback of the pullback, which is linear in w."""
    n_inputs, n_outputs = tape.n_inputs, len(tape.outputs)
    drawn = st.floats(-1.0, 1.0)
    x = data.draw(st.lists(drawn, min_size=n_inputs, max_size=n_inputs))
    v = data.draw(st.lists(drawn, min_size=n_inputs, max_size=n_inputs))
    w = data.draw(st.lists(drawn, min_size=n_outputs, max_size=n_outputs))
    back = pullback(tape)
    transposed = run(back, *x, w)[n_outputs:]
    twice = pullback(back)
    all_of_it = run(twice, *x, w, [0.0] * n_outputs + v)
    forward = all_of_it[len(back.outputs) :][n_inputs:]
    left, right = np.dot(w, forward), np.dot(transposed, v)
    if not np.isfinite([left, right]).all():
        return
    # Each side rounds once an instruction and product; cancellation is bounded by the sum of
    # magnitudes that its own terms reach, taken over all paths by making every number positive.
    scale = np.dot(np.abs(w), np.abs(forward)) + np.dot(np.abs(transposed), np.abs(v))
    cotangents = reference.backward(
        tape, reference.forward(tape, np.array(x)[:, None]), np.array(w)[:, None]
    )
    scale += np.nansum(np.abs(cotangents)) * max(map(abs, v))
    scale += np.nansum(np.abs(all_of_it))
    assert abs(left - right) <= 2.0**-50 * len(twice) * max(scale, 1.0) ** 2


def test_gradient_of_a_gradient() -> None:
    f = tpf.grad(tpf.grad(tpf.grad(lambda x: x**4)))
    assert f(2.0) == 48.0


def test_closing_over_a_traced_value() -> None:
    mixed = tpf.grad(lambda a: tpf.grad(lambda x: a * x * x * x)(2.0))
    assert mixed(5.0) == 12.0
    deep = tpf.grad(lambda a: tpf.grad(lambda b: tpf.grad(lambda x: a * b * x * x)(3.0))(1.0))
    assert deep(1.0) == 6.0


def test_gradient_inside_keeps_the_arguments_structure() -> None:
    def f(p: dict[str, float], x: np.ndarray) -> float:
        return p["a"] * np.sum(x * x) + p["b"]

    def size(p: dict[str, float], x: np.ndarray) -> float:
        dp, dx = tpf.grad(f, argnums=(0, 1))(p, x)
        return dp["a"] + dp["b"] + np.sum(dx * dx)

    p, x = {"a": 2.0, "b": 1.0}, np.array([1.0, 2.0])
    # dp = (|x|^2, 1), dx = 2 a x: size = |x|^2 + 1 + 4 a^2 |x|^2.
    value, gradient = tpf.value_and_grad(size)(p, x)
    assert value == 5.0 + 1.0 + 16.0 * 5.0
    assert gradient == {"a": 8.0 * 2.0 * 5.0, "b": 0.0}


def test_second_derivatives_against_the_formula() -> None:
    second = tpf.vmap(tpf.grad(tpf.grad(lambda x: np.sin(x) * np.exp(-x))))
    x = np.linspace(-2, 2, 41)
    # (sin x e^-x)'' = -2 cos x e^-x; some twenty roundings of numbers below 4 e^2.
    assert np.all(np.abs(second(x) + 2 * np.cos(x) * np.exp(-x)) <= 20 * 2.0**-53 * 4 * math.e**2)
