"""Gradients at ties, kinks and infinities: one test a row of docs/conventions.md."""

import math
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tests.strategies import same_bits

INF, NAN = math.inf, math.nan

ROWS: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "abs at 0": (lambda x: abs(x), (0.0,), 0.0),
    "sqrt at 0": (lambda x: np.sqrt(x), (0.0,), INF),
    "sqrt(x**2) at 0": (lambda x: np.sqrt(x**2), (0.0,), 0.0),
    "sqrt(x*x) at 0": (lambda x: np.sqrt(x * x), (0.0,), 0.0),
    "norm([0,0,0])": (lambda x: np.sqrt(np.sum(x * x)), (np.zeros(3),), np.zeros(3)),
    "hypot(0,0)": (lambda x, y: np.hypot(x, y), (0.0, 0.0), (0.0, 0.0)),
    "atan2(0,0)": (lambda y, x: np.arctan2(y, x), (0.0, 0.0), (0.0, 0.0)),
    "x**0.0 at 0": (lambda x: x**0.0, (0.0,), 0.0),
    "pow(0,0)": (lambda x, y: x**y, (0.0, 0.0), (0.0, 0.0)),
    "pow(0,2)": (lambda x, y: x**y, (0.0, 2.0), (0.0, 0.0)),
    "pow(-2,3)": (lambda x, y: x**y, (-2.0, 3.0), (12.0, NAN)),
    "maximum(1,1)": (lambda x, y: np.maximum(x, y), (1.0, 1.0), (0.5, 0.5)),
    "minimum(1,1)": (lambda x, y: np.minimum(x, y), (1.0, 1.0), (0.5, 0.5)),
    "maximum(nan,1)": (lambda x, y: np.maximum(x, y), (NAN, 1.0), (NAN, NAN)),
    "relu at 0": (lambda x: tpf.relu(x), (0.0,), 0.0),
    "where(x>0, log x, 0) at 0": (lambda x: tpf.where(x > 0, np.log(x), 0.0), (0.0,), 0.0),
    "where(x>0, sqrt x, 0) at 0": (lambda x: tpf.where(x > 0, np.sqrt(x), 0.0), (0.0,), 0.0),
    "where(x>0, sqrt x, 0) at -1": (lambda x: tpf.where(x > 0, np.sqrt(x), 0.0), (-1.0,), 0.0),
    "where(x<1, exp x, 0) at 1000": (lambda x: tpf.where(x < 1, np.exp(x), 0.0), (1e3,), 0.0),
    "x log x at 0": (lambda x: x * np.log(x), (0.0,), -INF),
    "arcsin at 1": (lambda x: np.arcsin(x), (1.0,), INF),
    "1/(1+exp(-x)) at -1000": (lambda x: 1.0 / (1.0 + np.exp(-x)), (-1000.0,), 0.0),
    "prod([0,2,3])": (lambda x: np.prod(x), (np.array([0.0, 2.0, 3.0]),), [6.0, 0.0, 0.0]),
    "cumprod([0,2,3]) summed": (
        lambda x: x[0] + x[0] * x[1] + x[0] * x[1] * x[2],
        (np.array([0.0, 2.0, 3.0]),),
        [9.0, 0.0, 0.0],
    ),
    "std([1,1,1])": (
        lambda x: np.sqrt(np.sum((x - np.sum(x) / 3.0) ** 2) / 3.0),
        (np.ones(3),),
        np.zeros(3),
    ),
    "x**2 at 1e-310": (lambda x: x**2, (1e-310,), 2e-310),
    "roots of a value that is cut off": (
        lambda x: np.sqrt(np.maximum(x, 0.0)) - np.sqrt(np.maximum(x, 0.0) * 2.0),
        (-1.0,),
        0.0,
    ),
    "argument not used": (lambda x, y: x * 1.0, (1.0, 2.0), (1.0, 0.0)),
    "sum of zero elements": (lambda x: np.sum(x) + 0.0, (np.zeros(0),), np.zeros(0)),
    "x[[0,0]] summed": (lambda x: np.sum(x[[0, 0]]), (np.ones(2),), [2.0, 0.0]),
}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("how", ["sample", "batch", "pullback"])
def test_row(row: str, how: str) -> None:
    f, args, expected = ROWS[row]
    every = tuple(range(len(args)))
    gradient = tpf.grad(f, argnums=every)
    if how == "sample":
        got = gradient(*args)
    elif how == "batch":
        batch = [np.stack([np.asarray(arg)] * 3) for arg in args]
        got = tuple(g[1] for g in tpf.vmap(gradient)(*batch))
    else:
        # A gradient inside a recording is the pullback's instructions.
        tape = tpf.record(lambda *a: gradient(*a), *args)
        got = tape(*args)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for g, e in zip(got, expected, strict=True):
        assert same_bits(g, e), (g, e)


def test_float32_in_float32_out() -> None:
    g = tpf.grad(lambda x: np.sum(x * x))(np.ones(3, np.float32))
    assert g.dtype == np.float32
    assert same_bits(g, 2 * np.ones(3))
    assert type(tpf.grad(lambda x: x * x)(np.float32(3.0))) is np.float32
    batch = tpf.vmap(tpf.grad(lambda x: x * x))(np.ones(3, np.float32))
    assert batch.dtype == np.float32


@pytest.mark.parametrize("x", [3, np.int32(3), True, np.arange(3)])
def test_an_integer_is_refused_and_told_how(x: Any) -> None:
    with pytest.raises(TypeError, match=r"in an integer \(.*\): pass a real number, as in"):
        tpf.grad(lambda x: np.sum(x * x))(x)
