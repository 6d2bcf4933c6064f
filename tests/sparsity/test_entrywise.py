"""Entries one by one, against dense derivatives and plans by colours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.sparsity import entrywise

N = 12


def padded(x: Any) -> Any:
    return np.concatenate([[0.0], x[1:] - x[:-1]])


def by_rows(x: Any) -> Any:
    return (x.reshape(3, 4) * np.array([[1.0], [2.0], [3.0]])).T.reshape(-1)


def edges(x: Any) -> Any:
    """Neighbours, the last of which is its own: two of its entries are in one place."""
    return x * x[np.minimum(np.arange(1, N + 1), N - 1)]


STEPS: list[Callable[[Any], Any]] = [
    np.sin,
    padded,
    by_rows,
    edges,
    lambda x: np.roll(x, 1) * x - 2.0 * np.roll(x, -1),
    lambda x: x[::-1] + x**2,
    lambda x: np.where(x > 0.0, x, 3.0 * x),
    lambda x: np.maximum(x, x[::-1]),
    lambda x: x / (1.0 + x[0] ** 2),
    lambda x: x * np.ones(N) + np.exp(-np.concatenate([x[6:], x[:6]])),
    lambda x: np.abs(padded(x)) * padded(x)[::-1],
    lambda x: np.concatenate([x[:5], np.full(2, 0.5), x[7:]]),
    lambda x: np.repeat(np.sum(x.reshape(6, 2), axis=1), 2),
    lambda x: 0.0 * x + np.sqrt(1.0 + x**2),
]

steps = st.lists(st.sampled_from(STEPS), min_size=1, max_size=4)
points = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=N))


def chain(own: Any) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for step in own:
            x = step(x)
        return x

    return f


@given(steps, points)
@settings(max_examples=25, deadline=None)
def test_jacobians_have_the_bits_of_the_dense_sweep(own: Any, x: Any) -> None:
    f = chain(own)
    plan = tpf.sparse_jacobian(f, x)
    if plan.mode == "both":
        plan = tpf.sparse_jacobian(f, x, mode="forward")
    dense = "reverse" if plan.mode == "reverse" else "forward"
    assert np.array_equal(plan(x).toarray(), tpf.jacobian(f, mode=dense)(x))
    pattern = tpf.sparsity.jacobian_pattern(f, x)
    assert np.array_equal(plan.pattern.toarray(), pattern.toarray())
    assert plan(x).has_canonical_format


@pytest.mark.parametrize("k", range(len(STEPS)))
def test_each_step_is_entrywise(k: int) -> None:
    x = np.random.default_rng(0).normal(size=N)
    plan = tpf.sparse_jacobian(chain([np.sin, STEPS[k]]), x, mode="entrywise")
    assert np.array_equal(plan(x).toarray(), tpf.jacobian(chain([np.sin, STEPS[k]]))(x))


@given(steps, points)
@settings(max_examples=15, deadline=None)
def test_hessians(own: Any, x: Any) -> None:
    f = chain(own)

    def energy(x: Any) -> Any:
        return np.sum(f(x) ** 2 * 0.5 + np.cos(x))

    plan = tpf.sparse_hessian(energy, x)
    found, expected = plan(x).toarray(), tpf.hessian(energy)(x)
    # A few hundred products, of which none is larger than the largest entry by much.
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=1e3 * 2.0**-53 * max(1.0, np.abs(expected).max())
    )
    assert np.array_equal(found, found.T)
    pattern = tpf.sparsity.hessian_pattern(energy, x)
    assert np.array_equal(plan.pattern.toarray(), pattern.toarray())


def plate(u: Any) -> Any:
    """A plate that bends: the square of a Laplacian, whose entries add up before they are used."""
    u = u.reshape(6, 6)
    inner = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4.0 * u[1:-1, 1:-1]
    whole = np.zeros((6, 6)) + u**3
    whole[1:-1, 1:-1] = whole[1:-1, 1:-1] + inner
    return np.sum(whole**2)


U = np.random.default_rng(0).normal(size=36)


def test_entries_that_add_up_on_the_way() -> None:
    plan = tpf.sparse_hessian(plate, U, mode="entrywise")
    expected = tpf.hessian(plate)(U)
    np.testing.assert_allclose(plan(U).toarray(), expected, rtol=0, atol=1e-13 * expected.max())
    assert plan.nnz == tpf.sparsity.hessian_pattern(plate, U).nnz


@pytest.mark.parametrize("value", [np.inf, np.nan, 0.0])
def test_what_is_not_finite_stays_where_it_is(value: float) -> None:
    def f(x: Any) -> Any:
        return np.log(x[1:]) * np.sqrt(x[:-1])

    x = np.linspace(1.0, 2.0, N)
    x[4] = value
    plan, colors = tpf.sparse_jacobian(f, x), tpf.sparse_jacobian(f, x, mode="forward")
    assert (plan.mode, colors.mode) == ("entrywise", "forward")
    assert np.array_equal(plan.data(x), colors.data(x), equal_nan=True)
    assert not np.signbit(plan.data(x)[plan.data(x) == 0.0]).any()


def test_points_and_results_that_are_kept() -> None:
    plan = tpf.sparse_hessian(plate, U)
    assert plan.mode == "entrywise"
    points = np.stack([U, 2.0 * U, -U])
    for point, row in zip(points, plan.batch(points), strict=True):
        assert np.array_equal(plan.data(point), row)
    kept = [plan.data(point) for point in points]
    for point, own in zip(points, kept, strict=True):
        assert np.array_equal(plan.data(point), own)


def test_bits_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrywise, "_SMALL", 1000)

    def large(x: Any) -> Any:
        return np.sum(x[1:] * x[:-1] ** 2 + np.sin(x[1:]))

    x = np.random.default_rng(0).normal(size=2_000)
    wide = tpf.sparse_hessian(large, x, mode="entrywise")
    found = []
    for threads in (1, 2, 3):
        with tpf.config(threads=threads):
            found.append(wide.data(x))
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])
    whole = wide.matrix(found[0])[:30, :29].toarray()
    few = tpf.sparse_hessian(large, x[:30], mode="forward")(x[:30]).toarray()[:, :29]
    np.testing.assert_allclose(whole, few, rtol=1e-15)


def test_structures_and_extra_arguments() -> None:
    def f(p: Any, scale: float, data: Any) -> Any:
        return {"a": p["w"] * scale * data, "b": p["c"] * p["w"][::-1]}

    p, data = {"w": np.array([1.0, 2.0, 4.0]), "c": 3.0}, np.array([5.0, 7.0, 9.0])
    plan = tpf.sparse_jacobian(f, p, 2.0, data, mode="entrywise")
    expected = np.zeros((6, 4))
    expected[:3, 1:] = np.diag(2.0 * data)
    expected[3:, 0], expected[3:, 1:] = p["w"][::-1], 3.0 * np.eye(3)[::-1]
    assert plan(p, 2.0, data).toarray().tolist() == expected.tolist()


def test_where_colours_are_the_way() -> None:
    x, mixing = np.linspace(1.0, 2.0, N), np.random.default_rng(0).normal(size=(N, N))
    plan = tpf.sparse_jacobian(lambda x: mixing @ x * x, x)
    assert plan.mode != "entrywise"
    np.testing.assert_allclose(
        plan(x).toarray(), mixing * x[:, None] + np.diag(mixing @ x), rtol=1e-13
    )

    def mixes(x: Any) -> Any:
        return np.linalg.solve(mixing, x)

    with pytest.raises(ValueError, match=r"mixes one by one, as '\w*solve' \(test_entry"):
        tpf.sparse_jacobian(mixes, x, mode="entrywise")
    with pytest.raises(ValueError, match="as it computes with single numbers: use mode"):
        tpf.sparse_jacobian(lambda x: [x[0] * x[1]], x, mode="entrywise")

    # A full matrix on the way to a sparse one.
    def full(x: Any) -> Any:
        return np.sum(x) ** 2 + np.sum(x**3)

    assert tpf.sparse_hessian(full, x).nnz == N * N
    np.testing.assert_allclose(
        tpf.sparse_hessian(full, x)(x).toarray(), 2.0 + np.diag(6.0 * x), rtol=1e-14
    )
