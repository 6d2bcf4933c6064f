"""Groups of instructions: cut anywhere, they give the bits of one kernel for each."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.engine import grouping
from tapeflow.engine.batch import BatchProgram
from tapeflow.engine.batch_run import Source
from tapeflow.engine.grouping import cut
from tapeflow.structure import NUMBER, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.trace import trace
from tapeflow.transforms import inline
from tests.strategies import identical, numbers, tapes, wild


def repeated(body: Tape, times: int) -> Tape:
    """The tape of a loop around a body, each turn on the results of those before."""
    n = body.n_inputs

    def loop(*values: Any) -> Any:
        window = list(values)
        for _ in range(times):
            window = [*window[1:], *inline(body, window)][-n:]
        return window[-1] + window[0] * values[0]

    return trace(loop, Structure(flatten((0.0,) * n)[1], (NUMBER.leaves[0],) * n), ["x"] * n)[0]


def run(tape: Tape, lane: Any, inputs: Any, reduce: str | None, tier: str) -> list[bytes]:
    """Values and gradients of a batch, some of whose inputs are shared."""
    wanted = np.ones(tape.n_inputs, np.bool_)
    with tpf.config(tier=tier):
        batch = BatchProgram(tape, lane, wanted, [1] * tape.n_inputs, reduce is not None)
        source = Source(
            inputs.ctypes.data + inputs.strides[0] * np.arange(tape.n_inputs),
            np.where(lane, 8, 0),
            np.full(tape.n_inputs, 8),
            np.where(lane, 0.0, inputs[:, 0]),
            (inputs,),
            [inputs.dtype] * len(tape.output_structure.leaves),
            [inputs.dtype] * tape.n_inputs,
        )
        values, gradients = batch.run(source, inputs.shape[1], reduce)
    return [*values, *gradients]


@given(
    body=tapes(n_outputs=1, longest=8),
    times=st.integers(1, 12),
    lanes=st.integers(1, 20),
    longest=st.integers(2, 40),
    data=st.data(),
)
def test_any_cut_gives_the_same_bits(
    body: Tape, times: int, lanes: int, longest: int, data: st.DataObject
) -> None:
    tape = repeated(body, times)
    flags = st.lists(st.booleans(), min_size=tape.n_inputs, max_size=tape.n_inputs)
    lane = np.array(data.draw(flags))
    # A gradient for each sample takes every input in each lane.
    reduce = data.draw(st.sampled_from(["sum", "mean"])) if not lane.all() else None
    some = data.draw(st.lists(numbers | wild, min_size=1, max_size=6))
    inputs = np.random.default_rng(lanes).choice(some, (tape.n_inputs, lanes))
    expected = run(tape, lane, inputs, reduce, "interpret")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("WHOLE", 0), ("LONGEST", longest), ("FEW", 2), ("SHORTEST", 2)):
            patch.setattr(grouping, name, value)
        fused = run(tape, lane, inputs, reduce, "fused")
    for a, b in zip(fused, expected, strict=True):
        assert identical(a, b)


@given(st.lists(st.integers(0, 5), max_size=400), st.integers(1, 60))
def test_groups_cover_everything_and_are_short(tokens: list[int], longest: int) -> None:
    starts = cut(np.array(tokens, np.int64), longest)
    assert starts[0] == 0
    assert starts[-1] == len(tokens)
    sizes = np.diff(starts)
    assert (sizes > 0).all()
    assert (sizes <= longest).all()


@pytest.mark.parametrize("period", [8, 13, 40, 57])
def test_a_loop_is_cut_alike_everywhere(period: int) -> None:
    tokens = np.tile(np.random.default_rng(period).permutation(1000)[:period], 200)
    starts = cut(tokens, 256)
    kinds = {tuple(tokens[a:b]) for a, b in itertools.pairwise(starts)}
    # A few bodies serve 200 turns: the loop's, some turns of it, and its two ends.
    assert len(kinds) <= 6
    assert sum(map(len, kinds)) <= 8 * period


def test_gates_in_python_stand_alone() -> None:
    @tpf.gate
    class Twice:
        def forward(self, x: float) -> float:
            return 2.0 * x

        def backward(self, dz: float) -> list[float]:
            return [2.0 * dz]

    twice = Twice()

    def f(x: Any) -> Any:
        for _ in range(5):
            x = np.sin(twice(x)) * x + twice(x)
        return x

    x = np.linspace(-1.0, 1.0, 20)
    mapped = tpf.vmap(tpf.value_and_grad(f))
    with tpf.config(tier="interpret"):
        expected = mapped(x)
    with tpf.config(tier="fused"):
        found = tpf.vmap(tpf.value_and_grad(f))(x)
        one = tpf.value_and_grad(f)(float(x[3]))
    assert identical(np.stack(found), np.stack(expected))
    assert one == (expected[0][3], expected[1][3])


def test_a_nan_in_one_lane_leaves_its_neighbours_alone() -> None:
    """Zero times infinity in a body: the absolute zero holds, and other lanes do not notice."""

    def f(x: Any, y: Any) -> Any:
        return tpf.where(x > 0.0, np.sqrt(x), 0.0) * y + np.exp(y) * np.sin(x)

    x, y = np.array([1.0, 0.0, 4.0, -1.0, 2.0]), np.linspace(-1.0, 1.0, 5)
    results = []
    for tier in ("interpret", "fused"):
        with tpf.config(tier=tier):
            results.append(tpf.vmap(tpf.grad(f, argnums=(0, 1)))(x, y))
    for a, b in zip(*results, strict=True):
        assert np.isfinite(a).all()
        assert identical(a, b)
