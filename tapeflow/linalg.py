"""scipy.linalg's functions on traced matrices, and on plain ones; np.linalg's are recorded."""

from typing import Any

import numpy as np

from tapeflow.numpy_api.linalg import _one, _solve
from tapeflow.tracers import is_traced

__all__ = ["cho_factor", "cho_solve", "expm", "solve_triangular"]


def solve_triangular(
    a: Any, b: Any, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False
) -> Any:
    """x of ``a x = b``, for triangular ``a``, (..., n, n), and b of shape (n,) or (..., n, k).

    trans: 0 or "N" for a, 1 or "T" for its transpose. Only the triangle named by ``lower`` is
    read. Raises LinAlgError for a matrix that is not square; a zero on the diagonal gives NaNs.

    >>> tpf.linalg.solve_triangular(np.array([[2.0, 0.0], [1.0, 1.0]]), np.ones(2), lower=True)
    array([0.5, 0.5])
    """
    turned = int(trans in (1, "T", "C", 2))
    if not is_traced(a) and not is_traced(b):
        from scipy import linalg

        return linalg.solve_triangular(a, b, trans=turned, lower=lower, unit_diagonal=unit_diagonal)
    if unit_diagonal:
        n = np.shape(a)[-1]
        a = np.where(np.eye(n) == 1.0, 1.0, a)
    return _solve("triangular_solve", a, b, (int(lower), turned))


def cho_factor(a: Any, lower: bool = False) -> tuple[Any, bool]:
    """The Cholesky factor of a matrix, for `cho_solve`: (factor, whether it is the lower one).

    >>> tpf.linalg.cho_factor(np.array([[4.0]]), lower=True)
    (array([[2.]]), True)
    """
    return np.linalg.cholesky(a, upper=not lower), lower


def cho_solve(factor: tuple[Any, bool], b: Any) -> Any:
    """x of ``A x = b`` from A's Cholesky factor: (factor, whether it is the lower one).

    >>> tpf.linalg.cho_solve((np.array([[2.0]]), True), np.array([8.0]))
    array([2.])
    """
    c, lower = factor
    inner = solve_triangular(c, b, trans=0 if lower else 1, lower=lower)
    return solve_triangular(c, inner, trans=1 if lower else 0, lower=lower)


def expm(a: Any) -> Any:
    """The exponential of a square matrix, or of each of a stack of them.

    >>> tpf.linalg.expm(np.zeros((2, 2)))
    array([[1., 0.],
           [0., 1.]])
    """
    if is_traced(a):
        return _one("expm", a)
    from scipy import linalg

    return linalg.expm(a)
