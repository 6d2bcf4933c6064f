"""What a whole-array op consists of, and how one is called inside another's pullback."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Value = Any
Parameters = Sequence[int]
Sizes = tuple[tuple[int, ...], int]
Array = Any
"""Numbers of shape (size, lanes)."""


class Reach(NamedTuple):
    """Which numbers of an operand each number of a result depends on: those of its group.

    gives: the group of each number of the operand. takes: the group of each number of the result,
    -1 for one that no gradient passes. chained: a group has what the one ``chained`` before it has,
    but for those that begin a chain, which are the first ``chained`` of every ``period``.
    """

    operand: int
    gives: Any
    takes: Any
    chained: int = 0
    period: int = 0


def to_all(sizes: Sequence[int], size: int) -> list[Reach]:
    """Every number of a result depends on every one of the operands."""
    whole = np.zeros(size, np.int64)
    return [Reach(k, np.zeros(n, np.int64), whole) for k, n in enumerate(sizes)]


class ArrayRule:
    """One array op: where its operands lie, what it computes, and its pullback.

    Operands and results are flat runs of numbers; the parameters say how they are folded.
    """

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        """The length of each operand's run, and of the result's. ValueError for bad parameters."""
        raise NotImplementedError

    @classmethod
    def shape(cls, p: Parameters) -> tuple[int, ...]:
        """The shape of the result, as far as the parameters tell it."""
        return (cls.sizes(p)[1],)

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        """The result, shape (size, lanes), from operands of shape (size, lanes)."""
        raise NotImplementedError

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        """The cotangent that flows to each operand, as a run; None where none does."""
        raise NotImplementedError

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        """What the results depend on, operand by operand: everything, unless an op knows better."""
        return to_all(*cls.sizes(p))


class ZeroRule(ArrayRule):
    """An op that no gradient passes."""

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        return []


class StackRule(ArrayRule):
    """An op on each matrix of a stack, whose length is the first parameter."""

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        sizes, size = cls.sizes(p)
        takes = by_matrix(p[0], size)
        return [Reach(k, by_matrix(p[0], n), takes) for k, n in enumerate(sizes)]


def by_matrix(stack: int, *sizes: int) -> Any:
    """Which matrix of a stack each number belongs to, of parts of these sizes, end to end."""
    own: list[Any] = [np.repeat(np.arange(stack), size // stack) if stack else [] for size in sizes]
    return np.concatenate(own).astype(np.int64)


def by_column(stack: int, rows: int, columns: int) -> Any:
    """Which column of all of a stack's matrices each of their numbers belongs to."""
    grid = np.arange(stack * columns).reshape(stack, 1, columns)
    return np.broadcast_to(grid, (stack, rows, columns)).reshape(-1)


class SubTapes(ArrayRule):
    """An op of one tape, which carries tapes: a loop or a branch. Its result consists of parts."""

    name: str
    op: Any = None
    """Its row, as those of the op table, once it has been recorded."""

    @property
    def tapes(self) -> Sequence[Any]:
        """The tapes that it runs."""
        raise NotImplementedError

    def parts(self, p: Parameters) -> Sequence[int]:
        """The length of each part of the result."""
        raise NotImplementedError

    def narrowed(
        self, p: Parameters, needed: Sequence[bool]
    ) -> tuple["SubTapes", list[int], list[bool]] | None:
        """The same with only the parts of its result that are needed, if that is less.

        Then also which operands it keeps, in its order, and which parts of the result.
        """
        raise NotImplementedError

    def work(self, p: Parameters) -> int:
        """About how many instructions it runs."""
        raise NotImplementedError

    def reaches(self, p: Parameters) -> Sequence[Reach]:  # type: ignore[override]
        sizes, size = self.sizes(p)
        return to_all(sizes, size)

    def pull_parts(
        self,
        p: Parameters,
        wanted: Sequence[bool],
        operands: Sequence[Value],
        results: Sequence[Value],
        flowing: Sequence[Value | None],
    ) -> Sequence[Value | None]:
        """The cotangent that flows to each wanted operand.

        results, flowing: the parts of the result, and the cotangent of each, None where there is
        none.
        """
        raise NotImplementedError


