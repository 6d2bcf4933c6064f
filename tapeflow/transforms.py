"""Tape to tape: a recorded function's pullback, and its replay inside another recording.

The pullback's instructions are made by evaluating the rules on tracers, so they can be recorded,
differentiated and run like any others. On a tape of numbers it computes what the interpreter's
native reverse sweep does, product by product; a tape with arrays is differentiated by it alone.
"""

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.gates import backward_op
from tapeflow.ops import BY_NAME, Op
from tapeflow.passes import simplified
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.recorder import Recorder, innermost
from tapeflow.structure import Leaf, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.trace import inputs_of, output_slots, traced
from tapeflow.tracers import Tracer, apply, elementwise, lift


def inline(tape: Tape, inputs: Sequence[Any]) -> list[Any]:
    """Record the tape's instructions again on other inputs, traced ones among them.

    inputs: one value for each leaf of the tape's. Returns one for each leaf of its result.
    """
    values = [lift(value) for value in inputs]
    recorder = innermost([value.recorder for value in values if value.recorder is not None])
    return _Replay(tape, recorder, [value.run_in(recorder) for value in values]).outputs()


class _Replay:
    """A tape's instructions written to another recording, and where its values now are.

    inputs: the first slot of each input leaf's run, in that recording.
    """

    def __init__(self, tape: Tape, recorder: Recorder, inputs: Sequence[int]) -> None:
        self.tape, self.recorder = tape, recorder
        self.moved = np.empty(tape.n_slots, np.int64)
        for first, (start, last) in zip(inputs, tape.input_structure.bounds, strict=True):
            self.moved[start:last] = first + np.arange(last - start)
        before = recorder.location
        for i in range(len(tape)):
            recorder.location = recorder.source(tape.source(i))
            sizes, size = tape.runs_of(i)
            operands = [
                self.slot(slot, n)
                for slot, n in zip(tape.operands_of(i).tolist(), sizes, strict=True)
            ]
            slot = recorder.append(tape.op(i), operands, tape.parameters_of(i).tolist(), size)
            own = int(tape.slots[i])
            self.moved[own : own + size] = slot + np.arange(size)
        recorder.location = before

    def slot(self, slot: int, size: int) -> int:
        """Where a run of the tape's slots is in the recording."""
        constant = slot - self.tape.n_inputs
        if 0 <= constant < len(self.tape.constants):
            return self.recorder.constants_of(self.tape.constants[constant : constant + size])
        return int(self.moved[slot]) if size else 0

    def value(self, slot: int, shape: tuple[int, ...] | None) -> Any:
        """A run of the tape's slots, as a traced value."""
        size = int(np.prod(shape or (), dtype=np.int64))
        return traced(self.recorder, Leaf(shape), self.slot(slot, size))

    def outputs(self) -> list[Any]:
        """One value for each leaf of the tape's result."""
        tape = self.tape
        results = []
        for leaf, (first, last) in zip(
            tape.output_structure.leaves, tape.output_structure.bounds, strict=True
        ):
            slots = tape.outputs[first:last]
            cuts = np.flatnonzero(np.diff(slots) != 1) + 1
            parts = [
                self.value(int(run[0]), (len(run),)) for run in np.split(slots, cuts) if len(run)
            ]
            whole = np.concatenate(parts) if parts else lift(np.empty(0))
            results.append(whole.reshape(leaf.shape) if leaf.shape else whole[0])
        return results


PULLBACK = "pullback of "
"""What a pullback's name begins with."""


