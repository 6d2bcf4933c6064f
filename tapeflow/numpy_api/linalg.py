"""np.linalg on traced matrices, and stacks of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tapeflow.numpy_api.reductions import root
from tapeflow.numpy_api.registry import stands_for
from tapeflow.sources import refuse, user_place
from tapeflow.tracers import array_op, lift


def matrices(x: Any, square: bool = True) -> tuple[Any, tuple[int, ...], int, int, int]:
    """An array of matrices: itself, the stack's shape and size, rows and columns."""
    x = lift(x)
    if x.ndim < 2:
        raise np.linalg.LinAlgError(
            f"{x.ndim}-dimensional array given. Array must be at least two-dimensional "
            f"({user_place()})"
        )
    m, n = x.shape[-2:]
    if square and m != n:
        raise np.linalg.LinAlgError(
            f"Last 2 dimensions of the array must be square ({user_place()})"
        )
    return x, x.shape[:-2], int(np.prod(x.shape[:-2], dtype=np.int64)), m, n


def _one(name: str, x: Any) -> Any:
    x, stack, batch, n, _ = matrices(x)
    return array_op(name, (batch, n), (x,)).reshape(*stack, n, n)


@stands_for("linalg.inv")
def inv(a: Any) -> Any:
    return _one("inv", a)


@stands_for("linalg.cholesky")
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    factor = _one("cholesky", a)
    return np.swapaxes(factor, -1, -2) if upper else factor


def _right_side(a_stack: tuple[int, ...], n: int, b: Any) -> tuple[Any, bool]:
    """The columns to solve for, and whether there was one vector alone."""
    vector = b.ndim == 1
    b = b.reshape(-1, 1) if vector else b
    if b.shape[-2] != n:
        raise ValueError(
            f"solve: Input operand 1 has a mismatch in its core dimension 0 (size {b.shape[-2]} "
            f"is different from {n}) ({user_place()})"
        )
    stack = np.broadcast_shapes(a_stack, b.shape[:-2])
    return np.broadcast_to(b, (*stack, *b.shape[-2:])), vector


@stands_for("linalg.solve")
def solve(a: Any, b: Any) -> Any:
    return _solve("solve", a, b, (0,))


def _solve(name: str, a: Any, b: Any, flags: tuple[int, ...]) -> Any:
    a, stack, _, n, _ = matrices(a)
    b, vector = _right_side(stack, n, lift(b))
    stack = b.shape[:-2]
    batch, k = int(np.prod(stack, dtype=np.int64)), b.shape[-1]
    a = np.broadcast_to(a, (*stack, n, n))
    x = array_op(name, (batch, n, k, *flags), (a, b)).reshape(*stack, n, k)
    return x[..., 0] if vector else x


@stands_for("linalg.det")
def det(a: Any) -> Any:
    a, stack, batch, n, _ = matrices(a)
    return _stacked(array_op("det", (batch, n), (a,)), stack)


def _stacked(x: Any, stack: tuple[int, ...]) -> Any:
    return x.reshape(stack) if stack else x[0]


@stands_for("linalg.slogdet")
def slogdet(a: Any) -> Any:
    a, stack, batch, n, _ = matrices(a)
    both = array_op("slogdet", (batch, n), (a,))
    kind = type(np.linalg.slogdet(np.eye(1)))
    return kind(_stacked(both[:batch], stack), _stacked(both[batch:], stack))


@stands_for("linalg.pinv")
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, **options: Any) -> Any:
    if rcond is not None or options:
        refuse("record np.linalg.pinv with a tolerance", "leave it at NumPy's")
    a, stack, batch, m, n = matrices(a, square=False)
    return array_op("pinv", (batch, m, n), (a,)).reshape(*stack, n, m)


@stands_for("linalg.lstsq")
def lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """At the rank the matrix has; the residuals and the singular values are traced too."""
    a, b = lift(a), lift(b)
    x = np.matmul(np.linalg.pinv(a), b)
    m, n = a.shape
    gap = b - np.matmul(a, x)
    rest = np.sum(gap * gap, axis=0)
    rest = lift(rest).reshape(-1) if m > n else np.empty(0)
    return x, rest, min(m, n), np.linalg.svd(a, compute_uv=False)


@stands_for("linalg.qr")
def qr(a: Any, mode: str = "reduced") -> Any:
    a, stack, batch, m, n = matrices(a, square=False)
    if mode not in ("reduced", "r"):
        refuse(f"record np.linalg.qr in mode {mode!r}", "use mode 'reduced'")
    kind = type(np.linalg.qr(np.eye(1)))
    if m < n:
        # The first columns make Q, and the others follow from it.
        q, left = qr(a[..., :m])
        right = np.matmul(np.swapaxes(q, -1, -2), a[..., m:])
        r = np.concatenate([left, right], axis=-1)
        return r if mode == "r" else kind(q, r)
    both = array_op("qr", (batch, m, n), (a,))
    q, r = both[: batch * m * n], both[batch * m * n :]
    r = r.reshape(*stack, n, n)
    if mode == "r":
        return r
    return kind(q.reshape(*stack, m, n), r)


