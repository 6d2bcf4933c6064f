"""custom_vjp and custom_jvp: a right rule changes nothing, and another is what counts."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import optree
import pytest

import tapeflow as tpf
from tapeflow.errors import StructureError, TapeError, TracingError


def plain(p: Any, y: Any) -> Any:
    a = np.tanh(p["w"] * y)
    return {"a": a, "s": (np.sum(a) * p["b"], p["b"])}


def by_vjp() -> Any:
    f = tpf.custom_vjp(plain)

    def fwd(p: Any, y: Any) -> Any:
        value = f(p, y)
        return value, {"p": p, "y": y, "a": value["a"], "note": "not a number"}

    def bwd(r: Any, g: Any) -> Any:
        p, y, a = r["p"], r["y"], r["a"]
        inner = (g["a"] + g["s"][0] * p["b"]) * (1.0 - a * a)
        return {"w": inner * y, "b": g["s"][0] * np.sum(a) + g["s"][1]}, inner * p["w"]

    f.defvjp(fwd, bwd)
    return f


def by_jvp() -> Any:
    f = tpf.custom_jvp(plain)

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (p, y), (dp, dy) = primals, tangents
        value = f(p, y)
        a = value["a"]
        da = (1.0 - a * a) * (dp["w"] * y + p["w"] * dy)
        return value, {"a": da, "s": (np.sum(da) * p["b"] + np.sum(a) * dp["b"], dp["b"])}

    return f


def loss(f: Any) -> Any:
    def total(p: Any, y: Any) -> Any:
        out = f({"w": p["w"] * 2.0, "b": p["b"]}, np.sin(y))
        return np.sum(out["a"] ** 2) * out["s"][0] + out["s"][1] ** 3

    return total


P = {"w": np.array([0.3, -0.7, 1.1]), "b": 0.4}
Y = np.array([1.0, 0.5, -2.0])
TANGENT = ({"w": np.array([1.0, 0.2, -0.3]), "b": 0.5}, np.array([0.1, -1.0, 0.6]))


def batched(transform: Callable[[Any], Any], reduce: str | None) -> Callable[[Any], Any]:
    ys = np.random.default_rng(0).standard_normal((20, 3))
    return lambda f: tpf.vmap(transform(f), (None, 0), reduce=reduce)(P, ys)


both = (0, 1)
USES: dict[str, Callable[[Any], Any]] = {
    "value": lambda f: f(P, Y),
    "recorded": lambda f: tpf.function(f)(P, Y),
    "grad": lambda f: tpf.grad(f, both)(P, Y),
    "value_and_grad": lambda f: tpf.value_and_grad(tpf.function(f), -1)(P, Y),
    "jacobian forward": lambda f: tpf.jacobian(f, both, mode="forward")(P, Y),
    "jacobian reverse": lambda f: tpf.jacobian(f, both, mode="reverse")(P, Y),
    "jvp": lambda f: tpf.jvp(f, (P, Y), TANGENT),
    "vjp": lambda f: tpf.vjp(f, P, Y)[1](2.0),
    "linearize": lambda f: tpf.linearize(f, P, Y)[1](*TANGENT),
    "hvp": lambda f: tpf.hvp(f, (P, Y), TANGENT),
    "hessian": lambda f: tpf.hessian(f, both)(P, Y),
    "forward over reverse": lambda f: tpf.jvp(tpf.grad(f, both), (P, Y), TANGENT),
    "reverse over forward": lambda f: tpf.grad(lambda p: tpf.jvp(f, (p, Y), TANGENT)[1])(P),
    "third derivative": lambda f: tpf.jacobian(tpf.hessian(f, 1), 1)(P, Y),
    "gradient of a gradient": lambda f: tpf.grad(lambda y: np.sum(tpf.grad(f, 1)(P, y) ** 2))(Y),
    "forward and backward": lambda f: (
        (tape := tpf.record(f, P, Y)).forward(P, Y),
        tape.backward(2.0),
    ),
    "tape.value_and_grad": lambda f: tpf.record(f, P, Y).value_and_grad(P, Y),
    "batch": batched(lambda f: f, None),
    "batch of gradients": batched(lambda f: tpf.value_and_grad(f, both), None),
    "sum of gradients": batched(lambda f: tpf.grad(f, both), "sum"),
    "mean of gradients": batched(lambda f: tpf.value_and_grad(f), "mean"),
    "batch of hessians": batched(lambda f: tpf.hessian(f, 1), None),
    "mean of products": batched(lambda f: lambda p, y: tpf.hvp(f, (p, y), TANGENT), "mean"),
}


def assert_close(a: Any, b: Any) -> None:
    a, b = optree.tree_leaves(a), optree.tree_leaves(b)
    scale = max(np.abs(x).max() for x in b)
    for x, y in zip(a, b, strict=True):
        assert np.shape(x) == np.shape(y)
        # The same sums of some hundred products in another order, relative to the largest term.
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13 * scale)


@pytest.mark.parametrize("make", [by_vjp, by_jvp])
@pytest.mark.parametrize("use", USES)
def test_a_right_rule_changes_nothing(make: Any, use: str) -> None:
    assert_close(USES[use](loss(make())), USES[use](loss(plain)))


def scalar_by_vjp(factor: float) -> Any:
    f = tpf.custom_vjp(lambda x: np.sin(x))
    f.defvjp(lambda x: (f(x), x), lambda x, g: (factor * np.cos(x) * g,))
    return f


def scalar_by_jvp(factor: float) -> Any:
    f = tpf.custom_jvp(lambda x: np.sin(x))
    f.defjvp(lambda p, t: (f(*p), factor * np.cos(p[0]) * t[0]))
    return f


@pytest.mark.parametrize("make", [scalar_by_vjp, scalar_by_jvp])
def test_the_rule_is_what_counts_in_every_order_and_way(make: Any) -> None:
    """A rule that is twice the derivative: each way of asking for one shows the factor."""
    f, x = make(2.0), 0.7
    first, second = 2.0 * np.cos(x), -2.0 * np.sin(x)
    xs = np.array([0.1, x, -0.4])
    ways = {
        "grad": tpf.grad(f)(x),
        "jvp": tpf.jvp(f, (x,), (1.0,))[1],
        "jacobian": tpf.jacobian(f)(x),
        "vmap": tpf.vmap(tpf.grad(f))(xs)[1],
        "shared": tpf.vmap(tpf.grad(lambda w, y: f(w) * y), (None, 0), reduce="sum")(x, xs / xs),
        "inside": tpf.function(lambda x: tpf.grad(f)(x))(x),
        "closed over": tpf.grad(lambda a: tpf.grad(lambda y: y * f(a))(1.0))(x),
    }
    ways["shared"] /= 3.0
    for way, got in ways.items():
        assert got == pytest.approx(first, rel=1e-15), way
    ways = {
        "grad of grad": tpf.grad(tpf.grad(f))(x),
        "forward over reverse": tpf.jvp(tpf.grad(f), (x,), (1.0,))[1],
        "hessian": tpf.hessian(f)(x),
        "hvp": tpf.hvp(f, (x,), (1.0,)),
        "vmap": tpf.vmap(tpf.hessian(f))(xs)[1],
    }
    for way, got in ways.items():
        assert got == pytest.approx(second, rel=1e-15), way
    tape = tpf.record(lambda x: f(x) * 1.0, 1.0)
    native = tape.njit()
    gradient = np.empty(1)
    assert native.value_and_grad(np.array([x]), gradient) == pytest.approx(np.sin(x), rel=1e-15)
    assert gradient[0] == pytest.approx(first, rel=1e-15)
    assert native.value(np.array([x])) == pytest.approx(np.sin(x), rel=1e-15)


def test_a_gradient_of_higher_order_is_that_of_the_gradient() -> None:
    """Clipping: beyond the bounds the gradient is constant, within it is 2 x, of derivative 2."""

    @partial(tpf.custom_vjp, nondiff_argnums=(0, 1))
    def clipped(low: float, high: float, x: Any) -> Any:
        return x

    def bwd(low: float, high: float, _: Any, g: Any) -> Any:
        return (np.clip(g, low, high),)

    clipped.defvjp(lambda low, high, x: (x, None), bwd)
    f = tpf.grad(lambda x: clipped(-1.0, 1.0, x) ** 2)
    assert [f(0.2), f(5.0), f(-5.0)] == [0.4, 1.0, -1.0]
    assert [tpf.grad(f)(0.2), tpf.grad(f)(5.0)] == [2.0, 0.0]


def test_a_stable_rule_for_an_unstable_function() -> None:
    @tpf.custom_jvp
    def log1pexp(x: Any) -> Any:
        return np.log(1.0 + np.exp(x))

    log1pexp.defjvp(lambda p, t: (log1pexp(*p), t[0] * (1.0 - 1.0 / (1.0 + np.exp(p[0])))))
    assert tpf.grad(log1pexp)(1000.0) == 1.0
    s = 1.0 / (1.0 + np.exp(-3.0))
    assert tpf.grad(tpf.grad(log1pexp))(3.0) == pytest.approx(s * (1 - s), rel=1e-14)
    third = tpf.grad(tpf.grad(tpf.grad(log1pexp)))(3.0)
    assert third == pytest.approx(s * (1 - s) * (1 - 2 * s), rel=1e-13)


def test_functions_among_the_arguments() -> None:
    @partial(tpf.custom_jvp, nondiff_argnums=(0,))
    def apply(f: Any, x: Any) -> Any:
        return f(x)

    apply.defjvp(lambda f, p, t: (f(*p), 2.0 * t[0]))
    assert tpf.grad(lambda x: apply(lambda y: y**3, x))(3.0) == 2.0
    assert apply(lambda y: y**3, 2.0) == 8.0


def test_a_rule_for_each_argument() -> None:
    @tpf.custom_jvp
    def f(x: Any, y: Any) -> Any:
        return x * y

    f.defjvps(lambda t, value, x, y: 10.0 * y * t, None)
    assert tpf.grad(f, (0, 1))(2.0, 3.0) == (30.0, 0.0)
    f.defjvps(lambda t, value, x, y: t * y, lambda t, value, x, y: t * value / y)
    assert tpf.grad(f, (0, 1))(2.0, 3.0) == (3.0, 2.0)
    f.defjvps(None, None)
    assert tpf.grad(f, (0, 1))(2.0, 3.0) == (0.0, 0.0)


def test_arguments_by_name_defaults_and_plain_ones() -> None:
    @tpf.custom_vjp
    def f(x: Any, y: Any = 2.0) -> Any:
        return x * y

    f.defvjp(lambda x, y: (x * y, (x, y)), lambda r, g: (g * r[1], g * r[0]))
    assert tpf.grad(lambda x: f(x=x) + f(x, y=x) + f(3.0, x))(3.0) == 2.0 + 6.0 + 3.0
    assert f(3.0) == 6.0
    with pytest.raises(TypeError, match="cannot call f: too many positional arguments"):
        f(1.0, 2.0, 3.0)
    with pytest.raises(TypeError, match="takes k by name alone"):
        tpf.custom_vjp(lambda x, *, k=1.0: x * k)(2.0)


def test_views_of_an_array() -> None:
    @tpf.custom_vjp
    def f(x: Any) -> Any:
        return np.sum(x**2)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (3.0 * g * x,))
    x = np.arange(4.0)
    got = tpf.grad(lambda x: f(x[::2]) + f(x.reshape(2, 2).T))(x)
    assert got.tolist() == [0.0, 3.0, 12.0, 9.0]


def test_what_the_function_does_in_place_is_its_own() -> None:
    @tpf.custom_vjp
    def f(x: Any) -> Any:
        x[0] = 5.0
        return np.sum(x)

    f.defvjp(lambda x: (f(x), None), lambda _, g: (g * np.ones(3),))
    assert tpf.grad(lambda x: f(x) * x[0])(np.array([2.0, 1.0, 1.0])).tolist() == [9.0, 2.0, 2.0]


def test_a_rule_is_recorded_again_when_what_it_closes_over_is_bound_anew() -> None:
    factor = 1.0
    f = tpf.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (x * 1.0, None), lambda _, g: (factor * g,))
    gradient = tpf.grad(lambda x: f(x))
    assert gradient(1.0) == 1.0
    factor = 7.0
    assert gradient(1.0) == 7.0


def test_instructions_of_a_rule_have_its_lines() -> None:
    f = scalar_by_vjp(2.0)
    tape = tpf.record(tpf.grad(lambda x: f(x) * x), 1.0)
    lines = {tape.source(i).line for i in range(len(tape))}
    assert scalar_by_vjp.__code__.co_firstlineno + 2 in lines


def test_undefined_and_wrong_rules() -> None:
    with pytest.raises(TypeError, match=r"tpf\.custom_vjp takes a function, not a int"):
        tpf.custom_vjp(3)
    for make, define in ((tpf.custom_vjp, "defvjp"), (tpf.custom_jvp, "defjvp")):

        def f(x: Any, y: Any) -> Any:
            return x * y

        undefined = make(f)
        assert undefined(2.0, 3.0) == 6.0
        with pytest.raises(TypeError, match=rf"f has no rule yet: define one by f\.{define}"):
            tpf.grad(undefined)(2.0, 3.0)
    with pytest.raises(TypeError, match="defvjp takes two functions, fwd and bwd, not a float"):
        tpf.custom_vjp(f).defvjp(f, 1.0)
    with pytest.raises(TypeError, match="defjvp takes a function, not a float"):
        tpf.custom_jvp(f).defjvp(1.0)
    with pytest.raises(TypeError, match="f has 2 arguments, and 1 rules by defjvps"):
        rules = tpf.custom_jvp(f)
        rules.defjvps(None)
        tpf.grad(rules)(2.0, 3.0)
    with pytest.raises(TypeError, match="defjvps takes no nondiff_argnums"):
        tpf.custom_jvp(f, nondiff_argnums=0).defjvps(None)


@pytest.mark.parametrize(
    ("fwd", "bwd", "message"),
    [
        (lambda x, y: x, None, "fwd of f must return a pair, .*, not a traced value"),
        (lambda x, y: (np.stack([x, y]), None), None, r"the value as number, not array\(2,\)"),
        (None, lambda r, g: (g,), "a cotangent for each of 2 arguments, not a tuple of 1"),
        (None, lambda r, g: g, "a cotangent for each of 2 arguments, not a traced value"),
        (
            None,
            lambda r, g: (g, [g]),
            r"bwd of f must return cotangent 1 as number, not \[number\]",
        ),
    ],
)
def test_wrong_results_of_a_vjp_rule(fwd: Any, bwd: Any, message: str) -> None:
    def f(x: Any, y: Any) -> Any:
        return x * y

    custom = tpf.custom_vjp(f)
    custom.defvjp(fwd or (lambda x, y: (x * y, None)), bwd or (lambda r, g: (g, g)))
    with pytest.raises(StructureError, match=message):
        tpf.grad(custom)(2.0, 3.0)


@pytest.mark.parametrize(
    ("jvp", "message"),
    [
        (lambda p, t: p[0], "jvp of f must return a pair, .*, not a traced value"),
        (lambda p, t: ([p[0]], t[0]), r"jvp of f must return the value as number, not \[number\]"),
        (lambda p, t: (p[0], t), r"the tangent as number, not \(number,\)"),
        (lambda p, t: (p[0], np.cos(p[0])), "multiply each partial by its tangent"),
        (lambda p, t: (p[0], t[0] * t[0]), "not linear in the tangents: multiply each partial"),
        (lambda p, t: (p[0], t[0] * p[0] + np.abs(t[0])), "not linear in the tangents"),
    ],
)
def test_wrong_results_of_a_jvp_rule(jvp: Any, message: str) -> None:
    def f(x: Any) -> Any:
        return np.sin(x)

    custom = tpf.custom_jvp(f)
    custom.defjvp(jvp)
    with pytest.raises(StructureError, match=message):
        tpf.grad(custom)(2.0)


def test_closing_over_a_traced_value_is_refused() -> None:
    def closing(a: Any, nested: bool) -> Any:
        @tpf.custom_vjp
        def f(x: Any) -> Any:
            return a * x

        f.defvjp(lambda x: (a * x, None), lambda _, g: (g,))
        return tpf.grad(f)(2.0) if nested else f(a * 1.0)

    for nested in (False, True):
        message = r"f uses a traced value that is no argument of it \(.*:\d+\): pass it"
        with pytest.raises(TracingError, match=message):
            tpf.grad(lambda a, nested=nested: closing(a, nested))(3.0)

    def returning(a: Any) -> Any:
        f = tpf.custom_vjp(lambda x: a)
        f.defvjp(lambda x: (a, None), lambda _, g: (g,))
        return f(2.0)

    with pytest.raises(TracingError, match="uses a traced value that is no argument"):
        tpf.grad(returning)(3.0)

    def in_the_rule(a: Any) -> Any:
        f = tpf.custom_jvp(lambda x: x * x)
        f.defjvp(lambda p, t: (p[0], a * t[0]))
        return f(a)

    with pytest.raises(TracingError, match="after its recording has ended"):
        tpf.grad(in_the_rule)(3.0)

    def in_nondiff(a: Any) -> Any:
        f = tpf.custom_vjp(lambda x, y: x * y, nondiff_argnums=0)
        f.defvjp(lambda x, y: (x * y, None), lambda x, _, g: (g,))
        return f(a, a)

    with pytest.raises(TracingError, match=r"argument 0 of <lambda> is traced .*: take it out of"):
        tpf.grad(in_nondiff)(3.0)
    with pytest.raises(StructureError, match="nondiff_argnums=2 is out of range: <lambda> was"):
        tpf.custom_vjp(lambda x, y: x * y, nondiff_argnums=2)(1.0, 2.0)


def test_a_file_does_not_hold_a_rule(tmp_path: Any) -> None:
    f = scalar_by_vjp(2.0)
    with pytest.raises(TapeError, match="a file cannot hold custom_vjp:<lambda>, which"):
        tpf.record(lambda x: f(x), 1.0).save(tmp_path / "f.tape")
    f.defvjp(lambda x: (np.sin(x), x), lambda x, g: (2.0 * np.cos(x) * g,))
    tpf.record(tpf.grad(lambda x: f(x) * 1.0), 1.0).save(tmp_path / "g.tape")
    assert tpf.load(tmp_path / "g.tape")(0.5) == 2.0 * np.cos(0.5)


@pytest.mark.parametrize("make", [scalar_by_vjp, scalar_by_jvp])
def test_rules_beside_branches_and_in_loops(make: Any) -> None:
    f = make(2.0)

    def branching(x: Any) -> Any:
        if x > 0.2:
            y = f(x)
            return 2.0 * y if y > 0.6 else y
        return 3.0 * x

    xs = np.array([0.1, 0.5, 0.7, -1.0])
    first = [3.0, 2.0 * np.cos(0.5), 4.0 * np.cos(0.7), 3.0]
    second = [0.0, -2.0 * np.sin(0.5), -4.0 * np.sin(0.7), 0.0]
    for order in (xs, xs[::-1]):
        turn = slice(None) if order is xs else slice(None, None, -1)
        found = tpf.vmap(tpf.grad(branching))(order)
        np.testing.assert_allclose(found, first[turn], rtol=1e-15)
        found = tpf.vmap(tpf.hessian(branching))(order)
        np.testing.assert_allclose(found, second[turn], rtol=1e-15)
    gradient = tpf.grad(branching)
    np.testing.assert_allclose([gradient(x) for x in xs.tolist()], first, rtol=1e-15)

    def loop(x: Any) -> Any:
        return tpf.fori_loop(0, 3, lambda i, c: f(c) + x, x)

    def unrolled(x: Any) -> Any:
        c = x
        for _ in range(3):
            c = f(c) + x
        return c

    for transform in (tpf.grad, tpf.hessian, lambda g: lambda x: tpf.vmap(tpf.grad(g))(xs)):
        np.testing.assert_allclose(transform(loop)(0.3), transform(unrolled)(0.3), rtol=1e-13)


def test_a_branch_in_a_rule_is_refused() -> None:
    f = tpf.custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (x * x, x), lambda x, g: (2.0 * x * g if x > 0 else g,))
    with pytest.raises(TracingError, match=r"decide on a traced value in a rule .* use tpf\.where"):
        tpf.grad(lambda x: f(x))(2.0)


def test_a_rule_that_asks_other_derivatives() -> None:
    """Linear by way of jvp, grad and where: none is taken for what is not linear."""

    def g(x: Any) -> Any:
        return np.sum(np.exp(x) * x[0])

    f = tpf.custom_jvp(g)
    rules = [
        lambda p, t: tpf.jvp(g, p, t),
        lambda p, t: (g(*p), np.sum(tpf.grad(g)(*p) * t[0])),
        lambda p, t: (g(*p), tpf.grad(g)(*p) @ np.where(p[0] > -9.0, t[0], 0.0)),
        lambda p, t: (g(*p), tpf.vjp(g, *p)[1](1.0)[0] @ t[0] / 1.0),
    ]
    x = np.array([0.3, -0.4])
    for rule in rules:
        f.defjvp(rule)
        np.testing.assert_allclose(tpf.grad(f)(x), tpf.grad(g)(x), rtol=1e-14)
        np.testing.assert_allclose(tpf.hessian(f)(x), tpf.hessian(g)(x), rtol=1e-14)


def test_a_plain_argument_is_taken_as_it_was() -> None:
    f = tpf.custom_vjp(lambda x, w: np.sum(x * w))
    f.defvjp(lambda x, w: (f(x, w), (x, w)), lambda r, g: (g * r[1], None))
    w = np.array([2.0, 3.0])
    gradient = tpf.grad(lambda x: f(x, w))
    tape = tpf.record(lambda x: f(x, w), np.ones(2))
    w[:] = 100.0
    assert tape.value_and_grad(np.ones(2))[1].tolist() == [2.0, 3.0]
    assert gradient(np.ones(2)).tolist() == [100.0, 100.0]


@pytest.mark.parametrize("kind", ["vjp", "jvp"])
def test_nothing_flows_back_through_a_rule_that_nothing_flows_into(kind: str) -> None:
    """Whatever the rule makes of zero, and to the second order."""
    log = (tpf.custom_vjp if kind == "vjp" else tpf.custom_jvp)(lambda x: np.log(x))
    if kind == "vjp":
        log.defvjp(lambda x: (np.log(x), x), lambda x, g: (g / x,))
    else:
        log.defjvp(lambda primals, tangents: (np.log(primals[0]), tangents[0] / primals[0]))

    def of_number(x: Any) -> Any:
        return tpf.where(x > 0.0, log(x), 0.0)

    def of_array(x: Any) -> Any:
        return np.sum(np.where(np.max(x) > 0.0, log(x), 0.0))

    for f, zero, two, second in (
        (of_number, 0.0, 2.0, -0.25),
        (of_array, np.zeros(2), np.full(2, 2.0), np.diag([-0.25, -0.25])),
    ):
        assert np.all(tpf.grad(f)(zero) == 0.0) and np.all(tpf.hessian(f)(zero) == 0.0)
        assert np.all(tpf.jacobian(f, mode="forward")(zero) == 0.0)
        assert np.array_equal(tpf.hessian(f)(two), second)
        points = np.stack([zero, two])
        assert np.array_equal(tpf.vmap(tpf.hessian(f))(points)[1], second)
        assert not np.any(tpf.vmap(tpf.hessian(f))(points)[0])
    # What flows into the rule is zero at 1, and counts.
    assert tpf.hessian(lambda x: log(x) ** 2)(1.0) == 2.0
