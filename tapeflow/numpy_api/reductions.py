"""Sums, extremes, products and scans along axes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tapeflow.numpy_api.registry import stands_for
from tapeflow.sources import placed
from tapeflow.tracers import array_op, is_traced, lift
from tapeflow.tracers.protocol import METHODS

Axis = Any


def _axes(x: Any, axis: Axis) -> tuple[int, ...]:
    """The axes, from 0 and in order; NumPy's own error for one that is not there."""
    if axis is None:
        return tuple(range(x.ndim))
    from numpy.lib.array_utils import normalize_axis_tuple

    return tuple(sorted(normalize_axis_tuple(axis, x.ndim)))


Fold = tuple[int, int, int]


def folded(x: Any, axes: tuple[int, ...]) -> tuple[Any, Fold]:
    """An array whose axes lie together: how many groups are outside, their length, and inside."""
    shape = x.shape
    if axes and axes != tuple(range(axes[0], axes[-1] + 1)):
        kept = [n for k, n in enumerate(shape) if k not in axes]
        x = np.moveaxis(x, axes, tuple(range(x.ndim - len(axes), x.ndim)))
        return x, (_product(kept), _product([shape[k] for k in axes]), 1)
    first, last = (axes[0], axes[-1] + 1) if axes else (x.ndim, x.ndim)
    return x, (_product(shape[:first]), _product(shape[first:last]), _product(shape[last:]))


def _product(lengths: Any) -> int:
    return int(np.prod(lengths, dtype=np.int64))


