"""NaNs and infinities in sparse derivatives are found at their gate, line and sample."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf

EXAMPLE = np.arange(10.0)[::-1]
BAD = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 4.0, 1.0, 0.0])


def residuals(x: Any) -> Any:
    return np.array([np.sqrt(x[k] - x[k + 1]) for k in range(9)])


def assert_found(error: tpf.NonFiniteError, function: Any, gate: str, operand: float) -> None:
    assert error.gate == gate
    assert error.location.file == __file__
    assert error.location.line == function.__code__.co_firstlineno + 1
    assert operand in error.operands.values()


@pytest.mark.parametrize("plan", [tpf.sparse_jacobian, lambda f, x: tpf.sparse_hessian(total, x)])
def test_in_a_plan(plan: Any) -> None:
    derivative = plan(residuals, EXAMPLE)
    with tpf.config(debug_nans=True):
        derivative(EXAMPLE)
        with pytest.raises(tpf.NonFiniteError) as caught:
            derivative(BAD)
    assert_found(caught.value, residuals, "sqrt", -1.0)


def total(x: Any) -> Any:
    return np.sum(residuals(x))


def test_an_infinite_slope_in_a_plan() -> None:
    derivative = tpf.sparse_jacobian(residuals, EXAMPLE)
    with tpf.config(debug_infs=True), pytest.raises(tpf.NonFiniteError) as caught:
        derivative(np.minimum(EXAMPLE, 8.0))
    assert_found(caught.value, residuals, "div", 0.0)


@pytest.mark.parametrize("rows", [1, 2])
def test_in_an_element_of_a_scattered_jacobian(rows: int) -> None:
    """By columns or by rows: in either case its number, and that it is in a value."""

    def f(p: Any, x: Any) -> Any:
        a = np.log(p[0] - x[0]) * p[1]
        return np.array([a, p[1] * x[0], p[0]][: 2 * rows - 1])

    p, x = np.array([[3.0, 1.0], [2.0, 1.0], [0.5, 1.0]]), np.ones((4, 1))
    plan = tpf.scatter_jacobian(f, (np.array([0, 1, 0, 2]), None), p, x)
    with tpf.config(debug_nans=True):
        plan(p + 1.0, x)
        with pytest.raises(tpf.NonFiniteError) as caught:
            plan(p, x)
    assert_found(caught.value, f, "log", -0.5)
    assert (caught.value.sample, caught.value.sweep) == (3, "forward")
    assert "of Jacobian of f at" in str(caught.value)
