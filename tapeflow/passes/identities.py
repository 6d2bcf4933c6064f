"""Identities: drop the instructions that give back the very number they are given.

These are x 1, x / 1, x ** 1, x - 0, x + (-0) and -(-x): exact for every number, infinities, zeros
of either sign and NaN included. x + 0 is not among them, as it makes a negative zero positive.
"""

import numpy as np

from tapeflow.ops import BY_NAME
from tapeflow.passes.rewriting import rewritten, same
from tapeflow.tape import Tape

_TIMES, _PLUS, _MINUS, _POWER, _NEGATIVE, _OVER = (
    BY_NAME[name].opcode for name in ("mul", "add", "sub", "pow", "neg", "div")
)


def apply_identities(tape: Tape) -> Tape:
    """The same tape without the instructions on single numbers that change nothing."""
    from tapeflow.jit import walk
    from tapeflow.passes.loops import find_identities

    kinds = tape.opcodes.astype(np.int64)
    # A divisor, as an exponent, is neutral where it is one, and on its side alone.
    kinds[kinds == _OVER] = _POWER
    kinds[np.diff(tape.parameter_starts) > 0] = -1
    if not np.isin(kinds, (_TIMES, _PLUS, _MINUS, _POWER, _NEGATIVE)).any():
        return tape
    alias, kept = same(tape), np.ones(len(tape), np.bool_)
    walk(
        find_identities,
        len(tape),
        kinds,
        tape.starts,
        tape.operands,
        tape.slots,
        tape.constants,
        tape.n_inputs,
        _TIMES,
        _PLUS,
        _MINUS,
        _POWER,
        _NEGATIVE,
        alias,
        kept,
        np.full(tape.n_slots + 1, -1, np.int64),
    )
    return tape if kept.all() else rewritten(tape, kept, alias)
