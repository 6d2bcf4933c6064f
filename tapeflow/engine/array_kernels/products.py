# mypy: allow-untyped-defs
"""Products of matrices."""

import math

from tapeflow.engine.addresses import (
    GROUP,
    call_gemm,
    load_float,
    load_int,
    load_int32,
    store_float,
)
from tapeflow.engine.array_kernels.base import any_nan, clear, kernel, operand_of, result_of
from tapeflow.engine.array_kernels.row_products import eight_rows, eight_rows_twice, fma, four_rows
from tapeflow.jit import BOOL, helper


@kernel
def matmul_by_blas(values, cotangents, shared, record, lanes):
    """On one sample. Parameters: as of `matmul`, and dgemm's address."""
    a, b = values + 8 * load_int32(record + 4), values + 8 * load_int32(record + 12)
    c = values + 8 * load_int32(record)
    p = record + 20
    m, k, n = load_int32(p + 4), load_int32(p + 8), load_int32(p + 12)
    flags = load_int32(p + 16) + 2 * load_int32(p + 20)
    a_step = 0 if load_int32(p + 24) else 8 * m * k
    b_step = 0 if load_int32(p + 28) else 8 * k * n
    for batch in range(load_int32(p)):
        call_gemm(
            load_int(p + 36), flags, m, n, k, a + a_step * batch, b + b_step * batch,
            c + 8 * m * n * batch,
        )  # fmt: skip
        if load_int32(p + 32):
            a_row, a_column = (8, 8 * m) if load_int32(p + 16) else (8 * k, 8)
            b_row, b_column = (8, 8 * k) if load_int32(p + 20) else (8 * n, 8)
            pass_over_zeros(
                c + 8 * m * n * batch, a + a_step * batch, a_row, a_column, 0,
                b + b_step * batch, b_row, b_column, 0, m, n, k, 1,
            )  # fmt: skip


@kernel
def matmul(values, cotangents, shared, record, lanes):
    """Parameters: those of `arrays.products.Product`, and 1 for products with an absolute zero.

    Terms are added in order.
    """
    a, a_step, a_lane = operand_of(values, shared, record, 0, lanes)
    b, b_step, b_lane = operand_of(values, shared, record, 1, lanes)
    c = result_of(values, record, lanes)
    p = record + 20
    m, k, n = load_int32(p + 4), load_int32(p + 8), load_int32(p + 12)
    a_row, a_column = (1, m) if load_int32(p + 16) else (k, 1)
    b_row, b_column = (1, k) if load_int32(p + 20) else (n, 1)
    for batch in range(load_int32(p)):
        left = a if load_int32(p + 24) else a + a_step * m * k * batch
        right = b if load_int32(p + 28) else b + b_step * k * n * batch
        seeds = load_int32(p + 32) and n == 1 and a_lane == 0 and b_lane == 8
        if seeds and columns_of_seeds(
            c + 8 * lanes * m * batch, left, a_step * a_row, a_step * a_column,
            right, b_step * b_row, m, k, lanes,
        ):  # fmt: skip
            continue
        # The rows of a shared matrix, or the columns, go by eights.
        if a_lane == 0 and b_lane == 8 and lanes >= GROUP:
            rows_times_lanes(
                c + 8 * lanes * m * n * batch, 8 * lanes * n, 8 * lanes,
                left, a_step * a_row, a_step * a_column,
                right, b_step * b_column, b_step * b_row, m, n, k, lanes,
            )  # fmt: skip
        elif a_lane == 8 and b_lane == 0 and lanes >= GROUP:
            rows_times_lanes(
                c + 8 * lanes * m * n * batch, 8 * lanes, 8 * lanes * n,
                right, b_step * b_column, b_step * b_row,
                left, a_step * a_row, a_step * a_column, n, m, k, lanes,
            )  # fmt: skip
        else:
            for i in range(m):
                for j in range(n):
                    target = c + 8 * lanes * ((batch * m + i) * n + j)
                    clear(target, lanes)
                    dot(
                        target, left + a_step * a_row * i, a_step * a_column, a_lane,
                        right + b_step * b_column * j, b_step * b_row, b_lane, k, lanes,
                    )  # fmt: skip
        if load_int32(p + 32):
            pass_over_zeros(
                c + 8 * lanes * m * n * batch, left, a_step * a_row, a_step * a_column, a_lane,
                right, b_step * b_row, b_step * b_column, b_lane, m, n, k, lanes,
            )  # fmt: skip


