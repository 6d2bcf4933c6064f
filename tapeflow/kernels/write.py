"""Writes a body's kernel as LLVM IR, by evaluating its rules on IR values.

Products and sums come in the order in which a sweep instruction by instruction makes them, so a
body of many gives the bits that kernels of one each would.
"""

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from llvmlite import ir

from tapeflow.backend import Float, Mask
from tapeflow.kernels.body import FORWARD, REVERSE, WIDTH, Kernel
from tapeflow.kernels.emit import Emitter
from tapeflow.rules import azfma

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_POINTER, _DOUBLE = ir.PointerType(), ir.DoubleType()


_I16 = ir.IntType(16)
_CALLED = [_POINTER] * 4 + [_I64]
_THREADED = [_POINTER] * 2 + [_I64] + [_POINTER] * 3


def emit(kernel: Kernel, callback: int = 0) -> str:
    """The kernel as LLVM IR; for a threaded gate in Python, one that calls back to an address.

    A body of many is differentiated by plain products first. An absolute zero differs from those
    only where zero times infinity, or NaN, has made a NaN that reaches one of the cotangents: then
    the lanes are computed again by a second function, which is never optimised, nor often called.
    """
    module = ir.Module(kernel.symbol)
    arguments = _THREADED if kernel.threaded else _CALLED
    exact = None
    if len(kernel.body) > 1 and kernel.sweep != FORWARD:
        exact = ir.Function(module, ir.FunctionType(ir.VoidType(), [*arguments, _I64]), "exact")
        exact.linkage = "internal"
        for attribute in ("noinline", "optnone", "cold"):
            exact.attributes.add(attribute)
        builder = ir.IRBuilder(exact.append_basic_block("entry"))
        _Writer(kernel, builder, exact, None).write(exact.args[-1])
        builder.ret_void()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), kernel.symbol)
    for argument in function.args[:4]:
        if argument.type == _POINTER:
            argument.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    writer = _Writer(kernel, builder, function, exact)
    if kernel.lanes:
        _loop(builder, function, writer)
    elif callback:
        writer.call_back(callback)
    elif kernel.body.ops:
        writer.write(ir.Constant(_I64, 0))
    if kernel.threaded and kernel.body.ops:
        writer.jump()
    builder.ret_void()
    return str(module)


def _loop(builder: ir.IRBuilder, function: ir.Function, writer: "_Writer") -> None:
    """The arithmetic for all lanes, some at a time."""
    lanes = function.args[4]
    loop, end = function.append_basic_block("loop"), function.append_basic_block("end")
    entry = builder.block
    builder.branch(loop)
    builder.position_at_end(loop)
    lane = builder.phi(_I64)
    lane.add_incoming(ir.Constant(_I64, 0), entry)
    writer.write(lane)
    following = builder.add(lane, ir.Constant(_I64, WIDTH))
    lane.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, lanes), loop, end)
    builder.position_at_end(end)


