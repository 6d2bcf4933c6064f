"""What a tape consists of, at a glance: `Tape.summary`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tapeflow.arrays import SubTapes
from tapeflow.graphs.cost import by_kind, tape_cost
from tapeflow.graphs.report import Report, Section
from tapeflow.graphs.text import counted
from tapeflow.tape import ARRAYS, Tape

_MOST_BODIES = 8
"""Bodies that repeat, up to which they are listed."""


@dataclass(frozen=True)
class Kind:
    """One op of a tape: its gates, the numbers they make, and their operations on one sample."""

    name: str
    gates: int
    numbers: int
    forward: int
    reverse: int


@dataclass(frozen=True)
class Body:
    """A run of instructions that one kernel of the fused tier runs: its gates, how often it occurs,
    and where it was first recorded.
    """

    gates: int
    times: int
    source: str


@dataclass(frozen=True)
class Inner:
    """A loop or a branch: its steps (None where that depends on values), and its gates."""

    name: str
    steps: int | None
    gates: int
    source: str


@dataclass(frozen=True, repr=False)
class Summary(Report):
    """What a tape consists of; print it, or read its fields.

    depth: gates of the longest chain. tape_bytes, sweep_bytes: of the tape itself, and of the
    values and cotangents of one sample. forward, reverse: arithmetic operations on one sample.
    """

    name: str
    inputs: int
    results: int
    gates: int
    constants: int
    slots: int
    depth: int
    guards: int
    tape_bytes: int
    sweep_bytes: int
    forward: int
    reverse: int
    kinds: tuple[Kind, ...]
    bodies: tuple[Body, ...]
    inner: tuple[Inner, ...]

    def sections(self) -> Sequence[Section]:
        calls = sum(body.times for body in self.bodies)
        facts = [
            ("inputs", f"{self.inputs:,}"),
            ("results", f"{self.results:,}"),
            ("gates", f"{self.gates:,}"),
            ("constants", f"{self.constants:,}"),
            ("slots", f"{self.slots:,}"),
            ("depth", f"{self.depth:,}"),
            ("guards", f"{self.guards:,}"),
            ("loops and branches", f"{len(self.inner):,}"),
            ("macro-ops", f"{len(self.bodies):,} in {counted(calls, 'call')}"),
            ("memory of the tape", _bytes(self.tape_bytes)),
            ("memory of a sweep", _bytes(self.sweep_bytes)),
            ("operations forward", f"{self.forward:,}"),
            ("operations in reverse", f"{self.reverse:,}"),
        ]
        sections = [Section(("tape", self.name), ("text", "number"), facts)]
        total = max(self.forward + self.reverse, 1)
        rows = [
            (
                kind.name,
                f"{kind.gates:,}",
                f"{kind.numbers:,}",
                f"{kind.forward:,}",
                f"{kind.reverse:,}",
                f"{(kind.forward + kind.reverse) / total:.0%}",
            )
            for kind in self.kinds
        ]
        headings = ("op", "gates", "numbers", "forward", "reverse", "share")
        kinds = ("text", "number", "number", "value", "gradient", "number")
        sections.append(Section(headings, kinds, rows))
        return [*sections, *self._inner(), *self._bodies()]

    def _inner(self) -> list[Section]:
        rows = [
            (
                one.name,
                "?" if one.steps is None else f"{one.steps:,}",
                f"{one.gates:,}",
                one.source,
            )
            for one in self.inner
        ]
        headings = ("loop or branch", "steps", "gates", "source")
        return [Section(headings, ("text", "number", "number", "text"), rows)] if rows else []

    def _bodies(self) -> list[Section]:
        shown, rest = self.bodies[:_MOST_BODIES], self.bodies[_MOST_BODIES:]
        rows = [(f"{body.gates:,}", f"{body.times:,}", body.source) for body in shown]
        if rest:
            rows.append(("", f"{sum(body.times for body in rest):,}", f"{len(rest):,} more"))
        headings = ("gates of a macro-op", "times", "first line")
        return [Section(headings, ("number", "number", "text"), rows)] if rows else []


def summary(tape: Tape) -> Summary:
    kinds, total = by_kind(tape), tape_cost(tape)
    return Summary(
        name=tape.name,
        inputs=tape.n_inputs,
        results=len(tape.outputs),
        gates=len(tape),
        constants=len(tape.constants),
        slots=tape.n_slots,
        depth=_depth(tape),
        guards=len(tape.guards),
        tape_bytes=sum(getattr(tape, name).nbytes for name in (*ARRAYS, "locations")),
        sweep_bytes=2 * 8 * tape.n_slots,
        forward=total.forward,
        reverse=total.reverse,
        kinds=tuple(Kind(op.name, n, numbers, *cost) for op, n, numbers, cost in kinds),
        bodies=_bodies(tape),
        inner=_inner(tape),
    )


def _depth(tape: Tape) -> int:
    from tapeflow.graphs.depth import deepest
    from tapeflow.jit import walk

    levels = np.zeros(tape.n_slots, np.int64)
    walk(deepest, len(tape), tape.starts, tape.operands, tape.slots, levels)
    return int(levels.max(initial=0))


def _bodies(tape: Tape) -> tuple[Body, ...]:
    """The bodies that the fused tier compiles; none for a tape with arrays, which is fused else."""
    if not tape.numbers_only or not len(tape):
        return ()
    from tapeflow.engine.grouping import grouped

    every = np.ones(tape.n_slots, np.bool_)
    read = np.zeros(tape.n_slots, np.bool_)
    read[tape.outputs] = True
    groups = grouped(tape, np.arange(len(tape)), every, every, read)
    alike = groups.kinds(np.arange(len(groups)), (), None)
    _, first, times = np.unique(alike, return_index=True, return_counts=True)
    sizes = np.diff(groups.starts)[first]
    order = np.lexsort((first, -sizes * times))
    return tuple(
        Body(
            int(sizes[k]),
            int(times[k]),
            str(tape.source(int(groups.instructions[groups.starts[first[k]]]))),
        )
        for k in order.tolist()
        if sizes[k] > 1
    )


def _inner(tape: Tape) -> tuple[Inner, ...]:
    """The loops and branches, in order."""
    if not any(isinstance(gate.array, SubTapes) for gate in tape.gates):
        return ()
    found = []
    for i in range(len(tape)):
        rule = tape.op(i).array
        if isinstance(rule, SubTapes):
            steps = int(tape.parameters_of(i)[0]) if hasattr(rule, "phases") else 1
            gates = sum(len(body) for body in rule.tapes)
            known = None if steps < 0 else steps
            found.append(Inner(tape.op(i).name, known, gates, str(tape.source(i))))
    return tuple(found)


def _bytes(n: int) -> str:
    size = float(n)
    for unit in ("B", "kB", "MB"):
        if size < 1000.0:
            return f"{size:.3g} {unit}"
        size /= 1000.0
    return f"{size:.3g} GB"
