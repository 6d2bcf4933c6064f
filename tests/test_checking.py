"""check_grads: right derivatives pass, and each kind of wrong one is named."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf


def smooth(p: Any, x: Any) -> Any:
    return {"a": np.tanh(p["w"] @ x) * p["s"], "b": np.exp(-(x[0] ** 2))}


P = {"w": np.array([[0.3, -0.2], [0.1, 0.5]]), "s": 0.7}
X = np.array([0.4, -1.1])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_right_derivatives_pass(order: int) -> None:
    tpf.check_grads(smooth, (P, X), order=order)
    tpf.check_grads(tpf.grad(lambda x: np.sum(np.log(x) * x)), (np.array([0.5, 2.0]),), order=order)


def test_more_numbers_than_are_looked_at() -> None:
    tpf.check_grads(lambda x: np.sum(np.sin(x) * x), (np.linspace(0.0, 1.0, 300),), order=1)


def test_a_wrong_partial_is_named() -> None:
    @tpf.gate
    def product(x: Any, y: Any) -> Any:
        return x * y, (y, x + 1e-3)

    def f(p: Any) -> Any:
        return product(p["a"][0], p["a"][1]) + p["b"]

    message = r"derivative 1 of f in p\['a'\]\[1\], mode fwd: jvp gives 2.001\d*, differences 2"
    with pytest.raises(AssertionError, match=message):
        tpf.check_grads(f, ({"a": np.array([2.0, 3.0]), "b": 1.0},), modes=("fwd",))


def test_a_derivative_that_is_wrong_in_the_second_order_alone() -> None:
    # abs has no second derivative at zero, where its first one jumps; next to it all is well.
    tpf.check_grads(lambda x: abs(x) * x, (0.2,), order=2)

    @tpf.gate
    def square(x: Any) -> Any:
        return x * x, (tpf.stop_gradient(2.0 * x),)

    with pytest.raises(AssertionError, match="derivative 2 of"):
        tpf.check_grads(square, (0.2,), order=2)
    tpf.check_grads(square, (0.2,), order=1)


def test_nan_is_not_passed() -> None:
    with pytest.raises(AssertionError, match="derivative 1"):
        tpf.check_grads(lambda x: np.sqrt(x), (0.0,), order=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, "order must be a whole number from 1 up, not 0"),
        ({"order": 1.5}, "order must be a whole number"),
        ({"modes": ("forward",)}, "modes must be some of fwd, rev"),
        ({"modes": ()}, "modes must be some of fwd, rev"),
    ],
)
def test_wrong_calls(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tpf.check_grads(smooth, (P, X), **options)
