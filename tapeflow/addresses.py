"""Loads, stores and calls at an address, inside compiled code.

The interpreter passes everything by address, so that a call from Python carries one array and the
compiled sweeps have one signature each. With NUMBA_DISABLE_JIT set, ctypes does the same slowly.
"""

import ctypes
from typing import Any

from numba import config, types
from numba.extending import intrinsic

GROUP = 8
"""Numbers that `add_group` and `copy_group` take at once."""

STACK = 64 * GROUP
"""Numbers that `stack_memory` has room for."""

if config.DISABLE_JIT:
    _stacks: list[Any] = []
    _KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)
    _THREADED = ctypes.CFUNCTYPE(
        None, *[ctypes.c_void_p] * 2, ctypes.c_int64, *[ctypes.c_void_p] * 3
    )

    def load_float(address: int, offset: int) -> float:
        return ctypes.c_double.from_address(int(address + offset)).value

    def store_float(address: int, offset: int, value: float) -> None:
        ctypes.c_double.from_address(int(address + offset)).value = value

    def load_int(address: int) -> int:
        return ctypes.c_int64.from_address(int(address)).value

    def load_int32(address: int) -> int:
        return ctypes.c_int32.from_address(int(address)).value

    load_flag = load_int

    def add_group(target: int, left: int, right: int) -> None:
        for k in range(0, 8 * GROUP, 8):
            store_float(target, k, load_float(left, k) + load_float(right, k))

    def copy_group(target: int, source: int) -> None:
        ctypes.memmove(int(target), int(source), 8 * GROUP)

    def turn_tile(target: int, target_step: int, source: int, source_step: int) -> None:
        for j in range(GROUP):
            for k in range(GROUP):
                store_float(
                    target + k * target_step, 8 * j, load_float(source + j * source_step, 8 * k)
                )

    def turn_tile_out(target: int, target_step: int, source: int, source_step: int) -> None:
        for j in range(GROUP):
            for k in range(GROUP):
                number = load_float(source + j * source_step, 8 * k) + 0.0
                store_float(target + k * target_step, 8 * j, number)

    def stream_group(target: int, source: int) -> None:
        for k in range(0, 8 * GROUP, 8):
            store_float(target, k, load_float(source, k) + 0.0)

    def stack_memory() -> int:
        memory = (ctypes.c_double * STACK)()
        _stacks.append(memory)
        return ctypes.addressof(memory)

    def sum_rows(target: int, source: int, stride: int, n: int) -> None:
        parts = [[-0.0] * GROUP for _ in range(GROUP)]
        for k in range(n):
            row = [load_float(source + stride * k, 8 * j) for j in range(GROUP)]
            parts[k % 8] = [a + b for a, b in zip(parts[k % 8], row, strict=True)]
        while len(parts) > 1:
            pairs = zip(parts[0::2], parts[1::2], strict=True)
            parts = [[a + b for a, b in zip(*pair, strict=True)] for pair in pairs]
        for j, total in enumerate(parts[0]):
            store_float(target, 8 * j, total)

    def call_gemm(address: int, flags: int, m: int, n: int, k: int, a: int, b: int, c: int) -> None:
        raise NotImplementedError

    def call_kernel(
        address: int, values: int, cotangents: int, shared: int, record: int, lanes: int
    ) -> None:
        _KERNEL(int(address))(int(values), int(cotangents), int(shared), int(record), int(lanes))

    def call_threaded(
        values: int, cotangents: int, place: int, operands: int, ids: int, table: int
    ) -> None:
        first = ctypes.c_uint16.from_address(int(ids)).value
        function = _THREADED(load_int(table + 8 * first))
        function(int(values), int(cotangents), int(place), int(operands), int(ids) + 2, int(table))

