"""Loops with random bodies, against the tape that Python unrolls."""

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.tape import Tape
from tapeflow.transforms import inline
from tests.strategies import SMOOTH, tapes

STEPS = 4


def wrap(tape: Tape, values: Any) -> Any:
    """The tape's results, kept within bounds, as a carry: as many as it has inputs."""
    results = [np.sin(x) for x in inline(tape, list(values))]
    n = tape.n_inputs
    return tuple(results[k % len(results)] + 0.1 * values[k] for k in range(n))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tapes(ops=SMOOTH, longest=8), st.integers(0, 2**32 - 1))
def test_a_random_body_is_the_unrolled_loop(tape: Tape, seed: int) -> None:
    def looped(x: Any) -> Any:
        carry, ys = tpf.scan(
            lambda c, i: (wrap(tape, c), c[0] * i), tuple(x), np.arange(1.0, 1.0 + STEPS)
        )
        return sum(carry) + np.sum(ys * ys)

    def until(x: Any) -> Any:
        def body(state: Any) -> Any:
            carry, total, i = state
            total = total + (carry[0] * (1.0 + i)) ** 2
            return wrap(tape, carry), total, i + 1.0

        carry, total, _ = tpf.while_loop(lambda s: s[2] < STEPS, body, (tuple(x), 0.0, 0.0))
        return sum(carry) + total

    def unrolled(x: Any) -> Any:
        carry, total = tuple(x), 0.0
        for i in range(STEPS):
            total = total + (carry[0] * (1.0 + i)) ** 2
            carry = wrap(tape, carry)
        return sum(carry) + total

    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(2, tape.n_inputs))
    expected, gradient = tpf.value_and_grad(unrolled)(x)
    second = tpf.hvp(unrolled, (x,), (v,))
    # Sums of another order: some hundred roundings of the largest terms, which an exponential of an
    # exponential in the body may make far larger than the result.
    if not (np.abs(gradient) < 1e6).all() or not (np.abs(second) < 1e6).all():
        return
    for f in (looped, until):
        value, found = tpf.value_and_grad(f)(x)
        np.testing.assert_allclose(value, expected, 1e-9, 1e-9)
        np.testing.assert_allclose(found, gradient, 1e-7, 1e-7)
        np.testing.assert_allclose(tpf.hvp(f, (x,), (v,)), second, 1e-5, 1e-5)
        # Forward and reverse are each other's transpose: <w, J v> = <J^T w, v>.
        _, pushed = tpf.jvp(f, (x,), (v,))
        np.testing.assert_allclose(pushed, found @ v, 1e-9, 1e-9)
        lanes = tpf.vmap(tpf.grad(f))(np.stack([x] * 9))
        assert all(np.array_equal(lane, found, equal_nan=True) for lane in lanes)
