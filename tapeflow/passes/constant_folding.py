"""Constant folding: compute once and for all what depends on constants alone."""

import numpy as np

from tapeflow import reference
from tapeflow.ops import FIRST_GATE, OPS
from tapeflow.passes.rewriting import rewritten, same
from tapeflow.tape import Tape

_WITH_CARE = [op.opcode for op in OPS if op.array is not None or op.host]


def fold_constants(tape: Tape) -> Tape:
    """The same tape with constants in place of the instructions that depend on them alone.

    Gates, what BLAS or SciPy compute, and what is not finite, stay: the first may do something
    else each time, the second depends on the machine, and the third is to be found where it is.
    """
    from tapeflow.jit import walk
    from tapeflow.passes.loops import find_constants

    foldable = (tape.opcodes < FIRST_GATE) & ~np.isin(tape.opcodes, _WITH_CARE)
    sizes = np.diff(tape.slots)
    while True:
        fixed = np.zeros(tape.n_slots + 1, np.bool_)
        fixed[tape.n_inputs : tape.slots[0]] = True
        folded = np.zeros(len(tape), np.bool_)
        walk(
            find_constants,
            len(tape),
            tape.starts,
            tape.operands,
            tape.slots,
            foldable,
            fixed,
            folded,
        )
        if not folded.any():
            return tape
        computed = reference.run(tape, np.flatnonzero(folded))
        finite = np.isfinite(computed)
        if finite.all():
            break
        owners = np.repeat(np.flatnonzero(folded), sizes[folded])
        foldable[owners[~finite]] = False
    alias = same(tape)
    alias[:-1][np.repeat(folded, sizes).nonzero()[0] + tape.slots[0]] = ~np.arange(len(computed))
    return rewritten(tape, ~folded, alias, computed)
