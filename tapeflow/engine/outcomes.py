"""Which of a tape's guards hold at some arguments, and the error where one does not."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from tapeflow.arrays import GateRule
from tapeflow.engine.programs import sample_program
from tapeflow.errors import GuardError
from tapeflow.guards import EXACT, NONE, TRUTH, WHOLE, Guards
from tapeflow.passes.extract import extract
from tapeflow.passes.status import with_flag
from tapeflow.structure import Floats
from tapeflow.tape import Tape


def flagged(tape: Tape) -> Tape:
    """The tape as a plain one that says in one more output whether all guards hold."""
    made: Tape | None = tape.prepared.get("flagged")
    if made is None:
        made = tape.prepared["flagged"] = with_flag(tape)
    return made


def results_where_guards_hold(tape: Tape, wanted: slice | None, leaves: Sequence[Any]) -> Floats:
    """What `sample_program` gives for the tape; GuardError if a guard fails."""
    if not len(tape.guards):
        found: Floats = sample_program(tape, wanted).results(leaves)
        return found
    try:
        results = sample_program(flagged(tape), wanted).results(leaves)
    except Exception:
        # What fails may be what a branch was to keep from happening.
        check_guards(tape, leaves)
        raise
    place = len(tape.outputs)
    if results[place] == 0.0:
        check_guards(tape, leaves)
    without: Floats = np.delete(results, place)
    return without


def check_guards(tape: Tape, leaves: Sequence[Any]) -> None:
    """GuardError unless all guards hold."""
    failure = first_failure(tape, leaves)
    if failure is not None:
        refuse(tape, *failure)


def first_failure(tape: Tape, leaves: Sequence[Any]) -> tuple[int, float] | None:
    """The first guard that does not hold, and the number it has instead; None if all hold."""
    guards = tape.guards
    if not len(guards):
        return None
    if may_raise(tape):
        # One after the other: what a later one needs may fail where an earlier one does not hold.
        for k in range(len(guards)):
            (value,) = _values(tape, guards[k : k + 1], leaves)
            if value != guards.expected[k]:
                return k, float(value)
        return None
    values = _values(tape, guards[:], leaves)
    wrong = values != guards.expected
    if not wrong.any():
        return None
    k = int(wrong.argmax())
    return k, float(values[k])


def may_raise(tape: Tape) -> bool:
    """Whether a sweep at other arguments than the tape's own may raise, or do something else."""
    return not tape.numbers_only or has_python(tape)


def has_python(tape: Tape) -> bool:
    """Whether some of its gates are Python code."""
    return any(
        gate.python is not None or (isinstance(gate.array, GateRule) and gate.array.in_python)
        for gate in tape.gates
    )


def _values(tape: Tape, guards: Guards, leaves: Sequence[Any]) -> Floats:
    """The numbers that guards look at."""
    key = ("outcomes", int(guards.numbers[0]), len(guards))
    made = tape.prepared.get(key)
    if made is None:
        nothing = np.zeros(tape.n_slots, np.bool_)
        whole = replace(tape, guards=NONE)
        slots = [(slot, 1) for slot in guards.slots.tolist()]
        made = tape.prepared[key] = extract(whole, nothing, slots, NONE)
    numbers = np.empty(tape.n_inputs)
    tape.input_structure.pack(leaves, numbers)
    own = [numbers[first] if n == 1 else numbers[first : first + n] for first, n in made.inputs]
    found: Floats = sample_program(made.tape, None).results(own)
    return found


def refuse(tape: Tape, k: int, value: float) -> NoReturn:
    """GuardError for a guard that does not hold, and the number it has instead."""
    place = tape.sources[int(tape.guards.locations[k])]
    was, now = (outcome(tape, k, x) for x in (float(tape.guards.expected[k]), value))
    raise GuardError(
        f"{tape.name} was recorded where {question(tape, k)} is {was} ({place}), and here it is "
        f"{now}: use tpf.function, which records every branch that is met, or record it again"
    )


def outcome(tape: Tape, k: int, value: float) -> str:
    """What a guard's number means."""
    if tape.guards.kinds[k] == TRUTH:
        return str(value != 0.0)
    return format(value, ".17g")


def question(tape: Tape, k: int) -> str:
    """What a guard looks at, as a person would write it."""
    guards = tape.guards
    slot, kind = int(guards.slots[k]), int(guards.kinds[k])
    if kind == EXACT or slot < tape.slots[0]:
        return tape.slot_name(slot)
    i = int(np.searchsorted(tape.slots, slot, "right")) - 1
    if tape.slots[i + 1] - tape.slots[i] != 1:
        return tape.slot_name(slot)
    names = tape.operand_names(i)
    if kind == WHOLE:
        return f"int({names[0]})"
    op = tape.op(i)
    if op.name == "not_equal" and names[1] == "0":
        return f"bool({names[0]})"
    return f" {op.symbol} ".join(names)
