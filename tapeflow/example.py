"""The values of a recording in progress at one point: what its guards are decided by.

Nothing is computed before somebody asks; then all that has been written since the last time is.
Each number has the bits that the sweeps would give it.
"""

import itertools
import math
import operator
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeflow import grid
from tapeflow.ops import BY_OPCODE, FIRST_GATE, Op
from tapeflow.structure import Floats

if TYPE_CHECKING:
    from tapeflow.recorder import Recorder

# While recording, inputs are numbered from 0 and results follow; what is only counted at the end
# is negative: constants from the first number up, values of enclosing recordings from the second.
CONSTANTS = -(2**30)
CAPTURES = -(2**31) + 1


def instruction_value(op: Op, parameters: Sequence[int], operands: Sequence[Floats]) -> Any:
    """An instruction's result, shape (run, lanes), from its operands' runs, by NumPy."""
    if op.array is not None:
        return op.array.forward(list(parameters), *operands)
    if op.python is not None:
        rows = zip(*(run[0].tolist() for run in operands), strict=True)
        return np.array([[op.python.forward(list(row))[1] for row in rows]])
    if len(parameters):
        operands = [run[grid.places(parameters, k)] for k, run in enumerate(operands)]
    return op.rule(*operands)[0]


class Example:
    """The values of a recorder's slots, as far as they have been asked for.

    inputs: gives the numbers of its inputs.
    """

    def __init__(self, recorder: "Recorder", inputs: Callable[[], Floats]) -> None:
        self._recorder, self._inputs = recorder, inputs
        self._values: array[float] | None = None
        self._constants = array("d")
        self._n_constants = 0
        self._captured = array("d")
        self._n_captured = 0
        self._done = self._operand = self._parameter = self._wide = 0

    def values(self, slot: int, size: int = 1) -> list[float]:
        """The numbers of a run of slots, as the recorder numbers them."""
        if slot < CONSTANTS:
            self._read_captures()
            return self._captured[slot - CAPTURES : slot - CAPTURES + size].tolist()
        if slot < 0:
            self._read_constants()
            return self._constants[slot - CONSTANTS : slot - CONSTANTS + size].tolist()
        own = self._advance()
        return own[slot : slot + size].tolist()

    def _read_constants(self) -> None:
        known = self._recorder.constants
        for data in itertools.islice(known, self._n_constants, None):
            self._constants.frombytes(data)
        self._n_constants = len(known)

    def _read_captures(self) -> None:
        known = self._recorder.captures
        for outer, slot, size in itertools.islice(known, self._n_captured, None):
            self._captured.extend(outer.value_of(slot, size))
        self._n_captured = len(known)

    def _advance(self) -> "array[float]":
        """Compute what has been written since the last time."""
        recorder, values = self._recorder, self._values
        if values is None:
            values = self._values = array("d", self._inputs().tobytes())
        self._read_constants()
        self._read_captures()
        gates = list(recorder.gates)
        for i in range(self._done, len(recorder.opcodes)):
            opcode = recorder.opcodes[i]
            op = gates[opcode - FIRST_GATE] if opcode >= FIRST_GATE else BY_OPCODE[opcode]
            arity, n_parameters = op.arity, 0
            if self._wide < len(recorder.wide) and recorder.wide[self._wide] == i:
                _, arity, _, n_parameters = recorder.wide[self._wide : self._wide + 4]
                self._wide += 4
            slots = recorder.operands[self._operand : self._operand + arity]
            self._operand += arity
            parameters = recorder.parameters[self._parameter : self._parameter + n_parameters]
            self._parameter += n_parameters
            if op.array is None and not n_parameters:
                values.append(number_value(op, [self._number(slot) for slot in slots]))
                continue
            found = instruction_value(op, parameters, self._runs(op, parameters, slots))
            values.frombytes(np.ascontiguousarray(found, np.float64).tobytes())
        self._done = len(recorder.opcodes)
        return values

    def _number(self, slot: int) -> float:
        assert self._values is not None
        if slot >= 0:
            return self._values[slot]
        if slot < CONSTANTS:
            return self._captured[slot - CAPTURES]
        return self._constants[slot - CONSTANTS]

    def _runs(self, op: Op, parameters: Sequence[int], slots: Sequence[int]) -> list[Floats]:
        """The operands' runs, shape (run, 1)."""
        if op.array is not None:
            sizes, _ = op.array.sizes(list(parameters))
        else:
            sizes, _ = grid.extents(np.array(parameters), op.arity)
        assert self._values is not None
        runs = []
        for slot, size in zip(slots, sizes, strict=True):
            source, first = self._values, slot
            if slot < CONSTANTS:
                source, first = self._captured, slot - CAPTURES
            elif slot < 0:
                source, first = self._constants, slot - CONSTANTS
            runs.append(np.array(source[first : first + size], np.float64).reshape(-1, 1))
        return runs


def number_value(op: Op, operands: Sequence[float]) -> float:
    """The value of an op on single numbers."""
    quick = _QUICK.get(op.name) if op.opcode < FIRST_GATE else None
    if quick is not None:
        return float(quick(*operands))
    if op.python is not None:
        return float(op.python.forward(list(operands))[1])
    with np.errstate(all="ignore"):
        return float(op.rule(*(np.float64(x) for x in operands))[0])


def _divided(x: float, y: float) -> float:
    if y != 0.0:
        return x / y
    if x == 0.0 or x != x:
        return math.nan
    return math.copysign(math.inf, x) * math.copysign(1.0, y)


# Python's floats are the machine's: what is a single operation there gives the same bits here, and
# a Newton iteration of ten of them costs microseconds, where NumPy's numbers would take ten times
# as long.
_QUICK: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": _divided,
    "neg": operator.neg,
    "square": lambda x: x * x,
    "reciprocal": lambda x: _divided(1.0, x),
    "sqrt": lambda x: math.sqrt(x) if x >= 0.0 else math.nan,
    "abs": abs,
    "max": lambda x, y: x if x >= y else y if x < y else x + y,
    "min": lambda x, y: x if x <= y else y if x > y else x + y,
    "where": lambda condition, x, y: x if condition != 0.0 else y,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
}
