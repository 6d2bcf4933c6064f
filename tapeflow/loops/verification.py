"""Whether a loop or a branch holds together: what runs them checks no lengths.

What is recorded is right by construction; what is loaded from a file may be anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from tapeflow.arrays.base import SubTapes
from tapeflow.errors import TapeError
from tapeflow.loops.bodies import sizes_of
from tapeflow.loops.loop import Loop, Phase, Place
from tapeflow.loops.switch import Switch
from tapeflow.ops import FIRST_GATE
from tapeflow.tape import Tape


def verify(rule: SubTapes) -> None:
    """Raise TapeError unless what flows into and out of each tape has its length, and is there."""
    for tape in rule.tapes:
        if len(tape.guards):
            raise TapeError(f"{rule.name} runs {tape.name}, which has guards: a body has none")
    if isinstance(rule, Loop):
        _verify_loop(rule)
    elif isinstance(rule, Switch):
        _verify_switch(rule)
    else:
        raise TypeError(f"{type(rule).__name__} is not verified")


def _require(condition: bool, name: str, what: str) -> None:
    if not condition:
        raise TapeError(f"{name} {what}")


def _verify_loop(loop: Loop) -> None:
    name = loop.name
    lengths = [*loop.consts, *loop.xs, *loop.ys, *loop.streams]
    _require(min(lengths, default=0) >= 0, name, "has a negative length")
    _require(len(loop.phases) > 0, name, "has no phases")
    open_ended = loop.start is not None
    _require(not (open_ended and loop.counted), name, "is counted, and ends by itself")
    _require(not open_ended or len(loop.phases) == 1, name, "ends by itself, and has phases")
    written: list[Place] = []
    for phase in loop.phases:
        _verify_phase(loop, phase, written)
        written += phase.writes
    stored = [place for place in written if place[0] != "go"]
    _require(len(set(stored)) == len(stored), name, "writes a result twice")
    ys = {("y", k) for k in range(len(loop.ys))}
    _require(ys <= set(stored), name, "has a result that it does not write")
    if loop.start is None:
        _require(not loop.start_reads, name, "reads for a start that it has not")
        return
    _verify_reads(loop, loop.phases[0], loop.start, loop.start_reads, ("const", "carry"), [])
    _require(sizes_of(loop.start.output_structure) == [1], name, "does not start by one number")


def _verify_phase(loop: Loop, phase: Phase, written: Sequence[Place]) -> None:
    """written: what earlier phases have left."""
    name, outputs = loop.name, sizes_of(phase.body.output_structure)
    _require(0 <= phase.n_carries <= len(outputs), name, "has more carries than its body gives")
    _require(
        len(outputs) == phase.n_carries + len(phase.writes), name, "has a body of other results"
    )
    _require(all(0 <= k < phase.n_carries for k in phase.results), name, "gives a carry it has not")
    kinds = ("const", "carry", "x", "stream", "index")
    _verify_reads(loop, phase, phase.body, phase.reads, kinds, written)
    # A carry stays where the body reads it, which is one place.
    once = [place for place in phase.reads if place[0] in ("carry", "index")]
    _require(len(set(once)) == len(once), name, "reads a carry twice")
    sizes = {"y": loop.ys, "stream": loop.streams, "go": (1,)}
    for place, size in zip(phase.writes, outputs[phase.n_carries :], strict=True):
        _require(_at(sizes, place) == size, name, f"writes a {place[0]} of another length")
    ends = [kind for kind, _ in phase.writes]
    if loop.start is not None:
        _require(ends == ["go"], name, "does not say whether it goes on")
    else:
        _require("go" not in ends, name, "says whether it goes on, and is counted")


def _verify_reads(
    loop: Loop,
    phase: Phase,
    tape: Tape,
    reads: Sequence[Place],
    kinds: Sequence[str],
    written: Sequence[Place],
) -> None:
    inputs = sizes_of(tape.input_structure)
    _require(len(inputs) == len(reads), loop.name, "has a body of other inputs")
    sizes = {
        "const": loop.consts,
        "carry": phase.carries,
        "x": loop.xs,
        "stream": loop.streams,
        "index": (1,),
    }
    for place, size in zip(reads, inputs, strict=True):
        kind = place[0]
        _require(kind in kinds, loop.name, f"reads a {kind}, which there is not")
        _require(_at(sizes, place) == size, loop.name, f"reads a {kind} of another length")
        if kind == "stream":
            _require(place in written, loop.name, "reads a stream before it is written")


def _at(sizes: Mapping[str, Sequence[int]], place: Place) -> int:
    """The length of what is at a place; -1 where there is nothing."""
    kind, k = place
    own = sizes.get(kind, ())
    return own[k] if 0 <= k < len(own) else -1


def _verify_switch(switch: Switch) -> None:
    name = switch.name
    _require(min(switch.lengths, default=0) >= 0, name, "has a negative length")
    _require(len(switch.branches) > 0, name, "has no branches")
    _require(len(switch.branches) == len(switch.reads), name, "has a branch that reads nothing")
    results = sizes_of(switch.branches[0].output_structure)
    for branch, reads in zip(switch.branches, switch.reads, strict=True):
        own = [switch.lengths[k] if 0 <= k < len(switch.lengths) else -1 for k in reads]
        _require(sizes_of(branch.input_structure) == own, name, "has a branch of other inputs")
        _require(sizes_of(branch.output_structure) == results, name, "has branches that differ")


def stored_by_loops(tape: Tape) -> Iterator[int]:
    """How many numbers each loop on a tape leaves for its later phases, as far as is known."""
    loops = [FIRST_GATE + k for k, gate in enumerate(tape.gates) if isinstance(gate.array, Loop)]
    for i in np.flatnonzero(np.isin(tape.opcodes, loops)).tolist():
        (steps,) = tape.parameters_of(i).tolist()
        yield max(steps, 0) * sum(cast(Loop, tape.op(i).array).streams)
