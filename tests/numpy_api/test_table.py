"""docs/numpy.md is what the code does: every public function of NumPy is recorded or refused."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from benchmarks import numpy_table

WALKED = [(f"{module}.{name}", name, f) for module, name, f in numpy_table.functions()]
REFUSED = [row for row in WALKED if numpy_table.status(row[1], row[2]).startswith("no")]
RECORDED = [row for row in WALKED if not numpy_table.status(row[1], row[2]).startswith("no")]


def test_the_table_is_fresh() -> None:
    page = Path(__file__).parents[2] / "docs" / "numpy.md"
    assert page.read_text() == numpy_table.page()


def test_every_refusal_says_what_to_use() -> None:
    assert [name for name, own, f in REFUSED if numpy_table.status(own, f) == "no"] == []


def required(function: Any) -> int:
    """How many arrays a function must be given, as far as it says."""
    if isinstance(function, np.ufunc):
        return function.nin
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters) or 1


@pytest.mark.parametrize(("full", "name", "function"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(full: str, name: str, function: Any) -> None:
    n = required(function)
    if name in ("save", "savetxt", "savez", "savez_compressed", "apply_over_axes"):
        n = 1
    args = [np.eye(3)] * n

    def call(*xs: Any) -> Any:
        if name == "apply_over_axes":
            return function(np.sum, xs[0], [0])
        if name.startswith("save"):
            return function("never written", xs[0])
        return function(*xs)

    with pytest.raises(tpf.TracingError, match=r"cannot .*\(test_table\.py:\d+\)"):
        tpf.record(call, *args)
    assert not Path("never written.npy").exists()


UNARY = [row for row in RECORDED if isinstance(row[2], np.ufunc) and row[2].nin == 1]


@pytest.mark.parametrize(("full", "name", "function"), UNARY, ids=[row[0] for row in UNARY])
def test_unary_ufuncs(full: str, name: str, function: Any) -> None:
    x = np.linspace(1.1, 1.9, 5) if name in ("acosh", "arccosh") else np.linspace(-0.9, 0.9, 6)
    if name in ("bitwise_invert", "bitwise_not", "invert"):
        got = tpf.record(lambda x: function(x > 0), x)(x)
        assert np.array_equal(got, ~(x > 0))
        return
    with np.errstate(all="ignore"):
        expected = function(x)
    # Both are within a few ulp.
    assert np.allclose(tpf.record(function, x)(x), expected, rtol=1e-14, equal_nan=True)
