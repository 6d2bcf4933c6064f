"""The slow oracle: a tape executed by NumPy, one rule after the other.

It reads like the definition of a sweep, shares no code with the interpreter, and agrees with it
bit for bit, but for what BLAS and LAPACK compute, and for sums over repeated operands.
"""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow import grid
from tapeflow.example import instruction_value
from tapeflow.primitives import fma
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape

watcher: ContextVar[Callable[[Tape, int, Floats], None] | None] = ContextVar(
    "tapeflow_watcher", default=None
)
"""What looks at the values after each instruction of `forward`, of tapes inside tapes too."""


def can_run(tape: Tape) -> bool:
    """Whether there is a rule for everything on the tape, both ways.

    Gates in Python have none, and pullbacks of ops of one tape, such as loops, are recorded.
    """
    return all(gate.python is None and gate.array is None for gate in tape.gates)


def forward(tape: Tape, inputs: Floats) -> Floats:
    """Every slot's value, shape (n_slots, lanes), from the inputs, shape (n_inputs, lanes)."""
    values, look = start(tape, inputs), watcher.get()
    for i in forward_steps(tape, values):
        if look is not None:
            look(tape, i, values)
    return values


def start(tape: Tape, inputs: Floats) -> Floats:
    """Values for `forward_steps`: inputs and constants, and room for the rest."""
    values = np.empty((tape.n_slots, inputs.shape[1]))
    values[: tape.n_inputs] = inputs
    values[tape.n_inputs : tape.slots[0]] = tape.constants[:, None]
    return values


def forward_steps(tape: Tape, values: Floats) -> Iterator[int]:
    """Run one instruction after the other, and say which it was."""
    for i in range(len(tape)):
        with np.errstate(all="ignore"):
            values[tape.slots[i] : tape.slots[i + 1]] = _instruction(tape, i, values)
        yield i


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
    sizes, size = tape.runs_of(i)
    if not size:
        return np.empty((0, 1))
    operands = [
        values[slot : slot + size]
        for slot, size in zip(tape.operands_of(i).tolist(), sizes, strict=True)
    ]
    return instruction_value(tape.op(i), tape.parameters_of(i).tolist(), operands)


def places_of(tape: Tape, i: int) -> list[Ints]:
    """The slots of each operand of an elementwise instruction, one for each number it makes."""
    parameters, slots = tape.parameters_of(i), tape.operands_of(i).tolist()
    if not len(parameters):
        return [np.array([slot]) for slot in slots]
    return [slot + grid.places(parameters, k) for k, slot in enumerate(slots)]


def backward(tape: Tape, values: Floats, seeds: Floats) -> Floats:
    """Every slot's cotangent, shape (n_slots, lanes), from seeds of shape (n_outputs, lanes)."""
    cotangents = seeded(tape, seeds)
    for _ in reverse_steps(tape, values, cotangents):
        pass
    return cotangents


def seeded(tape: Tape, seeds: Floats) -> Floats:
    """Cotangents for `reverse_steps`: nothing but the seeds at the outputs."""
    cotangents = np.full((tape.n_slots, seeds.shape[1]), -0.0)
    for slot, seed in zip(tape.outputs, seeds, strict=True):
        cotangents[slot] += seed
    return cotangents


Changed = list[tuple[int, Ints]]
"""Operands, by number, whose cotangents have changed, and the slots of those."""


def reverse_steps(tape: Tape, values: Floats, cotangents: Floats) -> Iterator[tuple[int, Changed]]:
    """Pull one instruction's cotangent back after the other's, the last first.

    Says which it was, and which cotangents have changed.
    """
    active = active_slots(tape)
    for i in reversed(range(len(tape))):
        own = slice(int(tape.slots[i]), int(tape.slots[i + 1]))
        if not active[own].any():
            continue
        pull = _pull_elementwise if tape.op(i).array is None else _pull_array
        with np.errstate(all="ignore"):
            changed = pull(tape, i, values, cotangents, active)
        yield i, changed


def _pull_elementwise(
    tape: Tape, i: int, values: Floats, cotangents: Floats, active: Any
) -> Changed:
    places = places_of(tape, i)
    _, partials = tape.op(i).rule(*(values[own] for own in places))
    flowing = cotangents[tape.slots[i] : tape.slots[i + 1]]
    changed = []
    for k, (own, partial) in enumerate(zip(places, partials, strict=True)):
        if not own.size or not active[own[0]]:
            continue
        slots, counts = np.unique(own, return_counts=True)
        if counts.max() == 1:
            cotangents[own] = _plus(cotangents[own], flowing, partial)
        else:
            np.add.at(cotangents, own, _plus(np.full(flowing.shape, -0.0), flowing, partial))
        changed.append((k, slots))
    return changed


def _pull_array(tape: Tape, i: int, values: Floats, cotangents: Floats, active: Any) -> Changed:
    op, parameters, sizes = tape.op(i), tape.parameters_of(i).tolist(), tape.runs_of(i)[0]
    runs = [
        np.arange(slot, slot + size)
        for slot, size in zip(tape.operands_of(i).tolist(), sizes, strict=True)
    ]
    result = slice(int(tape.slots[i]), int(tape.slots[i + 1]))
    changed: set[int] = set()
    for lane in range(values.shape[1]):
        # A pullback is written for one sample.
        operands = [values[run, lane] for run in runs]
        flowing = cotangents[result, lane]
        pulled = op.array.pull(parameters, operands, values[result, lane], flowing)  # type: ignore[union-attr]
        for k, (run, cotangent) in enumerate(zip(runs, pulled, strict=True)):
            if cotangent is not None and run.size and active[run[0]]:
                cotangents[run, lane] += np.reshape(cotangent, -1)
                changed.add(k)
    return [(k, runs[k]) for k in sorted(changed)]


def active_slots(tape: Tape) -> Any:
    """Which slots a gradient flows through: those that depend on an input, smoothly or not."""
    active = np.arange(tape.n_slots) < tape.n_inputs
    for i in range(len(tape)):
        if not tape.op(i).zero_derivative:
            runs = zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True)
            reached = any(active[slot : slot + size].any() for slot, size in runs)
            active[tape.slots[i] : tape.slots[i + 1]] = reached
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
