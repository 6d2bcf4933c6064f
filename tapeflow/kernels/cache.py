"""Compiled kernels on disk, so that a process compiles only what none before it has.

A file is found by a hash of all that its code depends on, and holds a checksum: one that is
damaged, foreign or unreadable is as good as none, and a folder that cannot be written is too.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

_CHECKSUM = 32


@cache
def folder() -> Path:
    """``$TAPEFLOW_CACHE_DIR``, or ``tapeflow`` in the user's cache folder."""
    chosen = os.environ.get("TAPEFLOW_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tapeflow"


@cache
def library_digest() -> str:
    """A hash of the sources that kernels are made from."""
    package = Path(__file__).parent.parent
    sources = [
        package / "rules.py",
        package / "primitives.py",
        package / "ops.py",
        *sorted((package / "mathlib").glob("*.py")),
        *sorted((package / "kernels").glob("*.py")),
    ]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


def key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def has(name: str) -> bool:
    """Whether something is under a key; `read` finds out if it is sound."""
    return (folder() / f"{name}.o").exists()


def read(name: str) -> bytes | None:
    """What was written under a key, or None."""
    try:
        data = (folder() / f"{name}.o").read_bytes()
    except OSError:
        return None
    checksum, code = data[:_CHECKSUM], data[_CHECKSUM:]
    return code if hashlib.sha256(code).digest() == checksum else None


def write(name: str, code: bytes) -> None:
    """Keep code under a key, if the folder can be written; no reader sees half a file."""
    with contextlib.suppress(OSError):
        folder().mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder())
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(temporary, folder() / f"{name}.o")
        except OSError:
            os.unlink(temporary)
            raise
