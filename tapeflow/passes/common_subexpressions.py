"""Common subexpressions: compute once what instructions on the same operands compute again.

A gradient that flowed to each of them now flows to the one: it is summed in another order.
"""

import numpy as np

from tapeflow.ops import BY_NAME, FIRST_GATE
from tapeflow.passes.rewriting import rewritten, same
from tapeflow.tape import Tape

_COMMUTE = [BY_NAME[name].opcode for name in ("add", "mul")]


def share_common_subexpressions(tape: Tape) -> Tape:
    """The same tape without the instructions that are equal to an earlier one.

    Gates in Python are left alone: they may do something else each time.
    """
    from tapeflow.jit import walk
    from tapeflow.passes.loops import find_repeated

    n = len(tape)
    python = [FIRST_GATE + k for k, gate in enumerate(tape.gates) if gate.python is not None]
    on_numbers = np.diff(tape.parameter_starts) == 0
    alias, kept = same(tape), np.ones(n, np.bool_)
    walk(
        find_repeated,
        n,
        tape.opcodes.astype(np.int64),
        tape.starts,
        tape.operands.astype(np.int64),
        tape.slots,
        np.ascontiguousarray(tape.parameter_starts),
        tape.parameters,
        np.isin(tape.opcodes, python),
        np.isin(tape.opcodes, _COMMUTE) & on_numbers,
        alias,
        kept,
        np.full(1 << (2 * n + 1).bit_length(), -1, np.int64),
    )
    return tape if kept.all() else rewritten(tape, kept, alias)
