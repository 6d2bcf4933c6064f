"""Sparse Jacobians and Hessians, against the dense ones."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.sparsity import compressed
from tests.strategies import identical, numbers

MODES = ["auto", "forward", "reverse", "both"]
SYMMETRIC = ["auto", "star", "acyclic", "forward"]
ENTRYWISE = "entrywise"


def arrow(x: Any) -> Any:
    """A full row, a full column, and a band."""
    return np.concatenate([x * x[0], [np.sum(np.sin(x))], x[1:] * x[:-1]])


def net(u: Any) -> Any:
    """An elastic net with a penalty: neighbours on a grid of four by four interact."""
    u = u.reshape(4, 4)
    dx, dy = u[1:] - u[:-1], u[:, 1:] - u[:, :-1]
    area = np.sum(np.sqrt(1.0 + dx[:, :-1] ** 2 + dy[:-1] ** 2))
    return area + np.sum(np.exp(-u) * u) + np.sum(np.sqrt(u**2 + 0.1))


X = np.random.default_rng(0).standard_normal(16)


@pytest.mark.parametrize("mode", [*MODES, ENTRYWISE])
@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_jacobian(mode: str, limit: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(compressed, "_LONGEST", limit)
    monkeypatch.setattr(compressed, "_LONGEST_OF_NUMBERS", limit)
    plan = tpf.sparse_jacobian(arrow, X, mode=mode)
    found, expected = plan(X), tpf.jacobian(arrow)(X)
    # Direct recovery adds nothing but zeros to an entry of the dense sweep.
    assert np.array_equal(found.toarray(), expected)
    assert found.has_canonical_format
    assert (plan.shape, plan.nnz) == (found.shape, found.nnz) == ((32, 16), 16 + 15 + 16 + 30)
    if mode == "auto":
        assert plan.mode == ENTRYWISE
    if mode == "both":
        assert plan.n_colors <= 5
    points = np.stack([X, 2.0 * X, -X])
    batch = plan.batch(points)
    for point, row in zip(points, batch, strict=True):
        assert np.array_equal(plan.matrix(row).toarray(), plan(point).toarray())


@pytest.mark.parametrize("mode", [*SYMMETRIC, ENTRYWISE])
@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_hessian(mode: str, limit: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(compressed, "_LONGEST", limit)
    monkeypatch.setattr(compressed, "_LONGEST_OF_NUMBERS", limit)
    plan = tpf.sparse_hessian(net, X, mode=mode)
    found, expected = plan(X).toarray(), tpf.hessian(net)(X)
    # Each entry is a few sums of products of size one; a substitution adds up to sixteen of them.
    np.testing.assert_allclose(found, expected, rtol=0, atol=64 * 2.0**-53 * 4.0)
    if mode != "forward":
        assert np.array_equal(found, found.T)
    points = np.stack([X, 2.0 * X, -X])
    for point, row in zip(points, plan.batch(points), strict=True):
        assert np.array_equal(plan.matrix(row).toarray(), plan(point).toarray())


@st.composite
def interactions(draw: st.DrawFn) -> Any:
    """A function of n numbers in which random pairs and triples interact."""
    n = draw(st.integers(1, 8))
    member = st.integers(0, n - 1)
    terms = draw(st.lists(st.tuples(member, member, member, st.integers(0, 3)), max_size=10))

    def f(x: Any) -> Any:
        total = 1.0 + 0.0 * x[0]
        for i, j, k, kind in terms:
            total = total + (x[i] * x[j], tpf.sin(x[i] + x[k]), x[i] * x[j] * x[k], x[k])[kind]
        return total

    return n, f


@given(interactions(), st.data(), st.sampled_from(SYMMETRIC))
@settings(max_examples=60, deadline=None)
def test_hessians_of_random_interactions(case: Any, data: st.DataObject, mode: str) -> None:
    n, f = case
    x = np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)))
    plan = tpf.sparse_hessian(f, x, mode=mode)
    # At most ten terms of size 9 an entry, and as many entries on the way of a substitution.
    np.testing.assert_allclose(
        plan(x).toarray(), tpf.hessian(f)(x), rtol=0, atol=200 * 9 * 2.0**-53
    )


@given(interactions(), st.data(), st.sampled_from(MODES))
@settings(max_examples=60, deadline=None)
def test_jacobians_of_random_gradients(case: Any, data: st.DataObject, mode: str) -> None:
    n, f = case
    x = np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)))
    gradient = tpf.grad(f)
    plan = tpf.sparse_jacobian(lambda x: gradient(x), x, mode=mode)
    np.testing.assert_allclose(
        plan(x).toarray(), tpf.jacobian(gradient)(x), rtol=0, atol=200 * 9 * 2.0**-53
    )


def test_structures_and_argnums() -> None:
    def f(p: Any, s: float, x: Any) -> Any:
        return {"a": p["w"] * x * s, "b": (p["c"], s * x[0])}

    p, x = {"w": np.array([1.0, 2.0]), "c": 3.0}, np.array([5.0, 7.0])
    plan = tpf.sparse_jacobian(f, p, 2.0, x, argnums=(0, 2))
    # Columns: p["c"], p["w"], x; rows: a, b[0], b[1].
    expected = [[0, 10, 0, 2, 0], [0, 0, 14, 0, 4], [1, 0, 0, 0, 0], [0, 0, 0, 2, 0]]
    assert plan(p, 2.0, x).toarray().tolist() == expected
    assert tpf.sparse_jacobian(f, p, 2.0, x, argnums=1)(p, 2.0, x).toarray().ravel().tolist() == [
        5.0, 14.0, 0.0, 5.0,
    ]  # fmt: skip
    batch = plan.batch(p, np.array([2.0, 1.0]), x, in_axes=(None, 0, None))
    assert np.array_equal(batch[0], 2.0 * batch[1] - (batch[0] == 1.0))


def test_what_depends_on_nothing() -> None:
    plan = tpf.sparse_jacobian(lambda x: np.sign(x), np.ones(3))
    assert plan(np.ones(3)).nnz == plan.nnz == plan.n_colors == 0
    assert plan.batch(np.ones((4, 3))).shape == (4, 0)
    linear = tpf.sparse_hessian(lambda x: np.sum(x), np.ones(3))
    assert linear(np.ones(3)).toarray().tolist() == [[0.0] * 3] * 3
    one = tpf.sparse_hessian(lambda x: x**3, 2.0)
    assert one(2.0).toarray().tolist() == [[12.0]]


def test_matrices_share_a_structure_that_is_read_only() -> None:
    plan = tpf.sparse_jacobian(arrow, X)
    a, b = plan(X), plan(2.0 * X)
    assert np.shares_memory(a.indices, b.indices)
    assert not plan.indices.flags.writeable
    assert np.array_equal(a.indptr, plan.indptr)
    assert plan.pattern.dtype == np.bool_
    a.data[:] = 0.0
    assert plan(2.0 * X).toarray().tolist() == b.toarray().tolist()


def test_a_global_that_changes_makes_a_new_plan() -> None:
    scale = [2.0]

    def f(x: Any) -> Any:
        return number * x

    number = scale[0]
    plan = tpf.sparse_jacobian(f, np.ones(2))
    assert plan(np.ones(2)).data.tolist() == [2.0, 2.0]
    number = 3.0
    assert plan(np.ones(2)).data.tolist() == [3.0, 3.0]


def test_a_branch() -> None:
    def f(x: Any) -> Any:
        return x[:-1] * x[1:] if x[0] > 0.0 else 2.0 * x

    x = np.array([1.0, 2.0, 3.0])
    plan = tpf.sparse_jacobian(f, x)
    assert plan(x).toarray().tolist() == [[2.0, 1.0, 0.0], [0.0, 3.0, 2.0]]
    assert plan(-x).toarray().tolist() == (2.0 * np.eye(3)).tolist()
    assert plan(x).toarray().tolist() == [[2.0, 1.0, 0.0], [0.0, 3.0, 2.0]]
    assert plan.batch(np.stack([x, 2.0 * x])).tolist() == [
        [2.0, 1.0, 3.0, 2.0],
        [4.0, 2.0, 6.0, 4.0],
    ]
    with pytest.raises(tpf.GuardError, match="f takes another branch at point 1 than at the first"):
        plan.batch(np.stack([x, -x]))


def test_a_batch_takes_each_points_own_path() -> None:
    def f(x: Any) -> Any:
        return x[:-1] * x[1:] if x[0] > 0.0 else x[:-1] * np.sin(x[1:]) + x[1:] ** 2

    points = np.random.default_rng(0).normal(size=(40, 4))
    jacobian = tpf.sparse_jacobian(f, points[0])
    hessian = tpf.sparse_hessian(lambda x: np.sum(f(x) * f(x)), points[0])
    for plan in (jacobian, hessian):
        found = plan.batch(points)
        assert all(identical(found[k], plan.data(own)) for k, own in enumerate(points))
        assert identical(plan.batch(points[::-1])[::-1], found)
        assert identical(plan.batch(np.asfortranarray(points.T), in_axes=1), found)


def test_repr() -> None:
    plan = tpf.sparse_jacobian(arrow, X, mode="forward")
    assert repr(plan) == "<sparse jacobian of arrow: 32 x 16, 77 entries, 16 colours, forward>"
    plan = tpf.sparse_jacobian(arrow, X)
    assert repr(plan) == "<sparse jacobian of arrow: 32 x 16, 77 entries, entrywise>"


def test_wrong_calls() -> None:
    with pytest.raises(ValueError, match="mode must be one of auto, entrywise, forward, rev"):
        tpf.sparse_jacobian(arrow, X, mode="star")
    with pytest.raises(ValueError, match="mode must be one of auto, entrywise, star, acyc"):
        tpf.sparse_hessian(net, X, mode="reverse")
    with pytest.raises(ValueError, match="order must be auto or one of"):
        tpf.sparse_jacobian(arrow, X, order="best")
    with pytest.raises(tpf.StructureError, match="returns 32 numbers"):
        tpf.sparse_hessian(arrow, X)
    plan = tpf.sparse_jacobian(arrow, X)
    with pytest.raises(tpf.StructureError, match="planned for arguments of other shapes"):
        plan(np.ones(7))
    with pytest.raises(tpf.StructureError, match="planned for arguments of other shapes"):
        plan.batch(X)
    with pytest.raises(TypeError, match="in an integer"):
        plan(np.arange(16))
    with pytest.raises(tpf.TracingError, match=r"inside a recording: use tpf.jacobian"):
        tpf.grad(lambda x: plan(x).sum())(X)
    with pytest.raises(tpf.StructureError, match="cannot map arrow over axis 2"):
        plan.batch(np.ones((2, 16)), in_axes=2)
    with pytest.raises(ValueError, match=r"data must be of shape \(77,\)"):
        plan.matrix(np.ones(3))


def test_many_numbers_are_not_taken_apart_again() -> None:
    def f(x: Any, y: float) -> Any:
        return [x[0] * x[1] * y, x[2]]

    plan = tpf.sparse_jacobian(f, [1.0, 2.0, 3.0], 4.0)
    expected = [8.0, 4.0, 1.0]
    assert plan.data([1.0, 2.0, 3.0], 4.0).tolist() == expected
    # Integers are refused, and other structures, whatever came before.
    with pytest.raises(TypeError, match="in an integer"):
        plan.data([1, 2.0, 3.0], 4.0)
    with pytest.raises(tpf.StructureError, match="other shapes"):
        plan.data((1.0, 2.0, 3.0), 4.0)
    with pytest.raises(tpf.StructureError, match="other shapes"):
        plan.data([1.0, 2.0, 3.0, 5.0], 4.0)
    assert plan.data([1.0, 2.0, np.float64(3.0)], np.float64(4.0)).tolist() == expected
