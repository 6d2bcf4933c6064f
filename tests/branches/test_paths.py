"""Guards and paths, as a user meets them: re-recording, errors, batches, threads."""

import random
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

import tapeflow as tpf
from tests.strategies import identical


def folded(x: Any, y: Any) -> Any:
    """Flips between calls: several paths, and a loop whose length depends on x."""
    n = 0
    while x > 1.0:
        x = 0.5 * x
        n += 1
    if y > x:
        return x * y * y + n
    return np.sin(x) * y if y > 0 else x * x - y


def by_hand(x: float, y: float) -> tuple[float, tuple[float, float]]:
    """The value and the gradient of `folded`."""
    n = 0
    while x > 1.0:
        x *= 0.5
        n += 1
    scale = 0.5**n
    if y > x:
        return x * y * y + n, (y * y * scale, 2.0 * x * y)
    if y > 0:
        return np.sin(x) * y, (np.cos(x) * y * scale, np.sin(x))
    return x * x - y, (2.0 * x * scale, -1.0)


def close(found: Any, expected: Any) -> bool:
    # A few roundings, of numbers below a hundred.
    return bool(np.allclose(found, expected, rtol=1e-13, atol=1e-13))


numbers = st.floats(-4.0, 40.0).map(lambda x: round(x, 6))


