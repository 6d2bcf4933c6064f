"""Running a Python function once on tracers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tapeflow.errors import StructureError
from tapeflow.structure import Leaf, Structure, flat_structure, flatten, leaf_of
from tapeflow.tape import Tape
from tapeflow.tracer import Recorder, TracedArray, Tracer


def traced(leaf: Leaf, tracers: Sequence[Tracer]) -> Any:
    """The argument that a recorded function sees in place of a leaf."""
    if leaf.shape is None:
        return tracers[0]
    elements = np.empty(leaf.size, object)
    elements[:] = tracers
    return elements.reshape(leaf.shape).view(TracedArray)


def trace(
    function: Callable[..., Any], structure: Structure, names: Sequence[str]
) -> tuple[Tape, list[Tracer]]:
    """Record ``function`` on arguments of ``structure`` (a tuple of them).

    Returns the tape, and the tracers of enclosing recordings that it closes over: the tape takes
    them as inputs after its own.
    """
    recorder = Recorder(structure.size)
    tracers = recorder.inputs()
    leaves = [
        traced(leaf, tracers[first:last])
        for leaf, (first, last) in zip(structure.leaves, structure.bounds, strict=True)
    ]
    name = getattr(function, "__name__", type(function).__name__)
    with recorder:
        results, treedef = flatten(function(*structure.unflatten(leaves)))
        flat, shapes = _output_slots(recorder, results, name)
    captures = list(recorder.captures)
    inputs = structure
    if captures:
        inputs = flat_structure(structure.size + len(captures))
        names = [*names, *(f"captured{i}" for i in range(len(captures)))]
    return recorder.finish(name, flat, inputs, Structure(treedef, shapes), names), captures


def _output_slots(
    recorder: Recorder, results: Iterable[Any], name: str
) -> tuple[list[int], tuple[Leaf, ...]]:
    slots: list[int] = []
    leaves = []
    for value in results:
        if type(value) is Tracer:
            leaves.append(Leaf(None))
            slots.append(recorder.slot_of(value))
        elif isinstance(value, np.ndarray) and value.dtype == object:
            leaves.append(Leaf(value.shape))
            slots.extend(recorder.slot_of(element) for element in value.flat)
        else:
            try:
                leaves.append(leaf_of(value))
            except StructureError:
                raise StructureError(
                    f"{name} returned a {type(value).__name__}: return numbers and arrays, "
                    "in lists, tuples and dicts"
                ) from None
            slots.extend(recorder.slot_of(element) for element in np.ravel(value).tolist())
    return slots, tuple(leaves)
