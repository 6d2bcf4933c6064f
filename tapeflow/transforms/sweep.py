"""Collecting cotangents by the rules, in reverse order, as instructions of a recording."""

import bisect
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.arrays import SubTapes
from tapeflow.ops import BY_NAME, Op
from tapeflow.tracers import Tracer, elementwise, lift
from tapeflow.transforms.python_gates import gate_flows
from tapeflow.transforms.replay import Replay


class Sweep:
    """Collects cotangents, by the rules in reverse order.

    A cotangent belongs to a value: an input leaf, by its number, or an instruction's result, by
    its own plus the number of leaves. An instruction may read part of a value, so a value's
    cotangent is kept as its parts: (first number, length) -> traced value.
    """

    def __init__(self, replay: Replay, wanted: Sequence[bool]) -> None:
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
        whole = lift(seeds).reshape(-1)
        first = 0
        for run in self.replay.runs(slots):
            part = whole[first : first + len(run)] if len(run) != 1 else whole[first]
            self.flow(int(run[0]), len(run), part, 1.0)
            first += len(run)

    def flow(self, slot: int, size: int, flowing: Any, partial: Any) -> None:
        """Add ``flowing * partial`` to the cotangent of a run of slots."""
        owner = self.owner(slot)
        if owner is None or not self.active[owner] or size == 0:
            return
        parts = self.parts.setdefault(owner, {})
        key = (slot - int(self.starts[owner]), size)
        parts[key] = plus(parts.get(key), flowing, partial)

    def take(self, owner: int) -> Any:
        """The whole cotangent of a value; None if nothing has flowed to it."""
        parts = self.parts.pop(owner, None)
        if parts is None:
            return None
        size = self.sizes[owner]
        total = None
        for layer in _layers(parts):
            joined = _joined(layer, size)
            total = joined if total is None else plus(total, joined, 1.0)
        return total

    def run(self) -> None:
        for i in reversed(range(len(self.tape))):
            rule = self.tape.op(i).array
            parts = dict(self.parts.get(self.n_leaves + i, {}))
            flowing = self.take(self.n_leaves + i)
            if flowing is None:
                continue
            self.flowed[i] = flowing
            self.recorder.location = self.recorder.source(self.tape.source(i))
            if isinstance(rule, SubTapes):
                self._sub_tapes(i, rule, parts, lift(flowing).reshape(-1))
            else:
                self._instruction(i, flowing)

    def _sub_tapes(
        self, i: int, rule: SubTapes, parts: Iterable[tuple[int, int]], flowing: Any
    ) -> None:
        """A loop or a branch: it is told which parts of its result nothing flows to."""
        tape = self.tape
        p = tape.parameters_of(i).tolist()
        runs = list(zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True))
        owners = [self.owner(slot) if size else None for slot, size in runs]
        wanted = [owner is not None and bool(self.active[owner]) for owner in owners]
        operands = [lift(self.replay.value(slot, (size,))) for slot, size in runs]
        results, flows, first = [], [], 0
        for size in rule.parts(p):
            last = first + size
            own = any(start < last and start + n > first for start, n in parts)
            results.append(lift(self.replay.value(int(tape.slots[i]) + first, (size,))))
            flows.append(flowing[first:last] if own and size else None)
            first = last
        pulled = rule.pull_parts(p, wanted, operands, results, flows)
        self._flow_back(runs, pulled)

    def _flow_back(self, runs: Sequence[tuple[int, int]], pulled: Sequence[Any]) -> None:
        for (slot, n), cotangent in zip(runs, pulled, strict=True):
            if cotangent is not None and n:
                own = lift(cotangent).reshape(-1)
                self.flow(slot, n, own[0] if n == 1 else own, 1.0)

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
        flat = lift(flowing).reshape(-1)
        if i in self.replay.pulls:
            pulled = self.replay.pulls[i](flat)
        else:
            pulled = op.array.pull(parameters, operands, result, flat)
        self._flow_back(list(zip(slots, sizes, strict=True)), pulled)

    def _python_gate(
        self, op: Op, slots: Sequence[int], operands: Sequence[Any], flowing: Any
    ) -> None:
        owners = [self.owner(slot) for slot in slots]
        chosen = [owner is not None and bool(self.active[owner]) for owner in owners]
        for slot, gradient in zip(slots, gate_flows(op, operands, flowing, chosen), strict=True):
            if gradient is not None:
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
            summed = np.sum(plus(None, flowing, partial), axis=repeated).reshape(-1)
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


def plus(total: Any, flowing: Any, partial: Any) -> Any:
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


def shaped(value: Any, shape: tuple[int, ...] | None) -> Any:
    if not shape:
        return value if type(value) is Tracer else value.reshape(-1)[0]
    return lift(value).reshape(shape)
