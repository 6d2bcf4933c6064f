"""Entries of a matrix and their numbers, traced or plain; see `spread`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tapeflow.ops import BY_NAME, Op
from tapeflow.sparsity.places import Places
from tapeflow.structure import Ints
from tapeflow.tracers import elementwise


@dataclass(frozen=True, eq=False)
class Part:
    """Entries, and their numbers: a traced array, or one number, traced or not, that all are."""

    numbers: Any
    places: Places

    @property
    def is_one(self) -> bool:
        """Whether all entries are one number."""
        return isinstance(self.numbers, float) or self.numbers.size == 1

    def chosen(self, index: Ints) -> "Part":
        """Some of the entries."""
        places = Places(self.places.rows[index], self.places.columns[index], self.places.n_columns)
        return Part(picked(self.numbers, index), places)


class Entries(NamedTuple):
    """A value's matrix. stacked: whether entries may be in several parts, added up in order."""

    parts: list[Part]
    stacked: bool = False


def combined(name: str, operands: Sequence[Any]) -> Any:
    """An op on traced arrays of one length and numbers; what ones and zeros spare is not written.

    Zeros may have another sign.
    """
    op = BY_NAME[name]
    if all(isinstance(x, float) for x in operands):
        return float(of_numbers(op, operands))
    plain = [isinstance(x, float) for x in operands]
    if name in ("azmul", "azfma", "mul") and (plain[0] or plain[1]):
        factor, other = (operands[0], operands[1]) if plain[0] else (operands[1], operands[0])
        if name == "azfma":
            total = operands[2]
            if factor == 0.0 or (isinstance(other, float) and other == 0.0):
                return total
            if factor == 1.0:
                return combined("add", [other, total])
            if factor == -1.0:
                return combined("sub", [total, other])
        else:
            if factor == 0.0 and name == "azmul":
                return 0.0
            if factor == 1.0:
                return other
            if factor == -1.0:
                return combined("neg", [other])
            # A number that is not zero asks for no absolute zero.
            if factor != 0.0 and np.isfinite(factor):
                op = BY_NAME["mul"]
    if name == "azfma" and plain[2] and operands[2] == 0.0:
        return combined("azmul", operands[:2])
    if name in ("add", "sub") and plain[1] and operands[1] == 0.0:
        return operands[0]
    if name in ("add", "sub") and plain[0] and operands[0] == 0.0:
        return operands[1] if name == "add" else combined("neg", operands[1:])
    return elementwise(op, operands)


def picked(numbers: Any, index: Ints) -> Any:
    """Numbers at some places; one that all are stays one."""
    if isinstance(numbers, float) or numbers.size == 1:
        return numbers
    if neighbours(index):
        first = int(index[0]) if len(index) else 0
        return numbers[first : first + len(index)]
    return numbers[index]


def neighbours(index: Ints) -> bool:
    return bool((np.diff(index) == 1).all())


def of_numbers(op: Op, numbers: Sequence[Any]) -> Any:
    with np.errstate(all="ignore"):
        value, _ = op.rule(*map(np.float64, numbers))
    return value


def written(part: Part) -> Any:
    return np.broadcast_to(part.numbers, (len(part.places),))
