"""The kernel of a loop whose number of steps is known before it begins.

Where it differs from lane to lane, lanes are put in the order of their steps, most first: those at
work are the first ``a``, at every step and in every phase.

The streams of all steps are kept if they fit the loop's limit. Otherwise the steps are cut into
segments: at the border of each one the carries of every phase are kept, and before a phase goes
over a segment, the earlier ones go over it again. No bit depends on it.
"""

import math

import numpy as np

from tapeflow.addresses import load_float, load_int, load_int32
from tapeflow.array_kernels.base import kernel
from tapeflow.jit import compiled
from tapeflow.loop_kernels.rows import operand_at
from tapeflow.loop_kernels.steps import (
    CARRIED,
    N_ROWS,
    N_SINGLES,
    NESTED,
    PHASE_SIZE,
    REVERSE,
    admit,
    finish,
    load_consts,
    load_inits,
    narrow,
    pad,
    prepare,
    read_step,
    restore_carries,
    run_body,
    save_carries,
    widen,
    write_step,
)

STEPS, N_PHASES, PHASES, STREAM, LIMIT, COUNTED_SIZE = range(6)
"""The loop's job: steps, or -1; the phases one after the other; numbers of a step's record; and
where the limit is."""

CONTINUE, AT_FIRST, AT_BORDER = range(3)
"""Where a phase's carries come from when it begins a segment."""