def pullback(tape: Tape, wanted: Sequence[bool] | None = None, every: bool = False) -> Tape:
    """The tape of (inputs, seeds) -> (outputs, gradients of the inputs).

    wanted: for which leaves of the inputs there is a gradient; all if None. The seeds, one for
    each number of the result, are one more input. The result is a list: the tape's outputs, leaf
    by leaf, then the gradients; with ``every``, then the cotangent of each instruction's result.
    Raises GateError for the gradient of a gate's gradient in Python.
    """
    structure = tape.input_structure
    n_leaves, n_outputs = len(structure.leaves), len(tape.outputs)
    flags = [True] * n_leaves if wanted is None else list(wanted)
    leaves = (*structure.leaves, Leaf(None if n_outputs == 1 else (n_outputs,)))
    both = Structure(flatten((0.0,) * len(leaves))[1], leaves)
    recorder = Recorder(both.size, share=True)
    with recorder:
        inputs = inputs_of(recorder, both)
        starts = [first for first, _ in both.bounds]
        replay = _Replay(tape, recorder, starts[:-1])
        sweep = _Sweep(replay, flags)
        sweep.seed(inputs[-1])
        sweep.run()
        results = replay.outputs()
        for k, leaf in enumerate(structure.leaves):
            if flags[k]:
                gradient = sweep.take(k)
                zero = np.zeros(leaf.shape) if leaf.shape else 0.0
                results.append(zero if gradient is None else _shaped(gradient, leaf.shape))
        if every:
            for i in range(len(tape)):
                size = tape.runs_of(i)[1]
                flowed = sweep.flowed.get(i)
                results.append(np.zeros(size) if flowed is None else lift(flowed).reshape(-1))
        recorder.location = None
        slots, output_leaves = output_slots(recorder, results, tape.name)
    output = Structure(flatten([0.0] * len(results))[1], output_leaves)
    names = [*tape.input_names, "seed"]
    name = PULLBACK + tape.name
    return remove_dead_code(recorder.finish(name, slots, both, output, names))


def pushforward(tape: Tape, wanted: Sequence[bool] | None = None) -> Tape:
    """The tape of (inputs, tangents) -> (outputs, their tangents): what the pullback transposes.

    wanted: which leaves of the inputs have tangents; all if None. The tangents, the numbers of the
    wanted leaves one after the other, are one more input. The result is a list: the tape's outputs,
    leaf by leaf, then as many tangents. The pullback is linear in its seed, so its own pullback
    there is the pushforward, for any seed.
    """
    structure, output = tape.input_structure, tape.output_structure
    n_leaves, n_outputs = len(structure.leaves), len(tape.outputs)
    flags = [True] * n_leaves if wanted is None else list(wanted)
    twice = pullback(pullback(tape, flags), [False] * n_leaves + [True])
    size = sum(leaf.size for leaf, own in zip(structure.leaves, flags, strict=True) if own)
    leaves = (*structure.leaves, Leaf(None if size == 1 else (size,)))
    both = Structure(flatten((0.0,) * len(leaves))[1], leaves)
    recorder = Recorder(both.size, share=True)
    with recorder:
        inputs = inputs_of(recorder, both)
        tangent = lift(inputs[-1]).reshape(-1)
        seed = np.ones(n_outputs) if n_outputs != 1 else 1.0
        seeds = np.concatenate([np.zeros(n_outputs), tangent])
        results = inline(twice, [*inputs[:-1], seed, seeds])
        flow = lift(results[-1]).reshape(-1)
        kept = results[: len(output.leaves)]
        for leaf, (first, last) in zip(output.leaves, output.bounds, strict=True):
            kept.append(_shaped(flow[first:last], leaf.shape))
        recorder.location = None
        slots, output_leaves = output_slots(recorder, kept, tape.name)
    result = Structure(flatten([0.0] * len(kept))[1], output_leaves)
    names = [*tape.input_names, "tangent"]
    name = f"pushforward of {tape.name}"
    return simplified(recorder.finish(name, slots, both, result, names))


def _shaped(value: Any, shape: tuple[int, ...] | None) -> Any:
    if not shape:
        return value if type(value) is Tracer else value.reshape(-1)[0]
    return lift(value).reshape(shape)


