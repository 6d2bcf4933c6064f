"""Loops and branches of one instruction, against the same functions unrolled by Python."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tests.strategies import same_bits

TOLERANCE = 1e-13
"""Some tens of steps of a few roundings of 2**-53 each, in sums of another order."""


def python_scan(f: Any, init: Any, xs: Any, length: int | None, reverse: bool) -> Any:
    n = len(xs) if length is None else length
    ys = [None] * n
    carry = init
    for i in reversed(range(n)) if reverse else range(n):
        carry, ys[i] = f(carry, None if xs is None else xs[i])
    return carry, np.stack(ys)


def recurrence(carry: Any, x: Any) -> Any:
    a, b = carry
    return (np.sin(a * b) + x, 0.5 * b + np.tanh(a)), a * x + b


def of_scan(scan: Any, reverse: bool) -> Any:
    def f(init: Any, xs: Any, w: Any) -> Any:
        def body(carry: Any, x: Any) -> Any:
            carry, y = recurrence(carry, w[0] * x)
            return carry, y + w[1] * x

        (a, b), ys = scan(body, init, xs, None, reverse)
        return a * b + np.sum(np.cos(ys)) + a

    return f


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_the_unrolled_loop(reverse: bool) -> None:
    ours, python = of_scan(tpf.scan, reverse), of_scan(python_scan, reverse)
    rng = np.random.default_rng(0)
    args = (0.3, -0.7), rng.normal(size=13), rng.normal(size=2)
    flat = lambda tree: np.concatenate([np.ravel(x) for x in tree])  # noqa: E731
    for argnum in range(3):
        found = np.ravel(tpf.grad(ours, argnum)(*args))
        np.testing.assert_allclose(found, np.ravel(tpf.grad(python, argnum)(*args)), TOLERANCE)
    assert abs(tpf.function(ours)(*args) - tpf.function(python)(*args)) < TOLERANCE
    tangents = (0.1, 0.2), rng.normal(size=13), rng.normal(size=2)
    primals = args
    a = tpf.hvp(ours, primals, tangents)
    b = tpf.hvp(python, primals, tangents)
    for mine, other in zip(a, b, strict=True):
        np.testing.assert_allclose(flat([mine]), flat([other]), 10 * TOLERANCE)
    _, t = tpf.jvp(ours, primals, tangents)
    np.testing.assert_allclose(t, tpf.jvp(python, primals, tangents)[1], TOLERANCE)


def test_a_batch_is_its_samples() -> None:
    f = of_scan(tpf.scan, False)
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 21))
    xs, w = rng.normal(size=(21, 7)), rng.normal(size=2)
    gradient = tpf.value_and_grad(f, argnums=(0, 1, 2))
    value, ((ga, gb), gx, gw) = tpf.vmap(gradient, (0, 0, None))((a, b), xs, w)
    for k in range(21):
        one, ((oa, ob), ox, ow) = gradient((a[k], b[k]), xs[k], w)
        assert same_bits(one, value[k])
        assert same_bits([oa, ob], [ga[k], gb[k]])
        assert same_bits(ox, gx[k])
        assert same_bits(ow, gw[k])


def root(a: Any) -> Any:
    start = 0.7 + 0.4 * a
    return tpf.while_loop(lambda x: abs(x * x - a) > 1e-12 * a, lambda x: 0.5 * (x + a / x), start)


def test_while_loop_has_all_derivatives_and_its_own_trips_in_each_lane() -> None:
    a = np.concatenate([np.geomspace(1e-3, 1e6, 37), [1.0]])
    f, orders = root, [np.sqrt(a)]
    for k in range(3):
        orders.append(orders[-1] * (0.5 - k) / a)
    for k, expected in enumerate(orders):
        found = tpf.vmap(f)(a)
        # The iterate's derivatives converge one step after it, as fast: the squares of 1e-12.
        np.testing.assert_allclose(found, expected, rtol=1e-7 if k > 1 else 1e-9)
        assert same_bits(found, [f(x) for x in a.tolist()])
        f = tpf.grad(f)


def test_no_trip_at_all() -> None:
    f = lambda x: tpf.while_loop(lambda c: c > 10.0, lambda c: c * x, x)  # noqa: E731
    assert (f(2.0), tpf.grad(f)(2.0)) == (2.0, 1.0)
    g = lambda x, n: tpf.fori_loop(0, n, lambda i, c: c * x, x)  # noqa: E731
    assert tpf.grad(g)(2.0, 0.0) == 1.0 and tpf.grad(g)(2.0, -3.0) == 1.0
    carry, ys = tpf.scan(lambda c, x: (c + x, c), 1.0, np.empty(0))
    assert carry == 1.0 and ys.shape == (0,)


def test_fori_loop_with_bounds_of_each_lane() -> None:
    def power(x: Any, n: Any) -> Any:
        return tpf.fori_loop(1, n + 1, lambda i, c: c * x * (1.0 + 0.0 * i), 1.0)

    x, n = np.linspace(0.5, 2.0, 25), np.arange(25.0)
    np.testing.assert_allclose(tpf.vmap(power)(x, n), x**n, TOLERANCE)
    np.testing.assert_allclose(tpf.vmap(tpf.grad(power))(x, n), n * x ** (n - 1), TOLERANCE)
    second = n * (n - 1) * x ** (n - 2)
    np.testing.assert_allclose(tpf.vmap(tpf.grad(tpf.grad(power)))(x, n), second, TOLERANCE)


def test_loops_in_loops() -> None:
    def f(x: Any) -> Any:
        def outer(i: Any, c: Any) -> Any:
            return tpf.fori_loop(0, i + 1.0, lambda j, d: np.sin(d * x) + 0.1 * j * c, c)

        return tpf.fori_loop(0, 5, outer, x)

    def g(x: Any) -> Any:
        c = x
        for i in range(5):
            d = c
            for j in range(i + 1):
                d = np.sin(d * x) + 0.1 * j * c
            c = d
        return c

    for _ in range(3):
        np.testing.assert_allclose(f(0.7), g(0.7), 10 * TOLERANCE)
        np.testing.assert_allclose(tpf.vmap(f)(np.array([0.7, 0.2])), [f(0.7), f(0.2)], TOLERANCE)
        f, g = tpf.grad(f), tpf.grad(g)


def test_arrays_as_carries() -> None:
    a = np.array([[0.1, -0.4], [0.3, 0.2]])

    def f(x: Any, a: Any, scan: Any = tpf.scan) -> Any:
        x, ys = scan(lambda c, b: (np.tanh(a @ c) + b, c[0] * b), x, np.ones((4, 2)), None, False)
        return np.sum(x * x) + np.sum(ys)

    x = np.array([0.5, 0.7])
    ours = tpf.grad(f, (0, 1))(x, a)
    python = tpf.grad(lambda x, a: f(x, a, python_scan), (0, 1))(x, a)
    for mine, other in zip(ours, python, strict=True):
        np.testing.assert_allclose(mine, other, 10 * TOLERANCE)


def test_cond_never_lets_through_what_is_not_taken() -> None:
    f = lambda x: tpf.cond(x > 0.0, lambda x: np.log(x), lambda x: x * x, x)  # noqa: E731
    x = np.array([2.0, -1.0, 0.5, 0.0] * 5)
    for expected in (
        np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), x * x),
        np.where(x > 0, 1.0 / np.where(x > 0, x, 1.0), 2.0 * x),
        np.where(x > 0, -1.0 / np.where(x > 0, x, 1.0) ** 2, 2.0),
    ):
        np.testing.assert_allclose(tpf.vmap(f)(x), expected, TOLERANCE)
        assert same_bits([f(v) for v in x.tolist()], tpf.vmap(f)(x))
        f = tpf.grad(f)


def test_a_switch_passes_along_what_its_branches_close_over() -> None:
    def f(i: Any, w: Any, x: Any) -> Any:
        return tpf.switch(i, [lambda x: x * w[0], lambda x: np.sin(x * w[1]), lambda x: x], x)

    w = np.array([2.0, 3.0])
    index = np.array([0.0, 1.0, 2.0, -5.0, 7.0, 1.9])
    gw, gx = tpf.vmap(tpf.grad(f, (1, 2)), (0, None, None))(index, w, 0.5)
    c = np.cos(1.5)
    np.testing.assert_allclose(gx, [2.0, 3.0 * c, 1.0, 2.0, 1.0, 3.0 * c], TOLERANCE)
    np.testing.assert_allclose(gw[:, 0], [0.5, 0.0, 0.0, 0.5, 0.0, 0.0], TOLERANCE)
    np.testing.assert_allclose(gw[:, 1], [0.0, 0.5 * c, 0.0, 0.0, 0.0, 0.5 * c], TOLERANCE)


@pytest.mark.parametrize("index", [np.nan, np.inf, -np.inf, -1.0, 0.9, 1.0, 1.9, 7.0])
def test_an_index_that_is_known_chooses_as_a_computed_one(index: float) -> None:
    branches = [lambda: 1.0, lambda: 2.0, lambda: 3.0]
    f = tpf.function(lambda i: tpf.switch(i, branches))
    assert tpf.switch(index, branches) == f(index)


def test_a_loop_is_one_instruction() -> None:
    f = lambda x: tpf.scan(lambda c, _: (np.sin(c) * x, None), x, length=1_000_000)[0]  # noqa: E731
    tape = tpf.record(f, 1.0)
    assert len(tape) == 1


def test_a_branch_of_python_in_a_body_is_refused() -> None:
    def body(c: Any, x: Any) -> Any:
        return (c + x if c > 0.0 else c), None

    with pytest.raises(tpf.TracingError, match=r"test_control.py:\d+.*use tpf.cond"):
        tpf.scan(body, 1.0, np.ones(3))
    with pytest.raises(tpf.TracingError, match=r"test_control.py:\d+.*use tpf.cond"):
        tpf.grad(lambda x: tpf.scan(body, x, np.ones(3))[0])(1.0)


def test_errors_name_the_line_and_both_shapes() -> None:
    def changed() -> Any:
        return tpf.scan(lambda c, _: (np.append(c, 1.0), None), np.ones(2), length=3)

    with pytest.raises(tpf.StructureError, match=r"array\(2,\).*array\(3,\).*test_control.py:"):
        changed()
    with pytest.raises(tpf.StructureError, match=r"number.*array\(2,\).*test_control.py:"):
        tpf.while_loop(lambda c: c < 3.0, lambda c: c * np.ones(2), 1.0)
    with pytest.raises(tpf.StructureError, match="must return a carry and a y"):
        tpf.scan(lambda c, x: c, 1.0, np.ones(3))
    with pytest.raises(tpf.StructureError, match=r"a carry number and returns \(number, number\)"):
        tpf.scan(lambda c, x: ((c, c), c), 1.0, np.ones(3))
    for length in (-1, 2.5):
        with pytest.raises(ValueError, match=r"a whole number .*test_control.py"):
            tpf.scan(lambda c, x: (c, x), 1.0, length=length)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"never end .*test_control.py"):
        tpf.fori_loop(0, np.inf, lambda i, c: c, 1.0)
    with pytest.raises(TypeError, match=r"from number to number.*test_control.py"):
        tpf.fori_loop(0, "a", lambda i, c: c, 1.0)
    with pytest.raises(ValueError, match=r"no branches \(test_control.py:\d+\): give one"):
        tpf.switch(0, [])
    with pytest.raises(TypeError, match=r"branch of cond is 2.0 \(test_control.py:\d+\)"):
        tpf.cond(True, 1.0, 2.0)  # type: ignore[arg-type]
    assert tpf.fori_loop(0, np.nan, lambda i, c: c + 1.0, 1.0) == 1.0
    with pytest.raises(tpf.StructureError, match="one length"):
        tpf.scan(lambda c, x: (c, None), 1.0, (np.ones(3), np.ones(4)))
    with pytest.raises(tpf.StructureError, match="one truth value"):
        tpf.while_loop(lambda c: c > 0.0, lambda c: c, np.ones(2))
    with pytest.raises(tpf.StructureError, match="branches of cond"):
        tpf.grad(lambda x: tpf.cond(x > 0, lambda: x, lambda: (x, x)))(1.0)


def test_what_is_not_read_of_a_result_is_not_computed() -> None:
    def f(x: Any) -> Any:
        state = tpf.while_loop(
            lambda s: s[1] > 0.1, lambda s: (s[0] * x, s[1] * 0.5, s[2] + np.exp(x)), (x, x, 1.0)
        )
        ys = tpf.scan(lambda c, b: (c + b, (c * x, np.sin(c))), x, np.ones(3))[1][0]
        return state[0] + np.sum(ys) + tpf.cond(x > 0.0, lambda: (x, x * x), lambda: (x, 1.0))[0]

    tape = tpf.function(f).tape(1.5)
    text = tape.disassemble()
    assert "exp" not in text and "sin" not in text and "square" not in text
    assert abs(tpf.record(f, 1.5)(1.5) - tape(1.5)) == 0.0
    assert same_bits(tpf.grad(f)(1.5), tpf.record(f, 1.5).value_and_grad(1.5)[1])


def test_vmap_inside_a_recording() -> None:
    rng = np.random.default_rng(3)
    xs, ys, w = rng.normal(size=(20, 3)), rng.normal(size=20), rng.normal(size=3)

    def loss(w: Any, x: Any, y: Any) -> Any:
        return (np.tanh(np.sum(w * x)) - y) ** 2

    def whole(w: Any) -> Any:
        return np.sum((np.tanh(xs @ w) - ys) ** 2)

    axes = None, 0, 0
    of_arguments = lambda w: np.sum(tpf.vmap(loss, axes)(w, xs, ys))  # noqa: E731
    closing_over = lambda w: np.sum(tpf.vmap(lambda x, y: loss(w, x, y))(xs, ys))  # noqa: E731
    reduced = lambda w: tpf.vmap(loss, axes, reduce="sum")(w, xs, ys)  # noqa: E731
    replayed = lambda w: np.sum(tpf.vmap(tpf.function(loss), axes)(w, xs, ys))  # noqa: E731
    for f in (of_arguments, closing_over, reduced, replayed):
        assert len(tpf.record(f, w)) <= 3
        np.testing.assert_allclose(tpf.grad(f)(w), tpf.grad(whole)(w), TOLERANCE)
        # Terms of some units cancel in an entry.
        np.testing.assert_allclose(tpf.hessian(f)(w), tpf.hessian(whole)(w), 0.0, 100 * TOLERANCE)
    square = lambda g: np.sum(g * g)  # noqa: E731
    nested = lambda w: square(tpf.vmap(tpf.grad(loss), axes, reduce="sum")(w, xs, ys))  # noqa: E731
    np.testing.assert_allclose(
        tpf.grad(nested)(w), tpf.grad(lambda w: square(tpf.grad(whole)(w)))(w), 1e-12
    )
    columns = tpf.grad(lambda x: np.sum(tpf.vmap(lambda a: a * a, 1)(x)))(np.ones((2, 3)))
    assert same_bits(columns, 2.0 * np.ones((2, 3)))
    mapped = tpf.vmap(tpf.grad(of_arguments))(np.stack([w, 2.0 * w]))
    assert same_bits(mapped[1], tpf.grad(of_arguments)(2.0 * w))


def test_vmap_over_vmap() -> None:
    x, y = np.arange(3.0), np.arange(2.0)
    outer = tpf.vmap(tpf.vmap(tpf.grad(lambda x, y: x * x * y), (None, 0)), (0, None))(x, y)
    assert same_bits(outer, 2.0 * np.outer(x, y))
