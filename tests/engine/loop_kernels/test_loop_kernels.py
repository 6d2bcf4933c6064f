"""The compiled loops and branches against the slow oracle, bit for bit, in every order."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow import reference
from tapeflow.engine import loop_kernels
from tapeflow.engine.array_program import ArrayProgram
from tapeflow.engine.interpreter import execute
from tapeflow.memory import aligned
from tapeflow.tape import Tape
from tapeflow.transforms import pullback
from tests.strategies import identical

pytestmark = pytest.mark.jit


def run(tape: Tape, inputs: Any, lane: Any, lanes: int) -> Any:
    """The outputs, shape (n, lanes), of a tape on rows of lanes; or with lanes 1 on one sample."""
    program = ArrayProgram(tape, np.asarray(lane, bool))
    shared = aligned(program.n_places)
    shared[: tape.n_inputs] = inputs[:, 0]
    shared[tape.n_inputs : tape.slots[0]] = tape.constants
    code = program.shared_forward
    execute(code.address, len(code), shared.ctypes.data, 0, 0, 1)
    if lanes == 1:
        return shared[program.places[tape.outputs]][:, None]
    rows = aligned(program.n_value_rows * lanes)
    table = rows.reshape(-1, lanes)
    for slot in np.flatnonzero(program.lane[: tape.n_inputs]):
        table[program.value_rows[slot]] = inputs[slot]
    code = program.lane_forward
    execute(code.address, len(code), rows.ctypes.data, 0, shared.ctypes.data, lanes)
    return np.array(
        [
            table[program.value_rows[slot]]
            if program.lane[slot]
            else np.full(lanes, shared[program.places[slot]])
            for slot in tape.outputs
        ]
    )


def scan_of_arrays(x: Any, w: Any) -> Any:
    def body(carry: Any, b: Any) -> Any:
        a, n = carry
        new = np.tanh(w * a + b)
        return (new, n + 1.0), (a[1] * n, new)

    (a, n), (ys, zs) = tpf.scan(body, (x, 0.0), np.linspace(-1.0, 1.0, 10).reshape(5, 2))
    return np.sum(a) + np.sum(ys * ys) * n + zs[3, 0] * zs[0, 1]


def swapping(x: Any, w: Any) -> Any:
    """Carries that are each other's, or stay, or are not read."""
    a, b, c, d = tpf.fori_loop(
        0, 7, lambda i, s: (s[1], s[0] * w[0], s[2], i * s[1]), (x[0], x[1], w[1], 1.0)
    )
    return a * b + c * d


def until(x: Any, w: Any) -> Any:
    def body(s: Any) -> Any:
        a, k = s
        return a * (0.5 + 0.1 * np.sin(w[0])) + 0.01 * w[1], k + 1.0

    a, k = tpf.while_loop(lambda s: abs(s[0]) > 0.3, body, (3.0 * x[0] ** 3, 0.0))
    return a * a + a * k + x[1]


def counted(x: Any, w: Any) -> Any:
    n = np.floor(abs(x[0] * 7.0))
    return tpf.fori_loop(0, n, lambda i, c: np.sin(c * w[0]) + x[1] * i, x[1]) * w[1]


def reversed_scan(x: Any, w: Any) -> Any:
    xs = np.stack([x[0] * w, x[1] + w, x * w])
    c, ys = tpf.scan(lambda c, v: (c * v[0] - v[1], c * c), x[0], xs, reverse=True)
    return c + np.sum(ys) * ys[0]


def nested(x: Any, w: Any) -> Any:
    def outer(s: Any) -> Any:
        a, k = s
        b = tpf.while_loop(lambda b: abs(b) > 0.2, lambda b: b * 0.6 * w[0] / abs(w[0]), a + 1.0)
        return a * 0.7 + 0.1 * b, k + 1.0

    a, k = tpf.while_loop(lambda s: abs(s[0]) > 0.5, outer, (5.0 * x[0], 0.0))
    return a * w[1] + k * x[1] * a


