"""Batches of tapes with arrays: the same bits for any block width, threads and place in it."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.engine.array_batch import ArrayBatch
from tests.strategies import identical

rng = np.random.default_rng(6)
N = 203


def network(w: Any, b: Any, v: Any, x: Any, y: Any) -> Any:
    hidden = np.tanh(w @ x + b)
    return np.sum((v @ hidden - y) ** 2) + 0.1 * np.max(hidden)


def solves(w: Any, b: Any, v: Any, x: Any, y: Any) -> Any:
    a = np.outer(x, x) + np.diag(np.exp(b[:4])) + w[:4, :4].T @ w[:4, :4]
    factor = np.linalg.cholesky(a)
    z = tpf.linalg.solve_triangular(factor, x, lower=True)
    return z @ z + np.sum(np.log(np.diagonal(factor))) + np.sum(np.sort(x) * y[0])


ARGS = (
    rng.normal(size=(6, 4)),
    rng.normal(size=6),
    rng.normal(size=(2, 6)),
    rng.normal(size=(N, 4)),
    rng.normal(size=(N, 2)),
)
AXES = (None, None, None, 0, 0)


def bits(result: Any) -> Any:
    value, gradients = result
    return np.concatenate([np.ravel(value), *(np.ravel(g) for g in gradients)])


@pytest.mark.parametrize("f", [network, solves])
@pytest.mark.parametrize("reduce", [None, "sum", "mean"])
def test_bits_do_not_depend_on_blocks_and_threads(f: Any, reduce: str | None) -> None:
    mapped = tpf.vmap(tpf.value_and_grad(f, tuple(range(5))), in_axes=AXES, reduce=reduce)
    with tpf.config(threads=1, block=256):
        expected = bits(mapped(*ARGS))
    for threads in (1, 2, 3):
        for block in (8, 32, 64):
            with tpf.config(threads=threads, block=block):
                assert identical(bits(mapped(*ARGS)), expected), (threads, block)


@pytest.mark.parametrize("f", [network, solves])
def test_a_lane_does_not_depend_on_its_neighbours(f: Any) -> None:
    mapped = tpf.vmap(tpf.value_and_grad(f, (0, 3)), in_axes=AXES)
    values, (dw, dx) = mapped(*ARGS)
    own = (*ARGS[:3], ARGS[3][50:61], ARGS[4][50:61])
    some, (dw_some, dx_some) = mapped(*own)
    assert identical(values[50:61], some)
    assert identical(dw[50:61], dw_some)
    assert identical(dx[50:61], dx_some)


@pytest.mark.parametrize("f", [network, solves])
def test_sums_are_those_of_the_samples(f: Any) -> None:
    gradient = tpf.grad(f, tuple(range(5)))
    each = tpf.vmap(gradient, in_axes=AXES)(*ARGS)
    total = tpf.vmap(gradient, in_axes=AXES, reduce="sum")(*ARGS)
    for one, whole in zip(each, total, strict=True):
        # Sums of some 200 numbers, in another order.
        bound = 2.0**-52 * N * np.sum(np.abs(one), axis=0)
        assert np.all(np.abs(np.sum(one, axis=0) - whole) <= bound)


def test_what_all_samples_share_is_computed_once() -> None:
    from tapeflow.engine.array_batch import ArrayBatch

    f = tpf.record(lambda w, x: np.sum(np.linalg.inv(w) @ x), np.eye(3), np.ones(3))
    lane = np.array([False] * 9 + [True] * 3)
    program = ArrayBatch(f, lane, [False, False], False).arrays
    assert [f.op(i).name for i in program.shared_forward.instructions] == ["inv"]
    assert [f.op(i).name for i in program.lane_forward.instructions] == ["matmul", "sum"]


def test_strided_and_read_only_arguments() -> None:
    x = np.asfortranarray(ARGS[3])
    x.setflags(write=False)
    y = np.repeat(ARGS[4], 2, axis=0)[::2]
    mapped = tpf.vmap(tpf.grad(network, 3), in_axes=AXES)
    assert identical(mapped(*ARGS[:3], x, y), mapped(*ARGS))


def test_a_matrix_that_is_not_positive_definite_is_nan_in_its_lane_alone() -> None:
    def f(a: Any) -> Any:
        return np.sum(np.linalg.cholesky(a))

    a = np.stack([np.eye(2), -np.eye(2), 4 * np.eye(2)])
    values = tpf.vmap(f)(a)
    assert identical(values, [2.0, np.nan, 4.0])


def test_sums_of_outer_products() -> None:
    """The gradient of a layer's weights is summed without being made in every lane."""

    def layer(w: Any, b: Any, x: Any) -> Any:
        return np.sum(np.tanh(w @ x + b))

    x = rng.normal(size=(N, 4))
    w, b = ARGS[0], ARGS[1]
    dw, db = tpf.vmap(tpf.grad(layer, (0, 1)), (None, None, 0), "sum")(w, b, x)
    slopes = 1.0 - np.tanh(x @ w.T + b) ** 2
    # Sums of 203 numbers below four.
    assert np.allclose(dw, slopes.T @ x, rtol=0, atol=N * 4 * 2.0**-50)
    assert np.allclose(db, slopes.sum(0), rtol=0, atol=N * 4 * 2.0**-50)
    from tapeflow.engine.array_batch import ArrayBatch

    lane = np.array([False] * (w.size + b.size) + [True] * 4)
    batch = ArrayBatch(tpf.record(layer, w, b, x[0]), lane, [True, True, False], True)
    assert [batch.arrays.tape.op(i).name for i in batch.arrays.left_out] == ["azmatmul"]
    assert batch.arrays.n_value_rows < w.size + 40
    # A product that is a result itself is one still.
    both = tpf.vmap(lambda a, b: a[:, None] @ b[None, :], reduce="sum")(x, x)
    assert np.allclose(both, x.T @ x, rtol=0, atol=N * 16 * 2.0**-50)


def test_seeds_choose_columns_of_a_shared_matrix() -> None:
    """Where no lane has two numbers a product is a column; the bits are those of one sample."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(5, 12))
    a[1, 3], a[2, 4], a[3, 5] = np.inf, np.nan, 0.0
    tangent = lambda x, v: tpf.jvp(lambda x: a @ np.sin(x), (x,), (v,))[1]  # noqa: E731
    x = np.zeros(12)
    seeds = -2.0 * np.eye(12)
    seeds[5, 5], seeds[6, 6] = np.inf, 0.0
    expected = np.zeros((12, 5))
    for k in range(12):
        if seeds[k, k] != 0.0:
            column = a[:, k]
            np.multiply(column, seeds[k, k], out=expected[k], where=column != 0.0)
    mapped = tpf.vmap(tangent, in_axes=(None, 0))
    found = mapped(x, seeds)
    assert np.array_equal(found, expected, equal_nan=True)
    # A lane with more numbers: then all are products, and the others have the same bits.
    more = np.concatenate([seeds, rng.normal(size=(1, 12))])
    assert identical(mapped(x, more)[:12], found)
    for k in range(12):
        assert identical(tpf.function(tangent)(x, seeds[k]), found[k])


def test_work_counts_what_a_product_does() -> None:
    a = np.ones((300, 200))
    tape = tpf.record(lambda x: a @ x, np.ones(200))
    assert ArrayBatch(tape, np.ones(200, np.bool_), [False], False).work > 1000
