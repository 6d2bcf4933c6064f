"""Factorising matrices and solving with them, after LAPACK.

The pullbacks are those of Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008), unless one says otherwise. The first parameter is the number
of matrices in the stack; a matrix that cannot be factorised gives NaNs. Pullbacks have an absolute
zero: they solve by the ops for which a column of zeros has the solution zero, whatever the matrix.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.arrays.base import (
    Array,
    ArrayRule,
    Parameters,
    Reach,
    Sizes,
    StackRule,
    Value,
    array_rule,
    by_column,
    by_matrix,
    call,
    lane_by_lane,
    lanes_first,
    lanes_last,
    require,
)
from tapeflow.arrays.products import product_of
from tapeflow.rules import azmul


def _t(x: Value) -> Value:
    return np.swapaxes(x, -1, -2)


def _dims(p: Parameters, n: int) -> tuple[int, ...]:
    require(len(p) == n, all(x >= 0 for x in p))
    return tuple(map(int, p))


def _lower(x: Value, diagonal: float = 1.0) -> Value:
    """The lower triangle, with the diagonal scaled."""
    n = x.shape[-1]
    return azmul(x, np.tril(np.ones((n, n)), -1) + diagonal * np.eye(n))


def _upper(x: Value) -> Value:
    n = x.shape[-1]
    return azmul(x, np.triu(np.ones((n, n))))


def _each(
    function: Callable[..., Any], shapes: Sequence[tuple[int, ...]], *operands: Array
) -> list[Array]:
    """A function of single matrices over stacks; NaNs of the given shapes where it fails."""
    try:
        return lane_by_lane(function, len(shapes), *operands)
    except np.linalg.LinAlgError:
        stack = operands[0].shape[:-2]
        return [np.full((*stack, *shape), np.nan) for shape in shapes]


def _of_finite(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function by LAPACK's iterations, which do not end for some infinite numbers."""

    def checked(a: Array) -> Any:
        if not np.isfinite(a).all():
            raise np.linalg.LinAlgError
        return function(a)

    return checked


def _factor(a: Array) -> Any:
    # SciPy's LAPACK, whose threads the products of matrices use as well.
    from scipy.linalg.lapack import dpotrf

    factor, failed = dpotrf(a, lower=1, clean=1)
    if failed:
        raise np.linalg.LinAlgError
    return factor


