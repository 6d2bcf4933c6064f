"""Loads, stores and calls at an address, inside compiled code.

The interpreter passes everything by address, so that a call from Python carries one array and the
compiled sweeps have one signature each. With NUMBA_DISABLE_JIT set, ctypes does the same slowly.
"""

import ctypes
from typing import Any

from numba import config, types
from numba.extending import intrinsic

if config.DISABLE_JIT:
    _KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)

    def load_float(address: int) -> float:
        return ctypes.c_double.from_address(int(address)).value

    def store_float(address: int, value: float) -> None:
        ctypes.c_double.from_address(int(address)).value = value

    def load_int(address: int) -> int:
        return ctypes.c_int64.from_address(int(address)).value

    def load_int32(address: int) -> int:
        return ctypes.c_int32.from_address(int(address)).value

    load_flag = load_int

    def call_kernel(
        address: int, values: int, cotangents: int, shared: int, record: int, lanes: int
    ) -> None:
        _KERNEL(int(address))(int(values), int(cotangents), int(shared), int(record), int(lanes))

else:
    from llvmlite import ir

    def _load(element: Any, numba_type: Any, align: int, atomic: bool = False) -> Any:
        @intrinsic
        def load(typing: Any, address: Any) -> Any:
            def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                pointer = builder.inttoptr(args[0], ir.PointerType())
                if atomic:
                    value = builder.load_atomic(pointer, "monotonic", align, typ=element)
                else:
                    value = builder.load(pointer, align=align, typ=element)
                return builder.sext(value, ir.IntType(64)) if element == ir.IntType(32) else value

            return numba_type(types.int64), emit

        return load

    load_float = _load(ir.DoubleType(), types.float64, 8)
    # Records lie in a stream of 32-bit numbers, so a 64-bit one is aligned to four bytes only.
    load_int = _load(ir.IntType(64), types.int64, 4)
    load_int32 = _load(ir.IntType(32), types.int64, 4)
    # A plain load of a flag that another thread sets would be hoisted out of the loop.
    load_flag = _load(ir.IntType(64), types.int64, 8, atomic=True)

    @intrinsic
    def store_float(typing: Any, address: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[1], builder.inttoptr(args[0], ir.PointerType()), align=8)
            return context.get_dummy_value()

        return types.void(types.int64, types.float64), emit

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
            pointer = ir.PointerType()
            kernel = ir.FunctionType(ir.VoidType(), [pointer] * 4 + [ir.IntType(64)])
            pointers = [builder.inttoptr(arg, pointer) for arg in args[1:5]]
            function = builder.inttoptr(args[0], kernel.as_pointer())
            builder.call(function, [*pointers, args[5]])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), emit
