# mypy: allow-untyped-defs, allow-untyped-decorators
"""Loads, stores and calls at an address, inside compiled code.

The interpreter passes everything by address, so that a call from Python carries one array and the
compiled sweeps have one signature each. With NUMBA_DISABLE_JIT set, ctypes does the same slowly.
"""

import ctypes
from typing import Any

from numba import config, types
from numba.extending import intrinsic

GROUP = 8
"""Numbers that `tiles` moves at once."""

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

    def store_int(address: int, value: int) -> None:
        ctypes.c_int64.from_address(int(address)).value = int(value)

    def swap_flag(address: int, value: int) -> int:
        before = load_int(address)
        store_int(address, value)
        return before

    def load_int32(address: int) -> int:
        return ctypes.c_int32.from_address(int(address)).value

    load_flag = load_int

    def load_single(address: int, offset: int) -> float:
        return ctypes.c_float.from_address(int(address + offset)).value

    def store_single(address: int, offset: int, value: float) -> None:
        ctypes.c_float.from_address(int(address + offset)).value = value

    def stack_memory() -> int:
        memory = (ctypes.c_double * STACK)()
        _stacks.append(memory)
        return ctypes.addressof(memory)

    def allocate(n: int) -> int:
        raise NotImplementedError

    def release(address: int) -> None:
        raise NotImplementedError

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
    _SINGLE = ir.FloatType()

    def at_address(builder: Any, address: Any, offset: Any = None) -> Any:
        """A pointer, in code that is being written."""
        pointer = builder.inttoptr(address, _POINTER)
        if offset is None:
            return pointer
        # As an offset from a pointer, not a sum of numbers, loops over it become SIMD.
        return builder.gep(pointer, [offset], source_etype=_INT8)

    @intrinsic
    def load_float(typing: Any, address: Any, offset: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(at_address(builder, *args), align=8, typ=_DOUBLE)

        return types.float64(types.int64, types.int64), emit

    @intrinsic
    def store_float(typing: Any, address: Any, offset: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], at_address(builder, args[0], args[1]), align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.float64), emit

    @intrinsic
    def load_single(typing: Any, address: Any, offset: Any) -> Any:
        """A float32, as a float64."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.fpext(
                builder.load(at_address(builder, *args), align=4, typ=_SINGLE), _DOUBLE
            )

        return types.float64(types.int64, types.int64), emit

    @intrinsic
    def store_single(typing: Any, address: Any, offset: Any, value: Any) -> Any:
        """Store a float64, rounded to float32."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            number = builder.fptrunc(args[2], _SINGLE)
            builder.store(number, at_address(builder, args[0], args[1]), align=4)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.float64), emit

    @intrinsic
    def load_int(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # Code is a stream of 32-bit numbers: a 64-bit one in it is aligned to four bytes.
            return builder.load(at_address(builder, *args), align=4, typ=_INT64)

        return types.int64(types.int64), emit

    @intrinsic
    def store_int(typing: Any, address: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[1], at_address(builder, args[0]), align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), emit

    @intrinsic
    def swap_flag(typing: Any, address: Any, value: Any) -> Any:
        """Store a number that other threads see at once, and give the one that was there."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.atomic_rmw("xchg", at_address(builder, args[0]), args[1], "acq_rel")

        return types.int64(types.int64, types.int64), emit

    @intrinsic
    def load_int32(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.sext(
                builder.load(at_address(builder, *args), align=4, typ=_INT32), _INT64
            )

        return types.int64(types.int64), emit

    @intrinsic
    def load_flag(typing: Any, address: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            # A plain load of what another thread sets would be hoisted out of the loop.
            return builder.load_atomic(at_address(builder, *args), "monotonic", 8, typ=_INT64)

        return types.int64(types.int64), emit

    @intrinsic
    def stack_memory(typing: Any) -> Any:
        """The address of memory on the function's stack: the same at each call within it."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            with builder.goto_entry_block():
                memory = builder.alloca(_DOUBLE, size=ir.Constant(_INT64, STACK))
            return builder.ptrtoint(memory, _INT64)

        return types.int64(), emit

    def _external(builder: Any, name: str, result: Any, argument: Any) -> Any:
        """A function of C's library."""
        kind = ir.FunctionType(result, [argument])
        return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)

    @intrinsic
    def allocate(typing: Any, n: Any) -> Any:
        """The address of memory for n numbers, which begins a cache line; see `release`."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            malloc = _external(builder, "malloc", _POINTER, _INT64)
            size = builder.mul(args[0], ir.Constant(_INT64, 8))
            given = builder.call(malloc, [builder.add(size, ir.Constant(_INT64, 128))])
            first = builder.add(builder.ptrtoint(given, _INT64), ir.Constant(_INT64, 64))
            first = builder.and_(
                builder.add(first, ir.Constant(_INT64, 63)), ir.Constant(_INT64, -64)
            )
            # What malloc has given stands before it.
            before = builder.inttoptr(builder.sub(first, ir.Constant(_INT64, 8)), _POINTER)
            builder.store(given, before, align=8)
            return first

        return types.int64(types.int64), emit

    @intrinsic
    def release(typing: Any, address: Any) -> Any:
        """Give back what `allocate` has given."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            free = _external(builder, "free", ir.VoidType(), _POINTER)
            before = builder.inttoptr(builder.sub(args[0], ir.Constant(_INT64, 8)), _POINTER)
            builder.call(free, [builder.load(before, align=8, typ=_POINTER)])
            return context.get_dummy_value()

        return types.void(types.int64), emit

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
            first, second, result = (at_address(builder, arg) for arg in (a, b, c))
            builder.call(
                function,
                [
                    b_letter, a_letter, whole(n), whole(m), whole(k), one, second, whole(b_rows),
                    first, whole(a_rows), zero, result, whole(n),
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
            builder.call(function, [*(at_address(builder, arg) for arg in args[1:5]), args[5]])
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
            ids, table = (at_address(builder, arg) for arg in args[4:])
            first = builder.zext(builder.load(ids, align=2, typ=_INT16), _INT64)
            entry = builder.gep(table, [first], source_etype=_INT64)
            function = builder.inttoptr(builder.load(entry, align=8, typ=_INT64), kernel)
            ids = builder.gep(ids, [ir.Constant(_INT64, 1)], source_etype=_INT16)
            values, cotangents, operands = (at_address(builder, args[k]) for k in (0, 1, 3))
            builder.call(function, [values, cotangents, args[2], operands, ids, table])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit
