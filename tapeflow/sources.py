"""The user's source lines: which one is at work, and errors that name it."""

import functools
import linecache
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
from numpy.linalg import LinAlgError

from tapeflow.errors import TracingError
from tapeflow.tape import Location

_PACKAGE = os.path.dirname(__file__)
_INTERNAL = {
    _PACKAGE,
    *(
        os.path.join(_PACKAGE, part)
        for part in ("mathlib", "arrays", "tracers", "transforms", "loops", "numpy_api", "nn")
    ),
}
_NUMPY = os.path.dirname(np.__file__)
# SciPy's functions in Python call NumPy's; it is next to it, and not imported for this.
_LIBRARIES = (_NUMPY + os.sep, os.path.join(os.path.dirname(_NUMPY), "scipy") + os.sep)


def user_frame() -> Any:
    """The frame of the innermost code that is neither ours nor NumPy's."""
    frame = sys._getframe(2)
    while _is_internal(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame


_internal_files: dict[str, bool] = {}


def _is_internal(filename: str) -> bool:
    internal = _internal_files.get(filename)
    if internal is None:
        internal = os.path.dirname(filename) in _INTERNAL or filename.startswith(_LIBRARIES)
        _internal_files[filename] = internal
    return internal


def user_line() -> str:
    frame = user_frame()
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno)


def user_place() -> Location:
    """The user's line at work."""
    frame = user_frame()
    return Location(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def quoted(place: Location) -> str:
    """What a line says, in brackets, as far as it can be read and shown."""
    code = linecache.getline(place.file, place.line).strip()
    return f" ({code if len(code) <= 60 else code[:57] + '...'})" if code else ""


F = TypeVar("F", bound=Callable[..., Any])

_NUMPYS = frozenset([IndexError, ValueError, TypeError, np.exceptions.AxisError, LinAlgError])


def placed(function: F) -> F:
    """A function whose errors, where they are NumPy's own, name the user's line as ours do."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (IndexError, ValueError, TypeError) as error:
            place = str(user_place())
            if type(error) not in _NUMPYS or place in str(error):
                raise
            raise type(error)(f"{error} ({place})") from None

    return cast(F, call)


def refuse(what: str, instead: str) -> NoReturn:
    raise TracingError(f"cannot {what} ({user_place()}): {instead}")
