"""tpf.config: for the process, or for a block of code in its own thread."""

import threading
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow import settings


@pytest.fixture(autouse=True)
def restored() -> Any:
    before = settings.current()
    yield
    tpf.config(threads=before.threads, block=before.block, debug_nans=before.debug_nans)


def test_for_the_process() -> None:
    tpf.config(threads=3)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(settings.current().threads))
    thread.start()
    thread.join()
    assert seen == [3]
    assert settings.current().threads == 3


def test_for_a_block_in_its_own_thread() -> None:
    seen = []
    outside = settings.current().threads
    with tpf.config(threads=5, block=64):
        with tpf.config(threads=6):
            thread = threading.Thread(target=lambda: seen.append(settings.current().threads))
            thread.start()
            thread.join()
            assert (settings.current().threads, settings.current().block) == (6, 64)
        assert settings.current().threads == 5
    assert settings.current().threads == outside
    assert seen == [outside]


def test_left_by_an_error() -> None:
    with pytest.raises(KeyError), tpf.config(block=8):
        raise KeyError
    assert settings.current().block is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"threads": 0}, "threads must be a whole number from 1 up, not 0"),
        ({"threads": 2.0}, "threads must be"),
        ({"block": 12}, "block must be a power of two from 8 to 4096, or None, not 12"),
        ({"block": 4}, "block must be"),
        ({"debug_nans": 1}, "debug_nans must be True or False"),
    ],
)
def test_values_out_of_range(bad: dict[str, Any], message: str) -> None:
    before = settings.current()
    with pytest.raises(ValueError, match=message):
        tpf.config(**bad)
    assert settings.current() == before


def test_an_unknown_name() -> None:
    with pytest.raises(
        TypeError, match="no setting 'thread'; it has block, debug_nans, max_memory, threads, tier"
    ):
        tpf.config(thread=1)


def log_of(x: Any) -> Any:
    y = x - 1.0
    return np.log(y) * 2.0


def test_the_first_nan_of_one_sample() -> None:
    line = log_of.__code__.co_firstlineno + 2
    with tpf.config(debug_nans=True):
        assert tpf.grad(log_of)(2.0) == 2.0
        with pytest.raises(
            FloatingPointError,
            match=rf"NaN in the forward sweep of log_of at gate log \(test_settings.py:{line}\): "
            r"v0 = -1\.0",
        ):
            tpf.grad(log_of)(0.0)
        with pytest.raises(FloatingPointError, match="NaN in the input x of log_of"):
            tpf.grad(log_of)(np.nan)
    # Without it a NaN is a result like any other.
    assert np.isnan(tpf.value_and_grad(log_of)(0.0)[0])


def test_the_first_nan_of_a_batch() -> None:
    x = np.linspace(2.0, 3.0, 1000)
    x[777] = 0.5
    with tpf.config(debug_nans=True):
        with pytest.raises(FloatingPointError, match=r"gate log .*, sample 777: v0 = -0\.5"):
            tpf.vmap(tpf.grad(log_of))(x)
        x[777] = np.nan
        with pytest.raises(FloatingPointError, match="input x of log_of, sample 777"):
            tpf.vmap(tpf.grad(log_of))(x)


def difference(x: Any) -> Any:
    # At zero the gradients that the two roots send back are plus and minus infinity.
    return np.sqrt(x) - np.sqrt(x * 2.0)


def test_the_first_nan_in_reverse() -> None:
    line = difference.__code__.co_firstlineno + 2
    message = rf"NaN in the reverse sweep of difference at gate \w+ \(test_settings.py:{line}\)"
    with tpf.config(debug_nans=True), pytest.raises(FloatingPointError, match=message):
        tpf.grad(difference)(0.0)


def test_the_same_results_while_looking_for_nans() -> None:
    x = np.linspace(2.0, 3.0, 1000)
    f = tpf.vmap(tpf.value_and_grad(log_of), reduce="sum")
    plain = f(x), tpf.value_and_grad(log_of)(2.5)
    with tpf.config(debug_nans=True):
        assert (f(x), tpf.value_and_grad(log_of)(2.5)) == plain


def test_nans_in_what_a_batch_shares() -> None:
    def loss(w: Any, x: Any) -> Any:
        return np.log(w) * x

    def roots(w: Any, x: Any) -> Any:
        return (np.sqrt(w) - np.sqrt(w * 2.0)) * x

    f = tpf.vmap(tpf.grad(loss), in_axes=(None, 0), reduce="sum")
    g = tpf.vmap(tpf.grad(roots), in_axes=(None, 0), reduce="sum")
    x = np.ones(20)
    with tpf.config(debug_nans=True):
        assert f(2.0, x) == 10.0
        with pytest.raises(
            FloatingPointError, match=r"forward sweep of loss at gate log .*: w = -1"
        ):
            f(-1.0, x)
        with pytest.raises(FloatingPointError, match=r"NaN in the input w of loss$"):
            f(np.nan, x)
        with pytest.raises(FloatingPointError, match="reverse sweep of roots at gate"):
            g(0.0, x)


@pytest.mark.parametrize("batch", [False, True])
def test_nans_among_arrays(batch: bool) -> None:
    """Found in the instruction that made it, also where several run as one kernel."""

    def f(w: Any, x: Any) -> Any:
        scale = np.exp(w) * 2.0 + 1.0
        return np.sum(np.log(scale * x - 1.0) ** 2)

    w, x = np.zeros(3), np.array([1.0, 0.2, 3.0])
    gradient = tpf.grad(f, 1)
    with tpf.config(debug_nans=True):
        assert np.isfinite(gradient(w, x + 1.0)).all()
        with pytest.raises(FloatingPointError, match=r"forward sweep of f at gate log .*test_set"):
            if batch:
                xs = np.stack([x + 1.0] * 9 + [x])
                tpf.vmap(gradient, in_axes=(None, 0))(w, xs)
            else:
                gradient(w, x)
