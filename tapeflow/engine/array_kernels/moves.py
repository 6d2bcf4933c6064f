# mypy: allow-untyped-defs
"""Kernels that move numbers."""

from tapeflow.engine.addresses import load_float, load_int32, store_float
from tapeflow.engine.array_kernels.base import (
    add_number,
    clear,
    copy_number,
    kernel,
    operand_of,
    result_of,
)
from tapeflow.jit import helper


@kernel
def concat(values, cotangents, shared, record, lanes):
    """Parameters: how many operands, and the length of each."""
    target = result_of(values, record, lanes)
    # The parameters stand first, as their count is not known otherwise.
    count = load_int32(record + 4)
    for k in range(count):
        place = load_int32(record + 8 + 12 * k)
        size = load_int32(record + 16 + 12 * k)
        if load_int32(record + 12 + 12 * k):
            source = shared + 8 * place
            for n in range(size):
                copy_number(target + 8 * lanes * n, source + 8 * n, 0, lanes)
        else:
            source = values + 8 * lanes * place
            for n in range(size * lanes):
                store_float(target, 8 * n, load_float(source, 8 * n))
        target += 8 * lanes * size


@helper()
def walk(target, source, step, lane_step, places, lanes, scatter):
    """Copy a view's numbers out in C order; or, to scatter, add numbers in order at its places.

    places: the address of the view's parameters: offset, axes, and lengths and strides.
    """
    offset, axes = load_int32(places), load_int32(places + 4)
    lengths, strides = places + 8, places + 8 + 4 * axes
    inner = load_int32(lengths + 4 * (axes - 1))
    inner_stride = load_int32(strides + 4 * (axes - 1))
    rows = 1
    for axis in range(axes - 1):
        rows *= load_int32(lengths + 4 * axis)
    n = 0
    for row in range(rows):
        place, rest = offset, row
        for axis in range(axes - 2, -1, -1):
            length = load_int32(lengths + 4 * axis)
            place += rest % length * load_int32(strides + 4 * axis)
            rest //= length
        if lanes == 1 and scatter == 0:
            at, own = source + 8 * place, target + 8 * n
            if inner_stride == -1:
                for k in range(inner):
                    store_float(own, 8 * k, load_float(at, -8 * k))
            else:
                for k in range(inner):
                    store_float(own, 8 * k, load_float(at, 8 * inner_stride * k))
        elif lanes == 1:
            at, own = target + 8 * place, source + 8 * n
            if inner_stride == -1:
                for k in range(inner):
                    store_float(at, -8 * k, load_float(at, -8 * k) + load_float(own, 8 * k))
            else:
                for k in range(inner):
                    there = 8 * inner_stride * k
                    store_float(at, there, load_float(at, there) + load_float(own, 8 * k))
        else:
            for k in range(inner):
                there = place + k * inner_stride
                if scatter:
                    add_number(
                        target + 8 * lanes * there, source + step * (n + k), lane_step, lanes
                    )
                else:
                    copy_number(
                        target + 8 * lanes * (n + k), source + step * there, lane_step, lanes
                    )
        n += inner


@kernel
def view(values, cotangents, shared, record, lanes):
    """Parameters: those of `walk`."""
    source, step, lane_step = operand_of(values, shared, record, 0, lanes)
    walk(result_of(values, record, lanes), source, step, lane_step, record + 12, lanes, 0)


@kernel
def unview(values, cotangents, shared, record, lanes):
    """Parameters: the result's length, then those of `walk`."""
    source, step, lane_step = operand_of(values, shared, record, 0, lanes)
    target = result_of(values, record, lanes)
    clear(target, load_int32(record + 12) * lanes)
    walk(target, source, step, lane_step, record + 16, lanes, 1)


@kernel
def take(values, cotangents, shared, record, lanes):
    """Parameters: how many, and the place of each, or -1 for zero."""
    source, step, lane_step = operand_of(values, shared, record, 0, lanes)
    target = result_of(values, record, lanes)
    for n in range(load_int32(record + 12)):
        place = load_int32(record + 16 + 4 * n)
        if place < 0:
            clear(target + 8 * lanes * n, lanes)
        else:
            copy_number(target + 8 * lanes * n, source + step * place, lane_step, lanes)


@kernel
def put(values, cotangents, shared, record, lanes):
    """Parameters: the result's length, how many, and the place of each, or -1 for none."""
    source, step, lane_step = operand_of(values, shared, record, 0, lanes)
    target = result_of(values, record, lanes)
    clear(target, load_int32(record + 12) * lanes)
    for n in range(load_int32(record + 16)):
        place = load_int32(record + 20 + 4 * n)
        if place >= 0:
            add_number(target + 8 * lanes * place, source + step * n, lane_step, lanes)
