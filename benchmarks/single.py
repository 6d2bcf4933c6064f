"""One sample at a time: Rosenbrock's and Speelpenning's functions, and the cost of a call."""

import ctypes
import resource
import time
from typing import Any

import numba
import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report, series
from benchmarks.peers import adolc, casadi, pointer, sacado
from tapeflow.engine.native import NativeTape

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


CPP = """
template <class T> T rosenbrock(const T *x, long n) {
  T total = 0.0;
  for (long i=0;i+1<n;i++) {
    T rest=x[i+1]-x[i]*x[i], own=1.0-x[i];
    total = total + 100.0*rest*rest + own*own;
  }
  return total;
}
"""

ADOLC = (
    """
#include <adolc/adolc.h>
#include <vector>
"""
    + CPP
    + """
extern "C" void record(long n, const double *x) {
  std::vector<adouble> own(n); adouble y; double out;
  trace_on(1, 1);
  for (long k=0;k<n;k++) own[k] <<= x[k];
  y = rosenbrock(own.data(), n);
  y >>= out;
  trace_off();
}
extern "C" double run(long n, double *x, double *gradient) {
  double out, one = 1.0;
  zos_forward(1, 1, n, 1, x, &out);
  fos_reverse(1, 1, n, &one, gradient);
  return out;
}
"""
)

SACADO = (
    """
#include <Sacado.hpp>
#include <vector>
"""
    + CPP
    + """
typedef Sacado::Rad::ADvar<double> T;
extern "C" void record(long n, const double *x) {}
extern "C" double run(long n, double *x, double *gradient) {
  std::vector<T> own(n);
  for (long k=0;k<n;k++) own[k] = x[k];
  T y = rosenbrock(own.data(), n);
  double value = y.val();
  T::Gradcomp();
  for (long k=0;k<n;k++) gradient[k] = own[k].adj();
  return value;
}
"""
)


def by_library(library: Any, x: Any) -> Contender | Missing:
    if isinstance(library, Missing):
        return library
    gradient = np.empty(len(x))
    library.run.restype = ctypes.c_double
    library.record(ctypes.c_long(len(x)), pointer(x))

    def run() -> Any:
        return library.run(ctypes.c_long(len(x)), pointer(x), pointer(gradient)), gradient

    return run


def by_casadi(x: Any) -> Contender | Missing:
    ca = casadi("CasADi")
    if isinstance(ca, Missing):
        return ca
    symbol = ca.SX.sym("x", len(x))
    value = rosenbrock(ca.vertsplit(symbol))
    f = ca.Function("f", [symbol], [value, ca.gradient(value, symbol)])
    gradient, out, own = np.empty(len(x)), np.empty(1), np.ascontiguousarray(x)
    buffer, evaluate = f.buffer()
    buffer.set_arg(0, memoryview(own))
    buffer.set_res(0, memoryview(out))
    buffer.set_res(1, memoryview(gradient))

    def run(kept: Any = (own, buffer)) -> Any:  # CasADi keeps neither
        evaluate()
        return out[0], gradient

    return run


def length(function: Any, by_hand: Any, n: int, name: str, peers: bool) -> dict[str, Any]:
    """Time one length; gives the record for the plot over lengths."""
    x = np.random.default_rng(0).uniform(0.99, 1.01, n)
    begin = time.perf_counter()
    tape = tpf.record(function, x.tolist())
    recording = time.perf_counter() - begin

    def ours(tier: str) -> Contender:
        with tpf.config(tier=tier):
            native, grad = NativeTape(tape), np.empty(n)
        return lambda: (native.value_and_grad(x, grad), grad)

    contenders: dict[str, Contender | Missing] = {
        "tapeflow": ours("fused"),
        "tapeflow, interpreter only": ours("interpret"),
        "NumPy by hand": lambda: by_hand(x),
    }
    if peers:
        contenders |= {
            "CasADi": by_casadi(x),
            "ADOL-C": by_library(adolc("ADOL-C", ADOLC), x),
            "Sacado, records each time": by_library(sacado("Sacado", SACADO), x),
        }
    rows = measure(contenders, "NumPy by hand", TOLERANCE, seconds=0.5)
    size = len(tape)
    report(f"{name}, one sample of {size} instructions", rows, "tapeflow", size, "instruction")
    print(f"recorded in {recording / size * 1e6:.1f} us an instruction; {memory()}")
    return {"x": size, "rows": rows}


def memory() -> str:
    """The largest memory that this process has had, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return f"at most {peak:.0f} MB in this process so far"


def main() -> None:
    lengths = [
        length(rosenbrock, rosenbrock_by_hand, n, "Rosenbrock", peers=n <= 12_500)
        for n in (3, 13, 126, 1251, 12_501, 125_001, 1_250_001)
    ]
    series("tape length", "instructions", "ns per instruction", lengths, 1e9)
    for n in (10, 1000, 100_000, 1_000_000):
        length(speelpenning, speelpenning_by_hand, n, "Speelpenning", peers=False)

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
