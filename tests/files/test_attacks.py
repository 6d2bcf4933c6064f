"""Malformed tape files: refused in a sentence, or proven harmless by running between guards."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from tests.files import fuzz
from tests.files.attacks import attacks
from tests.files.test_store import assert_same

FILES = {name: fuzz.saved(tape) for name, tape in fuzz.seeds().items()}
ATTACKS = attacks(FILES)


@pytest.mark.parametrize("name", FILES)
def test_what_is_attacked_loads(name: str) -> None:
    assert fuzz.saved(tpf.load(io.BytesIO(FILES[name]), gates=fuzz.GATES)) == FILES[name]


def test_attacks_made_by_hand_are_refused_in_a_sentence() -> None:
    assert len(ATTACKS) >= 200
    loaded, wrong = [], []
    for name, attack in ATTACKS.items():
        try:
            tpf.load(io.BytesIO(attack(FILES)), gates=fuzz.GATES, max_bytes=10**8)
            loaded.append(name)
        except tpf.TapeError as error:
            text = str(error)
            if not text.startswith("cannot load file: ") or "\n" in text or len(text) > 400:
                wrong.append((name, text))
    assert not loaded
    assert not wrong


def test_every_bit_of_a_file_is_held_by_the_hash() -> None:
    """Whatever bit is lost or set by accident, what loads is what was saved."""
    tape = tpf.record(lambda x, y: np.exp(x * y) + 2.0, 1.0, 2.0)
    data = bytearray(fuzz.saved(tape))
    refused = 0
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        try:
            again = tpf.load(io.BytesIO(bytes(data)))
        except tpf.TapeError:
            refused += 1
        else:  # dates and attributes of the archive's members, which nothing reads
            assert_same(again, tape)
        data[bit // 8] ^= 1 << bit % 8
    assert refused > 0.7 * 8 * len(data)


def run(folder: Path, *arguments: Any) -> dict[str, int]:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.files.fuzz", str(folder)]
    result = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    found: dict[str, int] = json.loads(result.stdout)
    return found


@pytest.mark.jit
def test_every_bit_of_header_and_arrays_with_a_hash_that_fits(tmp_path: Path) -> None:
    found = run(tmp_path, "flips", "small")
    assert sum(found.values()) > 5000
    assert found["refused"] > 4000
    assert found["run"] > 100


@pytest.mark.jit
def test_random_changes(tmp_path: Path) -> None:
    found = run(tmp_path, "random", 0, 250)
    assert found["refused"] > 150
    assert found["run"] > 10


@pytest.mark.jit
@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_thousand_random_changes(seed: int, tmp_path: Path) -> None:
    found = run(tmp_path, "random", 100 + seed, 10_000)
    assert sum(found.values()) == 10_000
    assert found["run"] > 500


@pytest.mark.jit
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["numbers", "moves", "loops"])
def test_every_bit_of_larger_files(name: str, tmp_path: Path) -> None:
    found = run(tmp_path, "flips", name)
    # How many are harmless depends on the paths and names of sources, which are in the header.
    assert sum(found.values()) > 10_000
    assert found["refused"] > 5_000
