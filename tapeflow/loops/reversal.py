"""The pullback of a loop, which is a loop: its phases again, and then each one's in reverse.

A phase's pullback goes over the steps the other way round. Its carries are the cotangents of the
phase's carries, and sums for what the phase reads at every step; it reads what the phase had for
carries, which are left behind for it as streams. The steps of the phases are computed again by the
new loop, so that nothing of the length of a loop is ever on a tape.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tapeflow.arrays.base import Parameters, Value
from tapeflow.loops.bodies import (
    Flags,
    choosing,
    dependence,
    leaf_slots,
    recorded,
    replayed,
    sizes_of,
    with_outputs,
)
from tapeflow.loops.loop import Loop, Phase, Place
from tapeflow.loops.record import record
from tapeflow.loops.trim import merged, trimmed
from tapeflow.tape import Tape
from tapeflow.tracers import lift
from tapeflow.transforms.reverse import pullback


def pull(
    loop: Loop,
    p: Parameters,
    wanted: Sequence[bool],
    operands: Sequence[Value],
    results: Sequence[Value],
    flowing: Sequence[Value | None],
) -> list[Value | None]:
    """The cotangents of a loop's wanted operands, by a loop in the recording in progress."""
    key = tuple(wanted), tuple(flow is not None for flow in flowing)
    if key not in loop.pulled:
        loop.pulled[key] = _Pull(loop, *key).plan()
    plan: _Plan | None = loop.pulled[key]
    cotangents: list[Value | None] = [None] * len(operands)
    if plan is None:
        return cotangents
    given = {"operand": operands, "flow": flowing, "result": results}
    found = record(
        plan.loop,
        p,
        [x.numbers if isinstance(x, Zeros) else given[x[0]][x[1]] for x in plan.operands],
    )
    for k, place in plan.results:
        before = cotangents[k]
        cotangents[k] = found[place] if before is None else before + found[place]
    return cotangents


class Zeros(int):
    """A run of zeros of this length, to which cotangents are added without a trace."""

    @property
    def numbers(self) -> Any:
        return np.full(self, -0.0)


@dataclass(frozen=True)
class _Plan:
    """A pullback: its loop, what its operands are, and which operand's cotangent is which part."""

    loop: Loop
    operands: list[Any]
    results: list[tuple[int, int]]


