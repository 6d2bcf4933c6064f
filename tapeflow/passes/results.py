"""Unused results: let a loop or a branch compute only those parts of its result that are read."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from tapeflow.arrays import SubTapes
from tapeflow.ops import FIRST_GATE, Op, op_of
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.passes.rewriting import run_lengths
from tapeflow.tape import Tape


def drop_unused_results(tape: Tape) -> Tape:
    """The same tape, whose loops and branches give what is read of them."""
    own = [FIRST_GATE + k for k, op in enumerate(tape.gates) if isinstance(op.array, SubTapes)]
    if not own:
        return tape
    read = _read(tape)
    changes = {}
    for i in np.flatnonzero(np.isin(tape.opcodes, own)).tolist():
        rule = tape.op(i).array
        assert isinstance(rule, SubTapes)
        p = tape.parameters_of(i).tolist()
        ends = np.cumsum([int(tape.slots[i]), *rule.parts(p)]).tolist()
        needed = [bool(read[first:last].any()) for first, last in pairwise(ends)]
        found = None if all(needed) else rule.narrowed(p, needed)
        if found is not None:
            changes[i] = *found, np.repeat(found[2], rule.parts(p))
    return remove_dead_code(_changed(tape, changes)) if changes else tape


def _read(tape: Tape) -> Any:
    """Which slots an instruction, an output or a guard reads."""
    lengths = run_lengths(tape)
    counts = np.zeros(tape.n_slots + 1, np.int64)
    some = (lengths > 0).astype(np.int64)
    np.add.at(counts, tape.operands, some)
    np.add.at(counts, np.minimum(tape.operands + lengths, tape.n_slots), -some)
    read = np.cumsum(counts) > 0
    read[tape.outputs] = read[tape.guards.slots] = True
    return read


def _changed(tape: Tape, changes: dict[int, Any]) -> Tape:
    """changes: for an instruction its new rule, which operands it keeps, which parts, and slots."""
    stays = np.ones(tape.n_slots + 1, np.bool_)
    opcodes, gates = tape.opcodes.copy(), list(tape.gates)
    operands, arities = [], tape.arities.copy()
    for i, (rule, kept, _, slots) in changes.items():
        op: Op = op_of(rule)
        opcodes[i] = FIRST_GATE + len(gates)
        gates.append(op)
        stays[tape.slots[i] : tape.slots[i + 1]] = slots
        arities[i] = len(kept)
    moved: Any = np.cumsum(stays) - stays
    done = 0
    for i, (_, kept, _, _) in changes.items():
        operands += [tape.operands[done : tape.starts[i]], tape.operands_of(i)[kept]]
        done = int(tape.starts[i + 1])
    operands.append(tape.operands[done:])
    used = sorted({code - FIRST_GATE for code in opcodes.tolist() if code >= FIRST_GATE})
    place = np.zeros(len(gates), np.int64)
    place[used] = np.arange(len(used))
    own = opcodes >= FIRST_GATE
    opcodes[own] = FIRST_GATE + place[opcodes[own].astype(np.int64) - FIRST_GATE]
    return replace(
        tape,
        opcodes=opcodes,
        operands=moved[np.concatenate(operands)],
        starts=np.concatenate([[0], np.cumsum(arities)]),
        slots=moved[tape.slots],
        outputs=moved[tape.outputs],
        gates=tuple(gates[k] for k in used),
        guards=tape.guards.moved(slots=moved[tape.guards.slots], after=tape.guards.after),
    )
