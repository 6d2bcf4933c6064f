"""record, function, grad and value_and_grad, as a user calls them."""

import threading
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf


def test_gradients_have_the_structure_of_the_argument() -> None:
    def f(p: Any, x: Any) -> Any:
        return p["w"][0] * x[0] + p["w"][1] * np.sum(x) + p["b"] * p["b"]

    p, x = {"w": (2.0, 3.0), "b": 4.0}, np.array([1.0, 2.0])
    value, (dp, dx) = tpf.value_and_grad(f, argnums=(0, 1))(p, x)
    assert value == 2.0 + 9.0 + 16.0
    assert dp == {"w": (1.0, 3.0), "b": 8.0}
    assert type(dp["w"]) is tuple
    assert np.array_equal(dx, [5.0, 3.0])
    assert tpf.grad(f)(p, x) == dp
    assert np.array_equal(tpf.grad(f, argnums=-1)(p, x), dx)
    assert tpf.grad(f, argnums=[0])(p, x) == (dp,)


@pytest.mark.parametrize(
    "args",
    [
        (2.0, 3.0),
        ((2.0,), [3.0]),
        (np.array([2.0]), np.array([3.0])),
        (np.array([[2.0]]), np.array(3.0)),
        ({"a": 2.0}, (np.array([3.0]), None)),
        (np.float64(2.0), np.float32(3.0)),
        (2.0, np.array([3.0], np.float32)),
    ],
)
def test_replaying_gives_what_the_first_call_gave(args: Any) -> None:
    def f(x: Any, y: Any) -> Any:
        x, y = np.ravel(_first(x))[0], np.ravel(_first(y))[0]
        return x * x * y

    g = tpf.value_and_grad(f, argnums=(0, 1))
    first, second, third = g(*args), g(*args), g(*args)
    for value, (dx, dy) in (first, second, third):
        assert value == 12.0
        assert np.ravel(_first(dx))[0] == 12.0
        assert np.ravel(_first(dy))[0] == 4.0
        for d, arg in zip((dx, dy), args, strict=True):
            assert type(d) is type(arg)
            assert getattr(d, "dtype", None) == getattr(arg, "dtype", None)


def _first(x: Any) -> Any:
    while isinstance(x, (tuple, list, dict)):
        x = next(iter(x.values() if isinstance(x, dict) else x))
    return x


def test_other_shapes_and_types_are_recorded_anew() -> None:
    g = tpf.grad(lambda x: np.sum(x * x))
    assert g(3.0) == 6.0
    assert np.array_equal(g(np.ones(2)), [2.0, 2.0])
    assert np.array_equal(g(np.ones((2, 1))), [[2.0], [2.0]])
    assert g(np.ones(3, np.float32)).dtype == np.float32
    assert g(3.0) == 6.0
    f = tpf.grad(lambda x: x[0] * x[-1])
    assert f((2.0, 3.0)) == (3.0, 2.0)
    assert f((2.0, 5.0, 3.0)) == (3.0, 0.0, 2.0)
    assert f([2.0, 3.0]) == [3.0, 2.0]


def test_a_variable_bound_anew_is_seen() -> None:
    scale = 2.0

    def helper(x: Any) -> Any:
        return scale * x

    g = tpf.grad(lambda x: helper(x) * FACTOR)
    f = tpf.function(lambda x: helper(x))
    v = tpf.vmap(lambda x: helper(x))
    assert g(1.0) == 2.0
    assert f(1.0) == 2.0
    scale = 3.0
    assert g(1.0) == 3.0
    assert f(1.0) == 3.0
    assert np.array_equal(v(np.ones(1)), [3.0])
    global FACTOR
    FACTOR = 10.0
    try:
        assert g(1.0) == 30.0
    finally:
        FACTOR = 1.0
    assert g(1.0) == 3.0


FACTOR = 1.0


def test_function_records_once_and_replays() -> None:
    runs = []

    @tpf.function
    def f(x: Any, y: Any) -> Any:
        """What it does."""
        runs.append(1)
        return {"sum": x + y}

    assert [f(1.0, float(k))["sum"] for k in range(5)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(runs) == 1
    assert np.array_equal(f(np.ones(2), 1.0)["sum"], [2.0, 2.0])
    assert len(runs) == 2
    assert f.__doc__ == "What it does."
    assert len(f.tape(1.0, 2.0)) == 1
    assert repr(f) == "<tapeflow.function f>"
    assert tpf.grad(lambda x: f(x, 2.0)["sum"] * x)(3.0) == 8.0


def test_grad_of_a_function() -> None:
    f = tpf.function(lambda x: x * x)
    assert tpf.grad(f)(3.0) == 6.0
    assert np.array_equal(tpf.vmap(f)(np.arange(3.0)), [0.0, 1.0, 4.0])


def test_errors_are_one_sentence() -> None:
    f = tpf.grad(lambda x: x)
    with pytest.raises(tpf.StructureError, match="returns 2 numbers, and a gradient is of one"):
        tpf.grad(lambda x: (x, x))(1.0)
    with pytest.raises(tpf.StructureError, match=r"argnums=1 is out of range: .* with one"):
        tpf.grad(lambda x: x, argnums=1)(1.0)
    with pytest.raises(TypeError, match="argnums must be an int or several, not 'a'"):
        tpf.grad(lambda x: x, argnums="a")(1.0)
    with pytest.raises(TypeError, match="expected a function to record, not a int"):
        tpf.grad(3)
    with pytest.raises(TypeError, match=r"in an integer \(int\): pass a real number, as in 3.0"):
        f(3)
    with pytest.raises(tpf.StructureError, match="cannot record an argument of type str"):
        f("3.0")
    assert f(1.0) == 1.0
    with pytest.raises(tpf.StructureError):
        f("3.0")
    with pytest.raises(tpf.TracingError, match="pass it as an argument"):
        tpf.grad(lambda a: tpf.record(lambda x: a * x, 1.0)(2.0))(1.0)


def test_the_functions_own_errors_pass_through() -> None:
    with pytest.raises(KeyError):
        tpf.grad(lambda x: {}["missing"])(1.0)
    assert tpf.grad(lambda x: x * 2.0)(1.0) == 2.0


def test_recording_from_several_threads() -> None:
    g = tpf.grad(lambda x: np.sum(np.exp(x) * x))
    expected = [g(np.ones(n)) for n in range(1, 9)]
    fresh = tpf.grad(lambda x: np.sum(np.exp(x) * x))
    wrong = []

    def work(n: int) -> None:
        wrong.extend(n for _ in range(50) if not np.array_equal(fresh(np.ones(n)), expected[n - 1]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("name", ["exp", "maximum", "where", "sigmoid", "relu", "fma", "add"])
def test_functions_on_numbers_and_arrays(name: str) -> None:
    f = getattr(tpf, name)
    x = np.array([[0.5, 1.5], [-1.0, 2.0]])
    arity = {"exp": 1, "sigmoid": 1, "relu": 1, "maximum": 2, "add": 2}.get(name, 3)
    result = f(*[x] * arity)
    assert result.shape == x.shape
    assert [f(*[v] * arity) for v in x.ravel().tolist()] == result.ravel().tolist()
    with pytest.raises(TypeError, match=f"{name} takes {arity} operands, not 0"):
        f()
    with pytest.raises(tpf.StructureError, match=f"{name} takes real numbers, not complex128"):
        f(*[1j] * arity)
