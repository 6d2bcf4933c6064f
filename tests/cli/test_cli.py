"""The command itself: help, defaults, exit statuses."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

import tapeflow as tpf
from tapeflow.cli import main
from tapeflow.weather import report

COMMANDS = ("demo", "bench", "show", "table", "explain", "check")


def python_m(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "tapeflow", *arguments], capture_output=True, text=True
    )


def test_help_names_every_command() -> None:
    result = python_m("--help")
    assert (result.returncode, result.stderr) == (0, "")
    for command in COMMANDS:
        assert f"    {command} " in result.stdout
        assert python_m(command, "--help").stdout.startswith(f"usage: tapeflow {command} ")
    assert python_m("--version").stdout == f"tapeflow {tpf.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["show"], ["explain", "a"], ["show", "a", "b"], ["bench", "--seconds", "0"]],
)
def test_bad_calls(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: tapeflow" in captured.err


def test_without_a_command_it_is_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(report, "study", lambda *given: calls.append(given[1:]))
    monkeypatch.setattr(report, "show", lambda found: None)
    for arguments in ([], ["demo"], ["--epochs", "2"], ["demo", "--epochs", "2"]):
        assert main(arguments) == 0
    assert calls == [(0, 60, 16), (0, 60, 16), (0, 2, 16), (0, 2, 16)]


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "study", interrupted)
    assert main([]) == 130
    assert capsys.readouterr().err == "tapeflow: interrupted\n"
