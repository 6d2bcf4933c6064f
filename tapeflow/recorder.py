"""The tape being written while a function runs."""

import struct
import threading
from array import array
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tapeflow.errors import TracingError
from tapeflow.ops import FIRST_GATE, Op
from tapeflow.sources import refuse, user_frame
from tapeflow.structure import Floats, Structure
from tapeflow.tape import MAX_SLOTS, Location, Tape

# While recording, inputs are numbered from 0 and results follow; what is only counted at the end
# is negative: constants from the first number up, values of enclosing recordings from the second.
_CONSTANTS = -(2**30)
_CAPTURES = -(2**31) + 1

_active = threading.local()


class Value(Protocol):
    """A traced value: a run of slots of a recording."""

    recorder: "Recorder"

    @property
    def slot(self) -> int: ...


class Recorder:
    """A tape being written.

    As a context manager it is the recording in progress: tracers of those around it are captured.
    share: give an instruction that is there already its old slot instead of a new one.
    """

    def __init__(self, n_inputs: int, share: bool = False) -> None:
        self.n_inputs = n_inputs
        self.parent: Recorder | None = getattr(_active, "recorder", None)
        self.depth = 0 if self.parent is None else self.parent.depth + 1
        self.closed = False
        self.opcodes = array("H")
        self.starts = array("q", [0])
        self.operands = array("i")
        self.slots = array("i", [n_inputs])
        self.locations = array("i")
        self.parameters = array("q")
        self.parameter_starts = array("q", [0])
        self.constants: dict[bytes, int] = {}
        self.n_constants = 0
        self.captures: dict[tuple[Recorder, int, int], int] = {}
        self.n_captures = 0
        self.gates: dict[Op, int] = {}
        self.sources: dict[tuple[str, int], int] = {}
        self.functions: list[str] = []
        self.location: int | None = None
        self._shared: dict[Any, int] | None = {} if share else None

    def __enter__(self) -> "Recorder":
        _active.recorder = self
        return self

    def __exit__(self, *error: object) -> None:
        _active.recorder = self.parent
        self.closed = True

    def slot_of(self, value: Value, size: int = 1) -> int:
        """The first slot of a run of a traced value, of this recording or an enclosing one."""
        if value.recorder is self:
            return value.slot
        if value.recorder.closed:
            refuse("use a traced value after its recording has ended", "return it instead")
        key = (value.recorder, value.slot, size)
        if key not in self.captures:
            self.captures[key] = _CAPTURES + self.n_captures
            self.n_captures += size
        return self.captures[key]

    def constant(self, number: Any) -> int:
        """The slot of a plain number."""
        try:
            return self._constant(struct.pack("d", number), 1)
        except (struct.error, OverflowError):
            refuse("use an integer beyond the largest double", "scale it")

    def constants_of(self, numbers: Floats) -> int:
        """The first slot of a run of plain numbers."""
        if numbers.size == 1:
            return self.constant(numbers.item())
        return self._constant(numbers.tobytes(), numbers.size)

    def _constant(self, data: bytes, size: int) -> int:
        slot = self.constants.get(data)
        if slot is None:
            slot = self.constants[data] = _CONSTANTS + self.n_constants
            self.n_constants += size
        return slot

    def append(
        self, op: Op, operands: Sequence[int], parameters: Sequence[int] = (), size: int = 1
    ) -> int:
        """Write one instruction and return the first slot of its result."""
        opcode = op.opcode
        slot = self.slots[-1]
        if opcode >= FIRST_GATE:
            opcode = FIRST_GATE + self.gates.setdefault(op, len(self.gates))
        if self._shared is not None:
            key = (opcode, *operands, *parameters)
            known = self._shared.setdefault(key, slot)
            if known != slot:
                return known
        if slot + size > MAX_SLOTS + _CONSTANTS:
            raise TracingError(f"the function takes more than {-_CONSTANTS} slots: split it")
        self.operands.extend(operands)
        self.opcodes.append(opcode)
        self.starts.append(len(self.operands))
        self.slots.append(slot + size)
        self.parameters.extend(parameters)
        self.parameter_starts.append(len(self.parameters))
        self.locations.append(self._source() if self.location is None else self.location)
        return slot

    def _source(self) -> int:
        frame = user_frame()
        key = (frame.f_code.co_filename, frame.f_lineno)
        index = self.sources.get(key)
        if index is None:
            index = self.source(Location(*key, frame.f_code.co_name))
        return index

    def source(self, location: Location) -> int:
        """The index of a source line."""
        index = self.sources.setdefault(location[:2], len(self.sources))
        if index == len(self.functions):
            self.functions.append(location.function)
        return index

    def finish(
        self,
        name: str,
        outputs: npt.NDArray[np.int64],
        input_structure: Structure,
        output_structure: Structure,
        input_names: Sequence[str],
    ) -> Tape:
        """The tape written so far. Captured values become inputs after the others."""
        shift = self.n_captures + self.n_constants

        def settle(recorded: Any) -> npt.NDArray[np.int32]:
            slots = np.array(recorded, np.int64)
            return np.select(
                [slots < _CONSTANTS, slots < 0, slots < self.n_inputs],
                [
                    slots - _CAPTURES + self.n_inputs,
                    slots - _CONSTANTS + self.n_inputs + self.n_captures,
                    slots,
                ],
                slots + shift,
            ).astype(np.int32)

        return Tape(
            name=name,
            opcodes=np.array(self.opcodes, np.uint16),
            starts=np.array(self.starts, np.int64),
            operands=settle(self.operands),
            slots=np.array(self.slots, np.int32) + np.int32(shift),
            constants=np.frombuffer(b"".join(self.constants), np.float64),
            outputs=settle(outputs),
            locations=np.array(self.locations, np.int32),
            parameters=np.array(self.parameters, np.int64),
            parameter_starts=np.array(self.parameter_starts, np.int64),
            sources=tuple(
                Location(*key, function)
                for key, function in zip(self.sources, self.functions, strict=True)
            ),
            input_structure=input_structure,
            output_structure=output_structure,
            input_names=tuple(input_names),
            gates=tuple(self.gates),
        )


def innermost(recorders: Sequence[Recorder]) -> Recorder:
    """Where an instruction on values of these recordings is written."""
    recorder = max(recorders, key=lambda r: r.depth)
    if recorder.closed:
        refuse("use a traced value after its recording has ended", "return it instead")
    active = getattr(_active, "recorder", None)
    if active is not None and active.depth > recorder.depth and not active.closed:
        return active  # type: ignore[no-any-return]
    return recorder


def in_progress() -> Recorder | None:
    """The innermost recording in progress."""
    return getattr(_active, "recorder", None)
