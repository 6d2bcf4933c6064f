"""Taylor series of a tape's values along a line, as instructions of a recording.

Along x + t v every value is a power series in t. The rules say all there is to know: a value
z = f(x, y) has z' = p x' + q y', where p and q are the rule's partials, values with series of their
own. So coefficient d of z is made of those of x and y up to d, and of p and q below it, and order n
costs some n^2 products an instruction (Griewank and Walther, "Evaluating Derivatives", chapter 13,
has a table of recurrences; here the op table implies them).
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tapeflow import grid
from tapeflow.ops import BY_NAME, Op
from tapeflow.recorder import Recorder
from tapeflow.structure import Leaf, Structure, flatten
from tapeflow.tape import Location, Tape
from tapeflow.trace import traced
from tapeflow.tracers import Tracer, elementwise, lift
from tapeflow.tracers.instructions import joined, run_of
from tapeflow.transforms.forward import pushforward
from tapeflow.transforms.sweep import plus
from tapeflow.transforms.templates import FORWARD, MASKED, MINUS, NOTHING, PLUS, template

_MUL, _DIV = BY_NAME["mul"], BY_NAME["div"]


class Series:
    """The coefficients of a value, each recorded when it is first asked for; None is a zero.

    A value is a number, a run of numbers or, between elementwise ops, an array on their grid.
    active: whether any but the first may be other than zero.
    """

    def __init__(self, active: bool) -> None:
        self.active = active
        self._known: list[Any] = []

    def coefficient(self, d: int) -> Any:
        if d and not self.active:
            return None
        while len(self._known) <= d:
            self._known.append(self._next(len(self._known)))
        return self._known[d]

    def _next(self, d: int) -> Any:
        raise NotImplementedError

    @cached_property
    def slope(self) -> "Series":
        """The series of the derivative in t."""
        return _Slope(self)


class Given(Series):
    """The first coefficients of an input, or a constant."""

    def __init__(self, *given: Any) -> None:
        super().__init__(len(given) > 1)
        self._given = given

    def _next(self, d: int) -> Any:
        return self._given[d] if d < len(self._given) else None


class _Slope(Series):
    def __init__(self, base: Series) -> None:
        super().__init__(base.active)
        self._base = base

    def _next(self, d: int) -> Any:
        own = self._base.coefficient(d + 1)
        return own if own is None or d == 0 else elementwise(_MUL, (float(d + 1), own))


class _Part(Series):
    """A stretch of a value's numbers, in a shape; None for a number."""

    def __init__(self, base: Series, first: int, size: int, shape: tuple[int, ...] | None) -> None:
        super().__init__(base.active)
        self._base, self._stretch, self._shape = base, slice(first, first + size), shape

    def _next(self, d: int) -> Any:
        whole = self._base.coefficient(d)
        if whole is None or (type(whole) is Tracer and self._shape is None):
            return whole
        own = lift(whole).reshape(-1)[self._stretch]
        return own[0] if self._shape is None else own.reshape(self._shape)


class _Joined(Series):
    """Runs end to end; of size numbers each."""

    def __init__(self, parts: Sequence[tuple[Series, int]]) -> None:
        super().__init__(any(part.active for part, _ in parts))
        self._parts = parts

    def _next(self, d: int) -> Any:
        found = [(part.coefficient(d), size) for part, size in self._parts]
        if all(own is None for own, _ in found):
            return None
        return joined([np.zeros(size) if own is None else own for own, size in found])


class _Whole(Series):
    """A value on a grid, each of its numbers there."""

    def __init__(self, base: Series, shape: tuple[int, ...]) -> None:
        super().__init__(base.active)
        self._base, self._shape = base, shape

    def _next(self, d: int) -> Any:
        own = self._base.coefficient(d)
        return None if own is None else lift(own).broadcast_to(self._shape).reshape(-1)


