"""The programs of a tape for one sample."""

from typing import Any

import numpy as np

from tapeflow.gates import PythonBackward
from tapeflow.passes import executable
from tapeflow.tape import Tape


def has_native_reverse(tape: Tape) -> bool:
    """Whether the native reverse sweep knows every instruction; if not, the pullback is run."""
    second = any(isinstance(gate.python, PythonBackward) for gate in tape.gates)
    return tape.numbers_only and not second


def sample_program(tape: Tape, wanted: slice | None) -> Any:
    """The tape's program for one sample, with the gradients of some inputs (None: no reverse)."""
    key = ("sample", None if wanted is None else (wanted.start, wanted.stop))
    program = tape.prepared.get(key)
    if program is None:
        # These bring Numba, which takes a while.
        from tapeflow.engine.array_sample import ArraySample
        from tapeflow.engine.sample import SampleProgram

        flags = np.zeros(tape.n_inputs, np.bool_)
        flags[slice(0, 0) if wanted is None else wanted] = True
        run = executable(tape) if wanted is None else tape
        native = run.numbers_only and (wanted is None or has_native_reverse(tape))
        kind: Any = SampleProgram if native else ArraySample
        program = tape.prepared[key] = kind(run, flags, wanted is not None)
    return program
