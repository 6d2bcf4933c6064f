"""Scattered Jacobians, against one built of dense Jacobians, element by element."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapeflow as tpf


def dense(function: Any, indices: Any, args: Any, leaves: Any) -> tuple[Any, Any]:
    """The Jacobian and residuals, by a dense Jacobian for each element.

    leaves: for each unknown leaf, its argument and how to take it from that.
    """
    n = next(len(index) for index in indices if index is not None)
    sizes = [take(args[k]).size for k, take in leaves]
    first = np.concatenate([[0], np.cumsum(sizes)])
    unknown = [k for k, index in enumerate(indices) if index is not None]

    def one(*own: Any) -> Any:
        return np.concatenate([np.ravel(r) for r in flat(function(*own))])

    jacobian = tpf.jacobian(one, argnums=tuple(unknown))
    rows, residuals = [], []
    for k in range(n):
        own = [element(arg, index, k) for arg, index in zip(args, indices, strict=True)]
        parts = dict(zip(unknown, jacobian(*own), strict=True))
        residuals.append(one(*own))
        block = np.zeros((len(residuals[-1]), first[-1]))
        for leaf, (argument, take) in enumerate(leaves):
            size = int(np.prod(take(args[argument]).shape[1:]))
            found = take(parts[argument]).reshape(len(block), -1, size)
            for time, entry in enumerate(np.atleast_1d(indices[argument][k])):
                start = first[leaf] + entry * size
                block[:, start : start + size] += found[:, time]
        rows.append(block)
    return np.concatenate(rows), np.concatenate(residuals)


def flat(result: Any) -> Any:
    return result if isinstance(result, (tuple, list)) else [result]


def element(arg: Any, index: Any, k: int) -> Any:
    if isinstance(arg, dict):
        return {name: part[index[k]] for name, part in arg.items()}
    if np.ndim(arg) == 0:
        return arg
    found = arg[k if index is None else index[k]]
    return float(found) if np.ndim(found) == 0 else found


def projection(camera: Any, point: Any, weight: Any, seen: Any) -> Any:
    x, y = camera[0] * point[0] / point[2], camera[1] * point[1] / point[2]
    return weight * (x - seen[0]) + camera[2] ** 2, weight * (y - seen[1])


def whole(x: Any) -> Any:
    return x


def check(function: Any, indices: Any, args: Any, leaves: Any) -> None:
    plan = tpf.scatter_jacobian(function, indices, *args)
    expected, residuals = dense(function, indices, args, leaves)
    found = plan(*args)
    assert found.has_sorted_indices
    # Sums of a few products of numbers up to ten, in another order.
    np.testing.assert_allclose(found.toarray(), expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(plan.residuals(*args), residuals, rtol=0, atol=1e-13)
    both = plan.linearize(*args)
    assert np.array_equal(both[0], plan.residuals(*args))
    assert np.array_equal(both[1].data, found.data)
    matrix, gradient, again = plan.normal_equations(*args)
    scale = np.abs(expected).T @ np.abs(expected)
    error = np.abs(matrix.toarray() - expected.T @ expected)
    assert (error <= 4 * len(expected) * 2.0**-53 * scale + 1e-13).all()
    assert np.array_equal(matrix.toarray(), matrix.toarray().T)
    np.testing.assert_allclose(gradient, expected.T @ residuals, rtol=1e-12, atol=1e-12)
    assert np.array_equal(again, both[0])


@st.composite
def problems(draw: st.DrawFn) -> Any:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, cameras, points = draw(st.integers(1, 40)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    in_order = np.arange(n) if draw(st.booleans()) else rng.permutation(n)
    indices = rng.integers(0, cameras, n), rng.integers(0, points, n), in_order, None
    args = (
        rng.uniform(1, 2, (cameras, draw(st.sampled_from([3, 9, 11])))),
        rng.uniform(1, 2, (points, 3)),
        rng.uniform(1, 2, n),
        rng.uniform(1, 2, (n, 2)),
    )
    return indices, args


@given(problems())
@settings(max_examples=30, deadline=None)
def test_cameras_and_points(problem: Any) -> None:
    indices, args = problem
    check(projection, indices, args, [(0, whole), (1, whole), (2, whole)])


def test_several_of_one_array_and_the_same_twice() -> None:
    def edge(poses: Any, between: Any) -> Any:
        step = poses[1] - poses[0]
        return np.sin(step) * poses[0, 0] - between

    rng = np.random.default_rng(0)
    poses, between = rng.uniform(1, 2, (5, 3)), rng.uniform(1, 2, (6, 3))
    # In both orders, and an edge from a pose to itself.
    edges = np.array([[0, 1], [1, 2], [3, 2], [4, 4], [4, 0], [0, 1]])
    check(edge, (edges, None), (poses, between), [(0, whole)])


def test_structures_numbers_and_more_residuals_than_unknowns() -> None:
    def f(p: Any, scale: float, x: Any) -> Any:
        return [p["a"] * x * scale, np.sin(p["b"]) * x, p["a"] * p["b"]]

    rng = np.random.default_rng(1)
    p = {"a": rng.uniform(1, 2, 4), "b": rng.uniform(1, 2, 4)}
    index, x = np.array([0, 3, 1, 1, 2]), rng.uniform(1, 2, 5)
    leaves = [(0, lambda p: p["a"]), (0, lambda p: p["b"])]
    check(f, (index, None, None), (p, 3.0, x), leaves)


@pytest.mark.jit
def test_many_elements_by_any_number_of_threads() -> None:
    rng = np.random.default_rng(2)
    n = 20_011
    indices = rng.integers(0, 50, n), rng.integers(0, 300, n), np.arange(n), None
    args = (
        rng.uniform(1, 2, (50, 11)),
        rng.uniform(1, 2, (300, 3)),
        rng.uniform(1, 2, n),
        rng.uniform(1, 2, (n, 2)),
    )
    plan = tpf.scatter_jacobian(projection, indices, *args)
    with tpf.config(threads=1, tier="interpret"):
        blocks, normal = plan.blocks(*args), plan.normal_equations(*args)
    for threads, block, tier in [(2, 64, "fused"), (3, 8, "interpret")]:
        with tpf.config(threads=threads, block=block, tier=tier):
            assert np.array_equal(plan.blocks(*args), blocks)
            again = plan.normal_equations(*args)
            assert np.array_equal(again.matrix.data, normal.matrix.data)
            assert np.array_equal(again.gradient, normal.gradient)
    # Each element by itself.
    for k in (0, 7, n - 1):
        own = [element(arg, index, k) for arg, index in zip(args, indices, strict=True)]
        parts = tpf.jacobian(lambda *own: np.stack(projection(*own)), argnums=(0, 1, 2))(*own)
        row = np.concatenate([part.reshape(2, -1) for part in parts], axis=1)
        np.testing.assert_allclose(blocks[k], row, rtol=0, atol=1e-13)


def test_plain_products_make_no_difference() -> None:
    def f(x: Any, y: Any) -> Any:
        # At x = 0 the root's partial is infinite, and a zero cotangent skips it.
        return np.sqrt(x[0]) * x[1] * x[2] + y, np.exp(x[1]) * x[2] * x[0]

    x = np.random.default_rng(0).uniform(1.0, 2.0, (5, 3))
    index, y = np.array([0, 1, 2, 3, 4, 0, 2, 1, 4, 3, 2]), np.ones(11)
    plan = tpf.scatter_jacobian(f, (index, None), x, y)
    program = plan._programs.blocks
    assert program._plain is not None
    for edit in [None, (2, [0.0, 1.0, 0.0]), (2, [0.0, 0.0, 1.0]), (0, [np.inf, 0.0, 0.0])]:
        if edit is not None:
            x[edit[0]] = edit[1]
        found, exact = plan.blocks(x, y), program._exact([x, y])[0].reshape(11, 2, 3)
        assert np.array_equal(found, exact, equal_nan=True)
        assert np.array_equal(np.signbit(found), np.signbit(exact))
    # Such as it is by hand: zero times infinity is zero.
    assert plan.blocks(x, y)[2, 0].tolist() == [0.0, 0.0, 0.0]


def test_what_chooses_is_not_plain() -> None:
    from tapeflow.sparsity.plain import with_plain_products
    from tapeflow.transforms import pullback

    smooth = pullback(tpf.record(lambda x, y: np.exp(x) * y, 1.0, 1.0))
    plain = with_plain_products(smooth)
    assert plain is not None
    assert len(plain.outputs) == len(smooth.outputs) + 1
    # The gradient is divided by, so that the sign of a zero in it matters.
    gradient = tpf.grad(lambda x: np.exp(x) * x * x)
    assert with_plain_products(tpf.record(lambda x: 1.0 / gradient(x), 1.0)) is None
    assert with_plain_products(tpf.record(lambda x: np.exp(x), 1.0)) is None


def test_signs_of_zeros_are_read_as_they_are() -> None:
    x = np.full((3, 9), -0.0)
    plan = tpf.scatter_jacobian(lambda x: np.copysign(1.0, x[4]) * x[0], (np.arange(8) % 3,), x)
    assert plan.blocks(x)[:, 0, 0].tolist() == [-1.0] * 8


def test_least_squares() -> None:
    from scipy.optimize import least_squares

    rng = np.random.default_rng(3)
    true, edges = rng.uniform(-1, 1, (6, 2)), np.array([[i, j] for i in range(6) for j in range(i)])
    distance = np.linalg.norm(true[edges[:, 0]] - true[edges[:, 1]], axis=1)

    def spring(ends: Any, length: Any) -> Any:
        return np.sqrt(np.sum((ends[1] - ends[0]) ** 2)) - length

    start = true + 0.05 * rng.standard_normal(true.shape)
    plan = tpf.scatter_jacobian(spring, (edges, None), start, distance)
    found = least_squares(
        lambda x: plan.residuals(*plan.unflatten(x, start, distance)),
        plan.flatten(start, distance),
        lambda x: plan(*plan.unflatten(x, start, distance)),
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    assert found.cost < 1e-20


def test_no_elements() -> None:
    none = np.empty(0, int)
    plan = tpf.scatter_jacobian(lambda x: x * x, (none,), np.ones(3))
    assert plan(np.ones(3)).shape == (0, 3)
    assert plan.normal_equations(np.ones(3)).matrix.toarray().tolist() == [[0.0] * 3] * 3


def test_each_element_takes_its_own_path() -> None:
    def f(p: Any, q: Any, scale: float, y: Any) -> Any:
        r = p[0] * q - scale * y
        if abs(r) < 0.5:
            return r * p[1], r
        return np.sign(r) * (np.sqrt(abs(r)) + p[1]), q * q

    rng = np.random.default_rng(3)
    index, other = rng.integers(0, 4, 50), rng.integers(0, 6, 50)
    args = rng.uniform(-1, 1, (4, 2)), rng.uniform(-1, 1, 6), 0.5, rng.uniform(-1, 1, 50)
    check(f, (index, other, None, None), args, [(0, whole), (1, whole)])

    def edge(x: Any) -> Any:
        return x[0] * x[1] if x[0] > x[1] else x[0] - x[1]

    check(edge, (np.array([[0, 1], [1, 2], [3, 2], [4, 4], [4, 0]]),), (rng.normal(size=5),),
          [(0, whole)])  # fmt: skip
    none = np.empty(0, int)
    assert tpf.scatter_jacobian(lambda x: x if x > 0 else -x, (none,), np.ones(3))(
        np.ones(3)
    ).shape == (0, 3)


def test_a_function_that_branches_is_recorded_anew() -> None:
    limit = 0.0

    def f(x: Any) -> Any:
        return x * x if x > limit else -x

    x, index = np.array([1.0, 2.0, -3.0]), np.arange(3)
    plan = tpf.scatter_jacobian(f, (index,), x)
    assert plan(x).data.tolist() == [2.0, 4.0, -1.0]
    limit = 1.5
    assert plan(x).data.tolist() == [-1.0, 4.0, -1.0]
    ragged = tpf.scatter_jacobian(lambda x: (x, x) if x > 0.0 else x, (index,), x)
    with pytest.raises(tpf.StructureError, match="different structures or shapes"):
        ragged(x)
    assert ragged(-abs(x)).shape == (3, 3)
    assert ragged(abs(x)).shape == (6, 3)


def test_wrong_calls() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * y

    x, y, index = np.ones(3), np.ones(4), np.array([0, 1, 2, 0])
    plan = tpf.scatter_jacobian(f, (index, None), x, y)
    assert repr(plan) == "<scatter jacobian of f: 4 x 3, 4 blocks of 1 x 1>"
    with pytest.raises(tpf.StructureError, match="1 indices for 2 arguments of f: give one"):
        tpf.scatter_jacobian(f, (index,), x, y)
    with pytest.raises(IndexError, match="goes from 0 to 3, and there are 3 unknowns"):
        tpf.scatter_jacobian(f, (index + index // 2, None), x, y)
    with pytest.raises(IndexError, match="goes from -1 to 1"):
        tpf.scatter_jacobian(f, (index - 1, None), x, y)
    with pytest.raises(tpf.StructureError, match=r"must be of one length.*there are 4, 5"):
        tpf.scatter_jacobian(f, (index, None), x, np.ones(5))
    with pytest.raises(tpf.StructureError, match="needs an index at least"):
        tpf.scatter_jacobian(f, (None, None), x, x)
    with pytest.raises(tpf.StructureError, match="an array of integers, not of float64"):
        tpf.scatter_jacobian(f, (index * 1.0, None), x, y)
    with pytest.raises(tpf.StructureError, match="is an array of int64: pass an array of real"):
        tpf.scatter_jacobian(f, (index, None), np.arange(3), y)
    with pytest.raises(tpf.StructureError, match="is a number: pass an array of real"):
        tpf.scatter_jacobian(f, (index, None), 1.0, y)
    with pytest.raises(tpf.StructureError, match="returns no residuals: return numbers"):
        tpf.scatter_jacobian(lambda x, y: None, (index, None), x, y)
    with pytest.raises(tpf.StructureError, match="planned for arguments of shapes"):
        plan(np.ones(4), y)
    with pytest.raises(tpf.TracingError, match=r"inside a recording: use tpf.jacobian"):
        tpf.grad(lambda x: plan.residuals(x, y)[0])(x)
    with pytest.raises(ValueError, match=r"x must be of shape \(3,\)"):
        plan.unflatten(np.ones(2), x, y)
