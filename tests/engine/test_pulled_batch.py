"""Batches by the pullback's tape of numbers: the same bits as the native sweep's."""

from typing import Any

import numpy as np
import optree
import pytest

import tapeflow as tpf
from tapeflow.engine.pulled_batch import PulledBatch
from tapeflow.plans import batch_program
from tests.strategies import same_bits

same = tpf.custom_vjp(lambda x: x * 1.0)
same.defvjp(lambda x: (x * 1.0, None), lambda _, g: (g,))


def loss(w: Any, x: Any, y: Any) -> Any:
    z = np.tanh(w[0] * x + w[1])
    return (w[2] * z - y) ** 2 + np.exp(-z) * 0.1


def seamed(w: Any, x: Any, y: Any) -> Any:
    z = same(np.tanh(w[0] * x + w[1]))
    return (w[2] * z - y) ** 2 + np.exp(-z) * 0.1


W = (0.3, -0.2, 0.7)
N = 1003
X, Y = np.random.default_rng(0).standard_normal((2, N))


def test_such_a_batch_is_run_by_it() -> None:
    tape = tpf.record(seamed, W, 0.1, 0.2)
    gradient = tpf.grad(seamed, (0, 1))
    axes = [None, None, None, 0, 0]
    leaves = [*W, X, Y]
    parts = gradient.parts(tape.input_structure)
    assert type(batch_program(tape, axes, parts, leaves, True, True)) is PulledBatch


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1, 0, 2)])
@pytest.mark.parametrize("reduce", [None, "sum", "mean"])
@pytest.mark.parametrize("transform", [tpf.grad, tpf.value_and_grad])
def test_the_same_bits(argnums: Any, reduce: Any, transform: Any) -> None:
    for x, y in ((X, Y), (X.astype(np.float32), Y.astype(np.float32)), (X[::2], Y[::2])):
        expected = tpf.vmap(transform(loss, argnums), (None, 0, 0), reduce=reduce)(W, x, y)
        found = tpf.vmap(transform(seamed, argnums), (None, 0, 0), reduce=reduce)(W, x, y)
        assert optree.tree_structure(found) == optree.tree_structure(expected)
        for a, b in zip(optree.tree_leaves(found), optree.tree_leaves(expected), strict=True):
            assert same_bits(a, b)
            assert np.asarray(a).dtype == np.asarray(b).dtype


@pytest.mark.jit
@pytest.mark.parametrize("tier", ["interpret", "fused"])
def test_no_setting_changes_a_bit(tier: str) -> None:
    each = tpf.vmap(tpf.value_and_grad(seamed), (None, 0, 0), reduce="sum")
    expected = each(W, X, Y)
    for threads in (1, 2):
        for block in (8, 64, 128):
            with tpf.config(threads=threads, block=block, tier=tier):
                fresh = tpf.vmap(tpf.value_and_grad(seamed), (None, 0, 0), reduce="sum")
                assert fresh(W, X, Y) == expected == each(W, X, Y)


def test_a_batch_of_no_samples() -> None:
    each = tpf.vmap(tpf.grad(seamed, (0, 1)), (None, 0, 0), reduce="sum")
    gradient, by_x = each(W, X[:0], Y[:0])
    assert gradient == (0.0, 0.0, 0.0) and by_x == 0.0