def branching(x: Any, w: Any) -> Any:
    def body(i: Any, c: Any) -> Any:
        return tpf.switch(
            c * 3.0, [lambda c: c + w[0] ** 2, lambda c: np.log(c) + 1.0, lambda c: c * 0.5], c
        )

    return tpf.fori_loop(0, 6, body, x[0]) * tpf.cond(
        x[1] > 0.0, lambda v: np.sqrt(v), lambda v: np.sum(w) * v, x[1]
    )


FUNCTIONS = [scan_of_arrays, swapping, until, counted, reversed_scan, nested, branching]


def tapes_of(function: Any) -> list[Tape]:
    tape = tpf.record(function, np.ones(2), np.ones(2))
    first = pullback(tape)
    second = pullback(first, [True, True, False])
    return [tape, first, second]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_order_is_the_oracles(function: Any) -> None:
    rng = np.random.default_rng(0)
    for order, tape in enumerate(tapes_of(function)):
        inputs = rng.normal(size=(tape.n_inputs, 40))
        expected = reference.forward(tape, inputs)[tape.outputs]
        every = np.ones(tape.n_inputs, bool)
        assert identical(run(tape, inputs, every, 40), expected), order
        for k in range(5):
            own = run(tape, inputs[:, k : k + 1], ~every, 1)
            assert identical(own, expected[:, k : k + 1]), order
        # With parameters that all lanes share, and with nothing else.
        lane = every.copy()
        lane[2:4] = False
        inputs[2:4] = inputs[2:4, :1]
        expected = reference.forward(tape, inputs)[tape.outputs]
        assert identical(run(tape, inputs, lane, 40), expected), order


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("limit", [1, 1500, 20_000])
def test_computing_again_changes_no_bit(function: Any, limit: int) -> None:
    rng = np.random.default_rng(1)
    for tape in tapes_of(function):
        inputs = rng.normal(size=(tape.n_inputs, 24))
        every = np.ones(tape.n_inputs, bool)
        for lanes, lane in ((24, every), (1, ~every)):
            expected = run(tape, inputs, lane, lanes)
            loop_kernels.keep_within(limit, 1)
            try:
                assert identical(run(tape, inputs, lane, lanes), expected)
            finally:
                loop_kernels.keep_within(None, 1)


def test_lanes_of_no_steps_and_of_many() -> None:
    f = lambda n, x: tpf.fori_loop(0, n, lambda i, c: c * 0.99 + x, x)  # noqa: E731
    n = np.zeros(300)
    n[[3, 77, 299]] = 1.0, 1000.0, 5.0
    x = np.linspace(-1.0, 1.0, 300)
    for function in (f, tpf.grad(f, 1), tpf.grad(tpf.grad(f, 1), 1)):
        for block in (8, 64, 512):
            with tpf.config(block=block):
                found = tpf.vmap(function)(n, x)
            assert identical(found, [function(*pair) for pair in zip(n, x, strict=True)])


def test_threads_and_blocks_and_tiers_change_no_bit() -> None:
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(700, 2)), rng.normal(size=2)
    for function in FUNCTIONS:
        mapped = tpf.vmap(tpf.value_and_grad(function, (0, 1)), (0, None), reduce="sum")
        with tpf.config(threads=1):
            value, (gx, gw) = mapped(x, w)
        for settings in (
            {"threads": 2}, {"block": 8}, {"block": 1024}, {"max_memory": 1 << 18},
            {"tier": "interpret"}, {"tier": "fused"},
        ):  # fmt: skip
            with tpf.config(**settings):
                again, (hx, hw) = tpf.vmap(
                    tpf.value_and_grad(function, (0, 1)), (0, None), reduce="sum"
                )(x, w)
            assert identical(value, again) and identical(gx, hx) and identical(gw, hw)
