# mypy: allow-untyped-defs, allow-untyped-decorators
"""Groups of numbers at an address, inside compiled code: moved, added and transposed by vectors.

As `addresses`, which has them one by one.
"""

import ctypes
from typing import Any

from numba import config, types
from numba.extending import intrinsic

from tapeflow.engine.addresses import GROUP, load_float, load_single, store_float, store_single

if config.DISABLE_JIT:

    def add_group(target: int, left: int, right: int) -> None:
        for k in range(0, 8 * GROUP, 8):
            store_float(target, k, load_float(left, k) + load_float(right, k))

    def copy_group(target: int, source: int) -> None:
        ctypes.memmove(int(target), int(source), 8 * GROUP)

    def turn_tile(
        target: int, target_step: int, source: int, source_step: int, single: bool
    ) -> None:
        for j in range(GROUP):
            for k in range(GROUP):
                place = source + j * source_step
                number = load_single(place, 4 * k) if single else load_float(place, 8 * k)
                store_float(target + k * target_step, 8 * j, number)

    def turn_tile_out(
        target: int, target_step: int, source: int, source_step: int, zero: float, single: bool
    ) -> None:
        for j in range(GROUP):
            for k in range(GROUP):
                number, place = (
                    load_float(source + j * source_step, 8 * k),
                    target + k * target_step,
                )
                if single:
                    store_single(place, 4 * j, number + zero)
                else:
                    store_float(place, 8 * j, number + zero)

    def turn_rows(target: int, target_step: int, offset: int, *rows: int) -> None:
        for j, row in enumerate(rows):
            for k in range(GROUP):
                number = load_float(row, offset + 8 * k)
                store_float(target + k * target_step, 8 * j, number)

    def stream_group(target: int, source: int, zero: float) -> None:
        for k in range(0, 8 * GROUP, 8):
            store_float(target, k, load_float(source, k) + zero)

    def nonzero_group(source: int) -> int:
        return sum(1 << k for k in range(GROUP) if load_float(source, 8 * k) != 0.0)

    def lowest_bit(bits: int) -> int:
        return (bits & -bits).bit_length() - 1

    def press_group(target: int, source: int, bits: int) -> int:
        kept = [load_float(source, 8 * k) for k in range(GROUP) if bits >> k & 1]
        for k, number in enumerate(kept):
            store_float(target, 8 * k, number)
        return len(kept)

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

