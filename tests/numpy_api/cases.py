"""Functions written in plain NumPy, with arguments: what the tests of the protocols run."""

from collections.abc import Callable
from typing import Any

import numpy as np

rng = np.random.default_rng(20)


def smooth(*shape: int) -> Any:
    """Numbers that are no ties of each other, from 0.2 to 1.8."""
    return rng.permutation(np.linspace(0.2, 1.8, int(np.prod(shape)))).reshape(shape)


def signed(*shape: int) -> Any:
    return smooth(*shape) - 1.013


def spd(*stack: int, n: int) -> Any:
    a = rng.normal(size=(*stack, n, n))
    return a @ np.swapaxes(a, -1, -2) + n * np.eye(n)


Case = tuple[Callable[..., Any], tuple[Any, ...]]
M, V, T = signed(3, 4), signed(5), signed(2, 3, 4)
A = signed(3, 3) + 2 * np.eye(3)


def _assign(x: Any) -> Any:
    y = np.zeros_like(x)
    y[0] = x[1] * 2.0
    y[1, 1:3] = x[0, :2] ** 2
    y[:, 0] += x[:, 1]
    y[::2, -1] = 3.0
    return y


def _views(x: Any) -> Any:
    y = x.copy()
    row, column = y[0], y.T[1]
    row[1:3] = column[:2] * 3.0
    column *= 2.0
    y.reshape(-1)[5] = y[2, 2] ** 2
    return y * row[0]


def _masked_plain(x: Any) -> Any:
    y = x * 1.0
    y[np.array([True, False, True])] *= 2.0
    y[[0, 2], [1, 3]] = x[1, :2]
    y[x > 0.3] = 0.3
    return y


def _added_at(x: Any) -> Any:
    y = x.copy()
    np.add.at(y, [0, 0, 2], x[:3] ** 2)
    return y


def _qr(a: Any) -> Any:
    q, r = np.linalg.qr(a)
    return q @ q.T * r[0, 0] + r[1, 1]


def _svd_vectors(a: Any) -> Any:
    u, _, vt = np.linalg.svd(a, full_matrices=False)
    return np.abs(u) @ np.abs(vt)


