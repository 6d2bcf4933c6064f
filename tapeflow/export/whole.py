"""Evaluating a tape with values of another library: numbers, and runs of an array."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.backend import Float
from tapeflow.errors import TapeError
from tapeflow.export.library import Library
from tapeflow.ops import BY_NAME, FIRST_GATE, Op
from tapeflow.passes import executable
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.tape import Tape


class Values:
    """What a library's values are made with.

    A number is a value without axes, a run has one axis. what: the library, as errors call it.
    """

    what: str
    backend: Library

    def constant(self, numbers: Any) -> Any:
        """A number or a run of plain numbers."""
        raise NotImplementedError

    def part(self, run: Any, first: int, last: int) -> Any:
        """Some numbers of a run, as a run."""
        raise NotImplementedError

    def reshape(self, value: Any, shape: Sequence[int]) -> Any:
        raise NotImplementedError

    def broadcast(self, value: Any, shape: Sequence[int]) -> Any:
        raise NotImplementedError

    def array(self, op: Op, p: Sequence[int], operands: Sequence[Any]) -> Any:
        """An op on whole arrays, of runs; None if there is none."""
        raise NotImplementedError

    def finished(self, op: Op, value: Any) -> Any:
        """The value of an op on numbers, as it goes on to others."""
        return value


def prepared(tape: Tape, what: str) -> Tape:
    """The tape that is exported; TapeError for one with guards."""
    if len(tape.guards):
        raise TapeError(
            f"{tape.name} takes branches on values, as at {tape.guard_name(0)}, and cannot be "
            f"exported to {what}: use tpf.where or tpf.cond"
        )
    return remove_dead_code(executable(tape))


def evaluate(tape: Tape, inputs: Sequence[Any], values: Values) -> list[Any]:
    """The leaves of a tape's result, as numbers and runs, from the leaves of its inputs."""
    return _Evaluation(tape, inputs, values).results()


class _Evaluation:
    def __init__(self, tape: Tape, inputs: Sequence[Any], values: Values) -> None:
        self.tape, self.values = tape, values
        structure = tape.input_structure
        # What there is: the first slot of each number or run, and it.
        self._found: dict[int, Any] = {}
        for (first, _), value in zip(structure.bounds, inputs, strict=True):
            self._found[first] = value
        bounds = [first for first, last in structure.bounds if last > first]
        self._starts = np.array([*bounds, *tape.slots.tolist()])
        for i in np.flatnonzero(np.diff(tape.slots)).tolist():
            self._found[int(tape.slots[i])] = self._instruction(i)

    def _owner(self, slot: int) -> tuple[int, bool]:
        """Where the value begins that a slot is of, and whether that is one number."""
        k = int(np.searchsorted(self._starts, slot, "right")) - 1
        start = int(self._starts[k])
        if slot < self.tape.n_inputs:
            bounds = self.tape.input_structure.bounds
            leaf = next(
                own
                for own, bound in zip(self.tape.input_structure.leaves, bounds, strict=True)
                if bound[0] == start and bound[1] > start
            )
            return start, leaf.shape is None
        return start, len(self._starts) > k + 1 and self._starts[k + 1] - start == 1

    def number(self, slot: int) -> Any:
        tape = self.tape
        if tape.n_inputs <= slot < tape.slots[0]:
            return self.values.constant(float(tape.constants[slot - tape.n_inputs]))
        start, single = self._owner(slot)
        if single:
            return self._found[start]
        one = self.values.part(self._found[start], slot - start, slot - start + 1)
        return self.values.reshape(one, ())

    def run(self, slot: int, size: int) -> Any:
        tape = self.tape
        if not size or tape.n_inputs <= slot < tape.slots[0]:
            first = slot - tape.n_inputs
            return self.values.constant(tape.constants[first : first + size] if size else [])
        start, single = self._owner(slot)
        if single:
            return self.values.reshape(self._found[start], (1,))
        return self.values.part(self._found[start], slot - start, slot - start + size)

    def _instruction(self, i: int) -> Any:
        tape, op = self.tape, self.tape.op(i)
        p = tape.parameters_of(i).tolist()
        slots = tape.operands_of(i).tolist()
        sizes, size = tape.runs_of(i)
        try:
            if op.array is not None:
                runs = [self.run(slot, n) for slot, n in zip(slots, sizes, strict=True)]
                found = self.values.array(op, p, runs)
                if found is None:
                    raise TapeError(f"{op.name} has no counterpart there")
                return self.values.reshape(found, ()) if size == 1 else found
            if op.python is not None:
                raise TapeError(f"{op.name} runs in Python")
            if not p:
                return self._rule(op, [self.number(slot) for slot in slots])
            shapes = grid.shapes(p, op.arity)
            operands = [
                self.values.reshape(self.run(slot, n), shape)
                for slot, n, shape in zip(slots, sizes, shapes, strict=True)
            ]
            whole = self.values.broadcast(self._rule(op, operands), p[: grid.AXES])
            return self.values.reshape(whole, (size,) if size != 1 else ())
        except TapeError as error:
            raise TapeError(
                f"{op.name} ({tape.source(i)}) cannot be exported to {self.values.what}: {error}"
            ) from None

    def _rule(self, op: Op, operands: Sequence[Any]) -> Any:
        """An op on numbers, or on arrays of them: what the library has, or else by its rule."""
        backend = self.values.backend
        own = backend.known.get(op.name) if op.opcode < FIRST_GATE else None
        if own is not None:
            return self.values.finished(op, own(*operands))
        result = op.rule(*(Float(backend, operand) for operand in operands))[0]
        return self.values.finished(op, backend.lift(result).value)

    def results(self) -> list[Any]:
        tape, found = self.tape, []
        structure = tape.output_structure
        for leaf, (first, last) in zip(structure.leaves, structure.bounds, strict=True):
            slots = tape.outputs[first:last].tolist()
            if leaf.shape is None:
                found.append(self.number(slots[0]))
                continue
            pieces = []
            cuts = np.flatnonzero(np.diff(slots) != 1) + 1
            for piece in np.split(np.array(slots, np.int64), cuts):
                pieces += self._pieces(piece)
            joined = pieces[0] if len(pieces) == 1 else self.joined(pieces)
            found.append(self.values.reshape(joined, leaf.shape))
        return found

    def _pieces(self, slots: Any) -> list[Any]:
        """Runs that are together some slots in a row."""
        if not len(slots):
            return [self.values.constant([])]
        tape = self.tape
        first, last = int(slots[0]), int(slots[-1]) + 1
        ends = [*self._starts.tolist(), tape.n_inputs, tape.n_slots]
        cuts = sorted({first, last, *(end for end in ends if first < end < last)})
        return [self.run(a, b - a) for a, b in itertools.pairwise(cuts)]

    def joined(self, pieces: Sequence[Any]) -> Any:
        return self.values.array(BY_NAME["concat"], [0] * len(pieces), pieces)
