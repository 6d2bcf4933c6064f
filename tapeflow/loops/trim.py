"""Loops without what no result depends on, and with phases of one direction run as one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tapeflow.loops.bodies import (
    choosing,
    dependence,
    inputs_read,
    recorded,
    replayed,
    sizes_of,
    taking,
)
from tapeflow.loops.loop import Loop, Phase, Place


@dataclass(frozen=True)
class Trimmed:
    """A loop, and which of the consts, first values and xs of the one it was made of it has.

    starts: first values that are its last consts, as its start alone reads them.
    """

    loop: Loop
    consts: list[int]
    inits: list[int]
    xs: list[int]
    starts: list[int]

    def operands(self, loop: Loop) -> list[int]:
        """Which operands of the one it was made of it has."""
        first = int(loop.counted)
        inits = first + len(loop.consts)
        xs = inits + len(loop.inits)
        return [
            *range(first),
            *(first + k for k in self.consts),
            *(inits + k for k in [*self.starts, *self.inits]),
            *(xs + k for k in self.xs),
        ]


def trimmed(loop: Loop, finals: Sequence[bool], ys: Sequence[bool]) -> Trimmed:
    """The loop with the results that are needed alone.

    finals: one flag for each carry of each phase that is a result; ys: one for each y. The loop
    goes on until it is told to, so what a "go" depends on stays.
    """
    kept: dict[str, set[int]] = {"const": set(), "x": set(), "stream": set()}
    wanted = list(finals)
    outputs: list[list[int]] = []
    for phase in reversed(loop.phases):
        own = [wanted.pop() for _ in phase.results][::-1]
        results = [k for k, needed in zip(phase.results, own, strict=True) if needed]
        outputs.append(_needed(phase, results, kept["stream"], ys))
        _read(phase, outputs[-1], kept)
    outputs.reverse()
    kept["y"] = {k for k, needed in enumerate(ys) if needed}
    for kind, k in loop.start_reads:
        if kind == "const":
            kept["const"].add(k)
    moved = {
        (kind, k): (kind, place)
        for kind, numbers in kept.items()
        for place, k in enumerate(sorted(numbers))
    }
    phases, inits, first = [], [], 0
    flags = iter(finals)
    for phase, own_outputs in zip(loop.phases, outputs, strict=True):
        flagged = [k for k in phase.results if next(flags)]
        if own_outputs:
            phases.append(_cut(phase, own_outputs, flagged, moved))
            inits += [first + k for k in own_outputs if k < phase.n_carries]
        first += phase.n_carries
    carries = [k for k in outputs[0] if k < loop.phases[0].n_carries]
    starts = [k for kind, k in loop.start_reads if kind == "carry" and k not in carries]
    n_consts = len(kept["const"])

    def start_place(kind: str, k: int) -> Place:
        if kind == "const":
            return moved[kind, k]
        return ("const", n_consts + starts.index(k)) if k in starts else (kind, carries.index(k))

    start_reads = tuple(start_place(kind, k) for kind, k in loop.start_reads)

    def those(sizes: Sequence[int], kind: str) -> tuple[int, ...]:
        return tuple(sizes[k] for k in sorted(kept[kind]))

    found = replace(
        loop,
        phases=tuple(phases),
        consts=(*those(loop.consts, "const"), *(loop.inits[k] for k in starts)),
        xs=those(loop.xs, "x"),
        ys=those(loop.ys, "y"),
        streams=those(loop.streams, "stream"),
        start_reads=start_reads,
    )
    return Trimmed(found, sorted(kept["const"]), inits, sorted(kept["x"]), starts)


def _needed(
    phase: Phase, results: Sequence[int], streams: set[int], ys: Sequence[bool]
) -> list[int]:
    """Which of the body's outputs are needed, if these carries, streams and ys are."""
    needed = np.zeros(len(phase.body.output_structure.leaves), np.bool_)
    needed[list(results)] = True
    for j, (kind, k) in enumerate(phase.writes):
        needed[phase.n_carries + j] = (
            ys[k] if kind == "y" else k in streams if kind == "stream" else True
        )
    depends = dependence(phase.body, smooth=False)
    while True:
        read = np.any(depends[needed], axis=0)
        before = needed.sum()
        for (kind, k), own in zip(phase.reads, read.tolist(), strict=True):
            if kind == "carry" and own:
                needed[k] = True
        if needed.sum() == before:
            return np.flatnonzero(needed).tolist()


