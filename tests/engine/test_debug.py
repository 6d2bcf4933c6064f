"""debug_nans and debug_infs: the first NaN or infinity: its sample, gate, line and operands."""

import pickle
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow import reference
from tests.engine.planted import CASES, Planted


def debugging(kind: str) -> Any:
    return tpf.config(block=8, **{f"debug_{kind}s": True})


def batch_of(case: Planted) -> tuple[list[Any], list[Any]]:
    """Twenty good samples, in three blocks; and the same with the bad one in place 13."""
    good = [np.stack([np.asarray(a, float)] * 20) for a in case.good]
    bad = [x.copy() for x in good]
    for x, own in zip(bad, case.bad, strict=True):
        x[13] = own
    return good, bad


def gradient(case: Planted) -> Any:
    return tpf.grad(case.function, tuple(range(len(case.good))))


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 40
    assert {(c.kind, c.sweep) for c in CASES} == {
        ("nan", "forward"), ("nan", "reverse"), ("inf", "forward"), ("inf", "reverse")
    }  # fmt: skip


def check(case: Planted, error: tpf.NonFiniteError, sample: int | None) -> None:
    assert (error.gate, error.sweep, error.sample) == (case.gate, case.sweep, sample)
    assert error.location.file == __file__.replace("test_debug", "planted")
    assert (error.location.line, error.location.function) == (case.line, str(case))
    tape = tpf.function(case.function).tape(*case.good)
    assert tape.op(error.instruction).name == case.gate
    message = str(error)
    kind = "NaN in the" if case.kind == "nan" else "infinity in the"
    assert kind in message
    assert f"{case.sweep} sweep of {case} at v{error.instruction}, gate {case.gate} " in message
    assert f"(planted.py:{case.line})" in message
    for name, value in error.operands.items():
        assert f"{name} = " in message
        assert np.all(np.isfinite(value)) or case.kind == "nan"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_found_in_one_sample(case: Planted) -> None:
    with debugging(case.kind):
        gradient(case)(*case.good)
        with pytest.raises(tpf.NonFiniteError) as caught:
            gradient(case)(*case.bad)
    check(case, caught.value, None)


