"""A tape's arrays: read-only, copied, and verified before anything runs."""

import importlib
import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.methods import Methods
from tapeflow.ops import FIRST_GATE
from tapeflow.tape import Tape
from tests.strategies import tapes


def simple() -> Tape:
    return tpf.record(lambda x, y: np.exp(x * y) + 2.0, 1.0, 2.0)


def test_arrays_are_private_and_read_only() -> None:
    tape = simple()
    operands = tape.operands.copy()
    other = replace(tape, operands=operands)
    operands[:] = 10**6
    assert np.array_equal(other.operands, tape.operands)
    for name in ("opcodes", "starts", "operands", "slots", "constants", "outputs", "locations"):
        assert not getattr(tape, name).flags.writeable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"opcodes": [2, 12, 999]}, "unknown opcode"),
        ({"opcodes": [2, 12, FIRST_GATE]}, "unknown opcode"),
        ({"opcodes": [2, 2, 0]}, "wrong number of operands"),
        ({"operands": [0, 1, 3, 4, 5]}, "not below its own"),
        ({"operands": [0, 1, -1, 4, 2]}, "not below its own"),
        ({"operands": [0, 1, 3, 4]}, "exactly the operands"),
        ({"starts": [0, 2, 1, 5]}, "wrong number of operands"),
        ({"starts": [1, 2, 3, 5]}, "exactly the operands"),
        ({"starts": [0, 2, 3]}, "arrays of other lengths"),
        ({"slots": [3, 4, 5, 7]}, "one slot for its result"),
        ({"slots": [2, 3, 4, 5]}, "results start at slot 2"),
        ({"outputs": [6]}, "an output names a slot"),
        ({"outputs": [-1]}, "an output names a slot"),
        ({"outputs": [3, 4]}, "2 outputs for a result of 1"),
        ({"locations": [0, 0, 9]}, "a source line that the tape does not have"),
        ({"constants": [[2.0]]}, "one-dimensional"),
        ({"input_names": ("x",)}, "1 names for 2 inputs"),
    ],
)
def test_a_malformed_tape_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(tpf.TapeError, match=message):
        replace(simple(), **change)


@given(tapes(), st.data())
def test_no_operand_can_be_moved_out_of_reach(tape: Tape, data: st.DataObject) -> None:
    operands = tape.operands.copy()
    k = data.draw(st.integers(0, len(operands) - 1))
    operands[k] = data.draw(st.integers(-(2**31), 2**31 - 1))
    owner = int(np.searchsorted(tape.starts, k, side="right")) - 1
    if 0 <= operands[k] < tape.slots[owner]:
        replace(tape, operands=operands)
    else:
        with pytest.raises(tpf.TapeError):
            replace(tape, operands=operands)


def test_disassembly() -> None:
    lines = simple().disassemble().splitlines()
    assert [line.split("  #")[0] for line in lines] == [
        "v0 = mul x y",
        "v1 = exp v0",
        "v2 = add v1 2",
        "return v2",
    ]
    assert repr(simple()) == "<tapeflow.Tape <lambda>: 2 inputs, 3 instructions, 1 outputs>"


def test_other_arguments_are_refused() -> None:
    tape = tpf.record(lambda p, x: p["w"][0] * x, {"w": np.ones(2)}, 1.0)
    with pytest.raises(tpf.StructureError, match=r"for p an array|for p\['w'\] an array|for p"):
        tape({"w": np.ones(3)}, 1.0)
    with pytest.raises(tpf.StructureError, match="structure"):
        tape({"v": np.ones(2)}, 1.0)
    with pytest.raises(tpf.StructureError, match="structure"):
        tape({"w": np.ones(2)})
    with pytest.raises(tpf.StructureError, match="x a number, not an array of shape"):
        tape({"w": np.ones(2)}, np.ones(1))
    with pytest.raises(tpf.StructureError, match="complex"):
        tape({"w": np.ones(2) * 1j}, 1.0)


def test_the_callers_arrays_are_not_changed() -> None:
    x = np.ones(3)
    x.setflags(write=False)
    tape = tpf.record(lambda x: np.sum(np.exp(x)), x)
    value, gradient = tape.value_and_grad(x)
    gradient[:] = 0.0
    again = tape.value_and_grad(x)[1]
    assert np.all(again == tpf.exp(1.0))
    assert value == 3 * tpf.exp(1.0)


def test_backward_wants_a_forward_and_a_fitting_seed() -> None:
    tape = tpf.record(lambda x: (x, x * 2.0), 1.0)
    with pytest.raises(RuntimeError, match="call forward of"):
        tape.backward()
    tape.forward(1.0)
    with pytest.raises(tpf.StructureError, match="a seed of the same structure"):
        tape.backward(1.0)
    assert tape.backward((1.0, 10.0)) == 21.0
    with pytest.raises(tpf.StructureError, match="gives 2 numbers, and a gradient is of one"):
        tape.value_and_grad(1.0)


def test_an_empty_tape() -> None:
    tape = tpf.record(lambda x: x, 1.0)
    assert len(tape) == 0
    assert tape.value_and_grad(3.0) == (3.0, 1.0)
    assert np.array_equal(tpf.vmap(lambda x: 2.0)(np.ones(3)), [2.0, 2.0, 2.0])


def test_every_method_that_a_layer_above_provides_is_there() -> None:
    """Its parameters are those of the declaration, which has the documentation."""
    declared = {
        name: method for name, method in vars(Methods).items() if hasattr(method, "provided_by")
    }
    assert {"__call__", "forward", "table"} <= declared.keys()
    for name, method in declared.items():
        body = getattr(importlib.import_module(method.provided_by), name.strip("_"))
        own = list(inspect.signature(body).parameters.values())[1:]
        stated = list(inspect.signature(method).parameters.values())[1:]
        assert [(p.kind, p.default) for p in own] == [(p.kind, p.default) for p in stated], name
        assert method.__doc__ or name == "_repr_mimebundle_", name