else:
    from llvmlite import ir

    _POINTER, _DOUBLE = ir.PointerType(), ir.DoubleType()
    _INT8, _INT16, _INT32, _INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
    _VECTOR = ir.VectorType(_DOUBLE, GROUP)

    def _at(builder: Any, address: Any, offset: Any = None) -> Any:
        pointer = builder.inttoptr(address, _POINTER)
        if offset is None:
            return pointer
        # As an offset from a pointer, not a sum of numbers, loops over it become SIMD.
        return builder.gep(pointer, [offset], source_etype=_INT8)

    @intrinsic
    def load_float(typing: Any, address: Any, offset: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(_at(builder, *args), align=8, typ=_DOUBLE)

        return types.float64(types.int64, types.int64), emit

    @intrinsic
    def store_float(typing: Any, address: Any, offset: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], _at(builder, args[0], args[1]), align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.float64), emit

    @intrinsic
    def load_int(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # Code is a stream of 32-bit numbers: a 64-bit one in it is aligned to four bytes.
            return builder.load(_at(builder, *args), align=4, typ=_INT64)

        return types.int64(types.int64), emit

    @intrinsic
    def load_int32(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.sext(builder.load(_at(builder, *args), align=4, typ=_INT32), _INT64)

        return types.int64(types.int64), emit

    @intrinsic
    def load_flag(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # A plain load of what another thread sets would be hoisted out of the loop.
            return builder.load_atomic(_at(builder, *args), "monotonic", 8, typ=_INT64)

        return types.int64(types.int64), emit

    @intrinsic
    def add_group(typing: Any, target: Any, left: Any, right: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, b = (builder.load(_at(builder, arg), align=8, typ=_VECTOR) for arg in args[1:])
            builder.store(builder.fadd(a, b), _at(builder, args[0]), align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), emit

    @intrinsic
    def copy_group(typing: Any, target: Any, source: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_at(builder, args[1]), align=8, typ=_VECTOR)
            builder.store(value, _at(builder, args[0]), align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), emit

    def _turn(context: Any, builder: Any, args: Any, out: bool) -> Any:
        target, target_step, source, source_step = args

        def at(base: Any, step: Any, j: int) -> Any:
            return _at(builder, base, builder.mul(step, ir.Constant(_INT64, j)))

        rows = [builder.load(at(source, source_step, j), align=8, typ=_VECTOR) for j in range(8)]
        kind = ir.VectorType(_INT32, GROUP)
        for s in (1, 2, 4):
            # Swap the off-diagonal squares of s x s numbers.
            low = ir.Constant(kind, [k + (GROUP - s if k & s else 0) for k in range(GROUP)])
            high = ir.Constant(kind, [k + (GROUP if k & s else s) for k in range(GROUP)])
            for j in range(GROUP):
                if not j & s:
                    a, b = rows[j], rows[j + s]
                    rows[j] = builder.shuffle_vector(a, b, low)
                    rows[j + s] = builder.shuffle_vector(a, b, high)
        zero = ir.Constant(_VECTOR, [0.0] * GROUP)
        for j, row in enumerate(rows):
            # Adding zero makes the sweeps' negative zeros positive.
            number = builder.fadd(row, zero) if out else row
            builder.store(number, at(target, target_step, j), align=8)
        return context.get_dummy_value()

    @intrinsic
    def turn_tile(typing: Any, target: Any, target_step: Any, source: Any, source_step: Any) -> Any:
        """Transpose 8 x 8 numbers: rows of eight, each a step of bytes after the one before."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _turn(context, builder, args, out=False)

        return types.void(*[types.int64] * 4), emit

    @intrinsic
    def turn_tile_out(
        typing: Any, target: Any, target_step: Any, source: Any, source_step: Any
    ) -> Any:
        """As `turn_tile`, with zero added to each number."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _turn(context, builder, args, out=True)

        return types.void(*[types.int64] * 4), emit

    @intrinsic
    def stream_group(typing: Any, target: Any, source: Any) -> Any:
        """Store a group plus zero past the caches, at a multiple of 64 bytes."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_at(builder, args[1]), align=8, typ=_VECTOR)
            number = builder.fadd(value, ir.Constant(_VECTOR, [0.0] * GROUP))
            store = builder.store(number, _at(builder, args[0]), align=64)
            once = builder.module.add_metadata([ir.Constant(_INT32, 1)])
            store.set_metadata("nontemporal", once)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), emit

    @intrinsic
    def stack_memory(typing: Any) -> Any:
        """The address of memory on the function's stack: the same at each call within it."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            with builder.goto_entry_block():
                memory = builder.alloca(_DOUBLE, size=ir.Constant(_INT64, STACK))
            return builder.ptrtoint(memory, _INT64)

        return types.int64(), emit

    @intrinsic
    def sum_rows(typing: Any, target: Any, source: Any, stride: Any, n: Any) -> Any:
        """Sum n rows of a group of numbers each, ``stride`` bytes apart.

        Row k goes to running sum k % 8; the eight are added pairwise.
        """

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place, first, step, count = args
            nothing = ir.Constant(_VECTOR, [-0.0] * GROUP)
            eight, one = ir.Constant(_INT64, 8), ir.Constant(_INT64, 1)
            zero = ir.Constant(_INT64, 0)

            def row(k: Any) -> Any:
                at = _at(builder, first, builder.mul(k, step))
                return builder.load(at, align=8, typ=_VECTOR)

            entry = builder.block
            loop, check = builder.append_basic_block(), builder.append_basic_block()
            whole = builder.mul(builder.sdiv(count, eight), eight)
            builder.cbranch(builder.icmp_signed(">", whole, zero), loop, check)
            builder.position_at_end(loop)
            k = builder.phi(_INT64)
            sums = [builder.phi(_VECTOR) for _ in range(8)]
            k.add_incoming(zero, entry)
            added = []
            for j, total in enumerate(sums):
                total.add_incoming(nothing, entry)
                added.append(builder.fadd(total, row(builder.add(k, ir.Constant(_INT64, j)))))
            following = builder.add(k, eight)
            k.add_incoming(following, loop)
            for total, new in zip(sums, added, strict=True):
                total.add_incoming(new, loop)
            builder.cbranch(builder.icmp_signed("<", following, whole), loop, check)
            builder.position_at_end(check)
            parts = []
            for new in added:
                part = builder.phi(_VECTOR)
                part.add_incoming(nothing, entry)
                part.add_incoming(new, loop)
                parts.append(part)
            # The up to seven rows that are left: where there is none, nothing is added.
            for j in range(7):
                own = builder.add(whole, ir.Constant(_INT64, j))
                there = builder.icmp_signed("<", own, count)
                last = builder.select(there, own, builder.sub(count, one))
                term = builder.select(there, row(last), nothing)
                parts[j] = builder.fadd(parts[j], term)
            while len(parts) > 1:
                parts = [builder.fadd(a, b) for a, b in zip(parts[0::2], parts[1::2], strict=True)]
            builder.store(parts[0], _at(builder, place), align=8)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), emit

    @intrinsic
    def call_gemm(
        typing: Any,
        address: Any,
        flags: Any,
        m: Any,
        n: Any,
        k: Any,
        a: Any,
        b: Any,
        c: Any,
    ) -> Any:
        """BLAS's dgemm on matrices in C order: c = a b, of m x k and k x n.

        flags: 1 where a lies transposed, plus 2 where b does.
        """

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place, flags, m, n, k, a, b, c = args

            def memory(value: Any) -> Any:
                with builder.goto_entry_block():
                    slot = builder.alloca(value.type)
                builder.store(value, slot)
                return slot

            def letter(bit: int) -> Any:
                turned = builder.and_(flags, ir.Constant(_INT64, bit))
                turned = builder.icmp_signed("!=", turned, ir.Constant(_INT64, 0))
                t, n = ir.Constant(_INT8, ord("T")), ir.Constant(_INT8, ord("N"))
                return turned, memory(builder.select(turned, t, n))

            def whole(value: Any) -> Any:
                return memory(builder.trunc(value, _INT32))

            # In Fortran's order the transposed product b' a' of the same memory.
            a_turned, a_letter = letter(1)
            b_turned, b_letter = letter(2)
            a_rows = builder.select(a_turned, m, k)
            b_rows = builder.select(b_turned, k, n)
            one, zero = memory(ir.Constant(_DOUBLE, 1.0)), memory(ir.Constant(_DOUBLE, 0.0))
            gemm = ir.FunctionType(ir.VoidType(), [_POINTER] * 13)
            function = builder.inttoptr(place, gemm.as_pointer())
            builder.call(
                function,
                [
                    b_letter, a_letter, whole(n), whole(m), whole(k), one,
                    _at(builder, b), whole(b_rows), _at(builder, a), whole(a_rows), zero,
                    _at(builder, c), whole(n),
                ],
            )  # fmt: skip
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), emit

    @intrinsic
    def call_kernel(
        typing: Any,
        address: Any,
        values: Any,
        cotangents: Any,
        shared: Any,
        record: Any,
        lanes: Any,
    ) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kernel = ir.FunctionType(ir.VoidType(), [_POINTER] * 4 + [_INT64])
            function = builder.inttoptr(args[0], kernel.as_pointer())
            builder.call(function, [*(_at(builder, arg) for arg in args[1:5]), args[5]])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit

    @intrinsic
    def call_threaded(
        typing: Any, values: Any, cotangents: Any, place: Any, operands: Any, ids: Any, table: Any
    ) -> Any:
        """Run threaded kernels, from the first of the ids to the one that ends the sweep."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = [_POINTER] * 2 + [_INT64] + [_POINTER] * 3
            kernel = ir.FunctionType(ir.VoidType(), kinds).as_pointer()
            ids, table = (_at(builder, arg) for arg in args[4:])
            first = builder.zext(builder.load(ids, align=2, typ=_INT16), _INT64)
            entry = builder.gep(table, [first], source_etype=_INT64)
            function = builder.inttoptr(builder.load(entry, align=8, typ=_INT64), kernel)
            ids = builder.gep(ids, [ir.Constant(_INT64, 1)], source_etype=_INT16)
            values, cotangents, operands = (_at(builder, args[k]) for k in (0, 1, 3))
            builder.call(function, [values, cotangents, args[2], operands, ids, table])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit
