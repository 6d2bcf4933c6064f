"""A tape of numbers once for each of some seeds of zeros and ones, without what those make idle.

Most of a tangent's instructions are idle for a seed with few ones: a product with an absolute zero
is zero, and a sum with it is the other term. What does not depend on the seed is written once.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tapeflow.ops import BY_NAME
from tapeflow.passes import simplified
from tapeflow.passes.common_subexpressions import share_common_subexpressions
from tapeflow.structure import Floats, Leaf, Structure, flatten
from tapeflow.tape import Tape


def seeded(tape: Tape, seeds: Floats, own: Structure, names: Sequence[str]) -> Tape:
    """The results of a tape of numbers for some seeds, as a tape of its first inputs alone.

    tape: its inputs are those of ``own``, then some that are 1, and the seed. seeds: shape (seeds,
    numbers), of zeros and ones. The result is one array, seed by seed. Zeros may differ in sign.
    """
    from tapeflow.sparsity.seeding import write

    ops = np.array([BY_NAME[name].opcode for name in ("azmul", "azfma", "add", "sub", "neg")])
    constants = np.concatenate([tape.constants, [-0.0, 1.0]])
    base = own.size + len(constants)
    # Where each slot's number is: first those of the inputs, then the constants.
    places = np.full(tape.n_slots, base - 1, np.int32)
    places[: own.size] = np.arange(own.size)
    places[tape.n_inputs : int(tape.slots[0])] = own.size + np.arange(len(tape.constants))
    room = len(tape) * (1 + len(seeds))
    opcodes, sources = np.empty(room, np.uint16), np.empty(room, np.int32)
    starts = np.zeros(room + 1, np.int32)
    operands = np.empty(len(tape.operands) * (1 + len(seeds)), np.int32)
    outputs = np.empty((len(seeds), len(tape.outputs)), np.int32)
    n = write(
        tape.opcodes, tape.starts, tape.operands, tape.outputs, int(tape.slots[0]), tape.n_inputs,
        seeds, ops, base, places, opcodes, starts, operands, sources, outputs,
    )  # fmt: skip
    structure = Structure(flatten(0.0)[1], (Leaf((outputs.size,)),))
    # What is computed of constants is much the same for every seed: once is enough to fold.
    return simplified(
        share_common_subexpressions(
            replace(
                tape,
                opcodes=opcodes[:n],
                starts=starts[: n + 1],
                operands=operands[: starts[n]],
                slots=base + np.arange(n + 1),
                constants=constants,
                outputs=outputs.ravel(),
                locations=tape.locations[sources[:n]],
                parameters=np.empty(0, np.int64),
                parameter_starts=np.zeros(n + 1, np.int32),
                input_structure=own,
                output_structure=structure,
                input_names=tuple(names),
                checkpoints=(),
            )
        )
    )
