"""Where a tape's time goes: `Tape.profile`.

Nothing is attributed, all is measured: after one evaluation every value is there, so the kernels of
one op on one source line can be run again and again by themselves, on the values they had.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tapeflow.engine.evaluate import checked_leaves
from tapeflow.graphs.flame import flame
from tapeflow.graphs.report import Report, Section
from tapeflow.graphs.svg import svg_of
from tapeflow.memory import aligned
from tapeflow.structure import Floats, Ints
from tapeflow.tape import Location, Tape

_SHORTEST = 2e-3
"""Seconds for which a group of kernels is run at the least: the clock is read to some 50 ns."""

_LEAST = 256
"""Instructions run by one call at the least, so that the call itself does not count."""

_ROUNDS = 3
"""The quickest of so many measurements counts: nothing makes kernels faster than they are."""


@dataclass(frozen=True)
class Spent:
    """The gates of one op on one source line: how many, and seconds in both sweeps."""

    op: str
    place: Location
    gates: int
    forward: float
    reverse: float

    @property
    def total(self) -> float:
        return self.forward + self.reverse


@dataclass(frozen=True, repr=False)
class Profile(Report):
    """Seconds of one sample's sweeps, by op and by source line; print it, or look at ``svg``.

    spent: what was measured, the most first.
    """

    name: str
    spent: tuple[Spent, ...]

    @property
    def total(self) -> float:
        return sum(one.total for one in self.spent)

    def by_op(self) -> dict[str, Spent]:
        """The sums over lines, by the op's name; the place is that of the most."""
        return self._summed(lambda one: one.op)

    def by_line(self) -> dict[str, Spent]:
        """The sums over ops, by the line as ``file.py:12``; the op is that of the most."""
        return self._summed(lambda one: str(one.place))

    def _summed(self, key: Any) -> dict[str, Spent]:
        found: dict[str, Spent] = {}
        for one in self.spent:
            known = found.get(key(one))
            found[key(one)] = (
                one
                if known is None
                else Spent(
                    known.op,
                    known.place,
                    known.gates + one.gates,
                    known.forward + one.forward,
                    known.reverse + one.reverse,
                )
            )
        return dict(sorted(found.items(), key=lambda item: -item[1].total))

    def sections(self) -> Sequence[Section]:
        kinds = ("text", "number", "value", "gradient", "number")
        whole = self.total or 1.0
        tables: list[Section] = []
        for what, found in (("op", self.by_op()), ("line", self.by_line())):
            rows = [
                (
                    name,
                    f"{one.gates:,}",
                    _seconds(one.forward),
                    _seconds(one.reverse),
                    f"{one.total / whole:.0%}",
                )
                for name, one in found.items()
            ]
            headings = (what, "gates", "forward", "reverse", "share")
            tables.append(Section(headings, kinds, rows, "" if tables else self._title()))
        return tables

    def _title(self) -> str:
        what = "one sample in the interpreter tier, a kernel for each gate"
        return f"{what}: {_seconds(self.total) or 'no time'}"

    @cached_property
    def svg(self) -> str:
        """The time as a flame: functions, their lines and their ops, each as wide as it takes."""
        return svg_of(flame(self.name, self.spent))

    def save(self, path: str | Path) -> None:
        """Write the flame to a file, whose name ends in .svg; ValueError otherwise."""
        if Path(path).suffix.lower() != ".svg":
            raise ValueError(f"cannot draw a profile as {Path(path).name!r}: end its name in .svg")
        Path(path).write_text(self.svg, encoding="utf-8")

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x:auto">{self.svg}</div>' + super()._repr_html_()


def profile(tape: Tape, *args: Any) -> Profile:
    inputs = np.empty(tape.n_inputs)
    tape.input_structure.pack(checked_leaves(tape, args), inputs)
    sweeps = _numbers(tape, inputs) if tape.numbers_only else _arrays(tape, inputs)
    times: dict[tuple[str, Location], list[float]] = {}
    for direction, sweep in enumerate(sweeps):
        for key, (n, seconds) in sweep.items():
            one = times.setdefault(key, [0.0, 0.0, 0.0])
            one[0] = max(one[0], n)
            one[1 + direction] = seconds
    spent = [Spent(op, place, int(n), a, b) for (op, place), (n, a, b) in times.items()]
    return Profile(tape.name, tuple(sorted(spent, key=lambda one: -one.total)))


Times = dict[tuple[str, Location], tuple[int, float]]
"""For each op and source line: how many instructions, and how many seconds they take."""


