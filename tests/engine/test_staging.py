"""Results that lie side by side, put in order in the cache before they are stored."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.engine import batch_run
from tapeflow.structure import Leaf, Structure, flatten


def side_by_side(size: int) -> Any:
    """A tape of numbers whose result is one array; some of its numbers are constants."""
    from dataclasses import replace

    def f(x: Any, y: Any) -> Any:
        return [2.5 if k % 5 == 3 else x * (k + 1.0) - y if k % 3 else y for k in range(size)]

    tape = tpf.record(f, 1.0, 1.0)
    structure = Structure(flatten(0.0)[1], (Leaf((size,)),))
    return replace(tape, output_structure=structure)


@pytest.mark.jit
@pytest.mark.parametrize("size", [1, 7, 8, 9, 15, 30, 64, 65])
@pytest.mark.parametrize("n", [1, 2, 8, 13, 200, 5003])
@pytest.mark.parametrize("streamed", [0, 1 << 24])
def test_results_are_where_they_belong(
    size: int, n: int, streamed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tapeflow.recorded import Fixed
    from tapeflow.vmap import Mapped

    monkeypatch.setattr(batch_run, "_STREAMED", streamed)
    rng = np.random.default_rng(size)
    x, y = rng.standard_normal(n), rng.standard_normal(n)
    x[0] = y[0] = -0.0
    tape = side_by_side(size)
    expected = np.array([tape(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)])
    for tier in ("interpret", "fused"):
        with tpf.config(tier=tier):
            found = Mapped(Fixed(tape), 0, None)(x, y)
        assert np.array_equal(found, expected.reshape(n, size))
        assert np.array_equal(np.signbit(found), np.signbit(expected.reshape(n, size)))


@pytest.mark.jit
@pytest.mark.parametrize("size", [7, 8, 30])
def test_arrays(size: int) -> None:
    x = np.random.default_rng(0).standard_normal((300, size))

    def f(x: Any) -> Any:
        return np.concatenate([np.sin(x[:-2]), [1.0, 2.0]])

    expected = np.concatenate(
        [tpf.vmap(lambda x: np.sin(x))(x)[:, :-2], [[1.0, 2.0]] * 300], axis=1
    )
    assert np.array_equal(tpf.vmap(f)(x), expected)
