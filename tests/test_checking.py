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


def test_reverse_mode_alone_is_compared_with_values() -> None:
    """A rule that is wrong in both modes alike: only differences tell."""
    wrong = tpf.custom_vjp(lambda p: p["a"] * p["b"][1])
    wrong.defvjp(
        lambda p: (wrong(p), p),
        lambda p, g: ({"a": g * p["b"][1], "b": np.stack([0.0, 2.0 * g * p["a"]])},),
    )
    p = {"a": 2.0, "b": np.array([1.0, 3.0])}
    message = r"derivative 1 of <lambda> in p\['b'\]\[1\], mode rev: vjp gives .* apart"
    with pytest.raises(AssertionError, match=message):
        tpf.check_grads(wrong, (p,), order=1, modes=("rev",))
    message = r"in p\['b'\]\[1\], mode fwd: jvp gives 4\.0, differences 2.*, 2\.0 apart"
    with pytest.raises(AssertionError, match=message):
        tpf.check_grads(wrong, (p,), order=1, modes=("fwd",))


def test_a_rule_that_is_wrong_in_one_order_of_modes() -> None:
    """A value that is right, and a residual through which no gradient flows."""
    square = tpf.custom_vjp(lambda x: x * x)
    square.defvjp(lambda x: (x * x, tpf.stop_gradient(x)), lambda x, g: (2.0 * x * g,))
    tpf.check_grads(square, (0.7,), order=1)
    with pytest.raises(
        AssertionError, match=r"derivative 2 of .*, mode (fwd|rev) over (fwd|rev): "
    ):
        tpf.check_grads(square, (0.7,), order=2)
    for mode in ("fwd", "rev"):
        message = rf"derivative 2 of .* in x, mode {mode} over {mode}: "
        with pytest.raises(AssertionError, match=message):
            tpf.check_grads(square, (0.7,), order=2, modes=(mode,))


def test_numbers_that_are_not_looked_at_one_by_one_are_in_the_products() -> None:
    """Of 1000 numbers 64 are drawn; one wrong number beside them shows all the same."""
    wrong = tpf.custom_vjp(lambda x: np.sum(x * x))
    places = np.setdiff1d(np.arange(1000), _drawn(1000))
    factor = np.full(1000, 2.0)
    factor[places[0]] = 3.0
    wrong.defvjp(lambda x: (wrong(x), x), lambda x, g: (factor * x * g,))
    with pytest.raises(AssertionError, match=r"mode rev: vjp, by <J\^T w, v>, gives"):
        tpf.check_grads(wrong, (np.linspace(1.0, 2.0, 1000),), order=1)


def _drawn(n: int) -> Any:
    from tapeflow.checking import _Check

    check = _Check(lambda x: np.sum(x), (np.ones(n),), ("fwd",), 1e-6, np.sum)
    check.rng.standard_normal(n)
    check.rng.standard_normal(1)
    return list(check._chosen())


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


@pytest.mark.parametrize("args", [X, 1.0, {"x": 1.0}])
def test_arguments_that_are_no_tuple(args: Any) -> None:
    with pytest.raises(TypeError, match=r"give the arguments as a tuple .* as in \(x,\), not as a"):
        tpf.check_grads(smooth, args)
