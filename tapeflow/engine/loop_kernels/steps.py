# mypy: allow-untyped-defs
"""One phase of a loop over some of its steps.

What a phase consists of is an int64 array, in the order of the names below. A table has rows: of a
"const", an "x" or a first value the number of the operand, its length, its place in the body's
memory, and 1 if it is a single number there; of a stream that is read its place in a step's record,
its length and place; of what is written the place in the body, 1 if single, where it goes, and how
many numbers (and for a y, how many it has a step). LASTING are the rows that keep what they have
from one step to the next, carries and consts, in the order of their places: the first, and how
many. NESTED: whether the body has loops or branches itself.
"""

from tapeflow.engine.addresses import call_threaded, load_float, load_int, store_float
from tapeflow.engine.interpreter import run_code
from tapeflow.engine.loop_kernels.rows import (
    copy_row,
    fill_row,
    load_operand,
    load_rows,
    narrow_rows,
    operand_at,
    pad_rows,
    put_columns,
    put_rows,
    widen_rows,
)
from tapeflow.jit import helper

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
    LASTING,
    N_LASTING,
    NESTED,
    PHASE_SIZE,
) = range(40)


@helper()
def prepare(phase, memory, singles):
    """Put a body's constants where it reads them."""
    to = singles if load_int(phase + 8 * CONSTANTS_SINGLE) else memory
    place, n = load_int(phase + 8 * FIRST_CONSTANT), load_int(phase + 8 * N_CONSTANTS)
    copy_row(to + 8 * place, load_int(phase + 8 * CONSTANTS), n)


@helper()
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
        run_code(load_int(phase + 8 * SHARED_CODE), n, singles, 0, 0, 1)
    run_code(load_int(phase + 8 * CODE), load_int(phase + 8 * N_CODE), memory, 0, singles, w)


@helper(apart=True)
def load_consts(phase, memory, singles, w, values, shared, record, lanes, order, a):
    """What is the same at every step."""
    row = load_int(phase + 8 * CONSTS)
    for _ in range(load_int(phase + 8 * N_CONSTS)):
        load_operand(memory, singles, row, w, values, shared, record, lanes, order, a)
        row += 32


@helper(apart=True)
def load_inits(phase, memory, w, values, shared, record, lanes, order, a):
    """The first values of the carries."""
    row = load_int(phase + 8 * INITS)
    for _ in range(load_int(phase + 8 * N_INITS)):
        source, width = operand_at(values, shared, record, load_int(row), lanes)
        target = memory + 8 * w * load_int(row + 16)
        load_rows(target, w, source, width, load_int(row + 8), order, a)
        row += 32


@helper()
def load_columns(table, n, memory, w, values, shared, record, lanes, order, first, last):
    """The columns first to last - 1 of a table's operands that are rows."""
    row = table
    for _ in range(n):
        source, width = operand_at(values, shared, record, load_int(row), lanes)
        place = load_int(row + 16)
        for k in range(0 if load_int(row + 24) else load_int(row + 8)):
            own, target = source + 8 * max(width, 1) * k, memory + 8 * w * (place + k)
            for column in range(first, last):
                at = 8 * load_int(order + 8 * column) if width else 0
                store_float(target, 8 * column, load_float(own, at))
        row += 32


@helper()
def admit(phase, memory, w, values, shared, record, lanes, order, first, last):
    """Let lanes begin: their carries, and what is the same at each step."""
    for table, n in ((INITS, N_INITS), (CONSTS, N_CONSTS)):
        load_columns(
            load_int(phase + 8 * table), load_int(phase + 8 * n), memory, w, values, shared,
            record, lanes, order, first, last,
        )  # fmt: skip


@helper()
def pad(phase, memory, w, a):
    """Let the columns beyond the a-th repeat the last."""
    row = load_int(phase + 8 * LASTING)
    for _ in range(load_int(phase + 8 * N_LASTING) if a < w else 0):
        pad_rows(memory, w, load_int(row), load_int(row + 8), a)
        row += 16


@helper()
def narrow(phase, memory, before, after, chosen):
    """Go on with some of the columns alone, in rows of another width."""
    row = load_int(phase + 8 * LASTING)
    for _ in range(load_int(phase + 8 * N_LASTING)):
        narrow_rows(memory, load_int(row), load_int(row + 8), before, after, chosen)
        row += 16


@helper()
def widen(phase, memory, before, after, a):
    """Go on in wider rows."""
    first, n = load_int(phase + 8 * LASTING), load_int(phase + 8 * N_LASTING)
    for k in range(n if before != after else 0):
        row = first + 16 * (n - 1 - k)
        widen_rows(memory, load_int(row), load_int(row + 8), before, after, a)


@helper(apart=True)
def finish(phase, memory, w, result, lanes, order, first, last):
    """Write the carries of columns first to last - 1 to the result."""
    row = load_int(phase + 8 * FINALS)
    for _ in range(load_int(phase + 8 * N_FINALS)):
        target = result + 8 * lanes * load_int(row + 16)
        put_columns(target, lanes, memory, w, load_int(row), load_int(row + 8), order, first, last)
        row += 24


@helper()
def save_carries(phase, memory, w, target):
    """Keep the carries as they are, in rows of w numbers."""
    row = load_int(phase + 8 * INITS)
    for _ in range(load_int(phase + 8 * N_INITS)):
        size = load_int(row + 8)
        copy_row(target, memory + 8 * w * load_int(row + 16), w * size)
        target += 8 * w * size
        row += 32


@helper()
def restore_carries(phase, memory, w, source):
    """The carries as they were kept."""
    row = load_int(phase + 8 * INITS)
    for _ in range(load_int(phase + 8 * N_INITS)):
        size = load_int(row + 8)
        copy_row(memory + 8 * w * load_int(row + 16), source, w * size)
        source += 8 * w * size
        row += 32


@helper()
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


@helper()
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
