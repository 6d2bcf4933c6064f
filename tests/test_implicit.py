"""Roots, fixed points and optima: against closed forms, and against recorded iterations."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq, fsolve, least_squares, minimize

import tapeflow as tpf
from tapeflow.errors import GateError, StructureError, TapeError, TracingError

cubic = tpf.implicit(
    lambda a: brentq(lambda x: x**3 + a * x - 1.0, -10.0, 10.0, xtol=1e-15, rtol=1e-15),
    lambda x, a: x**3 + a * x - 1.0,
)


def derivatives(a: float) -> list[float]:
    """x and its first three derivatives, of x^3 + a x = 1, by differentiating it again and again.

    With d = 3 x^2 + a: x' = -x / d, and each next one as the quotient rule says.
    """
    x = cubic(a)
    d = 3.0 * x * x + a
    first = -x / d
    d1 = 6.0 * x * first + 1.0
    second = (-first + x * d1 / d) / d
    d2 = 6.0 * (first * first + x * second)
    # x' d = -x, differentiated twice: x''' d + 2 x'' d' + x' d'' = -x''.
    third = -(second + 2.0 * second * d1 + first * d2) / d
    return [x, first, second, third]


def test_all_orders_and_ways() -> None:
    a = 2.0
    x, first, second, third = derivatives(a)
    close = {"rel": 1e-13}
    gradient = tpf.grad(cubic)
    assert tpf.value_and_grad(cubic)(a) == (
        pytest.approx(x, **close),
        pytest.approx(first, **close),
    )
    assert tpf.function(cubic)(a) == x
    assert tpf.jvp(cubic, (a,), (3.0,))[1] == pytest.approx(3.0 * first, **close)
    assert tpf.vjp(cubic, a)[1](3.0)[0] == pytest.approx(3.0 * first, **close)
    assert tpf.grad(lambda b: tpf.grad(lambda y: y * cubic(b))(1.0))(a) == pytest.approx(first)
    for way in (
        tpf.grad(gradient)(a),
        tpf.hessian(cubic)(a),
        tpf.hvp(cubic, (a,), (1.0,)),
        tpf.jvp(gradient, (a,), (1.0,))[1],
        tpf.grad(lambda b: tpf.jvp(cubic, (b,), (1.0,))[1])(a),
    ):
        assert way == pytest.approx(second, **close)
    assert tpf.grad(tpf.grad(gradient))(a) == pytest.approx(third, **close)


def test_batches() -> None:
    a = np.linspace(1.0, 3.0, 21)
    expected = np.array([derivatives(own) for own in a])
    value, first = tpf.vmap(tpf.value_and_grad(cubic))(a)
    np.testing.assert_allclose(value, expected[:, 0], rtol=1e-13)
    np.testing.assert_allclose(first, expected[:, 1], rtol=1e-13)
    np.testing.assert_allclose(tpf.vmap(tpf.hessian(cubic))(a), expected[:, 2], rtol=1e-12)
    f = tpf.vmap(tpf.value_and_grad(lambda w, a: cubic(w * a) ** 2), (None, 0), reduce="sum")
    value, gradient = f(1.0, a)
    assert value == pytest.approx(np.sum(expected[:, 0] ** 2), rel=1e-13)
    by_hand = np.sum(2.0 * expected[:, 0] * expected[:, 1] * a)
    assert gradient == pytest.approx(by_hand, rel=1e-13)
    with tpf.config(threads=2, block=8):
        assert f(1.0, a) == (value, gradient)


def test_a_system_in_structures() -> None:
    """u = c v on the circle u^2 + v^2 = r: u v = c r / (1 + c^2)."""

    def solve(p: Any, unit: str) -> Any:
        assert unit == "plain"
        u, v = fsolve(
            lambda x: [x[0] ** 2 + x[1] ** 2 - p["r"], x[0] - p["c"][0] * x[1]],
            [1.0, 1.0],
            xtol=1e-12,
        )
        return {"u": u, "v": np.array([v])}

    def residual(x: Any, p: Any, unit: str) -> Any:
        return [x["u"] ** 2 + x["v"][0] ** 2 - p["r"], x["u"] - p["c"][0] * x["v"]]

    point = tpf.implicit(solve, residual)

    def area(p: Any) -> Any:
        x = point(p, "plain")
        return x["u"] * x["v"][0]

    c, r = 1.5, 2.0
    p = {"r": r, "c": np.array([c])}
    gradient, hessian = tpf.grad(area)(p), tpf.hessian(area)(p)
    d = 1.0 + c * c
    # The solver stops within 1e-12 of the root; the condition of it all is below ten.
    assert gradient["r"] == pytest.approx(c / d, rel=1e-10)
    assert gradient["c"] == pytest.approx([r * (1.0 - c * c) / d**2], rel=1e-10)
    assert hessian["c"]["r"] == pytest.approx([(1.0 - c * c) / d**2], rel=1e-10)
    by_c = 2.0 * r * c * (c * c - 3.0) / d**3
    assert hessian["c"]["c"][0, 0] == pytest.approx(by_c, rel=1e-10)
    tpf.check_grads(area, (p,), order=2)


def test_a_fixed_point_against_its_iterations() -> None:
    rng = np.random.default_rng(0)
    w, b = 0.3 * rng.standard_normal((4, 4)), rng.standard_normal(4)

    def step(x: Any, w: Any, b: Any) -> Any:
        return np.tanh(w @ x + b)

    def iterate(w: Any, b: Any) -> Any:
        x = np.zeros(4)
        for _ in range(80):
            x = step(x, w, b)
        return x

    fixed = tpf.implicit(iterate, lambda x, w, b: x - step(x, w, b))
    for transform in (
        lambda f: tpf.grad(lambda w, b: np.sum(f(w, b) ** 2), (0, 1)),
        lambda f: tpf.jacobian(f, (0, 1)),
        lambda f: tpf.hessian(lambda w, b: np.sum(f(w, b) ** 2), 1),
    ):
        found, expected = transform(fixed)(w, b), transform(iterate)(w, b)
        pairs = (
            zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
        )
        for x, y in pairs:
            # The map contracts by 0.6 a step: after 80 the rest is below one rounding.
            np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-13)


def test_an_optimum_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, y = rng.standard_normal((20, 4)), rng.standard_normal(20)

    def objective(x: Any, log_weight: Any) -> Any:
        return np.sum((a @ x - y) ** 2) + np.exp(log_weight) * np.sum(x * x)

    descent = tpf.grad(objective)

    def solve(log_weight: Any) -> Any:
        jac = lambda x: descent(x, log_weight)  # noqa: E731
        return minimize(lambda x: objective(x, log_weight), np.zeros(4), jac=jac, tol=1e-12).x

    ridge = tpf.implicit(solve, lambda x, log_weight: tpf.grad(objective)(x, log_weight))

    def size(log_weight: Any) -> Any:
        return np.sum(ridge(log_weight) ** 2)

    def closed(log_weight: Any) -> Any:
        return np.sum(np.linalg.solve(a.T @ a + np.exp(log_weight) * np.eye(4), a.T @ y) ** 2)

    # As good as the optimum: the gradient is some 1e-9 there, and the Hessian of size 10.
    assert tpf.grad(size)(0.5) == pytest.approx(tpf.grad(closed)(0.5), rel=1e-7)
    assert tpf.hessian(size)(0.5) == pytest.approx(tpf.hessian(closed)(0.5), rel=1e-7)


def test_least_squares_of_scipy() -> None:
    """The rate that fits an exponential best, as a function of the data."""
    t = np.linspace(0.0, 2.0, 9)

    def errors(x: Any, y: Any) -> Any:
        return x[0] * np.exp(-x[1] * t) - y

    def solve(y: Any) -> Any:
        return least_squares(lambda x: errors(x, y), [1.0, 1.0], xtol=1e-15, ftol=1e-15).x

    fit = tpf.implicit(solve, lambda x, y: tpf.grad(lambda x: np.sum(errors(x, y) ** 2))(x))
    y = 2.0 * np.exp(-0.7 * t) + 0.01 * np.cos(7.0 * t)
    sensitivity = tpf.jacobian(fit)(y)
    assert sensitivity.shape == (2, 9)
    for k in (0, 4, 8):
        ahead, behind = y.copy(), y.copy()
        ahead[k] += 1e-4
        behind[k] -= 1e-4
        # Differences of a smooth function: their error is some h^2 = 1e-8, and the solver's 1e-8.
        difference = (solve(ahead) - solve(behind)) / 2e-4
        np.testing.assert_allclose(sensitivity[:, k], difference, atol=1e-6)


root = tpf.implicit(lambda a: float(np.sqrt(a)), lambda x, a: x * x - a)


def test_a_singular_jacobian_is_an_error_on_one_sample_and_nan_in_a_batch() -> None:
    message = r"the Jacobian of the residual of <lambda> in x is singular \(test_implicit\.py:\d+\)"
    with pytest.raises(np.linalg.LinAlgError, match=message):
        tpf.grad(lambda a: root(a))(0.0)
    found = tpf.vmap(tpf.grad(root))(np.array([1.0, 0.0, 4.0]))
    np.testing.assert_array_equal(found, [0.5, np.nan, 0.25])


def test_nan_is_not_solved_for() -> None:
    calls = []

    def solve(a: float) -> float:
        calls.append(a)
        return a

    same = tpf.implicit(solve, lambda x, a: x - a)
    assert np.isnan(tpf.vmap(same)(np.array([1.0, np.nan, 2.0]))[1])
    assert not np.isnan(calls).any()


def test_where_there_is_no_solution() -> None:
    def solve(a: float) -> float:
        if a < 0.0:
            raise np.linalg.LinAlgError("no root")
        if a > 5.0:
            raise RuntimeError("no convergence")
        return a

    f = tpf.grad(tpf.implicit(solve, lambda x, a: x - a))
    assert f(1.0) == 1.0
    with pytest.raises(np.linalg.LinAlgError, match=r"solve found no solution \(test_implicit"):
        f(-1.0)
    with pytest.raises(GateError, match=r"solve raised RuntimeError .*: no convergence"):
        f(6.0)
    assert np.isnan(tpf.vmap(tpf.implicit(solve, lambda x, a: x - a))(np.array([1.0, -1.0]))[1])
    with pytest.raises(GateError, match="solve raised RuntimeError"):
        tpf.vmap(f)(np.array([1.0, 6.0]))
    assert f(2.0) == 1.0


def test_wrong_definitions() -> None:
    with pytest.raises(TypeError, match="residual must be a function, not a float"):
        tpf.implicit(lambda a: a, 1.0)
    with pytest.raises(StructureError, match="gives 2 numbers for 1 unknowns: it must give one"):
        tpf.grad(tpf.implicit(lambda a: a, lambda x, a: np.stack([x, a])))(1.0)
    with pytest.raises(StructureError, match="gives 0 numbers for 1 unknowns"):
        tpf.grad(tpf.implicit(lambda a: a, lambda x, a: None))(1.0)
    for constant in (lambda x, a: a * 1.0, lambda x, a: 0.0):
        with pytest.raises(StructureError, match="does not depend on the unknowns"):
            tpf.grad(tpf.implicit(lambda a: a, constant))(1.0)
    with pytest.raises(StructureError, match="cannot record an argument of type str"):
        tpf.grad(tpf.implicit(lambda a: "x", lambda x, a: a))(1.0)
    with pytest.raises(TracingError, match="uses a traced value that is no argument"):
        tpf.grad(lambda a: tpf.implicit(lambda b: a * b, lambda x, b: x - b)(a))(1.0)
    with pytest.raises(TracingError, match="the residual of <lambda> uses a traced value"):
        tpf.grad(lambda a: tpf.implicit(lambda b: b, lambda x, b: x - a * b)(a * 1.0))(1.0)

    def changing(a: float) -> Any:
        return a if a < 2.0 else np.array([a])

    f = tpf.function(tpf.implicit(changing, lambda x, a: x - a))
    assert f(1.0) == 1.0
    with pytest.raises(GateError, match=r"changing returned array\(1,\), .* with number: return x"):
        f(3.0)


def test_it_is_neither_compiled_into_functions_nor_saved(tmp_path: Any) -> None:
    tape = tpf.record(root, 1.0)
    with pytest.raises(TapeError, match="a file cannot hold implicit:<lambda>"):
        tape.save(tmp_path / "f.tape")
    with pytest.raises(TapeError, match="operations that run in Python"):
        tape.njit()


def test_what_the_equation_closes_over_may_be_bound_anew() -> None:
    factor = 2.0
    f = tpf.function(tpf.implicit(lambda a: factor * a, lambda x, a: x - factor * a))
    assert f(1.0) == 2.0
    factor = 3.0
    assert f(1.0) == 3.0
    assert tpf.grad(f)(1.0) == 3.0


def test_in_loops_and_beside_branches() -> None:
    like = tpf.implicit(lambda a: float(np.sqrt(a)), lambda x, a: x * x - a, like=1.0)

    def loop(x: Any) -> Any:
        return tpf.fori_loop(0, 3, lambda i, c: like(c + x), x)

    def unrolled(x: Any) -> Any:
        c = x
        for _ in range(3):
            c = like(c + x)
        return c

    for transform in (tpf.grad, tpf.hessian, lambda f: lambda x: tpf.vmap(tpf.grad(f))(x + XS)):
        np.testing.assert_allclose(transform(loop)(0.5), transform(unrolled)(0.5), rtol=1e-13)
    with pytest.raises(TracingError, match=r"how many unknowns <lambda> has .* like=x\)"):
        tpf.grad(lambda x: tpf.fori_loop(0, 3, lambda i, c: root(c + x), x))(0.5)

    def branching(x: Any) -> Any:
        y = root(x)
        return 2.0 * y if y > 1.0 else y

    found = tpf.vmap(tpf.grad(branching))(np.array([0.25, 4.0]))
    np.testing.assert_allclose(found, [1.0, 0.5], rtol=1e-15)


XS = np.array([0.0, 0.5, 1.0])
