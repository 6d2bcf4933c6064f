"""Random shapes, lengths of zero and one among them, strides and dtypes: as NumPy has it."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tapeflow as tpf
from tests.numpy_api.test_numpy_api import directions_of, inner, weighted

BINARY = (np.add, np.multiply, np.subtract, lambda a, b: a * np.exp(0.1 * b) + b)
REDUCTIONS = (np.sum, np.mean, np.prod, np.var, np.max)
shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def numbers(shape: Any, seed: int) -> Any:
    return (
        np.random.default_rng(seed)
        .permutation(np.linspace(-1.1, 1.3, int(np.prod(shape))))
        .reshape(shape)
    )


def slope(loss: Any, args: Any, v: Any) -> float:
    """A directional derivative by differences of fourth order."""
    h = 2.0**-10
    at = {k: loss(*(a + k * h * d for a, d in zip(args, v, strict=True))) for k in (-2, -1, 1, 2)}
    return float((8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h))


@settings(deadline=None, max_examples=60)
@given(
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=5, min_side=0, max_side=4),
    st.sampled_from(BINARY),
)
def test_broadcasting(drawn: Any, f: Any) -> None:
    a, b = (numbers(shape, seed) for seed, shape in enumerate(drawn.input_shapes))
    got = tpf.record(f, a, b)(a, b)
    assert np.shape(got) == drawn.result_shape
    # A handful of roundings, of functions within two ulp.
    assert np.allclose(got, f(a, b), rtol=2.0**-48, atol=2.0**-50)
    loss = weighted(f)
    gradient = tpf.grad(loss, (0, 1))(a, b)
    assert [np.shape(g) for g in gradient] == list(drawn.input_shapes)
    v = directions_of((a, b), 1)
    # Truncation is h^4 / 30 times a fifth derivative, which for sin(a exp(b / 10) + b) and
    # directions below one is below 200; and there are as many terms as results.
    bound = 2.0**-40 * 200 * (1 + np.size(got))
    assert abs(inner(gradient, v) - slope(loss, (a, b), v)) <= bound


@settings(deadline=None, max_examples=60)
@given(shapes, st.sampled_from(REDUCTIONS), st.data())
def test_reductions(shape: Any, f: Any, data: st.DataObject) -> None:
    axes = data.draw(
        st.none()
        | hnp.valid_tuple_axes(len(shape), min_size=1)
        | st.integers(-len(shape), len(shape) - 1)
    )
    keepdims = data.draw(st.booleans())
    x = numbers(shape, 3)
    chosen = range(len(shape)) if axes is None else np.atleast_1d(axes)
    n = int(np.prod([shape[k] for k in chosen]))
    if n == 0 and f not in (np.sum, np.prod):
        return  # NumPy warns, or refuses
    expected = f(x, axis=axes, keepdims=keepdims)
    got = tpf.record(lambda x: f(x, axis=axes, keepdims=keepdims), x)(x)
    assert np.shape(got) == np.shape(expected)
    # As many roundings as terms, of numbers below two.
    assert np.allclose(got, expected, rtol=0, atol=2.0**-51 * (1 + n))
    gradient = tpf.grad(lambda x: np.sum(f(x, axis=axes, keepdims=keepdims) ** 2))(x)
    assert gradient.shape == x.shape
    assert np.isfinite(gradient).all()


@settings(deadline=None, max_examples=60)
@given(shapes, st.data())
def test_indexing(shape: Any, data: st.DataObject) -> None:
    key = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
        | hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3))
        if 0 not in shape
        else hnp.basic_indices(shape, allow_newaxis=True)
    )
    x = numbers(shape, 4)
    got = tpf.record(lambda x: x[key] * 1.0, x)(x)
    assert np.array_equal(got, x[key] * 1.0)
    expected = np.zeros(shape)
    np.add.at(expected, key, 1.0)
    assert np.array_equal(tpf.grad(lambda x: np.sum(x[key]) + 0.0 * np.sum(x))(x), expected)

    def assigned(x: Any) -> Any:
        y = x.copy()
        y[key] = 7.0
        return y * 2.0

    assert np.array_equal(tpf.record(assigned, x)(x), assigned(x))


@settings(deadline=None, max_examples=30)
@given(shapes, st.sampled_from([np.float32, np.int32, np.int64, np.uint8, np.bool_]))
def test_other_dtypes_orders_and_strides(shape: Any, dtype: Any) -> None:
    x = (numbers(shape, 5) * 4).astype(dtype)
    for view in (x, np.asfortranarray(x), x[::-1], np.repeat(x, 2, axis=0)[::2]):
        before = view.copy()
        got = tpf.record(lambda x: np.cumsum(x * 0.5, axis=0), view)(view)
        # float32 is taken exactly, and the sums have at most four terms.
        assert np.allclose(got, np.cumsum(view * np.float64(0.5), axis=0), rtol=2.0**-50)
        assert np.array_equal(view, before)
