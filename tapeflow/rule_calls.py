"""Calls of functions with rules of their own: what they compute as instructions, and a seam."""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import optree

from tapeflow.arrays import GateRule, Pull, Seam
from tapeflow.errors import StructureError, TracingError
from tapeflow.example import CONSTANTS
from tapeflow.ops import FIRST_GATE, Op
from tapeflow.recorded import flatten_args, traced_leaf
from tapeflow.recorder import Recorder, in_progress, innermost
from tapeflow.rules import unless_idle
from tapeflow.sources import user_place
from tapeflow.structure import Leaf, Structure, flatten, outline
from tapeflow.tape import Tape
from tapeflow.trace import traced
from tapeflow.tracers import TracedArray, Tracer, is_traced, lift


class Custom(Protocol):
    """A function with a rule of its own."""

    kind: str
    name: str
    fun: Callable[..., Any]
    nondiff_argnums: tuple[int, ...]

    def rules(self) -> tuple[Callable[..., Any], ...]:
        """What the user has defined; TypeError while there is nothing."""
        ...

    def begin(self, call: "Call", operands: Sequence[Any]) -> tuple[list[Any], Pull]:
        """The value's leaves, and from their cotangents to that of each of the traced leaves."""
        ...


class Call:
    """One call: its arguments, and what is known of them when its rule is asked for.

    args: all of them. static: those in nondiff_argnums, by number. leaves, treedef: of the others.
    traced: which leaves are. output: the structure of the value, once there is one.
    """

    output: Structure

    def __init__(self, custom: Custom, args: tuple[Any, ...]) -> None:
        self.custom, self.args = custom, args
        for k in custom.nondiff_argnums:
            if not -len(args) <= k < len(args):
                raise StructureError(
                    f"nondiff_argnums={k} is out of range: {custom.name} was called with "
                    f"{len(args)} arguments, numbered from 0"
                )
        chosen = {k % len(args) for k in custom.nondiff_argnums}
        self.static = {k: args[k] for k in sorted(chosen)}
        for k, own in self.static.items():
            if any(map(is_traced, optree.tree_leaves(own))):
                raise TracingError(
                    f"argument {k} of {custom.name} is traced ({user_place()}): take it out of "
                    "nondiff_argnums, and let its cotangent be None, or its tangent unused"
                )
        rest = tuple(own for k, own in enumerate(args) if k not in chosen)
        self.leaves, self.treedef, _ = flatten_args(rest)
        self.traced = [k for k, leaf in enumerate(self.leaves) if is_traced(leaf)]

    def record(self) -> Any:
        """What the function computes as instructions, and the seam; the value."""
        custom, own = self.custom, [self.leaves[k] for k in self.traced]
        custom.rules()
        recorder = innermost([leaf.recorder for leaf in own])
        own = [fresh(recorder, leaf) for leaf in own]
        before = recorder.n_slots, len(recorder.operands)
        # On values of its own: what the function does to arrays in place does not show.
        arguments = self.arguments([fresh(recorder, leaf) for leaf in own])
        results, treedef = flatten(custom.fun(*arguments))
        self._check_closed(recorder, before, own, filter(is_traced, results))
        leaves = tuple(map(traced_leaf, results))
        self.output = Structure(treedef, leaves)
        self.leaves = [plain_leaf(leaf) for leaf in self.leaves]
        self.kinds = [traced_leaf(leaf) for leaf in own]

        def begin(operands: Sequence[Any]) -> tuple[Sequence[Any], Any]:
            given = [shaped(x, own) for x, own in zip(operands, self.kinds, strict=False)]
            with _elsewhere():
                value, pull = custom.begin(self, given)

            def pull_all(flowing: Any) -> Sequence[Any]:
                with _elsewhere():
                    idle = np.sum(np.abs(lift(flowing))) == 0.0
                    pulled = [own if own is None else lift(own) for own in pull(flowing)]
                    kept = [own if own is None else unless_idle(own, idle) for own in pulled]
                    return [*kept, *[None] * len(results)]

            return value, pull_all

        operands = [*own, *results]
        p = (len(results), *(lift(x).size for x in operands))
        flat = record_gate(f"{custom.kind}:{custom.name}", Seam(custom, begin), p, operands)
        return self.output.unflatten(split(self.output, flat))

    def _check_closed(
        self,
        recorder: Recorder,
        before: tuple[int, int],
        own: Sequence[Any],
        results: Iterable[Any],
    ) -> None:
        """TracingError where the function has read traced values that are not its arguments.

        before: how many slots and operands there were. In a recording that shares equal
        instructions there is no telling.
        """
        if recorder.shares:
            return
        first_slot, first = before
        read = [np.array(recorder.operands[first:], np.int64)]
        read += [np.array([lift(x).run_in(recorder)], np.int64) for x in results if lift(x).size]
        slots = np.concatenate(read)
        known = (slots >= first_slot) | ((slots >= CONSTANTS) & (slots < 0))
        for value in own:
            place = lift(value).run_in(recorder)
            known |= (slots >= place) & (slots < place + max(math.prod(value.shape), 1))
        if not known.all():
            raise closure(self.custom.name)

    def leaf(self, k: int) -> Leaf:
        return self.kinds[self.traced.index(k)]

    def filled(self, own: Sequence[Any], zero: bool = False) -> list[Any]:
        """All leaves, with these in place of the traced ones; zero: and zeros of the others."""
        leaves = list(self.leaves)
        if zero:
            leaves = [np.zeros_like(x, float) if np.ndim(x) else 0.0 for x in leaves]
        for k, leaf in zip(self.traced, own, strict=True):
            leaves[k] = leaf
        return leaves

    def arguments(self, own: Sequence[Any]) -> list[Any]:
        """All arguments, with these in place of the traced leaves."""
        rest = iter(self.treedef.unflatten(self.filled(own)))
        return [self.static[k] if k in self.static else next(rest) for k in range(len(self.args))]

    def structures(self) -> Iterator[Structure]:
        """The structure of each argument that is not static."""
        leaves = iter(
            self.leaf(k) if k in self.traced else traced_leaf(leaf)
            for k, leaf in enumerate(self.leaves)
        )
        for child in self.treedef.children():
            yield Structure(child, tuple(next(leaves) for _ in range(child.num_leaves)))

    def check(self, given: Any, structure: Structure, rule: str, which: str) -> list[Any]:
        """The leaves of what a rule returns; StructureError where they are not as they must be."""
        leaves, treedef = flatten(given)
        found = Structure(treedef, tuple(map(traced_leaf, leaves)))
        if not alike(found, structure):
            raise StructureError(
                f"{rule} of {self.custom.name} must return {which} as {outline(structure)}, "
                f"not {outline(found)}"
            )
        return leaves


