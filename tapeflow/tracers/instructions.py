"""Recording one instruction on traced values, numbers and arrays."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.ops import BY_NAME, Op
from tapeflow.recorder import Recorder, in_progress, innermost
from tapeflow.sources import refuse, user_place
from tapeflow.tracers.array import TracedArray, lift
from tapeflow.tracers.number import NUMBERS, Tracer


def apply(op: Op, values: Sequence[Any]) -> Tracer:
    """Record ``op`` on traced and plain numbers, in the innermost recording among them."""
    recorder: Recorder | None = None
    for value in values:
        if type(value) is Tracer:
            if recorder is None or value.recorder.depth > recorder.depth:
                recorder = value.recorder
        elif not isinstance(value, NUMBERS):
            refuse(
                f"use a {type(value).__name__} with a traced value in '{op.name}'",
                "use real numbers or arrays of them",
            )
    assert recorder is not None
    recorder = innermost((recorder,))
    slots = [
        recorder.slot_of(value) if type(value) is Tracer else recorder.constant(value)
        for value in values
    ]
    return Tracer(recorder, recorder.append(op, slots))


def elementwise(op: Op, values: Sequence[Any]) -> Any:
    """Record ``op`` on traced values and arrays, broadcast as NumPy does."""
    operands = [value if type(value) is Tracer else lift(value) for value in values]
    shapes = [operand.shape for operand in operands]
    shape = broadcast_shapes(shapes)
    if 0 in shape:
        parameters: tuple[int, ...] | None = (0,) * (grid.AXES * (1 + len(operands)))
    else:
        parameters = grid.fold(shapes, shape)
    if parameters is None:
        operands = [
            operand if operand.size == 1 else lift(operand).broadcast_to(shape)
            for operand in operands
        ]
        parameters = grid.fold([operand.shape for operand in operands], shape)
        assert parameters is not None
    recorder = recorder_of(operands)
    slots = [run_of(recorder, operand) for operand in operands]
    size = math.prod(shape)
    if size == 1:
        parameters = ()
    slot = recorder.append(op, slots, parameters, size)
    kind = "b" if op.name in _BOOLEAN else "f"
    return TracedArray.of(recorder, slot, shape, kind) if shape else Tracer(recorder, slot)


_BOOLEAN = {"less", "less_equal", "greater", "greater_equal", "equal", "not_equal"}


def array_op(name: str, p: Sequence[int], operands: Sequence[Any]) -> Any:
    """Record an op on whole runs; the result is one-dimensional."""
    op = BY_NAME[name]
    assert op.array is not None
    lifted = [lift(operand) for operand in operands]
    recorder = recorder_of(lifted)
    slots = [run_of(recorder, operand) for operand in lifted]
    sizes, size = op.array.sizes(p)
    assert sizes == tuple(operand.size for operand in lifted), (name, p, sizes)
    slot = recorder.append(op, slots, p, size)
    kind = "i" if name in ("argmax", "argmin", "argsort", "searchsorted") else "f"
    return TracedArray.of(recorder, slot, (size,), kind)


def joined(values: list[Any]) -> Any:
    """Traced and plain values' numbers end to end; no instruction, unless it is needed as a run."""
    if len(values) == 1:
        return lift(values[0]).reshape(-1)
    operands = [lift(value) for value in values]
    recorder = recorder_of(operands)
    runs = [run for operand in operands for run in operand.runs_in(recorder)]
    return TracedArray.of_runs(recorder, runs, (sum(operand.size for operand in operands),))


def recorder_of(operands: Sequence[Any]) -> Recorder:
    recorders = [x.recorder for x in operands if x.recorder is not None]
    if not recorders:
        # Plain numbers on the way to a traced result.
        current = in_progress()
        assert current is not None
        return current
    return innermost(recorders)


def run_of(recorder: Recorder, value: Any) -> int:
    """The first slot of a value's run, in a recording."""
    if type(value) is Tracer:
        return recorder.slot_of(value)
    slot: int = value.run_in(recorder)
    return slot


def power(x: Any, exponent: Any) -> Any:
    """x to a plain power: as NumPy does, and as exact as multiplication is."""
    if exponent in (1, 2, -1):
        name = {1: None, 2: "square", -1: "reciprocal"}[int(exponent)]
        return x if name is None else elementwise(BY_NAME[name], (x,))
    return elementwise(BY_NAME["pow"], (x, exponent))


def broadcast_shapes(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " ".join(str(shape).replace(" ", "") for shape in shapes)
        raise ValueError(
            f"operands could not be broadcast together with shapes {listed} ({user_place()})"
        ) from None
