"""A tape with arrays and loops as a tape of numbers: each number and each step by its own gates.

An array op's value is evaluated on arrays of traced numbers, so it records what it is made of; no
op is written here once more. A loop whose steps depend on values has as many as it has at the
inputs, and a guard for each decision. What only SciPy, LAPACK or Python computes stays as it is, as
gates whose numbers are known at these inputs alone (`known`).
"""

import functools
import operator
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tapeflow import grid, rules
from tapeflow.arrays import SubTapes
from tapeflow.errors import TapeError
from tapeflow.example import Example
from tapeflow.graphs.known import gates_at, in_javascript
from tapeflow.guards import TRUTH, WHOLE
from tapeflow.loops import Loop, Phase, Switch
from tapeflow.ops import BY_NAME, FIRST_GATE, Op
from tapeflow.primitives import where
from tapeflow.recorder import Recorder
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Tape
from tapeflow.tracers import Tracer

_MOST_PARTIALS = 4_000
"""Local derivatives of one instruction that a page can hold as numbers."""


class TooLong(TapeError):
    """The tape would have more gates than a page can have."""


class Apart(NamedTuple):
    """A tape by numbers alone, and those of its gates that are known at the inputs alone."""

    tape: Tape
    known: frozenset[Op]


def unrolled(tape: Tape, inputs: Floats, most: int, whole_loops: bool = False) -> Apart:
    """The tape by numbers alone, as it is at these inputs.

    whole_loops: leave loops as they are, as gates of known numbers. Raises TooLong for more than
    ``most`` gates, and TapeError for an instruction of too many known numbers.
    """
    if len(tape) > most:
        _too_long(tape.name, most)
    if not len(tape.parameters) and all(
        op.array is None and in_javascript(op)
        for op in map(tape.op_of, np.unique(tape.opcodes).tolist())
    ):
        return Apart(tape, frozenset())
    recorder = Recorder(tape.n_inputs)
    with recorder:
        unroller = _Unroller(recorder, tape.name, inputs, most, whole_loops)
        moved = unroller.replayed(tape, np.arange(tape.n_inputs))
        guards = tape.guards
        columns = (guards.slots, guards.expected, guards.kinds, guards.locations)
        for slot, expected, kind, place in zip(*(c.tolist() for c in columns), strict=True):
            source = recorder.source(tape.sources[place])
            recorder.guards.add(int(moved[slot]), expected, kind, source, len(recorder.opcodes))
    made = recorder.finish(
        tape.name,
        moved[tape.outputs],
        tape.input_structure,
        tape.output_structure,
        tape.input_names,
    )
    return Apart(made, frozenset(unroller.known))


def _too_long(name: str, most: int) -> NoReturn:
    raise TooLong(
        f"a page steps through up to {most:,} gates, and {name} has more, with its arrays and "
        "loops taken apart: record it for smaller ones, or use draw"
    )