def record_gate(name: str, rule: GateRule, p: Sequence[int], operands: Sequence[Any]) -> Any:
    """Record an op of the tape's own on traced and plain values; its result as one run."""
    lifted = [lift(operand) for operand in operands]
    recorder = innermost([x.recorder for x in lifted if x.recorder is not None])
    slots = [x.run_in(recorder) for x in lifted]
    _, size = rule.sizes(p)

    def refuse(*_: Any) -> Any:
        raise TypeError(f"{name} works on whole arrays, and has no rule for numbers")

    op = Op(FIRST_GATE, name, -1, refuse, name, name, array=rule)
    return TracedArray.of(recorder, recorder.append(op, slots, p, size), (size,))


def plain_leaf(leaf: Any) -> Any:
    """A plain leaf as it is now, whatever becomes of the caller's arrays; None for a traced one."""
    if is_traced(leaf):
        return None
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def reached(tape: Tape, inputs: slice) -> Any:
    """Which slots depend on some of the inputs'."""
    flows = np.zeros(tape.n_slots, np.bool_)
    flows[inputs] = True
    for i in range(len(tape)):
        runs = zip(tape.operands_of(i).tolist(), tape.runs_of(i)[0], strict=True)
        own = any(flows[slot : slot + size].any() for slot, size in runs)
        flows[tape.slots[i] : tape.slots[i + 1]] = own
    return flows


def alike(a: Structure, b: Structure) -> bool:
    """Whether two structures have the same leaves: a number and an array of shape () are alike."""
    return a.treedef == b.treedef and all(
        (x.shape or ()) == (y.shape or ()) for x, y in zip(a.leaves, b.leaves, strict=True)
    )


def split(structure: Structure, flat: Any) -> list[Any]:
    """The leaves in one run of traced numbers."""
    whole = lift(flat).reshape(-1)
    pairs = zip(structure.leaves, structure.bounds, strict=True)
    return [shaped(whole[first:last], leaf) for leaf, (first, last) in pairs]


def shaped(value: Any, leaf: Leaf) -> Any:
    whole = lift(value)
    return whole.reshape(leaf.shape) if leaf.shape else whole.reshape(-1)[0]


def fresh(recorder: Recorder, leaf: Any) -> Any:
    own = lift(leaf)
    if type(leaf) is Tracer:
        return traced(recorder, Leaf(None), own.run_in(recorder))
    return TracedArray.of(recorder, own.run_in(recorder), own.shape, own.kind)


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Instructions of a rule have their own lines, and not the one that called the function."""
    recorder = in_progress()
    assert recorder is not None
    before, recorder.location = recorder.location, None
    try:
        yield
    finally:
        recorder.location = before


def positional(
    function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, ...]:
    """All arguments by position, defaults among them."""
    name = getattr(function, "__name__", type(function).__name__)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in that tells nothing of itself
        return args
    try:
        bound = signature.bind(*args, **options)
    except TypeError as error:
        raise TypeError(f"cannot call {name}: {error}") from None
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeError(f"{name} takes {min(bound.kwargs)} by name alone: let it be positional")
    return bound.args


def closure(name: str) -> TracingError:
    return TracingError(
        f"{name} uses a traced value that is no argument of it ({user_place()}): "
        "pass it as an argument, so that its rule can say what flows to it"
    )


def kind_of(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return "a traced value" if is_traced(value) else f"a {type(value).__name__}"
