"""Kernels of gates that run in Python: the interpreter calls them like compiled ones."""

import ctypes
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow.errors import GateError
from tapeflow.tape import Tape

_KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)

# The first exception of each evaluation, by the address of its single numbers; and where the result
# of its instruction lies.
_raised: dict[int, tuple[BaseException, int]] = {}


def raise_pending(evaluation: int, tape: Tape, makers: Callable[[int], Iterable[int]]) -> None:
    """Raise what a gate's Python code has raised in the evaluation, if anything, with its line.

    evaluation: the address of its array of single numbers, which no other one shares. tape: what
    runs. makers: gives the instructions whose result may lie at a place.
    """
    if evaluation not in _raised:
        return
    error, place = _raised.pop(evaluation)
    if not isinstance(error, GateError):
        raise error
    there, text = makers(place), str(error)
    # One line, but where results have shared a place, and inside loops; then those it may be.
    lines = [*dict.fromkeys(_lines(tape, text, there))] or [*dict.fromkeys(_lines(tape, text))]
    at = f" ({' or '.join(lines)})" if lines and lines[0] not in text else ""
    raise GateError(f"{error}{at}") from error.__cause__


def makers_of(tape: Tape, places: Any, place: int) -> list[int]:
    """For `raise_pending`, from the one place, or the row of places, where each slot may lie."""
    return [i for i in range(len(tape)) if place in np.atleast_1d(places[tape.slots[i]])]


def _lines(tape: Tape, text: str, instructions: Iterable[int] | None = None) -> Iterator[str]:
    """The lines of what runs in Python and may have said so, in the tapes of a tape too."""
    for i in range(len(tape)) if instructions is None else instructions:
        op = tape.op(i)
        named = not text.startswith("gate ") or text.startswith(f"gate {op.name}:")
        if named and (op.python is not None or getattr(op.array, "in_python", False)):
            yield str(tape.source(i))
        for inside in getattr(op.array, "tapes", ()):
            yield from _lines(inside, text)


class GateKernels:
    """The forward and the reverse kernel of a Python gate, for one kind of operands.

    shared: the operands (as bits) that lie in single numbers, not in rows of lanes. active, fresh:
    those that have cotangents, and those whose cotangents nothing has been added to. keep: a
    reverse sweep follows, so the instances that ran forward are kept for it, by the place of
    the instruction's result, which no other evaluation uses.
    """

    def __init__(
        self, gate: Any, lanes: bool, shared: int, active: int, fresh: int, keep: bool
    ) -> None:
        self._gate, self._lanes, self._keep = gate, lanes, keep
        self._shared = [bool(shared >> k & 1) for k in range(gate.arity)]
        self._active = [bool(active >> k & 1) for k in range(gate.arity)]
        self._fresh = [bool(fresh >> k & 1) for k in range(gate.arity)]

    def _operands(self, values: int, single: int, record: Any, lanes: int) -> list[list[float]]:
        """Each lane's operands."""
        columns = [
            [float(_row(single, place, 1)[0])] * lanes
            if shared
            else _row(values, place, lanes).tolist()
            for shared, place in zip(self._shared, record, strict=True)
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def forward(self, values: int, _: int, single: int, record: int, lanes: int) -> None:
        places = record_at(record, 1 + self._gate.arity)
        result = _row(values, places[0], lanes)
        instances = []
        for lane, operands in enumerate(self._operands(values, single, places[1:], lanes)):
            instance, result[lane] = self._gate.forward(operands)
            instances.append(instance)
        if self._keep:
            _instances[values, int(places[0])] = instances

    def reverse(self, values: int, cotangents: int, single: int, record: int, lanes: int) -> None:
        arity = self._gate.arity
        places = record_at(record, 2 + 2 * arity)
        # A copy: an operand's fresh cotangent may lie where this one was.
        flowing = _row(cotangents, places[1], lanes).copy()
        instances = _instances[values, int(places[0])]
        rows = [_row(cotangents, place, lanes) for place in places[2 + arity :]]
        for row, active, fresh in zip(rows, self._active, self._fresh, strict=True):
            if active and fresh:
                row[:] = -0.0
        for lane, instance in enumerate(instances):
            if flowing[lane] == 0.0:
                continue  # an absolute zero skips the gate, as it skips every other
            gradients = self._gate.backward(instance, float(flowing[lane]))
            for row, gradient, active in zip(rows, gradients, self._active, strict=True):
                if active:
                    row[lane] += gradient


_instances: dict[tuple[int, int], list[Any]] = {}


def guarded(method: Callable[[int, int, int, int, int], None]) -> Any:
    """A C function that keeps what the method raises for `raise_pending`.

    An exception cannot pass through the compiled sweep: the sweep goes on with what is there.
    """

    def call(
        values: int, cotangents: int | None, single: int | None, record: int, lanes: int
    ) -> None:
        evaluation = single or values
        try:
            if evaluation not in _raised:
                method(values, cotangents or 0, single or 0, record, lanes)
        except BaseException as error:
            _raised.setdefault(evaluation, (error, int(record_at(record, 1)[0])))

    return _KERNEL(call)


def address(function: Any) -> int:
    value = ctypes.cast(function, ctypes.c_void_p).value
    assert value is not None
    return value


def _row(base: int, place: Any, lanes: int) -> npt.NDArray[np.float64]:
    return row_at(base + 8 * lanes * int(place), lanes)


def row_at(address: int, n: int) -> npt.NDArray[np.float64]:
    """The n numbers at an address."""
    pointer = ctypes.cast(address, ctypes.POINTER(ctypes.c_double))
    return np.ctypeslib.as_array(pointer, (n,))


def record_at(address: int, n: int) -> npt.NDArray[np.int32]:
    """A record of n entries."""
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_int32)), (n,))
