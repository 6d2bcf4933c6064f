"""The worst error of every elementary function, against mpmath: ``python -m benchmarks.accuracy``.

Half the points are spread over a function's interesting range and half are random bit patterns,
so that all doubles are met: huge, subnormal, of either sign. Errors are counted in units in the
last place of the exact result. Writes docs/accuracy.md.
"""

import argparse
import concurrent.futures
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

import tapeflow as tpf

Floats = npt.NDArray[np.float64]
Found = tuple[float, list[float], int]
"""The worst error, the operands where it is, and how many points were tried."""


@dataclass(frozen=True)
class Subject:
    """A function: its exact counterpart, and the ranges where it is interesting."""

    exact: Callable[..., Any]
    ranges: tuple[tuple[float, float], ...]
    arity: int = 1


def _softplus(x: Any) -> Any:
    return mpmath.log1p(mpmath.exp(x)) if x < 1000 else x


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _atan2(y: Any, x: Any) -> Any:
    # mpmath has no negative zero, on whose sign the angle depends.
    return mpmath.atan2(y, x) if y and x else mpmath.mpf(math.atan2(y, x))


def _cbrt(x: Any) -> Any:
    return mpmath.sign(x) * mpmath.cbrt(abs(x))


SUBJECTS = {
    "exp": Subject(mpmath.exp, ((-746, 710), (-1, 1))),
    "expm1": Subject(mpmath.expm1, ((-50, 710), (-1, 1))),
    "log": Subject(mpmath.log, ((0, 4), (0.9, 1.1))),
    "log1p": Subject(mpmath.log1p, ((-1, 4), (-0.1, 0.1))),
    "log2": Subject(lambda x: mpmath.log(x, 2), ((0, 4), (0.9, 1.1))),
    "log10": Subject(mpmath.log10, ((0, 4), (0.9, 1.1))),
    "sigmoid": Subject(_sigmoid, ((-746, 50), (-3, 3))),
    "softplus": Subject(_softplus, ((-746, 50), (-3, 3))),
    "cbrt": Subject(_cbrt, ((-8, 8), (0, 1e-300))),
    "sin": Subject(mpmath.sin, ((-10, 10), (-1e6, 1e6), (-1e10, 1e10))),
    "cos": Subject(mpmath.cos, ((-10, 10), (-1e6, 1e6), (-1e10, 1e10))),
    "tan": Subject(mpmath.tan, ((-10, 10), (-1e6, 1e6), (-1e10, 1e10))),
    "asin": Subject(mpmath.asin, ((-1, 1), (0.99, 1))),
    "acos": Subject(mpmath.acos, ((-1, 1), (0.99, 1))),
    "atan": Subject(mpmath.atan, ((-5, 5), (-100, 100))),
    "atan2": Subject(_atan2, ((-5, 5),), 2),
    "sinh": Subject(mpmath.sinh, ((-711, 711), (-2, 2))),
    "cosh": Subject(mpmath.cosh, ((-711, 711), (-2, 2))),
    "tanh": Subject(mpmath.tanh, ((-23, 23), (-1, 1))),
    "asinh": Subject(mpmath.asinh, ((-5, 5), (-1e9, 1e9))),
    "acosh": Subject(mpmath.acosh, ((1, 5), (1, 1.01), (1, 1e9))),
    "atanh": Subject(mpmath.atanh, ((-1, 1), (0.99, 1))),
    "erf": Subject(mpmath.erf, ((-6, 6), (-1.3, 1.3))),
    "erfc": Subject(mpmath.erfc, ((-6, 27.3), (-1.3, 1.3))),
    "hypot": Subject(mpmath.hypot, ((-5, 5),), 2),
    "pow": Subject(mpmath.power, ((0, 3), (0.9, 1.1)), 2),
}

EDGES = np.array([
    0.0, 5e-324, 2.2e-308, 2.3e-308, 1e-200, 1e-20, 2.0**-53, 0.25, 0.5, 0.84375, 1.0, 1.25, 2.0,
    1 - 2.0**-53, 1 + 2.0**-52, np.pi / 4, np.pi / 2, np.pi, 22.0, 26.5, 27.2, 709.7, 710.4,
    745.1, 2.0**28, 2.0**30, 1e22, 6381956970095103.0 * 2.0**797, 1e300, 1.7976931348623157e308,
])  # fmt: skip
EDGES = np.concatenate([EDGES, -EDGES])


def points(subject: Subject, n: int, seed: int) -> tuple[Floats, ...]:
    """n random arguments for each operand, and the edges (all pairs of them for two operands)."""
    rng = np.random.default_rng(seed)
    columns = []
    for _ in range(subject.arity):
        ranges = [rng.uniform(low, high, n) for low, high in subject.ranges]
        choice = rng.integers(0, len(ranges), n)
        inside = np.choose(choice, ranges)
        patterns = rng.integers(0, 2**64, n, np.uint64, endpoint=False).view(np.float64)
        columns.append(np.where(rng.random(n) < 0.5, inside, patterns))
    edges = [grid.ravel() for grid in np.meshgrid(*[EDGES] * subject.arity)]
    return tuple(np.concatenate(pair) for pair in zip(edges, columns, strict=True))


