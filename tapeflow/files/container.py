"""A tape file as bytes: a zip archive of a JSON header, arrays and a hash, read with suspicion.

The archive is what NumPy calls npz: `np.load` and any unzip program show what is in it. Members
are never compressed, so that what a file holds is no larger than the file, and each array is read
in one piece, straight to where it stays.
"""

import hashlib
import json
import struct
import zipfile
from collections.abc import Iterable
from typing import IO, Any

import numpy as np

from tapeflow.errors import TapeError

HEADER, HASH = "header.json", "sha256"

MAGIC = b"PK\x03\x04"
"""What an archive begins with."""

_LOCAL = struct.Struct("<4s5H3I2H")
"""What stands before a member's bytes in the archive, without its name."""

_ARRAY_HEADER = 128
"""Bytes before an array's numbers, as `np.save` writes them."""

_EXPANSION = 32
"""Bytes of Python objects that a byte of JSON may become, at most."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Every member's date: the same tape is the same file."""


def array_header(dtype: np.dtype[Any], n: int) -> bytes:
    """What stands before the n numbers of an array: the header of NumPy's format, version 1.0."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({n},), }}"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", _ARRAY_HEADER - 10)
    return start + text.encode().ljust(_ARRAY_HEADER - 11) + b"\n"


def write(file: IO[bytes], header: bytes, arrays: dict[str, np.ndarray]) -> None:
    """Write a header, which is JSON, and arrays of one axis by name."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def member(name: str, *parts: Any) -> None:
            size = sum(memoryview(part).nbytes for part in parts)
            _add(digest, name, size, parts)
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=size >= 2**31) as out:
                for part in parts:
                    out.write(part)

        member(HEADER, header)
        for name, array in arrays.items():
            numbers = np.ascontiguousarray(array)
            member(f"{name}.npy", array_header(numbers.dtype, len(numbers)), numbers)
        archive.writestr(zipfile.ZipInfo(HASH, _EPOCH), digest.hexdigest())


def _add(digest: Any, name: str, size: int, parts: Iterable[Any]) -> None:
    digest.update(f"{name} {size}\n".encode())
    for part in parts:
        digest.update(part)


class Reader:
    """A tape file being read. Every size is looked at before memory is taken for it.

    file: opened for reading, seekable. max_bytes: what the file, and what is made of its header,
    may take. Raises TapeError for anything that `write` does not write.
    """

    def __init__(self, file: IO[bytes], max_bytes: float) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        if self._size > max_bytes:
            raise TapeError(
                f"the file has {self._size} bytes, and max_bytes allows {max_bytes:.0f}: "
                "raise max_bytes if you trust it"
            )
        self._members = self._directory()
        self._read: set[str] = set()
        self._digest = hashlib.sha256()
        info = self._member(HEADER)
        if info.file_size * _EXPANSION > max_bytes:
            raise TapeError(
                f"the header has {info.file_size} bytes, and may become {_EXPANSION} times as "
                f"many, where max_bytes allows {max_bytes:.0f}: raise max_bytes if you trust it"
            )
        text = bytearray(info.file_size)
        self._fill(memoryview(text), HEADER)
        _add(self._digest, HEADER, info.file_size, [text])
        self.header = _parsed(text)

    def _directory(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self._file) as archive:
                infos = archive.infolist()
        except Exception:
            # zipfile raises more than BadZipFile for what it did not expect.
            raise TapeError("not a tape file: it is no zip archive, or a damaged one") from None
        members = {info.filename: info for info in infos}
        if len(members) != len(infos):
            raise TapeError("the file has two members of one name")
        for name, info in members.items():
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise TapeError(f"member {name!r} is compressed, and a tape's are not")
            if info.flag_bits & 0x61:
                raise TapeError(f"member {name!r} is encrypted, and a tape's are not")
        if sum(info.file_size for info in infos) > self._size:
            raise TapeError("the file's members are larger than the file")
        return members

    def _member(self, name: str) -> zipfile.ZipInfo:
        """Go to a member's bytes, which lie in the file as a whole."""
        info = self._members.get(name)
        if info is None:
            raise TapeError(f"not a tape file: it has no member {name!r}")
        self._read.add(name)
        self._file.seek(max(info.header_offset, 0))
        start = self._file.read(_LOCAL.size)
        if len(start) < _LOCAL.size or start[:4] != MAGIC:
            raise TapeError(f"member {name!r} is not where the archive says")
        *_, name_size, extra_size = _LOCAL.unpack(start)
        first = info.header_offset + _LOCAL.size + name_size + extra_size
        if not 0 <= first <= first + info.file_size <= self._size:
            raise TapeError(f"member {name!r} reaches beyond the end of the file")
        self._file.seek(first)
        return info

    def array(self, name: str, dtype: np.dtype[Any], n: int) -> Any:
        """The array of n numbers that was written under a name: read-only, and its own memory."""
        member = f"{name}.npy"
        info = self._member(member)
        if info.file_size != _ARRAY_HEADER + n * dtype.itemsize:
            raise TapeError(
                f"member {member!r} has {info.file_size} bytes, which is not {n} of {dtype.name}"
            )
        start = self._file.read(_ARRAY_HEADER)
        if start != array_header(dtype, n):
            raise TapeError(f"member {member!r} does not hold {n} numbers of {dtype.name}")
        numbers = np.empty(n, dtype)
        self._fill(numbers.view(np.uint8).data, member)
        numbers.setflags(write=False)
        _add(self._digest, member, info.file_size, [start, numbers])
        return numbers

    def _fill(self, memory: memoryview, name: str) -> None:
        """Read as much as fits; the system may give less at a time."""
        file: Any = self._file
        done = 0
        while done < len(memory):
            read = file.readinto(memory[done:])
            if not read:
                raise TapeError(f"member {name!r} ends early")
            done += read

    def finish(self) -> None:
        """Refuse the file if its hash is not that of what was read, or if something was not."""
        info = self._member(HASH)
        if info.file_size != 64 or self._file.read(64) != self._digest.hexdigest().encode():
            raise TapeError("the file is damaged: its contents do not have the hash it names")
        unknown = self._members.keys() - self._read
        if unknown:
            raise TapeError(f"the file has a member that a tape has not: {min(unknown)!r}")


def _parsed(text: bytearray) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        return json.loads(text.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise TapeError("the header is not JSON") from None
