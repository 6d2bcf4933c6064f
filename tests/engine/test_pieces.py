"""Large instructions cut into pieces: the pieces are the whole, and threads change no bit."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.engine import pieces
from tapeflow.engine.evaluate import sample_program
from tests.strategies import identical

rng = np.random.default_rng(11)


def rows(x: Any) -> Any:
    return np.sum(tpf.special.logsumexp(x, axis=1) * np.max(x, axis=1))


def flat(x: Any) -> Any:
    return np.sum(np.tanh(x) * x) + x.reshape(-1)[7]


def planes(x: Any) -> Any:
    return np.sum(np.exp(x - np.mean(x, axis=0)) * np.std(x, axis=1, keepdims=True))


@pytest.mark.parametrize("f", [rows, flat, planes])
@pytest.mark.parametrize("shape", [(600, 1003), (1003, 600), (17, 40001)])
def test_threads_change_no_bit(f: Any, shape: Any) -> None:
    x = rng.normal(size=shape)
    both = tpf.value_and_grad(f)
    with tpf.config(threads=1):
        value, gradient = both(x)
    for threads in (2, 3, 9):
        with tpf.config(threads=threads):
            again, other = both(x)
        assert value == again
        assert identical(gradient, other)
    # The terms are of order one, and summed in pairs.
    assert np.isclose(value, f(x), rtol=1e-11)
    program = sample_program(tpf.record(f, x), slice(0, x.size)).program
    assert program.parallel


def test_small_instructions_are_not_cut() -> None:
    record = [1, 1, 1, 1000, 0, 8, 0, 0, 0]
    assert pieces.of_grid(record, 1, [True], 3) == [record]
    record = [0, 16, 0, 1, 1_000_000, 1]
    assert pieces.of_reduction(record) == [record]


def test_results_that_a_caller_holds_are_never_written_again() -> None:
    """An array of results is used again only when nobody has it, or a view of it."""
    gradient = tpf.grad(lambda x, y: np.sum(np.exp(x) * y), (0, 1))
    x, y = np.linspace(0, 1, 100), np.linspace(1, 2, 100)
    held = [gradient(x + k, y) for k in range(6)]
    part = gradient(x, y)[1][3:5]
    view = memoryview(gradient(x + 9, y)[0])
    for _ in range(6):
        gradient(x - 1, y)
    for k, (dx, dy) in enumerate(held):
        assert np.allclose(dx, np.exp(x + k) * y, rtol=1e-14)
        assert np.allclose(dy, np.exp(x + k), rtol=1e-14)
    assert np.allclose(part, np.exp(x)[3:5], rtol=1e-14)
    assert np.allclose(np.asarray(view), np.exp(x + 9) * y, rtol=1e-14)
