"""One sample at a time: Rosenbrock's and Speelpenning's functions, and the cost of a call."""

import time
from typing import Any

import numba
import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, measure, report

TOLERANCE = 1e-12
"""Ten roundings of 2**-53 an entry of the gradient; Speelpenning's products are of 1e5 factors,
each with one: 1e5 * 1.1e-16, within the largest of which the others are."""


def rosenbrock(x: Any) -> Any:
    total = 0.0
    for i in range(len(x) - 1):
        total = total + 100.0 * (x[i + 1] - x[i] * x[i]) ** 2 + (1.0 - x[i]) ** 2
    return total


def speelpenning(x: Any) -> Any:
    product = x[0]
    for i in range(1, len(x)):
        product = product * x[i]
    return product


def rosenbrock_by_hand(x: Any) -> Any:
    own, following = x[:-1], x[1:]
    rest = following - own * own
    gradient = np.zeros_like(x)
    gradient[:-1] = -400.0 * rest * own - 2.0 * (1.0 - own)
    gradient[1:] += 200.0 * rest
    return np.sum(100.0 * rest**2 + (1.0 - own) ** 2), gradient


def speelpenning_by_hand(x: Any) -> Any:
    product = np.prod(x)
    return product, product / x


def small(x: Any) -> Any:
    return np.exp(x[0] * x[1]) + np.sin(x[2]) * x[0] + x[1] * x[2] * x[0] - x[2]


def small_by_hand(x: Any) -> Any:
    a, b, c = x.tolist()
    e = np.exp(a * b)
    value = e + np.sin(c) * a + b * c * a - c
    return value, (b * e + np.sin(c) + b * c, a * e + c * a, np.cos(c) * a + b * a - 1.0)


@numba.njit
def many(f: Any, x: Any, grad: Any, n: int) -> Any:  # pragma: no cover
    value = 0.0
    for _ in range(n):
        value = f.value_and_grad(x, grad)
    return value


def length(function: Any, by_hand: Any, n: int, name: str) -> None:
    x = np.random.default_rng(0).uniform(0.99, 1.01, n)
    numbers = x.tolist()

    def ours(tier: str) -> tuple[Contender, int]:
        tape = tpf.record(function, numbers)
        with tpf.config(tier=tier):
            native, grad = tape.njit(), np.empty(n)

        def run() -> Any:
            return native.value_and_grad(x, grad), grad

        return run, len(tape)

    (fused, size), (interpreted, _) = ours("fused"), ours("interpret")
    rows = measure(
        {
            "tapeflow": fused,
            "tapeflow, interpreter only": interpreted,
            "NumPy by hand": lambda: by_hand(x),
        },
        "NumPy by hand",
        TOLERANCE,
        seconds=0.5,
    )
    report(f"{name}, one sample of {size} instructions", rows, "tapeflow", size, "instruction")


def main() -> None:
    for n in (13, 125, 1250, 12_500, 125_000):
        length(rosenbrock, rosenbrock_by_hand, n, "Rosenbrock")
    length(speelpenning, speelpenning_by_hand, 100_000, "Speelpenning")

    x, grad = np.array([0.3, 0.7, 1.1]), np.empty(3)
    tape = tpf.record(small, x.tolist())
    native, gradient = tape.njit(), tpf.value_and_grad(lambda a, b, c: small((a, b, c)), (0, 1, 2))
    a, b, c = x.tolist()
    calls = 1000
    many(native, x, grad, 1)
    rows = measure(
        {
            "tapeflow, from Python": lambda: gradient(a, b, c),
            "by hand in Python": lambda: small_by_hand(x),
        },
        "by hand in Python",
        TOLERANCE,
    )
    report(f"one call, {len(tape)} instructions", rows, "tapeflow, from Python", 1, "call")
    begin = time.perf_counter()
    value = many(native, x, grad, calls * 1000)
    seconds = time.perf_counter() - begin
    expected, _ = small_by_hand(x)
    assert abs(value - expected) <= TOLERANCE * abs(expected)
    print(f"the same from a function compiled with Numba: {seconds / calls * 1e6:.0f} ns a call")


if __name__ == "__main__":
    main()
