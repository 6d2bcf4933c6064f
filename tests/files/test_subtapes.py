"""Loops and branches are saved with the tapes that they carry, and verified when they come back."""

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.arrays.base import SubTapes
from tapeflow.files.subtapes import KINDS
from tapeflow.tape import Tape
from tapeflow.transforms import pullback
from tests.files.crafted import craft, parts, written
from tests.strategies import identical


def saved(tape: Tape) -> bytes:
    file = io.BytesIO()
    tape.save(file)
    return file.getvalue()


def scanned(x: Any, w: Any) -> Any:
    def body(carry: Any, x: Any) -> Any:
        carry = tpf.cond(carry > 0.3, lambda c: c * x, lambda c: c + w[0], carry)
        return carry, np.sin(carry * x)

    last, ys = tpf.scan(body, 0.5, x)
    return last + np.sum(ys) * w[1]


def searched(x: Any, w: Any) -> Any:
    root = tpf.while_loop(
        lambda r: abs(r * r - w[0]) > 1e-9, lambda r: 0.5 * (r + w[0] / r), 1.0 + x[0] * x[0]
    )
    nested = tpf.fori_loop(0, 3, lambda i, c: tpf.fori_loop(0, 2, lambda j, d: d * root, c), x)
    return np.sum(nested) + tpf.switch(x[1], [np.sin, np.cos], root)


ARGS = np.array([0.3, 0.6, -0.2]), np.array([2.0, 0.7])
TAPES = {
    f"{f.__name__}, {kind}": tpf.function(made).tape(*ARGS)
    for f in (scanned, searched)
    for kind, made in {"value": f, "gradient": tpf.grad(f), "second": tpf.hessian(f)}.items()
}


@pytest.mark.parametrize("name", TAPES)
def test_what_is_loaded_is_what_was_saved(name: str) -> None:
    tape = TAPES[name]
    data = saved(tape)
    again = tpf.load(io.BytesIO(data))
    assert saved(again) == data
    assert saved(pickle.loads(pickle.dumps(tape))) == data
    assert identical(again(*ARGS), tape(*ARGS))


def test_the_gradient_of_a_loaded_loop() -> None:
    again = tpf.load(io.BytesIO(saved(tpf.record(scanned, *ARGS))))
    _, (dx, dw) = again.value_and_grad(*ARGS)
    expected = tpf.grad(scanned, (0, 1))(*ARGS)
    assert identical(dx, expected[0])
    assert identical(dw, expected[1])


def test_the_format_knows_all_that_carries_tapes() -> None:
    assert set(SubTapes.__subclasses__()) == set(KINDS.values())


def loops(header: Any) -> list[tuple[Any, str, Any]]:
    """Each loop and branch of a header: the entry of it, its kind and its contents."""
    gates = [gate for tape in header["tapes"] for gate in tape["fields"]["gates"]]
    return [(gate, kind, own) for gate in gates for kind, own in gate.items()]


def changes(value: Any) -> list[Any]:
    """What a part of a loop may become, wrongly."""
    if value is None or type(value) is bool:
        return [not value, 0, 10**6]
    if type(value) is int:
        return [value + 1, value - 1, -1, 0, 2**31, 2**70, "1", 1.5, None]
    if type(value) is str:
        return ["", "index", "carry", "const", "stream", "x", "y", "go", 3, None]
    if type(value) is dict:
        return [{**value, "more": 0}, {}, [], None]
    shorter = [value[1:], value[:-1]] if value else []
    return [*shorter, [*value, *(value[-1:] or [0])], value[::-1], {}, None]


def places(value: Any) -> list[tuple[Any, Any]]:
    """All containers in a value, with each key or index."""
    keys = value if type(value) is dict else range(len(value)) if type(value) is list else ()
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def spots(header: Any) -> list[tuple[Any, Any]]:
    return [place for _, _, own in loops(header) for place in places(own)]


EXHAUSTIVE = pytest.mark.exhaustive


@pytest.mark.parametrize(
    ("name", "share"),
    [(name, 40) for name in TAPES] + [pytest.param(name, 1, marks=EXHAUSTIVE) for name in TAPES],
)
def test_no_part_of_a_loop_can_be_another(name: str, share: int) -> None:
    """Refused in a sentence; or it holds together, and is saved again as it is.

    share: one of so many changes is tried.
    """
    header, arrays = parts(saved(TAPES[name]))
    refused, tried = 0, 0
    for k, (where, key) in enumerate(spots(header)):
        for j in range(k % share, len(changes(where[key])), share):
            tried += 1
            other = copy.deepcopy(header)
            target, own = spots(other)[k]
            target[own] = changes(target[own])[j]
            data = written(other, arrays)
            try:
                again = tpf.load(io.BytesIO(data), max_bytes=2**24)
            except tpf.TapeError as error:
                refused += 1
                assert "\n" not in str(error)
            else:
                assert saved(tpf.load(io.BytesIO(saved(again)))) == saved(again)
    assert refused > tried / 2


def test_a_tape_cannot_carry_itself() -> None:
    data = saved(TAPES["scanned, value"])
    for place in (0, 1):

        def change(header: Any, arrays: Any, place: int = place) -> None:
            for _, kind, own in loops(header):
                if kind == "switch":
                    own["branches"] = [place] * len(own["branches"])

        with pytest.raises(tpf.TapeError, match="carries tape"):
            tpf.load(io.BytesIO(craft(data, change)))


def test_tapes_in_each_other_have_a_limit() -> None:
    def nested(depth: int, x: Any) -> Any:
        if depth == 0:
            return x * 2.0
        return tpf.fori_loop(0, 1, lambda i, c: nested(depth - 1, c), x)

    fits = tpf.record(lambda x: nested(8, x), 1.0)
    assert tpf.load(io.BytesIO(saved(fits)))(1.5) == 3.0
    with pytest.raises(tpf.TapeError, match="more than 64 tapes are in each other"):
        saved(tpf.record(lambda x: nested(65, x), 1.0))


def test_what_steps_leave_for_each_other_counts() -> None:
    tape = tpf.record(lambda x: tpf.fori_loop(0, 10**6, lambda i, c: np.sin(c), x), np.ones(4))
    data = saved(pullback(tape, [True]))
    assert len(data) < 10**5
    # Four carries of a million steps, and as much for what flows back.
    with pytest.raises(tpf.TapeError, match="to evaluate the tape takes 6"):
        tpf.load(io.BytesIO(data), max_bytes=10**7)
