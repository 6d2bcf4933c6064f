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

if config.DISABLE_JIT:
    _KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)

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

    def call_kernel(
        address: int, values: int, cotangents: int, shared: int, record: int, lanes: int
    ) -> None:
        _KERNEL(int(address))(int(values), int(cotangents), int(shared), int(record), int(lanes))

else:
    from llvmlite import ir

    _POINTER, _DOUBLE = ir.PointerType(), ir.DoubleType()
    _INT8, _INT32, _INT64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
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
