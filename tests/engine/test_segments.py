"""A limit on memory: values are computed again, and no bit changes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.engine.groups import singles
from tapeflow.engine.program import Program
from tapeflow.engine.segments import cut
from tapeflow.errors import TapeError
from tapeflow.tape import Tape
from tests.engine.test_interpreter import batch_of, run_batch
from tests.strategies import identical, tapes


@given(tapes(longest=40), st.integers(1, 60), st.data())
def test_rows_are_not_taken_while_they_are_needed(
    tape: Tape, most: int, data: st.DataObject
) -> None:
    groups = singles(tape, np.arange(len(tape)))
    kept = np.zeros(tape.n_slots, bool)
    kept[tape.outputs] = True
    starts, _, rows, n_rows = cut(groups, kept, tape.n_inputs, most)
    assert starts[0] == 0 and starts[-1] == len(tape)
    assert rows[groups.exports].min() >= tape.n_inputs and rows.max() == n_rows - 1
    segment = np.searchsorted(starts, np.arange(len(tape)), "right") - 1
    owner = {int(slot): int(s) for slot, s in zip(groups.exports, segment, strict=True)}
    lasting = set(tape.outputs.tolist())
    for i in range(len(tape)):
        for slot in tape.operands_of(i).tolist():
            if slot in owner and owner[slot] != segment[i]:
                lasting.add(slot)
    for slot, row in enumerate(rows.tolist()):
        for other in range(slot):
            if row >= 0 and rows[other] == row:
                assert owner[slot] != owner[other]
                assert slot not in lasting and other not in lasting


def loop(x: Any) -> Any:
    a, b = x[0], x[1]
    for k in range(300):
        a, b = a + 0.01 * np.sin(b) * x[2], b - 0.01 * a
        if k % 70 == 0:
            a = a + x[0]  # something from the start is read throughout
    return a * b


@pytest.mark.parametrize("tier", ["interpret", "fused"])
@pytest.mark.parametrize("reduce", [None, "sum"])
@pytest.mark.parametrize("threads", [1, 2])
def test_no_bit_depends_on_the_limit(tier: str, reduce: Any, threads: int) -> None:
    x = np.random.default_rng(0).standard_normal((150, 3))
    expected = tpf.vmap(tpf.value_and_grad(loop), reduce=reduce)(x)
    f = tpf.vmap(tpf.value_and_grad(loop), reduce=reduce)
    for limit in (1 << 30, 1 << 20, 1 << 19, 60_000, None):
        with tpf.config(tier=tier, threads=threads, max_memory=limit):
            value, slope = f(x)
        assert identical(value, expected[0])
        assert identical(slope, expected[1])


@given(tape=tapes(longest=40), data=st.data())
def test_random_tapes_have_the_same_bits(tape: Tape, data: st.DataObject) -> None:
    inputs = batch_of(tape, data, 9)
    expected = run_batch(tape, inputs)
    flags = np.ones(tape.n_inputs, bool)
    rows = Program(tape, flags, flags, True)
    # As little as there can be: cut wherever that helps.
    limit = 8 * 64 * max(rows.n_value_rows + rows.n_cotangent_rows - 3, 1)
    with tpf.config(max_memory=limit, threads=1):
        try:
            found = run_batch(tape, inputs)
        except MemoryError:
            return
    for ours, theirs in zip(found, expected, strict=True):
        assert identical(ours, theirs)


def test_the_limit_is_kept() -> None:
    tape = tpf.record(loop, np.ones(3))
    flags = np.ones(3, bool)
    whole = Program(tape, flags, flags, True)
    program = Program(tape, flags, flags, True, most_rows=160)
    assert whole.n_value_rows + whole.n_cotangent_rows > 1000
    assert program.n_value_rows + program.n_cotangent_rows <= 160
    assert program.segmented and not whole.segmented


def test_a_limit_that_nothing_fits_into_is_refused() -> None:
    f = tpf.vmap(tpf.grad(loop))
    with (
        tpf.config(max_memory=1000),
        pytest.raises(MemoryError, match=r"loop needs \d+ bytes, more than max_memory=1000"),
    ):
        f(np.ones((5, 3)))


def pendulum(checkpoint: Any) -> Any:
    def step(x: Any, v: Any, k: Any) -> Any:
        half = v - 0.05 * k * np.sin(x)
        return x + 0.1 * half, half - 0.05 * k * np.sin(x + 0.1 * half)

    marked = checkpoint(step)

    def swing(x: Any, v: Any, k: Any) -> Any:
        for _ in range(60):
            x, v = marked(x, v, k)
            v = v * 0.999  # between the checkpoints
        return x * v

    return swing


@pytest.mark.parametrize("tier", ["interpret", "fused"])
@pytest.mark.parametrize("reduce", [None, "mean"])
def test_checkpoints_change_no_bit(tier: str, reduce: Any) -> None:
    args = np.random.default_rng(0).uniform(0.5, 1.5, (3, 77))
    gradient = tpf.value_and_grad(pendulum(lambda f: f), (0, 1, 2))
    marked = tpf.value_and_grad(pendulum(tpf.checkpoint), (0, 1, 2))
    expected = tpf.vmap(gradient, reduce=reduce)(*args)
    for limit in (None, 100_000):
        with tpf.config(tier=tier, max_memory=limit, threads=1):
            value, slopes = tpf.vmap(marked, reduce=reduce)(*args)
        assert identical(value, expected[0])
        for ours, theirs in zip(slopes, expected[1], strict=True):
            assert identical(ours, theirs)
    assert marked(*args[:, 0]) == gradient(*args[:, 0])


def test_checkpoints_save_rows() -> None:
    flags = np.ones(3, bool)
    rows = []
    for mark in (lambda f: f, tpf.checkpoint):
        tape = tpf.record(pendulum(mark), 1.0, 0.0, 1.0)
        rows.append(Program(tape, flags, flags, True).n_value_rows)
    # Of the eleven values of a step, those that lead to the next stay.
    assert rows[1] < 0.4 * rows[0]


def test_checkpoints_in_checkpoints_and_of_nothing() -> None:
    inner = tpf.checkpoint(lambda x: np.sin(x) * x)
    outer = tpf.checkpoint(lambda x: inner(x) + inner(x * x))
    nothing = tpf.checkpoint(lambda x: x)
    tape = tpf.record(lambda x: outer(nothing(x)) * x, 1.0)
    assert tape.checkpoints == ((0, len(tape) - 1),)
    assert inner(0.5) == np.sin(0.5) * 0.5

    @tpf.checkpoint
    def broken(x: Any) -> Any:
        raise KeyError(x)

    with pytest.raises(KeyError):
        tpf.record(lambda x: broken(x * 2.0), 1.0)


def test_checkpoints_beyond_the_tape_are_refused() -> None:
    tape = tpf.record(lambda x: x * x + x, 1.0)
    for runs in (((0, 3),), ((1, 0),), ((0, 2), (1, 2)), ((-1, 1),)):
        with pytest.raises(TapeError, match="a checkpoint has instructions that"):
            replace(tape, checkpoints=runs)


@pytest.mark.parametrize("limit", [0, -5, 1.5, "1 GB", True])
def test_what_is_not_a_number_of_bytes_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="max_memory must be a whole number of bytes"):
        tpf.config(max_memory=limit)
