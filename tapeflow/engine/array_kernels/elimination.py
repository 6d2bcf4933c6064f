# mypy: allow-untyped-defs
"""Small systems by Gaussian elimination with partial pivoting, one lane after the other.

Pivots differ from lane to lane, so lanes are not worked on together; a matrix is copied to the
function's stack, where a few rows fit registers and the first cache.
"""

import math

from tapeflow.engine.addresses import load_float, load_int32, stack_memory, store_float
from tapeflow.engine.array_kernels.base import kernel, operand_of, result_of
from tapeflow.jit import BOOL, FLOAT, helper

LARGEST = 16
"""Size of a matrix that, with a column and the order of its rows, fits the stack."""

_COLUMN, _ORDER = 8 * LARGEST * LARGEST, 8 * (LARGEST + 1) * LARGEST


@helper()
def load_matrix(memory, a, step, n, turned):
    """Copy a matrix, or its transpose, to memory, row after row."""
    for i in range(n):
        for j in range(n):
            source = n * j + i if turned else n * i + j
            store_float(memory, 8 * (n * i + j), load_float(a, step * source))


@helper(FLOAT)
def eliminate(memory, n):
    """Factorise in place, as LAPACK's getrf; the sign of the permutation. A zero pivot stays."""
    sign = 1.0
    for k in range(n):
        best, largest = k, math.fabs(load_float(memory, 8 * (n * k + k)))
        for i in range(k + 1, n):
            size = math.fabs(load_float(memory, 8 * (n * i + k)))
            if size > largest:
                best, largest = i, size
        store_float(memory + _ORDER, 8 * k, float(best))
        if best != k:
            sign = -sign
            for j in range(n):
                upper = load_float(memory, 8 * (n * k + j))
                store_float(memory, 8 * (n * k + j), load_float(memory, 8 * (n * best + j)))
                store_float(memory, 8 * (n * best + j), upper)
        pivot = load_float(memory, 8 * (n * k + k))
        if pivot == 0.0:
            continue
        for i in range(k + 1, n):
            factor = load_float(memory, 8 * (n * i + k)) / pivot
            store_float(memory, 8 * (n * i + k), factor)
            for j in range(k + 1, n):
                rest = load_float(memory, 8 * (n * i + j))
                rest -= factor * load_float(memory, 8 * (n * k + j))
                store_float(memory, 8 * (n * i + j), rest)
    return sign


@helper(BOOL)
def is_singular(memory, n):
    zeros = 0
    for k in range(n):
        zeros += load_float(memory, 8 * (n * k + k)) == 0.0
    return zeros > 0


@helper()
def substitute(memory, n):
    """Solve for the column beside the factors, in place."""
    column = memory + _COLUMN
    for k in range(n):
        other = int(load_float(memory + _ORDER, 8 * k))
        if other != k:
            upper = load_float(column, 8 * k)
            store_float(column, 8 * k, load_float(column, 8 * other))
            store_float(column, 8 * other, upper)
    for i in range(n):
        rest = load_float(column, 8 * i)
        for j in range(i):
            rest -= load_float(memory, 8 * (n * i + j)) * load_float(column, 8 * j)
        store_float(column, 8 * i, rest)
    for i in range(n - 1, -1, -1):
        rest = load_float(column, 8 * i)
        for j in range(i + 1, n):
            rest -= load_float(memory, 8 * (n * i + j)) * load_float(column, 8 * j)
        store_float(column, 8 * i, rest / load_float(memory, 8 * (n * i + i)))


@helper()
def put_column(target, stride, memory, n, singular):
    for i in range(n):
        number = math.nan if singular else load_float(memory + _COLUMN, 8 * i)
        store_float(target, stride * i, number)


@kernel
def solve(values, cotangents, shared, record, lanes):
    """Parameters: how many, size, columns, whether the matrix is transposed.

    And 1 where the solution for a column of zeros is zero, whatever the matrix.
    """
    a, step, lane_step = operand_of(values, shared, record, 0, lanes)
    b, b_step, b_lane = operand_of(values, shared, record, 1, lanes)
    target, memory, p = result_of(values, record, lanes), stack_memory(), record + 20
    n, columns, turned = load_int32(p + 4), load_int32(p + 8), load_int32(p + 12)
    absolute = load_int32(p + 16)
    for batch in range(load_int32(p)):
        for lane in range(lanes):
            own = a + step * n * n * batch + lane_step * lane
            load_matrix(memory, own, step, n, turned)
            eliminate(memory, n)
            singular = is_singular(memory, n)
            for column in range(columns):
                first = columns * n * batch + column
                right = b + b_step * first + b_lane * lane
                given = 0
                for i in range(n):
                    number = load_float(right, b_step * columns * i)
                    store_float(memory + _COLUMN, 8 * i, number)
                    given += number != 0.0
                x = target + 8 * (lanes * first + lane)
                if absolute and not given:
                    put_column(x, 8 * lanes * columns, memory, n, False)
                    continue
                substitute(memory, n)
                put_column(x, 8 * lanes * columns, memory, n, singular)


@kernel
def inv(values, cotangents, shared, record, lanes):
    """Parameters: how many, size."""
    a, step, lane_step = operand_of(values, shared, record, 0, lanes)
    target, memory = result_of(values, record, lanes), stack_memory()
    n = load_int32(record + 16)
    for batch in range(load_int32(record + 12)):
        for lane in range(lanes):
            load_matrix(memory, a + step * n * n * batch + lane_step * lane, step, n, 0)
            eliminate(memory, n)
            singular = is_singular(memory, n)
            for column in range(n):
                for i in range(n):
                    store_float(memory + _COLUMN, 8 * i, 1.0 if i == column else 0.0)
                substitute(memory, n)
                x = target + 8 * (lanes * (n * n * batch + column) + lane)
                put_column(x, 8 * lanes * n, memory, n, singular)


@kernel
def det(values, cotangents, shared, record, lanes):
    """Parameters: how many, size."""
    a, step, lane_step = operand_of(values, shared, record, 0, lanes)
    target, memory = result_of(values, record, lanes), stack_memory()
    n = load_int32(record + 16)
    for batch in range(load_int32(record + 12)):
        for lane in range(lanes):
            load_matrix(memory, a + step * n * n * batch + lane_step * lane, step, n, 0)
            product = eliminate(memory, n)
            for k in range(n):
                product *= load_float(memory, 8 * (n * k + k))
            store_float(target, 8 * (lanes * batch + lane), product)


@kernel
def slogdet(values, cotangents, shared, record, lanes):
    """Parameters: how many, size."""
    a, step, lane_step = operand_of(values, shared, record, 0, lanes)
    target, memory = result_of(values, record, lanes), stack_memory()
    n, count = load_int32(record + 16), load_int32(record + 12)
    for batch in range(count):
        for lane in range(lanes):
            load_matrix(memory, a + step * n * n * batch + lane_step * lane, step, n, 0)
            sign, total = eliminate(memory, n), 0.0
            for k in range(n):
                pivot = load_float(memory, 8 * (n * k + k))
                if pivot < 0.0:
                    sign = -sign
                if pivot == 0.0:
                    sign = 0.0
                total += math.log(math.fabs(pivot)) if pivot != 0.0 else -math.inf
            store_float(target, 8 * (lanes * batch + lane), sign)
            store_float(target, 8 * (lanes * (count + batch) + lane), total)