@pytest.mark.parametrize("reduce", [None, "sum"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_found_in_a_batch(case: Planted, reduce: str | None) -> None:
    good, bad = batch_of(case)
    f = tpf.vmap(gradient(case), reduce=reduce)
    with debugging(case.kind):
        f(*good)
        with pytest.raises(tpf.NonFiniteError) as caught:
            f(*bad)
    check(case, caught.value, 13)


@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_the_operands_are_those_of_the_sample(case: Planted) -> None:
    """As the oracle has them."""
    tape = tpf.record(case.function, *case.bad)
    if not reference.can_run(tape):
        return
    flat = np.concatenate([np.ravel(a) for a in case.bad])
    values = reference.forward(tape, flat[:, None])[:, 0]
    by_name = {tape.slot_name(slot): values[slot] for slot in range(tape.n_slots)}
    _, bad = batch_of(case)
    with debugging(case.kind), pytest.raises(tpf.NonFiniteError) as caught:
        tpf.vmap(gradient(case))(*bad)
    for name, value in caught.value.operands.items():
        if np.ndim(value) == 0:
            assert value == by_name[name] or abs(value - float(name)) < 1e-5
            assert f"{name} = {value!r}" in str(caught.value)


def test_a_norm_at_zero_has_a_gradient() -> None:
    """No NaN is made there (docs/conventions.md), though an infinite slope is."""
    (case,) = [c for c in CASES if str(c) == "norm_at_zero"]
    with debugging("nan"):
        assert gradient(case)(np.zeros(2))[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_without_it_nothing_is_raised(case: Planted) -> None:
    _, bad = batch_of(case)
    with np.errstate(all="ignore"):
        tpf.vmap(gradient(case))(*bad)


def test_both_at_once_stop_at_the_first_of_either() -> None:
    def f(x: Any) -> Any:
        a = np.exp(x)
        return a - a * 1.0

    with tpf.config(debug_nans=True), pytest.raises(tpf.NonFiniteError, match=r"NaN .* gate sub"):
        tpf.grad(f)(1000.0)
    both = tpf.config(debug_nans=True, debug_infs=True)
    with both, pytest.raises(tpf.NonFiniteError, match=r"infinity .* gate exp"):
        tpf.grad(f)(1000.0)


def test_the_first_sample_of_several() -> None:
    x = np.linspace(2.0, 3.0, 1000)
    x[[777, 900]] = -1.0, -2.0
    with debugging("nan"), pytest.raises(tpf.NonFiniteError, match=r"sample 777: x = -1\.0"):
        tpf.vmap(tpf.grad(lambda x: np.log(x)))(x)


def test_inputs_and_seeds() -> None:
    def f(x: Any) -> Any:
        return np.sum(x * x)

    x = np.ones((20, 3))
    x[17, 1] = np.nan
    with debugging("nan"):
        with pytest.raises(tpf.NonFiniteError, match=r"NaN in the input x\[1\] of f, sample 17$"):
            tpf.vmap(tpf.grad(f))(x)
        with pytest.raises(tpf.NonFiniteError, match=r"NaN in the input x\[1\] of f$"):
            tpf.grad(f)(x[17])
        tape = tpf.record(lambda x: x * x, 1.0)
        tape.forward(2.0)
        with pytest.raises(tpf.NonFiniteError, match="NaN in the seed of <lambda>"):
            tape.backward(np.nan)
    with debugging("inf"):
        tpf.grad(f)(x[17])
        x[17, 1] = -np.inf
        with pytest.raises(tpf.NonFiniteError, match=r"minus infinity in the input x\[1\]"):
            tpf.grad(f)(x[17])


def power(x: Any) -> Any:
    return x**1.5 * 2.0


def roots(x: Any) -> Any:
    y = x * 2.0
    return np.sqrt(x) + np.sqrt(y)


@pytest.mark.parametrize(
    "call",
    [
        lambda: tpf.grad(tpf.grad(power))(0.0),
        lambda: tpf.hessian(power)(0.0),
        lambda: tpf.hvp(power, (0.0,), (1.0,)),
        lambda: tpf.vmap(tpf.grad(tpf.grad(power)))(np.array([1.0, 0.0])),
        lambda: tpf.jvp(power, (0.0,), (1.0,)) and tpf.hvp(power, (0.0,), (1.0,)),
        lambda: tpf.jacobian(tpf.grad(power))(0.0),
    ],
)
def test_derivatives_of_derivatives(call: Any) -> None:
    with debugging("inf"), pytest.raises(tpf.NonFiniteError, match="gate pow") as caught:
        call()
    assert caught.value.location.line == power.__code__.co_firstlineno + 1


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobians(mode: str) -> None:
    x = np.array([1.0, 0.0])
    with debugging("inf"), pytest.raises(tpf.NonFiniteError) as caught:
        tpf.jacobian(roots, mode=mode)(x)
    assert caught.value.location.line == roots.__code__.co_firstlineno + 2
    assert "roots" in str(caught.value)
    with (
        debugging("inf"),
        pytest.raises(tpf.NonFiniteError, match=r"reverse .* gate sqrt") as caught,
    ):
        tpf.vjp(roots, x)[1](np.ones(2))
    assert caught.value.operands == {"v0[1]": 0.0}


def test_what_a_batch_shares() -> None:
    def loss(w: Any, x: Any) -> Any:
        return np.log(w) * x

    def slopes(w: Any, x: Any) -> Any:
        return (np.sqrt(w) - np.sqrt(w * 2.0)) * x

    def arrays(w: Any, x: Any) -> Any:
        return np.sum(np.sqrt(w) - np.sqrt(w * 2.0)) * x

    x = np.ones(20)

    def mapped(f: Any) -> Any:
        return tpf.vmap(tpf.grad(f), in_axes=(None, 0), reduce="sum")

    with debugging("nan"):
        assert mapped(loss)(2.0, x) == 10.0
        with pytest.raises(
            tpf.NonFiniteError, match=r"forward sweep of loss at v0, gate log .*: w = -1"
        ):
            mapped(loss)(-1.0, x)
        with pytest.raises(tpf.NonFiniteError, match=r"NaN in the input w of loss$"):
            mapped(loss)(np.nan, x)
        with pytest.raises(tpf.NonFiniteError, match=r"reverse sweep of slopes at v0, gate sqrt"):
            mapped(slopes)(0.0, x)
        with pytest.raises(tpf.NonFiniteError, match="reverse sweep of arrays at v0, gate sqrt"):
            mapped(arrays)(np.array([1.0, 0.0]), x)


def test_single_precision() -> None:
    """Arithmetic is in float64; what does not fit single precision is found when it is stored."""
    x = np.ones(20, np.float32)
    x[13] = -1.0
    with debugging("nan"):
        with pytest.raises(tpf.NonFiniteError, match=r"gate log .*, sample 13: x = -1"):
            tpf.vmap(tpf.grad(lambda x: np.log(x)))(x)
        with pytest.raises(tpf.NonFiniteError, match=r"gate log .*: x\[13\] = -1"):
            tpf.grad(lambda x: np.sum(np.log(x)))(x)
    x[13] = 1e38

    def cube(x: Any) -> Any:
        return np.sum(x * x * 1e30)

    with debugging("inf"):
        with pytest.raises(tpf.NonFiniteError, match=r"gradient of cube, sample 13: .* float32 ov"):
            tpf.vmap(tpf.grad(cube))(x)
        with (
            np.errstate(over="ignore"),
            pytest.raises(tpf.NonFiniteError, match=r"gradient of cube: .* precision overflows"),
        ):
            tpf.grad(cube)(x)


def test_a_sum_over_the_batch_overflows() -> None:
    with (
        debugging("inf"),
        pytest.raises(tpf.NonFiniteError, match=r"value of .*the sum over"),
    ):
        tpf.vmap(lambda x: x * x, reduce="sum")(np.full(20, 1e154))


def test_summed_outer_products() -> None:
    """The gradient of weights, whose products the sweeps leave to the sum."""

    def layer(w: Any, x: Any) -> Any:
        return np.sum(np.tanh(w @ x) * 1e200)

    w, x = np.zeros((3, 2)), np.ones((20, 2))
    x[13] = 1e200
    f = tpf.vmap(tpf.grad(layer), in_axes=(None, 0), reduce="sum")
    with debugging("inf"), pytest.raises(tpf.NonFiniteError, match=r"gate matmul .*, sample 13"):
        f(w, x)


@pytest.mark.parametrize("tier", ["interpret", "fused"])
@pytest.mark.parametrize("memory", [None, 2**16])
def test_the_same_results_while_looking(tier: str, memory: int | None) -> None:
    def f(x: Any) -> Any:
        for _ in range(20):
            x = np.log(1.0 + np.exp(x)) * 0.9
        return x

    x = np.linspace(-2.0, 3.0, 1000)
    g = tpf.vmap(tpf.value_and_grad(f), reduce="sum")
    with tpf.config(tier=tier, max_memory=memory, threads=1):
        plain = g(x), tpf.value_and_grad(f)(0.5)
        with tpf.config(debug_nans=True, debug_infs=True):
            assert (g(x), tpf.value_and_grad(f)(0.5)) == plain


@pytest.mark.parametrize("case", [c for c in CASES if "user" not in str(c)], ids=str)
def test_the_oracles_reverse_sweep(case: Planted) -> None:
    """Against the sweeps of the library, at the good point: arrays among them."""
    tape = tpf.record(case.function, *case.good)
    flat = np.concatenate([np.ravel(np.asarray(a, float)) for a in case.good])
    values = reference.forward(tape, flat[:, None])
    cotangents = reference.backward(tape, values, np.ones((1, 1)))[: tape.n_inputs, 0]
    ours = np.concatenate([np.ravel(g) for g in gradient(case)(*case.good)])
    # Matrix products may be summed in another order: some rounding errors of the terms.
    np.testing.assert_allclose(cotangents, ours, rtol=1e-12, atol=1e-14)


def logs(carry: Any, x: Any) -> Any:
    y = 2.0 * carry
    return carry - x, np.log(y)


def cancelling(carry: Any, x: Any) -> Any:
    return carry * x, np.sqrt(carry) - np.sqrt(2.0 * carry)


@pytest.mark.parametrize("batch", [False, True])
def test_inside_a_loop(batch: bool) -> None:
    """The instruction of the body, and the step."""

    def f(x: Any) -> Any:
        _, ys = tpf.scan(logs, x, np.ones(5))
        return np.sum(ys)

    x = np.full(20, 9.0)
    x[13] = 2.5
    g = tpf.grad(f)
    with debugging("nan"):
        assert np.isfinite(g(9.0))
        with pytest.raises(
            tpf.NonFiniteError, match=r"forward sweep of logs at v2, gate log .*, in step 3 of scan"
        ) as caught:
            tpf.vmap(g)(x) if batch else g(2.5)
    error = caught.value
    assert error.location.line == logs.__code__.co_firstlineno + 2
    assert error.operands == {"v0": -1.0}
    assert error.sample == (13 if batch else None)


@pytest.mark.parametrize("batch", [False, True])
def test_inside_the_pullback_of_a_loop(batch: bool) -> None:
    def f(x: Any) -> Any:
        _, ys = tpf.scan(cancelling, x, np.array([1.0, 1.0, 0.0, 1.0]))
        return np.sum(ys)

    g = tpf.grad(f)
    with debugging("nan"), pytest.raises(tpf.NonFiniteError) as caught:
        tpf.vmap(g)(np.ones(20)) if batch else g(1.0)
    error = caught.value
    assert (error.sweep, error.sample) == ("reverse", 0 if batch else None)
    assert error.location.line == cancelling.__code__.co_firstlineno + 1
    # The third of four steps sets the carry to zero, whose roots the last one takes.
    assert "in step 3 of pullback of scan (test_debug.py:" in str(error)


def test_what_a_loop_keeps_to_itself() -> None:
    """A NaN that none of its results shows."""

    def step(carry: Any, x: Any) -> Any:
        return np.where(carry < 0.0, 0.0, np.sqrt(carry)) - x, None

    def f(x: Any) -> Any:
        return tpf.scan(step, x, np.ones(3))[0]

    assert np.isfinite(f(0.25))
    with debugging("nan"), pytest.raises(tpf.NonFiniteError, match="gate sqrt"):
        tpf.vmap(f)(np.array([9.0, 0.25]))


def test_inside_a_branch() -> None:
    def f(x: Any) -> Any:
        return tpf.cond(x > 0.0, lambda x: np.log(x), lambda x: np.log(x + 1.0), x)

    with debugging("nan"):
        assert tpf.vmap(f)(np.array([1.0, -0.5])).tolist() == [0.0, np.log(0.5)]
        with pytest.raises(tpf.NonFiniteError, match=r"gate log .*, sample 2: v0 = -1.0, in cond"):
            tpf.vmap(f)(np.array([1.0, -0.5, -2.0]))


def branching(x: Any) -> Any:
    if x > 0.0:
        return np.log(x - 1.0)
    return np.sqrt(x + 1.0)


@pytest.mark.parametrize("reduce", [None, "sum"])
@pytest.mark.parametrize(("bad", "line"), [(0.5, 2), (-2.0, 3)])
def test_samples_on_different_branches(bad: float, line: int, reduce: str | None) -> None:
    x = np.array([2.0, -0.5, 3.0, -0.1] * 5)
    gradient = tpf.vmap(tpf.grad(branching), reduce=reduce)
    with debugging("nan"):
        gradient(x)
        x[13] = bad
        with pytest.raises(tpf.NonFiniteError, match="sample 13") as caught:
            gradient(x)
    assert caught.value.sample == 13
    assert caught.value.location.line == branching.__code__.co_firstlineno + line


def test_an_error_goes_to_another_process_whole() -> None:
    with debugging("nan"), pytest.raises(tpf.NonFiniteError) as caught:
        tpf.vmap(tpf.grad(lambda x: np.log(x)))(np.array([1.0, -1.0]))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert (copy.sample, copy.operands, copy.location) == (1, {"x": -1.0}, caught.value.location)


@pytest.mark.parametrize("batch", [False, True])
def test_a_loop_whose_steps_differ_by_sample(batch: bool) -> None:
    """With a number that all samples share among its operands."""

    def f(x: Any) -> Any:
        return tpf.while_loop(lambda c: c[0] < 3.0, lambda c: (c[0] + 1.0, np.log(c[1])), (0.0, x))[
            1
        ]

    with debugging("nan"), pytest.raises(tpf.NonFiniteError) as caught:
        tpf.vmap(tpf.grad(f))(np.array([20.0, 1.5])) if batch else tpf.grad(f)(1.5)
    assert (caught.value.gate, caught.value.sample) == ("log", 1 if batch else None)
    assert "in step 2 of while_loop" in str(caught.value)


@tpf.custom_vjp
def half_root(x: Any) -> Any:
    return 0.5 * np.sqrt(x)


half_root.defvjp(lambda x: (half_root(x), x), lambda x, flowing: (0.25 * flowing / np.sqrt(x),))


@pytest.mark.parametrize("batch", [False, True])
def test_derivatives_of_the_users_own(batch: bool) -> None:
    def f(x: Any) -> Any:
        return np.sum(half_root(x) - np.sqrt(x * 2.0))

    gradient = tpf.grad(f)
    with debugging("nan"):
        assert np.isfinite(gradient(np.array([1.0, 2.0]))).all()
        with pytest.raises(tpf.NonFiniteError) as caught:
            if batch:
                tpf.vmap(gradient)(np.array([[1.0, 2.0], [1.0, 0.0]]))
            else:
                gradient(np.array([1.0, 0.0]))
    assert (caught.value.sweep, caught.value.sample) == ("reverse", 1 if batch else None)
    assert caught.value.location.line == f.__code__.co_firstlineno + 1
