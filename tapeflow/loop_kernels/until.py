"""The kernel of a loop that goes on until its condition ends it, in each lane for itself.

A lane that has ended costs nothing more: when eight have, the others close ranks. Until then its
column repeats that of a lane at work.
"""

import numpy as np

from tapeflow.addresses import load_float, load_int, load_int32, store_float
from tapeflow.array_kernels.base import kernel
from tapeflow.jit import compiled
from tapeflow.loop_kernels.rows import repeat_column
from tapeflow.loop_kernels.steps import (
    CONSTS,
    GO,
    GO_SINGLE,
    INITS,
    N_CONSTS,
    N_INITS,
    N_ROWS,
    N_SINGLES,
    change_width,
    finish,
    load_consts,
    load_inits,
    prepare,
    run_body,
    write_step,
)

START, BODY, UNTIL_SIZE = range(3)
"""The loop's job: the phase that says whether there is a first step, and that of a step."""


@compiled()
def goes_on(phase, memory, singles, w, flags):
    """Which columns go on, and how many."""
    place = load_int(phase + 8 * GO)
    n = 0
    for column in range(w):
        if load_int(phase + 8 * GO_SINGLE):
            number = load_float(singles, 8 * place)
        else:
            number = load_float(memory, 8 * (w * place + column))
        flags[column] = number != 0.0
        n += flags[column]
    return n


@compiled()
def repeat(phase, memory, w, source, column):
    """Let a column's carries, and what is the same at each step, be another's."""
    row = load_int(phase + 8 * INITS)
    for _ in range(load_int(phase + 8 * N_INITS)):
        repeat_column(memory, w, load_int(row + 16), load_int(row + 8), source, column, column + 1)
        row += 32
    row = load_int(phase + 8 * CONSTS)
    for _ in range(load_int(phase + 8 * N_CONSTS)):
        if load_int(row + 24) == 0:
            size, place = load_int(row + 8), load_int(row + 16)
            repeat_column(memory, w, place, size, source, column, column + 1)
        row += 32


@compiled()
def move_column(phase, memory, w, source, column):
    """Put a column's carries elsewhere."""
    row = load_int(phase + 8 * INITS)
    for _ in range(load_int(phase + 8 * N_INITS)):
        repeat_column(memory, w, load_int(row + 16), load_int(row + 8), source, column, column + 1)
        row += 32


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
    columns, flags = np.empty(lanes, np.int64), np.empty(lanes, np.bool_)
    order = np.int64(columns.ctypes.data)
    for lane in range(lanes):
        columns[lane] = lane
    prepare(start, first_memory, first_single)
    prepare(body, memory, single)
    load_consts(start, first_memory, first_single, lanes, values, shared, record, lanes, 0, lanes)
    run_body(start, first_memory, first_single, lanes)
    at_work = goes_on(start, first_memory, first_single, lanes, flags)
    load_consts(body, memory, single, lanes, values, shared, record, lanes, 0, lanes)
    load_inits(body, memory, lanes, values, shared, record, lanes, 0, lanes, 0)
    w, steps = lanes, 0
    while True:
        # Those that have ended just now: -1 marks a column whose lane has ended before.
        some = False
        for column in range(w):
            if flags[column] == 0 and columns[column] >= 0:
                some = True
                store_float(result, 8 * columns[column], float(steps))
                finish(body, memory, w, result, lanes, order, column, column + 1)
                columns[column] = -1
        if some:
            at_work = 0
            for column in range(w):
                at_work += columns[column] >= 0
            if at_work == 0:
                break
            if at_work <= w - 8:
                to = 0
                for column in range(w):
                    if columns[column] >= 0:
                        if to < column:
                            move_column(body, memory, w, column, to)
                            columns[to] = columns[column]
                        to += 1
                width = (at_work + 7) // 8 * 8
                change_width(body, memory, w, width)
                for column in range(to, width):
                    move_column(body, memory, width, to - 1, column)
                w = width
                load_consts(body, memory, single, w, values, shared, record, lanes, order, at_work)
                for column in range(to, width):
                    columns[column] = -1
            else:
                living = 0
                while columns[living] < 0:
                    living += 1
                for column in range(w):
                    if columns[column] < 0:
                        repeat(body, memory, w, living, column)
        run_body(body, memory, single, w)
        steps += 1
        goes_on(body, memory, single, w, flags)
        write_step(body, memory, single, w, 0, 0, result, lanes)
    # Arrays live up to their last use, which is to be here.
    room[0], columns[0] = 0.0, 0
