"""Which compiled kernel an instruction on arrays has, if any, and its record."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numba import config

from tapeflow.arrays.products import Product

Record = list[int]

_BY_BLAS = 1000
"""Multiplications of a product from which BLAS is faster than a loop."""

_SMALL = 16
"""Size of a matrix up to which a loop is faster than a call of LAPACK, for one sample."""

_SMALL_LANES = 64
"""The same with lanes, whose matrices LAPACK takes one by one."""


def array_kernel(
    name: str,
    p: Sequence[int],
    sizes: tuple[Sequence[int], int],
    places: Sequence[int],
    shared: Sequence[bool],
    lanes: bool,
) -> tuple[int, Record] | None:
    """The address of an instruction's kernel, and its record; None where NumPy computes it.

    sizes: the lengths of the operands' runs, and of the result's; places: of the result, and of
    each operand; shared: which operands are single numbers; lanes: whether the others are rows.
    """
    make = _MAKERS.get(name)
    if make is None or config.DISABLE_JIT:
        return None
    found = make(p, sizes, lanes)
    if found is None:
        return None
    kernel, parameters = found
    operands: list[int] = []
    for k, (place, own) in enumerate(zip(places[1:], shared, strict=True)):
        operands += [place, int(own)]
        if name == "concat":
            operands.append(sizes[0][k])
    if name == "concat":
        operands.insert(0, len(sizes[0]))
    return kernel.address, [places[0], *operands, *parameters]


Made = tuple[Any, Sequence[int]] | None


def _walk(p: Sequence[int]) -> Record:
    """A view's offset, axes, lengths and strides; axes that are one run are joined."""
    n_axes = (len(p) - 2) // 2
    if 0 in p[2 : 2 + n_axes]:
        return [0, 1, 0, 1]
    axes: list[tuple[int, int]] = []
    for length, stride in zip(p[2 : 2 + n_axes], p[2 + n_axes :], strict=True):
        if length == 1:
            continue
        if axes and axes[-1][1] == stride * length:
            axes[-1] = (axes[-1][0] * length, stride)
        else:
            axes.append((length, stride))
    axes = axes or [(1, 1)]
    return [p[1], len(axes), *(n for n, _ in axes), *(s for _, s in axes)]


def _view(p: Sequence[int], sizes: Any, lanes: bool) -> Made:
    from tapeflow.engine.array_kernels import moves

    return moves.view, _walk(p)


def _unview(p: Sequence[int], sizes: Any, lanes: bool) -> Made:
    from tapeflow.engine.array_kernels import moves

    return moves.unview, [sizes[1], *_walk(p)]


def _take(p: Sequence[int], sizes: Any, lanes: bool) -> Made:
    from tapeflow.engine.array_kernels import moves

    return moves.take, [len(p) - 1, *p[1:]]


def _put(p: Sequence[int], sizes: Any, lanes: bool) -> Made:
    from tapeflow.engine.array_kernels import moves

    return moves.put, [p[0], len(p) - 1, *p[1:]]


def _concat(p: Sequence[int], sizes: Any, lanes: bool) -> Made:
    from tapeflow.engine.array_kernels import moves

    return moves.concat, ()


def _reduction(name: str) -> Callable[..., Made]:
    def make(p: Sequence[int], sizes: Any, lanes: bool) -> Made:
        from tapeflow.engine.array_kernels import sums

        return getattr(sums, name), p

    return make


@cache
def _gemm() -> list[int]:
    from numba.extending import get_cython_function_address

    address = get_cython_function_address("scipy.linalg.cython_blas", "dgemm")
    halves: list[int] = np.array([address], np.int64).view(np.int32).tolist()
    return halves


def _matmul(absolute: int) -> Callable[..., Made]:
    def make(p: Sequence[int], sizes: Any, lanes: bool) -> Made:
        from tapeflow.engine.array_kernels import products

        d = Product(*p)
        if not lanes and d.m * d.k * d.n >= _BY_BLAS:
            return products.matmul_by_blas, [*p, absolute, *_gemm()]
        return products.matmul, [*p, absolute]

    return make


def _by_elimination(name: str, *more: int) -> Callable[..., Made]:
    """Of matrices that fit the stack, for one sample and for each lane."""

    def make(p: Sequence[int], sizes: Any, lanes: bool) -> Made:
        from tapeflow.engine.array_kernels import elimination

        return (getattr(elimination, name), [*p, *more]) if p[1] <= elimination.LARGEST else None

    return make


def _small(name: str, *more: int) -> Callable[..., Made]:
    def make(p: Sequence[int], sizes: Any, lanes: bool) -> Made:
        from tapeflow.engine.array_kernels import small

        if p[1] > (_SMALL_LANES if lanes else _SMALL):
            return None
        return getattr(small, name), [*p, *more]

    return make


_MAKERS: dict[str, Callable[..., Made]] = {
    "view": _view,
    "unview": _unview,
    "take": _take,
    "put": _put,
    "concat": _concat,
    "sum": _reduction("sum"),
    "amax": _reduction("amax"),
    "log_of_sum": _reduction("log_of_sum"),
    "matmul": _matmul(0),
    "azmatmul": _matmul(1),
    "solve": _by_elimination("solve", 0),
    "azsolve": _by_elimination("solve", 1),
    "inv": _by_elimination("inv"),
    "det": _by_elimination("det"),
    "slogdet": _by_elimination("slogdet"),
    "cholesky": _small("cholesky"),
    "triangular_solve": _small("triangular_solve", 0),
    "aztriangular_solve": _small("triangular_solve", 1),
}
