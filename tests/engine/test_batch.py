"""Batches: the same bits whatever the lanes, blocks, threads and memory layout."""

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.engine.batch_run import Ready, Run
from tapeflow.tape import Tape
from tests.engine.test_interpreter import batch_of, run_batch
from tests.strategies import identical, tapes


def neuron(w: Any, x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))


W = np.array([2.0, -3.0, -3.0])


def samples(n: int) -> Any:
    return np.random.default_rng(n).standard_normal((n, 2))


@given(tapes(), st.data())
def test_lanes_equal_one_sample_at_a_time(tape: Tape, data: st.DataObject) -> None:
    inputs = batch_of(tape, data, data.draw(st.integers(1, 20)))
    values, gradients = run_batch(tape, inputs)
    for lane in range(inputs.shape[1]):
        value, gradient = run_batch(tape, inputs[:, lane : lane + 1])
        assert identical(value[0], values[lane])
        assert identical(gradient[0], gradients[lane])


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 63, 64, 65, 1000])
@pytest.mark.parametrize("reduce", [None, "sum", "mean"])
def test_any_number_of_samples(n: int, reduce: Any) -> None:
    x = samples(n)
    value, (dw, dx) = tpf.vmap(
        tpf.value_and_grad(neuron, argnums=(0, 1)), in_axes=(None, 0), reduce=reduce
    )(W, x)
    one = tpf.value_and_grad(neuron, argnums=(0, 1))
    each = [one(W, row) for row in x]
    values = np.array([v for v, _ in each]).reshape(n)
    dws = np.array([g[0] for _, g in each]).reshape(n, 3)
    dxs = np.array([g[1] for _, g in each]).reshape(n, 2)
    if reduce is None:
        assert identical(value, values)
        assert identical(dw, dws)
        assert identical(dx, dxs)
    elif n == 0:
        expected = 0.0 if reduce == "sum" else np.nan
        assert identical(value, expected)
        assert identical(dw, np.full(3, expected))
        assert identical(dx, np.full(2, expected))
    else:
        # Pairwise summation of n numbers errs by at most log2(n) + 1 roundings of the sum of
        # magnitudes (Higham, Accuracy and Stability of Numerical Algorithms, 4.2).
        scale = 1.0 if reduce == "sum" else 1.0 / n
        for got, parts in ((value, values), (dw, dws), (dx, dxs)):
            bound = (np.log2(n) + 8) * 2.0**-52 * np.abs(parts).sum(axis=0) * scale
            assert np.all(np.abs(got - parts.sum(axis=0) * scale) <= bound)


@pytest.mark.jit
@pytest.mark.parametrize("reduce", [None, "sum", "mean"])
def test_same_bits_for_every_block_and_thread_count(reduce: Any) -> None:
    x = samples(100_003)
    run = tpf.vmap(tpf.value_and_grad(neuron, argnums=(0, 1)), in_axes=(None, 0), reduce=reduce)
    results = []
    for threads in (1, 2, 3, 7):
        for block in (8, 16, 64, 512, 4096, None):
            with tpf.config(threads=threads, block=block):
                value, (dw, dx) = run(W, x)
            results.append((value, dw, dx))
    for value, dw, dx in results[1:]:
        assert identical(value, results[0][0])
        assert identical(dw, results[0][1])
        assert identical(dx, results[0][2])


def test_a_samples_bits_do_not_depend_on_its_place() -> None:
    x = samples(100)
    run = tpf.vmap(tpf.grad(neuron, argnums=1), in_axes=(None, 0))
    order = np.random.default_rng(1).permutation(100)
    assert identical(run(W, x)[order], run(W, x[order]))


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x,
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: np.pad(x, ((0, 0), (0, 3)))[:, :2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: x[:, ::-1].copy()[:, ::-1],
        lambda x: x.astype(">f8"),
        lambda x: (
            np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float64).reshape(x.shape)
        ),
    ],
    ids=["C", "F", "strided", "padded", "reversed", "mirrored", "big-endian", "unaligned"],
)
def test_any_layout_of_the_callers_array(layout: Any) -> None:
    x = samples(50)
    given = layout(x)
    before = given.copy()
    given.setflags(write=False)
    run = tpf.vmap(tpf.grad(neuron, argnums=(0, 1)), in_axes=(None, 0))
    for got, expected in zip(run(W, given), run(W, x), strict=True):
        assert identical(got, expected)
    assert np.array_equal(given, before)