def _read(phase: Phase, outputs: Sequence[int], kept: dict[str, set[int]]) -> None:
    """Enter what the needed outputs of a phase depend on."""
    if not outputs:
        return
    read = inputs_read(choosing(phase.body, outputs))
    for (kind, k), own in zip(phase.reads, read, strict=True):
        if own and kind in kept:
            kept[kind].add(k)


def _cut(
    phase: Phase, outputs: Sequence[int], results: Sequence[int], moved: dict[Place, Place]
) -> Phase:
    """A phase with these outputs alone. moved: where other places now are."""
    body = choosing(phase.body, outputs)
    inputs = [k for k, own in enumerate(inputs_read(body)) if own]
    carries = {k: place for place, k in enumerate(k for k in outputs if k < phase.n_carries)}

    def place(old: Place) -> Place:
        return ("carry", carries[old[1]]) if old[0] == "carry" else moved.get(old, old)

    return Phase(
        taking(body, inputs),
        tuple(place(phase.reads[k]) for k in inputs),
        len(carries),
        tuple(place(phase.writes[k - phase.n_carries]) for k in outputs if k >= phase.n_carries),
        tuple(carries[k] for k in results),
        phase.reverse,
    )


def merged(loop: Loop) -> Loop:
    """The loop with neighbouring phases of one direction run as one.

    What one has left for the other then goes there at once: a derivative forward keeps nothing.
    """
    phases = [loop.phases[0]]
    for phase in loop.phases[1:]:
        if phase.reverse == phases[-1].reverse:
            phases[-1] = _joined(phases[-1], phase, loop)
        else:
            phases.append(phase)
    if len(phases) == len(loop.phases):
        return loop
    found = replace(loop, phases=tuple(phases))
    every = [True] * sum(len(phase.results) for phase in phases)
    return trimmed(found, every, [True] * len(loop.ys)).loop


def _joined(first: Phase, second: Phase, loop: Loop) -> Phase:
    """Two phases of one direction as one."""
    written = {place: k for k, place in enumerate(first.writes) if place[0] == "stream"}
    n = first.n_carries
    shifted = tuple((kind, k + n) if kind == "carry" else (kind, k) for kind, k in second.reads)
    own = tuple(dict.fromkeys([*first.reads, *(p for p in shifted if p not in written)]))
    names = dict(zip(shifted, second.body.input_names, strict=True))
    names |= dict(zip(first.reads, first.body.input_names, strict=True))
    lengths = dict(zip(shifted, sizes_of(second.body.input_structure), strict=True))
    lengths |= dict(zip(first.reads, sizes_of(first.body.input_structure), strict=True))

    def both(*values: object) -> list[object]:
        given = dict(zip(own, values, strict=True))
        left = replayed(first.body, [given[place] for place in first.reads])
        for place, k in written.items():
            given[place] = left[n + k]
        right = replayed(second.body, [given[place] for place in shifted])
        m = second.n_carries
        return [*left[:n], *right[:m], *left[n:], *right[m:]]

    name = f"{first.body.name}, {second.body.name}"
    sizes, called = [lengths[place] for place in own], [names[place] for place in own]
    return Phase(
        recorded(name, sizes, called, both),
        own,
        n + second.n_carries,
        (*first.writes, *second.writes),
        (*first.results, *(k + n for k in second.results)),
        first.reverse,
    )
