"""A tape's instructions written again into another recording."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.recorder import Recorder, innermost
from tapeflow.structure import Leaf
from tapeflow.tape import Tape
from tapeflow.trace import traced
from tapeflow.tracers import lift


def inline(tape: Tape, inputs: Sequence[Any]) -> list[Any]:
    """Record the tape's instructions again on other inputs, traced ones among them.

    inputs: one value for each leaf of the tape's. Returns one for each leaf of its result.
    """
    values = [lift(value) for value in inputs]
    recorder = innermost([value.recorder for value in values if value.recorder is not None])
    return Replay(tape, recorder, [value.run_in(recorder) for value in values]).outputs()


class Replay:
    """A tape's instructions written to another recording, and where its values now are.

    inputs: the first slot of each input leaf's run, in that recording.
    """

    def __init__(self, tape: Tape, recorder: Recorder, inputs: Sequence[int]) -> None:
        self.tape, self.recorder = tape, recorder
        self.moved = np.empty(tape.n_slots, np.int64)
        # Whether a value begins at a slot.
        self.begins = np.zeros(tape.n_slots + 1, np.bool_)
        self.begins[tape.first_slots] = self.begins[tape.slots] = True
        for first, (start, last) in zip(inputs, tape.input_structure.bounds, strict=True):
            self.moved[start:last] = first + np.arange(last - start)
        before = recorder.location
        for i in range(len(tape)):
            recorder.location = recorder.source(tape.source(i))
            sizes, size = tape.runs_of(i)
            operands = [
                self.slot(slot, n)
                for slot, n in zip(tape.operands_of(i).tolist(), sizes, strict=True)
            ]
            slot = recorder.append(tape.op(i), operands, tape.parameters_of(i).tolist(), size)
            own = int(tape.slots[i])
            self.moved[own : own + size] = slot + np.arange(size)
        recorder.location = before
        self._note_guards()

    def _note_guards(self) -> None:
        """Make the tape's guards the recording's."""
        guards, recorder = self.tape.guards, self.recorder
        columns = (guards.slots, guards.expected, guards.kinds, guards.locations)
        for slot, expected, kind, location in zip(*(c.tolist() for c in columns), strict=True):
            moved, source = self.slot(slot, 1), recorder.source(self.tape.sources[location])
            recorder.guards.add(moved, expected, kind, source, len(recorder.opcodes))

    def slot(self, slot: int, size: int) -> int:
        """Where a run of the tape's slots is in the recording."""
        constant = slot - self.tape.n_inputs
        if 0 <= constant < len(self.tape.constants):
            return self.recorder.constants_of(self.tape.constants[constant : constant + size])
        return int(self.moved[slot]) if size else 0

    def value(self, slot: int, shape: tuple[int, ...] | None) -> Any:
        """A run of the tape's slots, as a traced value."""
        size = int(np.prod(shape or (), dtype=np.int64))
        return traced(self.recorder, Leaf(shape), self.slot(slot, size))

    def outputs(self) -> list[Any]:
        """One value for each leaf of the tape's result."""
        tape = self.tape
        results = []
        for leaf, (first, last) in zip(
            tape.output_structure.leaves, tape.output_structure.bounds, strict=True
        ):
            slots = tape.outputs[first:last]
            # Neighbouring slots of two values are two runs.
            cuts = np.flatnonzero((np.diff(slots) != 1) | self.begins[slots[1:]]) + 1
            parts = [
                self.value(int(run[0]), (len(run),)) for run in np.split(slots, cuts) if len(run)
            ]
            whole = np.concatenate(parts) if parts else lift(np.empty(0))
            results.append(whole.reshape(leaf.shape) if leaf.shape else whole[0])
        return results
