"""Differences, integrals, filters and covariances."""

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tapeflow.numpy_api.registry import stands_for
from tapeflow.sources import refuse
from tapeflow.tracers import lift


def _slice(x: Any, axis: int, *bounds: Any) -> Any:
    key: list[Any] = [slice(None)] * x.ndim
    key[axis] = slice(*bounds)
    return x[tuple(key)]


@stands_for("diff")
def diff(
    x: Any, n: int = 1, axis: int = -1, prepend: Any = np._NoValue, append: Any = np._NoValue
) -> Any:
    x = lift(x)
    ends: list[list[Any]] = []
    for end in (prepend, append):
        if end is np._NoValue:
            ends.append([])
            continue
        shape = list(x.shape)
        shape[axis] = 1
        own = lift(end)
        ends.append([own if own.shape else np.broadcast_to(own, shape)])
    if ends[0] or ends[1]:
        x = np.concatenate([*ends[0], x, *ends[1]], axis)
    for _ in range(n):
        x = _slice(x, axis, 1, None) - _slice(x, axis, None, -1)
    return x


@stands_for("ediff1d")
def ediff1d(x: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    parts = [to_begin, diff(lift(x).reshape(-1)), to_end]
    return np.concatenate([lift(p).reshape(-1) for p in parts if p is not None])


@stands_for("gradient")
def gradient(f: Any, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Second order inside; at the edges first order, or second for ``edge_order=2``."""
    f = lift(f)
    axes = range(f.ndim) if axis is None else [axis] if isinstance(axis, int) else axis
    axes = list(normalize_axis_tuple(axes, f.ndim))
    steps = list(spacing) if len(spacing) == len(axes) else list(spacing or (1.0,)) * len(axes)
    if len(steps) != len(axes):
        raise TypeError("invalid number of arguments")
    results = [
        _slope(np.moveaxis(f, k, 0), h, edge_order) for k, h in zip(axes, steps, strict=True)
    ]
    moved = [np.moveaxis(r, 0, k) for k, r in zip(axes, results, strict=True)]
    return moved[0] if len(moved) == 1 else tuple(moved)


def _slope(f: Any, spacing: Any, edge_order: int) -> Any:
    n = f.shape[0]
    if n < edge_order + 1:
        raise ValueError(
            "Shape of array too small to calculate a numerical gradient, "
            "at least (edge_order + 1) elements are required."
        )
    h = lift(spacing)
    h = diff(h) if h.shape else np.broadcast_to(h, (n - 1,))
    h = h.reshape(-1, *(1,) * (f.ndim - 1))
    d = (f[1:] - f[:-1]) / h
    a, b = h[:-1], h[1:]
    inside = (a * d[1:] + b * d[:-1]) / (a + b)
    if edge_order == 1:
        return np.concatenate([d[:1], inside, d[-1:]])
    first = d[:1] + (d[:1] - d[1:2]) * (h[:1] / (h[:1] + h[1:2]))
    last = d[-1:] + (d[-1:] - d[-2:-1]) * (h[-1:] / (h[-1:] + h[-2:-1]))
    return np.concatenate([first, inside, last])


@stands_for("trapezoid", "trapz")
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = lift(y)
    step = dx
    if x is not None:
        x = lift(x)
        step = diff(x, axis=-1 if x.ndim == 1 else axis)
        if x.ndim == 1:
            step = step.reshape([-1 if k == axis % y.ndim else 1 for k in range(y.ndim)])
    middle = (_slice(y, axis, 1, None) + _slice(y, axis, None, -1)) * 0.5
    return np.sum(step * middle, axis=axis)


@stands_for("convolve")
def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    a, v = lift(a), lift(v)
    if a.ndim != 1 or v.ndim != 1:
        raise ValueError("object too deep for desired array")
    if not a.size or not v.size:
        raise ValueError("a cannot be empty")
    a, v = (v, a) if v.size > a.size else (a, v)
    full = windows(np.pad(a, v.size - 1), v.size, 0) @ v[::-1]
    edge = {"full": 0, "same": (v.size - 1) // 2, "valid": v.size - 1}
    if mode not in edge:
        raise ValueError(f"mode must be one of 'valid', 'same', or 'full' (got '{mode}')")
    size = {"full": full.size, "same": a.size, "valid": a.size - v.size + 1}[mode]
    return full[edge[mode] : edge[mode] + size]


@stands_for("correlate")
def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    swapped = lift(v).size > lift(a).size
    result = convolve(a, lift(v)[::-1], mode)
    if swapped and mode == "same":
        refuse("correlate with the longer array second in mode 'same'", "swap the arrays")
    return result


@stands_for("lib.stride_tricks.sliding_window_view")
def windows(x: Any, window_shape: Any, axis: Any = None, **options: Any) -> Any:
    """Every stretch of an axis, along a new last axis: a view that repeats numbers."""
    return lift(x).viewed(
        lambda stand_in: np.lib.stride_tricks.sliding_window_view(stand_in, window_shape, axis)
    )


@stands_for("cov")
def cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None,
    fweights: Any = None, aweights: Any = None, **options: Any,
) -> Any:  # fmt: skip
    if fweights is not None or aweights is not None:
        refuse("record np.cov with weights", "write the weighted means")
    x = _rows(m, rowvar)
    if y is not None:
        x = np.concatenate([x, _rows(y, rowvar)])
    gap = x - np.mean(x, axis=1, keepdims=True)
    count = x.shape[1] - ((0 if bias else 1) if ddof is None else ddof)
    result = np.matmul(gap, gap.T) / count
    return result if result.size > 1 else result.reshape(-1)[0]


def _rows(m: Any, rowvar: bool) -> Any:
    x = lift(m)
    x = x.reshape(1, -1) if x.ndim < 2 else x
    return x if rowvar or x.shape[0] == 1 else x.T


@stands_for("corrcoef")
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, **options: Any) -> Any:
    c = cov(x, y, rowvar)
    if not getattr(c, "shape", ()):
        return c / c
    d = np.sqrt(np.diagonal(c))
    return c / d[:, None] / d[None, :]


@stands_for("polyval")
def polyval(p: Any, x: Any) -> Any:
    result: Any = 0.0
    for k in range(len(p)):
        result = result * x + p[k]
    return result


@stands_for("vander")
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    x = lift(x)
    n = x.size if N is None else N
    columns = [x**k for k in range(n)]
    return np.stack(columns if increasing else columns[::-1], axis=-1)


@stands_for("apply_along_axis")
def apply_along_axis(function: Any, axis: int, x: Any, *args: Any, **options: Any) -> Any:
    moved = np.moveaxis(lift(x), axis, -1)
    flat = moved.reshape(-1, moved.shape[-1])
    rows = [lift(function(row, *args, **options)) for row in flat]
    whole = np.stack(rows).reshape(*moved.shape[:-1], *rows[0].shape)
    return np.moveaxis(whole, -1, axis) if rows[0].shape else whole


_FFT = "compute with real numbers: tapes have none that are complex"


def _no_complex(name: str) -> Any:
    def record(*args: Any, **options: Any) -> Any:
        refuse(f"record np.{name}, whose result is complex", _FFT)

    return record


for _name in (
    "fft", "ifft", "rfft", "irfft", "fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn",
    "irfftn", "hfft", "ihfft",
):  # fmt: skip
    stands_for(f"fft.{_name}")(_no_complex(f"fft.{_name}"))
