# mypy: allow-untyped-defs
"""Numbers that a block of lanes reads by an index, and results of a sample that lie side by side.

What is stored side by side is first put in order in memory that stays in the cache, and from there
stored past it, whole lines at a time: writing a line in part reads it first.
"""

from tapeflow.engine.addresses import GROUP, load_float, load_int, load_int32, store_float
from tapeflow.engine.tiles import stream_group, turn_rows
from tapeflow.jit import BOOL, INT, helper

FEWEST, MOST = GROUP, 64
"""Numbers of a sample that are staged: a tile at least, and no more than the cache has room for."""

UNSIGNED = 1 << 32
"""Added in a table to a result's place, or size, if a negative zero becomes a positive one."""

PART = 16
"""Lanes that are put in order before they are stored: few, to be stored from the first cache."""


@helper()
def gather_lanes(table, n_rows, values, first, n, lanes):
    """Copy indexed numbers of a block in; the last sample fills the lanes beyond the batch.

    table: for each row its place, the address of the number of element 0 and the bytes from element
    to element; then the address of the 32-bit index of sample 0, and the bytes from index to index.
    """
    k = 0
    while k < n_rows:
        tile = _tile_from(table, n_rows, k)
        start, count = (k, 1) if tile < 0 else (tile, GROUP)
        own = table + 48 * start
        row, source = values + 8 * lanes * load_int(own), load_int(own + 8)
        stride, step = load_int(own + 16), load_int(own + 32)
        index, moved = load_int(own + 24) + first * step, 0
        if tile >= 0:
            moved = n // GROUP * GROUP
            for lane in range(0, moved, GROUP):
                _gather_tile(row + 8 * lane, 8 * lanes, source, stride, index + step * lane, step)
        for _ in range(count):
            for lane in range(moved, n):
                place = stride * load_int32(index + step * lane)
                store_float(row, 8 * lane, load_float(source, place))
            for lane in range(n, lanes):
                store_float(row, 8 * lane, load_float(row, 8 * (n - 1)))
            row += 8 * lanes
            source += 8
        k = start + count


@helper(BOOL)
def _joined(table, k):
    """Whether gathered row k + 1 is next to row k, in the block and in the elements."""
    own, other = table + 48 * k, table + 48 * (k + 1)
    return (
        load_int(other) == load_int(own) + 1
        and load_int(other + 8) == load_int(own + 8) + 8
        and load_int(other + 24) == load_int(own + 24)
    )


@helper(INT)
def _tile_from(table, n_rows, k):
    """Where eight gathered rows begin that lie side by side, row k among them; -1 if none do.

    The last tile of a run goes back over rows that another has moved.
    """
    first, last = k, k
    while last - k < GROUP - 1 and last + 1 < n_rows and _joined(table, last):
        last += 1
    while last - first < GROUP - 1 and first > 0 and _joined(table, first - 1):
        first -= 1
    return first if last - first == GROUP - 1 else -1


@helper()
def _gather_tile(row, row_step, source, stride, index, step):
    """Eight numbers of each of eight elements, as rows."""
    a = source + stride * load_int32(index)
    b = source + stride * load_int32(index + step)
    c = source + stride * load_int32(index + 2 * step)
    d = source + stride * load_int32(index + 3 * step)
    e = source + stride * load_int32(index + 4 * step)
    f = source + stride * load_int32(index + 5 * step)
    g = source + stride * load_int32(index + 6 * step)
    h = source + stride * load_int32(index + 7 * step)
    turn_rows(row, row_step, 0, a, b, c, d, e, f, g, h)


@helper()
def store_staged(table, n_rows, values, shared, staging, first, n, lanes, stream):
    """Copy results of a block out that lie side by side for each sample.

    table: for each such run how many numbers it has (with UNSIGNED or without), the address of
    sample 0 and the bytes from sample to sample, which are as many numbers; then a row for each
    number: its place, or ~ that of a single number, in ``shared``, that all samples have. From
    ``staging`` on there is room for twice as many rows.
    """
    k = 0
    while k < n_rows:
        own = table + 24 * k
        size, stride = load_int(own) & (UNSIGNED - 1), load_int(own + 16)
        zero = 0.0 if load_int(own) & UNSIGNED else -0.0
        target = load_int(own + 8) + first * stride
        k += 1 + size
        spread = staging + stride * lanes
        for j in range(size):
            place = load_int(own + 24 * (1 + j))
            if place < 0:
                number = load_float(shared, 8 * ~place)
                for lane in range(lanes):
                    store_float(spread + 8 * lanes * j, 8 * lane, number)
        if n == lanes:
            for lane in range(0, lanes, PART):
                count, half = min(PART, lanes - lane), staging + stride * PART * (lane // PART % 2)
                for start in range(0, size, GROUP):
                    # The last tile goes back over numbers that another has moved.
                    column = min(start, size - GROUP)
                    place = half + 8 * column
                    _turn(own, column, values, spread, lanes, place, stride, lane, count)
                _copy_out(target + stride * lane, half, stride * count, stream, zero)
        else:
            for j in range(size):
                row = _row(own, values, spread, lanes, j)
                for lane in range(n):
                    number = load_float(row, 8 * lane) + zero
                    store_float(target, stride * lane + 8 * j, number)


@helper()
def _turn(table, k, values, spread, lanes, staging, stride, first, count):
    """Eight rows, from number k on, as columns, of some lanes."""
    a, b = _row(table, values, spread, lanes, k), _row(table, values, spread, lanes, k + 1)
    c, d = _row(table, values, spread, lanes, k + 2), _row(table, values, spread, lanes, k + 3)
    e, f = _row(table, values, spread, lanes, k + 4), _row(table, values, spread, lanes, k + 5)
    g, h = _row(table, values, spread, lanes, k + 6), _row(table, values, spread, lanes, k + 7)
    for lane in range(0, count, GROUP):
        turn_rows(staging + stride * lane, stride, 8 * (first + lane), a, b, c, d, e, f, g, h)


@helper(INT)
def _row(table, values, spread, lanes, k):
    """Where the row of a run's number k is: in its place, or where its number has been spread."""
    place = load_int(table + 24 * (1 + k))
    return spread + 8 * lanes * k if place < 0 else values + 8 * lanes * place


@helper()
def _copy_out(target, staging, n_bytes, stream, zero):
    """Copy a whole number of lines; past the caches, if asked to, and where they begin with one.

    zero: what is added, as in `blocks.store_row`.
    """
    if stream and target % 64 == 0:
        for place in range(0, n_bytes, 8 * GROUP):
            stream_group(target + place, staging + place, zero)
    else:
        for place in range(0, n_bytes, 8):
            store_float(target, place, load_float(staging, place) + zero)