def unfolded(flat: Any, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> Any:
    """What was reduced along axes, in the shape without them, or with ones in their place."""
    kept = tuple(1 if k in axes else n for k, n in enumerate(shape) if keepdims or k not in axes)
    return flat.reshape(kept) if kept else flat[0]


def along(name: str, x: Any, axes: tuple[int, ...], keepdims: bool = False) -> Any:
    """An op that reduces along axes; the result without them, or with length one."""
    shape = x.shape
    x, fold = folded(x, axes)
    if fold[1] == 1 and name in ("sum", "amax", "amin"):
        flat = x.reshape(-1).copy()
    else:
        flat = array_op(name, fold, (x,))
    return unfolded(flat, shape, axes, keepdims)


def _finish(result: Any, out: Any) -> Any:
    if out is None:
        return result
    out[...] = result
    return out


@stands_for("sum")
def sum_(
    x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: bool = False,
    initial: Any = 0.0, where: Any = True,
) -> Any:  # fmt: skip
    x = lift(x)
    if where is not True:
        x = lift(np.where(where, x, 0.0))
    total = along("sum", x, _axes(x, axis), keepdims)
    return _finish(
        total if isinstance(initial, (int, float)) and initial == 0 else total + initial, out
    )


def _extreme(name: str, pair: Any) -> Callable[..., Any]:
    def record(
        x: Any, axis: Axis = None, out: Any = None, keepdims: bool = False,
        initial: Any = None, where: Any = True,
    ) -> Any:  # fmt: skip
        x = lift(x)
        if where is not True:
            if initial is None:
                raise ValueError(f"reduction operation '{pair.__name__}' with where needs initial")
            x = lift(np.where(where, x, initial))
        axes = _axes(x, axis)
        if initial is None and any(x.shape[k] == 0 for k in axes):
            raise ValueError(
                f"zero-size array to reduction operation {pair.__name__} which has no identity"
            )
        result = along(name, x, axes, keepdims)
        return _finish(result if initial is None else pair(result, initial), out)

    return record


max_ = stands_for("max", "amax")(_extreme("amax", np.maximum))
min_ = stands_for("min", "amin")(_extreme("amin", np.minimum))


@stands_for("prod")
def prod(
    x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: bool = False,
    initial: Any = 1.0, where: Any = True,
) -> Any:  # fmt: skip
    """By halves, so that the gradient is right where factors are zero."""
    x = lift(x)
    if where is not True:
        x = lift(np.where(where, x, 1.0))
    axes = _axes(x, axis)
    shape = tuple(1 if k in axes else n for k, n in enumerate(x.shape))
    kept = tuple(n for k, n in enumerate(x.shape) if k not in axes)
    moved = np.moveaxis(x, axes, range(len(axes))) if axes else x
    rest = moved.reshape(int(np.prod([x.shape[k] for k in axes], dtype=np.int64)), *kept)
    if not len(rest):
        rest = lift(np.ones((1, *kept)))
    while len(rest) > 1:
        half = len(rest) // 2
        both = rest[:half] * rest[half : 2 * half]
        rest = np.concatenate([both, rest[2 * half :]]) if len(rest) % 2 else both
    result = rest.reshape(shape) if keepdims else rest[0]
    return _finish(
        result if isinstance(initial, (int, float)) and initial == 1 else result * initial, out
    )


@stands_for("mean")
def mean(
    x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: bool = False,
    *, where: Any = True,
) -> Any:  # fmt: skip
    x = lift(x)
    return _finish(
        np.sum(x, axis=axis, keepdims=keepdims, where=where) / _count(x, axis, where), out
    )


def _count(x: Any, axis: Axis, where: Any) -> Any:
    if where is not True:
        mask = where if is_traced(where) else np.asarray(where, float)
        return np.sum(np.broadcast_to(mask, x.shape), axis=axis, keepdims=False)
    return float(np.prod([x.shape[k] for k in _axes(x, axis)]))


@stands_for("average")
def average(
    x: Any,
    axis: Axis = None,
    weights: Any = None,
    returned: bool = False,
    *,
    keepdims: bool = False,
) -> Any:
    if weights is None:
        result = np.mean(x, axis=axis, keepdims=keepdims)
        total = result * 0.0 + lift(x).size / max(lift(result).size, 1)
        return (result, total) if returned else result
    x, weights = lift(x), lift(weights)
    if weights.shape != x.shape:
        weights = weights.reshape([-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])
        weights = np.broadcast_to(weights, x.shape)
    total = np.sum(weights, axis=axis, keepdims=keepdims)
    result = np.sum(x * weights, axis=axis, keepdims=keepdims) / total
    return (result, total) if returned else result


@stands_for("var")
def var(
    x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, ddof: float = 0,
    keepdims: bool = False, *, where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    x = lift(x)
    ddof = ddof if correction is None else correction
    count = _count(x, axis, True) if where is True else _spread(x, axis, where)
    center = mean
    if center is None:
        center = np.sum(x, axis=axis, keepdims=True, where=where) / count
    gap = x - center
    total = np.sum(gap * gap, axis=axis, keepdims=keepdims, where=where)
    if where is not True:
        count = _count(x, axis, where)
        if keepdims:
            count = lift(count).reshape(lift(total).shape)
    return _finish(total / (count - ddof), out)


def _spread(x: Any, axis: Axis, where: Any) -> Any:
    mask = where if is_traced(where) else np.asarray(where, float)
    return np.sum(np.broadcast_to(mask, x.shape), axis=axis, keepdims=True)


@stands_for("std")
def std(x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, **options: Any) -> Any:
    """The root of the variance; where that is zero, so is the gradient."""
    return _finish(root(np.var(x, axis=axis, **options)), out)


def root(square: Any) -> Any:
    """The square root of a sum of squares: at zero its gradient is zero."""
    zero = square == 0.0
    return np.where(zero, 0.0, np.sqrt(np.where(zero, 1.0, square)))


@stands_for("ptp")
def ptp(x: Any, axis: Axis = None, out: Any = None, keepdims: bool = False) -> Any:
    high = np.max(x, axis=axis, keepdims=keepdims)
    return _finish(high - np.min(x, axis=axis, keepdims=keepdims), out)


@stands_for("all")
def all_(x: Any, axis: Axis = None, out: Any = None, keepdims: bool = False, **unused: Any) -> Any:
    return np.min(_truths(x), axis=axis, keepdims=keepdims, initial=1.0)


@stands_for("any")
def any_(x: Any, axis: Axis = None, out: Any = None, keepdims: bool = False, **unused: Any) -> Any:
    return np.max(_truths(x), axis=axis, keepdims=keepdims, initial=0.0)


def _truths(x: Any) -> Any:
    return lift(x) != 0.0


@stands_for("count_nonzero")
def count_nonzero(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    return np.sum(_truths(x), axis=axis, keepdims=keepdims)


# Leaving out NaNs


@stands_for("nansum")
def nansum(x: Any, axis: Axis = None, *args: Any, **options: Any) -> Any:
    return np.sum(np.where(np.isnan(x), 0.0, x), axis, *args, **options)


@stands_for("nanprod")
def nanprod(x: Any, axis: Axis = None, *args: Any, **options: Any) -> Any:
    return np.prod(np.where(np.isnan(x), 1.0, x), axis, *args, **options)


@stands_for("nanmean")
def nanmean(
    x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: bool = False
) -> Any:
    known = np.logical_not(np.isnan(x))
    count = np.sum(known, axis=axis, keepdims=keepdims)
    return _finish(np.nansum(x, axis=axis, keepdims=keepdims) / count, out)


@stands_for("nanvar")
def nanvar(
    x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, ddof: float = 0,
    keepdims: bool = False,
) -> Any:  # fmt: skip
    known = np.logical_not(np.isnan(x))
    gap = np.where(known, x - np.nanmean(x, axis=axis, keepdims=True), 0.0)
    count = np.sum(known, axis=axis, keepdims=keepdims)
    return _finish(np.sum(gap * gap, axis=axis, keepdims=keepdims) / (count - ddof), out)


@stands_for("nanstd")
def nanstd(x: Any, axis: Axis = None, dtype: Any = None, out: Any = None, **options: Any) -> Any:
    return _finish(root(np.nanvar(x, axis=axis, **options)), out)


@stands_for("nanmax")
def nanmax(x: Any, axis: Axis = None, out: Any = None, keepdims: bool = False) -> Any:
    best = np.max(np.where(np.isnan(x), -np.inf, x), axis=axis, keepdims=keepdims)
    return _finish(_if_known(x, best, axis, keepdims), out)


@stands_for("nanmin")
def nanmin(x: Any, axis: Axis = None, out: Any = None, keepdims: bool = False) -> Any:
    best = np.min(np.where(np.isnan(x), np.inf, x), axis=axis, keepdims=keepdims)
    return _finish(_if_known(x, best, axis, keepdims), out)


def _if_known(x: Any, result: Any, axis: Axis, keepdims: bool) -> Any:
    return np.where(np.all(np.isnan(x), axis=axis, keepdims=keepdims), np.nan, result)


@stands_for("nancumsum")
def nancumsum(x: Any, axis: Axis = None, dtype: Any = None, out: Any = None) -> Any:
    return np.cumsum(np.where(np.isnan(x), 0.0, x), axis)


@stands_for("nancumprod")
def nancumprod(x: Any, axis: Axis = None, dtype: Any = None, out: Any = None) -> Any:
    return np.cumprod(np.where(np.isnan(x), 1.0, x), axis)


# Scans


@stands_for("cumsum", "cumulative_sum")
def cumsum(
    x: Any, axis: int | None = None, dtype: Any = None, out: Any = None,
    *, include_initial: bool = False,
) -> Any:  # fmt: skip
    x, axis = _line(x, axis)
    outer = int(np.prod(x.shape[:axis], dtype=np.int64))
    inner = int(np.prod(x.shape[axis + 1 :], dtype=np.int64))
    result: Any = array_op("cumsum", (outer, x.shape[axis], inner, 0), (x,)).reshape(x.shape)
    if include_initial:
        first = list(x.shape)
        first[axis] = 1
        result = np.concatenate([np.zeros(first), result], axis)
    return _finish(result, out)


def _line(x: Any, axis: int | None) -> tuple[Any, int]:
    x = lift(x)
    if axis is None:
        return x.reshape(-1), 0
    return x, _axes(x, axis)[0]


def _scan(pair: Any) -> Callable[..., Any]:
    """Running results of a function of two, by doubling steps."""

    def record(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
        x, axis = _line(x, axis)
        result, step = np.moveaxis(x, axis, 0), 1
        while step < len(result):
            later = pair(result[step:], result[:-step])
            result = np.concatenate([result[:step], later])
            step *= 2
        return _finish(np.moveaxis(result, 0, axis), out)

    return record


cumprod = stands_for("cumprod", "cumulative_prod")(_scan(np.multiply))

for _ufunc, _function in (
    (np.add, np.sum),
    (np.multiply, np.prod),
    (np.maximum, np.max),
    (np.minimum, np.min),
    (np.fmax, np.nanmax),
    (np.fmin, np.nanmin),
    (np.logical_and, np.all),
    (np.logical_or, np.any),
):

    def _reduce(x: Any, axis: Axis = 0, _function: Any = _function, **options: Any) -> Any:
        return _function(x, axis=axis, **options)

    METHODS[_ufunc.__name__, "reduce"] = _reduce


@placed
def log_of_sum(x: Any, axis: Axis, keepdims: bool = False) -> Any:
    """log of the sum of exp(x) along axes, without overflow."""
    x = lift(x)
    axes = _axes(x, axis)
    moved, (outer, n, inner) = folded(x, axes)
    # The op passes no gradient to its second operand, so none flows through what makes it.
    fixed = moved.reshape(outer, n, inner)
    top = np.max(fixed, axis=1, keepdims=True, initial=-np.inf)
    # An infinite maximum would make inf - inf.
    top = np.where(np.abs(top) == np.inf, 0.0, top)
    value = np.log(np.sum(np.exp(fixed - top), axis=1, keepdims=True)) + top
    flat = array_op("log_of_sum", (outer, n, inner), (moved, lift(value)))
    return unfolded(flat, x.shape, axes, keepdims)


def _logsumexp(x: Any, axis: Axis = 0, **options: Any) -> Any:
    return log_of_sum(x, axis, **options)


METHODS["logaddexp", "reduce"] = _logsumexp

for _pair in (np.maximum, np.minimum, np.logaddexp, np.multiply, np.fmax, np.fmin):
    _own = _scan(_pair)

    def _accumulate(x: Any, axis: int = 0, _own: Any = _own, **unused: Any) -> Any:
        return _own(x, axis)

    METHODS[_pair.__name__, "accumulate"] = _accumulate

METHODS["add", "accumulate"] = lambda x, axis=0, **unused: cumsum(x, axis)
