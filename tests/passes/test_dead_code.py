"""Dead code: gone, without a change to any output."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.tape import Tape
from tests.strategies import identical, numbers, tapes


@given(tapes(n_outputs=1), st.data())
def test_outputs_are_unchanged_bit_for_bit(tape: Tape, data: st.DataObject) -> None:
    # Any slot may be the output, so that what follows it is dead.
    tape = replace(tape, outputs=np.array([data.draw(st.integers(0, tape.n_slots - 1))]))
    x = data.draw(st.lists(numbers, min_size=tape.n_inputs, max_size=tape.n_inputs))
    less = remove_dead_code(tape)
    assert len(less) <= len(tape)
    assert identical(less(*x), tape(*x))
    assert remove_dead_code(less) is less
    read = set(less.operands.tolist()) | set(less.outputs.tolist())
    assert read >= set(range(int(less.slots[0]), less.n_slots))


def test_source_lines_stay_with_their_instructions() -> None:
    def f(x: float) -> float:
        dead = x * 2.0
        kept = x + 1.0
        del dead
        return kept * kept

    tape = tpf.record(f, 1.0)
    less = remove_dead_code(tape)
    assert [less.op(i).name for i in range(len(less))] == ["add", "mul"]
    line = f.__code__.co_firstlineno
    assert [less.source(i).line for i in range(2)] == [line + 2, line + 4]