class _Unroller:
    """Writes tapes' instructions to a recording, number by number."""

    def __init__(
        self, recorder: Recorder, name: str, inputs: Floats, most: int, whole_loops: bool
    ) -> None:
        self.recorder, self.name, self.most = recorder, name, most
        self.whole_loops = whole_loops
        self.known: list[Op] = []
        # Not the recorder's own: code of ops that asks for a traced value's truth is to fail.
        self.example = Example(recorder, lambda: inputs)

    def replayed(self, tape: Tape, inputs: Ints) -> Ints:
        """Where each of a tape's slots is in the recording, from where its inputs' are."""
        recorder = self.recorder
        moved = np.empty(tape.n_slots, np.int64)
        moved[: tape.n_inputs] = inputs
        moved[tape.n_inputs : tape.slots[0]] = [
            recorder.constant(number) for number in tape.constants.tolist()
        ]
        for i in range(len(tape)):
            recorder.location = recorder.source(tape.source(i))
            slots, sizes = tape.operands_of(i).tolist(), tape.runs_of(i)[0]
            runs = [moved[slot : slot + n] for slot, n in zip(slots, sizes, strict=True)]
            moved[tape.slots[i] : tape.slots[i + 1]] = self._numbers(tape, i, runs)
            if len(recorder.opcodes) > self.most:
                _too_long(self.name, self.most)
        return moved

    def _numbers(self, tape: Tape, i: int, runs: list[Ints]) -> Any:
        """The slots of the numbers of an instruction's result, recorded one by one."""
        op, parameters = tape.op(i), tape.parameters_of(i)
        append = self.recorder.append
        if op.array is None:
            if len(parameters):
                runs = [run[grid.places(parameters, k)] for k, run in enumerate(runs)]
            own = np.stack(runs, axis=1)
            if in_javascript(op):
                return [append(op, row) for row in own.tolist()]
            return [self._known(tape, i, row.reshape(-1, 1), 1)[0] for row in own]
        if op.name in _EXTREMES:
            outer, n, inner = parameters.tolist()
            rows = runs[0].reshape(outer, n, inner).swapaxes(1, 2).reshape(-1, n).tolist()
            return [append(_extreme(op.name, n), row) for row in rows]
        if isinstance(op.array, Switch):
            return self._switch(op.array, runs)
        if isinstance(op.array, SubTapes) and self.whole_loops:
            return self._known(tape, i, runs, tape.runs_of(i)[1])
        if isinstance(op.array, Loop):
            return self._loop(op.array, int(parameters[0]), runs)
        try:
            result = op.array.forward(parameters.tolist(), *map(self._traced, runs))
        except Exception:  # LAPACK's own, NumPy's, or SciPy's: whatever it makes of traced numbers
            return self._known(tape, i, runs, tape.runs_of(i)[1])
        return [self._slot(value) for value in result[:, 0].tolist()]

    def _known(self, tape: Tape, i: int, runs: Any, size: int) -> list[int]:
        """The numbers of an instruction as gates that are known at the inputs alone."""
        op, place = tape.op(i), tape.source(i)
        read = [int(slot) for run in runs for slot in run]
        if len(read) * size > _MOST_PARTIALS:
            raise TapeError(
                f"a page has no room for the {len(read) * size:,} local derivatives of {op.name} "
                f"({place}): record it for smaller arrays, or use draw"
            )
        operands = [np.array([self._value(slot) for slot in run.tolist()]) for run in runs]
        gates = gates_at(op, tape.parameters_of(i).tolist(), operands, size, place)
        self.known += gates
        return [self.recorder.append(gate, read) for gate in gates]

    def _value(self, slot: int) -> float:
        """A number of the recording at the inputs."""
        return self.example.values(slot)[0]

    def _traced(self, run: Ints) -> Any:
        """A run as an array of traced numbers, of one lane."""
        values = np.empty((len(run), 1), object)
        values[:, 0] = [Tracer(self.recorder, slot) for slot in run.tolist()]
        return values

    def _slot(self, value: Any) -> int:
        if isinstance(value, Tracer):
            return value.slot
        return self.recorder.constant(float(value))

    def _leaves(self, body: Tape, inputs: list[Ints]) -> list[Ints]:
        """The leaves of a body's result."""
        moved = self.replayed(body, np.concatenate([np.empty(0, np.int64), *inputs]))
        return [moved[body.outputs[first:last]] for first, last in body.output_structure.bounds]

    def _switch(self, rule: Switch, runs: list[Ints]) -> Any:
        """Every branch, and of each number that of the branch which the index names."""
        (index,), *rest = runs
        chosen: Any = None
        for k, branch in enumerate(rule.branches):
            found = np.concatenate(self._leaves(branch, [rest[j] for j in rule.reads[k]]))
            if chosen is None:
                chosen = found
                continue
            mask = self.recorder.append(_AT_LEAST, [int(index), self.recorder.constant(float(k))])
            pairs = zip(found.tolist(), chosen.tolist(), strict=True)
            chosen = np.array([self.recorder.append(_WHERE, [mask, a, b]) for a, b in pairs])
        return chosen

    def _decided(self, slot: int, kind: int) -> float:
        """A number at the inputs, which from here on is a guard's."""
        value, recorder = self._value(slot), self.recorder
        if slot >= 0 and value == value:
            place = recorder.location
            assert place is not None
            recorder.guards.add(slot, value, kind, place, len(recorder.opcodes))
        return value

    def _loop(self, rule: Loop, steps: int, runs: list[Ints]) -> Any:
        """Step by step, as `loops.loop` has it; streams stay in here."""
        rest = list(runs)
        if rule.counted:
            whole = self.recorder.append(_TRUNCATED, rest.pop(0).tolist())
            steps = self._steps(self._decided(whole, WHOLE))
        else:
            self._steps(steps)
        places: dict[str, Any] = {"const": [rest.pop(0) for _ in rule.consts]}
        inits = [rest.pop(0) for _ in rule.inits]
        places["x"] = [x.reshape(steps, n) for x, n in zip(rest, rule.xs, strict=True)]
        places["y"] = [[np.empty(0, np.int64)] * steps for _ in rule.ys]
        places["stream"] = [[np.empty(0, np.int64)] * steps for _ in rule.streams]
        results: list[Ints] = [np.empty(0, np.int64)]
        for phase in rule.phases:
            carries, inits = inits[: phase.n_carries], inits[phase.n_carries :]
            if rule.start is not None:
                carries, n = self._until(rule, phase, places, carries)
                results += [n, *(carries[k] for k in phase.results)]
                continue
            for step in reversed(range(steps)) if phase.reverse else range(steps):
                places["carry"] = carries
                places["index"] = [np.array([self.recorder.constant(float(step))])]
                inputs = [
                    places[kind][k] if kind in _SAME else places[kind][k][step]
                    for kind, k in phase.reads
                ]
                leaves = self._leaves(phase.body, inputs)
                carries, written = leaves[: phase.n_carries], leaves[phase.n_carries :]
                for (kind, k), value in zip(phase.writes, written, strict=True):
                    places[kind][k][step] = value
            results += [carries[k] for k in phase.results]
        return np.concatenate([*results, *(run for y in places["y"] for run in y)])

    def _truth(self, slot: int) -> int:
        if slot < 0 or self.recorder.is_comparison(slot):
            return slot
        return self.recorder.append(_UNEQUAL, [slot, self.recorder.constant(0.0)])

    def _steps(self, n: float) -> int:
        """How many steps, if they are no more than a page could show."""
        if n > self.most:
            _too_long(self.name, self.most)
        return int(n) if n > 0.0 else 0

    def _until(
        self, rule: Loop, phase: Phase, places: dict[str, Any], carries: list[Ints]
    ) -> tuple[list[Ints], Ints]:
        """Steps while something holds, which each time is a guard; and how many they were."""
        assert rule.start is not None
        places["carry"] = carries
        (go,) = self._leaves(rule.start, [places[kind][k] for kind, k in rule.start_reads])
        steps = 0
        while self._decided(self._truth(int(go[0])), TRUTH) != 0.0:
            places["carry"] = carries
            *carries, go = self._leaves(phase.body, [places[kind][k] for kind, k in phase.reads])
            steps = self._steps(steps + 1)
        return carries, np.array([self.recorder.constant(float(steps))])


_SAME = ("const", "carry", "index")
"""What a loop's body reads as it is, and not an entry for each step."""

_AT_LEAST, _WHERE = BY_NAME["greater_equal"], BY_NAME["where"]
_TRUNCATED, _UNEQUAL = BY_NAME["trunc"], BY_NAME["not_equal"]

_EXTREMES = {"amax": rules.max, "amin": rules.min}
"""Ops that decide by comparing, which no traced number does, and what two numbers make there."""


@functools.cache
def _extreme(name: str, n: int) -> Op:
    """The largest or smallest of n numbers as one gate; equal ones share what flows back."""

    def rule(*operands: Any) -> rules.Rule:
        value = functools.reduce(_EXTREMES[name], operands)
        hits = [where(x == value, 1.0, 0.0) for x in operands]
        count = functools.reduce(operator.add, hits)
        return value, tuple(hit / count for hit in hits)

    return Op(FIRST_GATE, name, n, rule, name, name)