def _numbers(tape: Tape, inputs: Floats) -> tuple[Times, Times]:
    """Both sweeps of a tape of numbers, by one kernel an instruction."""
    from tapeflow.engine.program import Program
    from tapeflow.kernels.callbacks import makers_of, raise_pending

    wanted = np.ones(tape.n_inputs, np.bool_)
    program = Program(tape, np.zeros(tape.n_inputs, np.bool_), wanted, True)
    program.load()
    values, cotangents = aligned(tape.n_slots), aligned(tape.n_slots)
    values[: tape.n_inputs] = inputs
    values[tape.n_inputs : tape.slots[0]] = tape.constants
    cotangents[:] = 1.0
    found, places = [], np.arange(tape.n_slots)
    for code in (program.shared_forward, program.shared_reverse):
        run = _Runner(code, values, cotangents)
        run(code.stream, len(code))
        raise_pending(values.ctypes.data, tape, lambda place: makers_of(tape, places, place))
        found.append(run.measured(tape, code.instructions))
    return found[0], found[1]


def _arrays(tape: Tape, inputs: Floats) -> tuple[Times, Times]:
    """A tape with arrays: its pullback runs forward; what follows from the seed is in reverse."""
    from tapeflow.engine.array_sample import ArraySample

    sample = ArraySample(tape, np.ones(tape.n_inputs, np.bool_), True, fuse=False)
    workspace = sample.new_workspace()
    workspace.inputs[:] = inputs
    sample.run(workspace)
    run, code = sample.program.tape, sample.program.shared_forward
    reverse = _follows(run, run.input_structure.bounds[-1][0])
    values = workspace.memory_of_values
    runner = _Runner(code, values, values)
    every = code.instructions
    return (
        runner.measured(run, every, ~reverse[every]),
        runner.measured(run, every, reverse[every]),
    )


def _follows(tape: Tape, seed: int) -> Any:
    """Which instructions depend on the inputs from a slot on."""
    flows = np.zeros(tape.n_slots, np.bool_)
    flows[seed : tape.n_inputs] = True
    for i in range(len(tape)):
        runs = zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True)
        reached = any(flows[slot : slot + size].any() for slot, size in runs)
        flows[tape.slots[i] : tape.slots[i + 1]] = reached
    firsts = np.minimum(tape.slots[:-1], max(tape.n_slots - 1, 0))
    return flows[firsts]


class _Runner:
    """Runs parts of a code over single numbers, and says how long they take."""

    def __init__(self, code: Any, values: Floats, cotangents: Floats) -> None:
        from tapeflow.engine.interpreter import execute

        self._execute, self.values, self.cotangents = execute, values, cotangents
        self.stream = code.stream
        self.starts = _starts(code.stream, len(code))

    def __call__(self, stream: Any, n: int) -> None:
        values = self.values.ctypes.data
        self._execute(stream.ctypes.data, n, values, self.cotangents.ctypes.data, values, 1)

    def measured(self, tape: Tape, instructions: Ints, chosen: Any = None) -> Times:
        """The times of the code's instructions, by op and line."""
        places = np.arange(len(instructions))
        if chosen is not None:
            places = places[chosen]
        groups: dict[tuple[str, Location], list[int]] = {}
        codes = tape.opcodes[instructions].tolist()
        lines = tape.locations[instructions].tolist()
        for place in places.tolist():
            key = (tape.op_of(codes[place]).name, tape.sources[lines[place]])
            groups.setdefault(key, []).append(place)
        return {key: (len(own), self._seconds(own)) for key, own in groups.items()}

    def _seconds(self, own: list[int]) -> float:
        """Seconds of these instructions, run by themselves."""
        parts = [self.stream[self.starts[k] : self.starts[k + 1]] for k in own]
        once = np.concatenate(parts)
        times = max(1, -(-_LEAST // len(own)))
        stream, n = np.tile(once, times), times * len(own)
        self(stream, n)
        shortest = np.inf
        for _ in range(_ROUNDS):
            calls, start = 0, time.perf_counter()
            while True:
                self(stream, n)
                calls += 1
                passed = time.perf_counter() - start
                if passed > _SHORTEST / _ROUNDS:
                    break
            shortest = min(shortest, passed / calls)
        return float(shortest / times)


def _starts(stream: Any, n: int) -> Ints:
    """Where each of a code's n instructions begins, and the last ends; first is its length."""
    starts, place = np.empty(n + 1, np.int64), 0
    lengths = stream.tolist()
    for k in range(n):
        starts[k] = place
        place += lengths[place]
    starts[n] = place
    return starts


def _seconds(x: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if x >= size:
            return f"{x / size:.3g} {unit}"
    return f"{x * 1e9:.3g} ns" if x else ""
