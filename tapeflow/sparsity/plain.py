"""Tapes of numbers with plain products in the place of those with an absolute zero.

An absolute zero (docs/conventions.md) costs two comparisons a product, and matters only where zero
meets infinity or NaN. A plain product makes a NaN there, which every sum and product after it
passes on; so if no result is a NaN, the plain tape has the very bits.
"""

from dataclasses import replace

import numpy as np

from tapeflow.ops import BY_NAME
from tapeflow.structure import Leaf, Structure, flatten
from tapeflow.tape import Tape

_PLAIN = {
    BY_NAME[name].opcode: BY_NAME[plain].opcode
    for name, plain in (("azmul", "mul"), ("azfma", "fma"))
}
_ADD = BY_NAME["add"].opcode
_PASS_ON = {*_PLAIN, _ADD, *(BY_NAME[name].opcode for name in ("sub", "neg", "mul", "fma"))}
"""Ops whose result is a NaN if an operand is; zeros of the other sign change only zeros' signs."""

_LONGEST = 5_000
"""Instructions up to which a tape is looked at, in Python."""


def with_plain_products(tape: Tape) -> Tape | None:
    """The tape with plain products, and one more result: a NaN if any result may differ.

    None if there is nothing to gain, or if what may differ is not passed on: the tape has to be of
    numbers, without branches, and what depends on a product may only be added and multiplied.
    Zeros among the results may have another sign, which storing them does away with.
    """
    azs = np.isin(tape.opcodes, list(_PLAIN))
    if not tape.numbers_only or len(tape.guards) or len(tape) > _LONGEST or not azs.any():
        return None
    first = int(tape.slots[0])
    differs = np.zeros(tape.n_slots, np.bool_)
    for i in range(len(tape)):
        if azs[i] or differs[tape.operands_of(i)].any():
            if int(tape.opcodes[i]) not in _PASS_ON:
                return None
            differs[first + i] = True
    looked_at = np.unique(tape.outputs[differs[tape.outputs]])
    if len(looked_at) == 0:
        return None
    opcodes = [_PLAIN.get(opcode, opcode) for opcode in tape.opcodes.tolist()]
    operands, total = tape.operands.tolist(), int(looked_at[0])
    for slot in looked_at[1:].tolist():
        operands += [total, slot]
        total = first + len(opcodes)
        opcodes.append(_ADD)
    added = len(opcodes) - len(tape)
    leaves = (*tape.output_structure.leaves, Leaf(None))
    return replace(
        tape,
        opcodes=np.array(opcodes),
        starts=np.concatenate([tape.starts, tape.starts[-1] + 2 * np.arange(1, added + 1)]),
        operands=np.array(operands),
        slots=np.arange(first, first + len(opcodes) + 1, dtype=np.int32),
        outputs=np.append(tape.outputs, total),
        locations=np.append(tape.locations, np.repeat(tape.locations[-1:], added)),
        parameter_starts=np.zeros(len(opcodes) + 1, np.int32),
        output_structure=Structure(flatten((0.0,) * len(leaves))[1], leaves),
    )
