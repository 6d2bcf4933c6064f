"""Fused programs: the bits of the interpreter's, taken into use by themselves."""

import threading
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.engine import grouping, tier
from tapeflow.engine.evaluate import sample_program
from tapeflow.engine.program import Program


def steps(p: Any, y: Any, n: int = 40) -> Any:
    """An unrolled loop: Euler steps of Lotka and Volterra's equations, and one step unlike them."""
    a, b = y
    for _ in range(n):
        a, b = a + 0.01 * (p[0] * a - p[1] * a * b), b + 0.01 * (p[2] * a * b - p[3] * b)
    return np.exp(-a) + np.sin(b) * np.maximum(a, b)


def call(lanes: int, reduce: str | None = None) -> Any:
    rng = np.random.default_rng(5)
    p, y = rng.uniform(0.5, 1.5, (lanes, 4)), rng.uniform(0.5, 1.5, (lanes, 2))
    return tpf.vmap(tpf.value_and_grad(steps, argnums=(0, 1)), reduce=reduce)(p, y)


def flat(results: Any) -> Any:
    value, (p, y) = results
    return [np.asarray(x).tobytes() for x in (value, p, y)]


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "WHOLE", 0)
    monkeypatch.setattr(grouping, "LONGEST", 24)


@pytest.mark.parametrize("reduce", [None, "sum"])
@pytest.mark.parametrize("lanes", [1, 9, 300])
@pytest.mark.usefixtures("small_groups")
def test_repeating_bodies_give_the_same_bits(lanes: int, reduce: str | None) -> None:
    with tpf.config(tier="interpret"):
        expected = flat(call(lanes, reduce))
    for threads, block in ((1, None), (1, 8), (2, 64), (7, 32)):
        with tpf.config(tier="fused", threads=threads, block=block):
            assert flat(call(lanes, reduce)) == expected


@pytest.mark.usefixtures("small_groups")
def test_repeating_bodies_share_kernels() -> None:
    tape = tpf.record(steps, np.ones(4), np.ones(2))
    flags = np.ones(tape.n_inputs, np.bool_)
    program = Program(tape, flags, flags, True, fused=True)
    # 320 instructions that repeat every eight: some tens of calls, of few kernels.
    assert len(tape) > 320
    assert len(program.lane_forward) < 40
    distinct = {kernel for kernel in program.kernels if len(kernel.body) > 1}
    assert sum(len(kernel.body) for kernel in distinct) < len(tape)


@pytest.mark.usefixtures("small_groups")
def test_single_samples_of_repeating_bodies() -> None:
    p, y = np.full(4, 0.9), np.array([1.0, 1.2])
    tape = tpf.record(steps, p, y)
    expected = sample_program(tape, slice(0, 6)).results([p, y])
    with tpf.config(tier="fused"):
        fused = tpf.record(steps, p, y)
        assert sample_program(fused, slice(0, 6)).results([p, y]).tobytes() == expected.tobytes()
        # Forward and backward in two steps keep every value.
        value, (dp, dy) = fused.value_and_grad(p, y)
        assert fused.forward(p, y) == value
        back = fused.backward()
    assert back[0].tobytes() == dp.tobytes()
    assert back[1].tobytes() == dy.tobytes()


def test_tiers_up_in_the_background() -> None:
    tape = tpf.record(lambda x: np.sin(x) * np.exp(-x) + x, 1.0)
    program = sample_program(tape, slice(0, 1))
    before = program.results([0.5]).tobytes()
    program._tier_up.saves(1e9)
    tier.wait()
    assert program._running.fused
    assert program.results([0.5]).tobytes() == before


def test_interpret_never_tiers_up() -> None:
    with tpf.config(tier="interpret"):
        tape = tpf.record(lambda x: x * x, 1.0)
        program = sample_program(tape, slice(0, 1))
        program.results([0.5])
        program._tier_up.saves(1e9)
        tier.wait()
        assert not program._running.fused


def test_a_program_changes_in_the_middle_of_use() -> None:
    expected = flat(call(2000))
    rng = np.random.default_rng(5)
    p, y = rng.uniform(0.5, 1.5, (2000, 4)), rng.uniform(0.5, 1.5, (2000, 2))
    f = tpf.vmap(tpf.value_and_grad(steps, argnums=(0, 1)))
    f(p, y)
    plan, _ = next(iter(f._plans.values()))
    batch = plan.batch
    found: list[bool] = []

    def use() -> None:
        found.extend(flat(f(p, y)) == expected for _ in range(20))

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    batch.tier_up.saves(1e9)
    for thread in threads:
        thread.join()
    tier.wait()
    assert batch.ready.program.fused
    assert found == [True] * 60


def test_nan_is_found_with_a_fused_program() -> None:
    with tpf.config(tier="fused", debug_nans=False):
        f = tpf.vmap(tpf.grad(lambda x: np.log(x) * x))
        f(np.array([1.0, 2.0]))
        with tpf.config(debug_nans=True), pytest.raises(FloatingPointError, match="sample 1"):
            f(np.array([1.0, -2.0]))
        g = tpf.grad(lambda x: np.log(x) * x)
        g(1.0)
        with tpf.config(debug_nans=True), pytest.raises(FloatingPointError, match="gate log"):
            g(-1.0)


def test_bad_tier() -> None:
    with pytest.raises(ValueError, match="tier must be one of auto, interpret, fused"):
        tpf.config(tier="turbo")
