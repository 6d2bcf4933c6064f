"""Tapes as ONNX models: the checker takes them, and onnxruntime computes the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.ops import COMPILED
from tapeflow.tape import Tape
from tapeflow.tracers import apply

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TOLERANCE = 1e-12
"""As for JAX; ONNX has no fma, which is off by a rounding more."""


def run(model: Any, *leaves: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [given.name for given in session.get_inputs()]
    given = {name: np.asarray(x, float) for name, x in zip(names, leaves, strict=True)}
    found: list[Any] = session.run(None, given)
    return found


def check(tape: Tape, *leaves: Any) -> None:
    import optree

    expected = optree.tree_leaves(tape(*tape.input_structure.unflatten(leaves)))
    for one, other in zip(run(tape.to_onnx(), *leaves), expected, strict=True):
        assert one.shape == np.shape(other)
        np.testing.assert_allclose(one, other, TOLERANCE, TOLERANCE)


REFUSED = {"atan2", "cbrt", "expm1", "log1p", "asinh", "acosh", "atanh", "erf", "erfc"}
"""Their texts take numbers apart into bits."""


@pytest.mark.parametrize("args", [(0.3, 0.7, 1.1), (2.5, -1.5, -0.4), (0.0, 0.0, np.nan)])
def test_ops_on_numbers(args: tuple[float, ...]) -> None:
    ops = [op for op in COMPILED if op.name not in REFUSED]
    check(tpf.record(lambda *x: [apply(op, x[: op.arity]) for op in ops], *args), *args)


@pytest.mark.parametrize("op", [op for op in COMPILED if op.name in REFUSED], ids=repr)
def test_what_onnx_has_not_is_refused_by_name(op: Any) -> None:
    tape = tpf.record(lambda *x: apply(op, x), *(0.5,) * op.arity)
    with pytest.raises(tpf.TapeError, match=rf"{op.name} .* cannot be exported to ONNX: its text"):
        tape.to_onnx()


def network(p: Any, x: Any) -> Any:
    hidden = np.tanh(x @ p["w"].T + p["b"])
    scores = hidden @ p["v"]
    chosen = np.max(scores, axis=1) + np.min(scores) + np.argmax(scores, axis=1)
    return {"scores": scores, "more": (chosen, np.cumsum(scores[::-1, 1]), hidden[:, [0, 2, 0]])}


def test_a_network_and_its_gradient(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    p = {"w": rng.normal(size=(3, 2)), "b": rng.normal(size=3), "v": rng.normal(size=(3, 4))}
    x = rng.normal(size=(5, 2))
    tape = tpf.record(network, p, x)
    leaves = [p["b"], p["v"], p["w"], x]
    check(tape, *leaves)

    def loss(p: Any, x: Any) -> Any:
        found = network(p, x)
        return np.sum(found["scores"] ** 2) + np.sum(found["more"][2]) + found["more"][1][2]

    check(tpf.record(tpf.value_and_grad(loss), p, x), *leaves)
    tape.to_onnx(tmp_path / "f.onnx")
    model = onnx.load(tmp_path / "f.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [given.name for given in model.graph.input] == ["p['b']", "p['v']", "p['w']", "x"]
    assert [taken.name for taken in model.graph.output] == [f"result{k}" for k in range(4)]


def test_nothing_flows_back_from_what_is_of_no_use() -> None:
    def loss(x: Any, w: Any) -> Any:
        return np.sum((x @ w)[:2] ** 2)

    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    x[2], x[2, 1] = np.nan, np.inf
    tape = tpf.record(tpf.grad(loss, (0, 1)), x, w)
    assert np.isfinite(np.concatenate([np.ravel(own) for own in tape(x, w)])).all()
    check(tape, x, w)


def test_other_tapes_are_refused_in_a_sentence() -> None:
    tape = tpf.record(lambda x: x * 2.0 if x > 0.0 else x, 1.0)
    with pytest.raises(tpf.TapeError, match="takes branches on values"):
        tape.to_onnx()
    tape = tpf.record(lambda x: np.linalg.eigh(x)[0], np.eye(2))
    with pytest.raises(tpf.TapeError, match=r"eigh .* cannot be exported to ONNX: eigh has no"):
        tape.to_onnx()
    tape = tpf.record(lambda x: tpf.fori_loop(0, 3, lambda i, c: c * x, 1.0), 1.0)
    with pytest.raises(tpf.TapeError, match=r"fori_loop .* cannot be exported to ONNX"):
        tape.to_onnx()


def test_names_that_a_graph_has_already() -> None:
    check(
        tpf.record(lambda result0, v0, c0: (result0 * v0, c0 + 1.0), 1.0, 2.0, 3.0), 2.0, 3.0, 4.0
    )
