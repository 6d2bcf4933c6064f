# mypy: allow-untyped-defs
"""Sweeps over a batch in blocks of lanes, and what looks at a whole tape at once.

`run_blocks` takes a job, an int64 array of counts and addresses in the order of the names below.
"""

from tapeflow.engine.addresses import (
    GROUP,
    load_flag,
    load_float,
    load_int,
    load_single,
    store_float,
    store_int,
    store_single,
)
from tapeflow.engine.interpreter import JOB, fill_zero, run_code
from tapeflow.engine.staging import UNSIGNED, gather_lanes, store_staged
from tapeflow.engine.tiles import add_group, copy_group, stream_group, turn_tile, turn_tile_out
from tapeflow.jit import INT, VOID, compiled, helper

# A job of a batch. Tables have rows of three numbers: a place in the workspace, the address of
# lane 0 and the stride from lane to lane in bytes; a reduced row has its place and 1 for a
# cotangent or 0 for a value, and a seed its place and how many outputs are there. A product of two
# rows of values that is reduced has the place of one, PRODUCT and the place to put the product in,
# and that of the other. What is SINGLE lies as float32 in the caller's arrays; rows are float64.
# COLUMNS are inputs that lie there as in a row, DIRECT the gradients that kernels store there.
# GATHERED are inputs read by an index, STAGED values that lie side by side (see `staging`), put in
# order from the row STAGING on. UNSIGNED is added to a result's place if its zeros become positive.
(
    BATCH_LANES,
    BATCH_WIDTH,
    BATCH_STOP,
    BATCH_STREAM,
    BATCH_FORWARD,
    BATCH_N_FORWARD,
    BATCH_REVERSE,
    BATCH_N_REVERSE,
    BATCH_SHARED,
    BATCH_COLUMNS,
    BATCH_N_COLUMNS,
    BATCH_INPUTS,
    BATCH_N_INPUTS,
    BATCH_SINGLE_INPUTS,
    BATCH_N_SINGLE_INPUTS,
    BATCH_OUTPUTS,
    BATCH_N_OUTPUTS,
    BATCH_SINGLE_OUTPUTS,
    BATCH_N_SINGLE_OUTPUTS,
    BATCH_SEEDS,
    BATCH_N_SEEDS,
    BATCH_DIRECT,
    BATCH_N_DIRECT,
    BATCH_GRADIENTS,
    BATCH_N_GRADIENTS,
    BATCH_SINGLE_GRADIENTS,
    BATCH_N_SINGLE_GRADIENTS,
    BATCH_REDUCED,
    BATCH_N_REDUCED,
    BATCH_GATHERED,
    BATCH_N_GATHERED,
    BATCH_STAGED,
    BATCH_N_STAGED,
    BATCH_STAGING,
    BATCH_SIZE,
) = range(35)

PRODUCT = 2

LEVELS = 48
"""Depth of the tree of partial sums: enough for 2**48 blocks."""


@helper(INT)
def tile_from(table, n_rows, k, size):
    """Where eight rows begin that lie side by side in the caller's array; -1 if none do at k.

    They are eight numbers, of ``size`` bytes, of each sample, moved together as a tile. The last
    tile goes back over rows that another has moved.
    """
    first = min(k, n_rows - GROUP)
    if first < 0:
        return -1
    own = table + 24 * first
    stride = load_int(own + 16)
    if stride == size:
        return -1
    for j in range(1, GROUP):
        other = own + 24 * j
        if (
            load_int(other) != load_int(own) + j
            or load_int(other + 8) != load_int(own + 8) + size * j
            or load_int(other + 16) != stride
        ):
            return -1
    return first


@helper()
def load_row(row, source, stride, moved, n, lanes):
    """Copy the numbers of a row in from lane ``moved`` on; the last fills the lanes beyond n."""
    if stride == 8:
        for lane in range(moved, n):
            store_float(row, 8 * lane, load_float(source, 8 * lane))
    else:
        for lane in range(moved, n):
            store_float(row, 8 * lane, load_float(source, stride * lane))
    for lane in range(n, lanes):
        store_float(row, 8 * lane, load_float(row, 8 * (n - 1)))


