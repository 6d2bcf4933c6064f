"""check_tape: a tape that computes the function passes, and each kind of wrong one is named."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.ops import BY_NAME
from tapeflow.tape import Tape
from tests.strategies import tapes

ENTIRE = [BY_NAME[name] for name in ("add", "sub", "mul", "neg", "sin", "cos", "exp", "square")]


def nested(p: Any, x: Any) -> Any:
    return {"a": np.tanh(p["w"] @ x) * p["s"], "b": [np.exp(-x[0]), x]}


P = {"w": np.array([[0.3, -0.2], [0.1, 0.5]]), "s": 0.7}
X = np.array([0.4, -1.1])


def test_a_tape_of_the_function_passes() -> None:
    tape = tpf.record(nested, P, X)
    found = tpf.check_tape(tape, nested)
    assert (found.samples, found.undefined, found.outputs) == (8, 0, 8 * 5)
    assert found.derivatives == 8 * 7 * 5
    assert 0.0 <= found.value_error < 1e-12
    assert 0.0 < found.gradient_error < 1e-6
    given = tpf.check_tape(tape, nested, [(P, X), (P, X + 1.0)])
    assert (given.samples, given.outputs) == (2, 10)
    assert str(given).startswith("2 samples: 10 outputs to ")


@given(tapes(ENTIRE, longest=12), st.integers(0, 2**32 - 1))
def test_any_tape_agrees_with_itself(tape: Tape, seed: int) -> None:
    """Its own values, in place of a function: their differences are its gradients."""
    x = np.random.default_rng(seed).uniform(0.5, 1.5, tape.n_inputs).tolist()
    value, smooth = np.ravel(tape(*x)), True
    for h in (-0.2, 0.2):
        # Where it is too steep, differences are not good enough to say anything.
        smooth &= bool((np.abs(np.ravel(tape(*[a + h for a in x]))) < 1e3).all())
    if smooth and (np.abs(value) < 1e3).all():
        tpf.check_tape(tape, lambda *args: tape(*args), [tuple(x)], rtol=1e-4)


def test_samples_outside_the_domain_are_left_out() -> None:
    def root(x: Any) -> Any:
        if not isinstance(x, float) or x >= 0.0:
            return np.sqrt(x)
        raise ValueError("negative")

    tape = tpf.record(lambda x: np.sqrt(x), 1.0)
    found = tpf.check_tape(tape, root, 20)
    assert found.samples + found.undefined == 20
    assert found.undefined > 2
    assert "are outside its domain" in str(found)
    with pytest.raises(ValueError, match="no finite value, on the tape's branches, at any of 8 "):
        tpf.check_tape(tape, lambda x: np.nan)
    # What is given is not left out.
    with pytest.raises(ValueError, match="negative"):
        tpf.check_tape(tape, root, [(-1.0,)])


def test_samples_that_take_another_branch_are_left_out() -> None:
    def f(x: Any) -> Any:
        return np.exp(x) if x > 0.0 else x * x

    tape = tpf.record(f, 1.0)
    found = tpf.check_tape(tape, f, 20)
    assert found.samples + found.elsewhere == 20
    assert found.elsewhere > 2
    assert "take another branch" in str(found)
    with pytest.raises(tpf.GuardError):
        tpf.check_tape(tape, f, [(-1.0,)])
    own = tpf.check_tape(tape, lambda x: tape(x), 20)
    assert (own.samples, own.elsewhere, own.undefined) == (found.samples, found.elsewhere, 0)
    with pytest.raises(ValueError, match="on the tape's branches, at any of 3 samples"):
        tpf.check_tape(tpf.record(lambda x: x if x > 9.0 else -x, 10.0), lambda x: abs(x), 3)


def test_infinite_values_agree_and_have_no_gradients() -> None:
    tape = tpf.record(lambda x: np.log(x), 1.0)
    found = tpf.check_tape(tape, lambda x: -np.inf if x == 0.0 else np.log(x), [(0.0,), (2.0,)])
    assert (found.samples, found.derivatives) == (2, 1)
    with pytest.raises(AssertionError, match="the tape gives -inf, and <lambda> inf"):
        tpf.check_tape(tape, lambda x: np.inf, [(0.0,)])


def test_a_wrong_value_is_named() -> None:
    tape = tpf.record(nested, P, X)

    def other(p: Any, x: Any) -> Any:
        result = nested(p, x)
        shift = 1e-6 if x[0] == 3.0 else 0.0
        return {**result, "b": [result["b"][0], x + np.array([0.0, shift])]}

    tpf.check_tape(tape, other, [(P, X)])
    with pytest.raises(
        AssertionError,
        match=r"sample 1 \(.*\), result\['b'\]\[1\]\[1\]: the tape gives 1\.0, and other 1.000001: "
        "they differ by 3.3e-07 of the largest",
    ):
        tpf.check_tape(tape, other, [(P, X), (P, np.array([3.0, 1.0]))])


def test_a_wrong_gradient_is_named() -> None:
    @tpf.gate
    def square(x: Any) -> Any:
        return x * x, (2.001 * x,)

    tape = tpf.record(lambda p: {"s": square(p["b"]) * p["w"][0], "t": p["b"]}, {"w": X, "b": 2.0})
    with pytest.raises(
        AssertionError,
        match=r"sample 0 \(.*\), gradient of result\['s'\] in p\['b'\]: the tape gives 4\.002.*, "
        r"and differences 4\.0",
    ):
        tpf.check_tape(
            tape,
            lambda p: {"s": p["b"] ** 2 * p["w"][0], "t": p["b"]},
            [({"w": X * 2.5, "b": 2.0},)],
        )


def test_a_tampered_tape_is_found() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * y + x

    tape = tpf.record(f, 1.0, 1.0)
    opcodes = tape.opcodes.copy()
    opcodes[0] = BY_NAME["add"].opcode
    with pytest.raises(AssertionError, match="sample 0"):
        tpf.check_tape(replace(tape, opcodes=opcodes), f)


def test_many_inputs() -> None:
    def f(x: Any) -> Any:
        return np.sum(np.sin(x) * x)

    found = tpf.check_tape(tpf.record(f, np.ones(300)), f, 2)
    assert found.derivatives == 2 * 16


def test_it_keeps_what_forward_has_kept() -> None:
    tape = tpf.record(lambda x: x * x, 1.0)
    tape.forward(5.0)
    tpf.check_tape(tape, lambda x: x * x)
    assert tape.backward() == 10.0


TAPE = tpf.record(lambda x, y: x * y, 1.0, 1.0)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((lambda x: x, lambda x: x), TypeError, "check_tape takes a tape, not a function"),
        ((TAPE, 3.0), TypeError, "check_tape takes a function, not a float"),
        ((TAPE, min, 0), ValueError, "samples must be a number from 1 up, or tuples"),
        ((TAPE, min, True), ValueError, "samples must be a number from 1 up, or tuples"),
        ((TAPE, min, 2.5), TypeError, "samples must be a number or tuples of arguments"),
        ((TAPE, min, [1.0]), TypeError, "sample 0 is a float: give a tuple of arguments"),
        ((TAPE, min, [(1.0,)]), tpf.StructureError, "was recorded for arguments of structure"),
        ((TAPE, lambda x, y: [x], [(1.0, 2.0)]), tpf.StructureError, "another structure than the"),
        ((TAPE, min, []), ValueError, "has no finite value, on the tape"),
    ],
)
def test_wrong_calls(args: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        tpf.check_tape(*args)
