# mypy: allow-untyped-defs
"""Small matrices, with the lanes innermost."""

import math

from tapeflow.engine.addresses import load_float, load_int32, store_float
from tapeflow.engine.array_kernels.base import (
    any_nan,
    clear,
    copy_number,
    kernel,
    operand_of,
    result_of,
)
from tapeflow.jit import FLOAT, helper


@helper()
def subtract_product(target, a, a_lane, b, b_lane, lanes):
    if a_lane == 8 and b_lane == 8:
        for lane in range(0, 8 * lanes, 8):
            product = load_float(a, lane) * load_float(b, lane)
            store_float(target, lane, load_float(target, lane) - product)
    else:
        for lane in range(lanes):
            product = load_float(a, a_lane * lane) * load_float(b, b_lane * lane)
            store_float(target, 8 * lane, load_float(target, 8 * lane) - product)


@kernel
def cholesky(values, cotangents, shared, record, lanes):
    """Row by row (Cholesky-Banachiewicz). Parameters: how many matrices, and their size."""
    source, step, lane_step = operand_of(values, shared, record, 0, lanes)
    target = result_of(values, record, lanes)
    n, row = load_int32(record + 16), 8 * lanes
    for batch in range(load_int32(record + 12)):
        a, factor = source + step * n * n * batch, target + row * n * n * batch
        for i in range(n):
            for j in range(i + 1):
                entry = factor + row * (n * i + j)
                upper, lower = a + step * (n * j + i), a + step * (n * i + j)
                for lane in range(lanes):
                    both = load_float(upper, lane_step * lane) + load_float(lower, lane_step * lane)
                    store_float(entry, 8 * lane, 0.5 * both)
                for k in range(j):
                    left, right = factor + row * (n * i + k), factor + row * (n * j + k)
                    subtract_product(entry, left, 8, right, 8, lanes)
                pivot = factor + row * (n * j + j)
                for lane in range(0, row, 8):
                    number = load_float(entry, lane)
                    if i == j:
                        # Not positive definite: NaN, as is all that is made of it.
                        store_float(entry, lane, root_of_positive(number))
                    else:
                        store_float(entry, lane, number / load_float(pivot, lane))
            for j in range(i + 1, n):
                clear(factor + row * (n * i + j), lanes)


@helper(FLOAT)
def root_of_positive(x):
    return math.sqrt(x if x > 0.0 else math.nan)


@kernel
def triangular_solve(values, cotangents, shared, record, lanes):
    """Parameters: how many, size, columns, whether lower, whether transposed.

    And 1 where the solution for a column of zeros is zero, whatever the matrix.
    """
    matrix, step, lane_step = operand_of(values, shared, record, 0, lanes)
    right, b_step, b_lane = operand_of(values, shared, record, 1, lanes)
    target = result_of(values, record, lanes)
    p, row = record + 20, 8 * lanes
    n, columns = load_int32(p + 4), load_int32(p + 8)
    turned = load_int32(p + 16)
    downwards = load_int32(p + 12) != turned
    across, down = (step, step * n) if turned else (step * n, step)
    for batch in range(load_int32(p)):
        a = matrix + step * n * n * batch
        x = target + row * n * columns * batch
        b = right + b_step * n * columns * batch
        for place in range(n):
            i = place if downwards else n - 1 - place
            for column in range(columns):
                entry = x + row * (columns * i + column)
                copy_number(entry, b + b_step * (columns * i + column), b_lane, lanes)
                for other in range(place):
                    k = other if downwards else n - 1 - other
                    known = x + row * (columns * k + column)
                    subtract_product(entry, a + across * i + down * k, lane_step, known, 8, lanes)
                pivot = a + across * i + down * i
                for lane in range(lanes):
                    number = load_float(entry, 8 * lane) / load_float(pivot, lane_step * lane)
                    store_float(entry, 8 * lane, number)
        if load_int32(p + 20) and any_nan(x, n * columns * lanes):
            for column in range(columns):
                for lane in range(lanes):
                    source = b + b_step * column + b_lane * lane
                    entry = x + row * column + 8 * lane
                    clear_solution(entry, row * columns, source, b_step * columns, n)


@helper()
def clear_solution(x, x_step, b, b_step, n):
    """Zero, if the right side is."""
    given = 0
    for i in range(n):
        given += load_float(b, b_step * i) != 0.0
    if not given:
        for i in range(n):
            store_float(x, x_step * i, 0.0)
