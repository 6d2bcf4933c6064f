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
