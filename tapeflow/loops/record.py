"""Recording an instruction that carries tapes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tapeflow.arrays.base import Parameters, SubTapes
from tapeflow.ops import op_of
from tapeflow.tracers import lift
from tapeflow.tracers.array import TracedArray
from tapeflow.tracers.instructions import recorder_of, run_of


def record(rule: SubTapes, p: Parameters, operands: Sequence[Any]) -> list[Any]:
    """Record the instruction; the parts of its result, as flat runs."""
    lifted = [lift(operand).reshape(-1) for operand in operands]
    recorder = recorder_of(lifted)
    slots = [run_of(recorder, operand) for operand in lifted]
    sizes, size = rule.sizes(p)
    assert sizes == tuple(operand.size for operand in lifted), (rule.name, sizes)
    slot = recorder.append(op_of(rule), slots, p, size)
    ends = np.cumsum([0, *rule.parts(p)]).tolist()
    return [
        TracedArray.of(recorder, slot + first, (last - first,)) for first, last in pairwise(ends)
    ]
