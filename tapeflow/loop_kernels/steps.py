"""One phase of a loop over some of its steps.

What a phase consists of is an int64 array, in the order of the names below. A table has rows: of a
"const", an "x" or a first value the number of the operand, its length, its place in the body's
memory, and 1 if it is a single number there; of a stream that is read its place in a step's record,
its length and place; of what is written the place in the body, 1 if single, where it goes, and how
many numbers (and for a y, how many it has a step).
"""

from tapeflow.addresses import call_threaded, load_float, load_int, store_float
from tapeflow.interpreter import execute
from tapeflow.jit import compiled
from tapeflow.loop_kernels.rows import (
    copy_row,
    fill_row,
    load_operand,
    load_rows,
    operand_at,
    put_columns,
    put_rows,
    repeat_column,
    widen,
)

(
    THREADED,
    N_ROWS,
    N_SINGLES,
    CONSTANTS,
    N_CONSTANTS,
    FIRST_CONSTANT,
    CONSTANTS_SINGLE,
    SHARED_CODE,
    N_SHARED_CODE,
    CODE,
    N_CODE,
    FIRST_PLACE,
    OPERANDS,
    TABLE,
    REVERSE,
    CONSTS,
    N_CONSTS,
    XS,
    N_XS,
    READ_STREAMS,
    N_READ_STREAMS,
    INDEX,
    INDEX_SINGLE,
    INITS,
    N_INITS,
    WRITTEN_STREAMS,
    N_WRITTEN_STREAMS,
    YS,
    N_YS,
    MOVES,
    N_MOVES,
    FINALS,
    N_FINALS,
    GO,
    GO_SINGLE,
    CARRIED,
    PHASE_SIZE,
) = range(37)


@compiled()
def prepare(phase, memory, singles):
    """Put a body's constants where it reads them."""
    to = singles if load_int(phase + 8 * CONSTANTS_SINGLE) else memory
    place, n = load_int(phase + 8 * FIRST_CONSTANT), load_int(phase + 8 * N_CONSTANTS)
    copy_row(to + 8 * place, load_int(phase + 8 * CONSTANTS), n)


@compiled()
def run_body(phase, memory, singles, w):
    """The body once, on w lanes."""
    if load_int(phase + 8 * THREADED):
        call_threaded(
            memory,
            0,
            load_int(phase + 8 * FIRST_PLACE),
            load_int(phase + 8 * OPERANDS),
            load_int(phase + 8 * CODE),
            load_int(phase + 8 * TABLE),
        )
        return
    n = load_int(phase + 8 * N_SHARED_CODE)
    if n:
        execute(load_int(phase + 8 * SHARED_CODE), n, singles, 0, 0, 1)
    execute(load_int(phase + 8 * CODE), load_int(phase + 8 * N_CODE), memory, 0, singles, w)


@compiled()
def load_consts(phase, memory, singles, w, values, shared, record, lanes, order, a):
    """What is the same at every step."""
    row = load_int(phase + 8 * CONSTS)
    for _ in range(load_int(phase + 8 * N_CONSTS)):
        load_operand(memory, singles, row, w, values, shared, record, lanes, order, a)
        row += 32


@compiled()
def load_inits(phase, memory, w, values, shared, record, lanes, order, a, first):
    """The first values of the carries, for the columns from ``first`` on."""
    row = load_int(phase + 8 * INITS)
    for _ in range(load_int(phase + 8 * N_INITS)):
        source, width = operand_at(values, shared, record, load_int(row), lanes)
        size, place = load_int(row + 8), load_int(row + 16)
        if first == 0:
            load_rows(memory + 8 * w * place, w, source, width, size, order, a)
        else:
            for k in range(size):
                for column in range(first, a):
                    lane = load_int(order + 8 * column)
                    number = load_float(source, 8 * k if width == 0 else 8 * (width * k + lane))
                    store_float(memory, 8 * (w * (place + k) + column), number)
        row += 32