class GateRule(ArrayRule):
    """As ArrayRule, for an op that a tape has of its own, with what it needs to know.

    kernel: the op of the table whose kernels compute it, if one does. in_python: it is the user's
    code, which may raise. failure: what to say where it gives NaN. of: what the user made.
    """

    of: Any = None
    kernel = ""
    in_python = False
    failure: str | None = None

    def shape(self, p: Parameters) -> tuple[int, ...]:  # type: ignore[override]
        return (self.sizes(p)[1],)

    def reaches(self, p: Parameters) -> Sequence[Reach]:  # type: ignore[override]
        return to_all(*self.sizes(p))


Pull = Callable[[Value], Sequence[Value | None]]


class Seam(GateRule):
    """Gives back its last operands, and lets a rule of the user's pull their cotangents back.

    What is on one side of it has no derivatives to what is on the other, but for that rule. begin:
    from the operands to the results that a derivative sees in place of the last ones, and from the
    cotangent of these, as one run, to that of each operand.

    Its parameters: how many runs the result has, then the lengths of the operands' runs.
    """

    def __init__(
        self, of: Any, begin: Callable[[Sequence[Value]], tuple[Sequence[Value], Pull]]
    ) -> None:
        self.of, self.begin = of, begin

    def sizes(self, p: Parameters) -> Sizes:  # type: ignore[override]
        require(len(p) > 0, all(n >= 0 for n in p), p[0] < len(p))
        lengths = tuple(map(int, p[1:]))
        return lengths, sum(lengths[len(lengths) - int(p[0]) :])

    def forward(self, p: Parameters, *operands: Array) -> Array:  # type: ignore[override]
        return np.concatenate(operands[len(operands) - int(p[0]) :])

    def pull(  # type: ignore[override]
        self, p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        _, pull = self.begin(operands)
        return pull(flowing)


RULES: dict[str, type[ArrayRule]] = {}


def array_rule(cls: type[ArrayRule]) -> type[ArrayRule]:
    """Enter a class in the table of array rules, by its name in lower case."""
    RULES[cls.__name__.lower()] = cls
    return cls


def call(name: str, p: Parameters, *operands: Value) -> Value:
    """An array op on flat runs: recorded where one is traced, and computed on plain arrays."""
    for operand in operands:
        backend = getattr(operand, "__tapeflow_backend__", None)
        if backend is not None:
            return backend.array_op(name, p, operands)
    return RULES[name].forward(p, *(np.asarray(x, float)[:, None] for x in operands))[:, 0]


def require(*conditions: bool) -> None:
    if not all(conditions):
        raise ValueError("bad parameters")


def product(shape: Sequence[int]) -> int:
    return math.prod(int(n) for n in shape)


def lanes_first(x: Array, shape: Sequence[int]) -> Array:
    """A run of (size, lanes) as an array of shape (lanes, *shape)."""
    return np.moveaxis(x.reshape(*shape, x.shape[1]), -1, 0)


def lanes_last(x: Array) -> Array:
    """An array of shape (lanes, ...) as a run of shape (size, lanes)."""
    return np.ascontiguousarray(x.reshape(len(x), -1).T)


def lane_by_lane(function: Callable[..., Any], count: int, *operands: Array) -> list[Array]:
    """The ``count`` results of a function of one matrix, for each of a stack of them.

    Where it raises LinAlgError, that matrix's results are NaN.
    """
    stack = operands[0].shape[:-2]
    results: list[Any] = []
    failed = []
    for index in np.ndindex(*stack):
        try:
            found = function(*(x[index] for x in operands))
            results.append(found if isinstance(found, tuple) else (found,))
        except np.linalg.LinAlgError:
            failed.append(len(results))
            results.append(None)
    good = next((r for r in results if r is not None), None)
    if good is None:
        raise np.linalg.LinAlgError
    blank = tuple(np.full(np.shape(part), np.nan) for part in good)
    columns = zip(*(r if r is not None else blank for r in results), strict=True)
    parts = [np.array(column) for column in columns]
    assert len(parts) == count
    return [part.reshape(*stack, *part.shape[1:]) for part in parts]
