"""The Taylor coefficients of a tape along a direction, as a tape."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.passes import simplified
from tapeflow.recorder import Recorder
from tapeflow.structure import Leaf, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.trace import inputs_of, output_slots
from tapeflow.tracers import lift
from tapeflow.tracers.instructions import run_of
from tapeflow.transforms.series import Given, Graph, Series, Values, leaf_of_run
from tapeflow.transforms.sweep import shaped


def taylor(tape: Tape, wanted: Sequence[bool], order: int) -> Tape:
    """The tape of (inputs, direction) -> the coefficients from 0 to ``order`` of its outputs.

    wanted: which leaves of the inputs move. The direction, the numbers of the wanted leaves one
    after the other, is one more input. The result is a list: the outputs' coefficient 0, leaf by
    leaf, then their coefficient 1, and so on.
    """
    structure, output = tape.input_structure, tape.output_structure
    sizes = [leaf.size for leaf, own in zip(structure.leaves, wanted, strict=True) if own]
    leaves = (*structure.leaves, leaf_of_run(sum(sizes)))
    both = Structure(flatten((0.0,) * len(leaves))[1], leaves)
    recorder = Recorder(both.size, share=True)
    with recorder:
        *inputs, direction = map(lift, inputs_of(recorder, both))
        given, first = [], 0
        for value, own in zip(inputs, wanted, strict=True):
            moving = [direction.reshape(-1)[first : first + value.size]] if own else []
            first += value.size * own
            given.append(Given(*(_run(part) for part in (value, *moving))))
        values = Values(Graph(recorder), tape, given)
        for d in range(order + 1):
            # In the order of the tape: a coefficient asks for those of the values before it.
            for i in range(len(tape)):
                recorder.location = recorder.source(tape.source(i))
                values.at(i).coefficient(d)
            if d == 0:
                _note_guards(tape, values, recorder)
        found = [values.gathered(tape.outputs[a:b]) for a, b in output.bounds]
        results = [
            _coefficient(own, d, leaf)
            for d in range(order + 1)
            for own, leaf in zip(found, output.leaves, strict=True)
        ]
        recorder.location = None
        slots, result_leaves = output_slots(recorder, results, tape.name)
    result = Structure(flatten([0.0] * len(results))[1], result_leaves)
    names = [*tape.input_names, "direction"]
    return simplified(recorder.finish(f"series of {tape.name}", slots, both, result, names))


def _run(value: Any) -> Any:
    flat = value.reshape(-1)
    return flat[0] if value.size == 1 else flat


def _coefficient(own: Series, d: int, leaf: Leaf) -> Any:
    value = own.coefficient(d)
    if value is None:
        return np.zeros(leaf.shape) if leaf.shape else 0.0
    return shaped(lift(value), leaf.shape)


def _note_guards(tape: Tape, values: Values, recorder: Recorder) -> None:
    guards = tape.guards
    columns = guards.slots, guards.expected, guards.kinds, guards.locations
    for slot, expected, kind, location in zip(*(c.tolist() for c in columns), strict=True):
        own = run_of(recorder, lift(values.run(slot, 1, None).coefficient(0)))
        source = recorder.source(tape.sources[location])
        recorder.guards.add(own, expected, kind, source, len(recorder.opcodes))