@compiled()
def pad(phase, memory, w, a):
    """Let the columns beyond the a-th repeat the last."""
    if a == w:
        return
    row = load_int(phase + 8 * INITS)
    for _ in range(load_int(phase + 8 * N_INITS)):
        repeat_column(memory, w, load_int(row + 16), load_int(row + 8), a - 1, a, w)
        row += 32


@compiled()
def change_width(phase, memory, before, after):
    """The carries in rows of another width; their table is in the order of their places."""
    row, n = load_int(phase + 8 * INITS), load_int(phase + 8 * N_INITS)
    for k in range(n):
        own = row + 32 * (k if after < before else n - 1 - k)
        widen(memory, load_int(own + 16), load_int(own + 8), before, after)


@compiled()
def finish(phase, memory, w, result, lanes, order, first, last):
    """Write the carries of columns first to last - 1 to the result."""
    row = load_int(phase + 8 * FINALS)
    for _ in range(load_int(phase + 8 * N_FINALS)):
        target = result + 8 * lanes * load_int(row + 16)
        put_columns(target, lanes, memory, w, load_int(row), load_int(row + 8), order, first, last)
        row += 24


@compiled()
def save_carries(phase, memory, w, target):
    """Keep the carries as they are, in rows of w numbers."""
    row = load_int(phase + 8 * INITS)
    for _ in range(load_int(phase + 8 * N_INITS)):
        size = load_int(row + 8)
        copy_row(target, memory + 8 * w * load_int(row + 16), w * size)
        target += 8 * w * size
        row += 32


@compiled()
def restore_carries(phase, memory, w, source):
    """The carries as they were kept."""
    row = load_int(phase + 8 * INITS)
    for _ in range(load_int(phase + 8 * N_INITS)):
        size = load_int(row + 8)
        copy_row(memory + 8 * w * load_int(row + 16), source, w * size)
        source += 8 * w * size
        row += 32


@compiled()
def read_step(phase, memory, singles, w, i, stream, values, shared, record, lanes):
    """What the body reads at step i. stream: the address of the step's record."""
    row = load_int(phase + 8 * XS)
    for _ in range(load_int(phase + 8 * N_XS)):
        source, width = operand_at(values, shared, record, load_int(row), lanes)
        size, place = load_int(row + 8), load_int(row + 16)
        source += 8 * size * i * max(width, 1)
        if load_int(row + 24):
            copy_row(singles + 8 * place, source, size)
        else:
            load_rows(memory + 8 * w * place, w, source, width, size, 0, w)
        row += 32
    row = load_int(phase + 8 * READ_STREAMS)
    for _ in range(load_int(phase + 8 * N_READ_STREAMS)):
        target = memory + 8 * w * load_int(row + 16)
        copy_row(target, stream + 8 * w * load_int(row), w * load_int(row + 8))
        row += 24
    place = load_int(phase + 8 * INDEX)
    if place >= 0:
        if load_int(phase + 8 * INDEX_SINGLE):
            store_float(singles, 8 * place, float(i))
        else:
            fill_row(memory + 8 * w * place, float(i), w)


@compiled()
def write_step(phase, memory, singles, w, i, stream, result, lanes):
    """What the body leaves behind at step i; then its new carries."""
    row = load_int(phase + 8 * WRITTEN_STREAMS)
    for _ in range(load_int(phase + 8 * N_WRITTEN_STREAMS)):
        target = stream + 8 * w * load_int(row + 16)
        put_rows(target, memory, singles, load_int(row), load_int(row + 8), load_int(row + 24), w)
        row += 32
    row = load_int(phase + 8 * YS)
    for _ in range(load_int(phase + 8 * N_YS)):
        target = result + 8 * lanes * (load_int(row + 16) + i * load_int(row + 32))
        put_rows(target, memory, singles, load_int(row), load_int(row + 8), load_int(row + 24), w)
        row += 40
    row = load_int(phase + 8 * MOVES)
    for _ in range(load_int(phase + 8 * N_MOVES)):
        target = memory + 8 * w * load_int(row + 16)
        put_rows(target, memory, singles, load_int(row), load_int(row + 8), load_int(row + 24), w)
        row += 32
