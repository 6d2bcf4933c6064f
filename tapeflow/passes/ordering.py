"""Ordering: what guards depend on comes first, guard by guard, and then the rest.

What comes before a guard is then the same on every path to it, whatever was recorded after it.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from tapeflow.passes.rewriting import run_lengths
from tapeflow.structure import Ints
from tapeflow.tape import Tape


def guards_first(tape: Tape) -> Tape:
    """The same tape with its instructions in that order; without checkpoints, which are runs."""
    guards, n, first = tape.guards, len(tape), int(tape.slots[0])
    if not len(guards):
        return tape
    done = [False] * n
    order: list[int] = []
    after = []
    lengths = run_lengths(tape).tolist()
    starts, operands = tape.starts.tolist(), tape.operands.tolist()
    for slot in guards.slots.tolist():
        pending, cone = [(slot, 1)], []
        while pending:
            read, size = pending.pop()
            if read < first or size == 0:
                continue
            i = int(np.searchsorted(tape.slots, read, "right")) - 1
            if not done[i]:
                done[i] = True
                cone.append(i)
                pending += [(operands[k], lengths[k]) for k in range(starts[i], starts[i + 1])]
        order += sorted(cone)
        after.append(len(order))
    order += [i for i in range(n) if not done[i]]
    return _reordered(tape, np.array(order), np.array(after))


def _reordered(tape: Tape, order: Ints, after: Ints) -> Tape:
    first, sizes = int(tape.slots[0]), np.diff(tape.slots)
    slots = first + np.concatenate([[0], np.cumsum(sizes[order])])
    moved: Any = np.arange(tape.n_slots + 1)
    own = np.empty(len(order), np.int64)
    own[order] = slots[:-1]
    moved[first:-1] += np.repeat(own - tape.slots[:-1], sizes)

    def runs(starts: Any) -> tuple[Any, Any]:
        """Where the entries of each instruction come from, and the new starts."""
        counts = np.diff(starts)[order]
        ends = np.cumsum(counts)
        offsets = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        return np.repeat(starts[:-1][order], counts) + offsets, np.concatenate([[0], ends])

    reads, starts = runs(tape.starts)
    uses, parameter_starts = runs(tape.parameter_starts)
    return replace(
        tape,
        opcodes=tape.opcodes[order],
        starts=starts,
        operands=moved[tape.operands[reads]],
        slots=slots,
        outputs=moved[tape.outputs],
        locations=tape.locations[order],
        parameters=tape.parameters[uses],
        parameter_starts=parameter_starts,
        checkpoints=(),
        guards=tape.guards.moved(slots=moved[tape.guards.slots], after=after),
    )