def fit_exponents(x: Floats, seed: int) -> Floats:
    """Exponents for which the powers of x are spread over the whole range of doubles."""
    with np.errstate(all="ignore"):
        fitting = np.random.default_rng(seed).uniform(-745, 710, x.shape) / np.log(np.abs(x))
    return np.where(np.isfinite(fitting), fitting, 0.5)


def arguments(name: str, n: int, seed: int) -> tuple[Floats, ...]:
    """The arguments that a function is tried at."""
    columns = points(SUBJECTS[name], n, seed)
    if name == "pow":
        x, y = columns
        half = np.random.default_rng(seed + 1).random(x.shape) < 0.7
        half[: len(x) - n] = False  # the edges stay as they are
        return x, np.where(half, fit_exponents(x, seed), y)
    return columns


def errors(name: str, columns: tuple[Floats, ...], results: Floats) -> Floats:
    """The error of each result in ulp; 0 where both are NaN, infinite where only one is."""
    exact = SUBJECTS[name].exact
    out = np.zeros(len(results))
    for k, (result, *operands) in enumerate(
        zip(results.tolist(), *map(np.ndarray.tolist, columns), strict=True)
    ):
        out[k] = _error(exact, operands, result, name)
    return out


def _error(exact: Callable[..., Any], operands: list[float], result: float, name: str) -> float:
    huge = name in ("sin", "cos", "tan") and abs(operands[0]) > 1e6
    mpmath.mp.prec = 1300 if huge else 160
    if not all(map(np.isfinite, operands)):
        return 0.0  # infinities and NaNs have tests of their own
    try:
        expected = exact(*operands)
    except (ValueError, ZeroDivisionError, OverflowError):
        return 0.0 if not np.isfinite(result) else np.inf
    if isinstance(expected, mpmath.mpc):
        if expected.imag != 0:
            return 0.0 if np.isnan(result) else np.inf
        expected = expected.real
    if mpmath.isnan(expected) or mpmath.isinf(expected):
        return 0.0 if not np.isfinite(result) else np.inf
    if np.isnan(result):
        return np.inf
    size = abs(expected)
    if np.isinf(result):
        # Overflow is right from half a unit beyond the largest double.
        return 0.0 if size >= mpmath.mpf(2) ** 1024 * (1 - mpmath.mpf(2) ** -54) else np.inf
    exponent = mpmath.frexp(size)[1] - 53 if size else -1074
    unit = mpmath.mpf(2) ** max(exponent, -1074)
    return float(abs(mpmath.mpf(result) - expected) / unit)


def worst(name: str, n: int, seed: int = 0) -> Found:
    """The worst error over n points and the edges, the operands where it is, and the count."""
    columns = arguments(name, n, seed)
    results = getattr(tpf, name)(*columns)
    found = errors(name, columns, results)
    k = int(found.argmax())
    return float(found[k]), [float(column[k]) for column in columns], len(found)


def _job(job: tuple[str, int, int]) -> tuple[str, float, list[float], int]:
    name, n, seed = job
    return name, *worst(name, n, seed)


def survey(
    names: list[str], n: int, processes: int = 2
) -> dict[str, tuple[float, list[float], int]]:
    """`worst` of each function, the points shared out over processes."""
    parts = 1 if n < 20_000 else 10
    jobs = [(name, n // parts, seed) for name in names for seed in range(parts)]
    result: dict[str, Found] = {}
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        for name, error, at, count in pool.map(_job, jobs):
            before = result.get(name, (-1.0, [], 0))
            best = max(before, (error, at, 0), key=lambda row: row[0])
            result[name] = (best[0], best[1], before[2] + count)
    return result


def report(found: dict[str, Found]) -> str:
    lines = [
        "# Accuracy of the elementary functions",
        "",
        "Written by `python -m benchmarks.accuracy`. The worst error against mpmath, in units in",
        "the last place of the exact result, over edges and random points: half in each",
        "function's interesting range, half random bit patterns over all doubles.",
        "",
        "| function | points | worst error (ulp) | at |",
        "|---|---:|---:|---|",
    ]
    lines += [
        f"| {name} | {count:,} | {error:.3f} | {', '.join(map(repr, at))} |"
        for name, (error, at, count) in found.items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=list(SUBJECTS))
    parser.add_argument("--out", type=Path, default=Path("docs/accuracy.md"))
    options = parser.parse_args()
    text = report(survey(options.only, options.points))
    print(text)
    if options.only == list(SUBJECTS):
        options.out.parent.mkdir(exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
