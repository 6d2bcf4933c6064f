"""Random programs of loops and branches in each other, against the same by Python's statements."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tapeflow as tpf

pytestmark = pytest.mark.jit

State = tuple[Any, Any]
MOST = 3

TOLERANCE = 1e-9
"""Some tens of steps, each of which multiplies a derivative by less than three and rounds a few
times by 2**-53; second derivatives add as many terms for each step before."""


def steps(w: Any) -> list[Callable[[State], State]]:
    """What a step may do: smooth, and of results within bounds. w: what it closes over."""
    return [
        lambda s: (np.sin(s[0] + w), 0.5 * s[1]),
        lambda s: (np.tanh(s[0] * s[1]), s[0] + w),
        lambda s: (s[1], np.cos(s[0])),
        lambda s: (0.9 * s[0], np.tanh(s[1]) * w),
    ]


PROGRAMS = st.recursive(
    st.tuples(st.just("step"), st.integers(0, 3)),
    lambda inner: st.one_of(
        st.tuples(st.just("both"), inner, inner),
        st.tuples(st.just("times"), st.integers(0, MOST), inner),
        st.tuples(st.just("counted"), inner),
        st.tuples(st.just("until"), inner),
        st.tuples(st.just("if"), inner, inner),
        st.tuples(st.just("switch"), inner, inner, inner),
        st.tuples(st.just("scan"), inner),
    ),
    max_leaves=5,
)
XS = np.array([0.3, -0.8, 1.1])


def count_of(s: State) -> Any:
    """A number of steps that differs from sample to sample: -1 to MOST."""
    return np.floor(2.0 * s[0] + 1.0)


def ours(program: Any, w: Any, s: State) -> State:
    """By loops and branches of one instruction."""
    kind, *rest = program

    def run(k: int) -> Callable[[State], State]:
        return lambda s: ours(rest[k], w, s)

    if kind == "step":
        return steps(w)[rest[0]](s)
    if kind == "both":
        return run(1)(run(0)(s))
    if kind == "times":
        return tpf.fori_loop(0, rest[0], lambda i, s: ours(rest[1], w + 0.1 * i, s), s)
    if kind == "counted":
        return tpf.fori_loop(0, count_of(s), lambda i, s: ours(rest[0], w + 0.1 * i, s), s)
    if kind == "until":
        start = s, 0.0
        go = lambda t: (t[1] < MOST) * (t[0][0] > -0.2)  # noqa: E731
        return tpf.while_loop(go, lambda t: (run(0)(t[0]), t[1] + 1.0), start)[0]
    if kind == "if":
        return tpf.cond(s[0] > s[1], run(0), run(1), s)
    if kind == "switch":
        return tpf.switch(2.0 * s[0] + 1.0, [run(0), run(1), run(2)], s)
    carry, ys = tpf.scan(lambda s, x: (ours(rest[0], w + x, s), s[0] * x), s, XS)
    return carry[0], carry[1] + np.sum(ys)


def python(program: Any, w: Any, s: State) -> State:
    """By Python's statements: recorded, each sample's way is guarded."""
    kind, *rest = program
    if kind == "step":
        return steps(w)[rest[0]](s)
    if kind == "both":
        return python(rest[1], w, python(rest[0], w, s))
    if kind in ("times", "counted"):
        n = rest[0] if kind == "times" else max(int(count_of(s)), 0)
        for i in range(n):
            s = python(rest[-1], w + 0.1 * i, s)
        return s
    if kind == "until":
        turn = 0
        while turn < MOST and s[0] > -0.2:
            s, turn = python(rest[0], w, s), turn + 1
        return s
    if kind == "if":
        return python(rest[0] if s[0] > s[1] else rest[1], w, s)
    if kind == "switch":
        return python(rest[min(max(int(2.0 * s[0] + 1.0), 0), 2)], w, s)
    total = 0.0
    for x in XS.tolist():
        before, s = s, python(rest[0], w + x, s)
        total = total + before[0] * x
    return s[0], s[1] + total


def of_array(run: Any, program: Any) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        a, b = run(program, x[2], (x[0], x[1]))
        return a * b + a + np.sin(b)

    return f


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(PROGRAMS, st.integers(0, 2**32 - 1))
def test_a_random_program_is_pythons(program: Any, seed: int) -> None:
    x, v = np.random.default_rng(seed).normal(size=(2, 11, 3))
    f, g = of_array(ours, program), of_array(python, program)
    first, second = tpf.value_and_grad(f), tpf.function(lambda x, v: tpf.hvp(f, (x,), (v,)))
    values, gradients = tpf.vmap(first)(x)
    curvatures = tpf.vmap(second)(x, v)
    for k in range(len(x)):
        expected, gradient = tpf.value_and_grad(g)(x[k])
        np.testing.assert_allclose(values[k], g(x[k]), TOLERANCE, TOLERANCE)
        np.testing.assert_allclose(values[k], expected, TOLERANCE, TOLERANCE)
        np.testing.assert_allclose(gradients[k], gradient, TOLERANCE, TOLERANCE)
        curvature = tpf.hvp(g, (x[k],), (v[k],))
        np.testing.assert_allclose(curvatures[k], curvature, TOLERANCE, 100 * TOLERANCE)
        # One sample alone has the same bits, and forward derivatives are those in reverse.
        alone = first(x[k])
        assert np.array_equal(alone[0], values[k]) and np.array_equal(alone[1], gradients[k])
        pushed = tpf.jvp(f, (x[k],), (v[k],))[1]
        np.testing.assert_allclose(pushed, gradients[k] @ v[k], TOLERANCE, TOLERANCE)