def test_axes() -> None:
    x = samples(20)
    by_row = tpf.vmap(neuron, in_axes=(None, 0))(W, x)
    assert identical(tpf.vmap(neuron, in_axes=(None, 1))(W, x.T), by_row)
    assert identical(tpf.vmap(neuron, in_axes=(None, -1))(W, x.T), by_row)
    tree = {"w": W, "x": x}
    assert identical(
        tpf.vmap(lambda t: neuron(t["w"], t["x"]), in_axes=({"w": None, "x": 0},))(tree), by_row
    )


def test_values_that_all_samples_share() -> None:
    def f(w: Any, x: Any) -> Any:
        return [np.exp(w[0]) * w[1], x * w[1], 3.0]

    w, x = np.array([0.5, 2.0]), np.arange(5.0)
    shared, own, constant = tpf.vmap(f, in_axes=(None, 0))(w, x)
    assert identical(shared, np.full(5, tpf.exp(0.5) * 2.0))
    assert identical(own, x * 2.0)
    assert identical(constant, np.full(5, 3.0))
    summed = tpf.vmap(f, in_axes=(None, 0), reduce="sum")(w, x)
    assert identical(summed, [5 * (tpf.exp(0.5) * 2.0), 20.0, 15.0])


def test_a_loss_that_is_shared_but_for_one_term() -> None:
    def loss(w: Any, x: Any) -> Any:
        return w[0] * w[0] * 3.0 + w[1] * x

    x = np.arange(6.0)
    step = tpf.vmap(tpf.value_and_grad(loss), in_axes=(None, 0), reduce="mean")
    value, gradient = step(np.array([2.0, 5.0]), x)
    assert value == 12.0 + 5.0 * 2.5
    assert identical(gradient, [12.0, 2.5])


def test_an_output_that_stands_twice_is_summed_once_each() -> None:
    a, b = tpf.vmap(lambda x: (x, x), reduce="sum")(np.arange(10.0))
    assert (a, b) == (45.0, 45.0)


@pytest.mark.jit
def test_threads_at_once_have_their_own_memory() -> None:
    run = tpf.vmap(tpf.value_and_grad(neuron), in_axes=(None, 0), reduce="sum")
    one = tpf.value_and_grad(neuron)
    batches = [samples(n) for n in (3, 100, 5000, 20_000)]
    expected = [(run(W, x), one(W, x[0])) for x in batches]
    wrong = []

    def work(k: int) -> None:
        for _ in range(20):
            (value, gradient), (v, g) = run(W, batches[k]), one(W, batches[k][0])
            fits = identical(value, expected[k][0][0]) and identical(gradient, expected[k][0][1])
            fits &= identical(v, expected[k][1][0]) and identical(g, expected[k][1][1])
            if not fits:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k % 4,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_bad_arguments() -> None:
    f = tpf.vmap(neuron, in_axes=(None, 0))
    with pytest.raises(tpf.StructureError, match="over axis 0 of a number"):
        tpf.vmap(lambda x: x)(3.0)
    with pytest.raises(tpf.StructureError, match="differ in size: 3, 4"):
        tpf.vmap(lambda x, y: x + y)(np.ones(3), np.ones(4))
    with pytest.raises(tpf.StructureError, match=r"maps .* over nothing"):
        tpf.vmap(lambda x: x, in_axes=None)(np.ones(3))
    with pytest.raises(tpf.StructureError, match="does not fit the arguments"):
        f(W)
    with pytest.raises(ValueError, match="reduce must be"):
        tpf.vmap(neuron, reduce="max")
    with pytest.raises(tpf.StructureError, match="complex128"):
        f(W, samples(3).astype(complex))
    with pytest.raises(TypeError, match=r"in an integer \(int64\)"):
        tpf.vmap(tpf.grad(lambda x: x * x))(np.arange(3))


FORK = """
import os, warnings
import numpy as np
import tapeflow as tpf
from tapeflow.engine.batch_run import Ready, Run
warnings.simplefilter("ignore")
tpf.config(threads=3)
f = tpf.vmap(tpf.grad(lambda x: np.sin(x) * x), reduce="sum")
x = np.linspace(0.0, 1.0, 300_000)
expected = f(x)
child = os.fork()
if child == 0:
    os._exit(0 if f(x) == expected else 1)
assert os.waitpid(child, 0)[1] == 0
assert f(x) == expected
"""