@helper()
def load_single_row(row, source, stride, moved, n, lanes):
    """As `load_row`, from float32."""
    if stride == 4:
        for lane in range(moved, n):
            store_float(row, 8 * lane, load_single(source, 4 * lane))
    else:
        for lane in range(moved, n):
            store_float(row, 8 * lane, load_single(source, stride * lane))
    for lane in range(n, lanes):
        store_float(row, 8 * lane, load_float(row, 8 * (n - 1)))


@helper(apart=True)
def load_lanes(table, n_rows, size, values, first, n, lanes):
    """Copy a block of samples in, of numbers of ``size`` bytes."""
    k = 0
    while k < n_rows:
        tile = tile_from(table, n_rows, k, size)
        start = k if tile < 0 else tile
        row = values + 8 * lanes * load_int(table + 24 * start)
        stride = load_int(table + 24 * start + 16)
        source = load_int(table + 24 * start + 8) + first * stride
        k = start + (1 if tile < 0 else GROUP)
        moved = 0
        if tile >= 0:
            moved = n // GROUP * GROUP
            for lane in range(0, moved, GROUP):
                if size == 8:
                    turn_tile(row + 8 * lane, 8 * lanes, source + stride * lane, stride, False)
                else:
                    turn_tile(row + 8 * lane, 8 * lanes, source + stride * lane, stride, True)
        for _ in range(k - start):
            if size == 8:
                load_row(row, source, stride, moved, n, lanes)
            else:
                load_single_row(row, source, stride, moved, n, lanes)
            row += 8 * lanes
            source += size


@helper()
def load_columns(table, n_rows, values, first, lanes):
    """As `load_lanes`, for a whole block of numbers that lie as in a row."""
    for k in range(n_rows):
        row = values + 8 * lanes * load_int(table + 24 * k)
        source = load_int(table + 24 * k + 8) + 8 * first
        for lane in range(0, lanes, GROUP):
            copy_group(row + 8 * lane, source + 8 * lane)


@helper()
def point_columns(job, cotangents, first, n, lanes):
    """Say where the kernels store direct cotangents: in the caller's arrays, if the block is whole.

    Otherwise in their rows, to be copied out.
    """
    table = job[BATCH_DIRECT]
    store_int(cotangents - 8, job[BATCH_STREAM] and n == lanes)
    for k in range(job[BATCH_N_DIRECT]):
        place = load_int(table + 24 * k) & (UNSIGNED - 1)
        target = load_int(table + 24 * k + 8) + 8 * first
        if n != lanes:
            target = cotangents + 8 * lanes * place
        store_int(cotangents - 8 * (2 + place), target)


@helper()
def store_row(target, row, stride, moved, n, zero):
    """Copy the numbers of a row, plus a zero, out, from lane ``moved`` on.

    Adding 0.0 makes the sweeps' negative zeros positive, and adding -0.0 changes nothing.
    """
    if stride == 8:
        for lane in range(moved, n):
            store_float(target, 8 * lane, load_float(row, 8 * lane) + zero)
    else:
        for lane in range(moved, n):
            store_float(target, stride * lane, load_float(row, 8 * lane) + zero)


@helper()
def store_single_row(target, row, stride, moved, n, zero):
    """As `store_row`, to float32."""
    if stride == 4:
        for lane in range(moved, n):
            store_single(target, 4 * lane, load_float(row, 8 * lane) + zero)
    else:
        for lane in range(moved, n):
            store_single(target, stride * lane, load_float(row, 8 * lane) + zero)


