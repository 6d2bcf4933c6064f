# mypy: allow-untyped-defs
"""The interpreter: sweeps over a tape's code, forward and in reverse.

Code is a stream of 32-bit numbers, an instruction being its length, the address of its kernel
(two numbers) and its record: the places of its result and operands. Every kernel is called alike,
so one loop serves both directions and every op. `run_sample` runs the threaded code of a tape of
numbers: it takes the address of a job, an int64 array of counts and addresses in the order of the
names below (Python hands over an integer faster than an array); for batches see `blocks`.
"""

from numba import types

from tapeflow.engine.addresses import (
    call_kernel,
    call_threaded,
    load_float,
    load_int,
    load_int32,
    store_float,
)
from tapeflow.jit import INT, VOID, compiled, helper

# A job of one sample. Forward and reverse are ids of kernels in the table, or 0 for no such sweep;
# they begin at the first result's place and operand, and end at the last. Results are the outputs
# and then the gradients of the inputs; seeds are added to the outputs' cotangents.
(
    SAMPLE_FORWARD,
    SAMPLE_REVERSE,
    SAMPLE_TABLE,
    SAMPLE_FIRST_PLACE,
    SAMPLE_LAST_PLACE,
    SAMPLE_OPERANDS,
    SAMPLE_LAST_OPERAND,
    SAMPLE_VALUES,
    SAMPLE_COTANGENTS,
    SAMPLE_OUTPUTS,
    SAMPLE_N_OUTPUTS,
    SAMPLE_N_INPUTS,
    SAMPLE_RESULTS,
    SAMPLE_SEEDS,
    SAMPLE_SIZE,
) = range(15)

JOB = types.Array(types.int64, 1, "C", readonly=True)


@helper()
def run_code(code, n, values, cotangents, shared, lanes):
    """Run n instructions of the code at an address."""
    for _ in range(n):
        call_kernel(load_int(code + 4), values, cotangents, shared, code + 12, lanes)
        code += load_int32(code) * 4


@compiled()
def execute(code, n, values, cotangents, shared, lanes):
    """`run_code`, for Python."""
    run_code(code, n, values, cotangents, shared, lanes)


@helper()
def fill_zero(address, n):
    # A negative zero adds to any number, zeros of either sign too, without a trace.
    for i in range(n):
        store_float(address, 8 * i, -0.0)


@compiled(VOID(INT))
def run_sample(job):
    """One sample: forward where the job has such code, and in reverse likewise."""
    values, cotangents = load_int(job + 8 * SAMPLE_VALUES), load_int(job + 8 * SAMPLE_COTANGENTS)
    outputs, n_outputs = load_int(job + 8 * SAMPLE_OUTPUTS), load_int(job + 8 * SAMPLE_N_OUTPUTS)
    results, seeds = load_int(job + 8 * SAMPLE_RESULTS), load_int(job + 8 * SAMPLE_SEEDS)
    forward, reverse = load_int(job + 8 * SAMPLE_FORWARD), load_int(job + 8 * SAMPLE_REVERSE)
    table = load_int(job + 8 * SAMPLE_TABLE)
    if forward:
        first = load_int(job + 8 * SAMPLE_FIRST_PLACE)
        operands = load_int(job + 8 * SAMPLE_OPERANDS)
        call_threaded(values, 0, first, operands, forward, table)
    if reverse:
        last, operands = (
            load_int(job + 8 * SAMPLE_LAST_PLACE),
            load_int(job + 8 * SAMPLE_LAST_OPERAND),
        )
        fill_zero(cotangents, last)
        for k in range(n_outputs):
            place = 8 * load_int32(outputs + 4 * k)
            seed = load_float(seeds, 8 * k)
            store_float(cotangents, place, load_float(cotangents, place) + seed)
        call_threaded(values, cotangents, last, operands, reverse, table)
        for k in range(load_int(job + 8 * SAMPLE_N_INPUTS)):
            gradient = load_float(cotangents, 8 * k) + 0.0
            store_float(results, 8 * (n_outputs + k), gradient)
    # Not before: the last kernel forward may be the first in reverse.
    for k in range(n_outputs):
        output = load_float(values, 8 * load_int32(outputs + 4 * k))
        store_float(results, 8 * k, output)
