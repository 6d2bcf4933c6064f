"""Tapes inside functions compiled with Numba."""

import threading
from typing import Any

import numba
import numpy as np
import pytest

import tapeflow as tpf


def rosenbrock(x: Any) -> Any:
    total = 0.0
    for i in range(len(x) - 1):
        total = total + 100.0 * (x[i + 1] - x[i] ** 2) ** 2 + (1.0 - x[i]) ** 2
    return total


@numba.njit
def descend(f: Any, x: Any, n: int) -> Any:
    grad = np.empty_like(x)
    for _ in range(n):
        f.value_and_grad(x, grad)
        x = x - 1e-3 * grad
    return f.value(x), x


@numba.njit(parallel=True, nogil=True)
def each(f: Any, xs: Any, values: Any, grads: Any) -> None:
    for k in numba.prange(len(xs)):
        values[k] = f.value_and_grad(xs[k], grads[k])


def as_list(n: int) -> Any:
    return tpf.record(rosenbrock, [1.0] * n)


@pytest.mark.jit
@pytest.mark.parametrize("n", [2, 5, 400])
def test_a_loop_equals_python(n: int) -> None:
    tape, x = as_list(n), np.linspace(0.5, 1.5, n)
    value, found = descend(tape.njit(), x, 10)
    expected = x
    for _ in range(10):
        expected = expected - 1e-3 * np.array(tape.value_and_grad(expected.tolist())[1])
    assert found.tobytes() == expected.tobytes()
    assert value == tape(expected.tolist())


@pytest.mark.jit
def test_other_tapes_need_no_compilation() -> None:
    descend(as_list(2).njit(), np.ones(2), 1)
    before = len(descend.signatures)
    for n in (3, 4, 500):
        descend(as_list(n).njit(), np.ones(n), 1)
    # Arrays too, which are instructions of their own.
    tape = tpf.record(lambda x: np.sum(np.sin(x) * x), np.ones(7))
    value, _ = descend(tape.njit(), np.full(7, 0.5), 0)
    assert value == tape(np.full(7, 0.5))
    assert len(descend.signatures) == before


@pytest.mark.jit
def test_arrays_on_the_tape() -> None:
    weights = np.random.default_rng(0).normal(size=(5, 3))

    def loss(x: Any) -> Any:
        return np.sum(np.tanh(weights @ x) ** 2)

    x, grad = np.array([0.1, -0.2, 0.3]), np.empty(3)
    tape = tpf.record(loss, x)
    value, expected = tape.value_and_grad(x)
    assert tape.njit().value_and_grad(x, grad) == value
    assert grad.tobytes() == expected.tobytes()


@pytest.mark.jit
def test_prange_and_threads() -> None:
    f = as_list(6).njit()
    xs = np.random.default_rng(1).normal(size=(1000, 6))
    values, grads = np.empty(1000), np.empty((1000, 6))
    each(f, xs, values, grads)
    expected = np.array([f.value(x) for x in xs])
    assert values.tobytes() == expected.tobytes()
    results: list[Any] = []

    def use() -> None:
        own = np.empty((1000, 6))
        for x, row in zip(xs, own, strict=True):
            f.value_and_grad(x, row)
        results.append(own.tobytes())

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [grads.tobytes()] * 4


@pytest.mark.jit
def test_strided_arrays() -> None:
    f = as_list(3).njit()
    wide, grads = np.ones((4, 3), order="F"), np.zeros((3, 4))
    wide[1] = [0.5, 0.25, 2.0]
    value = f.value_and_grad(wide[1], grads[:, 2])
    grad = np.empty(3)
    assert value == f.value_and_grad(wide[1].copy(), grad)
    assert grads[:, 2].tolist() == grad.tolist()
    assert not grads[:, [0, 1, 3]].any()


@pytest.mark.jit
def test_a_global_tape() -> None:
    square = tpf.record(lambda x: x[0] * x[0], [1.0]).njit()

    @numba.njit
    def use(x: Any) -> Any:
        return square.value(x)

    assert use(np.array([3.0])) == 9.0


@pytest.mark.jit
def test_bad_arguments() -> None:
    f = as_list(3).njit()
    with pytest.raises(ValueError, match="x does not have one number for each input"):
        f.value(np.ones(4))
    with pytest.raises(ValueError, match="grad_out does not have one number for each input"):
        descend_once = numba.njit(lambda f, x, g: f.value_and_grad(x, g))
        descend_once(f, np.ones(3), np.ones(2))
    with pytest.raises(TypeError, match="x as a 1-d float64 array, not 1-d int64"):
        f.value(np.ones(3, int))
    with pytest.raises(tpf.TapeError, match="gives 2 numbers, and njit\\(\\) is for one"):
        tpf.record(lambda x: (x, x), 1.0).njit()
    with pytest.raises(tpf.TapeError, match="operations that run in Python"):
        tpf.record(lambda x: tpf.special.gamma(x), 1.0).njit()
