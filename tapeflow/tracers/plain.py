"""Traced values where Python needs plain ones: each gives its value, and notes a guard on it."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tapeflow.guards import EXACT, TRUTH, WHOLE
from tapeflow.sources import refuse
from tapeflow.structure import flatten

if TYPE_CHECKING:
    from tapeflow.recorder import Recorder
    from tapeflow.tracers.number import Tracer


def truth(x: "Tracer") -> bool:
    """bool(x): NaN is true, as in Python."""
    recorder = _open(x)
    return recorder.guard(recorder.truth(x.slot), TRUTH) != 0.0


def whole(x: "Tracer") -> int:
    """int(x); ValueError and OverflowError for what is not finite, as in Python."""
    recorder = _open(x)
    return int(recorder.guard(recorder.derived("trunc", (x.slot,)), WHOLE))


def index(x: "Tracer") -> int:
    """What x is as an index; TypeError unless it is a whole number."""
    value = _open(x).value_of(x.slot)[0]
    if not value.is_integer():
        raise TypeError(f"a traced number that is {value:.6g} cannot be an index: use int(x)")
    return int(_open(x).guard(x.slot, EXACT))


def concrete(x: Any) -> Any:
    """The plain numbers behind traced ones, where a recorded function needs them.

    x: a traced number or array, or lists, tuples and dicts of them; what is plain is given back as
    it is. The result is a constant of the recording, without a derivative. A guard notes its exact
    value: other values record the function again, so use it for what takes few of them, such as a
    condition, a count, or parameters that seldom change.

    >>> @tpf.function
    ... def positive_part(x):
    ...     return np.sum(x[tpf.concrete(x > 0.0)])
    >>> positive_part(np.array([1.0, -2.0, 3.0])), positive_part(np.array([1.0, 2.0, 3.0]))
    (4.0, 6.0)
    """
    from tapeflow.tracers.array import TracedArray
    from tapeflow.tracers.number import Tracer

    leaves, treedef = flatten(x)
    for k, leaf in enumerate(leaves):
        if type(leaf) is Tracer:
            leaves[k] = _exact(_open(leaf), leaf.slot)
        elif isinstance(leaf, TracedArray):
            leaves[k] = _exact_array(leaf)
    return treedef.unflatten(leaves)


def _exact_array(x: Any) -> Any:
    if x.recorder is None:
        return np.array(x._of(x.buffer.numbers)).astype(x.dtype)
    recorder, first = _open(x), x.slot
    numbers = [_exact(recorder, first + k) for k in range(x.size)]
    return np.array(numbers, x.dtype).reshape(x.shape)


def _exact(recorder: "Recorder", slot: int) -> float | bool:
    """A number, with guards that no other number passes: NaN and the sign of zero included."""
    if recorder.is_comparison(slot):
        return recorder.guard(slot, TRUTH) != 0.0
    if recorder.guard(recorder.derived("not_equal", (slot, slot)), TRUTH):
        return math.nan
    value = recorder.guard(slot, EXACT)
    if value == 0.0:
        sign = recorder.derived("copysign", (recorder.constant(1.0), slot))
        value = math.copysign(value, recorder.guard(sign, EXACT))
    return value


def _open(x: Any) -> "Recorder":
    recorder: Recorder = x.recorder
    if recorder.closed:
        refuse(
            "use a traced value after its recording has ended",
            "return it instead, or pass it as an argument",
        )
    return recorder
