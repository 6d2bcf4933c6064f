"""Broadcasting of elementwise instructions on arrays.

Such an instruction works on a grid of up to three axes, and each operand has a stride along each:
that of a full array, or zero where it is repeated. So `a[:, None] * b` copies neither operand.
The parameters on the tape are the three lengths, and three strides for each operand.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.structure import Ints

Shape = tuple[int, ...]

AXES = 3

NARROW = 8
"""The innermost axis is worked through eight numbers at a time: a shorter one is expanded."""


def fold(shapes: Sequence[Shape], shape: Shape) -> tuple[int, ...] | None:
    """The grid's parameters for operands that broadcast to a shape; None if three axes are few.

    Neighbouring axes along which the same operands are repeated are one.
    """
    n_axes = len(shape)
    groups: list[tuple[int, tuple[bool, ...]]] = []
    for axis in range(n_axes):
        length = shape[axis]
        if length == 1:
            continue
        full = tuple(
            axis >= n_axes - len(own) and own[axis - n_axes + len(own)] != 1 for own in shapes
        )
        if groups and groups[-1][1] == full:
            groups[-1] = (groups[-1][0] * length, full)
        else:
            groups.append((length, full))
    if len(groups) > AXES or (len(groups) > 1 and groups[-1][0] < NARROW):
        return None
    while len(groups) < AXES:
        groups.insert(0, (1, (False,) * len(shapes)))
    parameters = [length for length, _ in groups]
    for k in range(len(shapes)):
        strides, stride = [0] * AXES, 1
        for axis in reversed(range(AXES)):
            length, full = groups[axis]
            if full[k]:
                strides[axis] = stride
                stride *= length
        parameters += strides
    return tuple(parameters)


def extents(parameters: Any, arity: int) -> tuple[tuple[int, ...], int]:
    """The length of each operand's run, and of the result's. ValueError for bad parameters."""
    p = [int(x) for x in parameters]
    if len(p) != AXES * (1 + arity) or min(p) < 0:
        raise ValueError("bad parameters")
    lengths = p[:AXES]
    size = lengths[0] * lengths[1] * lengths[2]
    # A row of a kernel's inner loop is whole groups of numbers, or alone: see `fold`.
    if size and lengths[0] * lengths[1] > 1 and lengths[2] < NARROW:
        raise ValueError("bad parameters")
    runs = []
    for k in range(arity):
        stride = 1
        for axis in reversed(range(AXES)):
            found = p[AXES * (1 + k) + axis]
            if found not in (0, stride) or (found and lengths[axis] == 0):
                raise ValueError("bad parameters")
            if found:
                stride *= lengths[axis]
        runs.append(stride if size else 0)
    return tuple(runs), size


def shapes(parameters: Any, arity: int) -> tuple[Shape, ...]:
    """Each operand's shape on the grid: one along the axes where it is repeated."""
    p = [int(x) for x in parameters]
    return tuple(
        tuple(p[axis] if p[AXES * (1 + k) + axis] else 1 for axis in range(AXES))
        for k in range(arity)
    )


def places(parameters: Any, operand: int) -> Ints:
    """Which number of an operand's run each number of the result is made of."""
    p = [int(x) for x in parameters]
    index = np.zeros((), np.int64)
    for axis in range(AXES):
        index = np.add.outer(index, np.arange(p[axis]) * p[AXES * (1 + operand) + axis])
    return index.ravel()
