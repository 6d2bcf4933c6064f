"""Dead code: drop the instructions that no output, and no guard, depends on."""

import numpy as np

from tapeflow.passes.rewriting import rewritten, run_lengths
from tapeflow.tape import Tape


def remove_dead_code(tape: Tape) -> Tape:
    """The same tape without the instructions that no output, and no guard, depends on."""
    # Here and in the other passes: Numba takes a while to import.
    from tapeflow.jit import walk
    from tapeflow.passes.loops import mark_needed

    needed = np.zeros(tape.n_slots + 1, np.bool_)
    needed[tape.outputs] = needed[tape.guards.slots] = True
    kept = np.zeros(len(tape), np.bool_)
    lengths = run_lengths(tape)
    walk(mark_needed, len(tape), tape.starts, tape.operands, lengths, tape.slots, needed, kept)
    return tape if kept.all() else rewritten(tape, kept, None)
