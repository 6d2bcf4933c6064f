"""What is said of wrong arguments to derivatives: one sentence, that says what to use instead."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.errors import StructureError

X = np.array([1.0, 2.0, 3.0])
WHOLE = np.array([1, 2, 3])


def total(x: Any) -> Any:
    return np.sum(x * x)


def vector(x: Any) -> Any:
    return np.sin(x)


def pair(x: Any, y: Any) -> Any:
    return np.sum(x * y)


def refused(message: str, error: type[Exception], call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 240, text


@pytest.mark.parametrize(
    "call",
    [
        lambda: tpf.grad(vector)(X),
        lambda: tpf.value_and_grad(vector)(X),
        lambda: tpf.hessian(vector)(X),
        lambda: tpf.hvp(vector, (X,), (X,)),
        lambda: tpf.vmap(tpf.grad(vector))(np.ones((2, 3))),
        lambda: tpf.function(lambda x: tpf.grad(vector)(x))(X),
        lambda: tpf.grad(lambda x: (vector(x), 1.0), has_aux=True)(X),
    ],
)
def test_a_result_of_several_numbers(call: Any) -> None:
    refused(
        "returns 3 numbers, and a gradient is of one: sum them, choose one, or use tpf.jacobian",
        StructureError,
        call,
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: tpf.grad(total)(WHOLE),
        lambda: tpf.jacobian(vector)(WHOLE),
        lambda: tpf.hessian(total)(WHOLE),
        lambda: tpf.vjp(total, WHOLE),
        lambda: tpf.jvp(total, (WHOLE,), (X,)),
        lambda: tpf.linearize(total, WHOLE),
        lambda: tpf.hvp(total, (WHOLE,), (X,)),
        lambda: tpf.vmap(tpf.grad(lambda x: x * x))(WHOLE),
        lambda: tpf.vmap(tpf.jacobian(lambda x: x * x))(WHOLE),
        lambda: tpf.vmap(tpf.hessian(lambda x: x * x))(WHOLE),
        lambda: tpf.grad(lambda y: tpf.grad(pair, argnums=1)(y, WHOLE)[0])(X),
    ],
)
def test_an_integer(call: Any) -> None:
    refused(
        r"cannot differentiate .* in an integer \(int64\): pass a real number, as in x\.astype",
        TypeError,
        call,
    )


def test_an_integer_beside_is_no_matter() -> None:
    assert tpf.grad(pair)(X, WHOLE).tolist() == [1.0, 2.0, 3.0]
    assert tpf.hvp(pair, (X, WHOLE), (X,), argnums=0).tolist() == [0.0, 0.0, 0.0]
    assert tpf.jacobian(pair)(2.0, 3) == 3.0
    refused("as in 3.0, not 3", TypeError, lambda: tpf.jacobian(pair, argnums=1)(2.0, 3))


@pytest.mark.parametrize(
    "make",
    [
        lambda argnums: tpf.grad(pair, argnums)(X, X),
        lambda argnums: tpf.value_and_grad(pair, argnums)(X, X),
        lambda argnums: tpf.jacobian(pair, argnums)(X, X),
        lambda argnums: tpf.hessian(pair, argnums)(X, X),
        lambda argnums: tpf.hvp(pair, (X, X), (X,), argnums),
        lambda argnums: tpf.vmap(tpf.grad(pair, argnums))(X, X),
    ],
)
def test_argnums(make: Any) -> None:
    said = r"argnums={} is out of range: pair was called with 2 arguments, numbered from 0"
    refused(said.format(2), StructureError, lambda: make(2))
    refused(said.format(-3), StructureError, lambda: make(-3))
    refused(said.format(5), StructureError, lambda: make((0, 5)))
    for wrong in (0.0, "0", (0, 1.5)):
        refused(
            "argnums must be an int or several, not", TypeError, lambda wrong=wrong: make(wrong)
        )
    refused("argnums chooses no argument: give at least one", ValueError, lambda: make(()))
    make(np.int64(0))


def test_argnums_of_one_argument() -> None:
    refused(
        "total was called with one argument, which is argnums=0",
        StructureError,
        lambda: tpf.grad(total, argnums=1)(X),
    )
    refused("called with no arguments", StructureError, lambda: tpf.grad(lambda: 1.0)())


NESTED = {"a": X, "b": (1.0, np.ones((2, 2)))}


@pytest.mark.parametrize(
    ("tangents", "shown"),
    [
        ((np.ones(2),), r"\(array\(2,\),\)"),
        ((1.0,), r"\(number,\)"),
        ((X, X), r"\(array\(3,\), array\(3,\)\)"),
        ((), r"\(\)"),
        (({"a": X},), r"\({'a': array\(3,\)},\)"),
    ],
)
def test_tangents_of_another_shape(tangents: Any, shown: str) -> None:
    message = (
        rf"the tangents of .* structure and shapes of the primals, \(array\(3,\),\), not {shown}"
    )
    for call in (
        lambda: tpf.jvp(total, (X,), tangents),
        lambda: tpf.linearize(total, X)[1](*tangents),
        lambda: tpf.hvp(total, (X,), tangents),
        lambda: tpf.grad(lambda y: tpf.jvp(total, (y,), tangents)[1])(X),
    ):
        refused(message, StructureError, call)


def test_nested_shapes_are_shown_as_they_are_written() -> None:
    refused(
        r"shapes of the primals, \({'a': array\(3,\), 'b': \(number, array\(2, 2\)\)},\), not \(1?",
        StructureError,
        lambda: tpf.jvp(lambda p: p["a"], (NESTED,), (X,)),
    )


@pytest.mark.parametrize(
    ("cotangent", "shown"),
    [(1.0, "number"), (np.ones(4), r"array\(4,\)"), ((X,), r"\(array\(3,\),\)")],
)
def test_cotangents_of_another_shape(cotangent: Any, shown: str) -> None:
    message = rf"the cotangent of vector must have .* of its value, array\(3,\), not {shown}"
    refused(message, StructureError, lambda: tpf.vjp(vector, X)[1](cotangent))
    refused(
        message, StructureError, lambda: tpf.grad(lambda y: tpf.vjp(vector, y)[1](cotangent))(X)
    )


def test_primals_and_tangents_are_tuples() -> None:
    for call in (lambda p, t: tpf.jvp(total, p, t), lambda p, t: tpf.hvp(total, p, t)):
        message = r"give the {} as a tuple with one an argument, as in \(x,\), not as a ndarray"
        refused(message.format("primals"), TypeError, lambda call=call: call(X, (X,)))
        refused(message.format("tangents"), TypeError, lambda call=call: call((X,), X))


def test_what_is_no_real_number() -> None:
    for call in (
        lambda x: tpf.grad(total)(x),
        lambda x: tpf.jacobian(vector)(x),
        lambda x: tpf.vjp(total, x),
        lambda x: tpf.jvp(total, (X,), (x,)),
        lambda x: tpf.hvp(total, (x,), (X,)),
    ):
        refused("cannot record an argument of type str", StructureError, lambda c=call: c("a"))
        refused(
            "cannot record an array of dtype complex128", StructureError, lambda c=call: c(X * 1j)
        )
    refused("returned a str: return numbers", StructureError, lambda: tpf.grad(lambda x: "a")(1.0))
    refused("returns 0 numbers", StructureError, lambda: tpf.grad(lambda x: None)(1.0))


def test_what_is_no_function() -> None:
    for call in (
        lambda: tpf.grad(3),
        lambda: tpf.jacobian(3),
        lambda: tpf.vjp(3, X),
        lambda: tpf.hvp(3, (X,), (X,)),
    ):
        refused("expected a function to record, not a int", TypeError, call)


def test_derivatives_have_the_dtype_of_their_argument() -> None:
    x, y = X.astype(np.float32), np.ones(3)
    assert tpf.grad(pair)(x, y).dtype == np.float32
    by_x, by_y = tpf.jacobian(pair, (0, 1))(x, y)
    assert by_x.dtype == np.float32 and by_y.dtype == np.float64
    assert tpf.hessian(pair)(x, y).dtype == np.float32
    assert [own.dtype for own in tpf.vjp(pair, x, y)[1](1.0)] == [np.float32, np.float64]
    assert tpf.hvp(total, (x,), (y,)).dtype == np.float32
    assert [own.dtype for own in tpf.hvp(pair, (x, y), (y, y))] == [np.float32, np.float64]
    assert type(tpf.jacobian(lambda x: x * x)(np.float32(3.0))) is np.float32


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_nothing_to_differentiate_or_in(mode: str) -> None:
    assert tpf.jacobian(lambda x: {}, mode=mode)(1.0) == {}
    assert tpf.jacobian(vector, mode=mode)(np.zeros(0)).shape == (0, 0)
    assert tpf.jacobian(lambda x: x[:0], mode=mode)(X).shape == (0, 3)
    assert tpf.jacobian(lambda x: np.ones(2) * np.sum(x), mode=mode)(np.zeros(0)).shape == (2, 0)


def test_a_product_in_an_argument_twice() -> None:
    refused(
        r"argnums=\(0, -2\) chooses an argument twice: give each of them once, with its tangent",
        ValueError,
        lambda: tpf.hvp(pair, (X, X), (X, X), argnums=(0, -2)),
    )
