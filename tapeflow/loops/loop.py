"""A loop: one instruction, which goes over its steps forward and back again.

A loop consists of *phases*, each of which goes over all steps, in order or in reverse: a recorded
loop has one, its pullback a phase forward, which leaves its carries behind, and one in reverse,
which reads them. What a phase leaves for later ones is a *stream*: an entry for each step, inside
the loop alone. So the pullback of a loop is a loop with twice the phases, to all orders, and a
tape holds one body for each, however many steps there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from tapeflow import reference
from tapeflow.arrays.base import Array, Parameters, Sizes, SubTapes, Value, require
from tapeflow.loops.bodies import sizes_of, work_of
from tapeflow.structure import Floats
from tapeflow.tape import Tape

Place = tuple[str, int]
"""Where a leaf of a body comes from, or goes: a kind, and its number among those."""


_STEPS = 16
"""What a loop of an unknown number of steps is taken for."""


@dataclass(frozen=True, eq=False)
class Phase:
    """One way over the steps.

    reads: for each leaf of the body's inputs, "const" (the same at each step), "carry" (the
    phase's own), "x" (an entry of the loop's operands), "stream" (of an earlier phase) or "index"
    (the number of the step), and its number. The body's outputs are first the new carries, then,
    for each of ``writes``, an entry of a "y" (of the loop's results), of a "stream", or "go":
    whether there is another step. results: the carries whose last values are results. reverse:
    whether the last step comes first.
    """

    body: Tape
    reads: tuple[Place, ...]
    n_carries: int
    writes: tuple[Place, ...]
    results: tuple[int, ...]
    reverse: bool = False

    @cached_property
    def carries(self) -> tuple[int, ...]:
        """The length of each carry."""
        return tuple(sizes_of(self.body.output_structure)[: self.n_carries])


@dataclass(frozen=True, eq=False)
class Loop(SubTapes):
    """A loop over its phases. consts, xs, ys, streams: lengths of runs, for one step each.

    How many steps there are is the instruction's parameter; -1 where it is only known when the loop
    runs: from the first operand, if it is ``counted``, or from ``start``, which says whether there
    is a first step, and what the body writes to "go". Only a loop of a known number has x and y.

    Operands: the count, if it is counted; the consts; the first values of the carries of all
    phases; the xs, all entries end to end. Results: the count, if there is a ``start``; the last
    values of the carries that are results; the ys.
    """

    name: str
    phases: tuple[Phase, ...]
    consts: tuple[int, ...] = ()
    xs: tuple[int, ...] = ()
    ys: tuple[int, ...] = ()
    streams: tuple[int, ...] = ()
    counted: bool = False
    start: Tape | None = None
    start_reads: tuple[Place, ...] = ()
    pulled: dict[Any, Any] = field(default_factory=dict, init=False)
    """What `pull_parts` has made of it, to be made only once."""

    @property
    def tapes(self) -> tuple[Tape, ...]:
        own = () if self.start is None else (self.start,)
        return (*own, *(phase.body for phase in self.phases))

    @cached_property
    def inits(self) -> tuple[int, ...]:
        return tuple(size for phase in self.phases for size in phase.carries)

    def narrowed(
        self, p: Parameters, needed: Sequence[bool]
    ) -> tuple["Loop", list[int], list[bool]] | None:
        from tapeflow.loops.trim import trimmed

        n_counts = int(self.start is not None)
        n_finals = len(needed) - n_counts - len(self.ys)
        flags = list(needed[n_counts:])
        if all(flags):
            return None
        found = trimmed(self, flags[:n_finals], flags[n_finals:])
        # The count stays: a pullback needs it.
        return found.loop, found.operands(self), [True] * n_counts + flags

    def work(self, p: Parameters) -> int:
        steps = int(p[0]) if p[0] >= 0 else _STEPS
        return steps * sum(work_of(phase.body) for phase in self.phases)

    def parts(self, p: Parameters) -> list[int]:
        last = [phase.carries[k] for phase in self.phases for k in phase.results]
        count = [1] if self.start is not None else []
        return [*count, *last, *(int(p[0]) * size for size in self.ys)]

    def sizes(self, p: Parameters) -> Sizes:  # type: ignore[override]
        require(len(p) == 1)
        require(p[0] >= 0 or (p[0] == -1 and not self.xs and not self.ys))
        require((p[0] == -1) == (self.counted or self.start is not None))
        count = [1] if self.counted else []
        xs = [int(p[0]) * size for size in self.xs]
        return (*count, *self.consts, *self.inits, *xs), sum(self.parts(p))

    def forward(self, p: Parameters, *operands: Array) -> Array:  # type: ignore[override]
        """The slow oracle's: step by step in NumPy, and sample by sample if their counts differ."""
        lanes = max(operand.shape[1] for operand in operands)
        if p[0] == -1 and lanes > 1:
            columns = [[x[:, k : k + 1] for x in operands] for k in range(lanes)]
            return np.concatenate([self.forward(p, *column) for column in columns], axis=1)
        return _Run(self, int(p[0]), operands, lanes).results

    def pull_parts(
        self,
        p: Parameters,
        wanted: Sequence[bool],
        operands: Sequence[Value],
        results: Sequence[Value],
        flowing: Sequence[Value | None],
    ) -> Sequence[Value | None]:
        from tapeflow.loops.reversal import pull

        return pull(self, p, wanted, operands, results, flowing)


class _Run:
    """One evaluation by the slow oracle."""

    def __init__(self, loop: Loop, steps: int, operands: Sequence[Array], lanes: int) -> None:
        self.lanes = lanes
        rest = list(operands)
        if loop.counted:
            count = float(rest.pop(0)[0, 0])
            steps = int(count) if count > 0.0 else 0
        self.consts = [rest.pop(0) for _ in loop.consts]
        inits = [rest.pop(0) for _ in loop.inits]
        self.xs = [
            x.reshape(steps, size, x.shape[1]) for x, size in zip(rest, loop.xs, strict=True)
        ]
        self.ys = [np.empty((steps, size, lanes)) for size in loop.ys]
        self.streams: list[Any] = [[None] * max(steps, 0) for _ in loop.streams]
        results: list[Array] = []
        ends = list(accumulate((phase.n_carries for phase in loop.phases), initial=0))
        for phase, first, last in zip(loop.phases, ends[:-1], ends[1:], strict=True):
            if loop.start is not None:
                steps, carries = self._until(loop, phase, inits[first:last])
                results.append(np.full((1, lanes), float(steps)))
            else:
                carries = self._counted(phase, inits[first:last], steps)
            results += [carries[k] for k in phase.results]
        results += [y.reshape(-1, lanes) for y in self.ys]
        wide = [np.broadcast_to(x, (len(x), lanes)) for x in results]
        self.results = np.concatenate([np.empty((0, lanes)), *wide])

    def _counted(self, phase: Phase, carries: list[Array], steps: int) -> list[Array]:
        for i in range(steps - 1, -1, -1) if phase.reverse else range(steps):
            outputs = self._evaluate(phase.body, phase.reads, carries, i)
            carries = outputs[: phase.n_carries]
            for (kind, k), value in zip(phase.writes, outputs[phase.n_carries :], strict=True):
                (self.ys if kind == "y" else self.streams)[k][i] = value
        return carries

    def _until(self, loop: Loop, phase: Phase, carries: list[Array]) -> tuple[int, list[Array]]:
        assert loop.start is not None
        (go,) = self._evaluate(loop.start, loop.start_reads, carries, 0)
        steps = 0
        while go[0, 0] != 0.0:
            *carries, go = self._evaluate(phase.body, phase.reads, carries, 0)
            steps += 1
        return steps, carries

    def _evaluate(
        self, body: Tape, reads: Sequence[Place], carries: Sequence[Array], i: int
    ) -> list[Array]:
        index = [np.full((1, 1), float(i))]
        places: dict[str, Any] = {"const": self.consts, "carry": carries, "index": index}
        inputs = [
            places[kind][k] if kind in places else (self.xs if kind == "x" else self.streams)[k][i]
            for kind, k in reads
        ]
        return evaluate(body, inputs, self.lanes)


def evaluate(body: Tape, inputs: Sequence[Array], lanes: int) -> list[Floats]:
    """The leaves of a tape's result, each of shape (size, lanes), by the slow oracle."""
    wide = [np.broadcast_to(x, (len(x), lanes)) for x in inputs]
    values = reference.forward(body, np.concatenate([np.empty((0, lanes)), *wide]))
    bounds = body.output_structure.bounds
    return [values[body.outputs[first:last]] for first, last in bounds]
