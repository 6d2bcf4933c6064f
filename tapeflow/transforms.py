"""Tape to tape: a recorded function's pullback, and its replay inside another recording.

The pullback's instructions are made by evaluating the rules on tracers, so they can be recorded,
differentiated and run like any others. It computes what the interpreter's native reverse sweep
does, product by product.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.errors import GateError
from tapeflow.ops import BY_NAME, Op
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.structure import Leaf, Structure, flat_structure, flatten
from tapeflow.tape import Tape
from tapeflow.tracer import Recorder, Tracer, apply


def inline(tape: Tape, inputs: Sequence[Any]) -> list[Any]:
    """Record the tape's instructions again on other inputs, tracers among them.

    inputs: one tracer or number for each input slot. Returns one value for each output slot.
    """
    values = _replay(tape, inputs)
    return [values[slot] for slot in tape.outputs.tolist()]


def _replay(tape: Tape, inputs: Sequence[Any]) -> list[Any]:
    """The value of every slot, as tracers of the recording that the inputs belong to."""
    values: list[Any] = [*inputs, *tape.constants.tolist()]
    for i in range(len(tape)):
        operands = [values[slot] for slot in tape.operands_of(i).tolist()]
        values.append(_apply_at(tape, i, tape.op(i), operands))
    return values


def _apply_at(tape: Tape, instruction: int, op: Op, operands: Sequence[Any]) -> Any:
    """Apply an op, under the source line of the instruction it comes from."""
    tracers = [value for value in operands if type(value) is Tracer]
    if not tracers:
        return on_numbers(op, operands)[0]
    recorder = max((tracer.recorder for tracer in tracers), key=lambda r: r.depth)
    before = recorder.location
    recorder.location = recorder.source(tape.source(instruction))
    try:
        return apply(op, operands)
    finally:
        recorder.location = before


def pullback(tape: Tape) -> Tape:
    """The tape of (inputs, seeds) -> (outputs, gradients of the inputs).

    One seed for each output slot follows the tape's own inputs; one gradient for each input slot
    follows its outputs. Raises GateError for a gate whose backward is Python code.
    """
    n_inputs, n_outputs = tape.n_inputs, len(tape.outputs)
    recorder = Recorder(n_inputs + n_outputs, share=True)
    tracers = recorder.inputs()
    with recorder:
        values = _replay(tape, tracers[:n_inputs])
        gradients = _collect(tape, recorder, values, tracers[n_inputs:])
        results = [values[slot] for slot in tape.outputs.tolist()]
        results += [gradients.get(slot, 0.0) for slot in range(n_inputs)]
        outputs = [recorder.slot_of(value) for value in results]
    both = flat_structure(n_inputs + n_outputs)
    return remove_dead_code(
        recorder.finish(
            f"pullback of {tape.name}",
            outputs,
            both,
            Structure(flatten(tuple(results))[1], (Leaf(None),) * len(results)),
            [*tape.input_names, *(f"seed{i}" for i in range(n_outputs))],
        )
    )


def _collect(
    tape: Tape, recorder: Recorder, values: Sequence[Any], seeds: Sequence[Tracer]
) -> dict[int, Any]:
    """The gradient of each slot that has one, by the rules in reverse order."""
    gradients: dict[int, Any] = {}
    active = set(range(tape.n_inputs))
    for i in range(len(tape)):
        if not tape.op(i).zero_derivative and active.intersection(tape.operands_of(i).tolist()):
            active.add(int(tape.slots[i]))
    for slot, seed in zip(tape.outputs.tolist(), seeds, strict=True):
        if slot in active:
            gradients[slot] = _plus(gradients.get(slot), seed, 1.0)
    for i in reversed(range(len(tape))):
        flowing = gradients.get(int(tape.slots[i]))
        if flowing is None:
            continue
        operands = tape.operands_of(i).tolist()
        recorder.location = recorder.source(tape.source(i))
        _, partials = partials_of(tape.op(i), [values[slot] for slot in operands])
        for slot, partial in zip(operands, partials, strict=True):
            if slot in active and not is_zero(partial):
                gradients[slot] = _plus(gradients.get(slot), flowing, partial)
    recorder.location = None
    return gradients


def partials_of(op: Op, operands: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    """A rule's value and partials; GateError where they are not one a number of operands."""
    if op.python is not None:
        raise GateError(
            f"cannot record the gradient of gate {op.name}: its backward is Python code; "
            "write it as a rule function to differentiate it further"
        )
    return on_numbers(op, operands)


def on_numbers(op: Op, operands: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    """A rule, with NumPy's arithmetic among plain numbers: 1/0 is infinite, and no error."""
    with np.errstate(all="ignore"):
        return op.rule(*(np.float64(x) if isinstance(x, float) else x for x in operands))


def is_zero(partial: Any) -> bool:
    """Whether a rule says that nothing flows back."""
    return type(partial) is float and partial == 0.0


def _plus(total: Any, flowing: Any, partial: Any) -> Any:
    """``total`` plus ``flowing * partial``, in the arithmetic of the native reverse sweep."""
    if type(partial) is float and partial == 1.0:
        return flowing if total is None else apply(BY_NAME["add"], (total, flowing))
    if type(partial) is float and partial == -1.0:
        if total is None:
            return apply(BY_NAME["neg"], (flowing,))
        return apply(BY_NAME["sub"], (total, flowing))
    if total is None:
        return apply(BY_NAME["azmul"], (flowing, partial))
    return apply(BY_NAME["azfma"], (flowing, partial, total))