else:
    from llvmlite import ir

    from tapeflow.engine.addresses import at_address as _at

    _DOUBLE, _SINGLE = ir.DoubleType(), ir.FloatType()
    _INT32, _INT64 = ir.IntType(32), ir.IntType(64)
    _VECTOR, _SINGLES = ir.VectorType(_DOUBLE, GROUP), ir.VectorType(_SINGLE, GROUP)

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
    def nonzero_group(typing: Any, source: Any) -> Any:
        """Which of eight numbers are not zero, as bits."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_at(builder, args[0]), align=8, typ=_VECTOR)
            zero = ir.Constant(_VECTOR, [0.0] * GROUP)
            flags = builder.fcmp_unordered("!=", value, zero)
            return builder.zext(builder.bitcast(flags, ir.IntType(GROUP)), _INT64)

        return types.int64(types.int64), emit

    @intrinsic
    def press_group(typing: Any, target: Any, source: Any, bits: Any) -> Any:
        """Those of eight numbers that bits choose, one after the other; how many they are.

        What follows them among the eight numbers at the target is lost.
        """

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            flags = builder.bitcast(
                builder.trunc(args[2], ir.IntType(GROUP)), ir.VectorType(ir.IntType(1), GROUP)
            )
            value = builder.load(_at(builder, args[1]), align=8, typ=_VECTOR)
            kind = ir.FunctionType(_VECTOR, [_VECTOR, flags.type, _VECTOR])
            name = f"llvm.experimental.vector.compress.v{GROUP}f64"
            press = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            pressed = builder.call(press, [value, flags, ir.Constant(_VECTOR, ir.Undefined)])
            builder.store(pressed, _at(builder, args[0]), align=8)
            return builder.ctpop(args[2])

        return types.int64(types.int64, types.int64, types.int64), emit

    @intrinsic
    def lowest_bit(typing: Any, bits: Any) -> Any:
        """The place of the lowest bit that is set, of those of a number that is not zero."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.int64), emit

    def _turn(context: Any, builder: Any, args: Any, out: bool, single: bool) -> Any:
        target, target_step, source, source_step = args[:4]

        def at(base: Any, step: Any, j: int) -> Any:
            return _at(builder, base, builder.mul(step, ir.Constant(_INT64, j)))

        def load(j: int) -> Any:
            place = at(source, source_step, j)
            if out or not single:
                return builder.load(place, align=8, typ=_VECTOR)
            return builder.fpext(builder.load(place, align=4, typ=_SINGLES), _VECTOR)

        rows = _transposed(builder, [load(j) for j in range(GROUP)])
        zero = _everywhere(builder, args[4]) if out else None
        for j, row in enumerate(rows):
            number = builder.fadd(row, zero) if out else row
            if out and single:
                number = builder.fptrunc(number, _SINGLES)
            builder.store(number, at(target, target_step, j), align=4 if single else 8)
        return context.get_dummy_value()

    def _everywhere(builder: Any, number: Any) -> Any:
        """A number as a vector of it."""
        kind = ir.VectorType(_INT32, GROUP)
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(nothing, number, ir.Constant(_INT32, 0))
        return builder.shuffle_vector(first, nothing, ir.Constant(kind, [0] * GROUP))

    def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
        """Eight vectors as the columns of what they were the rows of."""
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
        return rows

    @intrinsic
    def turn_rows(
        typing: Any, target: Any, target_step: Any, offset: Any,
        a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any,
    ) -> Any:  # fmt: skip
        """As `turn_tile`, of eight rows at addresses of their own, from an offset on."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            place, step, start = args[:3]
            sources = [_at(builder, row, start) for row in args[3:]]
            rows = [builder.load(source, align=8, typ=_VECTOR) for source in sources]
            for j, row in enumerate(_transposed(builder, rows)):
                own = _at(builder, place, builder.mul(step, ir.Constant(_INT64, j)))
                builder.store(row, own, align=8)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), emit

    def _turning(out: bool, args: Any) -> Any:
        """The typing and code of a transposition; its last argument is known to the compiler."""
        *addresses, last = args
        if not isinstance(last, types.Literal):
            return None
        single = bool(last.literal_value)

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return _turn(context, builder, values, out, single)

        kinds = [types.float64 if k == 4 else types.int64 for k in range(len(addresses))]
        return types.void(*kinds, last), emit

    @intrinsic(prefer_literal=True)
    def turn_tile(
        typing: Any, target: Any, target_step: Any, source: Any, source_step: Any, single: Any
    ) -> Any:
        """Transpose 8 x 8 numbers: rows of eight, each a step of bytes after the one before.

        single: the source has float32; the target float64.
        """
        return _turning(False, (target, target_step, source, source_step, single))

    @intrinsic(prefer_literal=True)
    def turn_tile_out(
        typing: Any, target: Any, target_step: Any, source: Any, source_step: Any, zero: Any,
        single: Any,
    ) -> Any:  # fmt: skip
        """As `turn_tile`, with a zero of either sign added to each number.

        single: the target has float32, the source float64.
        """
        return _turning(True, (target, target_step, source, source_step, zero, single))

    @intrinsic
    def stream_group(typing: Any, target: Any, source: Any, zero: Any) -> Any:
        """Store a group plus a zero past the caches, at a multiple of 64 bytes."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_at(builder, args[1]), align=8, typ=_VECTOR)
            number = builder.fadd(value, _everywhere(builder, args[2]))
            store = builder.store(number, _at(builder, args[0]), align=64)
            once = builder.module.add_metadata([ir.Constant(_INT32, 1)])
            store.set_metadata("nontemporal", once)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.float64), emit

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
