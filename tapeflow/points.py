"""A function recorded at some arguments, and the tapes of its derivatives there."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.api import Function, plain
from tapeflow.arguments import check_real
from tapeflow.auxiliary import with_aux, without_aux
from tapeflow.engine.programs import sample_program
from tapeflow.errors import StructureError
from tapeflow.recorded import Recorded, flatten_args, traced_leaf
from tapeflow.structure import Structure, outline
from tapeflow.tape import Tape
from tapeflow.tracers import is_traced, lift
from tapeflow.transforms import inline, pushforward, taylor
from tapeflow.vmap import vmap


class Point:
    """A function recorded at some arguments, plain or traced.

    leaves: of the arguments, then the values of enclosing recordings that the function closes over.
    every: flags the former. has_aux: what goes with the value is not differentiated. real: whether
    integers among the arguments are refused.
    """

    def __init__(
        self, recorded: Recorded, primals: tuple[Any, ...], has_aux: bool, real: bool = True
    ) -> None:
        leaves, treedef, traced = flatten_args(primals)
        self.structure = Structure(treedef, tuple(map(traced_leaf, leaves)))
        if real:
            check_real(recorded.name, leaves)
        captures: list[Any] = []
        if not traced:
            self.tape = recorded.settled(leaves, treedef)
        if traced or len(self.tape.input_structure.leaves) != len(leaves):
            self.tape, captures = recorded.trace(leaves, treedef)
        self.leaves = [*leaves, *captures]
        self.every = [True] * len(leaves) + [False] * len(captures)
        self.whole = self.tape
        if has_aux:
            self.tape = without_aux(self.tape)
        self.n_outputs = len(self.tape.output_structure.leaves)

    @property
    def traced(self) -> bool:
        """Whether the derivatives become part of a recording in progress."""
        return any(map(is_traced, self.leaves))

    def aux(self) -> Any:
        """What goes with the value."""
        return self.whole.output_structure.unflatten(evaluate(self.whole, self.leaves))[1]

    def value(self) -> Any:
        return self.tape.output_structure.unflatten(evaluate(self.tape, self.leaves))

    def run(self, transform: Any, wanted: Sequence[bool], seed: Any) -> list[Any]:
        """The results of the tape that a transform makes, as the pullback is, at the point."""
        results = evaluate(self.made(transform, wanted), [*self.leaves, seed])
        if any(map(is_traced, results)):
            return results
        # As gradients, derivatives have no negative zeros.
        return [*results[: self.n_outputs], *(x + 0.0 for x in results[self.n_outputs :])]

    def series(self, direction: Any, order: int) -> list[Any]:
        """The Taylor coefficients up to ``order`` along a direction, in the value's structure."""
        flat = flat_numbers((direction,), self.structure, "direction", self.tape.name)
        key = "series", order
        if key not in self.tape.prepared:
            self.tape.prepared[key] = taylor(self.tape, self.every, order)
        results = evaluate(self.tape.prepared[key], [*self.leaves, flat])
        output, n = self.tape.output_structure, self.n_outputs
        return [output.unflatten(results[n * d : n * (d + 1)]) for d in range(order + 1)]

    def push(self, tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        flat = flat_numbers(tangents, self.structure, "tangents", self.tape.name)
        results = self.run(pushforward, self.every, flat)
        output = self.tape.output_structure
        value, tangent = results[: self.n_outputs], results[self.n_outputs :]
        return output.unflatten(value), output.unflatten(tangent)

    def map(self, transform: Any, wanted: list[bool], n: int) -> list[Any]:
        """What follows the values among the results of a transform, for n unit seeds, in rows."""
        wanted = [*wanted, *[False] * (len(self.leaves) - len(wanted))]
        tape = self.made(transform, wanted)
        seeds = np.eye(n) if n != 1 else np.ones(1)
        if self.traced or n == 1:
            rows = [self.run(transform, wanted, seed)[self.n_outputs :] for seed in seeds]
            return [np.stack(leaf) for leaf in zip(*rows, strict=True)]
        key = ("seeds", transform.__name__, tuple(wanted))
        if key not in self.tape.prepared:

            def each(*inputs: Any) -> list[Any]:
                return inline(tape, inputs)[self.n_outputs :]

            each.__name__ = tape.name

            mapped = self.tape.prepared[key] = vmap(each, (*[None] * len(self.leaves), 0))
            mapped.signed = False
        found: list[Any] = self.tape.prepared[key](*self.leaves, seeds)
        return found

    def made(self, transform: Any, wanted: Sequence[bool]) -> Tape:
        key = (transform.__name__, tuple(wanted))
        if key not in self.tape.prepared:
            self.tape.prepared[key] = transform(self.tape, wanted)
        made: Tape = self.tape.prepared[key]
        return made


def recorded_of(function: Callable[..., Any], has_aux: bool) -> Recorded:
    if has_aux:
        return Recorded(with_aux(plain(function)))
    return function.recorded if isinstance(function, Function) else Recorded(plain(function))


def evaluate(tape: Tape, leaves: Sequence[Any]) -> list[Any]:
    """A tape's results, leaf by leaf: numbers, or instructions of the recording in progress."""
    if any(map(is_traced, leaves)):
        return inline(tape, leaves)
    return list(tape.output_structure.split(sample_program(tape, None).results(leaves)))


def flat_numbers(given: Any, structure: Structure, what: str, name: str) -> Any:
    """The numbers of a cotangent, or of tangents, one after the other."""
    leaves, treedef, traced = flatten_args((given,))
    found = Structure(treedef.children()[0], tuple(map(traced_leaf, leaves)))
    shapes, expected = ([leaf.shape or () for leaf in own.leaves] for own in (found, structure))
    if found.treedef != structure.treedef or shapes != expected:
        of = "its value" if what == "cotangent" else "the primals"
        raise StructureError(
            f"the {what} of {name} must have the structure and shapes of {of}, "
            f"{outline(structure)}, not {outline(found)}"
        )
    if traced:
        numbers = np.concatenate([lift(leaf).reshape(-1) for leaf in leaves])
    else:
        numbers = np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])
    return numbers[0] if structure.size == 1 else numbers
