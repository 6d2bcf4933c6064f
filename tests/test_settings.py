"""tpf.config: for the process, or for a block of code in its own thread."""

import threading
from typing import Any

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
        ({"debug_infs": "yes"}, "debug_infs must be True or False, not 'yes'"),
    ],
)
def test_values_out_of_range(bad: dict[str, Any], message: str) -> None:
    before = settings.current()
    with pytest.raises(ValueError, match=message):
        tpf.config(**bad)
    assert settings.current() == before


def test_an_unknown_name() -> None:
    with pytest.raises(
        TypeError, match="no setting 'thread'; it has block, debug_infs, debug_nans, max_memory, "
    ):
        tpf.config(thread=1)
