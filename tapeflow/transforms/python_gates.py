"""What flows through gates whose forward and backward are Python code.

A gate's gradient is a gate too, which runs its backward. The derivative of that is what backward
says where it runs on traced values, as it does if it is written with operators and NumPy.
"""

import copy
from collections.abc import Sequence
from typing import Any

from tapeflow.errors import GateError, StructureError, TracingError
from tapeflow.gates import PythonBackward, backward_op
from tapeflow.ops import Op
from tapeflow.rules import unless_idle
from tapeflow.structure import flat_structure
from tapeflow.tape import Tape
from tapeflow.trace import trace
from tapeflow.tracers import apply


def gate_flows(
    op: Op, operands: Sequence[Any], flow: Any, chosen: Sequence[bool]
) -> list[Any | None]:
    """The cotangent of each chosen operand of a gate in Python, from its result's.

    Raises GateError for a second derivative of a gate whose backward cannot be recorded.
    """
    if not isinstance(op.python, PythonBackward):
        return [
            apply(backward_op(op, k), [*operands, flow]) if own else None
            for k, own in enumerate(chosen)
        ]
    *of_gate, of_flow = chosen
    if not any(of_gate):
        # What backward gives is linear in what flows into it.
        return [*[None] * len(of_gate), apply(op, [*operands[:-1], flow]) if of_flow else None]
    from tapeflow.transforms.replay import inline
    from tapeflow.transforms.reverse import pullback

    # The gate is skipped where nothing flows into it, and so is its derivative in its operands.
    idle = flow == 0.0
    skipped = (idle + (operands[-1] == 0.0)) != 0.0
    found = iter(inline(pullback(backward_tape(op), chosen), [*operands, flow])[1:])
    results = [next(found) if own else None for own in chosen]
    looked_at = [*[skipped] * len(of_gate), idle]
    return [
        own if own is None else unless_idle(own, where)
        for own, where in zip(results, looked_at, strict=True)
    ]


def backward_tape(op: Op) -> Tape:
    """What a gate's gradient in an operand computes, as a tape; GateError if it cannot be one."""
    python = op.python
    assert isinstance(python, PythonBackward)
    gate = python.gate

    def backward(*values: Any) -> Any:
        *operands, flow = values
        instance = copy.copy(gate.prototype)
        instance.forward(*operands)
        return instance.backward(flow)[python.operand]

    names = [f"operand {k}" for k in range(gate.arity)]
    try:
        tape, captures = trace(backward, flat_structure(gate.arity + 1), [*names, "flow"])
        if captures or len(tape.outputs) != 1:
            raise StructureError("it gives no number that depends on its operands alone")
    except (TracingError, StructureError, TypeError, IndexError, ValueError) as error:
        raise GateError(
            f"cannot take a second derivative of gate {op.name}, as its backward cannot be "
            f"recorded ({error}): write it with operators and NumPy, or as a rule function"
        ) from error
    return tape


def pulls_arrays(op: Op) -> bool:
    """Whether a gate's gradient is differentiated by instructions on arrays."""
    if not isinstance(op.python, PythonBackward):
        return False
    try:
        return not backward_tape(op).numbers_only
    except GateError:
        return False  # which is said where a derivative flows through it
