"""The product of matrices, plain and with an absolute zero.

Pullbacks take the second: where no cotangent flows, an infinite or a NaN number adds nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tapeflow.arrays.base import (
    Array,
    ArrayRule,
    Parameters,
    Reach,
    Sizes,
    Value,
    array_rule,
    call,
    lanes_first,
    lanes_last,
    require,
)
from tapeflow.rules import azmul


@dataclass(frozen=True)
class Product:
    """Parameters of a product of (batch, m, k) and (batch, k, n).

    a_turned, b_turned: the operand lies transposed. a_single, b_single: there is one matrix for
    the whole batch.
    """

    batch: int
    m: int
    k: int
    n: int
    a_turned: int = 0
    b_turned: int = 0
    a_single: int = 0
    b_single: int = 0

    @property
    def parameters(self) -> tuple[int, ...]:
        return (
            self.batch, self.m, self.k, self.n,
            self.a_turned, self.b_turned, self.a_single, self.b_single,
        )  # fmt: skip


@array_rule
class Matmul(ArrayRule):
    """A product of matrices, or of stacks of them. Parameters: those of `Product`."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        require(len(p) == 8, all(n >= 0 for n in p[:4]), all(flag in (0, 1) for flag in p[4:]))
        d = Product(*map(int, p))
        require(d.batch == 1 or not (d.a_single and d.b_single))
        a = d.m * d.k * (1 if d.a_single else d.batch)
        b = d.k * d.n * (1 if d.b_single else d.batch)
        return (a, b), d.batch * d.m * d.n

    @classmethod
    def shape(cls, p: Parameters) -> tuple[int, ...]:
        d = Product(*map(int, p))
        return tuple(n for n in (d.batch, d.m, d.n) if n != 1)

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        d = Product(*map(int, p))
        # Each number of the product depends on a row of a and a column of b.
        rows = np.arange((1 if d.a_single else d.batch) * d.m).reshape(-1, d.m, 1)
        columns = np.arange((1 if d.b_single else d.batch) * d.n).reshape(-1, 1, d.n)
        a, b = np.repeat(rows, d.k, axis=2), np.repeat(columns, d.k, axis=1)
        a = np.swapaxes(a, 1, 2) if d.a_turned else a
        b = np.swapaxes(b, 1, 2) if d.b_turned else b
        shape = d.batch, d.m, d.n
        return [
            Reach(k, gives.reshape(-1), np.broadcast_to(takes, shape).reshape(-1))
            for k, (gives, takes) in enumerate([(a, rows), (b, columns)])
        ]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        d = Product(*map(int, p))
        a = _matrices(operands[0], d.a_single, d.batch, d.m, d.k, d.a_turned)
        b = _matrices(operands[1], d.b_single, d.batch, d.k, d.n, d.b_turned)
        return lanes_last(np.matmul(a, b))

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        d = Product(*map(int, p))
        a, b = operands
        if d.a_turned:
            own = Product(d.batch, d.k, d.n, d.m, d.b_turned, 1, d.b_single, 0)
            to_a = call("azmatmul", own.parameters, b, flowing)
        else:
            own = Product(d.batch, d.m, d.n, d.k, 0, 1 - d.b_turned, 0, d.b_single)
            to_a = call("azmatmul", own.parameters, flowing, b)
        if d.b_turned:
            own = Product(d.batch, d.n, d.m, d.k, 1, d.a_turned, 0, d.a_single)
            to_b = call("azmatmul", own.parameters, flowing, a)
        else:
            own = Product(d.batch, d.k, d.m, d.n, 1 - d.a_turned, 0, d.a_single, 0)
            to_b = call("azmatmul", own.parameters, a, flowing)
        return (
            _summed(to_a, d.batch, d.m * d.k) if d.a_single else to_a,
            _summed(to_b, d.batch, d.k * d.n) if d.b_single else to_b,
        )


@array_rule
class Azmatmul(Matmul):
    """As `Matmul`, of products with an absolute zero: zero times infinity or NaN is zero."""

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        d = Product(*map(int, p))
        a = _matrices(operands[0], d.a_single, d.batch, d.m, d.k, d.a_turned)
        b = _matrices(operands[1], d.b_single, d.batch, d.k, d.n, d.b_turned)
        with np.errstate(all="ignore"):
            c = np.matmul(a, b)
        # A product that may be another is a NaN, which its sum passes on.
        lane, stack, i, j = np.nonzero(np.isnan(c))
        rows = np.broadcast_to(a, (len(a), d.batch, d.m, d.k))[lane, stack, i]
        columns = np.broadcast_to(b, (len(b), d.batch, d.k, d.n))[lane, stack, :, j]
        c[lane, stack, i, j] = azmul(rows, columns).sum(axis=1)
        return lanes_last(c)


def product_of(a: Value, b: Value, a_turned: bool = False, b_turned: bool = False) -> Value:
    """The products of two stacks of matrices, with an absolute zero; each may lie transposed."""
    batch = a.shape[0]
    k, m = a.shape[1:] if a_turned else a.shape[:0:-1]
    n = b.shape[1] if b_turned else b.shape[2]
    d = Product(batch, m, k, n, int(a_turned), int(b_turned))
    whole = call("azmatmul", d.parameters, a.reshape(-1), b.reshape(-1))
    return whole.reshape(batch, m, n)


def _matrices(x: Array, single: int, batch: int, rows: int, columns: int, turned: int) -> Array:
    own = (1 if single else batch, *((columns, rows) if turned else (rows, columns)))
    stack = lanes_first(x, own)
    return np.swapaxes(stack, -1, -2) if turned else stack


def _summed(x: Value, batch: int, size: int) -> Value:
    return x if batch == 1 else np.sum(x.reshape(batch, size), axis=0)
