# mypy: allow-untyped-defs
"""The kernel of a loop that goes on until its condition ends it, in each lane for itself.

A lane that has ended costs little more: when there are enough of them, the others close ranks.
"""

from tapeflow.engine.addresses import (
    allocate,
    load_float,
    load_int,
    load_int32,
    release,
    store_float,
    store_int,
)
from tapeflow.engine.array_kernels.base import kernel
from tapeflow.engine.loop_kernels.counted import width_for
from tapeflow.engine.loop_kernels.rows import press_row
from tapeflow.engine.loop_kernels.steps import (
    FINALS,
    GO,
    GO_SINGLE,
    LASTING,
    N_FINALS,
    N_LASTING,
    N_ROWS,
    N_SINGLES,
    NESTED,
    load_consts,
    load_inits,
    narrow,
    pad,
    prepare,
    run_body,
    write_step,
)
from tapeflow.engine.tiles import lowest_bit, nonzero_group, press_group
from tapeflow.jit import INT, helper

START, BODY, UNTIL_SIZE = range(3)
"""The loop's job: the phase that says whether there is a first step, and that of a step."""


@helper()
def repeat_living(phase, memory, w, alive):
    """Let the columns that have ended repeat one that has not: their own might go on for ever."""
    living = 0
    while load_int(alive + 8 * living) == 0:
        living += 1
    living = 8 * living + lowest_bit(load_int(alive + 8 * living))
    row = load_int(phase + 8 * LASTING)
    for _ in range(load_int(phase + 8 * N_LASTING)):
        place = load_int(row)
        for k in range(place, place + load_int(row + 8)):
            number = load_float(memory, 8 * (w * k + living))
            for column in range(w):
                if not load_int(alive + 8 * (column // 8)) >> (column % 8) & 1:
                    store_float(memory, 8 * (w * k + column), number)
        row += 16


@helper()
def all_alive(alive, w, a):
    """Mark the first ``a`` of w columns."""
    for g in range((w + 7) // 8):
        store_int(alive + 8 * g, (1 << max(min(a - 8 * g, 8), 0)) - 1)


@helper(INT)
def end_columns(
    phase, at, steps, alive, memory, single, own_rows, w, result, lanes, columns, ends, numbers
):
    """Write the results of the columns that have just ended, and mark them; how many there are.

    at: the phase that says which go on, whose memory is own_rows and single; phase, memory: those
    of the carries. ends: room for a number a column, and eight; numbers: those of the columns.
    """
    place, n = load_int(at + 8 * GO), 0
    for g in range((w + 7) // 8):
        if load_int(at + 8 * GO_SINGLE):
            on = 255 if load_float(single, 8 * place) != 0.0 else 0
        else:
            on = nonzero_group(own_rows + 8 * (w * place + 8 * g))
        before = load_int(alive + 8 * g)
        ended = before & ~on
        store_int(alive + 8 * g, before & on)
        if ended:
            # All at once: a loop over them ends somewhere else each time.
            n += press_group(ends + 8 * n, numbers + 64 * g, ended)
    for k in range(n):
        lane = load_int(columns + 8 * load_int(ends + 8 * k))
        store_float(result, 8 * lane, float(steps))
    row = load_int(phase + 8 * FINALS)
    for _ in range(load_int(phase + 8 * N_FINALS) if n else 0):
        for number in range(load_int(row + 8)):
            target = result + 8 * lanes * (load_int(row + 16) + number)
            source = memory + 8 * w * (load_int(row) + number)
            for k in range(n):
                column = load_int(ends + 8 * k)
                lane = load_int(columns + 8 * column)
                store_float(target, 8 * lane, load_float(source, 8 * column))
        row += 24
    return n


@helper()
def close_ranks(phase, memory, w, width, a, alive, columns):
    """Go on with the a living columns alone, in narrower rows."""
    narrow(phase, memory, w, width, alive)
    press_row(columns, columns, w, alive)
    all_alive(alive, w, a)


@kernel
def until_loop(values, cotangents, shared, record, lanes):
    """A record: the place of the result, the address of the job, and the operands."""
    job = load_int(record + 4)
    result = values + 8 * lanes * load_int32(record)
    start, body = load_int(job + 8 * START), load_int(job + 8 * BODY)
    rows, singles = load_int(body + 8 * N_ROWS), load_int(body + 8 * N_SINGLES)
    first_rows, first_singles = load_int(start + 8 * N_ROWS), load_int(start + 8 * N_SINGLES)
    memory = allocate((rows + first_rows) * lanes + singles + first_singles + 8)
    single = memory + 8 * rows * lanes
    first_memory = single + 8 * singles
    first_single = first_memory + 8 * first_rows * lanes
    # Which lane is in each column; which columns have not ended, as bits of a number for eight.
    columns = allocate(4 * lanes + 24)
    ends = columns + 8 * (lanes + 8)
    numbers = ends + 8 * (lanes + 8)
    alive = numbers + 8 * lanes
    for lane in range(lanes):
        store_int(columns + 8 * lane, lane)
        store_int(numbers + 8 * lane, lane)
    all_alive(alive, lanes, lanes)
    nested = load_int(body + 8 * NESTED)
    prepare(start, first_memory, first_single)
    prepare(body, memory, single)
    load_consts(start, first_memory, first_single, lanes, values, shared, record, lanes, 0, lanes)
    run_body(start, first_memory, first_single, lanes)
    load_consts(body, memory, single, lanes, values, shared, record, lanes, 0, lanes)
    load_inits(body, memory, lanes, values, shared, record, lanes, 0, lanes)
    w, a, steps, own_rows, own_single, at = lanes, lanes, 0, first_memory, first_single, start
    while True:
        ended = end_columns(
            body, at, steps, alive, memory, own_single, own_rows, w, result, lanes, columns, ends,
            numbers,
        )  # fmt: skip
        a -= ended
        if a == 0:
            break
        width = width_for(a, lanes)
        if width < w:
            close_ranks(body, memory, w, width, a, alive, columns)
            w = width
            if nested:
                pad(body, memory, w, a)
        elif ended and nested:
            repeat_living(body, memory, w, alive)
        run_body(body, memory, single, w)
        steps += 1
        if steps == 1:
            own_rows, own_single, at = memory, single, body
        write_step(body, memory, single, w, 0, 0, result, lanes)
    release(memory)
    release(columns)
