"""Recording: what is recorded, and what is refused with the line and a way out."""

import functools
import math
import re
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.ops import BY_UFUNC

REFUSED = {
    "float": (lambda x: float(x), "turn a traced value into a Python float", "keep computing"),
    "math": (lambda x: math.exp(x), "into a Python float", "use np.exp, not math.exp"),
    "set": (lambda x: x in {1.0, 2.0}, "look a traced value up in a set", "`in` with a list"),
    "array": (
        lambda x: x in np.array([1.0, 2.0]),
        "traced array into a plain",
        "np.any(array == x)",
    ),
    "complex": (lambda x: complex(x), "into a complex number", "real numbers"),
    "iterate": (lambda x: [*x], "iterate over a traced number", "list or an array"),
    "digits": (lambda x: round(x, 2), "round a traced value to 2 digits", "scale it"),
    "string": (lambda x: np.add(x, "a"), "use a str with a traced value", "real numbers"),
    "times complex": (lambda x: x * 1j, "use a complex with a traced value", "real numbers"),
    "huge": (lambda x: x * 10**400, "use an integer beyond the largest double", "scale it"),
    "ufunc": (lambda x: np.frexp(x), "record np.frexp", "use np.log2"),
    "out": (lambda x: np.exp(x, out=np.zeros(1)), "into a plain array", "np.zeros_like"),
    "function": (lambda x: np.unique(x), "record np.unique", "use np.where"),
    "complex function": (lambda x: np.fft.fft(x), "whose result is complex", "real numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_baking_a_value_in_is_refused(name: str) -> None:
    f, what, instead = REFUSED[name]
    line = f.__code__.co_firstlineno
    with pytest.raises(tpf.TracingError) as caught:
        tpf.record(f, 1.5)
    message = str(caught.value)
    assert message.startswith("cannot ")
    assert what in message
    assert instead in message
    assert re.search(rf"\(test_tracer\.py:({line}|{line + 1})\)", message), message


def test_a_tracing_error_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        tpf.grad(lambda x: math.sin(x))(1.0)


def test_a_traced_value_that_escapes() -> None:
    kept: list[Any] = []

    def leak(x: Any) -> Any:
        kept.append(x)
        return x * 1.0

    tpf.record(leak, 1.0)
    with pytest.raises(tpf.TracingError, match="after its recording has ended"):
        kept[0] + 1.0
    with pytest.raises(tpf.TracingError, match="after its recording has ended"):
        tpf.record(lambda x: x + kept[0], 1.0)


def test_operators_record_the_ops() -> None:
    def f(x: Any, y: Any) -> Any:
        a = [x + y, x - y, x * y, x / y, -x, +x, abs(x), x**y, 2.0**x, x**2, x**-1, x**1]
        b = [1.0 + x, 1.0 - x, 2.0 * x, 1.0 / x, x < y, x <= y, x > y, x >= y, x == y, x != y]
        return a + b + [round(x), math.floor(x), math.ceil(x)]

    x, y = 1.7, 2.3
    tape = tpf.record(f, x, y)
    got = np.array(tape(x, y))
    exact = [x + y, x - y, x * y, x / y, -x, x, x, x**y, 2.0**x, x * x, 1 / x, x]
    exact += [1 + x, 1 - x, 2 * x, 1 / x, True, True, False, False, False, True, 2, 1, 2]
    # Two powers are within two ulp; the rest is exact.
    assert np.all(np.abs(got - exact) <= 4 * np.spacing(np.abs(np.array(exact))))
    names = {tape.op(i).name for i in range(len(tape))}
    assert {"square", "reciprocal", "pow", "neg", "abs"} <= names


@pytest.mark.parametrize("ufunc", BY_UFUNC, ids=lambda u: u.__name__)
@pytest.mark.parametrize("array", [False, True])
def test_ufuncs_record_their_op(ufunc: np.ufunc, array: bool) -> None:
    op = BY_UFUNC[ufunc]
    x = 1.25 if op.name == "acosh" else 0.75
    args = [np.full(3, x) if array else x] * op.arity
    tape = tpf.record(lambda *a: ufunc(*a), *args)
    assert {tape.op(i) for i in range(len(tape))} == {op}
    assert len(tape) == 1
    expected = np.broadcast_to(ufunc(*args), np.shape(args[0])).astype(float)
    assert np.all(np.abs(np.array(tape(*args)) - expected) <= 4 * np.spacing(np.abs(expected)))


def test_arrays_are_indexed_and_broadcast_as_in_numpy() -> None:
    def f(a: Any, b: Any) -> Any:
        c = a[::-1, 1:] * b - np.array([1.0, 2.0])
        return np.exp(c).T @ np.ones(2) + (a @ np.ones(3)).sum() + np.maximum(a[0, 0], b)

    a, b = np.arange(6.0).reshape(2, 3) / 5, 0.5
    assert np.allclose(tpf.record(f, a, b)(a, b), f(a, b), rtol=1e-14, atol=0)


REDUCTIONS = [
    (function, shape, options)
    for function in (np.sum, np.prod, np.mean, np.var, np.std)
    for shape in [(), (3,), (2, 3), (0, 3), (2, 0), (2, 3, 2)]
    for options in ({}, {"axis": 0}, {"axis": -1})
    # No axis of a number, no mean of nothing, and no variance of one number.
    if (shape or not options) and (np.prod(shape) > 1 or function in (np.sum, np.prod))
]


@pytest.mark.parametrize(("function", "shape", "options"), REDUCTIONS)
def test_reductions_go_over_the_axes_that_numpys_do(
    function: Any, shape: Any, options: dict[str, Any]
) -> None:
    x = np.random.default_rng(0).uniform(0.5, 1.5, shape)
    for how in (options, {**options, "keepdims": True}):
        reduced = functools.partial(function, **how)
        got, expected = tpf.record(reduced, x)(x), reduced(x)
        # As many roundings as terms, in another order.
        assert np.allclose(got, expected, rtol=2.0**-48, atol=0)
        assert np.shape(got) == np.shape(expected)


def test_arrays_change_in_place_as_in_numpy() -> None:
    def f(x: Any) -> Any:
        y = x.copy()
        part = y[1:]
        part *= 3.0
        y[0] = 7.0
        y += x
        return y

    x = np.array([1.0, 2.0, 3.0])
    assert np.array_equal(tpf.record(f, x)(x), [8.0, 8.0, 12.0])
    assert np.array_equal(x, [1.0, 2.0, 3.0])


def test_nested_structures() -> None:
    def f(p: Any) -> Any:
        return {"s": p["w"][0] * p["w"][1] + p["t"][0], "v": (p["a"] * 2.0, 5.0)}

    p = {"w": [2.0, 3.0], "t": (1.0,), "a": np.ones((2, 2))}
    out = tpf.record(f, p)(p)
    assert out["s"] == 7.0
    assert np.array_equal(out["v"][0], 2 * np.ones((2, 2)))
    assert out["v"][1] == 5.0


def test_source_lines_and_names_are_kept() -> None:
    def f(params: Any, x: Any) -> Any:
        y = params["w"][1] * x  # here
        return y + 1.0

    tape = tpf.record(f, {"w": np.ones(2)}, 1.0)
    assert tape.input_names == ("params['w']", "x")
    line = f.__code__.co_firstlineno
    assert [tape.source(i).line for i in range(2)] == [line + 1, line + 2]
    assert [tape.source(i).function for i in range(2)] == ["f", "f"]
    assert str(tape.source(0)) == f"test_tracer.py:{line + 1}"


@pytest.mark.parametrize(
    ("arg", "what"),
    [
        ("text", "type str"),
        (1j, "type complex"),
        (np.array([1j]), "dtype complex128"),
        (np.array(["a"]), "dtype <U1"),
        (np.array([None]), "dtype object"),
        (object(), "type object"),
        (np.zeros(2, np.longdouble), "dtype"),
        (np.ma.array([1.0, 2.0], mask=[False, True]), "masked array: fill it first"),
    ],
)
def test_arguments_that_are_no_real_numbers(arg: Any, what: str) -> None:
    with pytest.raises(tpf.StructureError, match=f"cannot record an? .*{what}"):
        tpf.record(lambda x: x, arg)


def test_results_that_are_no_numbers() -> None:
    with pytest.raises(tpf.StructureError, match="shout returned a str"):
        tpf.record(shout, 1.0)


def shout(x: Any) -> Any:
    return "x"


GRID = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda x: x[5], IndexError),
        (lambda x: x[0, 0, 0], IndexError),
        (lambda x: x[np.array([7])], IndexError),
        (lambda x: x.reshape(4, 4), ValueError),
        (lambda x: np.reshape(x, (5,)), ValueError),
        (lambda x: x.sum(axis=4), np.exceptions.AxisError),
        (lambda x: np.max(x, axis=4), np.exceptions.AxisError),
        (lambda x: np.linalg.norm(x, axis=4), np.exceptions.AxisError),
        (lambda x: np.tensordot(x, x, axes=([5], [0])), IndexError),
        (lambda x: np.gradient(x, axis=4), np.exceptions.AxisError),
        (lambda x: tpf.special.logsumexp(x, axis=4), np.exceptions.AxisError),
        (lambda x: np.concatenate([x, x[0]]), ValueError),
        (lambda x: x + np.ones(4), ValueError),
        (lambda x: np.einsum("ij,jk->ik", x, np.ones((4, 4))), ValueError),
        (lambda x: np.linalg.cholesky(x), np.linalg.LinAlgError),
        (lambda x: np.linalg.inv(x), np.linalg.LinAlgError),
        (lambda x: np.interp(x[0], np.ones(3), np.ones(4)), ValueError),
        (lambda x: x.item(), ValueError),
        (lambda x: np.split(x, 4), ValueError),
    ],
)
def test_numpys_errors_name_the_line(function: Any, error: type[Exception]) -> None:
    """What NumPy raises, and where."""
    with pytest.raises(error) as plain:
        function(GRID)
    with pytest.raises(
        error, match=rf"\(test_tracer.py:{function.__code__.co_firstlineno}\)"
    ) as own:
        tpf.record(function, GRID)
    assert isinstance(own.value, type(plain.value))
