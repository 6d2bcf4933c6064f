# mypy: allow-untyped-defs
"""Rows of lanes moved between an instruction's operands, a body's memory, and its result.

A body works on ``w`` lanes, a row of which has ``w`` numbers. Of those ``a`` are samples; the rest
repeat the last sample, so that nothing happens in them that does not happen in it. The instruction
that it is part of has rows of ``lanes`` numbers; ``order`` says which lane is which (an address of
int64; zero for all in their order).
"""

from tapeflow.engine.addresses import load_float, load_int, load_int32, store_float
from tapeflow.engine.tiles import press_group
from tapeflow.jit import INT, PAIR, helper


@helper()
def copy_row(target, source, n):
    for k in range(n):
        store_float(target, 8 * k, load_float(source, 8 * k))


@helper()
def fill_row(target, number, n):
    for k in range(n):
        store_float(target, 8 * k, number)


@helper(INT)
def lane_of(order, column, a):
    """The lane that is in a column."""
    column = min(column, a - 1)
    return load_int(order + 8 * column) if order else column


@helper(PAIR)
def operand_at(values, shared, record, k, lanes):
    """An operand's address, and how many numbers a row of it has: 0 for single numbers."""
    place = load_int32(record + 12 + 8 * k)
    if load_int32(record + 16 + 8 * k):
        return shared + 8 * place, 0
    return values + 8 * lanes * place, lanes


@helper()
def load_rows(target, w, source, width, size, order, a):
    """Rows of an operand into a body's memory."""
    for k in range(size):
        row = target + 8 * w * k
        if width == 0:
            fill_row(row, load_float(source, 8 * k), w)
        elif order == 0 and w == width:
            copy_row(row, source + 8 * width * k, w)
        else:
            own = source + 8 * width * k
            for column in range(w):
                store_float(row, 8 * column, load_float(own, 8 * lane_of(order, column, a)))


@helper()
def load_operand(memory, singles, row, w, values, shared, record, lanes, order, a):
    """An operand, as a row of a table says: its number, length and place, and 1 if single."""
    source, width = operand_at(values, shared, record, load_int(row), lanes)
    size, place = load_int(row + 8), load_int(row + 16)
    if load_int(row + 24):
        copy_row(singles + 8 * place, source, size)
    else:
        load_rows(memory + 8 * w * place, w, source, width, size, order, a)


@helper()
def put_rows(target, memory, singles, place, single, n, w):
    """Rows, or single numbers, of a body to rows of w numbers elsewhere."""
    for k in range(n):
        if single:
            fill_row(target + 8 * w * k, load_float(singles, 8 * (place + k)), w)
        else:
            copy_row(target + 8 * w * k, memory + 8 * w * (place + k), w)


@helper()
def put_columns(target, lanes, memory, w, place, size, order, first, last):
    """Columns first to last - 1 of a body's rows to their lanes in rows of a result."""
    for k in range(size):
        row, own = target + 8 * lanes * k, memory + 8 * w * (place + k)
        for column in range(first, last):
            lane = load_int(order + 8 * column) if order else column
            store_float(row, 8 * lane, load_float(own, 8 * column))


@helper()
def pad_rows(memory, w, place, size, a):
    """Let the columns beyond the a-th repeat the last."""
    for k in range(place, place + size):
        row = memory + 8 * w * k
        number = load_float(row, 8 * (a - 1))
        for column in range(a, w):
            store_float(row, 8 * column, number)


@helper()
def narrow_rows(memory, place, size, before, after, chosen):
    """Rows of ``before`` numbers in place as rows of ``after``: those that are chosen.

    chosen: the address of their bits, a number for every eight columns; zero for the first.
    """
    for k in range(place, place + size):
        row, own = memory + 8 * after * k, memory + 8 * before * k
        if chosen:
            press_row(row, own, before, chosen)
        elif after != before:
            copy_row(row, own, after)


@helper()
def press_row(row, own, n, chosen):
    """The chosen ones of n numbers, one after the other, at or before where they are."""
    for g in range((n + 7) // 8):
        row += 8 * press_group(row, own + 64 * g, load_int(chosen + 8 * g))


@helper()
def widen_rows(memory, place, size, before, after, a):
    """Rows of ``before`` numbers in place as rows of ``after``, from the last: the first ``a``."""
    for k in range(place + size - 1, place - 1, -1):
        for column in range(a - 1, -1, -1):
            number = load_float(memory, 8 * (before * k + column))
            store_float(memory, 8 * (after * k + column), number)
