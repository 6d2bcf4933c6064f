# mypy: allow-untyped-defs
"""The kernel of a branch: each lane's own is run on the lanes that take it, and on no others."""

from tapeflow.engine.addresses import (
    allocate,
    load_float,
    load_int,
    load_int32,
    release,
    store_int,
)
from tapeflow.engine.array_kernels.base import kernel
from tapeflow.engine.loop_kernels.counted import width_for
from tapeflow.engine.loop_kernels.rows import operand_at, put_columns
from tapeflow.engine.loop_kernels.steps import (
    N_ROWS,
    N_SINGLES,
    PHASE_SIZE,
    load_consts,
    prepare,
    run_body,
    write_step,
)

N_BRANCHES, BRANCHES, N_RESULTS, CHOICE_SIZE = range(4)
"""The branch's job: how many, their phases one after the other, and the numbers of the result."""


@kernel
def choice(values, cotangents, shared, record, lanes):
    """A record: the place of the result, the address of the job, and the operands."""
    job = load_int(record + 4)
    result = values + 8 * lanes * load_int32(record)
    n, branches = load_int(job + 8 * N_BRANCHES), load_int(job + 8 * BRANCHES)
    n_results = load_int(job + 8 * N_RESULTS)
    source, width = operand_at(values, shared, record, 0, lanes)
    chosen = allocate(2 * lanes)
    order = chosen + 8 * lanes
    for lane in range(lanes):
        number = load_float(source, 8 * lane if width else 0)
        # Not converted before it is in range; NaN is not above zero.
        k = int(min(number, float(n - 1))) if number > 0.0 else 0
        store_int(chosen + 8 * lane, k)
    for branch in range(n):
        a = 0
        for lane in range(lanes):
            if load_int(chosen + 8 * lane) == branch:
                store_int(order + 8 * a, lane)
                a += 1
        if a == 0:
            continue
        phase = branches + 8 * PHASE_SIZE * branch
        w = width_for(a, lanes)
        rows, singles = load_int(phase + 8 * N_ROWS), load_int(phase + 8 * N_SINGLES)
        memory = allocate(rows * w + singles + 8)
        single = memory + 8 * rows * w
        prepare(phase, memory, single)
        own = 0 if a == lanes else order
        load_consts(phase, memory, single, w, values, shared, record, lanes, own, a)
        run_body(phase, memory, single, w)
        # The results are gathered in rows, the last ones of the memory, in their order.
        write_step(phase, memory, single, w, 0, 0, result, lanes)
        first = rows - n_results
        put_columns(result, lanes, memory, w, first, n_results, own, 0, a)
        release(memory)
    release(chosen)
