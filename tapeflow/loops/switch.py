"""A branch: one instruction, of whose tapes one is run, the one that its index names."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeflow.arrays.base import Array, Parameters, Sizes, SubTapes, Value, require
from tapeflow.loops.bodies import (
    choosing,
    inputs_read,
    recorded,
    replayed,
    sizes_of,
    taking,
    work_of,
)
from tapeflow.loops.loop import evaluate
from tapeflow.tape import Tape
from tapeflow.tracers import lift
from tapeflow.transforms.reverse import pullback


@dataclass(frozen=True, eq=False)
class Switch(SubTapes):
    """A choice among branches, whose results are alike.

    lengths: of the operands that follow the index. reads: for each branch, which of them each leaf
    of its inputs is. An index is cut to an integer, and to the branches that there are: below the
    first, and NaN, is the first. The instruction's parameter is the number of branches.
    """

    name: str
    branches: tuple[Tape, ...]
    lengths: tuple[int, ...]
    reads: tuple[tuple[int, ...], ...]
    pulled: dict[Any, Any] = field(default_factory=dict, init=False)
    """What `pull_parts` has made of it, to be made only once."""

    @property
    def tapes(self) -> tuple[Tape, ...]:
        return self.branches

    def narrowed(
        self, p: Parameters, needed: Sequence[bool]
    ) -> tuple["Switch", list[int], list[bool]] | None:
        own = [k for k, flag in enumerate(needed) if flag]
        branches, reads = [], []
        for branch, places in zip(self.branches, self.reads, strict=True):
            chosen = choosing(branch, own)
            kept = [k for k, flag in enumerate(inputs_read(chosen)) if flag]
            branches.append(taking(chosen, kept))
            reads.append([places[k] for k in kept])
        operands = sorted({k for places in reads for k in places})
        found = Switch(
            self.name,
            tuple(branches),
            tuple(self.lengths[k] for k in operands),
            tuple(tuple(operands.index(k) for k in places) for places in reads),
        )
        return found, [0, *(1 + k for k in operands)], list(needed)

    def work(self, p: Parameters) -> int:
        return max(map(work_of, self.branches))

    def parts(self, p: Parameters) -> list[int]:
        return sizes_of(self.branches[0].output_structure)

    def sizes(self, p: Parameters) -> Sizes:  # type: ignore[override]
        require(len(p) == 1 and p[0] == len(self.branches))
        return (1, *self.lengths), sum(self.parts(p))

    def forward(self, p: Parameters, *operands: Array) -> Array:  # type: ignore[override]
        """The slow oracle's: each branch on the samples that take it."""
        lanes = max(operand.shape[1] for operand in operands)
        index, *rest = (np.broadcast_to(x, (len(x), lanes)) for x in operands)
        last = len(self.branches) - 1
        chosen = np.clip(np.nan_to_num(index[0], posinf=last, neginf=0), 0, last).astype(int)
        results = np.empty((sum(self.parts(p)), lanes))
        for k in np.unique(chosen).tolist():
            own = chosen == k
            inputs = [rest[j][:, own] for j in self.reads[k]]
            found = evaluate(self.branches[k], inputs, int(own.sum()))
            results[:, own] = np.concatenate([np.empty((0, int(own.sum()))), *found])
        return results

    def pull_parts(
        self,
        p: Parameters,
        wanted: Sequence[bool],
        operands: Sequence[Value],
        results: Sequence[Value],
        flowing: Sequence[Value | None],
    ) -> Sequence[Value | None]:
        from tapeflow.loops.record import record

        flags = tuple(flow is not None for flow in flowing)
        own = [k for k, flag in enumerate(wanted[1:]) if flag]
        key = tuple(own), flags
        if key not in self.pulled:
            self.pulled[key] = self._pullback(own, [k for k, flag in enumerate(flags) if flag])
        flows = [flow for flow in flowing if flow is not None]
        found = record(self.pulled[key], p, [*operands, *flows])
        cotangents: list[Value | None] = [None] * len(operands)
        for k, value in zip(own, found, strict=True):
            cotangents[1 + k] = value
        return cotangents

    def _pullback(self, wanted: Sequence[int], flows: Sequence[int]) -> "Switch":
        """The branch whose branches are the pullbacks of these; flows: parts of the result."""
        sizes = sizes_of(self.branches[0].output_structure)
        n = len(self.lengths)
        seeds = tuple(range(n, n + len(flows)))
        branches = [
            self._pulled_branch(branch, reads, wanted, flows)
            for branch, reads in zip(self.branches, self.reads, strict=True)
        ]
        return Switch(
            f"pullback of {self.name.removeprefix('pullback of ')}",
            tuple(branches),
            (*self.lengths, *(sizes[k] for k in flows)),
            tuple((*reads, *seeds) for reads in self.reads),
        )

    def _pulled_branch(
        self, branch: Tape, reads: Sequence[int], wanted: Sequence[int], flows: Sequence[int]
    ) -> Tape:
        pulled = pullback(choosing(branch, flows), [k in wanted for k in reads])
        sizes = [*sizes_of(branch.input_structure), *(self.parts(())[k] for k in flows)]

        def function(*values: Any) -> list[Any]:
            runs = [lift(value).reshape(-1) for value in values[len(reads) :]]
            found = replayed(pulled, [*values[: len(reads)], np.concatenate(runs)])
            gradients: dict[int, Any] = {}
            own = (k for k in reads if k in wanted)
            for k, gradient in zip(own, found[len(flows) :], strict=True):
                run = lift(gradient).reshape(-1)
                gradients[k] = run if k not in gradients else gradients[k] + run
            return [gradients.get(k, np.full(self.lengths[k], -0.0)) for k in wanted]

        names = [*branch.input_names, *(f"d{k}" for k in range(len(flows)))]
        return recorded(f"pullback of {branch.name}", sizes, names, function)
