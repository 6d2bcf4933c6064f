"""The slow oracle: a tape executed by NumPy, one rule after the other.

It reads like the definition of a sweep, shares no code with the interpreter, and agrees with it
bit for bit, but for what BLAS and LAPACK compute.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow.example import instruction_value
from tapeflow.primitives import fma
from tapeflow.structure import Floats
from tapeflow.tape import Tape


def forward(tape: Tape, inputs: Floats) -> Floats:
    """Every slot's value, shape (n_slots, lanes), from the inputs, shape (n_inputs, lanes)."""
    lanes = inputs.shape[1]
    values = np.empty((tape.n_slots, lanes))
    values[: tape.n_inputs] = inputs
    values[tape.n_inputs : tape.slots[0]] = tape.constants[:, None]
    with np.errstate(all="ignore"):
        for i in range(len(tape)):
            values[tape.slots[i] : tape.slots[i + 1]] = _instruction(tape, i, values)
    return values


def run(tape: Tape, instructions: npt.NDArray[np.int64]) -> Floats:
    """What instructions that depend on constants, and on each other, alone compute: all slots."""
    values = np.zeros((tape.n_slots, 1))
    values[tape.n_inputs : tape.slots[0], 0] = tape.constants
    with np.errstate(all="ignore"):
        for i in instructions.tolist():
            values[tape.slots[i] : tape.slots[i + 1]] = _instruction(tape, i, values)
    runs = [values[tape.slots[i] : tape.slots[i + 1], 0] for i in instructions.tolist()]
    return np.concatenate(runs) if runs else np.empty(0)


def _instruction(tape: Tape, i: int, values: Floats) -> Any:
    sizes, _ = tape.runs_of(i)
    operands = [
        values[slot : slot + size]
        for slot, size in zip(tape.operands_of(i).tolist(), sizes, strict=True)
    ]
    return instruction_value(tape.op(i), tape.parameters_of(i).tolist(), operands)


def backward(tape: Tape, values: Floats, seeds: Floats) -> Floats:
    """Every slot's cotangent, shape (n_slots, lanes), from seeds of shape (n_outputs, lanes).

    For a tape of numbers: one with arrays is differentiated by its pullback.
    """
    assert tape.numbers_only
    cotangents = np.full(values.shape, -0.0)
    for slot, seed in zip(tape.outputs, seeds, strict=True):
        cotangents[slot] += seed
    active = active_slots(tape)
    with np.errstate(all="ignore"):
        for i in reversed(range(len(tape))):
            if not active[tape.slots[i]]:
                continue
            slots = tape.operands_of(i)
            _, partials = tape.op(i).rule(*(values[slot] for slot in slots))
            flowing = cotangents[tape.slots[i]]
            for slot, partial in zip(slots, partials, strict=True):
                if active[slot]:
                    cotangents[slot] = _plus(cotangents[slot], flowing, partial)
    return cotangents


def active_slots(tape: Tape) -> Any:
    """Which slots a gradient flows through: those that depend on an input, smoothly or not."""
    active = np.arange(tape.n_slots) < tape.n_inputs
    for i in range(len(tape)):
        if not tape.op(i).zero_derivative:
            active[tape.slots[i]] = active[tape.operands_of(i)].any()
    return active


def _plus(total: Floats, flowing: Floats, partial: Any) -> Floats:
    """``total`` plus ``flowing * partial``, where a zero of either leaves the total as it is."""
    if isinstance(partial, float):
        if partial == 0.0:
            return total
        if abs(partial) == 1.0:
            return total + flowing * partial
    skip = (flowing == 0.0) | (partial == 0.0)
    return np.where(skip, total, fma(flowing, partial, total))