class _Elementwise(Series):
    """An op on numbers, or on arrays that broadcast."""

    def __init__(self, graph: "Graph", op: Op, operands: tuple[Series, ...]) -> None:
        active = not op.zero_derivative and any(operand.active for operand in operands)
        super().__init__(active)
        self._graph, self._op, self._operands = graph, op, operands

    @cached_property
    def _flows(self) -> list[tuple[int, Series, Any]]:
        """For each operand: how its slope arrives, its series, and the partial's."""
        op, operands = self._op, self._operands
        mask = sum(operand.active << k for k, operand in enumerate(operands[:MASKED]))
        own = template(op, mask if op.arity <= MASKED else (1 << MASKED) - 1, FORWARD)
        if own.error is not None:
            raise own.error
        values: list[Any] = [*operands, self, None]
        constants = [self._graph.constant(number) for number in own.constants]

        def named(reference: int) -> Any:
            return values[reference] if reference >= 0 else constants[~reference]

        for inner, references in zip(own.ops, own.references, strict=True):
            values.append(self._graph.elementwise(inner, tuple(map(named, references))))
        partials = map(named, own.flows[1::2])
        return [flow for flow in zip(own.modes, operands, partials, strict=True) if flow[1].active]

    def _traced(self, value: Any) -> Any:
        """A plain number as a constant: of such alone nothing would say where to record them."""
        if value is not None and type(value) is not float:
            return value
        recorder = self._graph.recorder
        return Tracer(recorder, recorder.constant(0.0 if value is None else value))

    def _next(self, d: int) -> Any:
        if d == 0:
            found = [operand.coefficient(0) for operand in self._operands]
            return elementwise(self._op, [self._traced(own) for own in found])
        if self._op is _MUL:
            x, y = self._operands
            return _convolved(x, y, d, d + 1)
        total = straight = None
        for mode, operand, partial in self._flows:
            if mode in (PLUS, MINUS):
                own = operand.coefficient(d)
                sign = 1.0 if mode == PLUS else -1.0
                straight = straight if own is None else plus(straight, own, sign)
            elif mode != NOTHING:
                total = _convolved(operand.slope, partial, d - 1, d, total)
        if total is not None and d > 1:
            total = elementwise(_DIV, (total, float(d)))
        return straight if total is None else plus(straight, total, 1.0)


def _convolved(x: Series, y: Series, d: int, n: int, total: Any = None) -> Any:
    """``total`` plus the sum of n products of a coefficient j of x and d - j of y."""
    for j in range(n):
        left = x.coefficient(j)
        right = None if left is None else y.coefficient(d - j)
        if right is not None:
            total = plus(total, left, right)
    return total


class _OnRuns(Series):
    """An op on whole runs: its slope is that of its pushforward."""

    def __init__(
        self, graph: "Graph", tape: Tape, i: int, operands: Sequence[tuple[Series, int]]
    ) -> None:
        op = tape.op(i)
        super().__init__(not op.zero_derivative and any(own.active for own, _ in operands))
        self._graph, self._op, self._operands = graph, op, operands
        self._parameters = tuple(tape.parameters_of(i).tolist())
        self._size = int(tape.slots[i + 1] - tape.slots[i])

    def _next(self, d: int) -> Any:
        if d:
            own = self._derivative.coefficient(d - 1)
            return own if own is None or d == 1 else elementwise(_DIV, (own, float(d)))
        recorder = self._graph.recorder
        found = [(own.coefficient(0), size) for own, size in self._operands]
        runs = [lift(np.zeros(size) if own is None else own) for own, size in found]
        slots = [run_of(recorder, run) for run in runs]
        slot = recorder.append(self._op, slots, self._parameters, self._size)
        return traced(recorder, leaf_of_run(self._size), slot)

    @cached_property
    def _derivative(self) -> Series:
        flags = tuple(own.active for own, _ in self._operands)
        sizes = tuple(size for _, size in self._operands)
        pushed = self._graph.pushed(self._op, self._parameters, sizes, self._size, flags)
        slopes = [(own.slope, size) for own, size in self._operands if own.active]
        leaves = [*(own for own, _ in self._operands), _Joined(slopes)]
        return Values(self._graph, pushed, leaves).gathered(pushed.outputs[self._size :])


def leaf_of_run(size: int) -> Leaf:
    return Leaf(None if size == 1 else (size,))


