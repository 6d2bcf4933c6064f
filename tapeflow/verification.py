"""Whether a tape's arrays are those of a tape: the compiled sweeps check no bounds."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeflow.errors import TapeError
from tapeflow.guards import KINDS
from tapeflow.ops import BY_OPCODE, FIRST_GATE

if TYPE_CHECKING:
    from tapeflow.tape import Tape

_ANY = -2
"""The arity of an op that takes as many operands as its parameters say."""

_CHUNK = 1 << 16
"""Instructions looked at together: what is needed on the way stays small on a long tape."""


def verify(tape: "Tape") -> None:
    """Raise TapeError unless every instruction reads and writes only slots that it may."""
    n = len(tape.opcodes)
    first_result = tape.n_inputs + len(tape.constants)
    if len(tape.slots) != n + 1 or len(tape.starts) != n + 1 or len(tape.locations) != n:
        raise TapeError(f"a tape of {n} instructions has arrays of other lengths")
    if tape.slots[0] != first_result:
        raise TapeError(
            f"results start at slot {tape.slots[0]}, but inputs and constants fill {first_result}"
        )
    if tape.starts[0] != 0 or tape.starts[-1] != len(tape.operands):
        raise TapeError("the instructions do not use exactly the operands there are")
    starts = tape.parameter_starts
    if len(starts) != n + 1 or starts[0] != 0 or starts[-1] != len(tape.parameters):
        raise TapeError("the instructions do not use exactly the parameters there are")
    arities = _arities(tape)
    with_arrays = [_verify_chunk(tape, arities, *chunk) for chunk in _chunks(n)]
    # Only now is it known that each chunk's operands are those of its instructions.
    for chunk, own in zip(_chunks(n), with_arrays, strict=True):
        _verify_operands(tape, own, *chunk)
    wide = np.flatnonzero(np.concatenate(with_arrays)) if n else np.empty(0, np.int64)
    if len(wide):
        bounds = np.concatenate([tape.first_slots, [first_result], tape.slots[1:]])
        for i in wide.tolist():
            _verify_runs(tape, i, bounds)
    if len(tape.outputs) != tape.output_structure.size:
        raise TapeError(
            f"{len(tape.outputs)} outputs for a result of {tape.output_structure.size} numbers"
        )
    if len(tape.outputs) and not 0 <= tape.outputs.min() <= tape.outputs.max() < tape.n_slots:
        raise TapeError("an output names a slot that the tape does not have")
    ends = [0, *(end for run in tape.checkpoints for end in run), n]
    if any(a > b for a, b in itertools.pairwise(ends)):
        raise TapeError("a checkpoint has instructions that the tape, or another one, has not")
    _verify_guards(tape)
    n_leaves = len(tape.input_structure.leaves)
    if len(tape.input_names) != n_leaves:
        raise TapeError(f"{len(tape.input_names)} names for {n_leaves} inputs")


def _verify_guards(tape: "Tape") -> None:
    """Guards look at slots there are, and come up in their order."""
    guards, n = tape.guards, len(tape.opcodes)
    if not len(guards):
        return
    columns = (guards.expected, guards.kinds, guards.locations, guards.numbers, guards.after)
    if any(column.shape != guards.slots.shape for column in (guards.slots, *columns)):
        raise TapeError("a tape's guards have arrays of different lengths")
    if not 0 <= guards.slots.min() <= guards.slots.max() < tape.n_slots:
        raise TapeError("a guard names a slot that the tape does not have")
    if np.isnan(guards.expected).any() or guards.kinds.max() >= len(KINDS):
        raise TapeError("a guard expects no number, or is of no kind there is")
    if guards.locations.max() >= len(tape.sources):
        raise TapeError("a guard names a source line that the tape does not have")
    if guards.numbers[0] < 0 or (np.diff(guards.numbers) <= 0).any():
        raise TapeError("a tape's guards are not in the order of their numbers")
    if guards.after[0] < 0 or guards.after[-1] > n or (np.diff(guards.after) < 0).any():
        raise TapeError("a guard's place is not among the instructions")
    if (guards.slots >= tape.slots[guards.after]).any():
        raise TapeError("a guard comes before the instruction that it looks at")


def _chunks(n: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + _CHUNK, n)) for first in range(0, n, _CHUNK))


def _arities(tape: "Tape") -> npt.NDArray[np.int64]:
    """How many operands each opcode takes; -1 for one that there is not."""
    arities = np.full(FIRST_GATE + len(tape.gates), -1, np.int64)
    for op in BY_OPCODE.values():
        arities[op.opcode] = op.arity if op.array is None else _ANY
    arities[FIRST_GATE:] = [gate.arity for gate in tape.gates]
    return arities


def _verify_chunk(
    tape: "Tape", arities: npt.NDArray[np.int64], first: int, last: int
) -> npt.NDArray[np.bool_]:
    """Opcodes, and how many operands, parameters and slots there are; gives which have arrays."""
    opcodes = tape.opcodes[first:last]
    if opcodes.max() >= len(arities):
        raise TapeError(f"unknown opcode {opcodes.max()}")

    def refuse(wrong: npt.NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            i = first + int(wrong.argmax())
            raise TapeError(f"instruction {i} (opcode {tape.opcodes[i]}) {what}")

    def lengths(bounds: Any) -> npt.NDArray[np.int64]:
        own: npt.NDArray[np.int64] = bounds[first : last + 1].astype(np.int64)
        return own[1:] - own[:-1]

    expected, given = arities[opcodes], lengths(tape.starts)
    refuse(expected == -1, "has an unknown opcode")
    wrong = (expected != given) & (expected != _ANY)
    refuse(wrong | (given < 0), "has the wrong number of operands")
    parameters = lengths(tape.parameter_starts)
    refuse(parameters < 0, "has a negative number of parameters")
    with_arrays: npt.NDArray[np.bool_] = (parameters > 0) | (expected == _ANY)
    sizes = lengths(tape.slots)
    refuse((sizes != 1) & ~with_arrays, "does not have one slot for its result")
    refuse(sizes < 0, "has a negative number of slots for its result")
    return with_arrays


def _verify_operands(
    tape: "Tape", with_arrays: npt.NDArray[np.bool_], first: int, last: int
) -> None:
    owner = np.repeat(np.arange(last - first), np.diff(tape.starts[first : last + 1]))
    operands = tape.operands[tape.starts[first] : tape.starts[last]]
    own = tape.slots[first:last][owner]
    # A run of no numbers reads nothing, and may stand at the end.
    bad = (operands < 0) | (operands > own) | ((operands == own) & ~with_arrays[owner])
    if bad.any():
        i = first + int(owner[bad.argmax()])
        raise TapeError(f"instruction {i} reads a slot that is not below its own")


def _verify_runs(tape: "Tape", i: int, bounds: npt.NDArray[np.int64]) -> None:
    """An instruction on arrays: its operands are as many and as long as its parameters say.

    bounds: where inputs, constants and results begin; a run lies in one of them.
    """
    name = tape.op(i).name
    try:
        runs, expected = tape.runs_of(i)
    except (ValueError, OverflowError):
        raise TapeError(f"instruction {i} ({name}) has bad parameters") from None
    if expected != tape.slots[i + 1] - tape.slots[i]:
        raise TapeError(f"instruction {i} ({name}) does not have {expected} slots")
    slots = tape.operands_of(i).tolist()
    if len(runs) != len(slots):
        raise TapeError(f"instruction {i} ({name}) has the wrong number of operands")
    for slot, run in zip(slots, runs, strict=True):
        if slot + run > tape.slots[i]:
            raise TapeError(f"instruction {i} reads a slot that is not below its own")
        if run > 1 and slot + run > bounds[np.searchsorted(bounds, slot, "right")]:
            raise TapeError(f"instruction {i} reads beyond the end of a value")
