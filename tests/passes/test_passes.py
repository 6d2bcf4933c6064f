"""Passes: fewer instructions, and the same outputs, bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.passes import (
    ALL,
    apply_identities,
    fold_constants,
    share_common_subexpressions,
    simplified,
)
from tapeflow.tape import Tape
from tests.strategies import SMOOTH, identical, numbers, tapes, wild

Pass = Callable[[Tape], Tape]
each = pytest.mark.parametrize("run", [*ALL, simplified], ids=lambda run: run.__name__)


def ops(tape: Tape) -> list[str]:
    return [tape.op(i).name for i in range(len(tape))]


@each
@given(tapes(), st.data())
def test_outputs_are_unchanged_bit_for_bit(run: Pass, tape: Tape, data: st.DataObject) -> None:
    slots = data.draw(st.lists(st.integers(0, tape.n_slots - 1), min_size=1, max_size=1))
    tape = replace(tape, outputs=np.array([*tape.outputs[1:], *slots]))
    x = data.draw(st.lists(wild | numbers, min_size=tape.n_inputs, max_size=tape.n_inputs))
    less = run(tape)
    assert len(less) <= len(tape)
    for ours, theirs in zip(less(*x), tape(*x), strict=True):
        assert identical(ours, theirs)


@each
@given(tapes(SMOOTH, n_outputs=1), st.data())
def test_gradients_differ_by_the_order_of_sums_at_most(
    run: Pass, tape: Tape, data: st.DataObject
) -> None:
    x = data.draw(st.lists(numbers, min_size=tape.n_inputs, max_size=tape.n_inputs))
    tape = replace(tape, output_structure=tpf.record(lambda x: x, 1.0).output_structure)
    _, gradient = tape.value_and_grad(*x)
    _, found = run(tape).value_and_grad(*x)
    # Every instruction rounds its flows once more or less, relative to the sum of magnitudes,
    # which the pullback of absolute values bounds; large flows may cancel, so compare where the
    # tape is tame.
    scale = _magnitude(tape, x)
    if np.all(np.isfinite(scale)):
        bound = 4 * len(tape) ** 2 * 2.0**-53 * scale
        difference = np.abs(np.subtract(found, gradient))
        assert np.all(difference <= bound)


def _magnitude(tape: Tape, x: list[float]) -> Any:
    """The sum over all paths of the product of the partials' magnitudes, for each input."""
    from tapeflow import reference

    values = reference.forward(tape, np.array(x)[:, None])
    flows = np.zeros(tape.n_slots)
    flows[tape.outputs] += 1.0
    with np.errstate(all="ignore"):
        for i in reversed(range(len(tape))):
            slots = tape.operands_of(i)
            _, partials = tape.op(i).rule(*(values[slot] for slot in slots))
            for slot, partial in zip(slots, partials, strict=True):
                flows[slot] += flows[tape.slots[i]] * np.abs(np.asarray(partial)).max()
    return flows[: tape.n_inputs]


def test_what_depends_on_constants_alone_is_computed_once() -> None:
    tape = tpf.record(lambda x: x * np.exp(tpf.record(lambda y: y * 2.0, 1.0)(3.0)), 1.0)
    pullback = simplified(tape)
    assert ops(pullback) == ["mul"]

    def f(x: Any) -> Any:
        two = tpf.grad(lambda y: y * y)(x * 0.0 + 1.0)
        return x * two

    assert "mul" in ops(tpf.record(f, 1.0))


def test_constants_fold_through_a_pullback() -> None:
    tape = tpf.record(lambda x, s: tpf.exp(s) * x, 1.0, 2.0)
    fixed = replace(
        tape,
        input_structure=tpf.record(lambda x: x, 1.0).input_structure,
        input_names=("x",),
        constants=np.array([2.0]),
    )
    folded = fold_constants(fixed)
    assert ops(folded) == ["mul"]
    assert folded(3.0) == tape(3.0, 2.0)


def test_what_is_not_finite_is_left_where_it_is() -> None:
    tape = tpf.record(lambda x, s: x + tpf.log(s), 1.0, -1.0)
    fixed = replace(
        tape,
        input_structure=tpf.record(lambda x: x, 1.0).input_structure,
        input_names=("x",),
        constants=np.array([-1.0]),
    )
    assert fold_constants(fixed) is fixed


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda x: x * 1.0 + 2.0, ["add"]),
        (lambda x: 2.0 + 1.0 * x, ["add"]),
        (lambda x: x / 1.0 + 2.0, ["add"]),
        (lambda x: 1.0 / x, ["div"]),
        (lambda x: tpf.exp(np.negative(-x)), ["exp"]),
        (lambda x: (x - 0.0) * 3.0, ["mul"]),
        (lambda x: (x + -0.0) * 3.0, ["mul"]),
        (lambda x: (x + 0.0) * 3.0, ["add", "mul"]),
        (lambda x: (0.0 - x) * 3.0, ["sub", "mul"]),
        (lambda x: x * 0.0 + 3.0, ["mul", "add"]),
    ],
)
def test_only_what_changes_nothing_is_dropped(function: Any, left: list[str]) -> None:
    tape = tpf.record(function, 1.0)
    from tapeflow.passes import remove_dead_code

    assert ops(remove_dead_code(apply_identities(tape))) == left


def test_equal_subexpressions_are_computed_once() -> None:
    tape = tpf.record(lambda x, y: tpf.sin(x * y) + tpf.sin(y * x), 1.0, 2.0)
    less = share_common_subexpressions(tape)
    assert ops(less) == ["mul", "sin", "add"]
    assert less.value_and_grad(0.3, 0.7) == tape.value_and_grad(0.3, 0.7)


def test_equal_subexpressions_of_arrays_too() -> None:
    x = np.linspace(0.0, 1.0, 6).reshape(2, 3)
    tape = tpf.record(lambda x: np.sum(np.exp(x) * np.exp(x)) + np.sum(np.exp(x[0])), x)
    less = share_common_subexpressions(tape)
    assert ops(less).count("exp") == 2
    assert identical(less(x), tape(x))


def test_gates_in_python_run_as_often_as_they_were_called() -> None:
    calls = []

    @tpf.gate
    class square:
        def forward(self, x: float) -> float:
            calls.append(x)
            self.x = x
            return x**2

        def backward(self, flowing: float) -> float:
            return 2.0 * self.x * flowing

    tpf.function(lambda x: square()(x) + square()(x))(3.0)
    assert calls == [3.0, 3.0]


@pytest.mark.jit
def test_long_tapes_take_the_compiled_walks() -> None:
    def f(x: float) -> float:
        total = 0.0
        for k in range(1500):
            total = total + tpf.sin(x * float(k % 10)) * 1.0
        return total

    tape = tpf.record(f, 1.0)
    less = simplified(tape)
    assert len(less) < 0.6 * len(tape)
    assert identical(less(0.7), tape(0.7))
