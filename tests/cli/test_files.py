"""``tapeflow show``, ``table`` and ``check`` on files, good and bad."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.cli import main
from tapeflow.ops import BY_NAME

MODEL = """
import numpy as np
import tapeflow as tpf

def loss(p, x):
    return np.sum(np.tanh(p["w"] * x)) + p["b"]

def other(p, x):
    return loss(p, x) + 1e-3 * x[0]

@tpf.gate
def softsign(x):
    d = 1.0 + abs(x)
    return x / d, (1.0 / (d * d),)
"""


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    def loss(p: Any, x: Any) -> Any:
        return np.sum(np.tanh(p["w"] * x)) + p["b"]

    (tmp_path / "model.py").write_text(MODEL)
    path = tmp_path / "loss.tape"
    tpf.record(loss, {"b": 1.0, "w": np.ones(2)}, np.ones(2)).save(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_show(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "show", saved)
    assert (status, err) == (0, "")
    assert "loss: 5 inputs, 4 instructions, 1 outputs" in out
    assert "v1 = tanh v0  # test_files.py:" in out
    assert out.rstrip().endswith("return v3")


def test_a_picture(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = saved.parent / "loss.svg"
    at = "({'b': 1, 'w': [0.0, 0.5]}, [1.0, 2.0])"
    assert run(capsys, "show", saved, "--out", picture, "--at", at) == (0, "", "")
    assert "<svg" in picture.read_text()
    for out, options, message in (
        ("loss.jpeg", (), "jpeg"),
        ("none/loss.svg", (), "No such file"),
        (None, ("--at", at), "--at is for a picture"),
        ("loss.svg", ("--at", "3"), "loss takes p['b'] a number"),
    ):
        where = [] if out is None else ["--out", saved.parent / out]
        status, printed, err = run(capsys, "show", saved, *where, *options)
        assert (status, printed) == (2, ""), out
        assert message in err
        assert err.count("\n") == 1


def test_the_summary(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "show", saved, "--summary")
    assert (status, err) == (0, "")
    assert "macro-ops" in out
    assert "v1 =" not in out


def test_the_page_that_explains(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = saved.parent / "loss.html"
    at = "({'b': 1, 'w': [0.0, 0.5]}, [1.0, 2.0])"
    assert run(capsys, "explain", saved, "--out", page, "--at", at) == (0, "", "")
    assert "<html" in page.read_text()
    for out, message in (("loss.txt", ".html"), ("none/loss.html", "No such file")):
        status, printed, err = run(capsys, "explain", saved, "--out", saved.parent / out)
        assert (status, printed) == (2, "")
        assert message in err
        assert err.count("\n") == 1


def test_show_of_a_long_tape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def f(x: Any) -> Any:
        for _ in range(500):
            x = np.sin(x)
        return x

    tpf.record(f, 1.0).save(tmp_path / "f.tape")
    _, out, _ = run(capsys, "show", tmp_path / "f.tape")
    assert "... 300 more: --all shows them" in out
    assert out.count("= sin") == 200
    _, out, _ = run(capsys, "show", "--all", tmp_path / "f.tape")
    assert out.count("= sin") == 500


def test_table(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "table", saved)
    assert (status, err) == (0, "")
    assert "tanh" in out
    status, out, err = run(
        capsys, "table", saved, "--at", "({'b': 1, 'w': [0.0, 0.5]}, [1.0, 2.0])"
    )
    assert (status, err) == (0, "")
    # tanh(0.5 * 2), and its slope.
    assert f"{np.tanh(1.0):.6g}" in out
    assert f"{2.0 * (1 - np.tanh(1.0) ** 2):.6g}" in out


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("1.0", "loss takes p['b'] a number, p['w'] an array of shape (2,), x an array of shape"),
        ("({'b': 1, 'w': [0.0]}, [1.0, 2.0])", "loss takes p['b'] a number"),
        ("({'b': 'a', 'w': [0.0, 1.0]}, [1.0, 2.0])", "loss takes p['b'] a number"),
        ("__import__('os')", "write the arguments as in"),
        ("(1.0", "write the arguments as in"),
        ("(" * 500 + ")" * 500, "write the arguments as in"),
    ],
)
def test_arguments_that_do_not_fit(
    at: str, message: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, "table", saved, "--at", at)
    assert (status, out) == (2, "")
    assert err.startswith("tapeflow: --at ")
    assert message in err


def test_check(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "check", saved)
    assert (status, err) == (0, "")
    assert "verified: " in out
    assert "8 samples: 8 outputs to 0.0e+00, 40 derivatives to" in out
    model = saved.parent / "model.py"
    status, out, err = run(capsys, "check", saved, "--against", f"{model}:loss", "--samples", 3)
    assert (status, err) == (0, "")
    assert "3 samples: 3 outputs to" in out


def test_check_finds_what_is_wrong(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved.parent / "model.py"
    status, _, err = run(capsys, "check", saved, "--against", f"{model}:other")
    assert status == 1
    assert "sample 0 (" in err
    assert "the tape gives" in err
    tape = tpf.load(saved)
    opcodes = tape.opcodes.copy()
    opcodes[1] = BY_NAME["sigmoid"].opcode
    replace(tape, opcodes=opcodes).save(saved)
    status, _, err = run(capsys, "check", saved, "--against", f"{model}:loss")
    assert status == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("loss", "name a file and what is in it, as in model.py:loss"),
        ("none.py:loss", "there is no file none.py"),
        ("model.py:nothing", "model.py has no nothing"),
        ("bad.py:f", "bad.py raises NameError: name 'undefined' is not defined"),
        ("loss.tape:f", "loss.tape is no Python file"),
    ],
)
def test_a_function_that_is_not_there(
    given: str,
    message: str,
    saved: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(saved.parent)
    Path("bad.py").write_text("undefined")
    status, _, err = run(capsys, "check", saved, "--against", given)
    assert status == 2
    assert err == f"tapeflow: {given}: {message}\n"


def test_files_that_are_no_tapes(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = saved.read_bytes()
    (tmp_path / "text").write_text("no tape")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    (tmp_path / "flipped").write_bytes(flipped)
    for name in ("text", "empty", "cut", "flipped", "none", "."):
        for command in ("show", "table", "check"):
            status, out, err = run(capsys, command, tmp_path / name)
            assert (status, out) == (2, ""), (command, name)
            assert err.startswith("tapeflow: "), (command, name)
            assert err.count("\n") == 1, (command, name)


def test_gates_of_the_users(
    tmp_path: Path, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @tpf.gate
    def softsign(x: Any) -> Any:
        d = 1.0 + abs(x)
        return x / d, (1.0 / (d * d),)

    path = tmp_path / "gate.tape"
    tpf.record(lambda x: softsign(x) * x, 1.0).save(path)
    status, _, err = run(capsys, "check", path)
    assert status == 2
    assert "softsign" in err
    status, out, err = run(capsys, "check", path, "--gate", f"{saved.parent / 'model.py'}:softsign")
    assert (status, err) == (0, "")
    assert "8 derivatives to" in out


def test_a_tape_with_a_loop_and_a_branch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def f(x: Any) -> Any:
        if x > 0.0:
            x = x * 2.0
        return tpf.fori_loop(0, 3, lambda i, c: np.sin(c) + i, x)

    path = tmp_path / "f.tape"
    tpf.record(f, 1.0).save(path)
    status, out, err = run(capsys, "check", path, "--samples", 20)
    assert (status, err) == (0, "")
    assert "1 guard; 1 tape inside it" in out
    assert "more take another branch): " in out


def test_a_tape_whose_domain_no_sample_meets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.tape"
    tpf.record(lambda x: np.log(x - 1e3), 1.0).save(path)
    status, out, err = run(capsys, "check", path)
    assert (status, err) == (0, "")
    assert "none of 8 samples is in its domain" in out