@compiled()
def width_for(a, lanes):
    """How many lanes a body works on, if a are at work.

    These are few numbers, as changing from one to the other costs about as much as a step.
    """
    if lanes == 1:
        return 1
    w = lanes
    while w > 8:
        less = min((3 * w // 4 + 7) // 8 * 8, w - 8)
        if less < a:
            break
        w = less
    return w


@compiled()
def at_work(counts, step):
    """How many lanes have more than some steps; ``counts`` fall."""
    low, high = 0, len(counts)
    while low < high:
        middle = (low + high) // 2
        if counts[middle] > step:
            low = middle + 1
        else:
            high = middle
    return low


@compiled()
def sort_lanes(counts, order):
    """Put the counts in their order, most first, and say which lane each is of: by their digits."""
    n, most = len(counts), counts.max()
    other_counts, other = np.empty(n, np.int64), np.empty(n, np.int64)
    ends = np.empty(257, np.int64)
    shift = 0
    while most >> shift:
        ends[:] = 0
        for k in range(n):
            ends[((most - counts[k]) >> shift & 255) + 1] += 1
        for digit in range(1, 257):
            ends[digit] += ends[digit - 1]
        for k in range(n):
            digit = (most - counts[k]) >> shift & 255
            other_counts[ends[digit]], other[ends[digit]] = counts[k], order[k]
            ends[digit] += 1
        counts[:], order[:] = other_counts, other
        shift += 8


@compiled()
def enter(phase, memory, singles, begin, a, w, border, context, order):
    """Have the carries, and what is the same at all steps, ready for ``a`` lanes."""
    values, shared, record, lanes = context
    if begin == AT_FIRST:
        load_inits(phase, memory, w, values, shared, record, lanes, order, a)
    elif begin == AT_BORDER:
        restore_carries(phase, memory, w, border)
    load_consts(phase, memory, singles, w, values, shared, record, lanes, order, a)


@compiled()
def run_segment(
    phase,
    memory,
    singles,
    first,
    last,
    begin,
    border,
    streams,
    size,
    counts,
    uniform,
    context,
    order,
    result,
    whole,
):
    """A phase over the steps first to last - 1; ``whole``: the results are to be written."""
    values, shared, record, lanes = context
    reverse, nested = load_int(phase + 8 * REVERSE), load_int(phase + 8 * NESTED)
    if uniform:
        a = lanes
    else:
        # As at the step before, so that its carries are found as it has left them.
        a = at_work(counts, last) if reverse else at_work(counts, max(first - 1, 0))
    w = lanes if uniform else width_for(a, lanes)
    ready = a > 0
    if ready:
        enter(phase, memory, singles, begin, a, w, border, context, order)
    for n in range(last - first):
        i = last - 1 - n if reverse else first + n
        if not uniform:
            now = a
            if reverse:
                while now < len(counts) and counts[now] > i:
                    now += 1
            else:
                while counts[now - 1] <= i:
                    now -= 1
            if now != a:
                if not reverse and whole:
                    finish(phase, memory, w, result, lanes, order, now, a)
                other = width_for(now, lanes)
                if not ready:
                    enter(phase, memory, singles, AT_FIRST, now, other, border, context, order)
                elif reverse:
                    widen(phase, memory, w, other, a)
                    admit(phase, memory, other, values, shared, record, lanes, order, a, now)
                else:
                    narrow(phase, memory, w, other, 0)
                a, w, ready = now, other, True
                if nested:
                    pad(phase, memory, w, a)
        stream = streams + 8 * lanes * size * (i - first)
        read_step(phase, memory, singles, w, i, stream, values, shared, record, lanes)
        run_body(phase, memory, singles, w)
        write_step(phase, memory, singles, w, i, stream, result, lanes)
    return a, w


@compiled()
def segment_length(n, stream, carried, lanes, limit):
    """All steps, if their records fit; or about as many as there are segments."""
    record = 8 * max(stream, 1) * lanes
    if stream == 0 or n * record <= limit:
        return max(n, 1)
    return max(1, int(math.sqrt(n * max(carried, 1) / stream)))


@kernel
def counted_loop(values, cotangents, shared, record, lanes):
    """A record: the place of the result, the address of the job, and the operands."""
    job = load_int(record + 4)
    result = values + 8 * lanes * load_int32(record)
    steps, n_phases = load_int(job + 8 * STEPS), load_int(job + 8 * N_PHASES)
    phases, stream = load_int(job + 8 * PHASES), load_int(job + 8 * STREAM)
    context = (values, shared, record, lanes)
    counts = np.empty(lanes, np.int64)
    order_of = np.empty(lanes, np.int64)
    uniform = True
    if steps < 0:
        source, width = operand_at(values, shared, record, 0, lanes)
        for lane in range(lanes):
            number = load_float(source, 8 * lane if width else 0)
            counts[lane] = int(number) if number > 0.0 else 0
            order_of[lane] = lane
        uniform = counts.min() == counts.max()
        if not uniform:
            sort_lanes(counts, order_of)
        steps = counts[0]
    order = 0 if uniform else np.int64(order_of.ctypes.data)
    # Memory of all bodies, one after the other.
    rows, singles, carried = 0, 0, 0
    for p in range(n_phases):
        phase = phases + 8 * PHASE_SIZE * p
        rows += load_int(phase + 8 * N_ROWS)
        singles += load_int(phase + 8 * N_SINGLES)
        carried += load_int(phase + 8 * CARRIED)
    limit = load_int(load_int(job + 8 * LIMIT))
    length = segment_length(steps, stream, carried, lanes, limit)
    n_segments = max((steps + length - 1) // length, 1)
    kept = (n_segments + 1) * carried * lanes if n_segments > 1 else 0
    memory = np.empty(rows * lanes + singles + kept + length * stream * lanes + 8)
    start = np.int64(memory.ctypes.data)
    own_singles, borders = start + 8 * rows * lanes, start + 8 * (rows * lanes + singles)
    streams = borders + 8 * kept
    own, single = start, own_singles
    for p in range(n_phases):
        phase = phases + 8 * PHASE_SIZE * p
        prepare(phase, own, single)
        own += 8 * lanes * load_int(phase + 8 * N_ROWS)
        single += 8 * load_int(phase + 8 * N_SINGLES)
    idle = 0 if uniform else at_work(counts, 0)
    here = -1
    own, single, border = start, own_singles, borders
    for p in range(n_phases):
        phase = phases + 8 * PHASE_SIZE * p
        reverse = load_int(phase + 8 * REVERSE)
        size = 8 * load_int(phase + 8 * CARRIED) * lanes
        if steps == 0 or not uniform:
            # Lanes of no steps, which are the last ones: the first values stay.
            first = 0 if steps == 0 else idle
            if first < lanes:
                load_inits(phase, own, lanes, values, shared, record, lanes, order, lanes)
                finish(phase, own, lanes, result, lanes, order, first, lanes)
        a, w = lanes, lanes
        for turn in range(n_segments if steps else 0):
            g = n_segments - 1 - turn if reverse else turn
            first, last = g * length, min((g + 1) * length, steps)
            if p > 0 and here != g:
                earlier, memory_of, singles_of, border_of = phases, start, own_singles, borders
                for _ in range(p):
                    back = load_int(earlier + 8 * REVERSE)
                    begin = AT_FIRST if (g == n_segments - 1 if back else g == 0) else AT_BORDER
                    bytes_of = 8 * load_int(earlier + 8 * CARRIED) * lanes
                    at = border_of + bytes_of * (g + 1 if back else g)
                    run_segment(
                        earlier,
                        memory_of,
                        singles_of,
                        first,
                        last,
                        begin,
                        at,
                        streams,
                        stream,
                        counts,
                        uniform,
                        context,
                        order,
                        result,
                        False,
                    )
                    memory_of += 8 * lanes * load_int(earlier + 8 * N_ROWS)
                    singles_of += 8 * load_int(earlier + 8 * N_SINGLES)
                    border_of += bytes_of * (n_segments + 1)
                    earlier += 8 * PHASE_SIZE
            begin = AT_FIRST if turn == 0 else CONTINUE
            a, w = run_segment(
                phase,
                own,
                single,
                first,
                last,
                begin,
                0,
                streams,
                stream,
                counts,
                uniform,
                context,
                order,
                result,
                True,
            )
            here = g
            if n_segments > 1 and p < n_phases - 1:
                save_carries(phase, own, w, border + size * (g if reverse else g + 1))
        if steps:
            finish(phase, own, w, result, lanes, order, 0, a)
        own += 8 * lanes * load_int(phase + 8 * N_ROWS)
        single += 8 * load_int(phase + 8 * N_SINGLES)
        border += size * (n_segments + 1)
    # Arrays live up to their last use, which is to be here.
    memory[0], order_of[0] = 0.0, 0
