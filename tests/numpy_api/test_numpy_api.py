"""NumPy's functions on traced arrays: values, gradients of first and second order, and batches."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tests.numpy_api.cases import CASES


def weighted(f: Any) -> Any:
    """One number of a function's result: its product with fixed weights, bent to be nonlinear."""

    def loss(*args: Any) -> Any:
        result = f(*args)
        size = int(np.prod(np.shape(result)))
        weights = np.cos(np.arange(1.0, size + 1.0)).reshape(np.shape(result))
        return np.sum(np.sin(result) * weights) + 0.0 * np.sum(args[0])

    return loss


def difference(f: Any, args: Any, directions: Any) -> tuple[float, float]:
    """A directional derivative by central differences of fourth order, and a bound on its error.

    The bound: what halving the step changes (the truncation error and more), and 64 roundings of
    values below the largest of them and of 1, over the step.
    """
    estimates = []
    for h in (2.0**-10, 2.0**-11):
        v = {
            k: f(*(a + k * h * d for a, d in zip(args, directions, strict=True)))
            for k in (-2, -1, 1, 2)
        }
        estimates.append((8 * (v[1] - v[-1]) - (v[2] - v[-2])) / (12 * h))
    size = max(1.0, *(abs(x) for x in v.values()))
    return estimates[1], 4 * abs(estimates[1] - estimates[0]) + 64 * 2.0**-53 * size / 2.0**-11


def inner(a: Any, b: Any) -> float:
    return float(sum(np.sum(x * y) for x, y in zip(a, b, strict=True)))


def directions_of(args: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return tuple(rng.uniform(-1, 1, np.shape(a)) for a in args)


@pytest.mark.parametrize("name", CASES)
def test_values_are_numpys(name: str) -> None:
    f, args = CASES[name]
    before = [np.copy(a) for a in args]
    got, expected = tpf.record(f, *args)(*args), f(*args)
    assert np.shape(got) == np.shape(expected)
    # Sums in another order and other roundings of a few dozen operations.
    assert np.allclose(got, expected, rtol=2.0**-40, atol=2.0**-40)
    assert all(np.array_equal(a, b) for a, b in zip(args, before, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    f, args = CASES[name]
    loss = weighted(f)
    every = tuple(range(len(args)))
    gradient = tpf.grad(loss, argnums=every)(*args)
    v = directions_of(args, 1)
    estimate, bound = difference(loss, args, v)
    assert abs(inner(gradient, v) - estimate) <= bound


@pytest.mark.parametrize("name", CASES)
def test_second_order(name: str) -> None:
    """The derivative of <gradient, v> along w, which is symmetric in v and w too."""
    f, args = CASES[name]
    every = tuple(range(len(args)))
    gradient = tpf.grad(weighted(f), argnums=every)
    v, w = directions_of(args, 2), directions_of(args, 3)

    def slope(*xs: Any, d: Any = v) -> Any:
        return sum(np.sum(g * part) for g, part in zip(gradient(*xs), d, strict=True))

    second = inner(tpf.grad(slope, argnums=every)(*args), w)
    estimate, bound = difference(slope, args, w)
    # The gradient is a few hundred roundings of numbers that its own size bounds.
    size = max(1.0, *(float(np.max(np.abs(g))) for g in gradient(*args)))
    assert abs(second - estimate) <= bound * size + 2.0**-30 * size


@pytest.mark.parametrize("name", CASES)
def test_batches_are_one_sample_after_the_other(name: str) -> None:
    f, args = CASES[name]
    every = tuple(range(len(args)))
    both = tpf.value_and_grad(weighted(f), argnums=every)
    batch = [np.stack([a + 0.01 * k for k in range(5)]) for a in args]
    values, gradients = tpf.vmap(both)(*batch)
    for k in range(5):
        value, gradient = both(*(a[k] for a in batch))
        # LAPACK and BLAS may round otherwise for a stack of matrices.
        assert np.allclose(values[k], value, rtol=2.0**-40, atol=2.0**-40)
        for own, alone in zip(gradients, gradient, strict=True):
            assert np.allclose(own[k], alone, rtol=2.0**-30, atol=2.0**-30)


def test_floor_division_rounds_as_pythons() -> None:
    spread = np.random.default_rng(0).uniform(-50.0, 50.0, 500)
    x = np.concatenate([np.arange(-60, 61) * 0.1, spread, [0.0, -0.0, 1e300]])
    for y in (0.1, 0.3, -0.7, 2.0, -4.0, 3):
        assert np.array_equal(tpf.vmap(lambda x, y=y: x // y)(x), x // y)
        assert np.array_equal(tpf.function(lambda x, y=y: np.floor_divide(x, y))(x), x // y)
        one = tpf.function(lambda x, y=y: divmod(x, y))
        assert one(5.0) == divmod(5.0, y)
    divide = tpf.vmap(lambda x, y: x // y)
    with np.errstate(all="ignore"):
        for y in (0.0, -0.0, 0.1, 7.0):
            expected = np.floor_divide(x, y)
            assert np.array_equal(divide(x, np.full(x.shape, y)), expected, equal_nan=True)
    assert tpf.function(lambda x: divmod(7.0, x))(2.0) == (3.0, 1.0)
    a = np.array([5.5, -5.5])
    assert np.array_equal(tpf.function(lambda x: divmod(x, 2.0))(a), divmod(a, 2.0))


def test_nearness_decides_as_in_numpy() -> None:
    wild = np.array([1.0, 1.0 + 1e-9, 1.1, np.inf, -np.inf, np.nan])
    for b in (1.0, np.inf, np.nan):
        for options in ({}, {"equal_nan": True}, {"rtol": 0.2}):
            for function in (np.isclose, np.allclose):
                found = tpf.function(lambda a, f=function, o=options, b=b: f(a, b, **o))(wild)
                assert np.array_equal(found, function(wild, b, **options))
    for b in (np.ones(2), np.ones(3), np.array([1.0, 2.0])):
        assert tpf.function(lambda a, b=b: np.array_equal(a, b))(np.ones(2)) == np.array_equal(
            np.ones(2), b
        )

    def root(a: Any) -> Any:
        x, before = a, 0.0 * a
        while not np.allclose(x, before, rtol=1e-12):
            x, before = 0.5 * (x + a / x), x
        return x

    slopes = tpf.grad(lambda a: np.sum(root(a)))(np.array([4.0, 100.0]))
    assert np.allclose(slopes, [0.25, 0.05], rtol=1e-9)
