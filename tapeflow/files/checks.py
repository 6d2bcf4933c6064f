"""Values of a header, which may be anything, as what they should be."""

import re
from typing import Any, TypeVar

from tapeflow.errors import TapeError

T = TypeVar("T")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that may do more to a terminal than show, and halves of characters."""


def of(kind: type[T], value: Any, what: str) -> T:
    """A value of exactly a type; TapeError for one of another."""
    if type(value) is not kind:
        raise TapeError(f"{what} is {type(value).__name__}, and should be {kind.__name__}")
    return value


def count(value: Any, what: str, most: int = 2**31 - 1) -> int:
    """A whole number from 0 on."""
    if not 0 <= of(int, value, what) <= most:
        raise TapeError(f"{what} is {value}, and should be between 0 and {most}")
    return int(value)


def text(value: Any, what: str) -> str:
    """A text without control characters."""
    if _CONTROL.search(of(str, value, what)):
        raise TapeError(f"{what} has control characters: {value!r}")
    return str(value)


def member(table: Any, key: str, what: str) -> Any:
    """An entry of an object, which must be there."""
    if key not in of(dict, table, what):
        raise TapeError(f"{what} has no entry {key!r}")
    return table[key]
