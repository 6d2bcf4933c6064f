"""Orthogonal factorisations and spectra: each result is its parts, end to end."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.arrays.base import (
    Array,
    Parameters,
    Reach,
    Sizes,
    StackRule,
    Value,
    array_rule,
    by_matrix,
    call,
    lanes_first,
    lanes_last,
    require,
)
from tapeflow.arrays.linear import _dims, _each, _of_finite, _t
from tapeflow.arrays.products import product_of
from tapeflow.rules import azmul


def _joined(parts: Sequence[Array], batch: int) -> Array:
    lanes = len(parts[0])
    return lanes_last(np.concatenate([part.reshape(lanes, -1) for part in parts], axis=1))


def _split(run: Value, *shapes: tuple[int, ...]) -> list[Value]:
    parts, first = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        parts.append(run[first : first + size].reshape(shape))
        first += size
    return parts


def _differences(w: Value) -> Value:
    """1 / (w_j - w_i), and zero on the diagonal."""
    n = w.shape[-1]
    gaps = w[..., None, :] - w[..., :, None]
    return np.where(np.eye(n) == 1.0, 0.0, 1.0 / np.where(np.eye(n) == 1.0, 1.0, gaps))


def _diagonal_matrix(w: Value) -> Value:
    return w[..., None] * np.eye(w.shape[-1])


@array_rule
class Qr(StackRule):
    """Q and R of a matrix, reduced. Parameters: stack, rows, columns (no more than rows)."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, m, n = _dims(p, 3)
        require(m >= n)
        return (batch * m * n,), batch * (m * n + n * n)

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        batch, m, n = p
        takes = by_matrix(batch, batch * m * n, batch * n * n)
        return [Reach(0, by_matrix(batch, batch * m * n), takes)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, m, n = _dims(p, 3)
        q, r = np.linalg.qr(lanes_first(operands[0], (batch, m, n)))
        return _joined([q, r], batch)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, m, n = _dims(p, 3)
        shapes = (batch, m, n), (batch, n, n)
        (q, r), (gq, gr) = _split(result, *shapes), _split(flowing, *shapes)
        gr = np.triu(gr)
        inner = product_of(r, gr, b_turned=True) - product_of(gq, q, a_turned=True)
        symmetric = np.tril(inner) + _t(np.tril(inner, -1))
        right = gq + product_of(q, symmetric)
        # right R^-T = (R^-1 right^T)^T
        own = (batch, n, m, 0, 0)
        x = call("aztriangular_solve", own, r.reshape(-1), _t(right).reshape(-1))
        return (_t(x.reshape(batch, n, m)).reshape(-1),)


@array_rule
class Eigh(StackRule):
    """Eigenvalues, ascending, and eigenvectors of a matrix's symmetric part.

    Parameters: stack, size. Where eigenvalues are equal, what flows to eigenvectors gives NaNs.
    """

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, n = _dims(p, 2)
        return (batch * n * n,), batch * (n + n * n)

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        batch, n = p
        takes = by_matrix(batch, batch * n, batch * n * n)
        return [Reach(0, by_matrix(batch, batch * n * n), takes)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, n = _dims(p, 2)
        a = lanes_first(operands[0], (batch, n, n))
        symmetric = 0.5 * (a + _t(a))
        return _joined(_each(_of_finite(np.linalg.eigh), [(n,), (n, n)], symmetric), batch)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, n = _dims(p, 2)
        shapes = (batch, n), (batch, n, n)
        (w, v), (gw, gv) = _split(result, *shapes), _split(flowing, *shapes)
        inner = azmul(product_of(v, gv, a_turned=True), _finite(_differences(w)))
        left = product_of(v, _diagonal_matrix(gw) + inner)
        whole = product_of(left, v, b_turned=True)
        return ((0.5 * (whole + _t(whole))).reshape(-1),)


def _finite(x: Value) -> Value:
    """NaN for what is infinite: no direction there is the derivative."""
    return np.where(np.abs(x) == np.inf, np.nan, x)


@array_rule
class Eig(StackRule):
    """Eigenvalues and unit eigenvectors of a matrix whose spectrum is real; NaNs of another.

    Parameters: stack, size.
    """

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        return Eigh.sizes(p)

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        return Eigh.reaches(p)

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, n = _dims(p, 2)

        def real(a: Array) -> Any:
            w, v = np.linalg.eig(a)
            if np.iscomplexobj(w):
                raise np.linalg.LinAlgError
            return w, v

        a = lanes_first(operands[0], (batch, n, n))
        return _joined(_each(_of_finite(real), [(n,), (n, n)], a), batch)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, n = _dims(p, 2)
        shapes = (batch, n), (batch, n, n)
        (w, v), (gw, gv) = _split(result, *shapes), _split(flowing, *shapes)
        product = product_of(v, gv, a_turned=True)
        length = np.sum(product * np.eye(n), axis=-2, keepdims=True)
        inner = azmul(product - azmul(_t(v) @ v, length), _finite(_differences(w)))
        right = product_of(_diagonal_matrix(gw) + inner, v, b_turned=True)
        own = (batch, n, n, 1)
        return (call("azsolve", own, v.reshape(-1), right.reshape(-1)),)


@array_rule
class Svd(StackRule):
    """U, the singular values and V^T of a matrix, thin. Parameters: stack, rows, columns.

    Pullback: Townsend, "Differentiating the singular value decomposition" (2016).
    """

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        batch, m, n = _dims(p, 3)
        k = min(m, n)
        return (batch * m * n,), batch * (m * k + k + k * n)

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        batch, m, n = p
        k = min(m, n)
        takes = by_matrix(batch, batch * m * k, batch * k, batch * k * n)
        return [Reach(0, by_matrix(batch, batch * m * n), takes)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        batch, m, n = _dims(p, 3)
        k = min(m, n)

        def thin(a: Array) -> Any:
            return tuple(np.linalg.svd(a, full_matrices=False))

        a = lanes_first(operands[0], (batch, m, n))
        return _joined(_each(_of_finite(thin), [(m, k), (k,), (k, n)], a), batch)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        batch, m, n = _dims(p, 3)
        k = min(m, n)
        shapes = (batch, m, k), (batch, k), (batch, k, n)
        (u, s, vt), (gu, gs, gvt) = _split(result, *shapes), _split(flowing, *shapes)
        row = s[:, None, :]
        f = _finite(_differences(s * s))
        ut, vtg = product_of(u, gu, a_turned=True), product_of(vt, gvt, b_turned=True)
        inner = azmul(azmul(ut - _t(ut), f), row)
        inner = inner + azmul(s[..., None], azmul(vtg - _t(vtg), f))
        whole = product_of(product_of(u, inner + _diagonal_matrix(gs)), vt)
        # What leaves the spaces that U and V span, for matrices that are not square.
        if m > k:
            rest = azmul(gu, 1.0 / row)
            rest = rest - product_of(u, product_of(u, rest, a_turned=True))
            whole = whole + product_of(rest, vt)
        if n > k:
            rest = azmul(gvt, 1.0 / s[..., None])
            rest = rest - product_of(product_of(rest, vt, b_turned=True), vt)
            whole = whole + product_of(u, rest)
        return (whole.reshape(-1),)
