"""An absolute zero in whole arrays: where nothing flows, infinite and NaN numbers change nothing.

Some results get no cotangent. What they alone depend on is made infinite or NaN; then every
derivative is what it was before, and zero in those numbers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.arrays import RULES, ZeroRule
from tapeflow.arrays.base import call
from tests.engine.test_array_kernels import CASES
from tests.numpy_api.cases import CASES as FUNCTIONS
from tests.sparsity.test_patterns import MORE, well_conditioned

FILLS = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}

_OTHERS = [("eig", (2, 3)), ("amax", (3, 4, 2)), ("amin", (3, 4, 2)), ("cholesky", (2, 3))]

SMALL = [
    (name, p)
    for name, p in (*CASES, *MORE, *_OTHERS)
    if sum(RULES[name].sizes(p)[0]) < 150 and not issubclass(RULES[name], ZeroRule)
]


def operands_of(name: str, p: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(0)
    return [well_conditioned(name, p, n, rng) for n in RULES[name].sizes(p)[0]]


class Dead:
    """An op at a point, with results that get no cotangent, and what they alone depend on."""

    def __init__(self, name: str, p: tuple[int, ...]) -> None:
        self.name, self.p = name, p
        self.operands = operands_of(name, p)
        pattern = tpf.sparsity.jacobian_pattern(
            self.op, *self.operands, argnums=range(len(self.operands))
        ).toarray()
        # The second half of the results is dead: the last matrices of a stack.
        size = pattern.shape[0]
        self.live = np.arange(size) < (size + 1) // 2
        if name in ("slogdet", "qr", "eigh", "eig", "svd"):
            stack = p[0]
            self.live = np.zeros(size, bool)
            for part in self.parts():
                self.live[part[: len(part) // stack]] = True
        reached = (pattern[self.live] != 0).any(axis=0)
        cuts = np.cumsum([len(x) for x in self.operands])[:-1]
        self.untouched = [~own for own in np.split(reached, cuts)]
        # What is not differentiated in stays: indices, and the value that has a gradient.
        if name in ("take_at", "put_at", "log_of_sum"):
            self.untouched[1][:] = False

    def parts(self) -> Iterator[Any]:
        """The places of each part of the result, matrix after matrix."""
        batch, *sides = self.p
        m, n = sides if len(sides) == 2 else sides * 2
        k = min(m, n)
        sizes = {
            "slogdet": (1, 1), "qr": (m * n, n * n), "eigh": (n, n * n), "eig": (n, n * n),
            "svd": (m * k, k, k * n),
        }[self.name]  # fmt: skip
        first = 0
        for size in sizes:
            yield np.arange(first, first + batch * size)
            first += batch * size

    def op(self, *operands: Any) -> Any:
        return call(self.name, self.p, *operands)

    def loss(self, *operands: Any) -> Any:
        return np.sum(self.op(*operands) ** 2 * np.where(self.live, 0.7, 0.0))

    def filled(self, fill: float) -> list[Any]:
        return [
            np.where(dead, fill, x) for x, dead in zip(self.operands, self.untouched, strict=True)
        ]


def check(found: Any, expected: Any, untouched: Any) -> None:
    """Equal where it is of use, up to the roundings of sums in another order; else zero."""
    for own, clean, dead in zip(found, expected, untouched, strict=True):
        assert (own[..., dead] == 0.0).all()
        np.testing.assert_allclose(own[..., ~dead], clean[..., ~dead], rtol=1e-12, atol=1e-12)


def every(operands: Any) -> tuple[int, ...]:
    return tuple(range(len(operands)))


ORDERS: dict[str, Callable[[Dead, Any], Any]] = {
    "vjp": lambda own, x: tpf.vjp(own.op, *x)[1](np.where(own.live, 1.3, 0.0)),
    "grad": lambda own, x: tpf.grad(own.loss, every(x))(*x),
    "forward": lambda own, x: tpf.jacobian(own.loss, every(x), mode="forward")(*x),
    "batch": lambda own, x: [
        g[1]
        for g in tpf.vmap(tpf.grad(own.loss, every(x)))(
            *(np.stack([a, b]) for a, b in zip(own.operands, x, strict=True))
        )
    ],
    "forward over reverse": lambda own, x: as_tuple(tpf.hvp(own.loss, x, along(x))),
    "reverse over reverse": lambda own, x: tpf.grad(
        lambda *y: sum(
            np.sum(g * v) for g, v in zip(tpf.grad(own.loss, every(y))(*y), along(x), strict=True)
        ),
        every(x),
    )(*x),
}


def as_tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def along(operands: Any) -> tuple[Any, ...]:
    rng = np.random.default_rng(1)
    return tuple(rng.standard_normal(len(x)) for x in operands)


@pytest.mark.parametrize(("name", "p"), SMALL, ids=str)
def test_every_op(name: str, p: tuple[int, ...]) -> None:
    own = Dead(name, p)
    if not any(dead.any() for dead in own.untouched):
        return  # one group of numbers, which depend on each other
    for how, derivative in ORDERS.items():
        expected = derivative(own, own.operands)
        for fill in FILLS.values():
            with np.errstate(all="ignore"):
                found = derivative(own, own.filled(fill))
            try:
                check(found, expected, own.untouched)
            except AssertionError as error:
                raise AssertionError(f"{how}, {fill}: {error}") from None


def test_the_ops_are_all_there() -> None:
    """And each has a case in which some numbers are of no use."""
    found = {name for name, p in SMALL if any(d.any() for d in Dead(name, p).untouched)}
    differentiable = {name for name, rule in RULES.items() if not issubclass(rule, ZeroRule)}
    assert found == differentiable


# Whole functions of NumPy.


def of_two(f: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """A function at two points, the second of which is multiplied by zeros."""

    def loss(first: Any, second: Any) -> Any:
        result = f(*second)
        return np.sum(np.sin(f(*first))) + np.sum(np.sin(result) * np.zeros(np.shape(result)))

    return loss


_SOME = {
    "max 1 False", "std 0 True", "median (0, 2) False", "prod -1 True", "cumprod", "sort", "where",
    "logaddexp reduce", "norm axis", "matrix norm nuc", "matmul stack", "einsum", "solve stack",
    "cholesky", "svd vectors", "pinv wide", "lstsq", "percentile", "interp", "take traced",
}  # fmt: skip
"""Of the functions, those that are looked at each time."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in _SOME else pytest.mark.exhaustive)
        for name in FUNCTIONS
    ],
)
def test_functions_of_numpy(name: str) -> None:
    """All of the second point's numbers are NaN or infinite, or one of them is."""
    f, args = FUNCTIONS[name]
    loss, args = of_two(f), tuple(np.asarray(arg, float) for arg in args)
    rng = np.random.default_rng(0)
    v = tuple(rng.standard_normal(arg.shape) for arg in args)
    gradient = tpf.grad(loss, (0, 1))
    product = tpf.function(lambda a, b, va, vb: tpf.hvp(loss, (a, b), (va, vb)))
    slope = tpf.function(lambda a, b, va, vb: tpf.jvp(loss, (a, b), (va, vb))[1])
    expected, second = gradient(args, args)[0], product(args, args, v, v)[0]
    along = slope(args, args, v, v)
    for fill in FILLS.values():
        one = tuple(arg.copy() for arg in args)
        one[0].flat[0] = fill
        for point in (tuple(np.full_like(arg, fill) for arg in args), one):
            for found, clean in (
                (gradient(args, point), expected),
                (product(args, point, v, v), second),
            ):
                assert all(map(np.array_equal, found[0], clean))
                assert not any(np.any(part) for part in found[1])
            assert slope(args, point, v, v) == along
