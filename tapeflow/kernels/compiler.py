"""From an op to machine code: one kernel for each op and kind of operands, made when first used.

A kernel is called as ``kernel(values, cotangents, shared, record, lanes)``. Row r of ``values``
holds ``lanes`` numbers from ``values + 8 * lanes * r``, and so for ``cotangents``; ``shared``
holds single numbers. The record of a forward kernel is the row of the result and the places of
the operands; of a reverse kernel, the result's row of values and of cotangents, the places of the
operands, and their rows of cotangents. ``lanes`` is a multiple of WIDTH; or it is 1, for the
kernels that are made for it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from tapeflow.kernels import cache, llvm
from tapeflow.kernels.callbacks import GateKernels, address, guarded
from tapeflow.kernels.emit import WIDTH, Emitter, Float
from tapeflow.kernels.grid_kernel import GridKernel
from tapeflow.ops import FIRST_GATE, Op
from tapeflow.rules import azfma

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_POINTER = ir.PointerType()


@dataclass(frozen=True)
class Kernel:
    """What a kernel is for.

    lanes: it works on rows; otherwise on single numbers. shared: bit k is set where operand k is a
    single number. active: bit k is set where a reverse kernel adds to operand k's cotangent.
    keep: for a gate in Python, whether a reverse sweep follows.
    """

    op: Op
    reverse: bool
    lanes: bool
    shared: int
    active: int
    keep: bool

    @property
    def symbol(self) -> str:
        direction = "reverse" if self.reverse else "forward"
        grain = "lanes" if self.lanes else "single"
        name = "gate" if self.op.opcode >= FIRST_GATE else self.op.name
        return f"{direction}_{name}_{grain}_{self.shared}_{self.active}"

    @property
    def has_gate(self) -> bool:
        return self.op.opcode >= FIRST_GATE

    @property
    def python(self) -> Any:
        return self.op.python

    def emit(self) -> str:
        return emit(self)


_lock = threading.RLock()
_compiled: dict[Kernel | GridKernel, int] = {}
_callbacks: list[Any] = []  # in use by compiled code until the process ends


def addresses(kernels: Sequence[Kernel | GridKernel]) -> list[int]:
    """The address of each kernel, from this process, the cache on disk, or the compiler."""
    with _lock:
        missing = [kernel for kernel in dict.fromkeys(kernels) if kernel not in _compiled]
        objects = {}
        for kernel in missing:
            if isinstance(kernel, Kernel) and kernel.python is not None:
                _compiled[kernel] = _callback(kernel)
            else:
                objects[kernel] = _object(kernel)
        if objects:
            # One engine a kernel: gates of users may share a symbol.
            loaded = llvm.load([(code, kernel.symbol) for kernel, code in objects.items()])
            _compiled.update(zip(objects, loaded, strict=True))
        return [_compiled[kernel] for kernel in kernels]


def _object(kernel: Kernel | GridKernel) -> bytes:
    text = None
    if kernel.has_gate:
        # A user's rule is known by what it emits, not by where it came from.
        text = kernel.emit()
        name = cache.key(llvm.fingerprint(), text)
    else:
        name = cache.key(llvm.fingerprint(), cache.library_digest(), kernel.symbol)
    code = cache.read(name)
    if code is None:
        code = llvm.compile_module(text or kernel.emit())
        cache.write(name, code)
    return code


def _callback(kernel: Kernel) -> int:
    gate = GateKernels(kernel.op.python, kernel.lanes, kernel.shared, kernel.active, kernel.keep)
    function = guarded(gate.reverse if kernel.reverse else gate.forward)
    _callbacks.append(function)
    return address(function)


def emit(kernel: Kernel) -> str:
    """The kernel as LLVM IR."""
    module = ir.Module(kernel.symbol)
    signature = ir.FunctionType(ir.VoidType(), [_POINTER] * 4 + [_I64])
    function = ir.Function(module, signature, kernel.symbol)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    body = _Body(kernel, builder, function)
    if not kernel.lanes:
        body.write(ir.Constant(_I64, 0))
        builder.ret_void()
        return str(module)
    lanes = function.args[4]
    loop, end = function.append_basic_block("loop"), function.append_basic_block("end")
    entry = builder.block
    builder.branch(loop)
    builder.position_at_end(loop)
    lane = builder.phi(_I64)
    lane.add_incoming(ir.Constant(_I64, 0), entry)
    body.write(lane)
    following = builder.add(lane, ir.Constant(_I64, WIDTH))
    lane.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, lanes), loop, end)
    builder.position_at_end(end)
    builder.ret_void()
    return str(module)


class _Body:
    """Writes a kernel: the places from its record once, and the arithmetic for some lanes."""

    def __init__(self, kernel: Kernel, builder: ir.IRBuilder, function: ir.Function) -> None:
        self.kernel, self.builder = kernel, builder
        self.emitter = Emitter(builder, WIDTH if kernel.lanes else 1)
        self.values, self.cotangents, self.single, self.record, self.lanes = function.args
        arity = kernel.op.arity
        first = 2 if kernel.reverse else 1
        self.result = self._row(self.values, 0)
        self.operands = [
            self.emitter.splat(self._single(first + k))
            if kernel.shared >> k & 1
            else self._row(self.values, first + k)
            for k in range(arity)
        ]
        if kernel.reverse:
            self.flowing = self._row(self.cotangents, 1)
            self.totals = {
                k: self._row(self.cotangents, first + arity + k)
                for k in range(arity)
                if kernel.active >> k & 1
            }

    def _place(self, position: int) -> ir.Value:
        pointer = self.builder.gep(self.record, [ir.Constant(_I64, position)], source_etype=_I32)
        return self.builder.zext(self.builder.load(pointer, typ=_I32, align=4), _I64)

    def _row(self, base: ir.Value, position: int) -> ir.Value:
        place = self._place(position)
        if self.kernel.lanes:
            place = self.builder.mul(place, self.lanes)
        return self.builder.gep(base, [place], source_etype=ir.DoubleType())

    def _single(self, position: int) -> ir.Value:
        pointer = self.builder.gep(
            self.single, [self._place(position)], source_etype=ir.DoubleType()
        )
        return self.builder.load(pointer, typ=ir.DoubleType(), align=8)

    def _load(self, row: ir.Value, lane: ir.Value) -> Float:
        pointer = self.builder.gep(row, [lane], source_etype=ir.DoubleType())
        return Float(self.emitter, self.builder.load(pointer, typ=self.emitter.float_type, align=8))

    def _store(self, row: ir.Value, lane: ir.Value, value: Float) -> None:
        pointer = self.builder.gep(row, [lane], source_etype=ir.DoubleType())
        self.builder.store(value.value, pointer, align=8)

    def write(self, lane: ir.Value) -> None:
        """The arithmetic for the lanes from ``lane`` on."""
        operands = [
            Float(self.emitter, operand)
            if self.kernel.shared >> k & 1
            else self._load(operand, lane)
            for k, operand in enumerate(self.operands)
        ]
        if not self.kernel.reverse:
            value, _ = self.kernel.op.rule(*operands)
            self._store(self.result, lane, self.emitter.float(value))
            return
        stored, flowing = self._load(self.result, lane), self._load(self.flowing, lane)
        value, partials = self.kernel.op.rule(*operands)
        self._use_stored(operands, value, stored)
        for k, total in self.totals.items():
            before = self._load(total, lane)
            self._store(total, lane, self._plus(before, flowing, partials[k]))

    def _use_stored(self, operands: Sequence[Float], value: Any, stored: Float) -> None:
        """Let the partials use the value of the forward sweep, not compute it again."""
        given = [operand.value for operand in operands]
        if isinstance(value, Float) and isinstance(value.value, ir.Instruction):
            if value.value in given:
                return
            for block in self.builder.function.blocks:
                for instruction in block.instructions:
                    instruction.replace_usage(value.value, stored.value)
            value.value = stored.value

    def _plus(self, total: Float, flowing: Float, partial: Any) -> Float:
        if isinstance(partial, float):
            if partial == 0.0:
                return total
            if partial in (1.0, -1.0):
                moved: Float = total + flowing if partial > 0.0 else total - flowing
                return moved
        result: Float = azfma(flowing, self.emitter.float(partial), total)
        return result