class _Sweep:
    """Collects cotangents, by the rules in reverse order.

    A cotangent belongs to a value: an input leaf, by its number, or an instruction's result, by
    its own plus the number of leaves. An instruction may read part of a value, so a value's
    cotangent is kept as its parts: (first number, length) -> traced value.
    """

    def __init__(self, replay: _Replay, wanted: Sequence[bool]) -> None:
        self.replay, self.tape, self.recorder = replay, replay.tape, replay.recorder
        tape = self.tape
        self.n_leaves = len(tape.input_structure.leaves)
        self.starts = np.array(
            [*(first for first, _ in tape.input_structure.bounds), *tape.slots[:-1]], np.int64
        )
        self.sizes = [
            *(leaf.size for leaf in tape.input_structure.leaves),
            *np.diff(tape.slots).tolist(),
        ]
        # Empty values share their place with the next one, and have no cotangents.
        self.filled = np.flatnonzero(np.array(self.sizes, np.int64))
        self.filled_starts = self.starts[self.filled].tolist()
        self.parts: dict[int, dict[tuple[int, int], Any]] = {}
        self.flowed: dict[int, Any] = {}
        self.active = np.zeros(len(self.sizes), np.bool_)
        self.active[: self.n_leaves] = wanted
        for i in range(len(tape)):
            if not tape.op(i).zero_derivative:
                owners = (self.owner(slot) for slot in tape.operands_of(i).tolist())
                self.active[self.n_leaves + i] = any(
                    owner is not None and self.active[owner] for owner in owners
                )

    def owner(self, slot: int) -> int | None:
        """The value that a slot is part of; None for a constant."""
        if 0 <= slot - self.tape.n_inputs < len(self.tape.constants):
            return None
        place = bisect.bisect_right(self.filled_starts, slot) - 1
        return int(self.filled[place]) if place >= 0 else None

    def seed(self, seeds: Any) -> None:
        """Let the seeds flow into the outputs."""
        slots = self.tape.outputs
        cuts = np.flatnonzero(np.diff(slots) != 1) + 1
        whole = lift(seeds).reshape(-1)
        first = 0
        for run in np.split(slots, cuts):
            part = whole[first : first + len(run)] if len(run) != 1 else whole[first]
            # A run of outputs may cross the border of two values.
            if len(run) > 1 and self.owner(int(run[0])) != self.owner(int(run[-1])):
                for k, slot in enumerate(run.tolist()):
                    self.flow(slot, 1, whole[first + k], 1.0)
            elif len(run):
                self.flow(int(run[0]), len(run), part, 1.0)
            first += len(run)

    def flow(self, slot: int, size: int, flowing: Any, partial: Any) -> None:
        """Add ``flowing * partial`` to the cotangent of a run of slots."""
        owner = self.owner(slot)
        if owner is None or not self.active[owner] or size == 0:
            return
        parts = self.parts.setdefault(owner, {})
        key = (slot - int(self.starts[owner]), size)
        parts[key] = _plus(parts.get(key), flowing, partial)

    def take(self, owner: int) -> Any:
        """The whole cotangent of a value; None if nothing has flowed to it."""
        parts = self.parts.pop(owner, None)
        if parts is None:
            return None
        size = self.sizes[owner]
        total = None
        for layer in _layers(parts):
            joined = _joined(layer, size)
            total = joined if total is None else _plus(total, joined, 1.0)
        return total

    def run(self) -> None:
        for i in reversed(range(len(self.tape))):
            flowing = self.take(self.n_leaves + i)
            if flowing is not None:
                self.flowed[i] = flowing
                self.recorder.location = self.recorder.source(self.tape.source(i))
                self._instruction(i, flowing)

    def _instruction(self, i: int, flowing: Any) -> None:
        tape, op = self.tape, self.tape.op(i)
        parameters = tape.parameters_of(i).tolist()
        sizes, size = tape.runs_of(i)
        slots = tape.operands_of(i).tolist()
        if size == 0 and op.array is None:
            return
        if op.array is None:
            self._elementwise(op, parameters, slots, flowing)
            return
        operands = [
            lift(self.replay.value(slot, (n,))) for slot, n in zip(slots, sizes, strict=True)
        ]
        result = lift(self.replay.value(int(tape.slots[i]), (size,)))
        pulled = op.array.pull(parameters, operands, result, lift(flowing).reshape(-1))
        for slot, n, cotangent in zip(slots, sizes, pulled, strict=True):
            if cotangent is not None and n:
                own = lift(cotangent).reshape(-1)
                self.flow(slot, n, own[0] if n == 1 else own, 1.0)

    def _python_gate(
        self, op: Op, slots: Sequence[int], operands: Sequence[Any], flowing: Any
    ) -> None:
        for k, slot in enumerate(slots):
            owner = self.owner(slot)
            if owner is not None and self.active[owner]:
                gradient = apply(backward_op(op, k), [*operands, flowing])
                self.flow(slot, 1, gradient, 1.0)

    def _elementwise(
        self, op: Op, parameters: Sequence[int], slots: Sequence[int], flowing: Any
    ) -> None:
        if not parameters:
            operands = [self.replay.value(slot, None) for slot in slots]
            if op.python is not None:
                self._python_gate(op, slots, operands, flowing)
                return
            partials = partials_of(op, operands)
            for slot, partial in zip(slots, partials, strict=True):
                if not is_zero(partial):
                    self.flow(slot, 1, flowing, partial)
            return
        shape = tuple(parameters[: grid.AXES])
        shapes = grid.shapes(parameters, op.arity)
        operands = [
            self.replay.value(slot, None if own == (1,) * grid.AXES else own)
            for slot, own in zip(slots, shapes, strict=True)
        ]
        partials = partials_of(op, operands)
        flowing = lift(flowing).reshape(shape)
        for slot, own, partial in zip(slots, shapes, partials, strict=True):
            owner = self.owner(slot)
            if is_zero(partial) or owner is None or not self.active[owner]:
                continue
            size = int(np.prod(own))
            if own == shape:
                flat = partial.reshape(-1) if getattr(partial, "shape", ()) == shape else partial
                if getattr(flat, "ndim", 0) > 1:
                    flat = np.broadcast_to(flat, shape).reshape(-1)
                self.flow(slot, size, flowing.reshape(-1), flat)
                continue
            repeated = tuple(axis for axis in range(grid.AXES) if own[axis] != shape[axis])
            summed = np.sum(_plus(None, flowing, partial), axis=repeated).reshape(-1)
            self.flow(slot, size, summed[0] if size == 1 else summed, 1.0)


