"""Saving a tape, loading it, and pickling it as the file that it would be."""

import io
import json
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from tapeflow import gates as gates_module
from tapeflow.errors import TapeError
from tapeflow.files import checks, container
from tapeflow.files.fields import Code, Tapes, decoded, encoded
from tapeflow.loops.verification import stored_by_loops
from tapeflow.tape import ARRAYS, Tape

FORMAT = 3
"""The version of what `save` writes. A change of the format is a new number, and an upgrade."""


def _with_guards(header: Any) -> Any:
    return {**header, "tape": {**checks.of(dict, header.get("tape"), "tape"), "guards": []}}


def _with_several_tapes(header: Any) -> Any:
    return {"tapes": [{"lengths": header.get("lengths"), "fields": header.get("tape")}]}


UPGRADES: dict[int, Callable[[Any], Any]] = {1: _with_guards, 2: _with_several_tapes}
"""For each older version, what makes its header one of the next version."""

MAX_BYTES = 2**32
"""What a loaded tape may take, unless the caller says otherwise: of memory, four gigabytes."""

File = str | os.PathLike[str] | IO[bytes]


def save(tape: Tape, file: File) -> None:
    if isinstance(file, (str, os.PathLike)):
        with _replacing(file) as out:
            _write(tape, out, Code())
    elif hasattr(file, "write"):
        buffer = io.BytesIO()
        _write(tape, buffer, Code())
        file.write(buffer.getbuffer())
    else:
        raise TypeError(f"save takes a path or a file, not a {type(file).__name__}")


def _write(tape: Tape, file: IO[bytes], code: Code) -> None:
    tapes = Tapes(code, tape)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    while tapes.own < len(tapes.found):
        one = tapes.found[tapes.own]
        own = {name: getattr(one, name) for name in (*ARRAYS, "locations")}
        if not len(one.parameters):
            del own["parameter_starts"]  # it is all zeros
        lengths = {name: len(array) for name, array in own.items()}
        rows.append({"lengths": lengths, "fields": encoded(one, tapes)})
        arrays |= {_member(tapes.own, name): array for name, array in own.items()}
        tapes.own += 1
    for tapes.own in reversed(range(len(rows))):
        decoded(rows[tapes.own]["fields"], tapes)  # so that what is written can be read
    header = {"format": "tapeflow", "version": FORMAT, "byteorder": sys.byteorder, "tapes": rows}
    container.write(file, json.dumps(header, allow_nan=False).encode(), arrays)


