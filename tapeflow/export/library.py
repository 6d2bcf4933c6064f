"""Backends with elementary functions of their own."""

from collections.abc import Callable, Sequence
from typing import Any

from tapeflow.backend import Backend, Float
from tapeflow.errors import TapeError


class Library(Backend):
    """A backend with elementary functions of its own, which are taken in place of our texts.

    known: by name, what takes and gives values as they are there. what: its name in errors.
    """

    what: str
    known: dict[str, Callable[..., Any]]

    def once(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        lifted = [self.lift(arg) for arg in args]
        own = self.known.get(function.__name__)
        if own is not None:
            return Float(self, own(*(value.value for value in lifted)))
        if function.__module__ == "tapeflow.mathlib.special":
            raise TapeError(f"{self.what} has no {function.__name__}")
        return function(*lifted)