@array_rule
class Cholesky(StackRule):
    """The lower Cholesky factor of a matrix's symmetric part. Parameters: stack, size."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, n = _dims(p, 2)
        return (batch * n * n,), batch * n * n

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, n = _dims(p, 2)
        a = lanes_first(operands[0], (batch, n, n))
        (factor,) = _each(_factor, [(n, n)], 0.5 * (a + _t(a)))
        return lanes_last(factor)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, n = _dims(p, 2)
        factor, g = (x.reshape(batch, n, n) for x in (result, flowing))
        inner = _lower(product_of(factor, _lower(g), a_turned=True), 0.5)
        # L^-T inner L^-1, by two triangular solves.
        own = (batch, n, n, 1, 1)
        left = call("aztriangular_solve", own, result, inner.reshape(-1)).reshape(batch, n, n)
        both = call("aztriangular_solve", own, result, _t(left).reshape(-1)).reshape(batch, n, n)
        return ((0.5 * (both + _t(both))).reshape(-1),)


@array_rule
class Triangular_Solve(ArrayRule):
    """x of T x = b for triangular T. Parameters: stack, size, columns, lower, transposed."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, n, k, lower, turned = _dims(p, 5)
        require(lower in (0, 1), turned in (0, 1))
        return (batch * n * n, batch * n * k), batch * n * k

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        batch, n, k = p[:3]
        columns, matrices = by_column(batch, n, k), by_matrix(batch, batch * n * n)
        whole = Reach(0, matrices, by_matrix(batch, batch * n * k))
        return [whole, Reach(1, columns, columns)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        from scipy.linalg import solve_triangular

        batch, n, k, lower, turned = _dims(p, 5)
        a, b = lanes_first(operands[0], (batch, n, n)), lanes_first(operands[1], (batch, n, k))

        def solve(a: Array, b: Array) -> Any:
            return solve_triangular(a, b, lower=bool(lower), trans=int(turned), check_finite=False)

        (x,) = _each(solve, [(n, k)], a, b)
        return lanes_last(x)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, n, k, lower, turned = _dims(p, 5)
        back = call("aztriangular_solve", (batch, n, k, lower, 1 - turned), operands[0], flowing)
        g, x = back.reshape(batch, n, k), result.reshape(batch, n, k)
        outer = -product_of(x, g, b_turned=True) if turned else -product_of(g, x, b_turned=True)
        kept = _lower(outer) if lower else _upper(outer)
        return kept.reshape(-1), back


def _absolute(p: Parameters, b: Array, x: Array) -> Array:
    """Solutions x of systems with right sides b, with zero for each column of zeros."""
    columns = b.reshape(p[0], p[1], p[2], b.shape[1])
    given = (columns != 0.0).any(axis=1, keepdims=True)
    return np.where(given, x.reshape(columns.shape), 0.0).reshape(x.shape)


@array_rule
class Aztriangular_Solve(Triangular_Solve):
    """As `Triangular_Solve`, but the solution for a column of zeros is zero."""

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        return _absolute(p, operands[1], Triangular_Solve.forward(p, *operands))


@array_rule
class Solve(ArrayRule):
    """x of A x = b. Parameters: stack, size, columns, whether A is transposed."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, n, k, turned = _dims(p, 4)
        require(turned in (0, 1))
        return (batch * n * n, batch * n * k), batch * n * k

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        batch, n, k = p[:3]
        columns, matrices = by_column(batch, n, k), by_matrix(batch, batch * n * n)
        whole = Reach(0, matrices, by_matrix(batch, batch * n * k))
        return [whole, Reach(1, columns, columns)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, n, k, turned = _dims(p, 4)
        a, b = lanes_first(operands[0], (batch, n, n)), lanes_first(operands[1], (batch, n, k))
        (x,) = _each(np.linalg.solve, [(n, k)], _t(a) if turned else a, b)
        return lanes_last(x)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, n, k, turned = _dims(p, 4)
        back = call("azsolve", (batch, n, k, 1 - turned), operands[0], flowing)
        g, x = back.reshape(batch, n, k), result.reshape(batch, n, k)
        outer = -product_of(x, g, b_turned=True) if turned else -product_of(g, x, b_turned=True)
        return outer.reshape(-1), back


@array_rule
class Azsolve(Solve):
    """As `Solve`, but the solution for a column of zeros is zero, whatever the matrix."""

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        return _absolute(p, operands[1], Solve.forward(p, *operands))


class _Square(StackRule):
    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, n = _dims(p, 2)
        return (batch * n * n,), batch * n * n

    @classmethod
    def shape(cls, p: Parameters) -> tuple[int, ...]:
        batch, n = _dims(p, 2)
        return (n, n) if batch == 1 else (batch, n, n)


@array_rule
class Inv(_Square):
    """The inverse. Parameters: stack, size."""

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, n = _dims(p, 2)
        (x,) = _each(np.linalg.inv, [(n, n)], lanes_first(operands[0], (batch, n, n)))
        return lanes_last(x)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, n = _dims(p, 2)
        x, g = result.reshape(batch, n, n), flowing.reshape(batch, n, n)
        left = product_of(x, g, a_turned=True)
        return (-product_of(left, x, b_turned=True).reshape(-1),)


@array_rule
class Slogdet(StackRule):
    """Signs of the determinants, then logarithms of their sizes. Parameters: stack, size."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, n = _dims(p, 2)
        return (batch * n * n,), 2 * batch

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        batch, n = p
        takes = np.concatenate([np.full(batch, -1), np.arange(batch)])
        return [Reach(0, by_matrix(batch, batch * n * n), takes)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, n = _dims(p, 2)
        sign, log = np.linalg.slogdet(lanes_first(operands[0], (batch, n, n)))
        return lanes_last(np.concatenate([sign, log], axis=1))

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        # The inverse, transposed, for the matrices whose logarithm is of use.
        batch, n = _dims(p, 2)
        right = azmul(flowing[batch:].reshape(batch, 1, 1), np.eye(n))
        return (call("azsolve", (batch, n, n, 1), operands[0], right.reshape(-1)),)


@array_rule
class Det(StackRule):
    """The determinant. Parameters: stack, size."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, n = _dims(p, 2)
        return (batch * n * n,), batch

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, n = _dims(p, 2)
        return lanes_last(np.linalg.det(lanes_first(operands[0], (batch, n, n))))

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, n = _dims(p, 2)
        cofactors = call("cofactors", p, operands[0]).reshape(batch, n, n)
        return (azmul(flowing.reshape(batch, 1, 1), cofactors).reshape(-1),)


def _svd(a: Array) -> Any:
    return tuple(np.linalg.svd(a))


@array_rule
class Cofactors(_Square):
    """The gradient of the determinant, also of a singular matrix. Parameters: stack, size.

    From the singular values, as the product of the others is a cofactor of a diagonal matrix.
    """

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, n = _dims(p, 2)
        a = lanes_first(operands[0], (batch, n, n))
        u, s, vt = _each(_of_finite(_svd), [(n, n), (n,), (n, n)], a)
        others = np.stack([np.delete(s, k, axis=-1).prod(axis=-1) for k in range(n)], axis=-1)
        sign = np.linalg.det(u) * np.linalg.det(vt)
        return lanes_last(np.round(sign)[..., None, None] * (u * others[..., None, :]) @ vt)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, n = _dims(p, 2)
        c, g = result.reshape(batch, n, n), flowing.reshape(batch, n, n)
        inner = np.sum(azmul(g, c), axis=(1, 2), keepdims=True)
        right = azmul(inner, np.eye(n)) - product_of(g, c, a_turned=True)
        return (call("azsolve", (batch, n, n, 1), operands[0], right.reshape(-1)),)


@array_rule
class Pinv(StackRule):
    """The pseudoinverse, at constant rank. Parameters: stack, rows, columns.

    Pullback: Golub and Pereyra (1973), equation 4.12.
    """

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, m, n = _dims(p, 3)
        return (batch * m * n,), batch * m * n

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, m, n = _dims(p, 3)
        a = lanes_first(operands[0], (batch, m, n))
        (x,) = _each(_of_finite(np.linalg.pinv), [(n, m)], a)
        return lanes_last(x)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, m, n = _dims(p, 3)
        a, x = operands[0].reshape(batch, m, n), result.reshape(batch, n, m)
        g = flowing.reshape(batch, n, m)
        left = product_of(g, x @ _t(x), a_turned=True)
        right = product_of(_t(x) @ x, g, b_turned=True)
        to_a = -product_of(product_of(x, g, a_turned=True), x, b_turned=True)
        to_a = to_a + product_of(np.eye(m) - a @ x, left)
        to_a = to_a + product_of(right, np.eye(n) - x @ a)
        return (to_a.reshape(-1),)


@array_rule
class Expm(_Square):
    """The exponential of a matrix. Parameters: stack, size.

    Pullback: a block of the exponential of twice the size (Van Loan, 1978).
    """

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        from scipy.linalg import expm

        batch, n = _dims(p, 2)
        return lanes_last(expm(lanes_first(operands[0], (batch, n, n))))

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, n = _dims(p, 2)
        a, g = _t(operands[0].reshape(batch, n, n)), flowing.reshape(batch, n, n)
        # A matrix whose exponential is NaN gives NaN where something flows, and there alone.
        failed = np.isnan(np.sum(result.reshape(batch, n * n), axis=1)).reshape(batch, 1, 1)
        a = np.where(failed, 0.0, a)
        below = np.concatenate([np.zeros((batch, n, n)), a], axis=2)
        both = np.concatenate([np.concatenate([a, g], axis=2), below], axis=1)
        whole = call("expm", (batch, 2 * n), both.reshape(-1)).reshape(batch, 2 * n, 2 * n)
        return (azmul(whole[:, :n, n:], np.where(failed, np.nan, 1.0)).reshape(-1),)
