"""Kernels of elementwise instructions on arrays: a run of steps over a grid (see `grid`).

A kernel is called as the others are. Its record is: three lengths of outer loops, the length of
the inner one, the places of its results, and for each input its place and its stride along each
outer loop. The inner loop covers ``length * lanes`` numbers, eight at a time: in the last round
it goes back so far that it ends with the last number, or, where there is one row alone, it runs
over into the padding that every run of more than one number has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from tapeflow.backend import Float
from tapeflow.kernels.emit import WIDTH, Emitter
from tapeflow.ops import FIRST_GATE, Op

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_POINTER, _DOUBLE = ir.PointerType(), ir.DoubleType()
_LOOPS = 3


@dataclass(frozen=True)
class Step:
    """One op of a kernel. Operands: numbers below the count of inputs, or that plus a step's."""

    op: Op
    operands: tuple[int, ...]


@dataclass(frozen=True)
class GridKernel:
    """What a kernel is for.

    inputs: for each, whether it lies in single numbers (not in rows of lanes), and whether the
    inner loop reads one number after the other or repeats one. outputs: the steps that are stored.
    """

    steps: tuple[Step, ...]
    inputs: tuple[tuple[bool, bool], ...]
    outputs: tuple[int, ...]

    @property
    def has_gate(self) -> bool:
        return any(step.op.opcode >= FIRST_GATE for step in self.steps)

    @property
    def symbol(self) -> str:
        steps = "_".join(
            "gate" if step.op.opcode >= FIRST_GATE else
            f"{step.op.name}.{'.'.join(map(str, step.operands))}"
            for step in self.steps
        )  # fmt: skip
        inputs = "".join(f"{'s' if shared else 'r'}{int(full)}" for shared, full in self.inputs)
        return f"grid_{inputs}_{steps}_{'.'.join(map(str, self.outputs))}"

    @property
    def python(self) -> None:
        return None

    def emit(self) -> str:
        """The kernel as LLVM IR."""
        module = ir.Module("grid")
        signature = ir.FunctionType(ir.VoidType(), [_POINTER] * 4 + [_I64])
        function = ir.Function(module, signature, self.symbol)
        _Writer(self, function).write()
        return str(module)


class _Writer:
    def __init__(self, kernel: GridKernel, function: ir.Function) -> None:
        self.kernel, self.function = kernel, function
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.values, _, self.single, self.record, self.lanes = function.args

    def _entry(self, position: int) -> ir.Value:
        at = self.builder.gep(self.record, [_number(position)], source_etype=_I32)
        return self.builder.sext(self.builder.load(at, typ=_I32, align=4), _I64)

    def _offset(self, base: ir.Value, offset: ir.Value) -> ir.Value:
        return self.builder.gep(base, [offset], source_etype=_DOUBLE)

    def write(self) -> None:
        b, kernel = self.builder, self.kernel
        lengths = [self._entry(k) for k in range(_LOOPS)]
        count = b.mul(self._entry(_LOOPS), self.lanes)
        first = _LOOPS + 1
        results = [
            self._offset(self.values, b.mul(self._entry(first + k), self.lanes))
            for k in range(len(kernel.outputs))
        ]
        first += len(kernel.outputs)
        inputs = []
        for k, (shared, _) in enumerate(kernel.inputs):
            entries = [self._entry(first + (1 + _LOOPS) * k + j) for j in range(1 + _LOOPS)]
            if not shared:
                entries = [b.mul(entry, self.lanes) for entry in entries]
            start = self._offset(self.single if shared else self.values, entries[0])
            inputs.append((start, entries[1:]))
        several = b.mul(b.mul(lengths[0], lengths[1]), lengths[2])
        several = b.icmp_signed(">", several, _number(1))
        self._loops(lengths, count, several, results, inputs)
        b.ret_void()

    def _loops(
        self,
        lengths: Sequence[ir.Value],
        count: ir.Value,
        several: ir.Value,
        results: Sequence[ir.Value],
        inputs: Sequence[tuple[ir.Value, Sequence[ir.Value]]],
    ) -> None:
        """Three outer loops, each ending where the one around it goes on."""
        b, counters = self.builder, []
        ends = []
        for length in lengths:
            counter, end = self._open(length)
            counters.append(counter)
            ends.append((counter, end, length))
        row = b.add(
            b.mul(b.add(b.mul(counters[0], lengths[1]), counters[1]), lengths[2]), counters[2]
        )
        row = b.mul(row, count)
        targets = [self._offset(result, row) for result in results]
        sources = []
        for start, strides in inputs:
            offset = _number(0)
            for counter, stride in zip(counters, strides, strict=True):
                offset = b.add(offset, b.mul(counter, stride))
            sources.append(self._offset(start, offset))
        self._inner(count, several, targets, sources)
        for counter, end, length in reversed(ends):
            following = b.add(counter, _number(1))
            counter.add_incoming(following, b.block)
            b.cbranch(b.icmp_signed("<", following, length), counter.parent, end)
            b.position_at_end(end)

    def _open(self, length: ir.Value) -> tuple[Any, ir.Block]:
        b = self.builder
        loop, end = self.function.append_basic_block(), self.function.append_basic_block()
        before = b.block
        b.branch(loop)
        b.position_at_end(loop)
        counter = b.phi(_I64)
        counter.add_incoming(_number(0), before)
        return counter, end

    def _inner(
        self,
        count: ir.Value,
        several: ir.Value,
        targets: Sequence[ir.Value],
        sources: Sequence[ir.Value],
    ) -> None:
        b, kernel = self.builder, self.kernel
        emitter = Emitter(b, WIDTH)
        repeated = {
            k: Float(emitter, emitter.splat(b.load(source, typ=_DOUBLE, align=8)))
            for k, source in enumerate(sources)
            if not kernel.inputs[k][1]
        }
        place, end = self._open(count)
        loop = place.parent
        values: list[Any] = []
        for k, source in enumerate(sources):
            if k in repeated:
                values.append(repeated[k])
                continue
            at = self._offset(source, place)
            values.append(Float(emitter, b.load(at, typ=emitter.float_type, align=8)))
        for step in kernel.steps:
            result, _ = step.op.rule(*(values[k] for k in step.operands))
            values.append(emitter.float(result))
        for target, step_number in zip(targets, kernel.outputs, strict=True):
            value = values[len(sources) + step_number]
            b.store(value.value, self._offset(target, place), align=8)
        # The last round goes back to end with the row, unless there is one row alone.
        following = b.add(place, _number(WIDTH))
        last = b.sub(count, _number(WIDTH))
        back = b.and_(several, b.icmp_signed(">", following, last))
        more = b.icmp_signed("<", following, count)
        place.add_incoming(b.select(back, last, following), b.block)
        b.cbranch(more, loop, end)
        b.position_at_end(end)


def _number(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)
