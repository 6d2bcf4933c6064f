"""A tape's instructions written again into another recording."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from tapeflow.arrays import Seam
from tapeflow.passes.ordering import guards_first
from tapeflow.passes.seams import is_read_across
from tapeflow.recorder import Recorder, innermost
from tapeflow.structure import Ints, Leaf
from tapeflow.tape import Tape
from tapeflow.trace import traced
from tapeflow.tracers import TracedArray, lift
from tapeflow.transforms.python_gates import pulls_arrays


def inline(tape: Tape, inputs: Sequence[Any]) -> list[Any]:
    """Record the tape's instructions again on other inputs, traced ones among them.

    inputs: one value for each leaf of the tape's. Returns one for each leaf of its result.
    """
    tape, values = guards_first(tape), [lift(value) for value in inputs]
    recorder = innermost([value.recorder for value in values if value.recorder is not None])
    return inline_in(tape, recorder, values)


def inline_in(tape: Tape, recorder: Recorder, inputs: Sequence[Any]) -> list[Any]:
    """The same in a given recording."""
    # Numbers that single instructions read need not be put end to end.
    apart = on_numbers(tape) and not recorder.shares
    slots = [np.empty(0, np.int64)]
    for value in map(lift, inputs):
        runs = value.runs_in(recorder) if apart else [(value.size, value.run_in(recorder))]
        slots += [first + np.arange(length) for length, first in runs]
    return Replay(tape, recorder, np.concatenate(slots)).outputs()


class Replay:
    """A tape's instructions written to another recording, and where its values now are.

    inputs: the slot of each of the inputs' numbers in that recording; of a leaf that instructions
    on arrays read, they follow one another. seams: instructions whose rule is to be used; it begins
    here, and what is to pull its cotangents back is in ``pulls``.
    """

    def __init__(
        self, tape: Tape, recorder: Recorder, inputs: Ints, seams: Collection[int] = ()
    ) -> None:
        self.tape, self.recorder = tape, recorder
        self.pulls: dict[int, Any] = {}
        self.moved = np.empty(tape.n_slots, np.int64)
        # Whether a value begins at a slot.
        self.begins = np.zeros(tape.n_slots + 1, np.bool_)
        self.begins[tape.first_slots] = self.begins[tape.slots] = True
        self.moved[: tape.n_inputs] = inputs
        before = len(recorder.opcodes)
        if on_numbers(tape) and not recorder.shares:
            self._write_at_once()
            self._note_guards(before + tape.guards.after)
        else:
            self._note_guards(self._write(seams)[tape.guards.after])

    def _write_at_once(self) -> None:
        tape, recorder = self.tape, self.recorder
        first, last = tape.n_inputs, int(tape.slots[0])
        if last - first <= _FEW:
            self.moved[first:last] = [recorder.constant(x) for x in tape.constants.tolist()]
        else:
            self.moved[first:last] = recorder.constants_of(tape.constants) + np.arange(last - first)
        self.moved[last:] = recorder.n_slots + np.arange(len(tape))
        recorder.extend(tape, self.moved[tape.operands])

    def _write(self, seams: Collection[int]) -> Any:
        """One by one; gives how many instructions there are before each, and after the last."""
        tape, recorder = self.tape, self.recorder
        before = recorder.location
        counts = [len(recorder.opcodes)]
        for i in range(len(tape)):
            recorder.location = recorder.source(tape.source(i))
            if i in seams:
                own = slice(int(tape.slots[i]), int(tape.slots[i + 1]))
                self.moved[own] = self._begin(i)
            else:
                self.write(i)
            counts.append(len(recorder.opcodes))
        recorder.location = before
        return np.array(counts)

    def write(self, i: int) -> None:
        """Write one instruction."""
        tape = self.tape
        sizes, size = tape.runs_of(i)
        runs = zip(tape.operands_of(i).tolist(), sizes, strict=True)
        operands = [self.slot(slot, n) for slot, n in runs]
        parameters = tape.parameters_of(i).tolist()
        slot = self.recorder.append(tape.op(i), operands, parameters, size)
        own = int(tape.slots[i])
        self.moved[own : own + size] = np.arange(slot, slot + size)

    def _begin(self, i: int) -> Any:
        """The slots of what a seam's rule computes."""
        tape, rule = self.tape, self.tape.op(i).array
        assert isinstance(rule, Seam)
        runs = zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True)
        results, self.pulls[i] = rule.begin([self.value(slot, (n,)) for slot, n in runs])
        lifted = [lift(result).reshape(-1) for result in results]
        if is_read_across(tape, i):
            lifted = [np.concatenate(lifted)]
        slots = [x.run_in(self.recorder) + np.arange(x.size, dtype=np.int64) for x in lifted]
        return np.concatenate(slots)

    def _note_guards(self, after: Any) -> None:
        """Make the tape's guards the recording's; after: how many instructions come before each."""
        guards, recorder = self.tape.guards, self.recorder
        columns = (guards.slots, guards.expected, guards.kinds, guards.locations, after)
        for slot, expected, kind, location, n in zip(*(c.tolist() for c in columns), strict=True):
            moved, source = self.slot(slot, 1), recorder.source(self.tape.sources[location])
            recorder.guards.add(moved, expected, kind, source, n)

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
        structure = self.tape.output_structure
        results = []
        for leaf, (first, last) in zip(structure.leaves, structure.bounds, strict=True):
            slots = self.tape.outputs[first:last]
            if not leaf.shape:
                results.append(self.value(int(slots[0]), None))
                continue
            runs = [(len(run), self.slot(int(run[0]), len(run))) for run in self.runs(slots)]
            results.append(TracedArray.of_runs(self.recorder, runs, leaf.shape))
        return results

    def runs(self, slots: Any) -> list[Any]:
        """Slots cut into stretches that follow one another within one value."""
        # Neighbouring slots of two values are two runs.
        cuts = np.flatnonzero((np.diff(slots) != 1) | self.begins[slots[1:]]) + 1
        return np.split(slots, cuts) if len(slots) else []


_FEW = 10_000
"""Constants up to which each is looked for among the recording's, and not written again."""


def on_numbers(tape: Tape) -> bool:
    """Whether every instruction works on single numbers, and so does its derivative."""
    if len(tape.parameters):
        return False
    ops = [tape.op_of(code) for code in np.unique(tape.opcodes).tolist()]
    return all(op.array is None and not pulls_arrays(op) for op in ops)
