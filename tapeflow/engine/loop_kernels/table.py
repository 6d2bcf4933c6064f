"""Which kernel an instruction that carries tapes has, its record, and the job it points to."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numba import config

from tapeflow.arrays import SubTapes
from tapeflow.engine.loop_kernels import choice, counted, steps, until
from tapeflow.engine.loop_kernels.body import BodyCode, Run, table_of
from tapeflow.loops import Loop, Phase, Switch
from tapeflow.loops.bodies import sizes_of
from tapeflow.loops.loop import Place
from tapeflow.memory import address_of
from tapeflow.structure import Ints

LIMIT = 1 << 25
"""Bytes of streams that a loop keeps, if it is not told otherwise; more are computed again."""

_limit = np.array([LIMIT], np.int64)


def keep_within(max_memory: int | None, threads: int) -> None:
    """Let the loops that run from now on keep no more than their threads' share of ``max_memory``.

    It is the process's. No bit of a result depends on it, so threads may disagree.
    """
    _limit[0] = LIMIT if max_memory is None else max(max_memory // threads, 1)


class Made(NamedTuple):
    """A kernel's address, an instruction's record, what both point to; and rows of its bodies."""

    address: int
    record: list[int]
    keep: Any
    rows: int


def control_kernel(
    rule: SubTapes,
    p: Sequence[int],
    places: Sequence[int],
    shared: Sequence[bool],
    lanes: bool,
    make: Callable[..., Any],
) -> Made | None:
    """The kernel of a loop or a branch; None where a body needs Python.

    places: of the result, and of each operand; shared: which operands are single numbers; lanes:
    whether the others are rows; make: what makes a program of a body with arrays.
    """
    if config.DISABLE_JIT:
        return None
    builder = _Builder([not own for own in shared] if lanes else None, int(p[0]), make)
    if isinstance(rule, Switch):
        kernel, job = choice.choice, builder.choice(rule)
    elif isinstance(rule, Loop) and rule.start is not None:
        kernel, job = until.until_loop, builder.until(rule)
    else:
        assert isinstance(rule, Loop)
        kernel, job = counted.counted_loop, builder.counted(rule, int(p[0]))
    if any(body.has_python for body in builder.bodies):
        return None
    operands = [entry for pair in zip(places[1:], map(int, shared), strict=True) for entry in pair]
    halves = np.array([address_of(job)], np.int64).view(np.int32).tolist()
    return Made(kernel.address, [places[0], *halves, *operands], (builder, job), builder.rows)


class _Builder:
    """Makes jobs; keeps what they point to. lane: which operands are rows; None on one sample."""

    def __init__(
        self, lane: Sequence[bool] | None, steps_known: int, make: Callable[..., Any]
    ) -> None:
        self.lane, self.steps_known, self.make = lane, steps_known, make
        self.bodies: list[BodyCode] = []
        self.arrays: list[Ints] = []

    @property
    def rows(self) -> int:
        return sum(int(body.fields[steps.N_ROWS]) + body.inner_rows for body in self.bodies)

    def _kept(self, array: Ints) -> int:
        self.arrays.append(array)
        return address_of(array)

    def _body(self, tape: Any, reads: Sequence[Place], operands: dict[str, int]) -> BodyCode:
        lane = None
        if self.lane is not None:
            lane = [
                self.lane[operands[kind] + k] if kind in operands else kind != "index"
                for kind, k in reads
            ]
        body = BodyCode(tape, lane, self.steps_known, self.make)
        self.bodies.append(body)
        return body

    def _table(self, body: BodyCode, name: str, rows: Sequence[Sequence[int]], n: int) -> None:
        table = table_of(rows, n)
        body.fields[getattr(steps, name)] = self._kept(table)
        body.fields[getattr(steps, f"N_{name}")] = len(table)

    def _reads(
        self, body: BodyCode, name: str, kinds: Sequence[str], reads: Sequence[Place],
        operands: dict[str, int],
    ) -> None:  # fmt: skip
        rows = []
        for j, (kind, k) in enumerate(reads):
            if kind in kinds:
                run = body.input_run(j)
                rows.append([operands[kind] + k, run.size, run.place, run.single])
        self._table(body, name, rows, 4)

    def choice(self, rule: Switch) -> Ints:
        sizes = sizes_of(rule.branches[0].output_structure)
        phases = []
        for branch, own in zip(rule.branches, rule.reads, strict=True):
            reads = [("const", k) for k in own]
            operands = {"const": 1}
            body = self._body(branch, reads, operands)
            self._reads(body, "CONSTS", ["const"], reads, operands)
            first = int(body.fields[steps.N_ROWS])
            moves, place = [], first
            for k, size in enumerate(sizes):
                for run in body.output_runs(k):
                    moves.append([run.place, run.single, place, run.size])
                    place += run.size
                assert place <= first + sum(sizes), size
            self._table(body, "MOVES", moves, 4)
            body.fields[steps.N_ROWS] += sum(sizes)
            body.fields[steps.INDEX] = -1
            phases.append(body.fields)
        job = np.zeros(choice.CHOICE_SIZE, np.int64)
        job[choice.N_BRANCHES] = len(phases)
        job[choice.BRANCHES] = self._kept(np.concatenate(phases))
        job[choice.N_RESULTS] = sum(sizes)
        return job

    def until(self, rule: Loop) -> Ints:
        operands = {"const": 0, "carry": len(rule.consts)}
        assert rule.start is not None
        start = self._body(rule.start, rule.start_reads, {"const": 0, "carry": operands["carry"]})
        self._reads(start, "CONSTS", ["const", "carry"], rule.start_reads, operands)
        (go,) = start.output_runs(0)
        start.fields[[steps.GO, steps.GO_SINGLE]] = go.place, go.single
        start.fields[steps.INDEX] = -1
        body = self._phase(rule, rule.phases[0], {"const": 0}, operands["carry"], 1, [])
        job = np.zeros(until.UNTIL_SIZE, np.int64)
        job[until.START] = self._kept(start.fields)
        job[until.BODY] = self._kept(body.fields)
        return job

    def counted(self, rule: Loop, n: int) -> Ints:
        first = int(rule.counted)
        operands = {"const": first}
        inits = first + len(rule.consts)
        operands["x"] = inits + len(rule.inits)
        place = sum(phase.carries[k] for phase in rule.phases for k in phase.results)
        ys = []
        for size in rule.ys:
            ys.append(place)
            place += n * size
        phases, result = [], 0
        for phase in rule.phases:
            phases.append(self._phase(rule, phase, operands, inits, result, ys).fields)
            inits += phase.n_carries
            result += sum(phase.carries[k] for k in phase.results)
        job = np.zeros(counted.COUNTED_SIZE, np.int64)
        job[counted.STEPS], job[counted.N_PHASES] = n, len(phases)
        job[counted.PHASES] = self._kept(np.concatenate(phases))
        job[counted.STREAM], job[counted.LIMIT] = sum(rule.streams), address_of(_limit)
        return job

    def _phase(
        self, rule: Loop, phase: Phase, operands: dict[str, int], inits: int, result: int,
        ys: Sequence[int],
    ) -> BodyCode:  # fmt: skip
        """A phase's code and tables. inits: its first operand of those; result: where its last
        carries go; ys: where each y begins.
        """
        body = self._body(phase.body, phase.reads, operands)
        self._reads(body, "CONSTS", ["const"], phase.reads, operands)
        self._reads(body, "XS", ["x"], phase.reads, operands)
        streams = [0, *accumulate(rule.streams)]
        rows, index = [], [-1, 0]
        for j, (kind, k) in enumerate(phase.reads):
            run = body.input_run(j)
            if kind == "stream":
                rows.append([streams[k], run.size, run.place])
            elif kind == "index":
                index = [run.place, run.single]
        self._table(body, "READ_STREAMS", rows, 3)
        body.fields[[steps.INDEX, steps.INDEX_SINGLE]] = index
        homes = self._homes(body, phase)
        firsts = [[inits + k, phase.carries[k], home, 0] for k, home in enumerate(homes)]
        self._table(body, "INITS", sorted(firsts, key=lambda row: row[2]), 4)
        body.fields[steps.CARRIED] = sum(phase.carries)
        self._lasting(body, phase, homes)
        rules = (op.array for op in phase.body.gates)
        body.fields[steps.NESTED] = any(isinstance(rule, SubTapes) for rule in rules)
        body.fields[steps.REVERSE] = phase.reverse
        self._writes(body, phase, rule, streams, ys)
        self._moves(body, phase, homes)
        finals = []
        for k in phase.results:
            finals.append([homes[k], phase.carries[k], result])
            result += phase.carries[k]
        self._table(body, "FINALS", finals, 3)
        return body

    def _lasting(self, body: BodyCode, phase: Phase, homes: Sequence[int]) -> None:
        """The rows that keep what they have from step to step; neighbours are one run."""
        runs = list(zip(homes, phase.carries, strict=True))
        consts = (j for j, (kind, _) in enumerate(phase.reads) if kind == "const")
        runs += [(r.place, r.size) for r in map(body.input_run, consts) if not r.single]
        joined: list[list[int]] = []
        for place, size in sorted(run for run in runs if run[1]):
            if joined and sum(joined[-1]) == place:
                joined[-1][1] += size
            else:
                joined.append([place, size])
        self._table(body, "LASTING", joined, 2)

    @staticmethod
    def _homes(body: BodyCode, phase: Phase) -> list[int]:
        """Where each carry stays: where the body reads it, or in rows of its own."""
        homes = []
        for k, size in enumerate(phase.carries):
            if ("carry", k) in phase.reads and size:
                homes.append(body.input_run(phase.reads.index(("carry", k))).place)
            else:
                homes.append(int(body.fields[steps.N_ROWS]))
                body.fields[steps.N_ROWS] += size
        return homes

    def _writes(
        self, body: BodyCode, phase: Phase, rule: Loop, streams: Sequence[int], ys: Sequence[int]
    ) -> None:
        to_streams, to_ys = [], []
        for j, (kind, k) in enumerate(phase.writes):
            runs = body.output_runs(phase.n_carries + j)
            if kind == "go":
                body.fields[[steps.GO, steps.GO_SINGLE]] = runs[0].place, runs[0].single
                continue
            at = 0
            for run in runs:
                own = [run.place, run.single]
                if kind == "stream":
                    to_streams.append([*own, streams[k] + at, run.size])
                else:
                    to_ys.append([*own, ys[k] + at, run.size, rule.ys[k]])
                at += run.size
        self._table(body, "WRITTEN_STREAMS", to_streams, 4)
        self._table(body, "YS", to_ys, 5)

    def _moves(self, body: BodyCode, phase: Phase, homes: Sequence[int]) -> None:
        """From where new carries are to where they stay.

        One that lies where another goes is first put aside.
        """
        taken = np.zeros(int(body.fields[steps.N_ROWS]) + 1, np.bool_)
        for home, size in zip(homes, phase.carries, strict=True):
            taken[home : home + size] = True
        aside, moves = [], []
        for k, home in enumerate(homes):
            at = home
            for run in body.output_runs(k):
                own = run
                if not run.single and run.place == at:
                    at += run.size
                    continue
                if not run.single and taken[run.place : run.place + run.size].any():
                    own = Run(int(body.fields[steps.N_ROWS]), False, run.size)
                    body.fields[steps.N_ROWS] += run.size
                    aside.append([run.place, 0, own.place, run.size])
                moves.append([own.place, own.single, at, own.size])
                at += run.size
        self._table(body, "MOVES", [*aside, *moves], 4)
