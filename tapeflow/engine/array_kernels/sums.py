# mypy: allow-untyped-defs
"""Kernels that reduce along an axis."""

from tapeflow.engine.addresses import GROUP, load_float, load_int32, stack_memory, store_float
from tapeflow.engine.array_kernels.base import clear, copy_number, kernel, operand_of, result_of
from tapeflow.engine.tiles import add_group, copy_group, sum_rows
from tapeflow.jit import FLOAT, helper

BLOCK = 128
LEVELS = 40
"""Depth of the tree of sums: enough for 2**40 blocks."""


# Sums have the tree of `arrays.reductions.pairwise_sum`: eight running sums in blocks of 128
# terms, which are added pairwise as they come.


@helper()
def sum_group(target, source, stride, n, stack):
    """The sums of n rows of a group of numbers each; ``stack`` has room for LEVELS groups."""
    blocks = (n + BLOCK - 1) // BLOCK
    for block in range(blocks):
        first = source + stride * BLOCK * block
        sum_rows(target, first, stride, min(BLOCK, n - BLOCK * block))
        level, position = 0, block
        while position & 1:
            add_group(target, stack + 8 * GROUP * level, target)
            position >>= 1
            level += 1
        copy_group(stack + 8 * GROUP * level, target)
    for k in range(GROUP):
        store_float(target, 8 * k, -0.0)
    for level in range(LEVELS):
        if blocks >> level & 1:
            add_group(target, stack + 8 * GROUP * level, target)


@helper(FLOAT)
def sum_line(source, n, stack):
    """The sum of n numbers that lie one after the other."""
    total, last = stack + 8 * GROUP * LEVELS, stack + 8 * GROUP * (LEVELS + 1)
    blocks = (n + BLOCK - 1) // BLOCK
    for block in range(blocks):
        first, own = source + 8 * BLOCK * block, min(BLOCK, n - BLOCK * block)
        # A running sum takes every eighth number, so eight numbers are a row of all the sums.
        groups = own // GROUP
        for k in range(GROUP):
            store_float(total, 8 * k, -0.0)
        for group in range(groups):
            add_group(total, total, first + 8 * GROUP * group)
        for k in range(own - GROUP * groups):
            more = load_float(total, 8 * k) + load_float(first, 8 * (GROUP * groups + k))
            store_float(total, 8 * k, more)
        part = fold_group(total)
        level, position = 0, block
        while position & 1:
            part = load_float(stack, 8 * level) + part
            position >>= 1
            level += 1
        store_float(stack, 8 * level, part)
    store_float(last, 0, -0.0)
    for level in range(LEVELS):
        if blocks >> level & 1:
            store_float(last, 0, load_float(stack, 8 * level) + load_float(last, 0))
    return load_float(last, 0)


@helper(FLOAT)
def fold_group(total):
    """Eight numbers, added pairwise."""
    left = load_float(total, 0) + load_float(total, 8)
    left += load_float(total, 16) + load_float(total, 24)
    right = load_float(total, 32) + load_float(total, 40)
    return left + (right + (load_float(total, 48) + load_float(total, 56)))


@kernel
def sum(values, cotangents, shared, record, lanes):
    """Parameters: groups outside the axis, its length, numbers inside."""
    source, _, _ = operand_of(values, shared, record, 0, lanes)
    target = result_of(values, record, lanes)
    outer, n = load_int32(record + 12), load_int32(record + 16)
    width = load_int32(record + 20) * lanes
    stack = stack_memory()
    group = stack + 8 * GROUP * (LEVELS + 2)
    for k in range(outer):
        rows, sums = source + 8 * width * n * k, target + 8 * width * k
        if n == 0:
            clear(sums, width)
        elif width == 1:
            store_float(sums, 0, sum_line(rows, n, stack))
        elif width >= GROUP:
            for first in range(0, width - GROUP, GROUP):
                sum_group(sums + 8 * first, rows + 8 * first, 8 * width, n, stack)
            first = 8 * (width - GROUP)
            sum_group(sums + first, rows + first, 8 * width, n, stack)
        else:
            # Fewer than eight columns: one at a time, put together first.
            for column in range(width):
                store_float(sums, 8 * column, -0.0)
            sum_narrow(sums, rows, width, n, stack, group)


@helper()
def sum_narrow(sums, rows, width, n, stack, group):
    """The sums of n rows of fewer numbers than a group has."""
    for column in range(width):
        blocks = (n + BLOCK - 1) // BLOCK
        for block in range(blocks):
            for k in range(GROUP):
                store_float(group, 8 * k, -0.0)
            for k in range(min(BLOCK, n - BLOCK * block)):
                at = 8 * (k % GROUP)
                number = load_float(rows, 8 * ((BLOCK * block + k) * width + column))
                store_float(group, at, load_float(group, at) + number)
            part = fold_group(group)
            level, position = 0, block
            while position & 1:
                part = load_float(stack, 8 * level) + part
                position >>= 1
                level += 1
            store_float(stack, 8 * level, part)
        total = -0.0
        for level in range(LEVELS):
            if blocks >> level & 1:
                total = load_float(stack, 8 * level) + total
        store_float(sums, 8 * column, total)


@helper(FLOAT)
def larger(a, b):
    """The larger of two numbers; NaN if one is."""
    return a if (a >= b) | (a != a) else b


@helper(FLOAT)
def largest(source, n, group):
    """The largest of a group of numbers or more, that lie one after the other."""
    copy_group(group, source)
    for first in range(0, 8 * n - 8 * GROUP, 8 * GROUP):
        # The last round goes back, and looks at some numbers twice.
        at = source + min(first + 8 * GROUP, 8 * (n - GROUP))
        for k in range(0, 8 * GROUP, 8):
            store_float(group, k, larger(load_float(group, k), load_float(at, k)))
    best = load_float(group, 0)
    for k in range(1, GROUP):
        best = larger(best, load_float(group, 8 * k))
    return best


@kernel
def amax(values, cotangents, shared, record, lanes):
    """Parameters: as of `sum`."""
    source, _, _ = operand_of(values, shared, record, 0, lanes)
    target = result_of(values, record, lanes)
    outer, n = load_int32(record + 12), load_int32(record + 16)
    width = load_int32(record + 20) * lanes
    group = stack_memory()
    for k in range(outer):
        rows, best = source + 8 * width * n * k, target + 8 * width * k
        if width == 1 and n >= GROUP:
            store_float(best, 0, largest(rows, n, group))
            continue
        for j in range(width):
            store_float(best, 8 * j, load_float(rows, 8 * j))
        for row in range(1, n):
            for j in range(width):
                b = load_float(rows, 8 * (width * row + j))
                store_float(best, 8 * j, larger(load_float(best, 8 * j), b))


@kernel
def log_of_sum(values, cotangents, shared, record, lanes):
    """Parameters: as of `sum`; its value is the second operand."""
    source, step, lane_step = operand_of(values, shared, record, 1, lanes)
    target = result_of(values, record, lanes)
    for n in range(load_int32(record + 20) * load_int32(record + 28)):
        copy_number(target + 8 * lanes * n, source + step * n, lane_step, lanes)
