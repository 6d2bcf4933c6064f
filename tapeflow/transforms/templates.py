"""Rules recorded once: what one instruction on numbers adds to a pullback, or to a pushforward.

A rule is evaluated on tracers, and gives a tiny tape, its template, for each set of operands that
a derivative flows to. Long tapes are differentiated by writing templates one after the other.
"""

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow.errors import GateError
from tapeflow.ops import FIRST_GATE, Op
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.recorder import Recorder
from tapeflow.structure import Ints, flat_structure
from tapeflow.tape import Location, Tape
from tapeflow.tracers import Tracer, lift
from tapeflow.transforms.python_gates import gate_flows
from tapeflow.transforms.sweep import is_zero, partials_of

NOTHING, PLUS, MINUS, TIMES = range(4)
"""How a flow reaches an operand: not at all, as it is, negative, or times a partial."""

MASKED = 3
"""Operands up to which an op has a template for each set of them; beyond, one for all."""

REVERSE, FORWARD = range(2)


@dataclass(frozen=True)
class Template:
    """A rule as instructions on values that are numbered by references.

    From 0 on these are the operands, then the result, the flow, and the results of the template's
    own instructions; below 0, ~k is number k of the constants.

    modes: for each operand, how the flow reaches it; flows: for each, what
    flows and the partial.
    error: what to raise where a flow arrives, if the rule refused.
    """

    ops: tuple[Op, ...]
    references: tuple[tuple[int, ...], ...]
    constants: tuple[float, ...]
    modes: tuple[int, ...]
    flows: tuple[int, ...]
    error: GateError | None = None


def template(op: Op, mask: int, direction: int) -> Template:
    """The template of an op whose operands in the mask, a bit each, have a derivative."""
    if op.opcode < FIRST_GATE:
        return _of_builtin(op, mask, direction)
    # A user's rule may give something else when the variables around it have changed.
    return _recorded(op, mask, direction)


@functools.cache
def _of_builtin(op: Op, mask: int, direction: int) -> Template:
    return _recorded(op, mask, direction)


_RULE = Location("rule", 0, "rule")


def _recorded(op: Op, mask: int, direction: int) -> Template:
    recorder = Recorder(op.arity + 2, share=True)
    with recorder:
        recorder.location = recorder.source(_RULE)
        operands = [Tracer(recorder, k) for k in range(op.arity)]
        flow = Tracer(recorder, op.arity + 1)
        recorder.know(op, range(op.arity), op.arity)
        chosen = [op.arity > MASKED or bool(mask >> k & 1) for k in range(op.arity)]
        flows: list[tuple[int, Any, Any]] = [(NOTHING, flow, flow)] * op.arity
        error = None
        try:
            partials = _partials(op, operands, flow, chosen, direction)
            for k in np.flatnonzero(chosen).tolist():
                flows[k] = _flow(flow, partials[k])
        except GateError as found:
            error = found  # to be raised only where a flow arrives
        pairs = [value for _, *pair in flows for value in pair]
        slots = [lift(value).run_in(recorder) for value in pairs]
    n_inputs, n = op.arity + 2, len(pairs)
    outputs = np.array(slots, np.int64)
    structures = flat_structure(n_inputs), flat_structure(n)
    tape = remove_dead_code(recorder.finish(op.name, outputs, *structures, [""] * n_inputs))
    return Template(
        tuple(tape.op(i) for i in range(len(tape))),
        tuple(_references(tape, tape.operands_of(i)) for i in range(len(tape))),
        tuple(tape.constants.tolist()),
        tuple(mode for mode, _, _ in flows),
        _references(tape, tape.outputs),
        error,
    )


def _references(tape: Tape, slots: Any) -> tuple[int, ...]:
    first, n_constants = tape.n_inputs, len(tape.constants)
    return tuple(
        slot if slot < first
        else ~(slot - first) if slot < first + n_constants
        else slot - n_constants
        for slot in slots.tolist()
    )  # fmt: skip


