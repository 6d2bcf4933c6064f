"""Rows of a shared matrix times a group of lanes, in vector registers.

Each sum begins with zero and takes its terms in order, a product and a sum rounded each: as the
loop in `products.dot` does, and for every width of a block.
"""

from typing import Any

from numba import config, types
from numba.extending import intrinsic

from tapeflow.addresses import GROUP, load_float, store_float

if config.DISABLE_JIT:

    def _product(n_rows: int) -> Any:
        def product(
            target: int, row: int, a: int, a_row: int, a_step: int, b: int, b_step: int, k: int
        ) -> None:
            for r in range(n_rows):
                for lane in range(0, 8 * GROUP, 8):
                    total = 0.0
                    for j in range(k):
                        x = load_float(a + a_row * r, a_step * j)
                        total += x * load_float(b + b_step * j, lane)
                    store_float(target + row * r, lane, total)

        return product

else:
    from llvmlite import ir

    from tapeflow.addresses import at_address as _at

    _DOUBLE, _INT64 = ir.DoubleType(), ir.IntType(64)
    _VECTOR = ir.VectorType(_DOUBLE, GROUP)
    _AHEAD = 24
    _FIRST = ir.Constant(ir.VectorType(ir.IntType(32), GROUP), [0] * GROUP)

    def _prefetch(builder: Any, pointer: Any) -> None:
        kind = ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [pointer.type, kind, kind, kind])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
        builder.call(function, [pointer, *(ir.Constant(kind, x) for x in (0, 3, 1))])

    def _product(n_rows: int) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            target, row, a, a_row, a_step, b, b_step, count = args
            zero, one = ir.Constant(_INT64, 0), ir.Constant(_INT64, 1)
            nothing = ir.Constant(_VECTOR, [0.0] * GROUP)
            firsts = [builder.mul(a_row, ir.Constant(_INT64, r)) for r in range(n_rows)]
            entry = builder.block
            loop, end = builder.append_basic_block(), builder.append_basic_block()
            builder.cbranch(builder.icmp_signed(">", count, zero), loop, end)
            builder.position_at_end(loop)
            j = builder.phi(_INT64)
            j.add_incoming(zero, entry)
            sums = [builder.phi(_VECTOR) for _ in range(n_rows)]
            y = builder.load(_at(builder, b, builder.mul(j, b_step)), align=8, typ=_VECTOR)
            offset = builder.mul(j, a_step)
            # Where the matrix lies transposed each term is in another page, which the processor
            # does not foresee.
            ahead = builder.add(offset, builder.mul(a_step, ir.Constant(_INT64, _AHEAD)))
            for line in range(0, 8 * n_rows, 64):
                _prefetch(builder, _at(builder, a, builder.add(ahead, ir.Constant(_INT64, line))))
            added = []
            for first, total in zip(firsts, sums, strict=True):
                total.add_incoming(nothing, entry)
                place = _at(builder, a, builder.add(first, offset))
                x = builder.load(place, align=8, typ=_DOUBLE)
                one_of_it = builder.insert_element(nothing, x, ir.Constant(ir.IntType(32), 0))
                xs = builder.shuffle_vector(one_of_it, one_of_it, _FIRST)
                added.append(builder.fadd(total, builder.fmul(xs, y)))
            following = builder.add(j, one)
            j.add_incoming(following, loop)
            for total, new in zip(sums, added, strict=True):
                total.add_incoming(new, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
            builder.position_at_end(end)
            totals = [builder.phi(_VECTOR) for _ in range(n_rows)]
            for r, (total, new) in enumerate(zip(totals, added, strict=True)):
                total.add_incoming(nothing, entry)
                total.add_incoming(new, loop)
                place = _at(builder, target, builder.mul(row, ir.Constant(_INT64, r)))
                builder.store(total, place, align=8)
            return context.get_dummy_value()

        @intrinsic
        def product(
            typing: Any, target: Any, row: Any, a: Any, a_row: Any, a_step: Any, b: Any,
            b_step: Any, k: Any,
        ) -> Any:  # fmt: skip
            return types.void(*[types.int64] * 8), emit

        return product


sixteen_rows, eight_rows, four_rows = map(_product, (16, 8, 4))
"""Store the products of some rows of a matrix and k rows of a group of lanes.

Arguments: the address of the first result, and the bytes from one to the next; the address of the
matrix, and the bytes from row to row and from term to term; the address of the lanes, and the
bytes from term to term; and k.
"""
