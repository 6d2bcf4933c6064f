# mypy: allow-untyped-defs
"""What the kernels of whole-array ops are made with.

They are called as every kernel is. A record holds the place of the result, and for each operand
its place and 1 if it lies in single numbers (0: in rows of lanes); then the parameters.
"""

from functools import cached_property
from typing import Any

from tapeflow.engine.addresses import load_float, load_int32, store_float
from tapeflow.jit import BOOL, INT, TRIPLE, VOID, callback, helper


class Kernel:
    """A function that is compiled, or loaded from disk, when its address is first asked for."""

    def __init__(self, function: Any) -> None:
        self._function = function

    @cached_property
    def _compiled(self) -> Any:
        return callback(self._function, VOID(INT, INT, INT, INT, INT))

    @property
    def address(self) -> int:
        address: int = self._compiled.address
        return address


kernel = Kernel


@helper(INT)
def result_of(values, record, lanes):
    """The address of the result."""
    return values + 8 * lanes * load_int32(record)


@helper(TRIPLE)
def operand_of(values, shared, record, k, lanes):
    """An operand's address, and its steps from number to number and from lane to lane."""
    place = load_int32(record + 4 + 8 * k)
    if load_int32(record + 8 + 8 * k):
        return shared + 8 * place, 8, 0
    return values + 8 * lanes * place, 8 * lanes, 8


@helper()
def copy_number(target, source, lane_step, lanes):
    """One number of each lane."""
    if lane_step == 0:
        number = load_float(source, 0)
        for lane in range(lanes):
            store_float(target, 8 * lane, number)
    else:
        for lane in range(lanes):
            store_float(target, 8 * lane, load_float(source, 8 * lane))


@helper()
def add_number(target, source, lane_step, lanes):
    """One number of each lane, added."""
    for lane in range(lanes):
        total = load_float(target, 8 * lane) + load_float(source, lane_step * lane)
        store_float(target, 8 * lane, total)


@helper(BOOL)
def any_nan(source, n):
    """Whether there is a NaN among n numbers."""
    found = 0
    for k in range(n):
        x = load_float(source, 8 * k)
        found += x != x
    return found > 0


@helper()
def clear(target, n):
    for k in range(n):
        store_float(target, 8 * k, 0.0)
