"""Entering functions in the table that NumPy's protocol looks up."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tapeflow.tracers.protocol import FUNCTIONS

Function = Callable[..., Any]


def stands_for(*functions: Any) -> Callable[[Function], Function]:
    """Let a function stand for NumPy's of these names, or themselves, on traced values."""

    def register(own: Function) -> Function:
        for name in functions:
            function: Any = np
            for part in name.split(".") if isinstance(name, str) else ():
                function = getattr(function, part, None)
            if function is not None:
                FUNCTIONS[name if not isinstance(name, str) else function] = own
        return own

    return register


def named(name: str) -> Any:
    """NumPy's function of a dotted name; None where this version has none."""
    function: Any = np
    for part in name.split("."):
        function = getattr(function, part, None)
    return function
