"""Dead code: drop the instructions that no output depends on."""

from dataclasses import replace

import numpy as np

from tapeflow.tape import Tape


def remove_dead_code(tape: Tape) -> Tape:
    """The same tape without the instructions that no output depends on."""
    first_result = int(tape.slots[0])
    needed = np.zeros(tape.n_slots, np.bool_)
    needed[tape.outputs] = True
    starts = tape.starts.tolist()
    for i in reversed(range(len(tape))):
        if needed[first_result + i]:
            needed[tape.operands[starts[i] : starts[i + 1]]] = True
    kept = needed[first_result:]
    if kept.all():
        return tape
    renumbered = np.arange(tape.n_slots)
    renumbered[first_result:] = first_result + np.cumsum(kept) - 1
    return replace(
        tape,
        opcodes=tape.opcodes[kept],
        starts=np.concatenate([[0], np.cumsum(tape.arities[kept])]),
        operands=renumbered[tape.operands[np.repeat(kept, tape.arities)]].astype(np.int32),
        slots=np.arange(first_result, first_result + int(kept.sum()) + 1, dtype=np.int32),
        outputs=renumbered[tape.outputs].astype(np.int32),
        locations=tape.locations[kept],
    )
