"""The examples in docs/examples run, and do what they say."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "examples"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.jit
def test_digits() -> None:
    assert example("digits").main() >= 0.97


@pytest.mark.jit
def test_logistic_regression() -> None:
    accuracy, gradient = example("logistic_regression").main()
    assert accuracy > 0.97
    # Newton's method has converged: what is left is rounding.
    assert gradient < 1e-12


@pytest.mark.jit
def test_gaussian_process() -> None:
    fitted, error = example("gaussian_process").main()
    # The data were made with noise of 0.2 around a curve of size 1.
    assert math.isclose(fitted["noise"], 0.2, rel_tol=0.25)
    assert error < 0.1


@pytest.mark.jit
def test_pca() -> None:
    assert example("pca").main() < 1e-6


@pytest.mark.jit
def test_lstm() -> None:
    lstm = example("lstm")
    before, after = lstm.main(steps=120)
    letters, counts = np.unique(list(lstm.text()), return_counts=True)
    shares = counts / counts.sum()
    # It starts near a uniform guess, and ends better than any guess without looking back.
    entropy = -np.sum(shares * np.log(shares))
    assert entropy < before < 1.05 * math.log(len(letters))
    assert after < entropy


@pytest.mark.jit
def test_bundle_adjustment() -> None:
    before, after, expected = example("bundle_adjustment").main()
    assert before > 10.0 * after
    # Of some two thousand residuals: 5 percent are three standard errors.
    assert math.isclose(after, expected, rel_tol=0.05)


def test_every_example_has_a_test() -> None:
    names = {path.stem for path in FOLDER.glob("*.py")}
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert names <= tests