@helper(apart=True)
def store_lanes(table, n_rows, size, rows, first, n, lanes, stream):
    """Copy a block of values or cotangents out to the places of a table, of ``size`` bytes each.

    stream: past the caches, as the results outgrow them.
    """
    k = 0
    while k < n_rows:
        tile = tile_from(table, n_rows, k, size)
        start = k if tile < 0 else tile
        number = load_int(table + 24 * start)
        row, zero = rows + 8 * lanes * (number & (UNSIGNED - 1)), 0.0 if number & UNSIGNED else -0.0
        stride = load_int(table + 24 * start + 16)
        target = load_int(table + 24 * start + 8) + first * stride
        k = start + (1 if tile < 0 else GROUP)
        moved = 0
        if tile >= 0:
            moved = n // GROUP * GROUP
            for lane in range(0, moved, GROUP):
                place, source = target + stride * lane, row + 8 * lane
                if size == 8:
                    turn_tile_out(place, stride, source, 8 * lanes, zero, False)
                else:
                    turn_tile_out(place, stride, source, 8 * lanes, zero, True)
        elif stream and size == 8 and stride == 8 and target % 64 == 0:
            moved = n // GROUP * GROUP
            for lane in range(0, moved, GROUP):
                stream_group(target + 8 * lane, row + 8 * lane, zero)
        for _ in range(k - start):
            if size == 8:
                store_row(target, row, stride, moved, n, zero)
            else:
                store_single_row(target, row, stride, moved, n, zero)
            row += 8 * lanes
            target += size