@stands_for("linalg.svd")
def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    a, stack, batch, m, n = matrices(a, square=False)
    if full_matrices and compute_uv and m != n:
        refuse("record np.linalg.svd with full matrices", "pass full_matrices=False")
    k = min(m, n)
    whole = array_op("svd", (batch, m, n), (a,))
    ends = batch * m * k, batch * (m * k + k)
    s = whole[ends[0] : ends[1]].reshape(*stack, k)
    if not compute_uv:
        return s
    u = whole[: ends[0]].reshape(*stack, m, k)
    kind = type(np.linalg.svd(np.eye(1)))
    return kind(u, s, whole[ends[1] :].reshape(*stack, k, n))


@stands_for("linalg.svdvals")
def svdvals(a: Any) -> Any:
    return svd(a, compute_uv=False)


def _spectrum(name: str, a: Any) -> tuple[Any, Any]:
    a, stack, batch, n, _ = matrices(a)
    both = array_op(name, (batch, n), (a,))
    w, v = both[: batch * n], both[batch * n :]
    return w.reshape(*stack, n), v.reshape(*stack, n, n)


@stands_for("linalg.eigh")
def eigh(a: Any, UPLO: str = "L") -> Any:
    return type(np.linalg.eigh(np.eye(1)))(*_spectrum("eigh", a))


@stands_for("linalg.eigvalsh")
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return _spectrum("eigh", a)[0]


@stands_for("linalg.eig")
def eig(a: Any) -> Any:
    return type(np.linalg.eig(np.eye(1)))(*_spectrum("eig", a))


@stands_for("linalg.eigvals")
def eigvals(a: Any) -> Any:
    return _spectrum("eig", a)[0]


@stands_for("trace", "linalg.trace")
def trace(
    a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    return np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1)


@stands_for("linalg.matrix_power")
def matrix_power(a: Any, n: int) -> Any:
    """By squaring."""
    a, stack, _, size, _ = matrices(a)
    if n < 0:
        return matrix_power(np.linalg.inv(a), -n)
    result, power = None, a
    while n:
        if n & 1:
            result = power if result is None else np.matmul(result, power)
        n >>= 1
        if n:
            power = np.matmul(power, power)
    if result is None:
        return np.broadcast_to(lift(np.eye(size)), (*stack, size, size)).copy()
    return result


@stands_for("linalg.multi_dot")
def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    """In the order that takes the fewest multiplications."""
    if len(arrays) < 2:
        raise ValueError("Expecting at least two arrays.")
    operands = [lift(a) for a in arrays]
    first, last = operands[0].ndim == 1, operands[-1].ndim == 1
    if first:
        operands[0] = operands[0].reshape(1, -1)
    if last:
        operands[-1] = operands[-1].reshape(-1, 1)
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    terms = [letters[k : k + 2] for k in range(len(operands))]
    result = np.einsum(",".join(terms) + "->" + letters[0] + letters[len(operands)], *operands)
    if first:
        result = result[0]
    return result[..., 0] if last else result


@stands_for("linalg.norm")
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = lift(x)
    if axis is None:
        if ord is None:
            total = root(np.sum(x * x))
            return lift(total).reshape((1,) * x.ndim) if keepdims else total
        axis = tuple(range(x.ndim))
    axes = normalize_axis_tuple(axis, x.ndim)
    if len(axes) == 1:
        return vector_norm(x, 2 if ord is None else ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    result = _matrix_norm(np.moveaxis(x, axes, (-2, -1)), "fro" if ord is None else ord)
    if keepdims:
        shape = [1 if k in axes else n for k, n in enumerate(x.shape)]
        result = lift(result).reshape(shape)
    return result


def vector_norm(x: Any, ord: Any, axis: Any, keepdims: bool) -> Any:
    size = np.abs(x)
    if ord == np.inf:
        return np.max(size, axis=axis, keepdims=keepdims)
    if ord == -np.inf:
        return np.min(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return np.sum(x != 0.0, axis=axis, keepdims=keepdims)
    if ord == 1:
        return np.sum(size, axis=axis, keepdims=keepdims)
    if ord == 2:
        return root(np.sum(x * x, axis=axis, keepdims=keepdims))
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    total = np.sum(size**ord, axis=axis, keepdims=keepdims)
    zero = total == 0.0
    return np.where(zero, 0.0, np.where(zero, 1.0, total) ** (1.0 / ord))


def _matrix_norm(x: Any, ord: Any) -> Any:
    if ord == "fro":
        return root(np.sum(x * x, axis=(-2, -1)))
    if ord in (1, -1, np.inf, -np.inf):
        sums = np.sum(np.abs(x), axis=-2 if abs(ord) == 1 else -1)
        return np.max(sums, axis=-1) if ord > 0 else np.min(sums, axis=-1)
    s = np.linalg.svd(x, compute_uv=False)
    if ord == "nuc":
        return np.sum(s, axis=-1)
    if ord == 2:
        return np.max(s, axis=-1)
    if ord == -2:
        return np.min(s, axis=-1)
    raise ValueError("Invalid norm order for matrices.")


@stands_for("linalg.vector_norm")
def _vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    x = lift(x)
    if axis is None:
        return vector_norm(x.reshape(-1), ord, 0, False)
    return vector_norm(x, ord, axis, keepdims)


@stands_for("linalg.matrix_norm")
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return norm(x, ord, (-2, -1), keepdims)


@stands_for("linalg.cond")
def cond(x: Any, p: Any = None) -> Any:
    s = np.linalg.svd(x, compute_uv=False)
    if p in (None, 2):
        return s[..., 0] / s[..., -1]
    return norm(x, p, (-2, -1)) * norm(np.linalg.inv(x), p, (-2, -1))
