"""Matrices that could not be factorised: what a sweep leaves as NaNs is an error on one sample."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tapeflow import reference
from tapeflow.arrays import GateRule, SubTapes
from tapeflow.ops import Op
from tapeflow.structure import Floats
from tapeflow.tape import Tape

_MESSAGES = {
    "cholesky": "Matrix is not positive definite",
    "solve": "Singular matrix",
    "azsolve": "Singular matrix",
    "inv": "Singular matrix",
    "eig": "Eigenvalues are complex or did not converge: a tape has real numbers only",
    "eigh": "Eigenvalues did not converge",
    "svd": "SVD did not converge",
}


def message_of(op: Op) -> str | None:
    """What to say where an op gives NaN; None for one that is not looked at.

    The operands and results of the others must still be there when a sweep has ended.
    """
    if isinstance(op.array, SubTapes):
        inside = (message_of(own.op(i)) for own in op.array.tapes for i in range(len(own)))
        return next((message for message in inside if message), None)
    if isinstance(op.array, GateRule):
        return op.array.failure
    return _MESSAGES.get(op.name)


class Failures:
    """Looks at the factorisations of a tape after it has run on one sample.

    places: where each slot's number is among the values.
    """

    def __init__(self, tape: Tape, places: Any) -> None:
        self._tape, self._places = tape, places
        self._suspects = [
            i for i in range(len(tape)) if message_of(tape.op(i)) and tape.runs_of(i)[1]
        ]

    def __bool__(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._suspects)

    def check(self, values: Floats, results: Floats) -> None:
        """Raise LinAlgError, with the line, for the first result that is NaN of what is not.

        Warns where eigenvalues are equal and a gradient is NaN for that.
        """
        for i in self._suspects:
            tape = self._tape
            name = tape.op(i).name
            own = values[self._places[tape.slots[i] : tape.slots[i + 1]]]
            if np.isnan(own).any():
                runs = [
                    values[self._at(slot) : self._at(slot) + size] for slot, size in _runs(tape, i)
                ]
                if all(np.isfinite(run).all() for run in runs):
                    _refuse(tape, i, runs)
            elif name == "eigh" and np.isnan(results).any():
                batch, n = tape.parameters_of(i).tolist()
                w = own[: batch * n].reshape(batch, n)
                if (np.diff(w) == 0.0).any():
                    warnings.warn(
                        f"eigenvalues are equal, so their eigenvectors have no derivative "
                        f"({tape.source(i)})",
                        RuntimeWarning,
                        stacklevel=2,
                    )

    def _at(self, slot: int) -> int:
        return int(self._places[slot])


def _refuse(tape: Tape, i: int, operands: Sequence[Floats]) -> None:
    """Raise LinAlgError for an instruction that made NaN of finite numbers.

    A loop or a branch may do so for other reasons: the oracle looks for the one inside.
    """
    op = tape.op(i)
    if not isinstance(op.array, SubTapes):
        raise np.linalg.LinAlgError(f"{message_of(op)} ({tape.source(i)})")
    before = reference.watcher.set(_look)
    try:
        op.array.forward(tape.parameters_of(i).tolist(), *(run[:, None] for run in operands))
    finally:
        reference.watcher.reset(before)


def _look(tape: Tape, i: int, values: Floats) -> None:
    if not message_of(tape.op(i)) or isinstance(tape.op(i).array, SubTapes):
        return
    runs = [values[slot : slot + size, 0] for slot, size in _runs(tape, i)]
    failed = np.isnan(values[tape.slots[i] : tape.slots[i + 1]]).any()
    if failed and all(np.isfinite(run).all() for run in runs):
        _refuse(tape, i, runs)


def _runs(tape: Tape, i: int) -> Iterator[tuple[int, int]]:
    return zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True)