@helper(BOOL, apart=True)
def columns_of_seeds(c, a, a_row, a_step, b, b_step, m, k, lanes):
    """A shared matrix times a column in lanes, if no lane has two numbers that are not zero.

    So have the seeds of a Jacobian: what is sought is a column of the matrix, and to add up zeros
    would take the time of a product of matrices. Products have an absolute zero.
    """
    # Where a lane's number is, and -1 if nowhere, stands in the first row of the result.
    for lane in range(lanes):
        store_float(c, 8 * lane, -1.0)
    for h in range(k):
        for lane in range(lanes):
            if load_float(b + b_step * h, 8 * lane) != 0.0:
                if load_float(c, 8 * lane) >= 0.0:
                    return False
                store_float(c, 8 * lane, float(h))
    for i in range(m - 1, -1, -1):
        for lane in range(lanes):
            h, total = int(load_float(c, 8 * lane)), 0.0
            if h >= 0:
                x = load_float(a + a_row * i, a_step * h)
                if x != 0.0:
                    total = fma(x, load_float(b + b_step * h, 8 * lane), 0.0)
            store_float(c + 8 * lanes * i, 8 * lane, total)
    return True


@helper(apart=True)
def pass_over_zeros(
    c, a, a_row, a_column, a_lane, b, b_row, b_column, b_lane, m, n, k, lanes
):  # fmt: skip
    """Where a sum of plain products is a NaN, add those again of which no factor is zero.

    A product that an absolute zero changes is a NaN, and so is its sum: nothing else is looked at.
    """
    if not any_nan(c, m * n * lanes):
        return
    for i in range(m):
        for j in range(n):
            for lane in range(lanes):
                target = c + 8 * (lanes * (n * i + j) + lane)
                if not math.isnan(load_float(target, 0)):
                    continue
                left = a + a_row * i + a_lane * lane
                right, total = b + b_column * j + b_lane * lane, 0.0
                for h in range(k):
                    x, y = load_float(left, a_column * h), load_float(right, b_row * h)
                    if x != 0.0 and y != 0.0:
                        total = fma(x, y, total)
                store_float(target, 0, total)


@helper()
def rows_times_lanes(
    c, c_row, c_column, a, a_row, a_step, b, b_column, b_step, m, n, k, lanes
):  # fmt: skip
    """A shared matrix of m rows times the n columns of one in lanes; all steps are in bytes."""
    pairs = lanes // (2 * GROUP) * (2 * GROUP)
    i = 0
    while i < m:
        own = 8 if m - i >= 8 else 4 if m - i >= 4 else 1
        first = a + a_row * i
        for j in range(n):
            target, column = c + c_row * i + c_column * j, b + b_column * j
            if own == 1:
                clear(target, lanes)
                dot(target, first, a_step, 0, column, b_step, 8, k, lanes)
            elif own == 4:
                for lane in range(0, 8 * lanes, 8 * GROUP):
                    four_rows(target + lane, c_row, first, a_row, a_step, column + lane, b_step, k)
            else:
                for lane in range(0, 8 * pairs, 16 * GROUP):
                    eight_rows_twice(
                        target + lane, c_row, first, a_row, a_step, column + lane, b_step, k
                    )
                for lane in range(8 * pairs, 8 * lanes, 8 * GROUP):
                    eight_rows(target + lane, c_row, first, a_row, a_step, column + lane, b_step, k)
        i += own


@helper()
def dot(target, a, a_step, a_lane, b, b_step, b_lane, k, lanes):
    """Add the k products of two lines to the numbers at an address, lane by lane.

    b_lane is 8 unless there is one lane. Four products go together, so that the sums are loaded and
    stored once for each four.
    """
    fours = k // 4 * 4
    for first in range(0, fours, 4):
        a0, b0 = a + a_step * first, b + b_step * first
        a1, b1 = a0 + a_step, b0 + b_step
        a2, b2 = a1 + a_step, b1 + b_step
        a3, b3 = a2 + a_step, b2 + b_step
        if a_lane == 0:
            x0, x1 = load_float(a0, 0), load_float(a1, 0)
            x2, x3 = load_float(a2, 0), load_float(a3, 0)
            for lane in range(0, 8 * lanes, 8):
                total = fma(x0, load_float(b0, lane), load_float(target, lane))
                total = fma(x1, load_float(b1, lane), total)
                total = fma(x2, load_float(b2, lane), total)
                store_float(target, lane, fma(x3, load_float(b3, lane), total))
        else:
            for lane in range(0, 8 * lanes, 8):
                total = load_float(target, lane)
                total = fma(load_float(a0, lane), load_float(b0, lane), total)
                total = fma(load_float(a1, lane), load_float(b1, lane), total)
                total = fma(load_float(a2, lane), load_float(b2, lane), total)
                total = fma(load_float(a3, lane), load_float(b3, lane), total)
                store_float(target, lane, total)
    for last in range(fours, k):
        a0, b0 = a + a_step * last, b + b_step * last
        for lane in range(lanes):
            x, y = load_float(a0, a_lane * lane), load_float(b0, b_lane * lane)
            store_float(target, 8 * lane, fma(x, y, load_float(target, 8 * lane)))