def _partials(
    op: Op, operands: Sequence[Tracer], flow: Tracer, chosen: Sequence[bool], direction: int
) -> Sequence[Any]:
    """The partial in each operand; of a gate in Python, in reverse, what flows to each."""
    if op.python is None:
        return partials_of(op, operands)
    own = flow if direction == REVERSE else 1.0
    flows = gate_flows(op, operands, own, chosen)
    found = [0.0 if flow is None else flow for flow in flows]
    return [_Flow(value) for value in found] if direction == REVERSE else found


class _Flow:
    """What flows to an operand, in place of a partial."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _flow(flow: Tracer, partial: Any) -> tuple[int, Any, Any]:
    if isinstance(partial, _Flow):
        return PLUS, partial.value, flow
    if is_zero(partial):
        return NOTHING, flow, flow
    if type(partial) is float and partial == 1.0:
        return PLUS, flow, flow
    if type(partial) is float and partial == -1.0:
        return MINUS, flow, flow
    return TIMES, flow, partial


class Templates:
    """The templates of a tape's instructions, as arrays that a compiled walk expands.

    kinds: each instruction's template. References are the templates', their constants numbered
    throughout.
    """

    def __init__(self, tape: Tape, masks: Ints, direction: int) -> None:
        """masks: for each instruction, which of its operands have a derivative, a bit each."""
        all_of_them = (1 << MASKED) - 1
        many = np.where(masks == 0, 0, all_of_them)
        keys = (tape.opcodes.astype(np.int64) << MASKED) + np.where(
            tape.arities > MASKED, many, masks
        )
        seen = np.zeros((FIRST_GATE + len(tape.gates)) << MASKED, np.bool_)
        seen[keys] = True
        used = np.flatnonzero(seen)
        numbers = np.zeros(len(seen), np.int64)
        numbers[used] = np.arange(len(used))
        self.kinds = numbers[keys]
        self.gates = {gate: k for k, gate in enumerate(tape.gates)}
        self.errors: list[GateError | None] = []
        constants: dict[bytes, int] = {}
        opcodes: list[int] = []
        bounds, starts, flow_bounds = [0], [0], [0]
        references: list[int] = []
        modes: list[int] = []
        flows: list[int] = []
        for key in used.tolist():
            own = template(tape.op_of(key >> MASKED), key & all_of_them, direction)
            self.errors.append(own.error)
            known = [
                ~constants.setdefault(struct.pack("d", number), len(constants))
                for number in own.constants
            ]
            opcodes += [self._opcode(op) for op in own.ops]
            for one in own.references:
                references += [ref if ref >= 0 else known[~ref] for ref in one]
                starts.append(len(references))
            modes += own.modes
            flows += [ref if ref >= 0 else known[~ref] for ref in own.flows]
            bounds.append(len(opcodes))
            flow_bounds.append(len(modes))
        self.bounds, self.starts, self.flow_bounds = map(np.array, (bounds, starts, flow_bounds))
        self.opcodes, self.references = np.array(opcodes, np.int64), np.array(references, np.int64)
        self.modes, self.flows = np.array(modes, np.int64), np.array(flows, np.int64)
        self.refusing = np.array([error is not None for error in self.errors], np.bool_)
        self.constants = np.frombuffer(b"".join(constants), np.float64)

    def _opcode(self, op: Op) -> int:
        if op.opcode < FIRST_GATE:
            return op.opcode
        return FIRST_GATE + self.gates.setdefault(op, len(self.gates))

    @property
    def most(self) -> tuple[int, int]:
        """Instructions, and their operands, that expanding all can give at the most."""
        n = np.diff(self.bounds) + np.diff(self.flow_bounds)
        lengths = self.starts[self.bounds]
        operands = np.diff(lengths) + 3 * np.diff(self.flow_bounds)
        used = np.bincount(self.kinds, minlength=len(n))
        return int(n @ used), int(operands @ used)

    @property
    def n_values(self) -> int:
        """Values that a template refers to at the most: operands, result, flow and its own."""
        sizes = np.diff(self.bounds) + np.diff(self.flow_bounds)
        return int(sizes.max(initial=0)) + 2
