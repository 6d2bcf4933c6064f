"""Running a Python function once on tracers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tapeflow.errors import StructureError
from tapeflow.recorder import Recorder
from tapeflow.structure import Floats, Ints, Leaf, Structure, flatten, leaf_of
from tapeflow.tape import Tape
from tapeflow.tracers import TracedArray, Tracer, is_traced, lift


def traced(recorder: Recorder, leaf: Leaf, slot: int) -> Tracer | TracedArray:
    """The value that a recorded function sees in place of a leaf."""
    if not leaf.shape:
        return Tracer(recorder, slot)
    return TracedArray.of(recorder, slot, leaf.shape)


def inputs_of(recorder: Recorder, structure: Structure) -> list[Any]:
    """What stands for each leaf of the inputs."""
    pairs = zip(structure.leaves, structure.bounds, strict=True)
    return [traced(recorder, leaf, first) for leaf, (first, _) in pairs]


def numbers_of(leaves: Sequence[Any], structure: Structure) -> Floats:
    """The numbers of leaves: plain ones, and traced ones at the point they are recorded at."""
    numbers = np.empty(structure.size)
    for leaf, (first, last) in zip(leaves, structure.bounds, strict=True):
        if is_traced(leaf):
            own = lift(leaf)
            numbers[first:last] = own.recorder.value_of(own.slot, last - first)
        else:
            numbers[first:last] = np.ravel(leaf)
    return numbers


def trace(
    function: Callable[..., Any],
    structure: Structure,
    names: Sequence[str],
    example: Callable[[], Floats] | None = None,
    forced: Sequence[float] = (),
) -> tuple[Tape, list[Any]]:
    """Record ``function`` on arguments of ``structure`` (a tuple of them).

    example: gives the arguments' numbers, if a branch asks for them; without it there can be none.
    forced: what the first guards are decided as instead. Returns the tape, and the traced values
    of enclosing recordings that it closes over: the tape takes them as inputs after its own.
    """
    recorder = Recorder(structure.size, example=example, forced=forced)
    name = getattr(function, "__name__", type(function).__name__)
    with recorder:
        arguments = structure.unflatten(inputs_of(recorder, structure))
        results, treedef = flatten(function(*arguments))
        slots, leaves = output_slots(recorder, results, name)
    output = Structure(treedef, leaves)
    if not recorder.captures:
        return recorder.finish(name, slots, structure, output, names), []
    captures: list[Any] = []
    own = list(structure.leaves)
    for outer, slot, size in recorder.captures:
        own.append(Leaf(None if size == 1 else (size,)))
        captures.append(traced(outer, own[-1], slot))
    both = Structure(flatten((0.0,) * len(own))[1], tuple(own))
    names = [*names, *(f"captured{k}" for k in range(len(captures)))]
    return recorder.finish(name, slots, both, output, names), captures


def output_slots(
    recorder: Recorder, results: Iterable[Any], name: str
) -> tuple[Ints, tuple[Leaf, ...]]:
    """The slot of each number of some results, and their leaves."""
    slots = [np.empty(0, np.int64)]
    leaves = []
    for value in results:
        if type(value) is Tracer:
            leaves.append(Leaf(None))
            slots.append(np.array([recorder.slot_of(value)], np.int64))
            continue
        if not is_traced(value):
            try:
                leaves.append(leaf_of(value))
            except StructureError:
                raise StructureError(
                    f"{name} returned a {type(value).__name__}: return numbers and arrays, "
                    "in lists, tuples and dicts"
                ) from None
        array = lift(value)
        if is_traced(value):
            leaves.append(Leaf(array.shape))
        slots.append(_slots_of(array, recorder))
    return np.concatenate(slots), tuple(leaves)


def _slots_of(array: TracedArray, recorder: Recorder) -> Ints:
    """The slot of each of an array's numbers in C order, in a recording."""
    if array.recorder is recorder and not recorder.wide:
        # Among single numbers only, no instruction is needed to put them together.
        whole = array.buffer.stretch(0, array.buffer.size)
        slots = [slot + np.arange(length) for length, slot in whole]
        own: Ints = np.concatenate([*slots, np.empty(0, np.int64)])[array.places().ravel()]
        return own
    return array.run_in(recorder) + np.arange(array.size, dtype=np.int64)
