"""A tape with arrays made ready to run forward: its kernels, and where its values lie.

As in `program`, what does not depend on the lanes is *shared*: computed once, among single
numbers; the rest lies in rows of lanes. Gradients are values like others here: the tape is a
pullback.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.arrays import SubTapes
from tapeflow.engine import failures, pieces
from tapeflow.engine.array_kernels import array_kernel
from tapeflow.engine.groups import Flags
from tapeflow.engine.loop_kernels import control_kernel
from tapeflow.engine.program import Code
from tapeflow.kernels.body import FORWARD, Kernel, body_of
from tapeflow.kernels.compiler import addresses
from tapeflow.kernels.grid_kernel import GridKernel, Step
from tapeflow.kernels.host import HostKernel
from tapeflow.ops import FIRST_GATE
from tapeflow.passes import fusion
from tapeflow.structure import Ints
from tapeflow.tape import Tape

PAD = 8
"""Runs of more than one single number start at a multiple of this, and are padded to one."""


_NUMBERS = 32
"""Numbers of an array that take about as long as one instruction on numbers."""


class ArrayProgram:
    """A tape with its kernels, for inputs that differ by lane.

    lane: one flag an input slot. left_out: instructions whose results the batch sums as products
    of their operands, and which have neither rows nor code.
    """

    def __init__(
        self, tape: Tape, lane: Flags, fuse: bool = True, left_out: Sequence[int] = ()
    ) -> None:
        self.tape, self.fuse, self.left_out = tape, fuse, left_out
        self.runs = [tape.runs_of(i) for i in range(len(tape))]
        self.lane = np.zeros(tape.n_slots, np.bool_)
        self.lane[: tape.n_inputs] = lane
        self._propagate()
        rows = self.lane.copy()
        for i in left_out:
            rows[tape.slots[i] : tape.slots[i + 1]] = False
        # On one sample nothing has a row: then there is no number for each slot.
        some = rows.any()
        self.value_rows = (
            np.where(rows, np.cumsum(rows) - 1, -1)
            if some
            else np.broadcast_to(np.int64(-1), rows.shape)
        )
        # One more to put products in, where there are some.
        self.n_value_rows = int(rows.sum()) + bool(left_out)
        owners = np.array(
            [size > 0 and self.lane[tape.slots[i]] for i, (_, size) in enumerate(self.runs)], bool
        )
        owners[list(left_out)] = False
        filled = np.array([size > 0 for _, size in self.runs], bool)
        filled[list(left_out)] = False
        shared = np.flatnonzero(~owners & filled)
        groups = self._groups(shared)
        self.places, self.n_places = self._place(groups)
        # There is no reverse sweep: what a `Program` has for one is empty.
        self.n_cotangent_rows = self.n_pointers = 0
        self.segmented = False
        self.cotangent_rows = np.empty(0, np.int64)
        self.shared_reverse = self.lane_reverse = Code(np.empty(0, np.int32), np.empty(0, np.int64))
        self.host: list[HostKernel] = []
        self.controls: list[Any] = []
        # Where the pieces of a large instruction begin in the shared code: place in the stream,
        # instructions before, and how many.
        self.parallel: list[tuple[int, int, int]] = []
        self.shared_forward = self._code(groups, False)
        self.lane_forward = self._code(self._groups(np.flatnonzero(owners)), True)
        self.work = sum(map(self._work, np.flatnonzero(owners).tolist()))

    def _work(self, i: int) -> int:
        """About how many instructions on numbers one on arrays stands for, in a lane."""
        rule, (sizes, size) = self.tape.op(i).array, self.runs[i]
        # A product with a vector has as many terms as its matrix has numbers.
        inside = rule.work(self.tape.parameters_of(i).tolist()) if isinstance(rule, SubTapes) else 0
        return inside + 1 + (size + sum(sizes)) // _NUMBERS

    def _propagate(self) -> None:
        """Mark the results that differ by lane."""
        tape, lane = self.tape, self.lane
        for i, (sizes, _) in enumerate(self.runs):
            own = slice(int(tape.slots[i]), int(tape.slots[i + 1]))
            runs = zip(tape.operands_of(i).tolist(), sizes, strict=True)
            lane[own] = any(size and lane[slot] for slot, size in runs)

    def _groups(self, instructions: Ints) -> list[list[int]]:
        """Instructions in the order they run, those that one kernel computes together."""
        if self.fuse:
            return fusion.groups(self.tape, instructions)
        return [[i] for i in instructions.tolist()]

    def _place(self, groups: Sequence[Sequence[int]]) -> tuple[Ints, int]:
        """Where each slot's single number is, and how many there is room for.

        On one sample, what a kernel keeps to itself has no place, and a run that no instruction
        will read again gives its place to another of its length.
        """
        tape = self.tape
        places = np.arange(tape.n_slots)
        end = int(tape.slots[0])
        reuse = self.fuse and not self.lane.any()
        if not reuse:
            # In the tape's order, as in the program with a kernel for each instruction.
            groups = [[i] for i in sorted(i for group in groups for i in group)]
        free: dict[int, list[int]] = {}
        ends = self._ends(groups) if reuse else [[]] * len(groups)
        for group, dead in zip(groups, ends, strict=True):
            for i in group:
                slot, size = int(tape.slots[i]), self.runs[i][1]
                if len(group) > 1 and not self._read_outside(i, group):
                    continue  # its kernel does not store it
                room = size if size <= 1 else -(-size // PAD) * PAD
                if size > 1 and free.get(room):
                    first = free[room].pop()
                else:
                    first = end if size <= 1 else -(-end // PAD) * PAD
                    end = first + room
                places[slot : slot + size] = first + np.arange(size)
            for i in dead:
                room = -(-self.runs[i][1] // PAD) * PAD
                free.setdefault(room, []).append(int(places[tape.slots[i]]))
        return places, end + PAD

    def _ends(self, groups: Sequence[Sequence[int]]) -> list[list[int]]:
        """The results, of more than one number, that are not read again after each group."""
        steps = {i: step for step, group in enumerate(groups) for i in group}
        looked_at = [i for i in steps if failures.message_of(self.tape.op(i))]
        kept = {i for i in steps if self.outputs[i]}.union(looked_at)
        kept |= {i for i in steps if not self.readers[i].isdisjoint(looked_at)}
        ends: list[list[int]] = [[] for _ in groups]
        for i, step in steps.items():
            stored = len(groups[step]) == 1 or self._read_outside(i, groups[step])
            if i not in kept and stored and self.runs[i][1] > 1:
                last = max(
                    (steps[reader] for reader in self.readers[i] & steps.keys()), default=step
                )
                ends[last].append(i)
        return ends

    @cached_property
    def unfused(self) -> "ArrayProgram":
        """The same, with a kernel for each instruction, and every result stored."""
        # What is left out as well: it is looked at in the rows.
        lane = self.lane[: self.tape.n_inputs]
        return ArrayProgram(self.tape, lane, False) if self.fuse else self

    def _code(self, groups: list[list[int]], lanes: bool) -> Code:
        made = [
            self._instruction(group[0], lanes) if len(group) == 1 else self._fused(group, lanes)
            for group in groups
        ]
        compiled = [kernel for kernel, _ in made if not isinstance(kernel, (HostKernel, int))]
        found = dict(zip(compiled, addresses(compiled), strict=True))
        stream: list[int] = []
        order: list[int] = []
        for (kernel, record), group in zip(made, groups, strict=True):
            if isinstance(kernel, HostKernel):
                place = kernel.address
            else:
                place = kernel if isinstance(kernel, int) else found[kernel]
            halves = np.array([place], np.int64).view(np.int32).tolist()
            cut = self.fuse and not lanes
            records = self._pieces(kernel, record, group) if cut else [record]
            if len(records) > 1:
                self.parallel.append((len(stream), len(order), len(records)))
            for own in records:
                stream += [3 + len(own), *halves, *own]
                order.append(group[-1])
        return Code(np.array(stream, np.int32), np.array(order, np.int64))

    def _pieces(self, kernel: Any, record: list[int], group: list[int]) -> list[list[int]]:
        """The records of an instruction's pieces, for threads; or its own alone."""
        if isinstance(kernel, GridKernel):
            full = [full for _, full in kernel.inputs]
            return pieces.of_grid(record, len(kernel.outputs), full, len(kernel.steps))
        if isinstance(kernel, int) and self.tape.op(group[0]).name in ("sum", "amax"):
            return pieces.of_reduction(record)
        return [record]

    def _fused(self, group: list[int], lanes: bool) -> tuple[GridKernel, list[int]]:
        """One kernel for several elementwise instructions; only what others read is stored."""
        tape = self.tape
        own = {int(tape.slots[i]): k for k, i in enumerate(group)}
        lengths = next(
            (
                p[: grid.AXES]
                for p in (tape.parameters_of(i).tolist() for i in group)
                if not fusion.is_free(p, len(p) // grid.AXES - 1)
            ),
            [1, 1, self.runs[group[0]][1]],
        )
        inputs: dict[tuple[int, ...], int] = {}
        read: list[list[tuple[bool, int]]] = []
        for i in group:
            p = tape.parameters_of(i).tolist()
            operands = []
            for k, slot in enumerate(tape.operands_of(i).tolist()):
                if slot in own:
                    operands.append((True, own[slot]))
                    continue
                strides = fusion.strides_on(lengths, p, k)
                operands.append((False, inputs.setdefault((slot, *strides), len(inputs))))
            read.append(operands)
        steps = tuple(
            Step(tape.op(i), tuple(k + len(inputs) * inside for inside, k in operands))
            for i, operands in zip(group, read, strict=True)
        )
        stored = [k for k, i in enumerate(group) if self._read_outside(i, group)]
        results = [self._result(group[k], lanes) for k in stored]
        columns = [
            (self._is_shared(slot, 1, lanes), self._operand(slot, 1, lanes), strides)
            for slot, *strides in inputs
        ]
        return _grid(steps, tuple(stored), lengths, columns, results, lanes)

    def _read_outside(self, i: int, group: Sequence[int]) -> bool:
        """Whether an instruction's result is read by others than its group, or is a result."""
        return self.outputs[i] or not self.readers[i].issubset(group)

    @cached_property
    def readers(self) -> list[set[int]]:
        """The instructions that read each one's result."""
        readers: list[set[int]] = [set() for _ in self.runs]
        first = self.tape.slots[:-1]
        for i in range(len(self.tape)):
            for slot in self.tape.operands_of(i).tolist():
                if slot >= self.tape.slots[0]:
                    readers[int(np.searchsorted(first, slot, "right")) - 1].add(i)
        return readers

    @cached_property
    def outputs(self) -> list[bool]:
        """Whether a number of each instruction's result is one of the tape's."""
        flags = np.zeros(len(self.tape) + 1, np.bool_)
        # What comes before the first result is put last, and left out.
        flags[np.searchsorted(self.tape.slots, self.tape.outputs, "right") - 1] = True
        flagged: list[bool] = flags[:-1].tolist()
        return flagged

    def _is_shared(self, slot: int, size: int, lanes: bool) -> bool:
        return lanes and not (size and bool(self.lane[slot]))

    def _operand(self, slot: int, size: int, lanes: bool) -> int:
        """Where an operand lies: its row of lanes, or its place among single numbers."""
        if not size:
            return 0
        rows = lanes and bool(self.lane[slot])
        return int(self.value_rows[slot] if rows else self.places[slot])

    def _result(self, i: int, lanes: bool) -> int:
        slot = int(self.tape.slots[i])
        return int(self.value_rows[slot] if lanes else self.places[slot])

    def _instruction(self, i: int, lanes: bool) -> tuple[Any, list[int]]:
        """An instruction's kernel and record."""
        tape, op = self.tape, self.tape.op(i)
        sizes, size = self.runs[i]
        slots = tape.operands_of(i).tolist()
        parameters = tape.parameters_of(i).tolist()
        shared = [self._is_shared(slot, n, lanes) for slot, n in zip(slots, sizes, strict=True)]
        places = [self._operand(slot, n, lanes) for slot, n in zip(slots, sizes, strict=True)]
        result = self._result(i, lanes)
        if isinstance(op.array, SubTapes):
            made = control_kernel(
                op.array, parameters, [result, *places], shared, lanes, ArrayProgram
            )
            if made is not None:
                self.controls.append(made)
                return made.address, made.record
        elif op.array is not None:
            name = op.name if op.opcode < FIRST_GATE else getattr(op.array, "kernel", "")
            found = array_kernel(name, parameters, (sizes, size), [result, *places], shared, lanes)
            if found is not None:
                return found
        if op.array is not None or op.host:
            host = HostKernel(op, parameters, (sizes, size), shared)
            self.host.append(host)
            return host, [result, *places]
        if not parameters:
            mask = sum(own << k for k, own in enumerate(shared))
            return Kernel(body_of(op), FORWARD, lanes, mask), [result, *places]
        strides = [parameters[grid.AXES * (1 + k) : grid.AXES * (2 + k)] for k in range(op.arity)]
        columns = list(zip(shared, places, strides, strict=True))
        step = Step(op, tuple(range(op.arity)))
        return _grid((step,), (0,), parameters[: grid.AXES], columns, [result], lanes)

    @property
    def has_python_gates(self) -> bool:
        return bool(self.host) or any(gate.python is not None for gate in self.tape.gates)


def _grid(
    steps: tuple[Step, ...],
    stored: tuple[int, ...],
    lengths: Sequence[int],
    columns: Sequence[tuple[bool, int, list[int]]],
    results: Sequence[int],
    lanes: bool,
) -> tuple[GridKernel, list[int]]:
    """The kernel and record of elementwise instructions on a grid.

    columns: for each input, whether it is shared, its place, and its strides on the grid. Among
    single numbers the inner loop is the grid's last axis. In rows of lanes it is the lanes; or
    both, where every input has a row for each of the last axis.
    """
    along = [strides[-1] == 1 for _, _, strides in columns]
    last_too = not lanes or (all(along) and not any(shared for shared, _, _ in columns))
    n0, n1, n2 = lengths
    record = [n0, n1, 1 if last_too else n2, n2 if last_too else 1, *results]
    for _, place, strides in columns:
        record += [place, strides[0], strides[1], 0 if last_too else strides[2]]
    inner = [
        (shared, full if not lanes else not shared)
        for (shared, _, _), full in zip(columns, along, strict=True)
    ]
    return GridKernel(steps, tuple(inner), stored), record
