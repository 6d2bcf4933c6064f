"""Tape to tape: a recorded function's pullback and pushforward, and its replay in a recording.

The pullback's instructions are made by evaluating the rules on tracers, so they can be recorded,
differentiated and run like any others. On a tape of numbers it computes what the interpreter's
native reverse sweep does, product by product; a tape with arrays is differentiated by it alone.
"""

from tapeflow.transforms.forward import pushforward
from tapeflow.transforms.replay import inline
from tapeflow.transforms.reverse import PULLBACK, PULLED, pullback
from tapeflow.transforms.taylor_series import taylor

__all__ = ["PULLBACK", "PULLED", "inline", "pullback", "pushforward", "taylor"]
