"""Taylor series along a line: against mpmath, nested derivatives, and closed forms."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.errors import GateError, StructureError
from tapeflow.ops import OPS, Op
from tapeflow.tape import Tape
from tapeflow.transforms import pushforward, taylor
from tests.strategies import SMOOTH, same_bits, tapes

POINT = {"acosh": 1.6, "log_ndtr": 0.4, "y0": 1.3, "y1": 1.3, "fmod": 2.7, "mod": 2.7}
HIGHER = {"polygamma"}


def nested(function: Callable[..., Any], x: Any, v: Any, order: int) -> list[Any]:
    """The same coefficients, by derivatives of derivatives in t."""
    along: Any = lambda t: function(x + t * v)  # noqa: E731
    found = []
    for k in range(order + 1):
        found.append(np.asarray(along(0.0)) / math.factorial(k))
        along = (lambda f: lambda t: tpf.jvp(f, (t,), (1.0,))[1])(along)
    return found


def close(found: Any, expected: Any, rel: float) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rel, atol=rel * max(1.0, np.abs(expected[0]).max()))


ELEMENTWISE = [
    op for op in OPS if op.array is None and not op.zero_derivative and op.name not in HIGHER
]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_every_op(op: Op) -> None:
    """Series and nested pushforwards share the rules, and nothing else."""
    base = POINT.get(op.name, 0.6)
    x, v = np.linspace(base, base + 0.3, op.arity), np.linspace(0.5, 0.8, op.arity)

    def f(z: Any) -> Any:
        from tapeflow.tracers import apply, is_traced

        own = list(z)
        if any(map(is_traced, own)):
            return apply(op, own)
        return op.rule(*own)[0]

    # Some hundred roundings; the terms that are added grow with the order, by some tens.
    close(tpf.directional_taylor(f, x, v, 3), nested(f, x, v, 3), 1e-11)


@given(tapes(SMOOTH, longest=12), st.data())
def test_the_first_coefficient_is_the_pushforward(tape: Tape, data: st.DataObject) -> None:
    n = tape.n_inputs
    drawn = st.floats(-1.0, 1.0)
    x = data.draw(st.lists(drawn, min_size=n, max_size=n))
    v = data.draw(st.lists(drawn, min_size=n, max_size=n))
    direction = v[0] if n == 1 else np.array(v)
    series = taylor(tape, [True] * n, 1)(*x, direction)
    pushed = pushforward(tape)(*x, direction)
    m = len(tape.outputs)
    assert same_bits(series[:m], pushed[:m])
    # Products are collected in another order; tanh and its kin keep all numbers below e^e.
    finite = np.isfinite(pushed[m:])
    scale = max(1.0, np.abs(np.array(pushed[m:])[finite]).max(initial=0.0))
    np.testing.assert_allclose(
        np.array(series[m:])[finite], np.array(pushed[m:])[finite], rtol=1e-9, atol=1e-9 * scale
    )


def of_fifty(m: Any, x: Any) -> Any:
    """A function of fifty operations, in the functions of a module."""
    for k in range(10):
        x = m.sin(x * m.exp(-x)) + m.tanh(x) / (1.5 + 0.1 * k)
    return x


def test_sixth_derivatives() -> None:
    with mpmath.workdps(60):
        inner = mpmath.taylor(lambda x: mpmath.sin(x * mpmath.exp(-x)), mpmath.mpf(0.7), 6)
        outer = mpmath.taylor(lambda x: of_fifty(mpmath, x), mpmath.mpf(0.7), 6)
    for f, expected in (
        (lambda x: np.sin(x * np.exp(-x)), inner),
        (lambda x: of_fifty(np, x), outer),
    ):
        for found, own in zip(tpf.directional_taylor(f, 0.7, 1.0, 6), expected, strict=True):
            # The bar of the project; some hundreds of roundings.
            assert found == pytest.approx(float(own), rel=1e-10)


def test_a_high_order_grows_as_its_square() -> None:
    f = lambda x: np.exp(np.sin(x)) / (1.0 + x * x)  # noqa: E731
    lengths = [len(taylor(tpf.record(f, 0.5), [True], order)) for order in (5, 10, 20)]
    assert lengths[2] < 5 * lengths[1] < 25 * lengths[0]
    with mpmath.workdps(60):
        expected = mpmath.taylor(
            lambda x: mpmath.exp(mpmath.sin(x)) / (1 + x * x), mpmath.mpf(0.5), 20
        )
    found = tpf.directional_taylor(f, 0.5, 1.0, 20)
    # The series of 1 / (1 + x^2) converges to 1.1, so no coefficient is far above one.
    np.testing.assert_allclose(found, [float(x) for x in expected], rtol=0, atol=1e-13)


A = np.random.default_rng(3).normal(size=(4, 4))
X, V = np.array([0.3, -0.7, 1.1, 0.4]), np.array([1.0, 0.5, -0.3, 0.2])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.tanh(A @ x) * x,
        lambda x: np.sum(np.outer(x, x) @ A @ x),
        lambda x: np.linalg.solve(np.outer(x, x) + 3.0 * np.eye(4), np.sin(x)),
        lambda x: np.linalg.slogdet(np.outer(x, x) + np.diag(np.exp(x)))[1],
        lambda x: np.linalg.cholesky(np.outer(x, x) + 2.0 * np.eye(4))[2],
        lambda x: np.log(np.sum(np.exp(x))) + np.max(x) * x[::-1],
        lambda x: np.prod(x) + np.cumsum(x**2) / np.linalg.norm(x),
        lambda x: np.where(x > 0.0, x**3, np.exp(x))[:, None] * x,
        lambda x: tpf.scan(lambda c, a: (c * np.sin(a), c + a), 1.5, x),
    ],
)
def test_arrays(f: Callable[..., Any]) -> None:
    found = tpf.directional_taylor(f, X, V, 3)
    for k in range(2):
        own = [c if not isinstance(c, tuple) else c[k] for c in found]
        whole = lambda x: f(x) if not isinstance(found[0], tuple) else f(x)[k]  # noqa: B023, E731
        # Nested derivatives of a factorisation lose more than the series do.
        close(own, nested(whole, X, V, 3), 1e-9)


def test_structures_and_zeros() -> None:
    def f(p: Any) -> Any:
        return {"a": p["x"][0] ** 2 * p["y"], "b": (np.tanh(p["x"]), 7.0)}

    x = {"x": np.array([1.0, 2.0]), "y": 3.0}
    v = {"x": np.array([1.0, 0.0]), "y": 0.5}
    zeroth, first, second, third = tpf.directional_taylor(f, x, v, 3)
    assert (zeroth["a"], zeroth["b"][1]) == (3.0, 7.0)
    # (1 + t)^2 (3 + t / 2)
    assert (first["a"], second["a"], third["a"]) == (6.5, 4.0, 0.5)
    assert [c["b"][1] for c in (first, second, third)] == [0.0, 0.0, 0.0]
    assert first["b"][0][1] == 0.0


def test_it_composes() -> None:
    f = lambda x: np.sin(x * np.exp(-x))  # noqa: E731
    points = np.linspace(0.0, 2.0, 33)
    mapped = tpf.vmap(lambda x: tpf.directional_taylor(f, x, 1.0, 4))(points)
    for x, *own in zip(points, *mapped, strict=True):
        assert own == tpf.directional_taylor(f, float(x), 1.0, 4)
    # The derivative of a coefficient along the line is the next one.
    third = lambda x: tpf.directional_taylor(f, x, 1.0, 3)[3]  # noqa: E731
    fourth = tpf.directional_taylor(f, 0.7, 1.0, 4)[4]
    assert tpf.grad(third)(0.7) == pytest.approx(4.0 * fourth, rel=1e-12)
    # Closing over a value of an enclosing derivative: a sin, of which coefficient 1 is a cos.
    outer = tpf.grad(lambda a: tpf.directional_taylor(lambda x: a * np.sin(x), 0.3, 1.0, 1)[1])
    assert outer(2.0) == pytest.approx(math.cos(0.3), rel=1e-15)
    replayed = tpf.function(lambda x: tpf.directional_taylor(f, x, 1.0, 2))
    assert replayed(0.5) == tpf.directional_taylor(f, 0.5, 1.0, 2)


def test_branches_go_the_way_of_the_point() -> None:
    f = lambda x: x**2 if x > 1.0 else x**3  # noqa: E731
    assert tpf.directional_taylor(f, 2.0, 1.0, 3) == [4.0, 4.0, 1.0, 0.0]
    assert tpf.directional_taylor(f, 0.5, 1.0, 3) == [0.125, 0.75, 1.5, 1.0]


def test_kinks_take_the_rules_side() -> None:
    assert tpf.directional_taylor(abs, 0.0, 1.0, 2) == [0.0, 0.0, 0.0]
    assert tpf.directional_taylor(lambda x: x**2, 0.0, 1.0, 2) == [0.0, 0.0, 1.0]
    assert tpf.directional_taylor(lambda x: tpf.where(x > 0.0, np.log(x), x), 0.0, 1.0, 2) == [
        0.0, 1.0, 0.0,
    ]  # fmt: skip


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="the order of a Taylor series is 0 or more, not -1"):
        tpf.directional_taylor(np.sin, 1.0, 1.0, -1)
    with pytest.raises(TypeError, match="is an integer, not a float"):
        tpf.directional_taylor(np.sin, 1.0, 1.0, 2.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot differentiate sin in an integer"):
        tpf.directional_taylor(np.sin, 1, 1.0, 2)
    with pytest.raises(StructureError, match="the direction of sin must have the structure"):
        tpf.directional_taylor(np.sin, np.ones(3), np.ones(2), 2)

    @tpf.gate
    class Twice:
        def forward(self, x: float) -> float:
            return float(2.0 * x)

        def backward(self, dz: float) -> list[float]:
            return [float(2.0 * dz)]

    assert tpf.directional_taylor(lambda x: Twice()(x), 3.0, 1.0, 1) == [6.0, 2.0]
    with pytest.raises(GateError, match="gate Twice"):
        tpf.directional_taylor(lambda x: Twice()(x) ** 2, 3.0, 1.0, 2)
