"""The elementary functions: against mpmath, against C99's special values, and bit for bit."""

import math
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from benchmarks.accuracy import EDGES, SUBJECTS, arguments, survey, worst
from tapeflow import mathlib
from tests.strategies import identical

PROMISE = 2.0
"""Units in the last place: what the library promises for every argument."""

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, -2.0, 0.5, -3.0, 2.5, -7.0])


@pytest.mark.parametrize("name", SUBJECTS)
def test_within_two_ulp(name: str) -> None:
    error, at, _ = worst(name, 300)
    assert error <= PROMISE, f"{error} ulp at {at}"


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", SUBJECTS)
def test_within_two_ulp_at_a_million_points(name: str) -> None:
    error, at, _ = survey([name], 1_000_000)[name]
    assert error <= PROMISE, f"{error} ulp at {at}"


@pytest.mark.parametrize("name", SUBJECTS)
def test_vector_scalar_and_reference_agree_bit_for_bit(name: str) -> None:
    columns = [np.concatenate([c, SPECIAL]) for c in arguments(name, 200, seed=7)]
    vector = getattr(tpf, name)(*columns)
    scalar = [
        getattr(tpf, name)(*row) for row in zip(*map(np.ndarray.tolist, columns), strict=True)
    ]
    reference = getattr(mathlib, name)(*columns)
    assert identical(vector, scalar)
    assert identical(scalar, reference)


# What C99's Annex F says where NumPy calls the platform's libm.
C99 = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "log2": np.log2,
    "log10": np.log10, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "cbrt": np.cbrt,
    "pow": np.power, "atan2": np.arctan2, "hypot": np.hypot,
}  # fmt: skip


@pytest.mark.parametrize("name", C99)
def test_special_values(name: str) -> None:
    columns = [SPECIAL]
    if SUBJECTS[name].arity == 2:
        columns = [grid.ravel() for grid in np.meshgrid(SPECIAL, SPECIAL)]
    with np.errstate(all="ignore"):
        expected = C99[name](*columns)
    got = np.array([getattr(tpf, name)(*row) for row in zip(*columns, strict=True)])
    exact = ~np.isfinite(expected) | (expected == 0.0)
    assert identical(got[exact], expected[exact])
    assert np.array_equal(np.isfinite(got), np.isfinite(expected))
    # Both are within a few ulp of the truth.
    assert np.all(
        np.abs(got[~exact] - expected[~exact]) <= 4 * np.spacing(np.abs(expected[~exact]))
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sigmoid", [0.5, 0.5, 1.0, 0.0, math.nan]),
        ("softplus", [math.log(2), math.log(2), math.inf, 0.0, math.nan]),
        ("erf", [0.0, -0.0, 1.0, -1.0, math.nan]),
        ("erfc", [1.0, 1.0, 0.0, 2.0, math.nan]),
    ],
)
def test_special_values_of_what_numpy_lacks(name: str, values: Any) -> None:
    got = [getattr(tpf, name)(x) for x in SPECIAL[:5].tolist()]
    assert identical(got, values)


def test_powers_of_two_have_exact_logarithms() -> None:
    exponents = np.arange(-1074, 1024)
    assert np.array_equal(tpf.log2(np.ldexp(1.0, exponents)), exponents)


@pytest.mark.parametrize("name", ["sin", "tan", "asin", "atan", "sinh", "tanh", "asinh", "atanh",
                                  "expm1", "log1p", "erf", "cbrt"])  # fmt: skip
def test_odd_functions_keep_signed_zeros_and_subnormals(name: str) -> None:
    f = getattr(tpf, name)
    assert identical([f(-0.0), f(0.0)], [-0.0, 0.0])
    for x in (5e-324, 1e-310, 2.2e-308):
        assert f(-x) == -f(x) or name in ("expm1", "log1p")
        if name not in ("erf", "cbrt"):
            assert f(x) == x


def test_edges_are_edges() -> None:
    assert len(EDGES) == len(set(map(repr, EDGES.tolist())))