class _Pull:
    """Makes a loop's pullback. wanted: one flag an operand; flows: one a part of the result."""

    def __init__(self, loop: Loop, wanted: Sequence[bool], flows: Sequence[bool]) -> None:
        self.loop = loop
        flags, n = list(wanted), int(loop.counted)
        ends = np.cumsum([n, len(loop.consts), len(loop.inits), len(loop.xs)]).tolist()
        self.first_const, self.first_init, self.first_x = ends[:3]
        self.wanted = {
            "const": flags[ends[0] : ends[1]],
            "init": flags[ends[1] : ends[2]],
            "x": flags[ends[2] : ends[3]],
        }
        self.n_counts = int(loop.start is not None)
        self.flows = list(flows[self.n_counts :])
        self.phases = [self._without_go(phase) for phase in loop.phases]
        self.streams = list(loop.streams)
        # Operands of the new loop's reversed phases, and results of it that are cotangents.
        self.inits: list[Any] = []
        self.xs: list[Any] = []
        self.ys: list[int] = []
        self.finals: list[int | None] = []
        self.y_cotangents: list[int] = []
        self.flowed: dict[int, list[int]] = {}

    @staticmethod
    def _without_go(phase: Phase) -> Phase:
        if ("go", 0) not in phase.writes:
            return phase
        kept = [
            k
            for k in range(len(phase.body.output_structure.leaves))
            if k < phase.n_carries or phase.writes[k - phase.n_carries] != ("go", 0)
        ]
        writes = tuple(place for place in phase.writes if place != ("go", 0))
        return replace(phase, body=choosing(phase.body, kept), writes=writes)

    def plan(self) -> _Plan | None:
        active = self._active()
        n = len(self.phases)
        reversed_phases: list[Phase] = []
        for q in reversed(range(n)):
            made = self._reversed(q, active[q])
            if made is not None:
                reversed_phases.append(made)
        if not reversed_phases:
            return None
        loop = self.loop
        counted = loop.counted or loop.start is not None
        both = replace(
            loop,
            name=f"pullback of {loop.name.removeprefix('pullback of ')}",
            phases=tuple([replace(phase, results=()) for phase in self.phases] + reversed_phases),
            xs=(*loop.xs, *(self._flow_size(k) for k in self.xs)),
            ys=(*loop.ys, *self.ys),
            streams=tuple(self.streams),
            counted=counted,
            start=None,
            start_reads=(),
        )
        finals = [own for own in self.finals if own is not None]
        only = [False] * len(loop.ys) + [True] * len(self.ys)
        found = trimmed(both, [own is not None for own in self.finals], only)
        operands: list[Any] = []
        if counted:
            operands.append(("operand", 0) if loop.counted else ("result", 0))
        inits = [*(("operand", self.first_init + k) for k in range(len(loop.inits))), *self.inits]
        xs = [
            *(("operand", self.first_x + k) for k in range(len(loop.xs))),
            *(("flow", k) for k in self.xs),
        ]
        operands += [("operand", self.first_const + k) for k in found.consts]
        operands += [inits[k] for k in found.inits] + [xs[k] for k in found.xs]
        results = [(own, place) for place, own in enumerate([*finals, *self.y_cotangents])]
        return _Plan(merged(found.loop), operands, results)

    def _flow_size(self, part: int) -> int:
        finals = sum(len(phase.results) for phase in self.loop.phases)
        return self.loop.ys[part - self.n_counts - finals]

    # What depends on the wanted operands.

    def _active(self) -> list[tuple[Any, Any]]:
        """For each phase, the inputs and the outputs of its body that do."""
        streams = [False] * len(self.streams)
        first, found = 0, []
        for phase in self.phases:
            depends = dependence(phase.body, smooth=True)
            carries = self.wanted["init"][first : first + phase.n_carries]
            first += phase.n_carries
            places: dict[str, list[bool]] = {
                "const": self.wanted["const"],
                "x": self.wanted["x"],
                "carry": carries,
                "stream": streams,
                "index": [False],
            }
            while True:
                inputs = np.array([places[kind][k] for kind, k in phase.reads], np.bool_)
                outputs = np.any(depends & inputs, axis=1)
                more = [a or bool(b) for a, b in zip(carries, outputs, strict=False)]
                if more == places["carry"]:
                    break
                places["carry"] = carries = more
            outputs[: phase.n_carries] |= np.array(carries, np.bool_)
            for (kind, k), own in zip(phase.writes, outputs[phase.n_carries :], strict=True):
                if kind == "stream":
                    streams[k] = bool(own)
            found.append((inputs, outputs))
        return found

    # A phase in reverse.

    def _reversed(self, q: int, active: tuple[Any, Any]) -> Phase | None:
        """The phase's pullback; None if nothing flows to it."""
        phase, (inputs_active, outputs_active) = self.phases[q], active
        n = phase.n_carries
        first_final = self.n_counts + sum(len(p.results) for p in self.loop.phases[:q])
        finals = {k: first_final + j for j, k in enumerate(phase.results)}
        first_y = self.n_counts + sum(len(p.results) for p in self.loop.phases)
        depends = dependence(phase.body, smooth=True)
        flows: Flags = np.zeros(len(outputs_active), np.bool_)
        for k, part in finals.items():
            flows[k] = self.flows[part - self.n_counts]
        for j, (kind, k) in enumerate(phase.writes):
            flows[n + j] = (
                self.flows[first_y + k - self.n_counts] if kind == "y" else k in self.flowed
            )
        # Cotangents of carries flow from step to step, until there are no more of them.
        while True:
            flows &= outputs_active
            back = np.any(depends[flows], axis=0) & inputs_active
            carried = [k for (kind, k), own in zip(phase.reads, back, strict=True)
                       if kind == "carry" and own]  # fmt: skip
            if flows[carried].all():
                break
            flows[carried] = True
        on = np.flatnonzero(flows).tolist()
        if not on:
            return None
        live = [k for k in on if k < n]
        init_at = sum(p.n_carries for p in self.loop.phases[:q])
        own = [j for j, flag in enumerate(back.tolist()) if flag]
        consts = [j for j in own if phase.reads[j][0] == "const"]
        body = self._body(phase, on, live, own, consts, first_y)
        self._enter(phase, body, live, consts, finals, init_at)
        return self._with_saved(q, body)

    def _body(
        self,
        phase: Phase,
        on: list[int],
        live: list[int],
        own: list[int],
        consts: list[int],
        first_y: int,
    ) -> Phase:
        """The reversed body. on: outputs that cotangents flow into; own: inputs they flow to."""
        n, reads = phase.n_carries, phase.reads
        wanted = [j in own for j in range(len(reads))]
        pulled = pullback(choosing(phase.body, on), wanted)
        lengths = sizes_of(phase.body.input_structure)
        cotangents = sizes_of(phase.body.output_structure)
        # Its inputs: those of the phase, where a carry is one that has been saved; then what flows.
        places: list[Place] = [("saved", k) if kind == "carry" else (kind, k) for kind, k in reads]
        sizes = list(lengths)
        of_output: list[list[int]] = []
        for k in on:
            if k < n:
                sources: list[Place] = [("carry", live.index(k))]
            else:
                kind, number = phase.writes[k - n]
                if kind == "y":
                    self.xs.append(first_y + number)
                    sources = [("x", len(self.loop.xs) + len(self.xs) - 1)]
                else:
                    sources = [("stream", s) for s in self.flowed[number]]
            of_output.append(list(range(len(places), len(places) + len(sources))))
            places += sources
            sizes += [cotangents[k]] * len(sources)
        sums = range(len(places), len(places) + len(consts))
        places += [("carry", len(live) + j) for j in range(len(consts))]
        sizes += [lengths[j] for j in consts]
        n_outputs = len(on)

        def function(*values: Any) -> list[Any]:
            seeds = []
            for sources in of_output:
                total = lift(values[sources[0]]).reshape(-1)
                for source in sources[1:]:
                    total = total + lift(values[source]).reshape(-1)
                seeds.append(total)
            seed = np.concatenate(seeds)
            found = replayed(pulled, [*values[: len(reads)], seed])[n_outputs:]
            gradients = dict(zip(own, found, strict=True))
            of_carry = {reads[j][1]: gradients[j] for j in own if reads[j][0] == "carry"}
            results = [of_carry.get(k, Zeros(cotangents[k]).numbers) for k in live]
            for place, j in zip(sums, consts, strict=True):
                results.append(lift(values[place]).reshape(-1) + lift(gradients[j]).reshape(-1))
            results += [gradients[j] for j in own if reads[j][0] in ("x", "stream")]
            return [lift(result).reshape(-1) for result in results]

        names = [*phase.body.input_names, *(f"d{k}" for k in range(len(sizes) - len(reads)))]
        body = recorded(f"pullback of {phase.body.name}", sizes, names, function)
        writes: list[Place] = []
        for j in own:
            kind, k = reads[j]
            if kind == "x":
                self.ys.append(lengths[j])
                self.y_cotangents.append(self.first_x + k)
                writes.append(("y", len(self.loop.ys) + len(self.ys) - 1))
            elif kind == "stream":
                self.streams.append(lengths[j])
                self.flowed.setdefault(k, []).append(len(self.streams) - 1)
                writes.append(("stream", len(self.streams) - 1))
        n_carries = len(live) + len(consts)
        return Phase(
            body, tuple(places), n_carries, tuple(writes), tuple(range(n_carries)),
            not phase.reverse,
        )  # fmt: skip

    def _enter(
        self,
        phase: Phase,
        body: Phase,
        live: Sequence[int],
        consts: Sequence[int],
        finals: dict[int, int],
        init_at: int,
    ) -> None:
        """Enter the reversed phase's first values, and what its last ones are."""
        for k in live:
            part = finals.get(k)
            flows = part is not None and self.flows[part - self.n_counts]
            self.inits.append(("flow", part) if flows else Zeros(phase.carries[k]))
            own = self.wanted["init"][init_at + k]
            self.finals.append(self.first_init + init_at + k if own else None)
        for j, size in zip(consts, body.carries[len(live) :], strict=True):
            const = phase.reads[j][1]
            self.inits.append(Zeros(size))
            self.finals.append(self.first_const + const)

    def _with_saved(self, q: int, body: Phase) -> Phase:
        """Let the phase leave behind the carries that the reversed one reads."""
        read = {k: self._saved(q, k) for (kind, k) in body.reads if kind == "saved"}
        reads = tuple(
            ("stream", read[k]) if kind == "saved" else (kind, k) for kind, k in body.reads
        )
        return replace(body, reads=reads)

    def _saved(self, q: int, k: int) -> int:
        """The stream to which a phase writes a carry as it was before each step."""
        phase = self.phases[q]
        body: Tape = phase.body
        try:
            slots = np.arange(*body.input_structure.bounds[phase.reads.index(("carry", k))])
        except ValueError:
            raise AssertionError("a carry that no body reads needs no saving") from None
        for j, (kind, stream) in enumerate(phase.writes):
            if kind == "stream" and np.array_equal(leaf_slots(body, phase.n_carries + j), slots):
                return stream
        self.streams.append(len(slots))
        stream = len(self.streams) - 1
        leaves = range(len(body.output_structure.leaves))
        outputs = [*(leaf_slots(body, j) for j in leaves), slots]
        self.phases[q] = replace(
            phase, body=with_outputs(body, outputs), writes=(*phase.writes, ("stream", stream))
        )
        return stream
