"""A tape with arrays and loops as a tape of numbers: each number and each step by its own gates.

An array op's value is evaluated on arrays of traced numbers, so it records what it is made of; no
op is written here once more. What only SciPy or LAPACK computes cannot be taken apart so.
"""

import functools
import operator
from typing import Any

import numpy as np

from tapeflow import grid, rules
from tapeflow.errors import TapeError
from tapeflow.loops import Loop, Switch
from tapeflow.ops import BY_NAME, FIRST_GATE, Op
from tapeflow.primitives import where
from tapeflow.recorder import Recorder
from tapeflow.structure import Ints
from tapeflow.tape import Tape
from tapeflow.tracers import Tracer


def unrolled(tape: Tape, most: int) -> Tape:
    """The tape by numbers alone. Raises TapeError for more than ``most`` gates, or an op that
    cannot be taken apart.
    """
    if tape.numbers_only or (not len(tape.parameters) and not _has_arrays(tape)):
        return tape
    recorder = Recorder(tape.n_inputs)
    with recorder:
        moved = _Unroller(recorder, tape.name, most).replayed(tape, np.arange(tape.n_inputs))
        guards = tape.guards
        columns = (guards.slots, guards.expected, guards.kinds, guards.locations)
        for slot, expected, kind, place in zip(*(c.tolist() for c in columns), strict=True):
            source = recorder.source(tape.sources[place])
            recorder.guards.add(int(moved[slot]), expected, kind, source, len(recorder.opcodes))
    return recorder.finish(
        tape.name,
        moved[tape.outputs],
        tape.input_structure,
        tape.output_structure,
        tape.input_names,
    )


def _has_arrays(tape: Tape) -> bool:
    return any(tape.op_of(code).array is not None for code in np.unique(tape.opcodes).tolist())


class _Unroller:
    """Writes tapes' instructions to a recording, number by number."""

    def __init__(self, recorder: Recorder, name: str, most: int) -> None:
        self.recorder, self.name, self.most = recorder, name, most

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
                raise TapeError(
                    f"{self.name} has more than {self.most:,} gates when its arrays and loops are "
                    "taken apart: record it for smaller ones"
                )
        return moved

    def _numbers(self, tape: Tape, i: int, runs: list[Ints]) -> Any:
        """The slots of the numbers of an instruction's result, recorded one by one."""
        op, parameters = tape.op(i), tape.parameters_of(i)
        append = self.recorder.append
        if op.array is None:
            if len(parameters):
                runs = [run[grid.places(parameters, k)] for k, run in enumerate(runs)]
            return [append(op, row) for row in np.stack(runs, axis=1).tolist()]
        if op.name in _EXTREMES:
            outer, n, inner = parameters.tolist()
            rows = runs[0].reshape(outer, n, inner).swapaxes(1, 2).reshape(-1, n).tolist()
            return [append(_extreme(op.name, n), row) for row in rows]
        if isinstance(op.array, Switch):
            return self._switch(op.array, runs)
        if isinstance(op.array, Loop) and parameters[0] >= 0:
            return self._loop(op.array, int(parameters[0]), runs)
        try:
            result = op.array.forward(parameters.tolist(), *map(self._traced, runs))
        except Exception as error:
            raise TapeError(
                f"cannot take {op.name} apart into gates on numbers ({tape.source(i)}): "
                "show the tape by draw and table instead"
            ) from error
        return [self._slot(value) for value in result[:, 0].tolist()]

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

    def _loop(self, rule: Loop, steps: int, runs: list[Ints]) -> Any:
        """Step by step, as `loops.loop` has it; streams stay in here."""
        rest = list(runs)
        places: dict[str, Any] = {"const": [rest.pop(0) for _ in rule.consts]}
        inits = [rest.pop(0) for _ in rule.inits]
        places["x"] = [x.reshape(steps, n) for x, n in zip(rest, rule.xs, strict=True)]
        places["y"] = [[np.empty(0, np.int64)] * steps for _ in rule.ys]
        places["stream"] = [[np.empty(0, np.int64)] * steps for _ in rule.streams]
        results: list[Ints] = [np.empty(0, np.int64)]
        for phase in rule.phases:
            carries, inits = inits[: phase.n_carries], inits[phase.n_carries :]
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


_SAME = ("const", "carry", "index")
"""What a loop's body reads as it is, and not an entry for each step."""

_AT_LEAST, _WHERE = BY_NAME["greater_equal"], BY_NAME["where"]

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