class _Writer:
    """Writes the places from a kernel's record once, and the arithmetic for some lanes."""

    def __init__(
        self,
        kernel: Kernel,
        builder: ir.IRBuilder,
        function: ir.Function,
        exact: ir.Function | None,
    ) -> None:
        self.kernel, self.builder, self.function, self.exact = kernel, builder, function, exact
        self.body = kernel.body
        self.emitter = Emitter(builder, WIDTH if kernel.lanes else 1)
        self.values, self.cotangents = function.args[:2]
        if kernel.threaded:
            self._find_rows_of_threaded()
        else:
            self._find_rows()

    def _find_rows(self) -> None:
        kernel = self.kernel
        self.single, self.record, self.lanes = self.function.args[2:5]
        n, arity = len(self.body.exports), self.body.arity
        self.exports = [self._row(self.values, k) for k in range(n)]
        first = n if kernel.sweep == FORWARD else 2 * n
        # A body may read a hundred single numbers: they are loaded where they are used, and not
        # held in registers through the loop.
        self.operands = [
            self._single(first + k) if kernel.shared >> k & 1 else self._row(self.values, first + k)
            for k in range(arity)
        ]
        if kernel.sweep != FORWARD:
            self.flowing = {
                j: self._row(self.cotangents, n + k)
                for k, j in enumerate(self.body.exports)
                if kernel.flowing >> k & 1
            }
            self.totals = {
                k: self._total(first + arity + k, k) for k in range(arity) if kernel.active >> k & 1
            }
        if kernel.direct:
            self.streams = self._before_the_cotangents(ir.Constant(_I64, -1))

    def _total(self, position: int, k: int) -> ir.Value:
        if not self.kernel.direct >> k & 1:
            return self._row(self.cotangents, position)
        place = self.builder.sub(ir.Constant(_I64, -2), self._place(position))
        return self.builder.inttoptr(self._before_the_cotangents(place), _POINTER)

    def _before_the_cotangents(self, place: ir.Value) -> ir.Value:
        pointer = self.builder.gep(self.cotangents, [place], source_etype=_I64)
        return self.builder.load(pointer, typ=_I64, align=8)

    def _find_rows_of_threaded(self) -> None:
        kernel, builder = self.kernel, self.builder
        place, record = self.function.args[2:4]
        n, arity = len(self.body.exports), self.body.arity
        self.own, self.record = place, record
        if kernel.sweep != FORWARD:
            self.own = builder.sub(place, ir.Constant(_I64, n))
            self.record = builder.gep(record, [ir.Constant(_I64, -arity)], source_etype=_I32)

        def result(base: ir.Value, k: int) -> ir.Value:
            return builder.gep(
                base, [builder.add(self.own, ir.Constant(_I64, k))], source_etype=_DOUBLE
            )

        self.exports = [result(self.values, k) for k in range(n)]
        self.operands = [self._row(self.values, k) for k in range(arity)]
        self.flowing = {
            j: result(self.cotangents, k)
            for k, j in enumerate(self.body.exports)
            if kernel.flowing >> k & 1
        }
        self.totals = {
            k: self._row(self.cotangents, k) for k in range(arity) if kernel.active >> k & 1
        }

    def jump(self) -> None:
        """Go on with the next kernel, in place of this one."""
        builder, n = self.builder, len(self.body.exports)
        values, cotangents, place, record, ids, table = self.function.args
        if self.kernel.sweep == FORWARD:
            place = builder.add(place, ir.Constant(_I64, n))
            step = ir.Constant(_I64, self.body.arity)
            record = builder.gep(record, [step], source_etype=_I32)
        else:
            place, record = self.own, self.record
        number = builder.zext(builder.load(ids, typ=_I16, align=2), _I64)
        entry = builder.gep(table, [number], source_etype=_I64)
        target = builder.inttoptr(
            builder.load(entry, typ=_I64, align=8),
            ir.FunctionType(ir.VoidType(), _THREADED).as_pointer(),
        )
        ids = builder.gep(ids, [ir.Constant(_I64, 1)], source_etype=_I16)
        builder.call(target, [values, cotangents, place, record, ids, table], tail="musttail")

    def call_back(self, address: int) -> None:
        """Call the kernel of a gate in Python, with a record of its own."""
        builder, arity = self.builder, self.body.arity
        entries = [self.own, *(self._place(k) for k in range(arity))]
        if self.kernel.sweep != FORWARD:
            # A number's cotangent is at its number's place.
            entries = [self.own, *entries, *entries[1:]]
        record = builder.alloca(_I32, size=ir.Constant(_I64, len(entries)))
        for k, entry in enumerate(entries):
            at = builder.gep(record, [ir.Constant(_I64, k)], source_etype=_I32)
            builder.store(builder.trunc(entry, _I32), at, align=4)
        function = builder.inttoptr(
            ir.Constant(_I64, address), ir.FunctionType(ir.VoidType(), _CALLED).as_pointer()
        )
        nothing = builder.inttoptr(ir.Constant(_I64, 0), _POINTER)
        arguments = [self.values, self.cotangents, nothing, record, ir.Constant(_I64, 1)]
        builder.call(function, arguments)

    def _place(self, position: int) -> ir.Value:
        pointer = self.builder.gep(self.record, [ir.Constant(_I64, position)], source_etype=_I32)
        return self.builder.zext(self.builder.load(pointer, typ=_I32, align=4), _I64)

    def _row(self, base: ir.Value, position: int) -> ir.Value:
        place = self._place(position)
        if self.kernel.lanes:
            place = self.builder.mul(place, self.lanes)
        return self.builder.gep(base, [place], source_etype=_DOUBLE)

    def _single(self, position: int) -> ir.Value:
        return self.builder.gep(self.single, [self._place(position)], source_etype=_DOUBLE)

    def _load(self, row: ir.Value, lane: ir.Value) -> Float:
        pointer = self.builder.gep(row, [lane], source_etype=_DOUBLE)
        return Float(self.emitter, self.builder.load(pointer, typ=self.emitter.float_type, align=8))

    def _store(self, row: ir.Value, lane: ir.Value, value: Float) -> None:
        pointer = self.builder.gep(row, [lane], source_etype=_DOUBLE)
        self.builder.store(value.value, pointer, align=8)

    def write(self, lane: ir.Value) -> None:
        """The arithmetic for the lanes from ``lane`` on."""
        steps = self._forward(lane)
        if self.kernel.sweep != FORWARD:
            self._reverse(lane, steps)

    def _forward(self, lane: ir.Value) -> Sequence[Any]:
        """Each instruction's partials; results are stored, or in reverse loaded."""
        read: dict[int, Float] = {}
        results: list[Float] = []
        steps = []
        exports = dict(zip(self.body.exports, self.exports, strict=True))

        def operand(k: int) -> Float:
            if k >= 0:
                return results[k]
            if ~k not in read:
                place = self.operands[~k]
                if self.kernel.shared >> ~k & 1:
                    number = self.builder.load(place, typ=_DOUBLE, align=8)
                    read[~k] = Float(self.emitter, self.emitter.splat(number))
                else:
                    read[~k] = self._load(place, lane)
            return read[~k]

        for j, (op, places) in enumerate(zip(self.body.ops, self.body.operands, strict=True)):
            operands = [operand(k) for k in places]
            stored = None
            if j in exports and self.kernel.sweep == REVERSE:
                stored = self._load(exports[j], lane)
            before = self.builder.block, len(self.builder.block.instructions)
            value, partials = op.rule(*operands)
            result = self.emitter.float(value)
            if stored is not None:
                self._use_stored(operands, result, stored, before)
            elif j in exports:
                self._store(exports[j], lane, result)
            results.append(result)
            steps.append(partials)
        return steps

    def _use_stored(
        self, operands: Sequence[Float], value: Float, stored: Float, before: tuple[ir.Block, int]
    ) -> None:
        """Let what follows use the value of the forward sweep, not compute it again.

        before: the block, and the place in it, where the instruction begins.
        """
        given = [operand.value for operand in operands]
        if not isinstance(value.value, ir.Instruction) or value.value in given:
            return
        blocks = list(self.builder.function.blocks)
        first, start = before
        for block in blocks[blocks.index(first) :]:
            for instruction in block.instructions[start if block is first else 0 :]:
                instruction.replace_usage(value.value, stored.value)
        value.value = stored.value

    def _reverse(self, lane: ir.Value, steps: Sequence[Any]) -> None:
        """Collect cotangents, the last instruction's first."""
        body, kernel = self.body, self.kernel
        nothing = self.emitter.float(-0.0)
        flows: dict[int, Float] = {}
        inner = {j: self._load(row, lane) for j, row in self.flowing.items()}
        active = self._active()
        # The operands of a single instruction are not compared with each other: two may be one
        # slot, and then the second adds to what the first has stored.
        apart = len(body) == 1 and len(set(body.operands[0])) == len(body.operands[0])
        stored: set[int] = set()
        for j in reversed(range(len(body))):
            flowing = inner.pop(j, None)
            if flowing is None or not active[j]:
                continue
            for k, partial in zip(body.operands[j], steps[j], strict=True):
                if k >= 0:
                    if active[k]:
                        inner[k] = self._plus(inner.get(k, nothing), flowing, partial)
                elif ~k in self.totals:
                    if ~k not in flows:
                        fresh = kernel.fresh >> ~k & 1
                        flows[~k] = nothing if fresh else self._load(self.totals[~k], lane)
                    flows[~k] = self._plus(flows[~k], flowing, partial)
                    if apart and not kernel.direct >> ~k & 1:
                        self._store(self.totals[~k], lane, flows.pop(~k))
                        stored.add(~k)
        after = self._leave_if_nan(list(flows.values()), lane)
        for k, row in self.totals.items():
            if k in stored or kernel.direct >> k & 1:
                continue
            if k in flows or kernel.fresh >> k & 1:
                self._store(row, lane, flows.get(k, nothing))
        if kernel.direct:
            self._store_results(flows, lane)
        if after is not None:
            self.builder.branch(after)
            self.builder.position_at_end(after)

    def _store_results(self, flows: Mapping[int, Float], lane: ir.Value) -> None:
        """Store the direct cotangents, past the caches or into them."""
        builder, zero = self.builder, self.emitter.float(0.0)
        nothing = self.emitter.float(-0.0)
        results = [
            # Adding zero makes the sweeps' negative zeros positive.
            (builder.gep(row, [lane], source_etype=_DOUBLE), flows.get(k, nothing) + zero)
            for k, row in self.totals.items()
            if self.kernel.direct >> k & 1
        ]
        past = builder.icmp_signed("!=", self.streams, ir.Constant(_I64, 0))
        once = builder.module.add_metadata([ir.Constant(_I32, 1)])
        with builder.if_else(past) as (streamed, kept):
            with streamed:
                for pointer, number in results:
                    store = builder.store(number.value, pointer, align=8 * WIDTH)
                    store.set_metadata("nontemporal", once)
            with kept:
                for pointer, number in results:
                    builder.store(number.value, pointer, align=8)

    def _leave_if_nan(self, totals: Sequence[Float], lane: ir.Value) -> ir.Block | None:
        """Leave lanes with a NaN among the totals to the exact function; give where to go on."""
        if self.exact is None or not totals:
            return None
        builder = self.builder
        # Unordered: one of the two is a NaN.
        pairs = [
            Mask(self.emitter, builder.fcmp_unordered("uno", left.value, right.value))
            for left, right in zip(totals[::2], [*totals[1::2], totals[-1]], strict=False)
        ]
        bad = functools.reduce(operator.or_, pairs)
        redo, store = builder.append_basic_block("redo"), builder.append_basic_block("store")
        after = builder.append_basic_block("after")
        builder.cbranch(self.emitter.any(bad), redo, store).set_weights([1, 1000])
        builder.position_at_end(redo)
        builder.call(self.exact, [*self.function.args, lane])
        builder.branch(after)
        builder.position_at_end(store)
        return after

    def _active(self) -> list[bool]:
        """Which instructions a gradient flows through."""
        active: list[bool] = []
        for op, places in zip(self.body.ops, self.body.operands, strict=True):
            own = any(active[k] if k >= 0 else self.kernel.active >> ~k & 1 for k in places)
            active.append(bool(own) and not op.zero_derivative)
        return active

    def _plus(self, total: Float, flowing: Float, partial: Any) -> Float:
        if isinstance(partial, float):
            if partial == 0.0:
                return total
            if partial in (1.0, -1.0):
                moved: Float = total + flowing if partial > 0.0 else total - flowing
                return moved
        factor = self.emitter.float(partial)
        plus: Any = azfma if self.exact is None else self.emitter.fma
        result: Float = plus(flowing, factor, total)
        return result
