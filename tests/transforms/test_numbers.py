"""Tapes of numbers, transformed by compiled walks: against the sweep on tracers and each other."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow import jit, reference
from tapeflow.errors import GateError
from tapeflow.ops import OPS, Op
from tapeflow.recorder import Recorder
from tapeflow.structure import flat_structure
from tapeflow.tape import Tape
from tapeflow.tracers import Tracer, apply
from tapeflow.transforms import inline, pullback, pushforward
from tapeflow.transforms.replay import on_numbers
from tests.strategies import identical, numbers, same_bits, tapes, wild

ON_NUMBERS = [op for op in OPS if op.array is None]
POINTS = [0.3, -0.7, 1.0, 0.0, -0.0, np.inf, np.nan, 2.5, -1.0, 1e-310]


def of_one(op: Op) -> Tape:
    """The tape of one op on its operands."""
    recorder = Recorder(op.arity)
    with recorder:
        value = apply(op, [Tracer(recorder, k) for k in range(op.arity)])
    return recorder.finish(
        op.name,
        np.array([value.slot]),
        flat_structure(op.arity),
        flat_structure(1),
        [f"x{k}" for k in range(op.arity)],
    )


@pytest.mark.parametrize("op", ON_NUMBERS, ids=lambda op: op.name)
def test_every_op(op: Op) -> None:
    """The native reverse sweep, the pullback and, number by number, the pushforward are equal."""
    tape = of_one(op)
    back, forth = pullback(tape), pushforward(tape)
    assert on_numbers(back) and on_numbers(forth)
    rng = np.random.default_rng(op.opcode)
    for _ in range(40):
        x = rng.choice(POINTS, op.arity)
        if op.name == "polygamma":
            x[0] = 1.0
        values = reference.forward(tape, x[:, None])
        native = reference.backward(tape, values, np.array([[1.5]]))[: tape.n_inputs, 0]
        value, *pulled = back(*x, 1.5)
        assert same_bits(value, values[-1, 0])
        assert same_bits(pulled, native)
        for k in range(op.arity):
            unit = np.zeros(op.arity)
            unit[k] = 1.5
            value, tangent = forth(*x, unit if op.arity > 1 else 1.5)
            assert same_bits(value, values[-1, 0])
            assert same_bits(tangent, native[k])


@given(tapes(), st.data())
def test_compiled_walks_write_what_python_would(tape: Tape, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.booleans(), min_size=tape.n_inputs, max_size=tape.n_inputs))
    plain = [pullback(tape, wanted, every=True), pushforward(tape, wanted)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "SHORT", -1)
        compiled = [pullback(tape, wanted, every=True), pushforward(tape, wanted)]
    for a, b in zip(plain, compiled, strict=True):
        for name in ("opcodes", "operands", "starts", "constants", "outputs", "locations"):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name


@given(tapes(longest=10), st.data())
def test_every_cotangent(tape: Tape, data: st.DataObject) -> None:
    x = data.draw(st.lists(numbers | wild, min_size=tape.n_inputs, max_size=tape.n_inputs))
    n = len(tape.outputs)
    seeds = data.draw(st.lists(numbers, min_size=n, max_size=n))
    values = reference.forward(tape, np.array(x)[:, None])
    native = reference.backward(tape, values, np.array(seeds)[:, None])
    results = pullback(tape, every=True)(*x, seeds[0] if n == 1 else np.array(seeds))
    every = np.concatenate([np.ravel(part) for part in results[n + tape.n_inputs :]])
    active = reference.active_slots(tape)[tape.slots[:-1]]
    # What flows to a value that no gradient passes is not looked at, and zero.
    expected = np.where(active, native[tape.slots[:-1], 0], 0.0)
    assert same_bits(every, expected)


@given(tapes(), st.data())
def test_inlined_at_once(tape: Tape, data: st.DataObject) -> None:
    """A tape written into another recording, all at once: the same bits, and source lines."""
    x = data.draw(st.lists(numbers | wild, min_size=tape.n_inputs, max_size=tape.n_inputs))
    again = tpf.record(lambda *args: tuple(inline(tape, args)), *x)
    assert identical(again(*x), tape(*x))
    kept = [str(tape.source(i)) for i in range(len(tape))]
    assert [str(again.source(i)) for i in range(len(again))] == kept


def test_a_long_tape() -> None:
    """Long enough for the compiled walks, against the closed form."""

    def chained(x: Any) -> Any:
        total = 0.0
        for a, b in itertools.pairwise(x):
            total = total + 100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2
        return total

    x = np.linspace(-1.0, 1.0, 400)
    tape = tpf.record(chained, x)
    assert len(tape) > jit.SHORT
    _, pulled = pullback(tape)(x, 1.0)
    expected = np.zeros(400)
    expected[:-1] = -400.0 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2.0 * (1.0 - x[:-1])
    expected[1:] += 200.0 * (x[1:] - x[:-1] ** 2)
    # Three terms of a number, of some ten roundings each, none above 1200.
    np.testing.assert_allclose(pulled, expected, rtol=0, atol=30 * 2.0**-53 * 1200)
    v = np.cos(x)
    _, pushed = pushforward(tape)(x, v)
    assert pushed == pytest.approx(expected @ v, rel=1e-12)


def test_constants_are_shared_and_gradients_stay_numbers() -> None:
    tape = tpf.record(lambda x: (x[0] * 2.0 + np.tanh(x[1]), 2.0), np.ones(2))
    back = pullback(tape)
    assert back.numbers_only
    assert sorted(back.constants.tolist()) == [1.0, 2.0]
    nothing = pullback(tpf.record(lambda x: np.floor(x), 1.0))
    assert nothing(1.5, 1.0) == [1.0, 0.0]
    gradient = tpf.record(tpf.grad(lambda x: x[0] * x[1] * x[2]), np.ones(3))
    assert gradient.numbers_only
    assert gradient(np.array([2.0, 3.0, 5.0])).tolist() == [15.0, 10.0, 6.0]


def test_outputs_that_are_one_value() -> None:
    tape = tpf.record(lambda x: (x, x * x, x), 3.0)
    *values, gradient = pullback(tape)(3.0, np.array([1.0, 10.0, 100.0]))
    assert values == [3.0, 9.0, 3.0]
    assert gradient == 161.0
    assert pushforward(tape)(3.0, 1.0) == [3.0, 9.0, 3.0, 1.0, 6.0, 1.0]


def test_gates_in_python_refuse_only_where_a_flow_arrives() -> None:
    @tpf.gate
    class Cube:
        def forward(self, x: float) -> float:
            self.x = float(x)
            return self.x**3

        def backward(self, dz: float) -> list[float]:
            return [3.0 * self.x**2 * float(dz)]

    cube = Cube()
    assert pullback(tpf.record(lambda x: cube(x) + x, 2.0))(2.0, 1.0) == [10.0, 13.0]
    assert pushforward(tpf.record(lambda x: cube(x) + x, 2.0))(2.0, 1.0) == [10.0, 13.0]
    # It only decides which of two is taken.
    chosen = tpf.record(tpf.grad(lambda x: tpf.where(cube(x) > 0.0, x * x, x)), 2.0)
    assert pullback(chosen)(2.0, 1.0) == [4.0, 2.0]


def test_a_rule_of_the_users_that_is_wrong() -> None:
    @tpf.gate
    def wrong(x: float, y: float) -> Any:
        return x * y, (y,)

    tape = tpf.record(lambda x, y: wrong(x, y), 1.0, 1.0)
    for transform in (pullback, pushforward):
        with pytest.raises(GateError, match="gate wrong: 1 partials for 2 inputs"):
            transform(tape)


def test_guards_are_carried_along() -> None:
    def f(x: float) -> float:
        return x * x if x > 1.0 else -x

    tape = tpf.record(f, 3.0)
    assert len(tape.guards) == 1
    for made in (pullback(tape), pushforward(tape), pullback(pushforward(tape))):
        assert len(made.guards) == 1
        slot, after = int(made.guards.slots[0]), int(made.guards.after[0])
        i = int(np.searchsorted(made.slots, slot, "right")) - 1
        assert made.op(i).name == "greater"
        assert after > i
        assert str(made.sources[int(made.guards.locations[0])]) == str(tape.source(0))


def test_checkpoints_do_not_hinder() -> None:
    @tpf.checkpoint
    def step(x: Any) -> Any:
        return np.sin(x) * x

    tape = tpf.record(lambda x: step(step(x)), 0.5)
    assert len(tape.checkpoints) == 2
    plain = replace(tape, checkpoints=())
    assert same_bits(pullback(tape)(0.5, 1.0), pullback(plain)(0.5, 1.0))
