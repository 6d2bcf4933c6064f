"""Files of every version load; those of later versions and other machines say why they do not."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tapeflow.files import FORMAT
from tests.files.crafted import craft

DATA = Path(__file__).parent / "data"
FILES = {k: DATA / f"version{k}.tape" for k in range(1, FORMAT + 1)}


def header_of(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as archive:
        return json.loads(archive["header.json"])


@pytest.mark.parametrize("version", FILES)
def test_a_file_of_each_version_loads(version: int) -> None:
    assert header_of(FILES[version])["version"] == version
    tape = tpf.load(FILES[version])
    w, b, x = np.arange(6.0).reshape(2, 3), np.ones(2), np.array([0.1, -0.2, 0.3])
    y = np.tanh(w @ x + b) * (1.0 if version == 1 else 2.0)
    total, first = tape({"w": w, "b": b}, x)
    assert total == pytest.approx(np.sum(y * y), rel=1e-14)
    assert first == pytest.approx(y[0], rel=1e-14)
    assert tape.checkpoints
    assert len(tape.guards) == (version > 1)


def test_what_this_version_writes_is_what_it_says() -> None:
    """A change of the format without a new version would change the bytes of this file."""
    again = io.BytesIO()
    tpf.load(FILES[FORMAT]).save(again)
    assert again.getvalue() == FILES[FORMAT].read_bytes()


def test_an_older_file_is_written_as_the_present_version() -> None:
    again = io.BytesIO()
    tpf.load(FILES[1]).save(again)
    again.seek(0)
    assert json.loads(np.load(again)["header.json"])["version"] == FORMAT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": FORMAT + 1}, f"version {FORMAT + 1} of the format, and this tapeflow reads"),
        ({"version": 0}, "there is no version 0"),
        ({"version": -1}, "should be between 0"),
        ({"version": "2"}, "the version is str"),
        ({"version": True}, "the version is bool"),
        ({"version": None}, "the version is NoneType"),
        ({"byteorder": "middle"}, "its numbers are 'middle'-endian"),
        ({"format": "another"}, "its header does not say so"),
    ],
)
def test_other_files_are_refused_in_a_sentence(change: dict[str, Any], message: str) -> None:
    data = craft(FILES[FORMAT].read_bytes(), lambda header, arrays: header.update(change))
    with pytest.raises(tpf.TapeError, match=message) as caught:
        tpf.load(io.BytesIO(data))
    assert "\n" not in str(caught.value)


def test_a_machine_of_the_other_byte_order_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"little": "big", "big": "little"}[sys.byteorder]
    monkeypatch.setattr(sys, "byteorder", other)
    with pytest.raises(tpf.TapeError, match=f"and this machine is {other}-endian"):
        tpf.load(FILES[FORMAT])
