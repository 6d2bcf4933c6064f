# mypy: allow-untyped-defs
"""The kernel of a loop whose number of steps is known before it begins.

Where it differs from lane to lane, lanes are put in the order of their steps, most first: those at
work are the first ``a``, at every step and in every phase.

The streams of all steps are kept if they fit the loop's limit. Otherwise the steps are cut into
segments: at the border of each one the carries of every phase are kept, and before a phase goes
over a segment, the earlier ones go over it again. No bit depends on it.
"""

import math

from tapeflow.engine.addresses import (
    allocate,
    load_float,
    load_int,
    load_int32,
    release,
    store_int,
)
from tapeflow.engine.array_kernels.base import kernel
from tapeflow.engine.loop_kernels.rows import operand_at
from tapeflow.engine.loop_kernels.steps import (
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
from tapeflow.jit import INT, PAIR, helper

STEPS, N_PHASES, PHASES, STREAM, LIMIT, COUNTED_SIZE = range(6)
"""The loop's job: steps, or -1; the phases one after the other; numbers of a step's record; and
where the limit is."""

MOST_STEPS = 2**53
"""More would not end while somebody waits, and are no longer whole numbers one by one."""

CONTINUE, AT_FIRST, AT_BORDER = range(3)
"""Where a phase's carries come from when it begins a segment."""


@helper(INT)
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


@helper(INT)
def at_work(counts, lanes, step):
    """How many lanes have more than some steps; ``counts`` fall."""
    low, high = 0, lanes
    while low < high:
        middle = (low + high) // 2
        if load_int(counts + 8 * middle) > step:
            low = middle + 1
        else:
            high = middle
    return low


@helper(PAIR)
def read_counts(counts, order, source, width, lanes):
    """How many steps each lane has; the most, and the least."""
    most, least = 0, MOST_STEPS
    for lane in range(lanes):
        number = load_float(source, 8 * lane if width else 0)
        n = int(min(number, float(MOST_STEPS))) if number > 0.0 else 0
        store_int(counts + 8 * lane, n)
        store_int(order + 8 * lane, lane)
        most, least = max(most, n), min(least, n)
    return most, least


@helper(apart=True)
def sort_lanes(counts, order, other, n, most):
    """Put the counts in their order, most first, and say which lane each is of: by their digits.

    other: room for as many counts, and places in the order, and for 257 numbers.
    """
    other_order, ends = other + 8 * n, other + 16 * n
    shift = 0
    while most >> shift:
        for digit in range(257):
            store_int(ends + 8 * digit, 0)
        for k in range(n):
            place = ends + 8 * (((most - load_int(counts + 8 * k)) >> shift & 255) + 1)
            store_int(place, load_int(place) + 1)
        for digit in range(1, 257):
            before = load_int(ends + 8 * (digit - 1))
            store_int(ends + 8 * digit, load_int(ends + 8 * digit) + before)
        for k in range(n):
            count = load_int(counts + 8 * k)
            place = ends + 8 * ((most - count) >> shift & 255)
            to = load_int(place)
            store_int(other + 8 * to, count)
            store_int(other_order + 8 * to, load_int(order + 8 * k))
            store_int(place, to + 1)
        for k in range(n):
            store_int(counts + 8 * k, load_int(other + 8 * k))
            store_int(order + 8 * k, load_int(other_order + 8 * k))
        shift += 8


@helper(apart=True)
def enter(phase, memory, singles, begin, a, w, border, context, order):
    """Have the carries, and what is the same at all steps, ready for ``a`` lanes."""
    values, shared, record, lanes = context
    if begin == AT_FIRST:
        load_inits(phase, memory, w, values, shared, record, lanes, order, a)
    elif begin == AT_BORDER:
        restore_carries(phase, memory, w, border)
    load_consts(phase, memory, singles, w, values, shared, record, lanes, order, a)


@helper(PAIR, apart=True)
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
    # As at the step before, so that its carries are found as it has left them.
    a = lanes if uniform else at_work(counts, lanes, last if reverse else max(first - 1, 0))
    w = lanes if uniform else width_for(a, lanes)
    ready = a > 0
    if ready:
        enter(phase, memory, singles, begin, a, w, border, context, order)
    for n in range(last - first):
        i = last - 1 - n if reverse else first + n
        if not uniform:
            now = a
            if reverse:
                while now < lanes and load_int(counts + 8 * now) > i:
                    now += 1
            else:
                while load_int(counts + 8 * (now - 1)) <= i:
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


@helper(INT)
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
    counts, order, uniform = 0, 0, True
    if steps < 0:
        counts = allocate(4 * lanes + 257)
        source, width = operand_at(values, shared, record, 0, lanes)
        steps, least = read_counts(counts, counts + 8 * lanes, source, width, lanes)
        uniform = steps == least
        if not uniform:
            order = counts + 8 * lanes
            sort_lanes(counts, order, counts + 16 * lanes, lanes, steps)
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
    start = allocate(rows * lanes + singles + kept + length * stream * lanes + 8)
    own_singles, borders = start + 8 * rows * lanes, start + 8 * (rows * lanes + singles)
    streams = borders + 8 * kept
    own, single = start, own_singles
    for p in range(n_phases):
        phase = phases + 8 * PHASE_SIZE * p
        prepare(phase, own, single)
        own += 8 * lanes * load_int(phase + 8 * N_ROWS)
        single += 8 * load_int(phase + 8 * N_SINGLES)
    idle = 0 if uniform else at_work(counts, lanes, 0)
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
    release(start)
    if counts:
        release(counts)
