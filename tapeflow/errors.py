"""The exceptions of tapeflow, each a kind of the standard exception a NumPy user would catch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TracingError(TypeError):
    """A traced value was used where only a plain number can go, or left the trace it belongs to."""


class TapeError(ValueError):
    """A tape's arrays do not describe a valid program."""


class StructureError(TypeError):
    """Arguments do not have the structure, shapes or types that a tape or transform needs."""


class GuardError(ValueError):
    """A tape was given arguments at which the function takes another branch than it has."""


class GateError(RuntimeError):
    """A user's gate raised, or returned something that is not a value or a list of gradients."""


class NonFiniteError(FloatingPointError):
    """A sweep met a NaN or an infinity that ``tpf.config(debug_nans=True, debug_infs=True)`` finds.

    sweep: "forward" or "reverse". sample: its place in the batch, or None for one sample and for
    what a batch shares. Where an instruction made the number: instruction, its place on the tape;
    gate, the name of its op; location, with the ``file``, ``line`` and ``function`` that recorded
    it; operands, their values by name.
    """

    def __init__(
        self,
        what: str,
        told: str = "",
        *,
        sweep: str = "forward",
        sample: int | None = None,
        instruction: int | None = None,
        gate: str | None = None,
        location: Any = None,
        operands: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(what, told)
        self.what, self.told = what, told
        self.sweep, self.sample, self.instruction = sweep, sample, instruction
        self.gate, self.location, self.operands = gate, location, operands or {}

    def __str__(self) -> str:
        sample = "" if self.sample is None else f", sample {self.sample}"
        return f"{self.what}{sample}" + (f": {self.told}" if self.told else "")


@contextmanager
def renumbered(samples: Any) -> Iterator[None]:
    """A block of code that runs some samples of a batch: its errors say which those are in it.

    samples: their numbers, or None where they are all.
    """
    try:
        yield
    except NonFiniteError as error:
        if samples is not None and error.sample is not None:
            error.sample = int(samples[error.sample])
        raise
