"""Extrapolated differences, against derivatives that are known."""

from typing import Any

import numpy as np
import pytest

from tapeflow.differences import derivative


@pytest.mark.parametrize("seed", range(5))
def test_smooth_functions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, along = rng.uniform(0.5, 2.0, 4), rng.standard_normal(4)

    def f(x: Any) -> Any:
        return np.array([np.sum(np.sin(x)), np.prod(x), np.exp(-x[0])])

    exact = [
        np.cos(x) @ along,
        np.prod(x) * np.sum(along / x),
        -np.exp(-x[0]) * along[0],
    ]
    np.testing.assert_allclose(derivative(f, x, along), exact, rtol=1e-9, atol=1e-9)


def test_numbers_of_very_different_sizes() -> None:
    """A step is a tenth of each, not of them together: beyond, this function has a pole."""

    def f(x: Any) -> Any:
        return np.array([x[0] / (1.0 - x[1])])

    x, along = np.array([1e4, 0.5]), np.array([1.0, 1.0])
    exact = 1.0 / 0.5 + 1e4 / 0.25
    np.testing.assert_allclose(derivative(f, x, along), [exact], rtol=1e-9)


def test_along_nothing() -> None:
    assert derivative(lambda x: x[:2], np.ones(3), np.zeros(3)).tolist() == [0.0, 0.0]
