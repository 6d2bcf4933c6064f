"""The cache on disk: a help where it works, and never a harm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapeflow.kernels import cache

SCRIPT = """
import tapeflow as tpf
from tapeflow.kernels import llvm
compiled = []
original = llvm.compile_module
llvm.compile_module = lambda text: compiled.append(text) or original(text)
assert tpf.grad(lambda x: x * tpf.exp(x) + tpf.gate(lambda x: (x * 3.0, (3.0,)))(x))(0.0) == 4.0
print(len(compiled))
"""

N_KERNELS = 9
"""Forward and reverse of mul, exp, add and the gate, and what ends a sweep."""


def compiled_kernels(folder: Path) -> int:
    environment = {**os.environ, "TAPEFLOW_CACHE_DIR": str(folder)}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return int(result.stdout)


def test_what_was_compiled_once_is_loaded_after(tmp_path: Path) -> None:
    assert compiled_kernels(tmp_path) == N_KERNELS
    assert compiled_kernels(tmp_path) == 0


def test_damaged_files_are_compiled_again(tmp_path: Path) -> None:
    compiled_kernels(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == N_KERNELS
    for k, file in enumerate(files):
        data = bytearray(file.read_bytes())
        if k % 4 == 0:
            data[len(data) // 2] ^= 1
        elif k % 4 == 1:
            data = data[: len(data) // 2]
        elif k % 4 == 2:
            data = bytearray()
        else:
            data = bytearray(b"something else altogether")
        file.write_bytes(bytes(data))
    assert compiled_kernels(tmp_path) == N_KERNELS
    assert compiled_kernels(tmp_path) == 0


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert compiled_kernels(tmp_path / "file" / "cache") == N_KERNELS


def test_reading_and_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    name = cache.key("a", "b")
    assert name != cache.key("ab", "")
    assert cache.read(name) is None
    cache.write(name, b"code")
    assert cache.read(name) == b"code"
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.o"]