class Graph:
    """Values by what computes them, each once."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._known: dict[Any, Any] = {}

    def _once(self, key: Any, make: Callable[..., Any], *args: Any) -> Any:
        if key not in self._known:
            self._known[key] = make(*args)
        return self._known[key]

    def elementwise(self, op: Op, operands: tuple[Series, ...]) -> Series:
        # The operands live as long as their value does, so no other has one's id.
        value: Series = self._once((op, *map(id, operands)), _Elementwise, self, op, operands)
        return value

    def constant(self, numbers: Any) -> Series:
        value: Series = self._once(np.asarray(numbers, np.float64).tobytes(), Given, numbers)
        return value

    def part(self, base: Series, first: int, size: int, shape: tuple[int, ...] | None) -> Series:
        key = id(base), first, size, shape
        value: Series = self._once(key, _Part, base, first, size, shape)
        return value

    def pushed(
        self,
        op: Op,
        parameters: tuple[int, ...],
        sizes: tuple[int, ...],
        size: int,
        flags: tuple[bool, ...],
    ) -> Tape:
        """The pushforward of one instruction, of operands and a result of these sizes."""
        key = op, parameters, sizes, flags
        tape: Tape = self._once(key, _pushed, *key, size)
        return tape


def _pushed(
    op: Op, parameters: tuple[int, ...], sizes: tuple[int, ...], flags: tuple[bool, ...], size: int
) -> Tape:
    def structure(leaves: Sequence[Leaf]) -> Structure:
        return Structure(flatten((0.0,) * len(leaves))[1], tuple(leaves))

    inputs = structure([leaf_of_run(n) for n in sizes])
    recorder = Recorder(inputs.size)
    recorder.location = recorder.source(Location("rule", 0, "rule"))
    slot = recorder.append(op, [first for first, _ in inputs.bounds], parameters, size)
    outputs = slot + np.arange(size, dtype=np.int64)
    result = structure([leaf_of_run(size)])
    tape = recorder.finish(op.name, outputs, inputs, result, [""] * len(sizes))
    return pushforward(tape, flags)


class Values:
    """The series of a tape's values. leaves: those of its inputs."""

    def __init__(self, graph: Graph, tape: Tape, leaves: Sequence[Series]) -> None:
        self._graph, self._tape = graph, tape
        bounds = tape.input_structure.bounds
        self._owners = [*leaves, None]
        starts = [*(first for first, _ in bounds), tape.n_inputs]
        sizes = [*(last - first for first, last in bounds), len(tape.constants)]
        self._starts = np.concatenate([starts, tape.slots[:-1]]).astype(np.int64)
        self._sizes = np.concatenate([sizes, np.diff(tape.slots)]).astype(np.int64)
        self._owner = np.repeat(np.arange(len(self._starts)), self._sizes)
        for i in range(len(tape)):
            self._owners.append(self._instruction(i))

    def at(self, i: int) -> Series:
        """The series of an instruction's result."""
        found = self._owners[len(self._owners) - len(self._tape) + i]
        assert found is not None
        return found

    def run(self, slot: int, size: int, shape: tuple[int, ...] | None) -> Series:
        """The series of a run of slots that lie in one value, in a shape."""
        if size == 0:
            return self._graph.constant(np.zeros(shape or 0))
        own = int(self._owner[slot])
        base, first = self._owners[own], slot - int(self._starts[own])
        if base is None:
            numbers = self._tape.constants[first : first + size]
            return self._graph.constant(numbers.item() if shape is None else numbers.reshape(shape))
        if size == self._sizes[own] and shape == (None if size == 1 else (size,)):
            return base
        return self._graph.part(base, first, size, shape)

    def gathered(self, slots: Any) -> Series:
        """The series of numbers in any slots, one after the other."""
        owners = self._owner[slots]
        cuts = np.flatnonzero((np.diff(slots) != 1) | (np.diff(owners) != 0)) + 1
        runs = np.split(slots, cuts) if len(slots) else []
        parts = [
            (self.run(int(run[0]), len(run), leaf_of_run(len(run)).shape), len(run)) for run in runs
        ]
        return parts[0][0] if len(parts) == 1 else _Joined(parts)

    def _instruction(self, i: int) -> Series:
        tape, op = self._tape, self._tape.op(i)
        parameters = tape.parameters_of(i).tolist()
        sizes, size = tape.runs_of(i)
        runs = list(zip(tape.operands_of(i).tolist(), sizes, strict=True))
        if op.array is not None:
            operands = [(self.run(slot, n, leaf_of_run(n).shape), n) for slot, n in runs]
            return _OnRuns(self._graph, tape, i, operands)
        if not parameters:
            return self._graph.elementwise(op, tuple(self.run(slot, 1, None) for slot, _ in runs))
        if size == 0:
            return self._graph.constant(np.zeros(0))
        shapes = [
            None if own == (1,) * grid.AXES else own for own in grid.shapes(parameters, op.arity)
        ]
        on_grid = [self.run(*run, shape) for run, shape in zip(runs, shapes, strict=True)]
        whole = self._graph.elementwise(op, tuple(on_grid))
        return _Whole(whole, tuple(parameters[: grid.AXES]))
