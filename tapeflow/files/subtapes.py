"""Loops and branches as JSON, and back: by the annotations of their dataclasses.

A tape that one of them carries is a number: the place of that tape in the file.
"""

import types
import typing
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Protocol

from tapeflow.arrays.base import SubTapes
from tapeflow.errors import TapeError
from tapeflow.files import checks
from tapeflow.loops import Loop, Switch
from tapeflow.loops.verification import verify
from tapeflow.tape import Tape

KINDS: dict[str, Any] = {"loop": Loop, "switch": Switch}
"""What carries tapes, by its name in a file."""


class Places(Protocol):
    """Where the tapes of a file are."""

    def place(self, tape: Tape) -> int: ...
    def tape(self, place: int) -> Tape: ...


def encoded(rule: SubTapes, places: Places) -> dict[str, Any]:
    """A loop or a branch, by its kind."""
    for name, kind in KINDS.items():
        if type(rule) is kind:
            return {name: _encoded(kind, rule, places)}
    raise TapeError(f"a tape with a {type(rule).__name__} cannot be saved")


def decoded(given: dict[str, Any], places: Places) -> SubTapes:
    """What `encoded` has written; TapeError unless it holds together."""
    (name,) = given
    rule: SubTapes = _decoded(KINDS[name], given[name], places, name)
    verify(rule)
    return rule


@cache
def _annotations(cls: type) -> dict[str, Any]:
    """The fields that make an instance, and of what type each is."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls) if field.init}


def _encoded(kind: Any, value: Any, places: Places) -> Any:
    if kind in (str, int, bool):
        return value
    if kind is Tape:
        return places.place(value)
    if is_dataclass(kind):
        parts = _annotations(kind)  # type: ignore[arg-type]
        return {name: _encoded(part, getattr(value, name), places) for name, part in parts.items()}
    if isinstance(kind, types.UnionType):
        return None if value is None else _encoded(_present(kind), value, places)
    return [
        _encoded(part, item, places) for part, item in zip(_parts(kind, value), value, strict=True)
    ]


def _decoded(kind: Any, given: Any, places: Places, what: str) -> Any:
    if kind is str:
        return checks.text(given, what)
    if kind is int:
        return checks.count(given, what)
    if kind is bool:
        return checks.of(bool, given, what)
    if kind is Tape:
        return places.tape(checks.count(given, what))
    if is_dataclass(kind):
        parts = _annotations(kind)  # type: ignore[arg-type]
        if checks.of(dict, given, what).keys() != parts.keys():
            raise TapeError(f"{what} has not the entries {', '.join(parts)}")
        found = {
            name: _decoded(part, given[name], places, f"{what}'s {name}")
            for name, part in parts.items()
        }
        return typing.cast(Any, kind)(**found)
    if isinstance(kind, types.UnionType):
        return None if given is None else _decoded(_present(kind), given, places, what)
    items = checks.of(list, given, what)
    return tuple(
        _decoded(part, item, places, what)
        for part, item in zip(_parts(kind, items), items, strict=True)
    )


def _present(kind: types.UnionType) -> Any:
    """What a type that may be None is otherwise."""
    (found,) = (part for part in kind.__args__ if part is not type(None))
    return found


def _parts(kind: Any, items: Sequence[Any]) -> Sequence[Any]:
    """The types of a tuple's items, of which there are some."""
    if typing.get_origin(kind) is not tuple:
        raise TypeError(f"a file cannot hold {kind}")
    parts = typing.get_args(kind)
    if parts[-1] is ...:
        return [parts[0]] * len(items)
    if len(parts) != len(items):
        raise TapeError(f"there are {len(items)} entries, and should be {len(parts)}")
    return parts
