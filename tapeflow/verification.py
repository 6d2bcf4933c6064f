"""Whether a tape's arrays are those of a tape: the compiled sweeps check no bounds.

What is recorded is right by construction; what is loaded from a file may be anything. So all that
a kernel relies on is looked at here, or in the ``sizes`` of an array rule, which this calls.
"""

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tapeflow.errors import TapeError
from tapeflow.guards import KINDS
from tapeflow.ops import BY_OPCODE, FIRST_GATE

if TYPE_CHECKING:
    from tapeflow.structure import Structure
    from tapeflow.tape import Tape

_ANY = -2
"""The arity of an op that takes as many operands as its parameters say."""

_CHUNK = 1 << 16
"""Instructions looked at together: what is needed on the way stays small on a long tape."""


def verify(tape: "Tape") -> None:
    """Raise TapeError unless every instruction reads and writes only slots that it may."""
    n = len(tape.opcodes)
    _verify_structure(tape.input_structure, "arguments")
    _verify_structure(tape.output_structure, "results")
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
        _verify_runs(tape, wide)
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
    arities[FIRST_GATE:] = [gate.arity if gate.array is None else _ANY for gate in tape.gates]
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


def _verify_runs(tape: "Tape", wide: npt.NDArray[np.int64]) -> None:
    """Instructions on arrays: operands are as many and as long as their parameters say."""
    kinds, runs = _kinds(tape, wide)
    sizes = np.array([size for _, size in runs], np.int64)[kinds]
    own, ends = tape.slots[wide].astype(np.int64), tape.slots[wide + 1].astype(np.int64)
    counts = (tape.starts[wide + 1] - tape.starts[wide]).astype(np.int64)

    def refuse(wrong: npt.NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            i = int(wide[wrong.argmax()])
            raise TapeError(f"instruction {i} ({tape.op(i).name}) {what}")

    refuse(sizes != ends - own, "has not as many slots as its parameters say")
    arities = np.array([len(lengths) for lengths, _ in runs], np.int64)[kinds]
    refuse(arities != counts, "has the wrong number of operands")
    lengths = np.fromiter(itertools.chain(*(runs[kind][0] for kind in kinds.tolist())), np.int64)
    owner = np.repeat(np.arange(len(wide)), counts)
    first = np.cumsum(counts) - counts
    places = np.arange(len(owner)) - first[owner] + tape.starts[wide][owner]
    slots = tape.operands[places].astype(np.int64)

    def refuse_operand(wrong: npt.NDArray[np.bool_], what: str) -> None:
        refuse(np.bincount(owner[wrong], minlength=len(wide)) > 0, what)

    refuse_operand(slots + lengths > own[owner], "reads a slot that is not below its own")
    # Inputs, constants and results begin at these; a run lies in one of them.
    bounds = np.concatenate([tape.first_slots, tape.slots.astype(np.int64)])
    several = lengths > 1
    within = bounds[np.searchsorted(bounds, slots[several], "right")]
    several[several] = slots[several] + lengths[several] > within
    refuse_operand(several, "reads beyond the end of a value")


def _kinds(
    tape: "Tape", wide: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], list[tuple[tuple[int, ...], int]]]:
    """Instructions on arrays by op and parameters: a number for each; and of each kind, the runs.

    A long tape has few kinds, and the sizes are computed once for each.
    """
    data = tape.parameters.data.cast("B") if len(tape.parameters) else memoryview(b"")
    opcodes = tape.opcodes[wide].tolist()
    bounds = [(8 * tape.parameter_starts[at].astype(np.int64)).tolist() for at in (wide, wide + 1)]
    known: dict[tuple[int, bytes], int] = {}
    kinds: list[int] = []
    runs: list[tuple[tuple[int, ...], int]] = []
    for i, opcode, first, last in zip(wide.tolist(), opcodes, *bounds, strict=True):
        key = opcode, bytes(data[first:last])
        kind = known.setdefault(key, len(runs))
        if kind == len(runs):
            runs.append(_runs(tape, i))
        kinds.append(kind)
    return np.array(kinds, np.int64), runs


def _runs(tape: "Tape", i: int) -> tuple[tuple[int, ...], int]:
    """The lengths of an instruction's operands, and of its result."""
    op, parameters = tape.op(i), tape.parameters_of(i)
    if op.python is not None:
        raise TapeError(f"instruction {i} ({op.name}) runs in Python, and takes numbers alone")
    # Compiled kernels take them as 32-bit integers.
    if len(parameters) and not -(2**31) < parameters.min() <= parameters.max() < 2**31:
        raise TapeError(f"instruction {i} ({op.name}) has a parameter that is too large")
    try:
        runs, size = tape.runs_of(i)
    except ValueError:
        raise TapeError(f"instruction {i} ({op.name}) has bad parameters") from None
    if max(size, *runs, 0) >= 2**31:
        raise TapeError(f"instruction {i} ({op.name}) has arrays that are too large")
    return runs, size


def _verify_structure(structure: "Structure", what: str) -> None:
    """The shapes of arguments or of results: none negative, none too large to be counted."""
    leaves = structure.leaves
    if structure.treedef.num_leaves != len(leaves):
        raise TapeError(f"{len(leaves)} leaves for {structure.treedef.num_leaves} in the {what}")
    shapes = [leaf.shape for leaf in leaves if leaf.shape is not None]
    if any(n < 0 for shape in shapes for n in shape):
        raise TapeError(f"a shape among the {what} is negative")
    total = len(leaves) - len(shapes) + sum(math.prod(shape) for shape in shapes)
    if total >= 2**31:
        raise TapeError(f"the {what} have {total} numbers, which are too many for a tape")
