"""What is differentiated sparsely: a function recorded at example arguments, and in which of them.

Rows are the numbers of the result, columns the numbers of the arguments that are differentiated
in, each flattened and one after the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tapeflow.api import Gradient
from tapeflow.errors import TracingError
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.recorded import flatten_args
from tapeflow.structure import Ints, Leaf, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.transforms import pullback


class Subject:
    """A function, and the arguments to differentiate in.

    Raises as ``tpf.jacobian`` does.
    """

    def __init__(self, function: Callable[..., Any], argnums: int | Sequence[int]) -> None:
        # A gradient knows which arguments it is in.
        self._gradient = Gradient(function, argnums, with_value=False)
        self.recorded = self._gradient.recorded
        self.name = self.recorded.name
        # The shape of arguments that were all numbers, and their tape if it has no branch.
        self._numbers: tuple[Any, Tape] | None = None

    def tape(self, args: tuple[Any, ...]) -> tuple[Tape, list[Any]]:
        """The tape for some arguments, and their leaves."""
        if self._numbers is not None and self.recorded.is_current():
            flat = _flat_numbers(args)
            if flat is not None and flat[0] == self._numbers[0]:
                return self._numbers[1], flat[1]
        leaves, treedef, traced = flatten_args(args)
        tape = None if traced else self.recorded.tape(leaves, treedef)
        if tape is None or len(tape.input_structure.leaves) != len(leaves):
            raise TracingError(
                f"cannot take sparse derivatives of {self.name} inside a recording: "
                "use tpf.jacobian or tpf.hessian there"
            )
        self._gradient.check_real(leaves, self._gradient.parts(tape.input_structure))
        flat = _flat_numbers(args)
        if flat is not None and not len(tape.guards):
            self._numbers = flat[0], tape
        return tape, leaves

    def wanted(self, tape: Tape) -> list[bool]:
        """For each leaf of the arguments, whether it is differentiated in."""
        wanted = [False] * len(tape.input_structure.leaves)
        for part in self._gradient.parts(tape.input_structure):
            wanted[part.leaves] = [True] * (part.leaves.stop - part.leaves.start)
        return wanted

    def gradient(self, tape: Tape) -> Tape:
        """The tape of the gradient; it has one more input, for the seed, which is 1."""
        self._gradient.check_scalar(tape)
        return gradient_of(tape, self.wanted(tape))


def _flat_numbers(args: tuple[Any, ...]) -> tuple[Any, list[float]] | None:
    """The shape and the numbers of arguments that are floats, and lists and tuples of floats.

    None for others. Of ten thousand, to take a tree apart takes ten times as long as the sweep.
    """
    shape: list[Any] = []
    leaves: list[float] = []
    for arg in args:
        if type(arg) in (list, tuple):
            leaves.extend(arg)
            shape.append((type(arg), len(arg)))
        else:
            leaves.append(arg)
            shape.append(None)
    return (shape, leaves) if set(map(type, leaves)) == {float} else None


def gradient_of(tape: Tape, wanted: Sequence[bool]) -> Tape:
    """The pullback's gradients alone, one after the other, as one array."""
    back = pullback(tape, wanted)
    return part_of(back, len(tape.outputs), len(back.outputs))


def part_of(tape: Tape, first: int, last: int) -> Tape:
    """A tape with some of its outputs alone, as one array."""
    structure = Structure(flatten(0.0)[1], (Leaf((last - first,)),))
    return remove_dead_code(
        replace(tape, outputs=tape.outputs[first:last], output_structure=structure)
    )


def columns_of(tape: Tape, wanted: Sequence[bool]) -> Ints:
    """The column of each input slot, -1 where it is not differentiated in."""
    sizes = [leaf.size for leaf in tape.input_structure.leaves]
    flags = [*wanted, *[False] * (len(sizes) - len(wanted))]
    own = np.repeat(np.array(flags, np.bool_), sizes)
    return np.where(own, np.cumsum(own) - 1, -1)
