"""Tapes as the bodies of loops and branches: making, cutting and joining them, leaf by leaf."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow.arrays import SubTapes
from tapeflow.ops import FIRST_GATE
from tapeflow.passes import simplified
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.recorder import Recorder, in_progress
from tapeflow.structure import Ints, Leaf, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.trace import inputs_of, output_slots
from tapeflow.transforms.replay import inline_in

Flags = npt.NDArray[np.bool_]


def work_of(tape: Tape) -> int:
    """About how many instructions a tape runs, those inside its own loops and branches too."""
    rules = [op.array if isinstance(op.array, SubTapes) else None for op in tape.gates]
    if not any(rules):
        return len(tape)
    inside = 0
    for i in np.flatnonzero(tape.opcodes >= FIRST_GATE).tolist():
        rule = rules[int(tape.opcodes[i]) - FIRST_GATE]
        inside += rule.work(tape.parameters_of(i).tolist()) if rule is not None else 0
    return len(tape) + inside


def sizes_of(structure: Structure) -> list[int]:
    return [leaf.size for leaf in structure.leaves]


def flat(n: int) -> Any:
    """The treedef of n leaves in a tuple."""
    return flatten((0.0,) * n)[1]


def recorded(
    name: str, sizes: Sequence[int], names: Sequence[str], function: Callable[..., Sequence[Any]]
) -> Tape:
    """The tape of a function of runs of these sizes, which gives a sequence of runs."""
    leaves = tuple(Leaf(None if size == 1 else (size,)) for size in sizes)
    structure = Structure(flat(len(leaves)), leaves)
    recorder = Recorder(structure.size, share=True)
    with recorder:
        results = function(*inputs_of(recorder, structure))
        recorder.location = None
        slots, outputs = output_slots(recorder, results, name)
    assert not recorder.captures
    result = Structure(flat(len(outputs)), outputs)
    return simplified(recorder.finish(name, slots, structure, result, names))


def replayed(tape: Tape, inputs: Sequence[Any]) -> list[Any]:
    """The tape's instructions again in the recording in progress: the leaves of its result."""
    recorder = in_progress()
    assert recorder is not None
    return inline_in(tape, recorder, inputs)


def leaf_slots(tape: Tape, k: int) -> Ints:
    """The slots of a leaf of the outputs."""
    first, last = tape.output_structure.bounds[k]
    return tape.outputs[first:last].astype(np.int64)


def with_outputs(tape: Tape, slots: Sequence[Ints]) -> Tape:
    """The tape with other outputs, one leaf for each run of slots."""
    leaves = tuple(Leaf(None if len(own) == 1 else (len(own),)) for own in slots)
    return replace(
        tape,
        outputs=np.concatenate([np.empty(0, np.int32), *slots]).astype(np.int32),
        output_structure=Structure(flat(len(leaves)), leaves),
    )


def choosing(tape: Tape, outputs: Sequence[int]) -> Tape:
    """The tape with some leaves of its outputs alone, and what they depend on."""
    return remove_dead_code(with_outputs(tape, [leaf_slots(tape, k) for k in outputs]))


def inputs_read(tape: Tape) -> list[bool]:
    """Which leaves of the inputs an instruction or an output reads."""
    read = np.zeros(tape.n_slots + 1, np.bool_)
    read[tape.outputs] = True
    for i in range(len(tape)):
        for slot, size in zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True):
            read[slot : slot + size] = True
    return [bool(read[first:last].any()) for first, last in tape.input_structure.bounds]


def taking(tape: Tape, kept: Sequence[int]) -> Tape:
    """The tape without the other leaves of its inputs, which it must not read."""
    structure = tape.input_structure
    moved = np.zeros(tape.n_slots + 1, np.int32)
    n = 0
    for k in kept:
        first, last = structure.bounds[k]
        moved[first:last] = n + np.arange(last - first)
        n += last - first
    gone = tape.n_inputs - n
    moved[tape.n_inputs :] = np.arange(n, tape.n_slots + 1 - gone)
    return replace(
        tape,
        operands=moved[tape.operands],
        slots=tape.slots - gone,
        outputs=moved[tape.outputs],
        input_structure=Structure(flat(len(kept)), tuple(structure.leaves[k] for k in kept)),
        input_names=tuple(tape.input_names[k] for k in kept),
    )


def dependence(tape: Tape, smooth: bool) -> Flags:
    """Which leaf of the outputs (rows) depends on which of the inputs; smoothly, if asked for."""
    inputs, outputs = tape.input_structure, tape.output_structure
    depends = np.zeros((tape.n_slots + 1, len(inputs.leaves)), np.bool_)
    for k, (first, last) in enumerate(inputs.bounds):
        depends[first:last, k] = True
    for i in range(len(tape)):
        if smooth and tape.op(i).zero_derivative:
            continue
        runs = zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True)
        own = [depends[slot : slot + size].any(0) for slot, size in runs]
        if own:
            depends[tape.slots[i] : tape.slots[i + 1]] = np.any(own, 0)
    rows = [depends[leaf_slots(tape, k)].any(0) for k in range(len(outputs.leaves))]
    return np.array(rows, np.bool_).reshape(len(outputs.leaves), len(inputs.leaves))