INTERRUPT = """
import os, signal, threading, time
import numpy as np
import tapeflow as tpf
from tapeflow.engine.batch_run import Ready, Run
tpf.config(threads=2)
f = tpf.vmap(tpf.grad(lambda x: np.sin(np.sin(np.sin(np.sin(x)))) * x), reduce="sum")
x = np.linspace(0.0, 1.0, 1000)
expected = f(x)
huge = np.lib.stride_tricks.as_strided(x, (3_000_000_000,), (0,))
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
begin = time.perf_counter()
try:
    f(huge)
except KeyboardInterrupt:
    print("interrupted", f(x) == expected)
"""


@pytest.mark.jit
@pytest.mark.parametrize(("script", "output"), [(FORK, ""), (INTERRUPT, "interrupted True\n")])
def test_forks_and_interrupts(script: str, output: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert result.stderr == ""
    assert result.stdout == output
    assert result.returncode == 0


@pytest.mark.jit
def test_threads_that_begin_at_once_use_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads make the job's tables at once: neither's may go while the other works."""
    new_job, both = Run._new_job, threading.Barrier(2)

    def slowly(self: Run, ready: Ready) -> Any:
        both.wait(10)
        return new_job(self, ready)

    monkeypatch.setattr(Run, "_new_job", slowly)
    jobs: list[Any] = []
    job = Run._job

    def noted(self: Run, ready: Ready) -> Any:
        found = job(self, ready)
        if self not in [run for run, _ in jobs]:
            jobs.append((self, found))
        assert next(own for run, own in jobs if run is self) is found
        return found

    monkeypatch.setattr(Run, "_job", noted)
    x = np.random.default_rng(3).standard_normal((20_000, 5))
    with tpf.config(threads=2, block=8):
        found = tpf.vmap(tpf.grad(lambda x: np.sin(x[0] * x[1]) * x[2] + x[3] * x[4]))(x)
    assert np.isfinite(found).all()
    assert jobs


def test_a_sum_that_overflows_is_infinite_and_does_not_warn() -> None:
    x = np.full(4, 1e308)
    assert tpf.vmap(lambda x: x + 0.0, reduce="sum")(x) == np.inf
    total, gradient = tpf.vmap(
        tpf.value_and_grad(lambda w, x: w * x), in_axes=(None, 0), reduce="sum"
    )(2.0, x)
    assert (total, gradient) == (np.inf, np.inf)


def layouts(x: Any) -> list[Any]:
    """The same numbers by rows, by columns, and with gaps between them."""
    gaps = np.zeros((2 * x.shape[0], 3 * x.shape[1]), x.dtype)[::2, ::3]
    gaps[...] = x
    return [x, np.asfortranarray(x), gaps]


@pytest.mark.parametrize("n", [1, 7, 64, 333])
@pytest.mark.parametrize("width", [2, 9, 17])
def test_float32_is_read_and_written_in_place(n: int, width: int) -> None:
    def f(x: Any) -> Any:
        return sum(np.exp(x[k]) * x[k - 1] for k in range(width))

    x = np.random.default_rng(n).standard_normal((n, width)).astype(np.float32)
    value, gradient = tpf.vmap(tpf.value_and_grad(f))(x.astype(np.float64))
    for own in layouts(x):
        single, slope = tpf.vmap(tpf.value_and_grad(f))(own)
        # The arithmetic is that of float64: one rounding, at the end.
        assert single.dtype == slope.dtype == np.float32
        assert identical(single, value.astype(np.float32))
        assert identical(slope, gradient.astype(np.float32))
    total, slope = tpf.vmap(tpf.value_and_grad(f), reduce="sum")(x.astype(np.float64))
    assert tpf.vmap(tpf.value_and_grad(f), reduce="sum")(x)[0] == total


def test_float32_beside_float64() -> None:
    x, y = samples(50).T
    slopes = tpf.vmap(tpf.grad(lambda x, y: x * y, (0, 1)))(x.astype(np.float32), y)
    assert [slope.dtype for slope in slopes] == [np.float32, np.float64]
    assert identical(slopes[0], y.astype(np.float32))
    assert tpf.vmap(lambda x, y: x * y)(x.astype(np.float32), y).dtype == np.float64
    assert tpf.vmap(lambda x: x * 2.0)(x.astype(np.float32)).dtype == np.float32
    shared = tpf.vmap(lambda x, w: np.sum(x * w), in_axes=(0, None))
    assert shared(np.ones((5, 2), np.float32), np.ones(2, np.float32)).dtype == np.float32


def test_float32_overflows_to_infinity_without_a_warning() -> None:
    f = tpf.vmap(lambda x: x * 1e30)
    assert np.array_equal(f(np.full(9, 1e30, np.float32)), np.full(9, np.inf))


@pytest.mark.parametrize("reduce", [None, "sum", "mean"])
def test_gradients_without_values_are_the_same(reduce: Any) -> None:
    x = samples(100)
    for f in (neuron, lambda w, x: np.sum(np.tanh(w[:2] * x))):
        _, both = tpf.vmap(tpf.value_and_grad(f, (0, 1)), (None, 0), reduce)(W, x)
        alone = tpf.vmap(tpf.grad(f, (0, 1)), (None, 0), reduce)(W, x)
        for ours, theirs in zip(alone, both, strict=True):
            assert identical(ours, theirs)


def rational(x: Any, y: Any, z: Any) -> Any:
    # The gradient in x has two parts in one kernel or more, the others one.
    return x * y + np.sin(z) / x


@pytest.mark.jit
@pytest.mark.parametrize("n", [1, 8, 100, 1000, 800_003])
def test_gradients_of_numbers_go_straight_to_their_columns(n: int) -> None:
    # The last are more than 16 MB of results, which go past the caches.
    x, y, z = np.random.default_rng(n).uniform(0.5, 1.5, (3, n))
    x[0] = 0.0  # a NaN times zero on the way: that block is computed again with care
    with tpf.config(tier="interpret"):
        expected = tpf.vmap(tpf.value_and_grad(rational, (0, 1, 2)))(x, y, z)
    for options in ({"block": 8}, {"block": 256, "threads": 1}, {}):
        with tpf.config(tier="fused", **options):
            value, slopes = tpf.vmap(tpf.value_and_grad(rational, (0, 1, 2)))(x, y, z)
            total = tpf.vmap(tpf.grad(rational, (0, 1, 2)), reduce="sum")(x, y, z)
        assert identical(value, expected[0])
        for ours, theirs in zip(slopes, expected[1], strict=True):
            assert identical(ours, theirs)
        with tpf.config(tier="interpret"):
            sums = tpf.vmap(tpf.grad(rational, (0, 1, 2)), reduce="sum")(x, y, z)
        assert identical(total, sums)


@pytest.mark.jit
def test_an_input_that_is_an_output_has_its_gradient() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 100))
    with tpf.config(tier="fused"):
        slopes = tpf.vmap(tpf.grad(lambda x, y: x, (0, 1)))(x, y)
    assert identical(slopes[0], np.ones(100))
    assert identical(slopes[1], np.zeros(100))


@pytest.mark.parametrize("n", [1, 8, 100])
@pytest.mark.parametrize("width", [None, 3, 8, 12, 100])
def test_zeros_have_the_sign_that_one_sample_has(n: int, width: int | None) -> None:
    """Values keep it, whatever way they are stored by; gradients have positive zeros."""
    x = np.random.default_rng(n).standard_normal(n if width is None else (n, width))

    def f(x: Any) -> Any:
        return x * -0.0, np.tanh(x), -1.0 * np.abs(0.0)

    def own_rule(x: Any) -> Any:
        # Its gradients are values of its pullback.
        return g(x) if width is None else g(x[0]) + x[1]

    g = tpf.custom_vjp(lambda x: x * -0.0)
    g.defvjp(lambda x: (x * -0.0, None), lambda _, flowing: (flowing * -0.0,))
    for dtype in (np.float64, np.float32):
        values = tpf.vmap(f)(x.astype(dtype))
        for k, own in enumerate(x.astype(dtype)):
            assert identical(values[0][k], f(own)[0])
            for value, one in zip(values, tpf.function(f)(own), strict=True):
                assert np.array_equal(np.signbit(value[k]), np.signbit(one))
            assert np.signbit(values[2][k])
    for slopes in (
        tpf.vmap(tpf.grad(lambda x: np.sum(f(x)[0])))(x),
        tpf.vmap(tpf.grad(own_rule))(x),
        tpf.vmap(tpf.grad(lambda w, x: np.sum(w * x) * -0.0), (None, 0))(x[0], x),
    ):
        assert not np.signbit(slopes).any()
    one = np.array([tpf.grad(own_rule)(own) for own in (x.tolist() if width is None else x)])
    assert not np.signbit(one).any()
    assert not np.signbit(tpf.vmap(lambda x: x * -0.0, reduce="sum")(x)).any()
