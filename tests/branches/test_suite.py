"""Plain Python branches: every lane is right, and is what one sample alone gives."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.branches.lanes import Lanes, find_paths
from tapeflow.structure import flatten
from tests.branches.functions import CASES
from tests.strategies import identical

assert len(CASES) >= 60


def samples(name: str, n: int) -> Any:
    case = CASES[name]
    return np.random.default_rng(len(name)).uniform(case.low, case.high, (n, case.n))


def on_array(name: str) -> Any:
    case = CASES[name]

    def f(x: Any) -> Any:
        return case.function(*[x[k] for k in range(case.n)])

    return f


def plain(name: str, x: Any) -> Any:
    """The Python function itself, on Python's floats, at each row."""
    function = CASES[name].function
    return np.array([float(function(*row)) for row in x.tolist()])


class Paths:
    """Which path of a function each row of an array takes."""

    def __init__(self, name: str) -> None:
        self.recorded = tpf.function(on_array(name)).recorded
        self.numbers: dict[Any, int] = {}

    def __call__(self, x: Any) -> Any:
        _, treedef = flatten((x[0],))
        tree = self.recorded.tree([x[0]], treedef)
        found = np.zeros(len(x), np.int64)
        for path, own in find_paths(tree, Lanes([x], [0], len(x)), None):
            number = self.numbers.setdefault(path, len(self.numbers))
            found[slice(None) if own is None else own] = number
        return found


def check_gradients(name: str, n: int, n_alone: int) -> None:
    f, x = on_array(name), samples(name, n)
    paths = Paths(name)
    own_path = paths(x)
    one = tpf.value_and_grad(f)
    values, gradients = tpf.vmap(tpf.value_and_grad(f))(x)
    assert np.abs(values - plain(name, x)).max() <= 1e-9 * (1.0 + np.abs(values).max())
    for k in range(0, n, max(1, n // n_alone)):
        value, gradient = one(x[k])
        assert identical(values[k], value)
        assert identical(gradients[k], gradient)
    checked = np.zeros(n, bool)
    for i in range(x.shape[1]):
        step = np.zeros(x.shape[1])
        slopes, near = [], np.zeros(n, bool)
        for h in (1e-5, 2e-5):
            step[i] = h
            near |= (paths(x + step) != own_path) | (paths(x - step) != own_path)
            slopes.append((plain(name, x + step) - plain(name, x - step)) / (2.0 * h))
        # A central difference is off by what halving its step changes, and by the roundings of the
        # values over the step, which the function amplifies as it does its argument.
        scale = 1.0 + np.abs(values) + np.abs(gradients).max(axis=1)
        allowed = np.abs(slopes[0] - slopes[1]) + 1e-7 * scale
        wrong = ~near & ~(np.abs(gradients[:, i] - slopes[0]) <= allowed)
        assert not wrong.any(), (x[wrong][0], gradients[wrong][0], slopes[0][wrong][0])
        checked |= ~near
    assert checked.mean() > 0.9


def check_hvps(name: str, n: int, n_alone: int) -> None:
    f, x = on_array(name), samples(name, n)
    v = np.random.default_rng(1).uniform(-1.0, 1.0, x.shape)
    paths = Paths(name)
    own_path = paths(x)

    def product(x: Any, v: Any) -> Any:
        return tpf.hvp(f, (x,), (v,))

    one = tpf.function(product)
    found = tpf.vmap(product)(x, v)
    for k in range(0, n, max(1, n // n_alone)):
        assert identical(found[k], one(x[k], v[k]))
    for i in range(x.shape[1]):
        unit = np.eye(x.shape[1])[i]
        slopes, near, size = [], np.zeros(n, bool), np.zeros(n)
        for h in (1e-4, 2e-4):
            slope = np.zeros(n)
            for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                at = x + a * h * unit + b * h * v
                near |= paths(at) != own_path
                value = plain(name, at)
                slope += a * b * value / (4.0 * h * h)
                size = np.maximum(size, np.abs(value))
            slopes.append(slope)
        # As above; 2**-53 over the square of the step is 1e-8.
        scale = 1.0 + size + np.abs(found).max(axis=1)
        allowed = np.abs(slopes[0] - slopes[1]) + 1e-5 * scale
        wrong = ~near & ~(np.abs(found[:, i] - slopes[0]) <= allowed)
        assert not wrong.any(), (x[wrong][0], found[wrong][0], slopes[0][wrong][0])


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    check_gradients(name, 60, 12)


@pytest.mark.parametrize("name", list(CASES)[::4])
def test_hessian_vector_products(name: str) -> None:
    check_hvps(name, 40, 6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CASES)
def test_every_lane(name: str) -> None:
    with tpf.config(max_paths=10_000):
        check_gradients(name, 10_000, 10_000)
        check_hvps(name, 10_000, 10_000)
