"""A tape with arrays made ready to run forward: its kernels, and where its values lie.

As in `program`, what does not depend on the lanes is *shared*: computed once, among single
numbers; the rest lies in rows of lanes. Gradients are values like others here: the tape is a
pullback.
"""

from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.array_kernels import array_kernel
from tapeflow.kernels.compiler import Kernel, addresses
from tapeflow.kernels.grid_kernel import GridKernel, Step
from tapeflow.kernels.host import HostKernel
from tapeflow.program import Code, Flags
from tapeflow.structure import Ints
from tapeflow.tape import Tape

PAD = 8
"""Runs of more than one single number start at a multiple of this, and are padded to one."""


class ArrayProgram:
    """A tape with its kernels, for inputs that differ by lane. lane: one flag an input slot."""

    def __init__(self, tape: Tape, lane: Flags) -> None:
        self.tape = tape
        self.runs = [tape.runs_of(i) for i in range(len(tape))]
        self.lane = np.zeros(tape.n_slots, np.bool_)
        self.lane[: tape.n_inputs] = lane
        self._propagate()
        self.places, self.n_places = self._place()
        ranks = np.cumsum(self.lane) - 1
        self.value_rows = np.where(self.lane, ranks, -1)
        self.n_value_rows = int(self.lane.sum())
        owners = np.array(
            [size > 0 and self.lane[tape.slots[i]] for i, (_, size) in enumerate(self.runs)], bool
        )
        filled = np.array([size > 0 for _, size in self.runs], bool)
        # There is no reverse sweep: what a `Program` has for one is empty.
        self.n_cotangent_rows = 0
        self.cotangent_rows = np.empty(0, np.int64)
        self.shared_reverse = self.lane_reverse = Code(np.empty(0, np.int32), np.empty(0, np.int64))
        self.host: list[HostKernel] = []
        self.shared_forward = self._code(np.flatnonzero(~owners & filled), False)
        self.lane_forward = self._code(np.flatnonzero(owners), True)

    def _propagate(self) -> None:
        """Mark the results that differ by lane."""
        tape, lane = self.tape, self.lane
        for i, (sizes, _) in enumerate(self.runs):
            own = slice(int(tape.slots[i]), int(tape.slots[i + 1]))
            runs = zip(tape.operands_of(i).tolist(), sizes, strict=True)
            lane[own] = any(size and lane[slot] for slot, size in runs)

    def _place(self) -> tuple[Ints, int]:
        """Where each slot's single number is, and how many there is room for."""
        tape = self.tape
        places = np.arange(tape.n_slots)
        end = int(tape.slots[0])
        for i, (_, size) in enumerate(self.runs):
            slot = int(tape.slots[i])
            if size > 1:
                end = -(-end // PAD) * PAD
            places[slot : slot + size] = end + np.arange(size)
            end += size if size <= 1 else -(-size // PAD) * PAD
        return places, end + PAD

    def _code(self, instructions: Ints, lanes: bool) -> Code:
        kernels: list[Any] = []
        records: list[list[int]] = []
        for i in instructions.tolist():
            kernel, record = self._instruction(i, lanes)
            kernels.append(kernel)
            records.append(record)
        compiled = [k for k in kernels if not isinstance(k, (HostKernel, int))]
        found = dict(zip(compiled, addresses(compiled), strict=True))
        stream: list[Any] = []
        for kernel, record in zip(kernels, records, strict=True):
            if isinstance(kernel, HostKernel):
                place = kernel.address
            else:
                place = kernel if isinstance(kernel, int) else found[kernel]
            halves = np.array([place], np.int64).view(np.int32).tolist()
            stream += [3 + len(record), *halves, *record]
        return Code(np.array(stream, np.int32), instructions)

    def _instruction(self, i: int, lanes: bool) -> tuple[Any, list[int]]:
        """An instruction's kernel and record."""
        tape, op = self.tape, self.tape.op(i)
        sizes, size = self.runs[i]
        slots = tape.operands_of(i).tolist()
        parameters = tape.parameters_of(i).tolist()
        shared = [
            lanes and not (n and bool(self.lane[slot]))
            for slot, n in zip(slots, sizes, strict=True)
        ]
        places = [
            0 if not n else int(self.value_rows[slot] if lanes and not own else self.places[slot])
            for slot, n, own in zip(slots, sizes, shared, strict=True)
        ]
        slot = int(tape.slots[i])
        result = int(self.value_rows[slot] if lanes else self.places[slot])
        if op.array is not None:
            found = array_kernel(
                op.name, parameters, (sizes, size), [result, *places], shared, lanes
            )
            if found is not None:
                return found
        if op.array is not None or op.host:
            host = HostKernel(op, parameters, (sizes, size), shared)
            self.host.append(host)
            return host, [result, *places]
        if not parameters:
            mask = sum(own << k for k, own in enumerate(shared))
            return Kernel(op, False, lanes, mask, 0, False), [result, *places]
        return _grid(op, parameters, shared, places, result, lanes)

    @property
    def has_python_gates(self) -> bool:
        return bool(self.host) or any(gate.python is not None for gate in self.tape.gates)


def _grid(
    op: Any, p: list[int], shared: list[bool], places: list[int], result: int, lanes: bool
) -> tuple[GridKernel, list[int]]:
    """The kernel and record of an elementwise instruction on a grid.

    Among single numbers the inner loop is the grid's last axis. In rows of lanes it is the lanes;
    or both, where every operand has a row for each of the last axis.
    """
    strides = [p[grid.AXES * (1 + k) : grid.AXES * (2 + k)] for k in range(op.arity)]
    along = [own[-1] == 1 for own in strides]
    last_too = not lanes or (all(along) and not any(shared))
    record = [p[0], p[1], 1 if last_too else p[2], p[2] if last_too else 1, result]
    for place, own in zip(places, strides, strict=True):
        record += [place, own[0], own[1], 0 if last_too else own[2]]
    inner = [
        (own_shared, full if not lanes else not own_shared)
        for own_shared, full in zip(shared, along, strict=True)
    ]
    step = Step(op, tuple(range(op.arity)))
    return GridKernel((step,), tuple(inner), (0,)), record
