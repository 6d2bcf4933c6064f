"""Random tapes and inputs for property tests."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tapeflow.ops import COMPILED, Op
from tapeflow.recorder import Recorder
from tapeflow.structure import Leaf, Structure, flat_structure, flatten
from tapeflow.tape import Tape
from tapeflow.tracers import Tracer, apply

SMOOTH = [
    op
    for op in COMPILED
    if op.name
    in {
        "add", "sub", "mul", "neg", "square", "exp", "sin", "cos", "tanh", "sigmoid", "softplus",
        "fma", "atan", "erf", "expm1", "asinh",
    }
]  # fmt: skip
"""Ops that are smooth everywhere: no kinks, poles or edges of a domain."""

numbers = st.floats(-3.0, 3.0) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5])
wild = st.floats(allow_nan=True, allow_infinity=True)


@st.composite
def tapes(
    draw: st.DrawFn, ops: list[Op] | None = None, n_outputs: int | None = None, longest: int = 30
) -> Tape:
    """A tape of 1 to 4 inputs, of the given ops, some of whose operands are constants."""
    n_inputs = draw(st.integers(1, 4))
    recorder = Recorder(n_inputs)
    values: list[Any] = [Tracer(recorder, slot) for slot in range(n_inputs)]
    with recorder:
        for _ in range(draw(st.integers(1, longest))):
            op = draw(st.sampled_from(ops or COMPILED))
            operands = [draw(st.sampled_from(values) | numbers) for _ in range(op.arity)]
            if all(isinstance(operand, float) for operand in operands):
                operands[0] = draw(st.sampled_from(values))
            values.append(apply(op, operands))
        count = draw(st.integers(1, 3)) if n_outputs is None else n_outputs
        # The last value is always an output, so that most of the tape matters.
        results = [values[-1], *(draw(st.sampled_from(values)) for _ in range(count - 1))]
        slots = np.array([recorder.slot_of(value) for value in results], np.int64)
    return recorder.finish(
        "random",
        slots,
        flat_structure(n_inputs),
        Structure(flatten(tuple(results))[1], (Leaf(None),) * count),
        [f"x{k}" for k in range(n_inputs)],
    )


def same_bits(a: Any, b: Any) -> bool:
    """Equal bit for bit, but for the sign of zeros and the payloads of NaNs."""
    return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True))


def identical(a: Any, b: Any) -> bool:
    """Equal bit for bit, but for the payloads of NaNs."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    both_nan = np.isnan(a) & np.isnan(b)
    return a.shape == b.shape and bool(np.all((a.view(np.int64) == b.view(np.int64)) | both_nan))
