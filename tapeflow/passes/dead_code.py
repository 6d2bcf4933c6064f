"""Dead code: drop the instructions that no output depends on."""

from dataclasses import replace

import numpy as np

from tapeflow.tape import Tape


def remove_dead_code(tape: Tape) -> Tape:
    """The same tape without the instructions that no output depends on."""
    first_result = int(tape.slots[0])
    needed = np.zeros(tape.n_slots, np.bool_)
    needed[tape.outputs] = True
    starts, slots = tape.starts.tolist(), tape.slots.tolist()
    kept = np.zeros(len(tape), np.bool_)
    for i in reversed(range(len(tape))):
        if needed[slots[i] : slots[i + 1]].any():
            kept[i] = True
            operands = tape.operands[starts[i] : starts[i + 1]]
            if tape.parameter_starts[i] == tape.parameter_starts[i + 1]:
                needed[operands] = True
                continue
            for slot, size in zip(operands.tolist(), tape.runs_of(i)[0], strict=True):
                needed[slot : slot + size] = True
    if kept.all():
        return tape
    sizes = np.diff(tape.slots)
    renumbered = np.arange(tape.n_slots + 1)
    moved = np.cumsum(np.where(kept, 0, sizes)) - np.where(kept, 0, sizes)
    renumbered[first_result:-1] -= np.repeat(moved, sizes)
    return replace(
        tape,
        opcodes=tape.opcodes[kept],
        starts=np.concatenate([[0], np.cumsum(tape.arities[kept])]),
        operands=renumbered[tape.operands[np.repeat(kept, tape.arities)]].astype(np.int32),
        slots=np.concatenate([[first_result], first_result + np.cumsum(sizes[kept])]).astype(
            np.int32
        ),
        outputs=renumbered[tape.outputs].astype(np.int32),
        locations=tape.locations[kept],
        parameters=tape.parameters[np.repeat(kept, np.diff(tape.parameter_starts))],
        parameter_starts=np.concatenate([[0], np.cumsum(np.diff(tape.parameter_starts)[kept])]),
    )
