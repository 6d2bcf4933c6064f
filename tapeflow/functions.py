"""The elementwise functions, as ``tpf.exp`` and so on: one for each row of the op table."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tapeflow import meanings
from tapeflow.engine.programs import sample_program
from tapeflow.errors import StructureError
from tapeflow.ops import COMPILED, Op
from tapeflow.structure import flat_structure, is_number
from tapeflow.tape import Tape
from tapeflow.trace import trace
from tapeflow.tracers import elementwise, is_traced


def _function(op: Op) -> Callable[..., Any]:
    def apply(*operands: Any) -> Any:
        if len(operands) != op.arity:
            raise TypeError(f"{op.function} takes {op.arity} operands, not {len(operands)}")
        if any(map(is_traced, operands)):
            return elementwise(op, operands)
        if any(hasattr(operand, "__tapeflow_backend__") for operand in operands):
            return op.rule(*operands)[0]
        return _evaluate(op, operands)

    apply.__name__ = apply.__qualname__ = op.function
    apply.__doc__ = _documentation(op)
    return apply


def _documentation(op: Op) -> str:
    if op.function not in meanings.FUNCTIONS:
        return ""
    says, operands, value = meanings.FUNCTIONS[op.function]
    return (
        f"``{op.function}({', '.join('xyz'[: op.arity])})``: {says}.\n\n"
        "Elementwise, on numbers, and on arrays and traced values, whose shapes broadcast. In\n"
        "float64, with the bits of a recorded tape; what flows back is in docs/ops.md. Raises\n"
        "StructureError for what is no real number, TypeError for another number of operands.\n\n"
        f">>> tpf.{op.function}({operands})\n{value}\n"
    )


def _evaluate(op: Op, operands: tuple[Any, ...]) -> Any:
    """The op on plain numbers and arrays, broadcast, by the kernels that tapes run on."""
    arrays = []
    for operand in operands:
        array = np.asarray(operand)
        if array.dtype.kind not in "fiub":
            raise StructureError(f"{op.function} takes real numbers, not {array.dtype}")
        arrays.append(array.astype(np.float64, copy=False))
    if all(map(is_number, operands)):
        return sample_program(_tape(op), None).results([float(a) for a in arrays])[0].item()
    from tapeflow.engine.batch import evaluate_elementwise

    return evaluate_elementwise(_tape(op), np.broadcast_arrays(*arrays))


_tapes: dict[int, Tape] = {}


def _tape(op: Op) -> Tape:
    """The tape of the op alone."""
    if op.opcode not in _tapes:
        names = ("x", "y", "z")[: op.arity]
        _tapes[op.opcode], _ = trace(
            lambda *operands: elementwise(op, operands), flat_structure(op.arity), names
        )
    return _tapes[op.opcode]


FUNCTIONS = {op.function: _function(op) for op in COMPILED if not op.name.startswith("az")}

__all__ = ["FUNCTIONS", *meanings.FUNCTIONS]

globals().update(FUNCTIONS)  # where doctest, and the reference, find them

# `auxiliary` has the public one, which takes structures.
assert FUNCTIONS.keys() - {"stop_gradient"} == meanings.FUNCTIONS.keys(), "a function has no row"
