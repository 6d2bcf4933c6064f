# mypy: allow-untyped-defs, allow-untyped-decorators
"""Rows of a shared matrix times a group of lanes, in vector registers.

Each sum begins with zero and takes its terms in order, by an fma each: as the loop in
`products.dot` does, and for every width of a block.
"""

from typing import Any

from numba import config, types
from numba.extending import intrinsic

from tapeflow.engine.addresses import GROUP, load_float, store_float

if config.DISABLE_JIT:
    from tapeflow import primitives

    def fma(x: float, y: float, total: float) -> Any:
        return primitives.fma(x, y, total)

    def _product(n_rows: int, n_groups: int) -> Any:
        def product(
            target: int, row: int, a: int, a_row: int, a_step: int, b: int, b_step: int, k: int
        ) -> None:
            for r in range(n_rows):
                for lane in range(0, 8 * GROUP * n_groups, 8):
                    total = 0.0
                    for j in range(k):
                        x = load_float(a + a_row * r, a_step * j)
                        total = fma(x, load_float(b + b_step * j, lane), total)
                    store_float(target + row * r, lane, total)

        return product

else:
    from llvmlite import ir

    from tapeflow.engine.addresses import at_address as _at

    _DOUBLE, _INT64 = ir.DoubleType(), ir.IntType(64)
    _VECTOR = ir.VectorType(_DOUBLE, GROUP)
    _AHEAD = 24
    _FIRST = ir.Constant(ir.VectorType(ir.IntType(32), GROUP), [0] * GROUP)

    @intrinsic
    def fma(typing: Any, x: Any, y: Any, total: Any) -> Any:
        """x * y + total, rounded once."""

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.fma(*args)

        return types.float64(*[types.float64] * 3), emit

    def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
        """Call one of LLVM's own functions."""
        kind = ir.FunctionType(result, [arg.type for arg in args])
        known = builder.module.globals.get(name)
        return builder.call(known or ir.Function(builder.module, kind, name), args)

    def _prefetch(builder: Any, pointer: Any) -> None:
        # For reading, into all caches, as data.
        kinds = [ir.Constant(ir.IntType(32), x) for x in (0, 3, 1)]
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, *kinds)

    def _product(n_rows: int, n_groups: int) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            target, row, a, a_row, a_step, b, b_step, count = args
            zero, one = ir.Constant(_INT64, 0), ir.Constant(_INT64, 1)
            nothing = ir.Constant(_VECTOR, [0.0] * GROUP)
            groups = [ir.Constant(_INT64, 8 * GROUP * g) for g in range(n_groups)]
            firsts = [builder.mul(a_row, ir.Constant(_INT64, r)) for r in range(n_rows)]
            entry = builder.block
            loop, end = builder.append_basic_block(), builder.append_basic_block()
            builder.cbranch(builder.icmp_signed(">", count, zero), loop, end)
            builder.position_at_end(loop)
            j = builder.phi(_INT64)
            j.add_incoming(zero, entry)
            sums = [builder.phi(_VECTOR) for _ in range(n_rows * n_groups)]
            own, offset = builder.mul(j, b_step), builder.mul(j, a_step)
            ys = [
                builder.load(_at(builder, b, builder.add(own, g)), align=8, typ=_VECTOR)
                for g in groups
            ]
            # Where the matrix lies transposed each term is in another page, which the processor
            # does not foresee.
            ahead = builder.add(offset, builder.mul(a_step, ir.Constant(_INT64, _AHEAD)))
            _prefetch(builder, _at(builder, a, ahead))
            added: list[Any] = []
            for first in firsts:
                place = _at(builder, a, builder.add(first, offset))
                x = builder.load(place, align=8, typ=_DOUBLE)
                one_of_it = builder.insert_element(nothing, x, ir.Constant(ir.IntType(32), 0))
                xs = builder.shuffle_vector(one_of_it, one_of_it, _FIRST)
                for y in ys:
                    total = sums[len(added)]
                    total.add_incoming(nothing, entry)
                    added.append(_call(builder, f"llvm.fma.v{GROUP}f64", _VECTOR, xs, y, total))
            following = builder.add(j, one)
            j.add_incoming(following, loop)
            for total, new in zip(sums, added, strict=True):
                total.add_incoming(new, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, end)
            builder.position_at_end(end)
            totals = [builder.phi(_VECTOR) for _ in added]
            for k, (total, new) in enumerate(zip(totals, added, strict=True)):
                total.add_incoming(nothing, entry)
                total.add_incoming(new, loop)
                r, g = divmod(k, n_groups)
                step = builder.add(builder.mul(row, ir.Constant(_INT64, r)), groups[g])
                builder.store(total, _at(builder, target, step), align=8)
            return context.get_dummy_value()

        @intrinsic
        def product(
            typing: Any, target: Any, row: Any, a: Any, a_row: Any, a_step: Any, b: Any,
            b_step: Any, k: Any,
        ) -> Any:  # fmt: skip
            return types.void(*[types.int64] * 8), emit

        return product


eight_rows_twice, eight_rows, four_rows = _product(8, 2), _product(8, 1), _product(4, 1)
"""Store the products of some rows of a matrix and k rows of a group of lanes, or of two.

More rows would need more pointers than there are registers. Arguments: the address of the first
result, and the bytes from one row to the next; the address of the matrix, and the bytes from row
to row and from term to term; the address of the lanes, and the bytes from term to term; and k.
"""
