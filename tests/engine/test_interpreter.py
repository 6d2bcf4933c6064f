"""The compiled sweeps against the slow oracle, bit for bit, on random tapes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow import reference
from tapeflow.engine.batch import BatchProgram
from tapeflow.engine.batch_run import Source
from tapeflow.engine.evaluate import sample_program
from tapeflow.tape import Tape
from tests.strategies import identical, numbers, tapes, wild


def batch_of(tape: Tape, data: st.DataObject, lanes: int, values: Any = numbers) -> Any:
    flat = data.draw(st.lists(values, min_size=1, max_size=8))
    rng = np.random.default_rng(len(flat))
    return rng.choice(flat, (tape.n_inputs, lanes)) + 0.0


def run_batch(tape: Tape, inputs: Any, reduce: str | None = None) -> tuple[Any, Any]:
    """Values and gradients of every input, all of them per lane; seeds are ones."""
    every = np.ones(tape.n_inputs, np.bool_)
    batch = BatchProgram(tape, every, every, [1] * tape.n_inputs, reduce is not None)
    inputs = np.ascontiguousarray(inputs)
    source = Source(
        inputs.ctypes.data + inputs.strides[0] * np.arange(tape.n_inputs),
        np.full(tape.n_inputs, 8),
        np.full(tape.n_inputs, 8),
        np.zeros(tape.n_inputs),
        (inputs,),
        [inputs.dtype] * len(tape.output_structure.leaves),
        [inputs.dtype] * tape.n_inputs,
    )
    values, gradients = batch.run(source, inputs.shape[1], reduce)
    return np.concatenate(values, axis=1), np.concatenate(gradients, axis=1)


@pytest.mark.parametrize("tier", ["interpret", "fused"])
@given(tape=tapes(), data=st.data())
def test_lanes_equal_the_reference(tier: str, tape: Tape, data: st.DataObject) -> None:
    with tpf.config(tier=tier):
        check_lanes(tape, data)


def check_lanes(tape: Tape, data: st.DataObject) -> None:
    inputs = batch_of(tape, data, data.draw(st.integers(1, 20)), numbers | wild)
    values, gradients = run_batch(tape, inputs)
    expected = reference.forward(tape, inputs)
    cotangents = reference.backward(tape, expected, np.ones((len(tape.outputs), inputs.shape[1])))
    assert identical(values, expected[tape.outputs].T)
    # Storing a gradient makes a negative zero positive.
    assert identical(gradients, cotangents[: tape.n_inputs].T + 0.0)


@pytest.mark.parametrize("tier", ["interpret", "fused"])
@given(tape=tapes(), data=st.data())
def test_one_sample_equals_the_reference(tier: str, tape: Tape, data: st.DataObject) -> None:
    with tpf.config(tier=tier):
        check_sample(tape, data)


def check_sample(tape: Tape, data: st.DataObject) -> None:
    inputs = batch_of(tape, data, 1, numbers | wild)
    program = sample_program(tape, slice(0, tape.n_inputs))
    results = program.results(inputs[:, 0].tolist())
    expected = reference.forward(tape, inputs)
    cotangents = reference.backward(tape, expected, np.ones((len(tape.outputs), 1)))
    n_outputs = len(tape.outputs)
    assert identical(results[:n_outputs], expected[tape.outputs, 0])
    assert identical(results[n_outputs:], cotangents[: tape.n_inputs, 0] + 0.0)


@given(tapes(), st.data())
def test_every_slot_is_kept_for_the_table(tape: Tape, data: st.DataObject) -> None:
    inputs = batch_of(tape, data, 1)
    tape.forward(*inputs[:, 0].tolist())
    rows = list(tape.table())
    expected = reference.forward(tape, inputs)[:, 0]
    shown = [row.value for row in rows]
    slots = [*range(tape.n_inputs), *range(int(tape.slots[0]), tape.n_slots)]
    assert identical(shown, expected[slots])
