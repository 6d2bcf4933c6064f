"""The kernel of a loop that goes on until its condition ends it, in each lane for itself.

A lane that has ended costs little more: when there are enough of them, the others close ranks.
"""

import numpy as np

from tapeflow.addresses import load_float, load_int, load_int32, store_float
from tapeflow.array_kernels.base import kernel
from tapeflow.jit import compiled
from tapeflow.loop_kernels.counted import width_for
from tapeflow.loop_kernels.steps import (
    GO,
    GO_SINGLE,
    LASTING,
    N_LASTING,
    N_ROWS,
    N_SINGLES,
    NESTED,
    finish,
    load_consts,
    load_inits,
    narrow,
    pad,
    prepare,
    run_body,
    write_step,
)
from tapeflow.tiles import lowest_bit, nonzero_group

START, BODY, UNTIL_SIZE = range(3)
"""The loop's job: the phase that says whether there is a first step, and that of a step."""


@compiled()
def repeat_living(phase, memory, w, alive):
    """Let the columns that have ended repeat one that has not: their own might go on for ever."""
    living = 0
    while alive[living] == 0:
        living += 1
    living = 8 * living + lowest_bit(alive[living])
    row = load_int(phase + 8 * LASTING)
    for _ in range(load_int(phase + 8 * N_LASTING)):
        place = load_int(row)
        for k in range(place, place + load_int(row + 8)):
            number = load_float(memory, 8 * (w * k + living))
            for column in range(w):
                if not alive[column // 8] >> (column % 8) & 1:
                    store_float(memory, 8 * (w * k + column), number)
        row += 16


@compiled()
def all_alive(alive, a):
    """Mark the first ``a`` columns."""
    for g in range(len(alive)):
        alive[g] = (1 << max(min(a - 8 * g, 8), 0)) - 1


@compiled()
def end_columns(phase, at, steps, alive, memory, single, own_rows, w, result, lanes, columns):
    """Write the results of the columns that have just ended, and mark them; how many there are.

    at: the phase that says which go on, whose memory is own_rows and single; phase, memory: those
    of the carries.
    """
    place, n = load_int(at + 8 * GO), 0
    order = np.int64(columns.ctypes.data)
    for g in range((w + 7) // 8):
        if load_int(at + 8 * GO_SINGLE):
            on = 255 if load_float(single, 8 * place) != 0.0 else 0
        else:
            on = nonzero_group(own_rows + 8 * (w * place + 8 * g))
        ended = alive[g] & ~on
        alive[g] &= on
        while ended:
            column = 8 * g + lowest_bit(ended)
            ended &= ended - 1
            n += 1
            store_float(result, 8 * columns[column], float(steps))
            finish(phase, memory, w, result, lanes, order, column, column + 1)
    return n


@compiled()
def close_ranks(phase, memory, w, width, alive, columns, chosen):
    """Go on with the living columns alone, in narrower rows; how many there are."""
    n = 0
    for g in range((w + 7) // 8):
        bits = alive[g]
        while bits:
            chosen[n] = 8 * g + lowest_bit(bits)
            columns[n] = columns[chosen[n]]
            bits &= bits - 1
            n += 1
    narrow(phase, memory, w, width, np.int64(chosen.ctypes.data), n)
    all_alive(alive, n)


@kernel
def until_loop(values, cotangents, shared, record, lanes):
    """A record: the place of the result, the address of the job, and the operands."""
    job = load_int(record + 4)
    result = values + 8 * lanes * load_int32(record)
    start, body = load_int(job + 8 * START), load_int(job + 8 * BODY)
    rows, singles = load_int(body + 8 * N_ROWS), load_int(body + 8 * N_SINGLES)
    first_rows, first_singles = load_int(start + 8 * N_ROWS), load_int(start + 8 * N_SINGLES)
    room = np.empty((rows + first_rows) * lanes + singles + first_singles + 8)
    memory = np.int64(room.ctypes.data)
    single = memory + 8 * rows * lanes
    first_memory = single + 8 * singles
    first_single = first_memory + 8 * first_rows * lanes
    # Which lane is in each column; which columns have not ended, as bits of a number for eight.
    columns, chosen = np.arange(lanes), np.empty(lanes, np.int64)
    alive = np.empty((lanes + 7) // 8, np.int64)
    all_alive(alive, lanes)
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
            body, at, steps, alive, memory, own_single, own_rows, w, result, lanes, columns
        )
        a -= ended
        if a == 0:
            break
        width = width_for(a, lanes)
        if width < w:
            close_ranks(body, memory, w, width, alive, columns, chosen)
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
    # Arrays live up to their last use, which is to be here.
    room[0], columns[0], chosen[0] = 0.0, 0, 0