@helper()
def load_block(job, values, first, n, lanes):
    """Copy a block of samples in; the last sample fills the lanes beyond the batch."""
    table, n_rows = job[BATCH_COLUMNS], job[BATCH_N_COLUMNS]
    if n == lanes:
        load_columns(table, n_rows, values, first, lanes)
    else:
        load_lanes(table, n_rows, 8, values, first, n, lanes)
    table, n_rows = job[BATCH_INPUTS], job[BATCH_N_INPUTS]
    load_lanes(table, n_rows, 8, values, first, n, lanes)
    table, n_rows = job[BATCH_SINGLE_INPUTS], job[BATCH_N_SINGLE_INPUTS]
    load_lanes(table, n_rows, 4, values, first, n, lanes)
    gather_lanes(job[BATCH_GATHERED], job[BATCH_N_GATHERED] // 2, values, first, n, lanes)


@helper()
def store_block(job, values, cotangents, first, n, lanes):
    """Copy a block's values and gradients out."""
    stream = job[BATCH_STREAM]
    staging = values + 8 * lanes * job[BATCH_STAGING]
    table, n_rows = job[BATCH_STAGED], job[BATCH_N_STAGED]
    store_staged(table, n_rows, values, job[BATCH_SHARED], staging, first, n, lanes, stream)
    table, n_rows = job[BATCH_OUTPUTS], job[BATCH_N_OUTPUTS]
    store_lanes(table, n_rows, 8, values, first, n, lanes, stream)
    table, n_rows = job[BATCH_SINGLE_OUTPUTS], job[BATCH_N_SINGLE_OUTPUTS]
    store_lanes(table, n_rows, 4, values, first, n, lanes, stream)
    if n != lanes:
        table, n_rows = job[BATCH_DIRECT], job[BATCH_N_DIRECT]
        store_lanes(table, n_rows, 8, cotangents, first, n, lanes, 0)
    table, n_rows = job[BATCH_GRADIENTS], job[BATCH_N_GRADIENTS]
    store_lanes(table, n_rows, 8, cotangents, first, n, lanes, stream)
    table, n_rows = job[BATCH_SINGLE_GRADIENTS], job[BATCH_N_SINGLE_GRADIENTS]
    store_lanes(table, n_rows, 4, cotangents, first, n, lanes, stream)


@helper()
def seed_lanes(job, cotangents, lanes):
    """Write the cotangents that the reverse sweep starts with."""
    table = job[BATCH_SEEDS]
    for k in range(job[BATCH_N_SEEDS]):
        row = cotangents + 8 * lanes * load_int(table + 24 * k)
        n_outputs = load_int(table + 24 * k + 8)
        # A negative zero adds to any number, zeros of either sign too, without a trace.
        seed = float(n_outputs) if n_outputs else -0.0
        for lane in range(lanes):
            store_float(row, 8 * lane, seed)


@helper()
def reduce_row(row, n, lanes):
    """Sum a row's groups of lanes, in place, into its first group.

    The tree is balanced over groups by their number in the batch, and lanes beyond the batch add
    nothing; so the sum has the same bits for every block width, as it has for every number of
    threads.
    """
    for lane in range(n, lanes):
        store_float(row, 8 * lane, -0.0)
    groups = lanes // GROUP
    while groups > 1:
        for pair in range(groups // 2):
            left = row + 8 * GROUP * 2 * pair
            add_group(row + 8 * GROUP * pair, left, left + 8 * GROUP)
        if groups % 2:
            copy_group(row + 8 * GROUP * (groups // 2), row + 8 * GROUP * (groups - 1))
        groups = (groups + 1) // 2


@helper()
def push_sum(stack, size, level, source):
    """Put a block's sums on a level of the stack of partial sums, from an address."""
    for place in range(0, 8 * size, 8 * GROUP):
        copy_group(stack + 8 * level * size + place, source + place)


@helper()
def merge_sum(stack, size, level, total):
    """Add a level of the stack to the sums at an address."""
    for place in range(0, 8 * size, 8 * GROUP):
        add_group(total + place, stack + 8 * level * size + place, total + place)


@helper()
def collect_block(job, values, cotangents, n, lanes, sums):
    """Sum the job's reduced rows over a block: one group of lanes for each, end to end."""
    table = job[BATCH_REDUCED]
    for k in range(job[BATCH_N_REDUCED]):
        kind = load_int(table + 24 * k + 8)
        rows = cotangents if kind == 1 else values
        row = rows + 8 * lanes * load_int(table + 24 * k)
        if kind >= PRODUCT:
            other = values + 8 * lanes * load_int(table + 24 * k + 16)
            left, row = row, values + 8 * lanes * (kind - PRODUCT)
            for place in range(0, 8 * lanes, 8):
                x, y = load_float(left, place), load_float(other, place)
                # With an absolute zero, as the product of matrices that it stands for.
                store_float(row, place, 0.0 if x == 0.0 or y == 0.0 else x * y)
        reduce_row(row, n, lanes)
        copy_group(sums + 8 * GROUP * k, row)


@helper()
def _fold(stack, size, n_blocks, sums):
    """Add up the levels that n_blocks blocks have left on the stack."""
    fill_zero(sums, size)
    for level in range(LEVELS):
        if n_blocks >> level & 1:
            merge_sum(stack, size, level, sums)


@compiled(VOID(JOB, INT, INT, INT, INT, INT, INT))
def run_blocks(job, values, cotangents, stack, first_block, last_block, sums):
    """Sweep blocks first_block to last_block - 1, and leave their sums at an address.

    The range starts at a multiple of a power of two no smaller than its length, so its sums are a
    subtree of the batch's tree. ``stack`` has room for LEVELS sums. Stops early at the stop flag.
    """
    width, size = job[BATCH_WIDTH], job[BATCH_N_REDUCED] * GROUP
    for block in range(first_block, last_block):
        if load_flag(job[BATCH_STOP]):
            return
        first = block * width
        n = min(width, job[BATCH_LANES] - first)
        lanes = (n + GROUP - 1) // GROUP * GROUP
        load_block(job, values, first, n, lanes)
        if job[BATCH_N_DIRECT]:
            point_columns(job, cotangents, first, n, lanes)
        run_code(
            job[BATCH_FORWARD], job[BATCH_N_FORWARD], values, cotangents, job[BATCH_SHARED], lanes
        )
        seed_lanes(job, cotangents, lanes)
        run_code(
            job[BATCH_REVERSE], job[BATCH_N_REVERSE], values, cotangents, job[BATCH_SHARED], lanes
        )
        # Not before: the last kernel forward may be the first in reverse.
        store_block(job, values, cotangents, first, n, lanes)
        if size == 0:
            continue
        collect_block(job, values, cotangents, n, lanes, sums)
        level, position = 0, block - first_block
        while position & 1:
            merge_sum(stack, size, level, sums)
            position >>= 1
            level += 1
        push_sum(stack, size, level, sums)
    if size and last_block > first_block:
        _fold(stack, size, last_block - first_block, sums)
