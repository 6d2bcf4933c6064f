"""The tape being written while a function runs."""

import bisect
import struct
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tapeflow.errors import TracingError
from tapeflow.example import CAPTURES, CONSTANTS, Example
from tapeflow.guards import Notes
from tapeflow.ops import BY_NAME, BY_OPCODE, FIRST_GATE, Op
from tapeflow.sources import refuse, user_frame
from tapeflow.structure import Floats, Structure
from tapeflow.tape import MAX_SLOTS, Location, Tape

_CHUNK = 1 << 16
"""Numbers settled together: what is needed on the way stays small for a long tape."""

_active = threading.local()


class Value(Protocol):
    """A traced value: a run of slots of a recording."""

    recorder: "Recorder"

    @property
    def slot(self) -> int: ...


class Recorder:
    """A tape being written.

    As a context manager it is the recording in progress: tracers of those around it are captured.
    share: give an instruction that is there already its old slot instead of a new one. example:
    gives the inputs' numbers at the point where guards are decided; without one there can be no
    guards. forced: what the first guards are decided as instead.
    """

    def __init__(
        self,
        n_inputs: int,
        share: bool = False,
        example: Callable[[], Floats] | None = None,
        forced: Sequence[float] = (),
    ) -> None:
        self.n_inputs = n_inputs
        self.parent: Recorder | None = getattr(_active, "recorder", None)
        self.depth = 0 if self.parent is None else self.parent.depth + 1
        self.closed = False
        self.n_slots = n_inputs
        self.opcodes = array("H")
        self.operands = array("i")
        self.locations = array("i")
        self.parameters = array("q")
        # Instructions that are not of one number, each followed by how many operands, slots and
        # parameters it has.
        self.wide = array("q")
        self.constants: dict[bytes, int] = {}
        self.n_constants = 0
        self.captures: dict[tuple[Recorder, int, int], int] = {}
        self.n_captures = 0
        self.gates: dict[Op, int] = {}
        self.sources: dict[tuple[str, int], int] = {}
        self.functions: list[str] = []
        self.location: int | None = None
        self.checkpoints: list[tuple[int, int]] = []
        self._in_checkpoint = False
        self.guards = Notes()
        self._example = None if example is None else Example(self, example)
        self._forced = forced
        self._derived: dict[tuple[str, tuple[int, ...]], int] = {}
        self._wide_ends: list[tuple[int, int]] = []
        self._shared: dict[Any, int] | None = {} if share else None

    def __enter__(self) -> "Recorder":
        _active.recorder = self
        return self

    def __exit__(self, *error: object) -> None:
        _active.recorder = self.parent
        self.closed = True

    @contextmanager
    def checkpoint(self) -> Iterator[None]:
        """What is recorded in the block is computed again in reverse; of nested ones, the outer."""
        outer, first = not self._in_checkpoint, len(self.opcodes)
        self._in_checkpoint = True
        try:
            yield
        finally:
            if outer:
                self._in_checkpoint = False
                if len(self.opcodes) > first:
                    self.checkpoints.append((first, len(self.opcodes)))

    def slot_of(self, value: Value, size: int = 1) -> int:
        """The first slot of a run of a traced value, of this recording or an enclosing one."""
        if value.recorder is self:
            return value.slot
        if value.recorder.closed:
            refuse(
                "use a traced value after its recording has ended",
                "return it instead, or pass it as an argument",
            )
        key = (value.recorder, value.slot, size)
        if key not in self.captures:
            self.captures[key] = CAPTURES + self.n_captures
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
            slot = self.constants[data] = CONSTANTS + self.n_constants
            self.n_constants += size
        return slot

    def append(
        self, op: Op, operands: Sequence[int], parameters: Sequence[int] = (), size: int = 1
    ) -> int:
        """Write one instruction and return the first slot of its result."""
        opcode = op.opcode
        slot = self.n_slots
        if opcode >= FIRST_GATE:
            opcode = FIRST_GATE + self.gates.setdefault(op, len(self.gates))
        if self._shared is not None:
            key = (opcode, *operands, *parameters)
            known = self._shared.setdefault(key, slot)
            if known != slot:
                return known
        if slot + size > MAX_SLOTS + CONSTANTS:
            raise TracingError(f"the function takes more than {-CONSTANTS} slots: split it")
        self.n_slots = slot + size
        self.operands.extend(operands)
        if parameters or size != 1 or op.array is not None:
            self.wide.extend((len(self.opcodes), len(operands), size, len(parameters)))
            self.parameters.extend(parameters)
        self.opcodes.append(opcode)
        self.locations.append(self._source() if self.location is None else self.location)
        return slot

    @property
    def shares(self) -> bool:
        """Whether an instruction that is there already is not written again."""
        return self._shared is not None

    def extend(self, tape: Tape, operands: Any) -> None:
        """Write all instructions of a tape of numbers; what they read is given in own slots."""
        assert self._shared is None
        if self.n_slots + len(tape) > MAX_SLOTS + CONSTANTS:
            raise TracingError(f"the function takes more than {-CONSTANTS} slots: split it")
        opcodes = tape.opcodes
        if tape.gates:
            own = [FIRST_GATE + self.gates.setdefault(gate, len(self.gates)) for gate in tape.gates]
            opcodes = np.concatenate([np.arange(FIRST_GATE), own])[opcodes].astype(np.uint16)
        known = np.array([self.source(location) for location in tape.sources], np.int32)
        self.opcodes.frombytes(opcodes.tobytes())
        self.operands.frombytes(operands.astype(np.int32).tobytes())
        self.locations.frombytes(known[tape.locations].tobytes())
        self.n_slots += len(tape)

    def know(self, op: Op, operands: Iterable[int], slot: int) -> None:
        """Let a slot be the result of an instruction, where equal ones are shared."""
        assert self._shared is not None
        if op.opcode < FIRST_GATE:
            self._shared[(op.opcode, *operands)] = slot

    # Guards.

    def value_of(self, slot: int, size: int = 1) -> list[float]:
        """The numbers of a run of slots at the example point."""
        if self._example is None:
            refuse(
                "decide on a traced value in a rule or a gradient",
                "use tpf.where(condition, a, b)",
            )
        return self._example.values(slot, size)

    def guard(self, slot: int, kind: int) -> float:
        """The number in a slot at the example point, which from now on is a guard's.

        NaN is given back, and not noted.
        """
        known = self.guards.known.get(slot)
        if known is not None:
            return known
        constant = CONSTANTS <= slot < 0
        if not constant and len(self.guards) < len(self._forced):
            value = self._forced[len(self.guards)]
        else:
            value = self.value_of(slot)[0]
        if not constant and value == value:
            self.guards.add(slot, value, kind, self._source(), len(self.opcodes))
        return value

    def derived(self, name: str, slots: tuple[int, ...]) -> int:
        """The slot of an op on a recording's own numbers, which a guard looks at; once for each."""
        own = self._derived.get((name, slots))
        if own is None:
            before, self.location = self.location, self._source()
            own = self._derived[name, slots] = self.append(BY_NAME[name], slots)
            self.location = before
        return own

    def truth(self, slot: int) -> int:
        """The slot that says whether a number is true: its own, if it is that of a comparison."""
        if self.is_comparison(slot):
            return slot
        return self.derived("not_equal", (slot, self.constant(0.0)))

    def is_comparison(self, slot: int) -> bool:
        """Whether a slot is of the result of a comparison."""
        if slot < self.n_inputs:
            return False
        # Each instruction has one slot but for the wide ones.
        ends = self._wide_ends
        for place in range(4 * len(ends), len(self.wide), 4):
            i, _, size, _ = self.wide[place : place + 4]
            last, end = ends[-1] if ends else (-1, self.n_inputs)
            ends.append((i, end + i - last - 1 + size))
        at = bisect.bisect_right(ends, slot, key=lambda pair: pair[1])
        last, end = ends[at - 1] if at else (-1, self.n_inputs)
        i = last + 1 + slot - end
        if at < len(ends):
            i = min(i, ends[at][0])
        opcode = self.opcodes[i]
        return opcode < FIRST_GATE and BY_OPCODE[opcode].comparison

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
        first_result = self.n_inputs + shift
        starts, slots, parameter_starts = self._bounds(first_result)
        guards = self.guards.guards(self._settled(np.array(self.guards.slots, np.int32)))
        return Tape(
            name=name,
            opcodes=_taken(self.opcodes, np.uint16),
            starts=starts,
            operands=self._settled(_taken(self.operands, np.int32)),
            slots=slots,
            constants=np.frombuffer(b"".join(self.constants), np.float64),
            outputs=self._settled(np.array(outputs, np.int32)),
            locations=_taken(self.locations, np.int32),
            parameters=_taken(self.parameters, np.int64),
            parameter_starts=parameter_starts,
            sources=tuple(
                Location(*key, function)
                for key, function in zip(self.sources, self.functions, strict=True)
            ),
            input_structure=input_structure,
            output_structure=output_structure,
            input_names=tuple(input_names),
            gates=tuple(self.gates),
            checkpoints=tuple(self.checkpoints),
            guards=guards,
        )

    def _settled(self, slots: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Slots as the tape numbers them, in place of those of the recording; then read-only."""
        for first in range(0, len(slots), _CHUNK):
            part = slots[first : first + _CHUNK]
            part[:] = np.select(
                [part < CONSTANTS, part < 0, part < self.n_inputs],
                [
                    part - np.int64(CAPTURES - self.n_inputs),
                    part - np.int64(CONSTANTS - self.n_inputs - self.n_captures),
                    part,
                ],
                part + np.int64(self.n_captures + self.n_constants),
            )
        slots.setflags(write=False)
        return slots

    def _bounds(self, first_result: int) -> list[npt.NDArray[np.int32]]:
        """Where each one's operands, results and parameters begin, and the last ends."""
        n = len(self.opcodes)
        arities = np.zeros(FIRST_GATE + len(self.gates), np.int32)
        for op in BY_OPCODE.values():
            arities[op.opcode] = op.arity
        arities[FIRST_GATE:] = [gate.arity for gate in self.gates]
        wide = np.array(self.wide, np.int64).reshape(-1, 4)
        bounds = []
        for column, first in ((1, 0), (2, first_result), (3, 0)):
            ends = np.empty(n + 1, np.int32)
            ends[0] = first
            lengths = ends[1:]
            # By chunks, as a long tape's opcodes in 64 bits, which indices become, are larger
            # than the tape.
            for start in range(0, n, _CHUNK):
                own = np.frombuffer(self.opcodes, np.uint16)[start : start + _CHUNK]
                lengths[start : start + _CHUNK] = arities[own] if column == 1 else column == 2
            lengths[wide[:, 0]] = wide[:, column]
            np.cumsum(ends, out=ends)
            ends.setflags(write=False)
            bounds.append(ends)
        return bounds


def _taken(numbers: array, dtype: type[np.generic]) -> Any:  # type: ignore[type-arg]
    """The numbers as an array; there is no second copy of them after this."""
    taken = np.array(np.frombuffer(numbers, dtype) if len(numbers) else [], dtype)
    del numbers[:]
    return taken


def innermost(recorders: Sequence[Recorder]) -> Recorder:
    """Where an instruction on values of these recordings is written."""
    recorder = max(recorders, key=lambda r: r.depth)
    if recorder.closed:
        refuse(
            "use a traced value after its recording has ended",
            "return it instead, or pass it as an argument",
        )
    active = getattr(_active, "recorder", None)
    if active is not None and active.depth > recorder.depth and not active.closed:
        return active  # type: ignore[no-any-return]
    return recorder


def in_progress() -> Recorder | None:
    """The innermost recording in progress."""
    return getattr(_active, "recorder", None)
