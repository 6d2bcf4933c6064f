"""Fusion changes no bit: fused programs against unfused ones, and against the reference."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow import reference
from tapeflow.engine.array_program import ArrayProgram
from tapeflow.engine.interpreter import execute
from tapeflow.memory import aligned
from tapeflow.passes import fusion
from tapeflow.tape import Tape
from tapeflow.transforms import pullback
from tests.numpy_api.cases import CASES
from tests.numpy_api.test_numpy_api import weighted
from tests.strategies import identical

# Others than these are bit for bit what the reference says.
BY_BLAS_OR_LAPACK = {
    "matmul", "azmatmul", "cholesky", "triangular_solve", "aztriangular_solve", "solve", "azsolve",
    "inv", "det", "slogdet", "cofactors", "pinv", "qr", "eigh", "eig", "svd", "expm",
}  # fmt: skip


def tape_of(name: str) -> tuple[Tape, Any]:
    """The gradient's tape of a case, and its inputs end to end, with the seed."""
    f, args = CASES[name]
    tape = tpf.record(weighted(f), *args)
    both = np.concatenate([*(np.ravel(np.asarray(a, float)) for a in args), np.ones(1)])
    return pullback(tape), both


def run(tape: Tape, inputs: Any, fuse: bool) -> Any:
    program = ArrayProgram(tape, np.zeros(tape.n_inputs, np.bool_), fuse)
    values = aligned(program.n_places)
    values[: tape.n_inputs] = inputs
    values[tape.n_inputs : tape.slots[0]] = tape.constants
    code = program.shared_forward
    execute(code.address, len(code), values.ctypes.data, 0, 0, 1)
    return values[program.places[tape.outputs]]


@pytest.mark.parametrize("name", CASES)
def test_no_bit_changes(name: str) -> None:
    tape, inputs = tape_of(name)
    fused = run(tape, inputs, True)
    assert identical(fused, run(tape, inputs, False))
    if not BY_BLAS_OR_LAPACK & {tape.op(i).name for i in range(len(tape))}:
        expected = reference.forward(tape, inputs[:, None])[tape.outputs, 0]
        assert identical(fused + 0.0, expected + 0.0)


def test_a_chain_is_one_kernel_and_stores_its_end() -> None:
    tape = tpf.record(lambda x, y: np.tanh(x * y + 1.0) ** 2, np.ones((20, 9)), np.ones(9))
    assert fusion.groups(tape, np.arange(len(tape))) == [[0, 1, 2, 3]]
    program = ArrayProgram(tape, np.zeros(tape.n_inputs, np.bool_))
    assert len(program.shared_forward) == 1
    assert program._read_outside(3, [0, 1, 2, 3])
    assert not program._read_outside(2, [0, 1, 2, 3])


def test_what_is_read_between_is_computed_before() -> None:
    def f(x: Any) -> Any:
        a = np.exp(x)
        total = np.sum(a)
        return (a * 2.0 + total) * np.max(a - total)

    tape = tpf.record(f, np.linspace(0, 1, 40))
    order = [i for group in fusion.groups(tape, np.arange(len(tape))) for i in group]
    assert sorted(order) == list(range(len(tape)))
    done: set[int] = set(range(int(tape.slots[0])))
    for i in order:
        for slot, size in zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True):
            assert set(range(slot, slot + size)) <= done
        done |= set(range(*tape.slots[i : i + 2].tolist()))
