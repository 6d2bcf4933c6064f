"""Which numbers of a tape depend on which: its instructions as a graph of single numbers.

What an op reaches is read off its rule: an operand counts if its partial is not the number zero
that says nothing flows back. Ops on whole arrays say it in their own classes (``reaches``).
"""

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapeflow import grid
from tapeflow.arrays.base import Reach
from tapeflow.ops import BY_OPCODE, FIRST_GATE, Op
from tapeflow.recorder import Recorder
from tapeflow.structure import Ints
from tapeflow.tape import Tape
from tapeflow.tracers import Tracer
from tapeflow.transforms.sweep import is_zero, partials_of

Nodes = npt.NDArray[np.int32]


class Graph(NamedTuple):
    """Nodes in an order in which each depends only on those before it.

    sources[starts[k]:starts[k + 1]] are the nodes that node k depends on. of_slot: the node of each
    slot; the inputs come first. There are nodes besides, for what is reached by way of a group.
    """

    starts: Ints
    sources: Nodes
    of_slot: Nodes


@functools.lru_cache(maxsize=1024)
def flows(op: Op) -> tuple[bool, ...]:
    """Through which operands of an op on numbers a derivative flows, by its rule."""
    if op.zero_derivative:
        return (False,) * op.arity
    if op.python is not None:
        return (True,) * op.arity
    recorder = Recorder(op.arity)
    with recorder:
        partials = partials_of(op, [Tracer(recorder, slot) for slot in range(op.arity)])
    return tuple(not is_zero(partial) for partial in partials)


def graph_of(tape: Tape) -> Graph:
    """What each slot of a tape depends on."""
    return _Builder(tape).run()


class _Builder:
    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        # 32 bits, as on the tape: half the memory that is gone through.
        self.of_slot = np.arange(tape.n_slots, dtype=np.int32)
        self.n_nodes = int(tape.slots[0])
        self.edges: list[tuple[Nodes, Nodes]] = []

    def run(self) -> Graph:
        from tapeflow.sparsity.walks import group_edges

        tape = self.tape
        arrays = np.zeros(FIRST_GATE + len(tape.gates), np.bool_)
        arrays[[op.opcode for op in BY_OPCODE.values() if op.array is not None]] = True
        wide = (np.diff(tape.parameter_starts) > 0) | arrays[tape.opcodes]
        first = 0
        for i in np.flatnonzero(wide).tolist():
            self._numbers(first, i)
            self._wide(i)
            first = i + 1
        self._numbers(first, len(tape))
        columns = zip(*self.edges, strict=True)
        targets, sources = (np.concatenate([np.empty(0, np.int32), *own]) for own in columns)
        starts, sources = group_edges(targets, sources, self.n_nodes)
        return Graph(starts, sources, self.of_slot)

    def _place(self, first: int, last: int) -> None:
        """Give the results of some instructions the next nodes."""
        tape = self.tape
        a, b = int(tape.slots[first]), int(tape.slots[last])
        self.of_slot[a:b] = np.arange(self.n_nodes, self.n_nodes + b - a, dtype=np.int32)
        self.n_nodes += b - a

    def _numbers(self, first: int, last: int) -> None:
        """The edges of instructions on single numbers."""
        tape = self.tape
        self._place(first, last)
        a, b = int(tape.starts[first]), int(tape.starts[last])
        arities = np.diff(tape.starts[first : last + 1])
        operands = tape.operands[a:b]
        k = np.arange(a, b) - np.repeat(tape.starts[first:last], arities)
        opcodes = np.repeat(tape.opcodes[first:last], arities)
        flowing = np.zeros((FIRST_GATE + len(tape.gates), int(arities.max(initial=0))), np.bool_)
        for opcode in np.unique(tape.opcodes[first:last]).tolist():
            own = flows(tape.op_of(opcode))
            flowing[opcode, : len(own)] = own
        constant = (operands >= tape.n_inputs) & (operands < tape.slots[0])
        kept = flowing[opcodes, k] & ~constant
        results = self.of_slot[np.repeat(tape.slots[first:last], arities)[kept]]
        self.edges.append((results, self.of_slot[operands[kept]]))

    def _wide(self, i: int) -> None:
        """The edges of an instruction on arrays."""
        tape, op = self.tape, self.tape.op(i)
        parameters = tape.parameters_of(i)
        slots, (sizes, size) = tape.operands_of(i).tolist(), tape.runs_of(i)
        if op.array is not None:
            reaches = list(op.array.reaches(parameters.tolist()))
        else:
            reaches = [
                Reach(k, np.arange(n), grid.places(parameters, k))
                for k, (n, own) in enumerate(zip(sizes, flows(op), strict=True))
                if own and size
            ]
        varying = [own for own in reaches if not self._is_constant(slots[own.operand])]
        through = [self._groups(own, slots[own.operand]) for own in varying]
        self._place(i, i + 1)
        results = self.of_slot[tape.slots[i] : tape.slots[i + 1]]
        for reach, groups in zip(varying, through, strict=True):
            taking = np.flatnonzero(reach.takes >= 0)
            self.edges.append((results[taking], groups[reach.takes[taking]]))

    def _is_constant(self, slot: int) -> bool:
        return bool(self.tape.n_inputs <= slot < self.tape.slots[0])

    def _groups(self, reach: Reach, slot: int) -> Nodes:
        """The node of each group: that of its only number, or one made for it."""
        own = self.of_slot[slot : slot + len(reach.gives)]
        giving = reach.gives >= 0
        n_groups = 1 + max(reach.gives.max(initial=-1), reach.takes.max(initial=-1))
        counts = np.bincount(reach.gives[giving], minlength=n_groups)
        groups = np.full(n_groups, -1, np.int32)
        groups[reach.gives[giving]] = own[giving]
        made = np.flatnonzero((counts != 1) | bool(reach.chained))
        groups[made] = self.n_nodes + np.arange(len(made))
        self.n_nodes += len(made)
        through = giving & ((counts != 1) | bool(reach.chained))[reach.gives]
        self.edges.append((groups[reach.gives[through]], own[through]))
        if reach.chained:
            after = np.flatnonzero(np.arange(n_groups) % max(reach.period, 1) >= reach.chained)
            self.edges.append((groups[after], groups[after - reach.chained]))
        return groups