class Flips(RuleBasedStateMachine):
    """A branch that goes another way at any call, alone, in batches, and on several threads."""

    def __init__(self) -> None:
        super().__init__()
        self.gradient = tpf.value_and_grad(folded, argnums=(0, 1))
        self.function = tpf.function(folded)
        self.each = tpf.vmap(self.gradient)
        self.total = tpf.vmap(self.gradient, reduce="sum")

    @rule(x=numbers, y=numbers)
    def alone(self, x: float, y: float) -> None:
        value, gradient = by_hand(x, y)
        found, slopes = self.gradient(x, y)
        assert close(found, value)
        assert close(slopes, gradient)
        assert close(self.function(x, y), value)

    @rule(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40), threads=st.sampled_from([1, 2]))
    def batch(self, seed: int, n: int, threads: int) -> None:
        x, y = np.random.default_rng(seed).uniform(-4.0, 40.0, (2, n))
        expected = [by_hand(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]
        with tpf.config(threads=threads):
            values, slopes = self.each(x, y)
            total, sums = self.total(x, y)
        assert close(values, [value for value, _ in expected])
        assert close(np.transpose(slopes), [gradient for _, gradient in expected])
        assert np.allclose(total, values.sum(), rtol=1e-12)
        assert np.allclose(sums, np.sum(slopes, axis=1), rtol=1e-12, atol=1e-12)

    @rule(seed=st.integers(0, 2**32 - 1))
    def at_once(self, seed: int) -> None:
        pairs = np.random.default_rng(seed).uniform(-4.0, 40.0, (4, 8, 2)).tolist()
        wrong: list[Any] = []

        def work(own: Any) -> None:
            for x, y in own:
                value, gradient = by_hand(x, y)
                found, slopes = self.gradient(x, y)
                if not (close(found, value) and close(slopes, gradient)):
                    wrong.append((x, y))

        threads = [threading.Thread(target=work, args=(own,)) for own in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


quiet = {"deadline": None, "suppress_health_check": list(HealthCheck)}
TestFlips = Flips.TestCase
TestFlips.settings = settings(max_examples=10, stateful_step_count=20, **quiet)


@pytest.mark.exhaustive
def test_flips_over_ten_thousand_calls() -> None:
    class Longer(Flips.TestCase):  # type: ignore[misc,name-defined]
        settings = settings(max_examples=100, stateful_step_count=100, **quiet)

    Longer("runTest").runTest()


def test_a_batch_is_the_loop_over_its_samples_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-4.0, 40.0, (2, 1000))
    one = tpf.value_and_grad(folded, argnums=(0, 1))
    expected = [one(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]
    mapped = tpf.vmap(tpf.value_and_grad(folded, argnums=(0, 1)))
    for order in (np.arange(1000), rng.permutation(1000), np.argsort(x)):
        for threads, block in ((1, 8), (2, 64), (2, None)):
            with tpf.config(threads=threads, block=block):
                values, slopes = mapped(x[order], y[order])
            assert identical(values, [expected[k][0] for k in order])
            for i in range(2):
                assert identical(slopes[i], [expected[k][1][i] for k in order])


def test_sums_have_the_same_bits_whatever_the_threads() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-4.0, 40.0, (2, 50_000))
    for reduce in ("sum", "mean"):
        found = []
        for threads, block in ((1, 8), (2, 64), (3, None)):
            f = tpf.vmap(tpf.value_and_grad(folded, argnums=(0, 1)), reduce=reduce)
            with tpf.config(threads=threads, block=block):
                found += [f(x, y), f(x, y)]
        assert all(identical(np.hstack(np.ravel(a[1])), np.hstack(np.ravel(b[1]))) for a in found
                   for b in found)  # fmt: skip
        assert len({value for value, _ in found}) == 1


def test_a_sum_is_the_tree_over_the_samples() -> None:
    x, y = np.random.default_rng(2).uniform(-4.0, 40.0, (2, 77))
    values = tpf.vmap(tpf.function(folded))(x, y)
    groups = np.full(80, -0.0)
    groups[:77] = values
    sums = list(groups.reshape(-1, 8))
    while len(sums) > 1:
        rest = sums[len(sums) // 2 * 2 :]
        sums = [a + b for a, b in zip(sums[0::2], sums[1::2], strict=False)] + rest
    lanes = sums[0]
    for half in (4, 2, 1):
        lanes = lanes[:half] + lanes[half:]
    assert tpf.vmap(tpf.function(folded), reduce="sum")(x, y) == lanes[0]


def test_no_lane_sees_a_branch_that_it_does_not_take() -> None:
    def f(x: Any) -> Any:
        return np.log(x) if x > 0 else 0.0 * x

    x = np.array([1.0, -1.0, 0.0, 2.0])
    with tpf.config(debug_nans=True):
        value, slope = tpf.vmap(tpf.value_and_grad(f))(x)
    assert np.array_equal(value, [0.0, 0.0, 0.0, np.log(2.0)])
    assert np.array_equal(slope, [1.0, 0.0, 0.0, 0.5])


def test_a_zero_takes_its_sign_along_the_tree() -> None:
    def f(x: Any) -> Any:
        y = x * 0.0
        if x > 5.0:
            return x
        return x * x if 1.0 / y > 0.0 else -x

    # So many that they walk from guard to guard, and hand y on.
    x = np.random.default_rng(0).uniform(-10.0, 10.0, 1000)
    expected = np.where(x > 5.0, x, np.where(x > 0.0, x * x, -x))
    mapped = tpf.vmap(tpf.value_and_grad(f))
    for _ in range(3):
        values, slopes = mapped(x)
        assert np.array_equal(values, expected)
        assert np.array_equal(slopes, np.where(x > 5.0, 1.0, np.where(x > 0.0, 2.0 * x, -1.0)))


def test_nan_is_true_and_compares_false_as_in_python() -> None:
    f = tpf.function(lambda x: 1.0 + 0.0 * x if x > 0 else (2.0 if x else 3.0))
    assert [f(x) for x in (np.nan, 0.0, -1.0)] == [2.0, 3.0, 2.0]
    with pytest.raises(ValueError, match="NaN to integer"):
        tpf.function(lambda x: [1.0, 2.0][int(x)] * x)(np.nan)


def test_a_tape_that_does_not_fit_says_where_and_how() -> None:
    def f(x: Any, y: Any) -> Any:
        if x > y:
            return x * y
        return x

    tape = tpf.record(f, 2.0, 1.0)
    line = f.__code__.co_firstlineno + 1
    assert tape(3.0, 2.0) == 6.0
    for call in (tape, tape.value_and_grad, tape.forward):
        with pytest.raises(tpf.GuardError, match=rf"x > y is True \(test_paths.py:{line}\), .*Fal"):
            call(1.0, 2.0)
    native = tape.njit()
    assert native.value(np.array([3.0, 2.0])) == 6.0
    with pytest.raises(tpf.GuardError, match="x > y"):
        native.value(np.array([1.0, 2.0]))
    assert f"guard v0 == 1  # test_paths.py:{line}" in tape.disassemble()


@pytest.mark.jit
def test_compiled_code_raises_where_a_tape_does_not_fit() -> None:
    import numba

    native = tpf.record(lambda x: x[0] * x[0] if x[0] > 0 else x[0], [1.0]).njit()
    call = numba.njit(lambda f, x: f.value(x))
    assert call(native, np.array([3.0])) == 9.0
    with pytest.raises(tpf.GuardError, match="another branch"):
        call(native, np.array([-3.0]))


def test_what_is_kept_from_happening_by_a_branch_does_not_happen() -> None:
    def f(a: Any) -> Any:
        if np.linalg.det(a) > 0.1:
            return np.sum(np.linalg.cholesky(a))
        return np.sum(a)

    g = tpf.function(f)
    assert g(np.eye(2)) == 2.0
    assert g(-np.eye(2) * np.array([1.0, -1.0])) == 0.0
    with pytest.raises(tpf.GuardError):
        tpf.record(f, np.eye(2))(np.diag([-1.0, 1.0]))


def test_a_function_of_more_than_its_arguments_is_refused() -> None:
    def noisy(x: Any) -> Any:
        y = x * random.random()
        return y if y > 0.0 else y * y

    f = tpf.function(noisy)
    f(1.0)
    line = noisy.__code__.co_firstlineno + 2
    with pytest.raises(
        tpf.TracingError, match=rf"branch of noisy \(test_paths.py:{line}\).*random"
    ):
        f(-1.0)

    calls = []

    def counted(x: Any) -> Any:
        calls.append(0)
        if len(calls) % 2 and x > 10.0:
            return x
        return x * x if x > 0.0 else -x

    g = tpf.function(counted)
    g(1.0)
    with pytest.raises(tpf.TracingError, match="counted"):
        g(-1.0)


def test_paths_are_capped() -> None:
    f = tpf.function(lambda x: x * int(x))
    with tpf.config(max_paths=3):
        for k in range(3):
            f(float(k))
        with pytest.raises(
            tpf.TracingError, match=r"3 paths.*3 ways at test_paths.py:\d+ \(f = .*int\(x\)"
        ):
            f(3.0)
        assert f(2.0) == 4.0
    with pytest.raises(ValueError, match="max_paths"):
        tpf.config(max_paths=0)


def test_paths_say_how_often_and_where() -> None:
    f = tpf.function(folded)
    for x, y in ((0.5, 1.0), (0.5, 2.0), (3.0, -1.0)):
        f(x, y)
    tpf.vmap(f)(np.array([0.5, 0.5]), np.array([1.0, 3.0]))
    paths = f.paths()
    assert [row.runs for row in paths] == [4, 1]
    assert [b.outcome for b in paths.rows[0].branches] == ["False", "True"]
    assert paths.rows[0].branches[0].question == "x > 1"
    line = folded.__code__.co_firstlineno + 3
    assert paths.rows[0].branches[0].source == f"test_paths.py:{line}"
    assert f"test_paths.py:{line}" in str(paths)
    assert repr(paths) == str(paths)


def test_margins() -> None:
    def f(x: Any, y: Any) -> Any:
        if x > y and y > -5.0:
            return x
        return y if (x < 0.0) | (y < 0.0) else x * int(x)

    g = tpf.function(f)
    assert g.guard_margins(2.0, 1.5) == 0.5
    assert g.guard_margins(1.25, 1.5) == 0.25
    assert np.isclose(g.guard_margins(0.9, 3.0), 0.1)  # the next whole number
    x, y = np.array([2.0, 1.25, -3.0]), np.array([1.5, 1.5, 4.0])
    assert np.array_equal(tpf.vmap(g).guard_margins(x, y), [0.5, 0.25, 3.0])
    assert tpf.vmap(lambda x: x * x).guard_margins(x).tolist() == [np.inf] * 3
    assert tpf.function(lambda x: x).guard_margins(1.0) == np.inf


def test_guards_of_what_is_shared_leave_the_sum_as_it_is() -> None:
    def f(w: Any, x: Any) -> Any:
        if np.sum(w) > 0:
            return np.sum(w * x)
        return np.sum(w * w * x)

    mapped = tpf.vmap(tpf.grad(f), in_axes=(None, 0), reduce="sum")
    x = np.random.default_rng(0).normal(size=(100, 3))
    for w in (np.ones(3), -np.ones(3)):
        sign = 1.0 if w[0] > 0 else -2.0
        assert np.allclose(mapped(w, x), sign * x.sum(axis=0), rtol=1e-13)


def test_nested_transforms_branch_too() -> None:
    f = lambda x: x**3 if x > 1.0 else x * x  # noqa: E731
    slope = tpf.grad(lambda x: tpf.grad(f)(x) * x)
    for x, expected in ((2.0, 36.0), (0.5, 2.0), (3.0, 81.0), (0.25, 1.0)):
        assert np.isclose(slope(x), expected)
    assert np.allclose(tpf.vmap(slope)(np.array([2.0, 0.5, 3.0])), [36.0, 2.0, 81.0])
    j = tpf.jacobian(lambda x: x * x if x[0] > 0 else x)
    assert np.array_equal(j(np.array([1.0, 2.0])), [[2.0, 0.0], [0.0, 4.0]])
    assert np.array_equal(j(np.array([-1.0, 2.0])), np.eye(2))
    inner = tpf.checkpoint(lambda x: x * x if x > 0 else -x)
    g = tpf.vmap(tpf.grad(lambda x: inner(x) * inner(-x)))
    assert np.array_equal(g(np.array([2.0, -3.0])), [12.0, 27.0 - 54.0])


def right(x: Any) -> Any:
    return np.stack([x[0] * x[1], np.sin(x[1]) * x[0]])


def left(x: Any) -> Any:
    return np.stack([x[0] ** 3, x[1] * np.exp(x[0])])


def either(x: Any) -> Any:
    return right(x) if x[0] > 0.0 else left(x)


U, V = np.array([1.0, -2.0]), np.array([0.5, 3.0])
BUILT: dict[str, Any] = {
    "jacobian": lambda f: tpf.jacobian(f),
    "forward": lambda f: tpf.jacobian(f, mode="forward"),
    "reverse": lambda f: tpf.jacobian(f, mode="reverse"),
    "hessian": lambda f: tpf.hessian(lambda x: U @ f(x)),
    "third": lambda f: tpf.jacobian(tpf.hessian(lambda x: U @ f(x))),
    "vjp": lambda f: lambda x: tpf.vjp(f, x)[1](U)[0],
    "jvp": lambda f: lambda x: tpf.jvp(f, (x,), (V,))[1],
    "linearize": lambda f: lambda x: tpf.linearize(f, x)[1](V),
    "hvp": lambda f: lambda x: tpf.hvp(lambda x: U @ f(x), (x,), (V,)),
    "series": lambda f: lambda x: tpf.directional_taylor(lambda x: U @ f(x), x, V, 3)[3],
    "checkpoint": lambda f: tpf.jacobian(tpf.checkpoint(f)),
    "before a loop": lambda f: tpf.grad(
        lambda x: tpf.fori_loop(0, 3, lambda i, c: np.sin(c), np.sum(f(x)))
    ),
    "on a loop": lambda f: tpf.jacobian(
        lambda x: f(tpf.fori_loop(0, 2, lambda i, c: 0.5 * c + 0.0 * x, x))
    ),
}


@pytest.mark.parametrize("name", BUILT)
def test_what_is_built_on_functions_branches(name: str) -> None:
    x = np.random.default_rng(0).uniform(-2.0, 2.0, (12, 2))
    both, sides = BUILT[name](either), [BUILT[name](f) for f in (left, right)]
    expected = [sides[int(own[0] > 0.0)](own) for own in x]
    # The same formulas, whose instructions may be shared, and so added, in another order.
    same = {"rtol": 1e-13, "atol": 1e-13}
    for own, wanted in zip(x, expected, strict=True):
        assert np.allclose(both(own), wanted, **same)
    assert np.allclose(tpf.vmap(both)(x), expected, **same)
    assert np.allclose(tpf.vmap(both, reduce="sum")(x), np.sum(expected, axis=0), **same)


def test_gates_in_python_run_on_their_own_path_alone() -> None:
    @tpf.gate
    class Root:
        def forward(self, x: float) -> float:
            if x < 0:
                raise ValueError("negative")
            self.y = np.sqrt(x)
            return float(self.y)

        def backward(self, dy: float) -> list[float]:
            return [0.5 * dy / self.y]

    f = lambda x: Root()(x) if x > 0 else -x  # noqa: E731
    g = tpf.value_and_grad(f)
    assert g(4.0) == (2.0, 0.25)
    assert g(-4.0) == (4.0, -1.0)
    values, slopes = tpf.vmap(tpf.value_and_grad(f))(np.array([4.0, -4.0, 1.0]))
    assert np.array_equal(values, [2.0, 4.0, 1.0])
    assert np.array_equal(slopes, [0.25, -1.0, 0.5])


def test_results_of_different_shapes_are_refused_in_a_batch() -> None:
    f = tpf.function(lambda x: x if x > 0 else (x, x))
    assert f(1.0) == 1.0
    assert f(-1.0) == (-1.0, -1.0)
    with pytest.raises(tpf.StructureError, match="different structures"):
        tpf.vmap(f)(np.array([1.0, -1.0]))


def test_float32_and_other_layouts() -> None:
    x = np.linspace(-2.0, 3.0, 101)
    f = tpf.value_and_grad(lambda x: np.sum(x * x) if x[0] > 0.5 else np.sum(np.sin(x)))
    wide = np.stack([x, -x, x + 1.0], axis=1)
    values, slopes = tpf.vmap(f)(wide)
    single, single_slopes = tpf.vmap(f)(wide.astype(np.float32))
    assert single.dtype == single_slopes.dtype == np.float32
    same = np.abs(x - 0.5) > 1e-6
    assert np.allclose(single[same], values[same], rtol=1e-6, atol=1e-6)
    turned, turned_slopes = tpf.vmap(f, in_axes=1)(np.asfortranarray(wide.T))
    assert identical(turned, values)
    assert identical(turned_slopes.reshape(slopes.shape), slopes)
    backwards, _ = tpf.vmap(f)(wide[::-1])
    assert identical(backwards, values[::-1])


def test_an_empty_batch() -> None:
    f = tpf.vmap(tpf.value_and_grad(lambda x: x * x if x > 0 else x))
    values, slopes = f(np.empty(0))
    assert values.shape == slopes.shape == (0,)
