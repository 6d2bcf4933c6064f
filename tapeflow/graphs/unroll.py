"""A tape with arrays as a tape of numbers: every number of an array by a gate of its own.

An array op's value is evaluated on arrays of traced numbers, so it records what it is made of; no
op is written here once more. What only SciPy or LAPACK computes cannot be taken apart so.
"""

import functools
import operator
from typing import Any

import numpy as np

from tapeflow import grid, rules
from tapeflow.errors import TapeError
from tapeflow.ops import FIRST_GATE, Op
from tapeflow.primitives import where
from tapeflow.recorder import Recorder
from tapeflow.structure import Ints
from tapeflow.tape import Tape
from tapeflow.tracers import Tracer


def unrolled(tape: Tape, most: int) -> Tape:
    """The tape by numbers alone. Raises TapeError for more than ``most`` gates, or an op that
    cannot be taken apart.
    """
    if tape.numbers_only or (not len(tape.parameters) and not _has_arrays(tape)):
        return tape
    recorder = Recorder(tape.n_inputs)
    with recorder:
        moved = np.empty(tape.n_slots, np.int64)
        moved[: tape.n_inputs] = np.arange(tape.n_inputs)
        for slot, number in enumerate(tape.constants.tolist(), tape.n_inputs):
            moved[slot] = recorder.constant(number)
        for i in range(len(tape)):
            recorder.location = recorder.source(tape.source(i))
            own = slice(int(tape.slots[i]), int(tape.slots[i + 1]))
            moved[own] = _numbers(tape, i, moved, recorder)
            if len(recorder.opcodes) > most:
                raise TapeError(
                    f"{tape.name} has more than {most:,} gates when its arrays are taken apart: "
                    "record it for smaller ones"
                )
        guards = tape.guards
        columns = (guards.slots, guards.expected, guards.kinds, guards.locations)
        for slot, expected, kind, place in zip(*(c.tolist() for c in columns), strict=True):
            source = recorder.source(tape.sources[place])
            recorder.guards.add(int(moved[slot]), expected, kind, source, len(recorder.opcodes))
    return recorder.finish(
        tape.name,
        moved[tape.outputs],
        tape.input_structure,
        tape.output_structure,
        tape.input_names,
    )


def _has_arrays(tape: Tape) -> bool:
    return any(tape.op_of(code).array is not None for code in np.unique(tape.opcodes).tolist())


def _numbers(tape: Tape, i: int, moved: Ints, recorder: Recorder) -> list[int]:
    """The slots of the numbers of an instruction's result, recorded one by one."""
    op, parameters, slots = tape.op(i), tape.parameters_of(i), tape.operands_of(i).tolist()
    if op.array is None:
        places = [
            grid.places(parameters, k) if len(parameters) else np.zeros(1, np.int64)
            for k in range(len(slots))
        ]
        columns = [moved[slot + own] for slot, own in zip(slots, places, strict=True)]
        return [recorder.append(op, row) for row in np.stack(columns, axis=1).tolist()]
    if op.name in _EXTREMES:
        outer, n, inner = parameters.tolist()
        groups = moved[slots[0] : slots[0] + outer * n * inner].reshape(outer, n, inner)
        rows = groups.swapaxes(1, 2).reshape(outer * inner, n).tolist()
        return [recorder.append(_extreme(op.name, n), row) for row in rows]
    operands = []
    for slot, size in zip(slots, tape.runs_of(i)[0], strict=True):
        run = np.empty((size, 1), object)
        run[:, 0] = [Tracer(recorder, int(x)) for x in moved[slot : slot + size]]
        operands.append(run)
    try:
        result = op.array.forward(parameters.tolist(), *operands)
    except Exception as error:
        raise TapeError(
            f"cannot take {op.name} apart into gates on numbers ({tape.source(i)}): "
            "show the tape by draw and table instead"
        ) from error
    return [_slot(recorder, value) for value in result[:, 0].tolist()]


_EXTREMES = {"amax": rules.max, "amin": rules.min}
"""Ops that decide by comparing, which no traced number does, and what two numbers make there."""


@functools.cache
def _extreme(name: str, n: int) -> Op:
    """The largest or smallest of n numbers as one gate; equal ones share what flows back."""

    def rule(*operands: Any) -> rules.Rule:
        value = functools.reduce(_EXTREMES[name], operands)
        hits = [where(x == value, 1.0, 0.0) for x in operands]
        count = functools.reduce(operator.add, hits)
        return value, tuple(hit / count for hit in hits)

    return Op(FIRST_GATE, name, n, rule, name, name)


def _slot(recorder: Recorder, value: Any) -> int:
    return value.slot if isinstance(value, Tracer) else recorder.constant(float(value))
