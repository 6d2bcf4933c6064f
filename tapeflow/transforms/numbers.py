"""The pullback and the pushforward of a tape of numbers, written by compiled walks.

They expand the rules' templates (templates.py), and write what the sweep on tracers (sweep.py),
which tapes with arrays take, would record: the same products and sums, in the same order.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.guards import Guards
from tapeflow.ops import BY_NAME
from tapeflow.passes.common_subexpressions import share_common_subexpressions
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.sources import user_place
from tapeflow.structure import Leaf, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.transforms.templates import FORWARD, REVERSE, Templates

_CODES = np.array([BY_NAME[name].opcode for name in ("add", "sub", "neg", "azmul", "azfma")])


def pullback(tape: Tape, wanted: Sequence[bool], every: bool, name: str) -> Tape:
    """The pullback of a tape of numbers; see reverse.py."""
    from tapeflow.transforms import loops

    writer = _Writer(tape, wanted, len(tape.outputs), REVERSE)
    moved = writer.moved()
    outputs, operands = moved[tape.outputs], moved[tape.operands]
    active = np.zeros(writer.first_result + len(tape), np.bool_)
    active[moved] = writer.active
    totals = np.full(len(active), -1, np.int64)
    n_outputs = len(outputs)
    writer.write(
        loops.pull,
        (n_outputs, 2 * n_outputs),
        (tape.starts, operands, writer.first_result, active, outputs, tape.n_inputs),
        totals,
    )
    results = [outputs, *(totals[first:last] for first, last in writer.wanted())]
    inputs = tape.input_structure.leaves
    leaves = [leaf for leaf, own in zip(inputs, wanted, strict=True) if own]
    if every:
        results.append(totals[writer.first_result :])
        leaves += [Leaf((1,))] * len(tape)
    before = tape.opcodes, operands, np.diff(tape.starts), np.arange(len(tape))
    leaves = [*tape.output_structure.leaves, *leaves]
    guards = tape.guards.moved(slots=moved[tape.guards.slots])
    return writer.finish(name, before, results, leaves, "seed", guards)


def pushforward(tape: Tape, wanted: Sequence[bool], name: str) -> Tape:
    """The pushforward of a tape of numbers; see forward.py."""
    from tapeflow.transforms import loops

    spans = [
        np.arange(*bounds)
        for bounds, own in zip(tape.input_structure.bounds, wanted, strict=True)
        if own
    ]
    places = np.concatenate([np.empty(0, np.int64), *spans])
    writer = _Writer(tape, wanted, len(places), FORWARD)
    moved = writer.moved()
    tangents = np.full(tape.n_slots, -1, np.int64)
    tangents[places] = tape.n_inputs + np.arange(len(places))
    writer.write(
        loops.push,
        (len(tape), len(tape.operands)),
        (tape.starts, tape.operands, tape.opcodes, moved, int(tape.slots[0]), writer.first_result),
        tangents,
    )
    results = moved[tape.outputs], tangents[tape.outputs]
    leaves = tape.output_structure.leaves * 2
    # Instructions with those of their tangents between them are further apart.
    ends = np.append(moved[tape.slots[0] :] - writer.first_result, len(writer.written[0]))
    guards = tape.guards.moved(slots=moved[tape.guards.slots], after=ends[tape.guards.after])
    before = [np.empty(0, np.int64)] * 4
    return writer.finish(name, before, results, leaves, "tangent", guards)


class _Writer:
    """A tape that takes a seed, or tangents, after the inputs of another, being written."""

    def __init__(self, tape: Tape, wanted: Sequence[bool], n_seeds: int, direction: int) -> None:
        from tapeflow.jit import walk
        from tapeflow.transforms.loops import find_active

        self.tape, self.flags, self.n_seeds = tape, wanted, n_seeds
        opcodes = np.unique(tape.opcodes).tolist()
        stopping = [code for code in opcodes if tape.op_of(code).zero_derivative]
        self.active, masks = np.zeros(tape.n_slots, np.bool_), np.zeros(len(tape), np.int64)
        for first, last in self.wanted():
            self.active[first:last] = True
        stops = np.isin(tape.opcodes, stopping)
        first = int(tape.slots[0])
        walk(find_active, len(tape), tape.starts, tape.operands, first, stops, self.active, masks)
        self.templates = Templates(tape, masks, direction)
        self.constants = tape.constants
        numbers = self.templates.constants.tolist()
        self.constant_slots = np.array([self.constant(x) for x in numbers], np.int64)
        self.first_result = tape.n_inputs + n_seeds + len(self.constants)

    def wanted(self) -> list[tuple[int, int]]:
        """The slots of the inputs that have derivatives, first to last + 1."""
        bounds = self.tape.input_structure.bounds
        return [own for own, flag in zip(bounds, self.flags, strict=True) if flag]

    def constant(self, number: float) -> int:
        """The slot of a plain number, which is the tape's if it has it."""
        bits = np.float64(number).view(np.int64)
        (known,) = np.nonzero(self.constants.view(np.int64) == bits)
        if not len(known):
            self.constants = np.append(self.constants, number)
        place = int(known[0]) if len(known) else len(self.constants) - 1
        return self.tape.n_inputs + self.n_seeds + place

    def moved(self) -> Any:
        """Where each of the tape's slots is, if its instructions come first."""
        slots = np.arange(self.tape.n_slots)
        slots[self.tape.n_inputs :] += self.n_seeds
        slots[self.tape.slots[0] :] += len(self.constants) - len(self.tape.constants)
        return slots

    def write(
        self,
        loop: Callable[..., int],
        more: tuple[int, int],
        arguments: tuple[Any, ...],
        flows: Any,
    ) -> None:
        """Let a walk write instructions. more: how many it adds to the templates', at the most."""
        from tapeflow.jit import walk

        t, tape = self.templates, self.tape
        n, n_operands = (a + b for a, b in zip(t.most, more, strict=True))
        opcodes, ends, owners = (np.zeros(n, kind) for kind in (np.uint16, np.int32, np.int32))
        operands = np.zeros(n_operands, np.int32)
        count = walk(
            loop,
            len(tape),
            t.kinds,
            *arguments,
            _CODES,
            t.bounds,
            t.opcodes,
            t.starts,
            t.references,
            self.constant_slots,
            t.flow_bounds,
            t.modes,
            t.flows,
            t.refusing,
            np.zeros(t.n_values, np.int64),
            flows,
            opcodes,
            ends,
            operands,
            owners,
        )
        if count < 0:
            error = t.errors[int(t.kinds[~count])]
            assert error is not None
            raise error
        ends = ends[:count]
        n_operands = int(ends[-1]) if count else 0
        self.written = (
            opcodes[:count],
            operands[:n_operands],
            np.diff(ends, prepend=0),
            owners[:count],
        )

    def finish(
        self,
        name: str,
        before: Sequence[Any],
        results: Sequence[Any],
        leaves: Sequence[Leaf],
        seed: str,
        guards: Guards,
    ) -> Tape:
        """The tape of what was written.

        before: opcodes, operands, arities and owners of instructions that come first. results:
        runs of slots, -1 where nothing has flowed; leaves: of all of them.
        """
        tape = self.tape
        parts = zip(before, self.written, strict=True)
        opcodes, operands, arities, owners = map(np.concatenate, parts)
        outputs: Any = np.concatenate([*results, np.empty(0, np.int64)]).astype(np.int64)
        if (outputs < 0).any():
            n_constants = len(self.constants)
            zero = self.constant(0.0)
            shift = len(self.constants) - n_constants
            operands = operands + shift * (operands >= self.first_result)
            outputs = np.where(outputs < 0, zero, outputs + shift * (outputs >= self.first_result))
            looked_at = guards.slots
            guards = guards.moved(slots=looked_at + shift * (looked_at >= self.first_result))
            self.first_result += shift
        sources = (*tape.sources, user_place()) if (owners < 0).any() else tape.sources
        inputs = (
            *tape.input_structure.leaves,
            Leaf(None if self.n_seeds == 1 else (self.n_seeds,)),
        )
        # NumPy's numbers are numbers.
        kinds = tuple(Leaf(leaf.shape or None) for leaf in leaves)
        n = len(opcodes)
        slots: Any = self.first_result + np.arange(n + 1)
        made = Tape(
            name=name,
            opcodes=opcodes,
            starts=np.cumsum(np.append(0, arities)),
            operands=operands,
            slots=slots,
            constants=self.constants,
            outputs=outputs,
            locations=np.append(tape.locations, len(sources) - 1)[owners],
            parameters=np.empty(0, np.int64),
            parameter_starts=np.zeros(n + 1, np.int32),
            sources=sources,
            input_structure=Structure(flatten((0.0,) * len(inputs))[1], inputs),
            output_structure=Structure(flatten([0.0] * len(kinds))[1], kinds),
            input_names=(*tape.input_names, seed),
            gates=tuple(self.templates.gates),
            guards=guards,
        )
        return remove_dead_code(share_common_subexpressions(made))
