"""Ufuncs that are made of others, and choosing between values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.numpy_api.registry import stands_for
from tapeflow.ops import BY_NAME
from tapeflow.tracers import TracedArray, elementwise, is_traced
from tapeflow.tracers.protocol import METHODS, UFUNCS

_LN2 = math.log(2.0)


def _op(name: str, *operands: Any) -> Any:
    return elementwise(BY_NAME[name], operands)


@stands_for("where")
def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None:
        from tapeflow.sources import refuse

        refuse(
            "find where a traced condition holds: how many places there are depends on it",
            "use np.where(condition, x, y)",
        )
    return _op("where", condition, x, y)


def _truth(x: Any) -> Any:
    """1 where a value is not zero."""
    return x if getattr(x, "kind", "") == "b" else _op("not_equal", x, 0.0)


def _logaddexp(x: Any, y: Any) -> Any:
    gap = _op("abs", _op("sub", x, y))
    # Equal infinities have no gap, and a softplus of log(2).
    gap = _op("where", _op("equal", x, y), 0.0, gap)
    return np.maximum(x, y) + _op("softplus", -gap) if is_traced(gap) else np.logaddexp(x, y)


def _fmax(x: Any, y: Any) -> Any:
    picked = _op("where", _op("not_equal", x, x), y, x)
    return _op("max", picked, _op("where", _op("not_equal", y, y), x, y))


def _fmin(x: Any, y: Any) -> Any:
    picked = _op("where", _op("not_equal", x, x), y, x)
    return _op("min", picked, _op("where", _op("not_equal", y, y), x, y))


def _isfinite(x: Any) -> Any:
    return _op("less", _op("abs", x), math.inf)


def _heaviside(x: Any, at_zero: Any) -> Any:
    above = _op("where", _op("greater", x, 0.0), 1.0, x)
    return _op(
        "where", _op("equal", x, 0.0), at_zero, _op("where", _op("less", x, 0.0), 0.0, above)
    )


def _floor_divide(x: Any, y: Any) -> Any:
    quotient = _op("div", x, y)
    if isinstance(y, (int, float)) and math.frexp(abs(y))[0] == 0.5:
        return _op("floor", quotient)  # dividing by a power of two rounds nothing
    # As 5.0 // 0.1 is 49.0, though 5.0 / 0.1 is rounded to 50.0.
    exact = _op("round", _op("div", _op("sub", x, _op("mod", x, y)), y))
    found = _op("floor", quotient)
    found = _op("where", _op("equal", found, exact), found, exact)
    if isinstance(y, (int, float)) and y:
        return found
    return _op("where", _op("equal", y, 0.0), quotient, found)


def _divmod(x: Any, y: Any) -> Any:
    return np.floor_divide(x, y), np.mod(x, y)


UFUNCS.update(
    logaddexp=_logaddexp,
    logaddexp2=lambda x, y: _logaddexp(x * _LN2, y * _LN2) / _LN2,
    exp2=lambda x: _op("pow", 2.0, x),
    floor_divide=_floor_divide,
    divmod=_divmod,
    fmax=_fmax,
    fmin=_fmin,
    heaviside=_heaviside,
    positive=lambda x: x,
    conjugate=lambda x: x,
    deg2rad=lambda x: _op("mul", x, math.pi / 180.0),
    radians=lambda x: _op("mul", x, math.pi / 180.0),
    rad2deg=lambda x: _op("mul", x, 180.0 / math.pi),
    degrees=lambda x: _op("mul", x, 180.0 / math.pi),
    isnan=lambda x: _op("not_equal", x, x),
    isfinite=_isfinite,
    isinf=lambda x: _op("equal", _op("abs", x), math.inf),
    signbit=lambda x: _op("less", _op("copysign", 1.0, x), 0.0),
    logical_and=lambda x, y: _op("min", _truth(x), _truth(y)),
    logical_or=lambda x, y: _op("max", _truth(x), _truth(y)),
    logical_xor=lambda x, y: _op("not_equal", _truth(x), _truth(y)),
    logical_not=lambda x: _op("equal", x, 0.0),
    invert=lambda x: _op("equal", x, 0.0),
    bitwise_and=lambda x, y: _op("min", _truth(x), _truth(y)),
    bitwise_or=lambda x, y: _op("max", _truth(x), _truth(y)),
    bitwise_xor=lambda x, y: _op("not_equal", _truth(x), _truth(y)),
)


@stands_for("clip")
def clip(x: Any, a_min: Any = None, a_max: Any = None, out: Any = None, **options: Any) -> Any:
    """Within bounds; at a bound the gradient passes."""
    low, high = options.get("min", a_min), options.get("max", a_max)
    result = x
    if low is not None:
        result = _op("where", _op("less", result, low), low, result)
    if high is not None:
        result = _op("where", _op("greater", result, high), high, result)
    if out is not None:
        out[...] = result
    return result


@stands_for("select")
def select(conditions: Sequence[Any], choices: Sequence[Any], default: Any = 0.0) -> Any:
    result = default
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        result = _op("where", condition, choice, result)
    return result


@stands_for("piecewise")
def piecewise(
    x: Any, conditions: Sequence[Any], functions: Sequence[Any], *args: Any, **options: Any
) -> Any:
    def value(function: Any) -> Any:
        return function(x, *args, **options) if callable(function) else function

    values = [value(function) for function in functions]
    default = values[len(conditions)] if len(values) > len(conditions) else 0.0
    # The last condition that holds decides.
    return select(conditions[::-1], values[: len(conditions)][::-1], default)


@stands_for("nan_to_num")
def nan_to_num(
    x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    largest = float(np.finfo(float).max)
    high = largest if posinf is None else posinf
    low = -largest if neginf is None else neginf
    known = _op("where", _op("not_equal", x, x), nan, x)
    known = _op("where", _op("equal", known, math.inf), high, known)
    return _op("where", _op("equal", known, -math.inf), low, known)


@stands_for("sinc")
def sinc(x: Any) -> Any:
    """sin(pi x) / (pi x); near zero, where that loses its derivatives, its Taylor series."""
    angle = _op("mul", x, math.pi)
    square = angle * angle
    # Terms up to angle**12 / 13!: below 1e-17 of the value where this is chosen.
    series: Any = 0.0
    for k in range(7, 0, -1):
        series = (series + (-1.0) ** k / math.factorial(2 * k + 1)) * square
    near = _op("less", _op("abs", angle), 0.3)
    safe = _op("where", near, 1.0, angle)
    return _op("where", near, series + 1.0, np.sin(safe) / safe)


@stands_for("isclose")
def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    near = (np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b)
    same = near | (a == b)  # infinities of one sign too
    return same | (np.isnan(a) & np.isnan(b)) if equal_nan else same


@stands_for("allclose")
def allclose(
    a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    return np.all(isclose(a, b, rtol, atol, equal_nan))


@stands_for("array_equal")
def array_equal(a: Any, b: Any, equal_nan: bool = False) -> Any:
    if np.shape(a) != np.shape(b):
        return False
    same = a == b
    return np.all(same | (np.isnan(a) & np.isnan(b)) if equal_nan else same)


@stands_for("round", "around")
def round_(x: Any, decimals: int = 0, out: Any = None) -> Any:
    if not decimals:
        return _op("round", x)
    scale = 10.0**decimals
    return _op("round", x * scale) / scale


@stands_for("fix")
def fix(x: Any, out: Any = None) -> Any:
    return _op("trunc", x)


@stands_for("angle")
def angle(x: Any, deg: bool = False) -> Any:
    return _op("where", _op("less", x, 0.0), 180.0 if deg else math.pi, 0.0)


@stands_for("linspace")
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0, *, device: Any = None,
) -> Any:  # fmt: skip
    parts = max(num - 1 if endpoint else num, 1)
    step = (stop - start) / parts
    ndim = len(getattr(step, "shape", ()))
    t = np.arange(num).reshape((num,) + (1,) * ndim)
    result = np.moveaxis(start + t * step, 0, axis) if ndim else start + t * step
    return (result, step) if retstep else result


@stands_for("logspace")
def logspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0) -> Any:
    return base ** linspace(start, stop, num, endpoint)


@stands_for("geomspace")
def geomspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True) -> Any:
    return np.exp(linspace(np.log(start), np.log(stop), num, endpoint))


@stands_for("isposinf")
def isposinf(x: Any, out: Any = None) -> Any:
    return _op("equal", x, math.inf)


@stands_for("isneginf")
def isneginf(x: Any, out: Any = None) -> Any:
    return _op("equal", x, -math.inf)


def _add_at(x: Any, index: Any, value: Any = 1.0) -> None:
    """np.add.at: an index that stands twice is added twice."""
    from tapeflow.tracers import array_op, lift

    places = np.asarray(np.arange(x.size).reshape(x.shape)[index])
    spread = lift(value).broadcast_to(places.shape)
    p = (x.size, *places.ravel().tolist())
    x[...] = x + array_op("put", p, (spread.reshape(-1),)).reshape(x.shape)


def _subtract_at(x: Any, index: Any, value: Any) -> None:
    _add_at(x, index, -value if isinstance(value, TracedArray) else -1.0 * value)


METHODS["add", "at"] = _add_at
METHODS["subtract", "at"] = _subtract_at