def _layers(parts: dict[tuple[int, int], Any]) -> list[list[tuple[int, int, Any]]]:
    """Parts of a value as lists in which none overlap."""
    layers: list[list[tuple[int, int, Any]]] = []
    for (first, size), value in sorted(parts.items(), key=lambda item: item[0]):
        for layer in layers:
            if layer[-1][0] + layer[-1][1] <= first:
                layer.append((first, size, value))
                break
        else:
            layers.append([(first, size, value)])
    return layers


def _joined(layer: Sequence[tuple[int, int, Any]], size: int) -> Any:
    """Parts that do not overlap, with zeros between them, as one run."""
    if len(layer) == 1 and layer[0][1] == size:
        return layer[0][2]
    pieces, end = [], 0
    for first, length, value in layer:
        if first > end:
            pieces.append(np.zeros(first - end))
        pieces.append(lift(value).reshape(-1))
        end = first + length
    if end < size:
        pieces.append(np.zeros(size - end))
    return np.concatenate(pieces)


def partials_of(op: Op, operands: Sequence[Any]) -> tuple[Any, ...]:
    """A rule's partials."""
    with np.errstate(all="ignore"):
        _, partials = op.rule(*operands)
    return partials


def is_zero(partial: Any) -> bool:
    """Whether a rule says that nothing flows back."""
    return type(partial) is float and partial == 0.0


def _plus(total: Any, flowing: Any, partial: Any) -> Any:
    """``total`` plus ``flowing * partial``, in the arithmetic of the native reverse sweep."""
    if type(partial) is float and partial == 1.0:
        return flowing if total is None else elementwise(BY_NAME["add"], (total, flowing))
    if type(partial) is float and partial == -1.0:
        if total is None:
            return elementwise(BY_NAME["neg"], (flowing,))
        return elementwise(BY_NAME["sub"], (total, flowing))
    if total is None:
        return elementwise(BY_NAME["azmul"], (flowing, partial))
    return elementwise(BY_NAME["azfma"], (flowing, partial, total))
