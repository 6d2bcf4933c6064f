"""Plain Python functions that branch, on a list of numbers each, with the range of its samples."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Case(NamedTuple):
    """A function of n numbers between low and high."""

    function: Callable[..., Any]
    n: int
    low: float
    high: float


CASES: dict[str, Case] = {}


def case(n: int, low: float = -2.0, high: float = 2.0) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        CASES[function.__name__] = Case(function, n, low, high)
        return function

    return add


# Ifs.


@case(1)
def one_if(x: Any) -> Any:
    return x * x * x if x > 0.3 else np.sin(x)


@case(2)
def nested_ifs(x: Any, y: Any) -> Any:
    if x > 0:
        if y > x:
            return x * y * y
        return np.exp(x) * y
    if x * y < -1.0:
        return x / (2.0 + y * y)
    return x * x - y


@case(2)
def early_return(x: Any, y: Any) -> Any:
    z = x * y
    if z > 1.0:
        return z * z
    z = z + np.sin(y)
    if z < -1.0:
        return z * x
    return z * z * y


@case(3)
def elif_chain(x: Any, y: Any, z: Any) -> Any:
    if x < -1:
        return y * z
    elif x < 0:
        return y * y * x
    elif x < 1:
        return np.exp(z * 0.5) * x * x
    return x * y * z


@case(2)
def and_or(x: Any, y: Any) -> Any:
    if (x > 0 and y > 0) or x < -1.5:
        return x * x * y
    return np.cos(x * y)


@case(2)
def bitwise_conditions(x: Any, y: Any) -> Any:
    if (x > 0) & (y > 0):
        return x * y * y
    if (x < -1) | (y < -1):
        return np.sin(x) * y
    return x + y * y


@case(2)
def negated(x: Any, y: Any) -> Any:
    if not x > y:
        return x * y * y
    return y * x * x


@case(2)
def chained_comparison(x: Any, y: Any) -> Any:
    return x * x * y if -0.5 < x < y else x - y * y


@case(2)
def conditional_expression(x: Any, y: Any) -> Any:
    a = x if x > y else y
    b = x * y if a > 1 else a * a
    return a * b


@case(2)
def never_taken(x: Any, y: Any) -> Any:
    if x > 100.0:
        return y * math.inf
    return x * y * y


@case(2)
def guarded_domain(x: Any, y: Any) -> Any:
    return np.log(x) * y if x > 0.1 else np.sqrt(0.2 - x) * y * y


@case(2)
def guarded_division(x: Any, y: Any) -> Any:
    if abs(y) < 0.25:
        return x * y
    return x * x / y


@case(3)
def truth_of_numbers(x: Any, y: Any, z: Any) -> Any:
    n = int(x)
    if n:
        return y * z * n
    return y - z * z


# Piecewise physics.


@case(2)
def huber(x: Any, y: Any) -> Any:
    r = abs(x - y * y)
    return 0.5 * r * r if r <= 1.0 else r - 0.5


@case(1, 0.0, 6.0)
def tax(income: Any) -> Any:
    total, low = 0.0, 0.0
    for high, rate in ((1.0, 0.0), (2.0, 0.1), (4.0, 0.25), (math.inf, 0.4)):
        if income > high:
            total = total + rate * (high - low)
            low = high
        else:
            return total + rate * (income - low) * (income - low)
    return total


@case(2, 0.0, 3.0)
def friction(force: Any, v: Any) -> Any:
    if v < 0.2 and force < 1.0:
        return 0.5 * force * force * v
    slip = v + 0.1 * (force - 1.0)
    return slip * np.exp(-slip)


@case(2, 0.2, 2.0)
def bouncing_ball(height: Any, v: Any) -> Any:
    x, u = height, v
    for _ in range(12):
        u = u - 0.981
        x = x + 0.1 * u
        if x < 0:
            x = -0.8 * x
            u = -0.8 * u
    return x * x + u


@case(1, 0.0, 3.0)
def phases(t: Any) -> Any:
    if t < 1:
        return 2.0 * t * t
    if t < 2:
        return 2.0 + np.sin(t - 1.0) * t
    return 3.0 + 0.5 * (t - 2.0) * t * t


@case(2, 0.1, 3.0)
def pipe_flow(speed: Any, width: Any) -> Any:
    reynolds = 1000.0 * speed * width
    if reynolds < 2000.0:
        return 64.0 / reynolds * speed * speed
    return 0.316 * reynolds**-0.25 * speed * speed


@case(3)
def deadband(x: Any, y: Any, z: Any) -> Any:
    error = x - y
    if error > 0.5:
        return (error - 0.5) * z * z
    if error < -0.5:
        return (error + 0.5) * z
    return 0.1 * z * x


@case(2, -3.0, 3.0)
def saturation(x: Any, y: Any) -> Any:
    out = x * y
    if out > 2.0:
        out = 2.0 + 0.01 * (out - 2.0) * y
    elif out < -2.0:
        out = -2.0 + 0.02 * (out + 2.0) * x
    return out * out


@case(2, 0.1, 2.0)
def van_der_waals(v: Any, t: Any) -> Any:
    v = v + 0.4
    p = t / (v - 0.33) - 1.1 / (v * v)
    while p < 0.2:
        v = v * 1.25
        p = t / (v - 0.33) - 1.1 / (v * v) + 0.3
    return p * v


# Rays.


def _dot(a: Any, b: Any) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@case(3, -1.5, 1.5)
def ray_sphere(x: Any, y: Any, z: Any) -> Any:
    o, d = (x, y, -3.0 + 0.1 * z), (0.1 * z, 0.05, 1.0)
    a, b, c = _dot(d, d), 2.0 * _dot(o, d), _dot(o, o) - 1.0
    inside = b * b - 4.0 * a * c
    if inside < 0:
        return 0.1 * y * y
    t = (-b - np.sqrt(inside)) / (2.0 * a)
    return t * x if t > 0 else x * y


@case(3, -1.5, 1.5)
def ray_nearest_of_three(x: Any, y: Any, z: Any) -> Any:
    best = 10.0
    for k, (cx, cy, r) in enumerate(((0.0, 0.0, 1.0), (1.0, 0.5, 0.8), (-0.7, -0.9, 0.6))):
        rest = r * r - (x - cx) * (x - cx) - (y - cy) * (y - cy)
        if rest > 0:
            t = 3.0 + k * z * z - np.sqrt(rest)
            if t < best:
                best = t
    return best * z


@case(2, -2.0, 2.0)
def ray_box(x: Any, y: Any) -> Any:
    near, far = -10.0, 10.0
    for o, d in ((x, 0.6), (y, 0.8)):
        a, b = (-1.0 - o) / d, (1.0 - o) / d
        if a > b:
            a, b = b, a
        if a > near:
            near = a
        if b < far:
            far = b
    return near * near * x if near < far else far * y


# Loops.


@case(1, 0.2, 8.0)
def newton_sqrt(a: Any) -> Any:
    x = a
    while abs(x * x - a) > 1e-10:
        x = 0.5 * (x + a / x)
    return x * a


@case(2, 0.1, 0.9)
def kepler(mean: Any, e: Any) -> Any:
    x = mean
    while True:
        step = (x - e * np.sin(x) - mean) / (1.0 - e * np.cos(x))
        x = x - step
        if abs(step) < 1e-12:
            return x * x


@case(1, 0.1, 3.0)
def bisection_then_newton(a: Any) -> Any:
    low, high = 0.0 * a, a + 1.0
    while high - low > 0.05:
        middle = 0.5 * (low + high)
        if middle * middle * middle > a:
            high = middle
        else:
            low = middle
    x = 0.5 * (low + high)
    for _ in range(5):
        x = x - (x * x * x - a) / (3.0 * x * x)
    return x


@case(2, 0.5, 3.0)
def while_decay(x: Any, y: Any) -> Any:
    n = 0
    while x > 0.5:
        x = x * 0.7
        n += 1
    return x * y * y + n


@case(1, 1.0, 30.0)
def collatz(x: Any) -> Any:
    n, total = int(x), x
    while n != 1:
        n, total = (n // 2, total * 0.5) if n % 2 == 0 else (3 * n + 1, total * 1.1 + 0.01)
    return total * x


@case(1, 1.0, 9.0)
def collatz_on_the_tape(x: Any) -> Any:
    while x > 1.5:
        x = x / 2.0 if int(x) % 2 == 0 else 0.4 * x + 0.1 * np.sin(x)
    return x * x


@case(2, -1.5, 1.5)
def mandelbrot(x: Any, y: Any) -> Any:
    a, b, n = x, y, 0
    while a * a + b * b < 4.0 and n < 12:
        a, b = a * a - b * b + x, 2.0 * a * b + y
        n += 1
    return n + np.log(1.0 + a * a + b * b)


@case(2, 0.1, 2.0)
def gcd_like(x: Any, y: Any) -> Any:
    for _ in range(8):
        if x > y:
            x = x - 0.5 * y
        else:
            y = y - 0.5 * x
    return x * y


@case(2)
def break_and_continue(x: Any, y: Any) -> Any:
    total = 0.0
    for k in range(10):
        x = np.sin(x + k)
        if x < 0:
            continue
        total = total + x * y
        if total > 1.5:
            break
    return total * y


@case(1, 0.1, 2.0)
def for_else(x: Any) -> Any:
    y = x
    for _ in range(4):
        y = y * x
        if y > 2.0:
            break
    else:
        return np.exp(y)
    return y * y


@case(2, 0.5, 2.0)
def adaptive_step(x: Any, y: Any) -> Any:
    t, h = 0.0, 0.5
    while t < 1.0:
        full = x + h * y * np.cos(x)
        half = x + 0.5 * h * y * np.cos(x)
        half = half + 0.5 * h * y * np.cos(half)
        if abs(full - half) > 0.05 and h > 0.05:
            h = 0.5 * h
        else:
            x, t = half, t + h
    return x


@case(1, 0.0, 4.0)
def recursion(x: Any) -> Any:
    return x * x if x < 1 else recursion(x - 1.0) * np.sin(x)


@case(2, 0.5, 4.0)
def agm(x: Any, y: Any) -> Any:
    while abs(x - y) > 1e-9:
        x, y = 0.5 * (x + y), np.sqrt(x * y)
    return x


@case(1, 0.3, 5.0)
def series_to_tolerance(x: Any) -> Any:
    term, total, n = 1.0, 1.0, 0
    while abs(term) > 1e-9:
        n += 1
        term = term * x / n
        total = total + term
    return total


@case(1, 0.3, 5.0)
def power_by_squaring(x: Any) -> Any:
    n, result, base = int(3.0 * x), 1.0 + 0.0 * x, 0.5 + 0.3 * x
    while n:
        if n & 1:
            result = result * base
        base, n = base * base, n >> 1
    return result


@case(3)
def golden_section(x: Any, y: Any, z: Any) -> Any:
    a, b = x - 2.0, x + 2.0
    f = lambda t: (t - y) * (t - y) + 0.3 * z * t  # noqa: E731
    for _ in range(6):
        c, d = b - 0.618 * (b - a), a + 0.618 * (b - a)
        if f(c) < f(d):
            b = d
        else:
            a = c
    return f(0.5 * (a + b)) * x


# Sorting and searching.


@case(4)
def sorted_numbers(*x: Any) -> Any:
    a = sorted(x)
    return a[0] * a[1] - a[2] * a[3] * a[3]


@case(4)
def insertion_sort(*x: Any) -> Any:
    a = list(x)
    for i in range(1, len(a)):
        j = i
        while j > 0 and a[j - 1] > a[j]:
            a[j - 1], a[j] = a[j], a[j - 1]
            j -= 1
    return sum((k + 1) * v * v for k, v in enumerate(a))


@case(3)
def sorted_by_key(*x: Any) -> Any:
    a = sorted(x, key=lambda v: v * v)
    return a[0] * 3.0 + a[1] * a[2]


@case(3)
def maximum(*x: Any) -> Any:
    return max(x) * min(x)


@case(3)
def max_with_key(*x: Any) -> Any:
    return max(x, key=lambda v: -abs(v)) * x[0]


@case(4)
def median(*x: Any) -> Any:
    a = sorted(x)
    return 0.5 * (a[1] + a[2]) * x[0]


@case(1, 0.0, 1.0)
def binary_search(x: Any) -> Any:
    table = [0.0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0]
    low, high = 0, len(table) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if x < table[middle]:
            high = middle
        else:
            low = middle
    t = (x - table[low]) / (table[high] - table[low])
    return (low + 1) * t * t + table[low]


@case(2, 0.0, 3.999)
def table_by_int(x: Any, y: Any) -> Any:
    return [1.0, -2.0, 0.5, 3.0][int(x)] * y * y * x


@case(3)
def argmax_as_index(*x: Any) -> Any:
    weights = [1.0, 2.0, 4.0]
    return weights[np.argmax(np.stack(x))] * x[0] * x[1]


@case(2, 0.0, 3.0)
def floor_as_switch(x: Any, y: Any) -> Any:
    match int(x):
        case 0:
            return x * y
        case 1:
            return x * x + y
        case _:
            return np.sin(x) * y


@case(2, 0.0, 3.0)
def number_in_list(x: Any, y: Any) -> Any:
    return x * y * y if np.floor(x) in [0.0, 2.0] else x * x * y


@case(2)
def match_of_signs(x: Any, y: Any) -> Any:
    match (bool(x > 0), bool(y > 0)):
        case (True, True):
            return x * y * y
        case (True, False):
            return x - y * y
        case _:
            return x * x


@case(3)
def partition(*x: Any) -> Any:
    small = [v for v in x if v < 0.3]
    large = [v for v in x if not v < 0.3]
    return sum(v * v for v in small) + sum(v * v * v for v in large)


@case(4)
def running_maximum(*x: Any) -> Any:
    best, total = x[0], 0.0
    for v in x:
        best = max(best, v)
        total = total + best * v
    return total


@case(3)
def any_and_all(*x: Any) -> Any:
    if all(v > -0.5 for v in x):
        return x[0] * x[1] * x[2]
    if any(v > 1.0 for v in x):
        return x[0] * x[0] - x[1] * x[2]
    return x[0] + x[1] * x[1]


@case(3)
def filter_and_count(*x: Any) -> Any:
    n = sum(1 for v in x if v > 0)
    return n * x[0] * x[1] + x[2] * x[2]


# Money.


@case(4, -1.5, 1.5)
def barrier_option(*z: Any) -> Any:
    s = 1.0
    for k, own in enumerate(z):
        s = s * np.exp(0.2 * own)
        if s < 0.85:
            return 0.05 * (k + 1) * s
    return max(s - 1.0, 0.0 * s)


@case(4, -1.5, 1.5)
def american_put(*z: Any) -> Any:
    s, discount = 1.0, 1.0
    for k, own in enumerate(z):
        s = s * np.exp(0.25 * own - 0.02)
        discount *= 0.98
        if 1.0 - s > 0.15 + 0.02 * k:
            return discount * (1.0 - s) * s
    return discount * max(1.0 - s, 0.0 * s)


@case(4, -1.5, 1.5)
def asian_with_lookback(*z: Any) -> Any:
    s, total, top = 1.0, 0.0, 1.0
    for own in z:
        s = s * np.exp(0.2 * own)
        total = total + s
        if s > top:
            top = s
    return (top - total / len(z)) * s


@case(3, 0.1, 2.0)
def digital(x: Any, y: Any, z: Any) -> Any:
    return 1.0 * y if x * z > 1.0 else 0.5 * y * y


@case(2, 0.5, 2.0)
def callable_bond(rate: Any, level: Any) -> Any:
    value = 1.0 + 0.0 * rate
    for _ in range(5):
        value = (value + 0.1) / (1.0 + 0.1 * rate)
        if value > level:
            value = level
    return value * rate


@case(2, 0.2, 2.0)
def stop_loss(x: Any, y: Any) -> Any:
    wealth = 1.0
    for k in range(8):
        wealth = wealth * (1.0 + 0.3 * np.sin(k * x) * y)
        if wealth < 0.7:
            wealth = wealth - 0.01 * x
            break
        if wealth > 1.8:
            break
    return wealth * wealth


# Asked for.


@case(2, 0.0, 3.0)
def concrete_count(x: Any, y: Any) -> Any:
    from tapeflow import concrete

    n = concrete(np.floor(x))
    return x ** (n + 1.0) * y


@case(3)
def concrete_mask(*x: Any) -> Any:
    from tapeflow import concrete

    a = np.stack(x)
    return np.sum(a[concrete(a > 0.2)] ** 2) * x[0]


@case(3)
def branch_on_array(*x: Any) -> Any:
    a = np.stack(x)
    if np.any(a > 1.0):
        return np.sum(a * a)
    if np.sum(a) > 0:
        return np.prod(a)
    return np.sum(np.sin(a))
