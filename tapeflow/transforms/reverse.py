"""The pullback of a tape, as a tape."""

from collections.abc import Sequence

import numpy as np

from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.passes.ordering import guards_first
from tapeflow.passes.seams import seams_reached
from tapeflow.recorder import Recorder
from tapeflow.structure import Leaf, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.trace import inputs_of, output_slots
from tapeflow.tracers import lift
from tapeflow.transforms import numbers
from tapeflow.transforms.replay import Replay, on_numbers
from tapeflow.transforms.sweep import Sweep, shaped

PULLBACK = "pullback of "
"""What a pullback's name begins with."""

PULLED = "pullback of"
"""Where a pullback's ``prepared`` has the tape that it is of."""


def pullback(tape: Tape, wanted: Sequence[bool] | None = None, every: bool = False) -> Tape:
    """The tape of (inputs, seeds) -> (outputs, gradients of the inputs).

    wanted: for which leaves of the inputs there is a gradient; all if None. The seeds, one for
    each number of the result, are one more input. The result is a list: the tape's outputs, leaf
    by leaf, then the gradients; with ``every``, then the cotangent of each instruction's result.
    Raises GateError for the gradient of a gate's gradient in Python.
    """
    if not every:
        tape = guards_first(tape)
    structure = tape.input_structure
    flags = [True] * len(structure.leaves) if wanted is None else list(wanted)
    name = PULLBACK + tape.name
    if on_numbers(tape):
        made = numbers.pullback(tape, flags, every, name)
        made.prepared[PULLED] = tape
        return made
    n_outputs = len(tape.outputs)
    leaves = (*structure.leaves, Leaf(None if n_outputs == 1 else (n_outputs,)))
    both = Structure(flatten((0.0,) * len(leaves))[1], leaves)
    recorder = Recorder(both.size, share=True)
    with recorder:
        inputs = inputs_of(recorder, both)
        seams = seams_reached(tape, flags)
        replay = Replay(tape, recorder, np.arange(structure.size), seams)
        sweep = Sweep(replay, flags)
        sweep.seed(inputs[-1])
        sweep.run()
        results = replay.outputs()
        for k, leaf in enumerate(structure.leaves):
            if flags[k]:
                gradient = sweep.take(k)
                zero = np.zeros(leaf.shape) if leaf.shape else 0.0
                results.append(zero if gradient is None else shaped(gradient, leaf.shape))
        if every:
            for i in range(len(tape)):
                size = tape.runs_of(i)[1]
                flowed = sweep.flowed.get(i)
                results.append(np.zeros(size) if flowed is None else lift(flowed).reshape(-1))
        recorder.location = None
        slots, output_leaves = output_slots(recorder, results, tape.name)
    output = Structure(flatten([0.0] * len(results))[1], output_leaves)
    names = [*tape.input_names, "seed"]
    made = remove_dead_code(recorder.finish(name, slots, both, output, names))
    made.prepared[PULLED] = tape
    return made
