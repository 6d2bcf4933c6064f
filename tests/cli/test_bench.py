"""``tapeflow bench``: its gradients by hand, its gate, and what it prints."""

from dataclasses import replace

import numpy as np
import pytest

from tapeflow.cli import bench, main, workloads


@pytest.mark.parametrize("make", workloads.WORKLOADS, ids=lambda make: make.__name__)
def test_gradients_by_hand(make: object) -> None:
    work = make()  # type: ignore[operator]
    assert bench.difference(work.ours(), work.by_hand()) <= work.tolerance


def test_the_difference() -> None:
    assert bench.difference((1.0, [2.0, np.array([3.0])]), (1.0, [2.0, 4.0])) == 0.25
    assert np.isnan(bench.difference(1.0, np.nan))
    with pytest.raises(ValueError, match="there are 1 numbers, and 2 by hand"):
        bench.difference(1.0, (1.0, 2.0))


@pytest.mark.jit
def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "WORKLOADS", (workloads.neuron, workloads.network))
    assert main(["bench", "--seconds", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "a neuron: one call" in captured.out
    assert captured.out.count("x │") == 2


def test_a_wrong_gradient_is_not_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong() -> workloads.Workload:
        right = workloads.neuron()
        return replace(right, by_hand=lambda: (0.5, right.by_hand()[1]))

    monkeypatch.setattr(workloads, "WORKLOADS", (wrong,))
    assert main(["bench", "--seconds", "1"]) == 1
    captured = capsys.readouterr()
    assert "a neuron: one call: differs by" in captured.err
    assert "a neuron" not in captured.out


def test_times_are_shown_with_their_unit() -> None:
    shown = [bench.shown(t) for t in (2.0, 0.0123, 4.56e-6, 7e-9)]
    assert shown == ["2 s", "12.3 ms", "4.56 us", "7 ns"]
