"""A body made ready to run as part of a loop or branch: on one sample, or on rows of lanes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tapeflow import settings
from tapeflow.engine.loop_kernels import steps
from tapeflow.engine.program import Program
from tapeflow.engine.threaded import ThreadedProgram
from tapeflow.kernels.compiler import seconds_to_compile
from tapeflow.loops.bodies import leaf_slots, with_outputs
from tapeflow.memory import address_of
from tapeflow.passes import executable
from tapeflow.structure import Ints
from tapeflow.tape import Tape

PATIENCE = 0.25
"""Seconds of compiling a body at once, whatever it is used for."""

SAVED = 3e-9
"""Seconds that an instruction of a body takes longer, in one step, when it has its own kernel."""


class Run(NamedTuple):
    """Numbers that lie side by side in a body's memory, or among its single numbers."""

    place: int
    single: bool
    size: int


class BodyCode:
    """A body's code.

    lane: for each leaf of its inputs, whether it differs by lane; None for one sample. steps_known:
    how often it is known to run. make: what makes a program of a tape with arrays.
    """

    def __init__(
        self, tape: Tape, lane: Sequence[bool] | None, steps_known: int, make: Callable[..., Any]
    ) -> None:
        tape = executable(tape)
        self.tape, self.lanes = tape, lane is not None
        self._worth = max(PATIENCE, SAVED * steps_known * len(tape))
        flags = np.zeros(tape.n_inputs, np.bool_)
        for (first, last), own in zip(tape.input_structure.bounds, lane or (), strict=False):
            flags[first:last] = own
        # Inputs are read at every step: as outputs, they keep their places.
        inputs = [np.arange(*bounds) for bounds in tape.input_structure.bounds]
        leaves = range(len(tape.output_structure.leaves))
        whole = with_outputs(tape, [*(leaf_slots(tape, k) for k in leaves), *inputs])
        self.fields = np.zeros(steps.PHASE_SIZE, np.int64)
        self.lane = flags
        n = tape.n_slots
        self.single = np.zeros(n, np.bool_)
        if not tape.numbers_only:
            self._with_arrays(whole, make)
        elif self.lanes:
            self._in_lanes(whole)
        else:
            self._on_one_sample(whole)
        self.constants = np.array(tape.constants)
        self._set(CONSTANTS=address_of(self.constants), N_CONSTANTS=len(self.constants))
        self._set(FIRST_CONSTANT=tape.n_inputs, CONSTANTS_SINGLE=self.lanes)

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            self.fields[getattr(steps, name)] = int(value)

    @property
    def inner_rows(self) -> int:
        """Rows of the loops and branches inside it."""
        return sum(control.rows for control in getattr(self.program, "controls", ()))

    @property
    def has_python(self) -> bool:
        return bool(self.program.has_python_gates)

    def _fused(self, make: Callable[[bool], Any]) -> Any:
        """The program with kernels of many instructions, if they do not take too long to make."""
        tier = settings.current().tier
        if tier != "interpret":
            program = make(True)
            if tier == "fused" or seconds_to_compile(program.kernels) < self._worth:
                return program
        return make(False)

    def _on_one_sample(self, tape: Tape) -> None:
        none = np.zeros(tape.n_inputs, np.bool_)
        self.program = program = self._fused(
            lambda fused: ThreadedProgram(tape, none, False, fused)
        )
        program.load()
        self.places = np.full(tape.n_slots, -1, np.int64)
        self.places[tape.outputs] = program.outputs
        self.operands = np.ascontiguousarray(program.operands)
        self._set(THREADED=1, N_ROWS=program.n_places, FIRST_PLACE=int(tape.slots[0]))
        self._set(OPERANDS=address_of(self.operands), CODE=address_of(program.forward))
        self._set(TABLE=address_of(program.table))

    def _in_lanes(self, tape: Tape) -> None:
        none = np.zeros(tape.n_inputs, np.bool_)
        self.program = program = self._fused(
            lambda fused: Program(tape, self.lane, none, False, fused)
        )
        program.load()
        self.single = ~program.lane
        self.places = np.where(self.single, np.arange(tape.n_slots), program.value_rows)
        self._set(N_ROWS=program.n_value_rows, N_SINGLES=tape.n_slots)
        self._set_code(program)

    def _with_arrays(self, tape: Tape, make: Callable[..., Any]) -> None:
        self.program = program = make(tape, self.lane)
        if self.lanes:
            self.single = ~program.lane
            self.places = np.where(self.single, program.places, program.value_rows)
            self._set(N_ROWS=program.n_value_rows, N_SINGLES=program.n_places)
            self._set_code(program)
        else:
            self.places = program.places
            self._set(N_ROWS=program.n_places)
            self._set(CODE=program.shared_forward.address, N_CODE=len(program.shared_forward))

    def _set_code(self, program: Any) -> None:
        self._set(SHARED_CODE=program.shared_forward.address)
        self._set(N_SHARED_CODE=len(program.shared_forward))
        self._set(CODE=program.lane_forward.address, N_CODE=len(program.lane_forward))

    def input_run(self, k: int) -> Run:
        """Where a leaf of the inputs lies: side by side."""
        first, last = self.tape.input_structure.bounds[k]
        if first == last:
            return Run(0, False, 0)
        return Run(int(self.places[first]), bool(self.single[first]), last - first)

    def output_runs(self, k: int) -> list[Run]:
        """Where a leaf of the outputs lies."""
        slots = leaf_slots(self.tape, k)
        places, single = self.places[slots], self.single[slots]
        borders = np.flatnonzero((np.diff(places) != 1) | (single[1:] != single[:-1])) + 1
        return [
            Run(int(places[own[0]]), bool(single[own[0]]), len(own))
            for own in np.split(np.arange(len(slots)), borders)
            if len(own)
        ]


def table_of(rows: Sequence[Sequence[int]], columns: int) -> Ints:
    return np.array([list(map(int, row)) for row in rows], np.int64).reshape(-1, columns)