def _member(place: int, name: str) -> str:
    """The name in the file of an array of a tape."""
    return f"{place}/{name}" if place else name


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file that takes the place of another when it is whole, and never exists in part."""
    target = os.path.realpath(path)
    beside = f"{target}.{secrets.token_hex(4)}.tmp"
    # As open() makes files: the user's umask holds.
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.replace(beside, target)
    except BaseException:
        os.unlink(beside)
        raise


def load(
    file: File,
    *,
    gates: Mapping[str, Any] | None = None,
    types: Mapping[str, type] | None = None,
    max_bytes: float = MAX_BYTES,
) -> Tape:
    """Read a tape that ``tape.save`` has written. No code in the file is run: there is none.

    file: a path, or a file opened for reading bytes. gates: the gates of your own that the tape
    has, by name (what ``tpf.gate`` made, or an instance of a class of it). types: the classes of
    the named tuples among its arguments and results, by name. max_bytes: what the file may take,
    and one evaluation of the tape; a file that says it needs more is refused before memory is
    taken.

    Everything is verified before it is used: see docs/format.md. Raises TapeError, in one
    sentence, for a file that is damaged, not a tape, of a newer version, or of another byte order,
    and where a gate or a class is missing; OSError where the file cannot be read.

    >>> import io
    >>> file = io.BytesIO()
    >>> tpf.record(lambda x: x * x, 1.0).save(file)
    >>> _ = file.seek(0)
    >>> tpf.load(file).value_and_grad(3.0)
    (9.0, 6.0)
    """
    for name, given in (("gates", gates), ("types", types)):
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"{name} must be a dict by name, not a {type(given).__name__}")
    if not isinstance(max_bytes, (int, float)) or not max_bytes > 0:
        raise ValueError(f"max_bytes must be a number of bytes, not {max_bytes!r}")
    code = Code(dict(gates or {}), dict(types or {}))
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb", buffering=0) as opened:
            # A pipe or a device has no end to look at.
            regular = stat.S_ISREG(os.fstat(opened.fileno()).st_mode)
            whole = opened if regular else _whole(opened, max_bytes)
            return _read(whole, code, max_bytes, str(file))
    if not hasattr(file, "read"):
        raise TypeError(f"load takes a path or a file, not a {type(file).__name__}")
    # From its own position on, wherever that is, and also from files that cannot seek.
    return _read(_whole(file, max_bytes), code, max_bytes, str(getattr(file, "name", "file")))


def _whole(file: IO[bytes], max_bytes: float) -> IO[bytes]:
    """The rest of a file, in memory; no more of it than is allowed, and one byte to show that."""
    parts: list[bytes] = []
    size = 0
    while size <= max_bytes:
        part = file.read(int(min(max_bytes + 1 - size, 2**24)))
        if not isinstance(part, bytes):
            raise TypeError("load takes a file opened for reading bytes: open it with 'rb'")
        if not part:
            break
        parts.append(part)
        if not container.MAGIC.startswith(parts[0][: len(container.MAGIC)]):
            break  # it is no archive, and may have no end
        size += len(part)
    return io.BytesIO(b"".join(parts))


def _read(file: IO[bytes], code: Code, max_bytes: float, name: str) -> Tape:
    try:
        reader = container.Reader(file, max_bytes)
        given = checks.member(_current(reader.header), "tapes", "the header")
        rows = [checks.of(dict, row, "a tape") for row in checks.of(list, given, "tapes")]
        arrays = [_arrays(reader, place, row) for place, row in enumerate(rows)]
        reader.finish()
        tapes = Tapes(code)
        for tapes.own in reversed(range(len(rows))):
            fields = decoded(rows[tapes.own]["fields"], tapes)
            tapes.found[tapes.own] = Tape(**fields, **arrays[tapes.own])
        if not rows:
            raise TapeError("the file has no tape")
        _limit(tapes.found, max_bytes)
    except TapeError as error:
        raise TapeError(f"cannot load {name}: {error}") from None
    return tapes.found[0]


def _limit(tapes: Mapping[int, Tape], max_bytes: float) -> None:
    """Refuse a tape whose evaluation takes more than is allowed."""
    # A value and a cotangent for each slot, and what the steps of loops leave for each other.
    needed = 16 * sum(tape.n_slots for tape in tapes.values())
    for tape in tapes.values():
        needed += sum(16 * stored for stored in stored_by_loops(tape))
    if needed > max_bytes:
        raise TapeError(
            f"to evaluate the tape takes {needed} bytes, and max_bytes allows {max_bytes:.0f}: "
            "raise max_bytes if you trust the file"
        )


def _current(header: Any) -> Any:
    """The header as this version writes it."""
    if checks.of(dict, header, "the header").get("format") != "tapeflow":
        raise TapeError("not a tape file: its header does not say so")
    version = checks.count(checks.member(header, "version", "the header"), "the version")
    if version > FORMAT:
        raise TapeError(
            f"it has version {version} of the format, and this tapeflow reads up to {FORMAT}: "
            "load it with a newer tapeflow"
        )
    order = checks.member(header, "byteorder", "the header")
    if order != sys.byteorder:
        raise TapeError(
            f"its numbers are {order!r}-endian, and this machine is {sys.byteorder}-endian: "
            "save it on a machine like this one"
        )
    while version < FORMAT:
        if version not in UPGRADES:
            raise TapeError(f"there is no version {version} of the format")
        header = UPGRADES[version](header)
        version += 1
    return header


def _arrays(reader: container.Reader, place: int, row: dict[str, Any]) -> dict[str, Any]:
    """A tape's arrays, as long as the header says, and as the file has."""
    lengths = checks.of(dict, checks.member(row, "lengths", "a tape"), "lengths")
    fields = checks.of(dict, checks.member(row, "fields", "a tape"), "a tape's fields")
    sources = checks.of(list, checks.member(fields, "sources", "a tape"), "sources")
    kinds = {name: np.dtype(kind) for name, kind in ARRAYS.items()}
    kinds["locations"] = np.min_scalar_type(len(sources))
    unknown = lengths.keys() - kinds.keys()
    if unknown:
        raise TapeError(f"the header has an array that a tape has not: {min(unknown)!r}")
    found = {}
    for name, kind in kinds.items():
        if name == "parameter_starts" and name not in lengths:
            n = checks.count(checks.member(lengths, "opcodes", "lengths"), "opcodes")
            found[name] = np.broadcast_to(np.int32(0), n + 1)
            continue
        n = checks.count(checks.member(lengths, name, "lengths"), f"the length of {name}")
        found[name] = reader.array(_member(place, name), kind, n)
    return found


def reduce(tape: Tape) -> Any:
    """What pickle keeps of a tape: its file, and by reference the classes and gates it names."""
    code, buffer = Code(), io.BytesIO()
    _write(tape, buffer, code)
    for name, thing in [*code.gates.items(), *code.types.items()]:
        if not gates_module.is_importable(thing):
            raise TapeError(
                f"cannot pickle {tape.name}: {name.split('#')[0]} is not found in a module, as "
                "another process would look for it: define it at a module's top level"
            )
    return _unpickled, (buffer.getvalue(), code.gates, code.types)


def _unpickled(data: bytes, gates: dict[str, Any], types: dict[str, type]) -> Tape:
    return _read(io.BytesIO(data), Code(gates, types), float("inf"), "a pickled tape")
