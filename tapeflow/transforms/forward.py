"""The pushforward of a tape, as a tape."""

from collections.abc import Sequence

import numpy as np

from tapeflow.passes import simplified
from tapeflow.recorder import Recorder
from tapeflow.structure import Leaf, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.trace import inputs_of, output_slots
from tapeflow.tracers import lift
from tapeflow.transforms import numbers
from tapeflow.transforms.replay import inline, on_numbers
from tapeflow.transforms.reverse import pullback
from tapeflow.transforms.sweep import shaped


def pushforward(tape: Tape, wanted: Sequence[bool] | None = None) -> Tape:
    """The tape of (inputs, tangents) -> (outputs, their tangents): what the pullback transposes.

    wanted: which leaves of the inputs have tangents; all if None. The tangents, the numbers of the
    wanted leaves one after the other, are one more input. The result is a list: the tape's outputs,
    leaf by leaf, then as many tangents. The pullback is linear in its seed, so its own pullback
    there is the pushforward, for any seed.
    """
    structure, output = tape.input_structure, tape.output_structure
    n_leaves, n_outputs = len(structure.leaves), len(tape.outputs)
    flags = [True] * n_leaves if wanted is None else list(wanted)
    name = f"pushforward of {tape.name}"
    if on_numbers(tape):
        return numbers.pushforward(tape, flags, name)
    twice = pullback(pullback(tape, flags), [False] * n_leaves + [True])
    size = sum(leaf.size for leaf, own in zip(structure.leaves, flags, strict=True) if own)
    leaves = (*structure.leaves, Leaf(None if size == 1 else (size,)))
    both = Structure(flatten((0.0,) * len(leaves))[1], leaves)
    recorder = Recorder(both.size, share=True)
    with recorder:
        inputs = inputs_of(recorder, both)
        tangent = lift(inputs[-1]).reshape(-1)
        seed = np.ones(n_outputs) if n_outputs != 1 else 1.0
        seeds = np.concatenate([np.zeros(n_outputs), tangent])
        results = inline(twice, [*inputs[:-1], seed, seeds])
        flow = lift(results[-1]).reshape(-1)
        kept = results[: len(output.leaves)]
        for leaf, (first, last) in zip(output.leaves, output.bounds, strict=True):
            kept.append(shaped(flow[first:last], leaf.shape))
        recorder.location = None
        slots, output_leaves = output_slots(recorder, kept, tape.name)
    result = Structure(flatten([0.0] * len(kept))[1], output_leaves)
    names = [*tape.input_names, "tangent"]
    return simplified(recorder.finish(name, slots, both, result, names))
