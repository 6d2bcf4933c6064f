"""Sorting and searching, and what is made of it: the places are computed, and carry no gradient."""

from typing import Any

import numpy as np

from tapeflow.numpy_api.reductions import _axes, along
from tapeflow.numpy_api.registry import stands_for
from tapeflow.numpy_api.structural import take
from tapeflow.sources import refuse
from tapeflow.tracers import array_op, is_traced, lift


@stands_for("argsort")
def argsort(x: Any, axis: int | None = -1, **unused: Any) -> Any:
    x = lift(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    (k,) = _axes(x, axis)
    outer = int(np.prod(x.shape[:k], dtype=np.int64))
    inner = int(np.prod(x.shape[k + 1 :], dtype=np.int64))
    return array_op("argsort", (outer, x.shape[k], inner), (x,)).reshape(x.shape)


@stands_for("sort")
def sort(x: Any, axis: Any = -1, **unused: Any) -> Any:
    """Sorted along an axis; equal numbers keep their order."""
    x = lift(x)
    if axis is None:
        x, axis = x.reshape(-1), -1
    return np.take_along_axis(x, np.argsort(x, axis=axis), axis=axis)


@stands_for("partition")
def partition(x: Any, kth: Any, axis: Any = -1, **unused: Any) -> Any:
    """Sorted: the order within the parts is left open."""
    return sort(x, axis)


@stands_for("argpartition")
def argpartition(x: Any, kth: Any, axis: Any = -1, **unused: Any) -> Any:
    return argsort(x, axis)


def _place(name: str) -> Any:
    def record(x: Any, axis: int | None = None, out: Any = None, *, keepdims: bool = False) -> Any:
        x = lift(x)
        axes = _axes(x, axis)
        if any(x.shape[k] == 0 for k in axes):
            raise ValueError(f"attempt to get {name} of an empty sequence")
        return along(name, x, axes, keepdims)

    return record


stands_for("argmax")(_place("argmax"))
stands_for("argmin")(_place("argmin"))


@stands_for("searchsorted")
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    a, v = lift(a), lift(v)
    if sorter is not None:
        a = lift(np.take(a, sorter))
    p = (a.size, v.size, int(side == "right"))
    found = array_op("searchsorted", p, (a, v))
    return found.reshape(v.shape) if v.shape else found[0]


@stands_for("digitize")
def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    return searchsorted(bins, x, "left" if right else "right")


def _ranks(x: Any, fractions: Any, axis: Any, method: str, keepdims: bool) -> Any:
    """The quantiles at fractions, by straight lines between the sorted numbers."""
    if method not in ("linear", "lower", "higher", "nearest", "midpoint"):
        refuse(f"take quantiles by method {method!r}", "use linear, lower, higher or midpoint")
    if is_traced(fractions):
        refuse("take quantiles at traced fractions", "use np.interp on the sorted array")
    x = lift(x)
    axes = _axes(x, axis)
    rest = tuple(n for k, n in enumerate(x.shape) if k not in axes)
    n = int(np.prod([x.shape[k] for k in axes], dtype=np.int64))
    moved = np.moveaxis(x, axes, range(len(axes))).reshape(n, *rest)
    ordered = np.sort(moved, axis=0)
    if n == 0:
        raise IndexError("index -1 is out of bounds for axis 0 with size 0")
    fractions = np.asarray(fractions, float)
    if ((fractions < 0) | (fractions > 1)).any():
        raise ValueError("Quantiles must be in the range [0, 1]")
    results = []
    for fraction in fractions.ravel().tolist():
        at = fraction * (n - 1)
        low = int(np.floor(at))
        weight = {"linear": at - low, "midpoint": 0.5 * (at != low)}.get(method, 0.0)
        if method == "higher":
            low = int(np.ceil(at))
        if method == "nearest":
            low = int(np.round(at))
        value = ordered[low]
        if weight:
            value = value + (ordered[low + 1] - value) * weight
        # A NaN is sorted last, and makes every quantile NaN.
        results.append(np.where(np.isnan(ordered[n - 1]), np.nan, value))
    whole = np.stack(results) if fractions.ndim else results[0]
    if keepdims:
        kept = tuple(1 if k in axes else m for k, m in enumerate(x.shape))
        whole = lift(whole).reshape((*fractions.shape, *kept))
        return whole
    return lift(whole).reshape((*fractions.shape, *rest)) if whole.shape else whole


@stands_for("quantile")
def quantile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False, **unused: Any,
) -> Any:  # fmt: skip
    return _ranks(a, q, axis, method, keepdims)


@stands_for("percentile")
def percentile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: bool = False, **unused: Any,
) -> Any:  # fmt: skip
    return _ranks(a, np.asarray(q, float) / 100.0, axis, method, keepdims)


@stands_for("median")
def median(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Any:
    return _ranks(a, 0.5, axis, "linear", keepdims)


@stands_for("interp")
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    if period is not None:
        refuse("interpolate with a period", "use np.mod(x, period) and repeat the first point")
    n = lift(xp).size
    if lift(fp).shape != (n,) or not n:
        raise ValueError("fp and xp must be one-dimensional, of one length, and not empty")
    place = np.clip(searchsorted(xp, x, "right") - 1.0, 0.0, n - 2.0)
    x0, x1 = take(xp, place), take(xp, place + 1.0)
    y0, y1 = take(fp, place), take(fp, place + 1.0)
    within = y0 + (y1 - y0) * ((x - x0) / (x1 - x0))
    below, above = (fp[0] if left is None else left), (fp[n - 1] if right is None else right)
    inner = np.where(np.less(x, xp[0]), below, within)
    return np.where(np.greater(x, xp[n - 1]), above, inner)