CASES: dict[str, Case] = {
    # sums, extremes and products
    **{
        f"{name} {axis} {keep}": (
            lambda x, name=name, axis=axis, keep=keep: getattr(np, name)(
                x, axis=axis, keepdims=keep
            ),
            (T,),
        )
        for name in ("sum", "mean", "prod", "var", "std", "max", "min", "ptp", "median")
        for axis, keep in ((None, False), (0, True), (1, False), ((0, 2), False), (-1, True))
    },
    "sum where": (lambda x: np.sum(x, where=np.arange(4) > 1), (M,)),
    "sum initial": (lambda x: np.sum(x, initial=2.0, axis=1), (M,)),
    "mean where": (lambda x: np.mean(x, axis=1, where=np.arange(4) > 1), (M,)),
    "var ddof": (lambda x: np.var(x, ddof=1, axis=0), (M,)),
    "methods": (lambda x: x.sum(0) * x.mean(0) + x.max() - x.T.min(1) + x.std(), (M,)),
    "percentile": (lambda x: np.percentile(x, [10, 50, 95]), (V,)),
    "quantile axis": (lambda x: np.quantile(x, 0.3, axis=1), (M,)),
    "quantile lower": (lambda x: np.quantile(x, [0.3, 0.8], method="lower"), (V,)),
    "nansum": (lambda x: np.nansum(np.where(x > 0.4, np.nan, x), axis=0), (M,)),
    "nanmean": (lambda x: np.nanmean(np.where(x > 0.4, np.nan, x), axis=0), (M,)),
    "nanvar": (lambda x: np.nanvar(np.where(x > 0.4, np.nan, x), axis=0), (M,)),
    "nanstd": (lambda x: np.nanstd(np.where(x > 0.4, np.nan, x)), (M,)),
    "nanmax": (lambda x: np.nanmax(np.where(x > 0.4, np.nan, x), axis=0), (M,)),
    "nanmin": (lambda x: np.nanmin(np.where(x > 0.4, np.nan, x)), (M,)),
    "nanprod": (lambda x: np.nanprod(np.where(x > 0.4, np.nan, x)), (M,)),
    "cumsum": (lambda x: np.cumsum(x, axis=1), (M,)),
    "cumsum flat": (lambda x: np.cumsum(x), (M,)),
    "cumprod": (lambda x: np.cumprod(x, axis=0), (M,)),
    "diff": (lambda x: np.diff(x, n=2), (M,)),
    "diff prepend": (lambda x: np.diff(x, axis=0, prepend=0.0), (M,)),
    "ediff1d": (lambda x: np.ediff1d(x, to_end=1.0), (M,)),
    "gradient": (lambda x: np.gradient(x, 0.5), (V,)),
    "gradient 2d": (lambda x: np.stack(np.gradient(x)), (M,)),
    "gradient edge": (lambda x: np.gradient(x, np.array([0.0, 1, 3, 4, 6]), edge_order=2), (V,)),
    "trapezoid": (lambda x: np.trapezoid(x, dx=0.3, axis=0), (M,)),
    "trapezoid x": (lambda x, t: np.trapezoid(x, t), (V, np.sort(smooth(5)))),
    "convolve": (lambda x, v: np.convolve(x, v), (V, signed(3))),
    "convolve same": (lambda x, v: np.convolve(x, v, "same"), (V, signed(3))),
    "convolve valid": (lambda x, v: np.convolve(v, x, "valid"), (V, signed(3))),
    "correlate": (lambda x, v: np.correlate(x, v, "full"), (V, signed(3))),
    "interp": (lambda x, y: np.interp(x, np.arange(4.0), y), (smooth(6), signed(4))),
    "interp ends": (lambda x: np.interp(x, [0.5, 1.0, 1.5], [3.0, 1.0, 2.0]), (smooth(6),)),
    "sort": (lambda x: np.sort(x, axis=0), (M,)),
    "sort then weigh": (lambda x: np.sort(x) * np.arange(5.0), (V,)),
    "argsort take": (lambda x: np.take_along_axis(x, np.argsort(x, axis=1), axis=1), (M,)),
    "argmax": (lambda x: x[np.argmax(x)] * 2.0, (V,)),
    "take traced": (lambda x: np.take(x, np.argmin(x, axis=1), axis=1), (M,)),
    "average": (lambda x, w: np.average(x, axis=0, weights=w), (M, smooth(3))),
    "cov": (lambda x: np.cov(x), (M,)),
    "corrcoef": (lambda x: np.corrcoef(x), (M,)),
    "linspace": (lambda a, b: np.linspace(a, b, 5), (0.3, 1.2)),
    "full_like": (lambda x: np.full_like(x, x[0]) * np.ones_like(x), (V,)),
    # choices
    "where": (lambda x, y: np.where(x > 0.1, x * y, y), (M, signed(4))),
    "clip": (lambda x: np.clip(x, -0.3, 0.5), (M,)),
    "clip method": (lambda x: x.clip(min=-0.3), (M,)),
    "select": (lambda x: np.select([x > 0.5, x > 0], [x**2, 3 * x], x), (M,)),
    "piecewise": (lambda x: np.piecewise(x, [x < 0, x >= 0], [lambda t: -t, lambda t: t**2]), (V,)),
    "maximum": (lambda x, y: np.maximum(x, y) - np.minimum(x, 0.1), (M, signed(4))),
    "fmax": (lambda x, y: np.fmax(x, y) + np.fmin(x, y) * x, (M, signed(4))),
    "heaviside": (lambda x: np.heaviside(x, 0.5) * x, (M,)),
    "nan_to_num": (lambda x: np.nan_to_num(x * 2.0), (M,)),
    "sinc": (lambda x: np.sinc(x), (signed(7) * 2,)),
    "logaddexp": (lambda x, y: np.logaddexp(x, y) + np.logaddexp2(x, y), (M, signed(4))),
    "mod": (lambda x: np.mod(x, 0.3) + np.floor_divide(x, 0.3) * x + x % 0.7, (smooth(5),)),
    "copysign": (lambda x, y: np.copysign(x, y), (V, signed(5))),
    "degrees": (lambda x: np.deg2rad(x) + np.rad2deg(x) + np.exp2(x), (V,)),
    "logical": (lambda x: np.where(np.logical_and(x > 0, ~(x > 0.5)) | (x < -0.4), x, 2 * x), (M,)),
    "isfinite": (lambda x: np.where(np.isfinite(x) & ~np.isnan(x), x, 0.0), (M,)),
    "outer ufunc": (lambda x, y: np.multiply.outer(x, y) + np.add.outer(x, y), (V, signed(3))),
    "reduce": (lambda x: np.multiply.reduce(x) + np.add.reduce(x, axis=1).sum(), (M,)),
    "accumulate": (lambda x: np.maximum.accumulate(x) + np.add.accumulate(x), (V,)),
    "logaddexp reduce": (lambda x: np.logaddexp.reduce(x, axis=1), (M,)),
    "add at": (_added_at, (V,)),
    # moving numbers
    "reshape": (lambda x: x.reshape(4, 3).T.ravel() * np.arange(12), (M,)),
    "reshape F": (lambda x: np.reshape(x, (2, 6), order="F") ** 2, (M,)),
    "transpose": (lambda x: np.transpose(x, (2, 0, 1)) ** 2, (T,)),
    "moveaxis": (lambda x: np.moveaxis(x, 0, -1) * np.arange(2), (T,)),
    "swapaxes": (lambda x: x.swapaxes(0, 2) * np.arange(2), (T,)),
    "squeeze": (lambda x: np.squeeze(x[:, :1]) * np.expand_dims(x, 1)[:, 0, 0], (M,)),
    "broadcast_to": (lambda x: np.broadcast_to(x, (3, 5)) * np.arange(15).reshape(3, 5), (V,)),
    "concatenate": (lambda x, y: np.concatenate([x, y, x * 2], axis=1), (M, signed(3, 2))),
    "concatenate flat": (lambda x, y: np.concatenate([x, y], axis=None), (M, V)),
    "stack": (lambda x, y: np.stack([x, y * 2, np.ones(5)], axis=1), (V, signed(5))),
    "stacks": (lambda x, y: np.vstack([x, y]) @ np.hstack([x, y]).reshape(5, 2), (V, signed(5))),
    "column_stack": (lambda x, y: np.column_stack([x, y]) * np.dstack([x, y])[0], (V, V + 1)),
    "block": (lambda x: np.block([[x, x * 2], [x.T[:3, :3] ** 2, np.ones((3, 5))]]), (M,)),
    "append": (lambda x: np.append(x, x[:2]), (V,)),
    "insert": (lambda x: np.insert(x, 2, x[0] ** 2), (V,)),
    "split": (lambda x: np.split(x, [1, 3], axis=1)[1] * np.array_split(x, 2)[0][0, 0], (M,)),
    "tile": (lambda x: np.tile(x, (2, 3)) * np.arange(30).reshape(2, 15), (V,)),
    "repeat": (lambda x: np.repeat(x, [1, 0, 2, 1, 3]) * np.arange(7), (V,)),
    "flip": (lambda x: np.flip(x, 0) * np.fliplr(x) + np.flipud(x), (M,)),
    "roll": (lambda x: np.roll(x, 2, axis=1) * x, (M,)),
    "rot90": (lambda x: np.rot90(x) @ x, (M,)),
    "pad": (lambda x: np.pad(x, ((1, 2), (0, 1))) ** 2, (M,)),
    "pad value": (lambda x: np.pad(x, 2, constant_values=3.0) ** 2, (V,)),
    "pad reflect": (lambda x: np.pad(x, 2, mode="reflect") * np.arange(9), (V,)),
    "tri": (lambda x: np.triu(x, 1) @ np.tril(x).T, (M,)),
    "diag": (lambda x: np.diag(x) @ np.diag(np.outer(x, x)), (V,)),
    "diagonal": (lambda x: x.diagonal(1) * np.trace(x), (M,)),
    "take": (lambda x: np.take(x, [[0, 2], [1, -1]], axis=1) ** 2, (M,)),
    "take_along_axis": (lambda x: np.take_along_axis(x, np.array([[1], [0], [3]]), 1) ** 2, (M,)),
    "choose": (lambda x: np.choose(np.array([0, 1, 0, 1, 1]), [x, x**2]), (V,)),
    "meshgrid": (lambda x, y: np.multiply(*np.meshgrid(x, y, indexing="ij")), (V, signed(3))),
    # indexing
    "basic": (lambda x: x[1] * x[:, 2:][::-1][1, 0] + x[..., -1][0] * x[None, 0, :][0], (M,)),
    "negative step": (lambda x: x[::-2, ::-1] ** 2, (M,)),
    "integer array": (lambda x: x[[0, 2, 0]] * x[[1], :] + x[np.arange(3), 1][:, None], (M,)),
    "mask": (lambda x: x[np.arange(12).reshape(3, 4) % 5 < 2] ** 2, (M,)),
    "newaxis": (lambda x: x[:, None] * x[None, :, None][0].T, (V,)),
    "iterate": (lambda x: sum(row[0] * row for row in x) * len(x), (M,)),
    "assign": (_assign, (M,)),
    "assign through views": (_views, (M,)),
    "assign by masks": (_masked_plain, (M,)),
    "in place": (lambda x: (lambda y: y.__imul__(x).__iadd__(1.0))(x.copy()), (M,)),
    "empty": (lambda x: x[:0].sum(0) + np.concatenate([x, x[:, :0]], 1).sum(0), (M,)),
    "three patterns": (lambda x, y: x[:, None, :, None] * y[None, :, None, :], (M, signed(2, 3))),
    # products
    "dot": (lambda x, y: x.dot(y) @ y + np.dot(x, y[:, 0]), (A, signed(3, 3))),
    "matmul": (lambda x, y: x @ y, (M, signed(4, 2))),
    "matmul vector": (lambda x, y: x @ y + y @ x.T, (M, signed(4))),
    "matmul stack": (lambda x, y: x @ y, (T, signed(2, 4, 2))),
    "matmul broadcast": (lambda x, y: x @ y + (y.T @ x.swapaxes(1, 2)).mT, (T, signed(4, 2))),
    "matmul broadcast 2": (lambda x, y: x @ y, (signed(2, 3), T[:, :, :2])),
    "vdot": (lambda x, y: np.vdot(x, y) * np.inner(x, y), (V, signed(5))),
    "inner": (lambda x, y: np.inner(x, y), (M, signed(2, 4))),
    "outer": (lambda x, y: np.outer(x, y), (V, signed(3))),
    "tensordot": (lambda x, y: np.tensordot(x, y, ([1, 2], [1, 0])), (T, signed(4, 3, 2))),
    "einsum": (lambda x, y: np.einsum("ijk,kj,i->k", x, y, np.arange(2.0)), (T, signed(4, 3))),
    "einsum trace": (lambda x: np.einsum("ii", x) * np.einsum("ij->j", x), (A,)),
    "einsum stack": (lambda x, y: np.einsum("...ij,...jk->...ik", x, y), (T, signed(4, 2))),
    "kron": (lambda x, y: np.kron(x, y), (signed(2, 2), signed(1, 3))),
    "cross": (lambda x, y: np.cross(x, y), (signed(2, 3), signed(3))),
    # linear algebra
    **{
        f"norm {order}": (lambda x, order=order: np.linalg.norm(x, order), (V,))
        for order in (None, 0, 1, 2, 3, 2.5, np.inf, -np.inf)
    },
    **{
        f"matrix norm {order}": (lambda x, order=order: np.linalg.norm(x, order), (M,))
        for order in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)
    },
    "norm axis": (lambda x: np.linalg.norm(x, axis=1, keepdims=True), (M,)),
    "solve": (lambda a, b: np.linalg.solve(a, b), (A, signed(3))),
    "solve columns": (lambda a, b: np.linalg.solve(a, b), (A, signed(3, 2))),
    "solve stack": (lambda a, b: np.linalg.solve(a, b), (np.stack([A, A.T]), signed(2, 3, 1))),
    "inv": (lambda a: np.linalg.inv(a), (A,)),
    "inv stack": (lambda a: np.linalg.inv(a), (np.stack([A, A.T]),)),
    "pinv tall": (lambda a: np.linalg.pinv(a), (signed(4, 2),)),
    "pinv wide": (lambda a: np.linalg.pinv(a), (signed(2, 4),)),
    "det": (lambda a: np.linalg.det(a), (A,)),
    "slogdet": (lambda a: np.linalg.slogdet(a)[1], (np.stack([A, -A]),)),
    "cholesky": (lambda a: np.linalg.cholesky(a @ a.T + np.eye(3)), (A,)),
    "qr": (_qr, (signed(4, 2),)),
    "qr wide": (lambda a: np.linalg.qr(a)[1] * np.linalg.qr(a)[0][0, 0], (signed(2, 4),)),
    "svd": (lambda a: np.linalg.svd(a, full_matrices=False).S, (M,)),
    "svd vectors": (_svd_vectors, (M,)),
    "svd tall": (lambda a: np.abs(np.linalg.svd(a, full_matrices=False)[2]), (signed(4, 2),)),
    "eigh": (lambda a: np.abs(np.linalg.eigh(a + a.T)[1]), (A,)),
    "eigvalsh": (lambda a: np.linalg.eigvalsh(a + a.T), (A,)),
    "eig": (lambda a: np.abs(np.linalg.eig(a + np.diag([1.0, 5.0, 9.0]))[1]), (A,)),
    "lstsq": (lambda a, b: np.linalg.lstsq(a, b)[0], (signed(4, 2), signed(4))),
    "matrix_power": (lambda a: np.linalg.matrix_power(a, 5), (A,)),
    "multi_dot": (lambda a, b: np.linalg.multi_dot([a, b, b.T, b[:, 0]]), (M, signed(4, 3))),
}  # fmt: skip
