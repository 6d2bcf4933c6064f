"""Functions with a NaN or an infinity planted in them, for `test_debug`.

Each makes it on the line that says so, at ``bad``, and nowhere at ``good``.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tapeflow as tpf


@dataclass(frozen=True)
class Planted:
    """A case: where the number is found, in which sweep, and by which gate.

    kind: "nan" or "inf". good, bad: arguments.
    """

    function: Callable[..., Any]
    kind: str
    sweep: str
    gate: str
    good: tuple[Any, ...]
    bad: tuple[Any, ...]

    @property
    def line(self) -> int:
        lines, first = inspect.getsourcelines(self.function)
        (offset,) = (k for k, line in enumerate(lines) if "# here" in line)
        return first + offset

    def __str__(self) -> str:
        return self.function.__name__


CASES: list[Planted] = []


def planted(kind: str, sweep: str, gate: str, good: Any, bad: Any) -> Any:
    def enter(function: Any) -> Any:
        CASES.append(Planted(function, kind, sweep, gate, good, bad))
        return function

    return enter


# NaN, forward.


@planted("nan", "forward", "div", (1.0, 2.0), (0.0, 0.0))
def zero_over_zero(x: Any, y: Any) -> Any:
    scale = 2.0 * x
    return 1.0 + scale / y  # here


@planted("nan", "forward", "log", (2.0,), (-1.0,))
def log_of_a_negative(x: Any) -> Any:
    return x * np.log(x)  # here


@planted("nan", "forward", "log2", (2.0,), (-1.0,))
def log2_of_a_negative(x: Any) -> Any:
    return x * np.log2(x)  # here


@planted("nan", "forward", "log1p", (2.0,), (-2.0,))
def log1p_below_minus_one(x: Any) -> Any:
    y = x * 1.0
    return np.log1p(y)  # here


@planted("nan", "forward", "sqrt", (2.0,), (-2.0,))
def sqrt_of_a_negative(x: Any) -> Any:
    y = np.exp(x) - 1.0
    return np.sqrt(y) + x  # here


@planted("nan", "forward", "sub", (1.0, 2.0), (1000.0, 1000.0))
def infinity_minus_infinity(x: Any, y: Any) -> Any:
    a, b = np.exp(x), np.exp(y)
    return a - b  # here


@planted("nan", "forward", "mul", (1.0, 2.0), (0.0, 1000.0))
def zero_times_infinity(x: Any, y: Any) -> Any:
    a = np.exp(y)
    return x * a  # here


@planted("nan", "forward", "div", (1.0, 2.0), (800.0, 900.0))
def softmax_written_out(x: Any, y: Any) -> Any:
    a, b = np.exp(x), np.exp(y)
    total = a + b
    return a / total  # here


@planted("nan", "forward", "asin", (0.5,), (1.5,))
def asin_beyond_one(x: Any) -> Any:
    return np.arcsin(x) ** 2  # here


@planted("nan", "forward", "acos", (0.5,), (-1.5,))
def acos_beyond_one(x: Any) -> Any:
    return np.arccos(x) ** 2  # here


@planted("nan", "forward", "acosh", (2.0,), (0.5,))
def acosh_below_one(x: Any) -> Any:
    return np.arccosh(x) * x  # here


@planted("nan", "forward", "atanh", (0.5,), (2.0,))
def atanh_beyond_one(x: Any) -> Any:
    return np.arctanh(x) * x  # here


@planted("nan", "forward", "pow", (2.0, 0.5), (-2.0, 0.5))
def root_of_a_negative(x: Any, y: Any) -> Any:
    return x**y + 1.0  # here


@planted("nan", "forward", "mod", (5.0, 2.0), (5.0, 0.0))
def remainder_of_zero(x: Any, y: Any) -> Any:
    return np.mod(x, y) * x  # here


@planted("nan", "forward", "sin", (1.0,), (1000.0,))
def sine_of_infinity(x: Any) -> Any:
    y = np.exp(x)
    return np.sin(y)  # here


@planted("nan", "forward", "fma", (1.0, 2.0), (0.0, 1000.0))
def fma_of_zero_and_infinity(x: Any, y: Any) -> Any:
    a = np.exp(y)
    return tpf.fma(x, a, 1.0)  # here


@planted("nan", "forward", "log", (np.array([1.0, 2.0]),), (np.array([1.0, -2.0]),))
def log_among_an_array(x: Any) -> Any:
    y = 2.0 * x
    return np.sum(np.log(y) * x)  # here


@planted("nan", "forward", "div", (np.array([3.0, 4.0]),), (np.zeros(2),))
def a_vector_of_length_zero(x: Any) -> Any:
    norm = np.sqrt(np.sum(x * x))
    return np.sum(x / norm)  # here


@planted("nan", "forward", "sum", (np.array([1.0, 2.0]),), (np.array([1000.0, 1001.0]),))
def a_sum_of_both_infinities(x: Any) -> Any:
    y = np.exp(x) * np.array([1.0, -1.0])
    return np.sum(y)  # here


@planted("nan", "forward", "matmul", (np.eye(2), np.ones(2)), (np.eye(2), np.array([1.0, 1e3])))
def a_product_with_infinity(a: Any, x: Any) -> Any:
    y = np.exp(x)
    return np.sum(a @ y)  # here


@planted("nan", "forward", "cholesky", (np.eye(2),), (np.array([[1.0, 2.0], [2.0, 1.0]]),))
def not_positive_definite(a: Any) -> Any:
    factor = np.linalg.cholesky(a)  # here
    return np.sum(np.log(np.diagonal(factor)))


@planted("nan", "forward", "solve", (np.eye(2), np.ones(2)), (np.ones((2, 2)), np.ones(2)))
def a_singular_matrix(a: Any, b: Any) -> Any:
    return np.sum(np.linalg.solve(a, b))  # here


@tpf.gate
def half_log(x: Any) -> Any:
    return 0.5 * tpf.log(x), (0.5 / x,)


@planted("nan", "forward", "half_log", (2.0,), (-2.0,))
def a_rule_of_the_users(x: Any) -> Any:
    return half_log(x) * x  # here


@tpf.gate
class Root:
    def forward(self, x: float) -> Any:
        self.root = np.sqrt(max(x, -0.0)) if x > -1.0 else np.nan
        return self.root

    def backward(self, dz: float) -> Any:
        return [np.nan if self.root == 0.0 else 0.5 * dz / self.root]


@planted("nan", "forward", "Root", (2.0,), (-2.0,))
def a_gate_of_the_users(x: Any) -> Any:
    return Root()(x) * x  # here


# NaN, in reverse.


@planted("nan", "reverse", "sqrt", (1.0,), (0.0,))
def infinite_slopes_that_cancel(x: Any) -> Any:
    a = np.sqrt(x)  # here
    b = np.sqrt(x + 0.0)
    return a - b


@planted("nan", "reverse", "cbrt", (1.0,), (0.0,))
def cube_roots_that_cancel(x: Any) -> Any:
    a = np.cbrt(x)  # here
    b = np.cbrt(x * 2.0)
    return a - b


@planted("nan", "reverse", "asin", (0.5,), (1.0,))
def arcs_that_cancel(x: Any) -> Any:
    a = np.arcsin(x)  # here
    b = np.arcsin(x * x)
    return a - b


@planted("nan", "reverse", "acosh", (2.0,), (1.0,))
def areas_that_cancel(x: Any) -> Any:
    a = np.arccosh(x)  # here
    b = np.arccosh(x * x)
    return a - b


@planted("nan", "reverse", "pow", (2.0, 3.0), (-2.0, 3.0))
def slope_in_the_exponent(x: Any, y: Any) -> Any:
    n = y * 1.0
    return x**n  # here


@planted("nan", "reverse", "Root", (2.0,), (0.0,))
def backward_of_the_users(x: Any) -> Any:
    return x + Root()(x)  # here


@tpf.gate
def squared(x: Any) -> Any:
    return x * x, (2.0 * x * x / x,)


@planted("nan", "reverse", "squared", (2.0,), (0.0,))
def a_partial_of_the_users(x: Any) -> Any:
    y = squared(x)  # here
    return np.exp(y)


@planted("nan", "reverse", "sqrt", (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))
def slopes_that_cancel_in_an_array(x: Any) -> Any:
    a = np.sqrt(x)  # here
    b = np.sqrt(x * 2.0)
    return np.sum(a - b)


@planted("nan", "reverse", "eigh", (np.diag([1.0, 2.0]),), (np.eye(2),))
def equal_eigenvalues(a: Any) -> Any:
    _, vectors = np.linalg.eigh(a)  # here
    return np.sum(vectors * np.array([[1.0, 2.0], [3.0, 4.0]]))


# Infinities, forward.


@planted("inf", "forward", "exp", (1.0,), (1000.0,))
def exp_overflows(x: Any) -> Any:
    y = x * 1.0
    return 1.0 / (1.0 + np.exp(y))  # here


@planted("inf", "forward", "div", (1.0, 2.0), (1.0, 0.0))
def one_over_zero(x: Any, y: Any) -> Any:
    return np.arctan(x / y)  # here


@planted("inf", "forward", "log", (1.0,), (0.0,))
def log_of_zero(x: Any) -> Any:
    y = 2.0 * x
    return np.exp(np.log(y))  # here


@planted("inf", "forward", "square", (2.0,), (1e200,))
def square_overflows(x: Any) -> Any:
    return np.sqrt(np.square(x))  # here


@planted("inf", "forward", "sinh", (2.0,), (-1000.0,))
def sinh_overflows(x: Any) -> Any:
    return np.arctan(np.sinh(x))  # here


@planted("inf", "forward", "sum", (np.ones(3),), (np.full(3, 1e308),))
def a_sum_overflows(x: Any) -> Any:
    return np.arctan(np.sum(x))  # here


@planted("inf", "forward", "exp", (np.ones(3),), (np.array([1.0, 710.0, 2.0]),))
def exp_overflows_in_an_array(x: Any) -> Any:
    return np.log(np.sum(np.exp(x)))  # here


# Infinities, in reverse.


@planted("inf", "reverse", "sqrt", (1.0,), (0.0,))
def sqrt_at_zero(x: Any) -> Any:
    return 1.0 + np.sqrt(x)  # here


@planted("inf", "reverse", "sqrt", (np.array([3.0, 4.0]),), (np.zeros(2),))
def norm_at_zero(x: Any) -> Any:
    # Its gradient is zero: the infinite slope of the root meets the zeros of the squares.
    return np.sqrt(np.sum(x * x))  # here


@planted("inf", "reverse", "log", (1.0,), (1e-310,))
def log_of_a_subnormal(x: Any) -> Any:
    return np.log(x)  # here


@planted("inf", "reverse", "mul", (1.0, 1.0), (1e-300, 1e200))
def a_product_of_slopes(x: Any, y: Any) -> Any:
    z = x * y  # here
    return z * y


@planted("inf", "reverse", "mul", (1.0, 1.0), (0.9, 1.5e308))
def a_square_of_a_product(x: Any, y: Any) -> Any:
    # Once each factor, and the second time it is too much.
    z = x * x  # here
    return z * y


@planted("inf", "reverse", "asin", (0.5,), (1.0,))
def asin_at_one(x: Any) -> Any:
    return np.arcsin(x)  # here


@planted("inf", "reverse", "pow", (1.0, 0.5), (0.0, 0.5))
def power_at_zero(x: Any, y: Any) -> Any:
    return x**y  # here
