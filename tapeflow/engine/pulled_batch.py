"""Runs a batch whose gradients are values of a tape of numbers: where rules are the user's own.

The native reverse sweep knows the ops' rules and gates' backward alone. The pullback of a tape with
others may still be a tape of numbers, which runs forward as fast as any.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tapeflow.engine.batch import BatchProgram
from tapeflow.engine.batch_run import Source
from tapeflow.engine.groups import Flags
from tapeflow.passes import executable, simplified
from tapeflow.structure import Floats, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.transforms import pullback


def gradients_as_numbers(tape: Tape, wanted: Sequence[bool]) -> Tape | None:
    """The tape of inputs -> (outputs, gradients), if it is of numbers."""
    pulled = pullback(tape, wanted)
    # The seeds, which are the last input, are ones: the first constants.
    ones = np.ones(pulled.n_inputs - tape.n_inputs)
    made = replace(
        pulled,
        constants=np.concatenate([ones, pulled.constants]),
        input_structure=tape.input_structure,
        input_names=tape.input_names,
    )
    made = executable(simplified(made))
    return made if made.numbers_only else None


class PulledBatch(BatchProgram):
    """As BatchProgram. tape: what `gradients_as_numbers` makes of one with n_values leaves."""

    def __init__(
        self, tape: Tape, n_values: int, lane: Flags, reduced: bool, with_value: bool = True
    ) -> None:
        self.n_signed = n_values if with_value else 0
        if not with_value:
            whole = tape.output_structure
            own = whole.leaves[n_values:]
            structure = Structure(flatten([0.0] * len(own))[1], own)
            outputs = tape.outputs[len(tape.outputs) - structure.size :]
            tape = simplified(replace(tape, outputs=outputs, output_structure=structure))
        super().__init__(tape, lane, np.zeros(tape.n_inputs, np.bool_), (), reduced)

    def run(
        self, source: Source, n_lanes: int, reduce: str | None
    ) -> tuple[list[Floats], list[Floats]]:
        n = self.n_signed
        dtypes: list[Any] = [*list(source.values)[:n], *source.gradients]
        found, _ = super().run(replace(source, values=dtypes, gradients=[]), n_lanes, reduce)
        return found[:n], found[n:]
