"""Gradient calls whose arguments are like those of an earlier one: what is left to do."""

import itertools
import operator
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from tapeflow import settings
from tapeflow.arguments import Part
from tapeflow.branches.paths import Path, Tree
from tapeflow.engine.nonfinite import check_results
from tapeflow.engine.outcomes import flagged, may_raise
from tapeflow.engine.programs import sample_program
from tapeflow.structure import NUMBER, Floats, Structure, flatten
from tapeflow.tape import Tape

if TYPE_CHECKING:
    from tapeflow.api import Gradient


class Replay:
    """A gradient call whose arguments are like those of an earlier one: little is left to do.

    What it saves is Python's time: taking arguments apart with optree costs more than the sweeps
    of a small tape, so arguments that are leaves, or flat tuples and lists of floats, go without.

    output: the structure of the function's result, if that is not all of the tape's.
    """

    def __init__(
        self,
        gradient: "Gradient",
        tape: Tape,
        parts: Sequence[Part],
        args: tuple[Any, ...],
        output: Structure | None = None,
    ) -> None:
        first = min((part.slots.start for part in parts), default=0)
        last = max((part.slots.stop for part in parts), default=0)
        self.program = sample_program(tape, slice(first, last))
        self.structure, self.output = tape.input_structure, output or tape.output_structure
        self.name = tape.name
        self.single, self.finish = gradient.single, gradient.finish
        self.with_value, self.n_outputs = gradient.needs_value, len(tape.outputs)
        leaves = optree.tree_leaves(args)
        self.arg_types = list(map(type, args))
        self.types = list(map(type, leaves))
        self.arrays = [
            (k, leaf.shape, leaf.dtype)
            for k, leaf in enumerate(leaves)
            if isinstance(leaf, np.ndarray)
        ]
        self.bare = len(leaves) == len(args) and self.types == self.arg_types
        self.flat = all(kind in (tuple, list) for kind in self.arg_types) and self.types == [
            float for arg in args for _ in arg
        ]
        self.lengths = list(map(len, args)) if self.flat else []
        self.floats_only = all(kind is float for kind in self.types)
        size = self.structure.size
        self.short_vectors = size <= 64 and len(self.arrays) == len(leaves) == sum(
            len(shape) == 1 for _, shape, _ in self.arrays
        )
        self.pack = struct.Struct(f"{size}d").pack_into
        self.unpack = struct.Struct(f"{self.n_outputs + size}d").unpack_from
        self.build = [self._builder(part, args) for part in parts]
        self.gather = self._gatherer(parts)
        plain = self.floats_only and self.output == NUMBER
        self.value = operator.itemgetter(0) if plain else self._value

    def leaves(self, args: tuple[Any, ...]) -> Sequence[Any] | None:
        """The arguments' leaves if they are like the earlier ones, or None."""
        if list(map(type, args)) != self.arg_types:
            return None
        if self.bare:
            if not self.arrays:
                return args
            leaves: Sequence[Any] = args
        elif self.flat:
            if list(map(len, args)) != self.lengths:
                return None
            leaves = list(itertools.chain.from_iterable(args))
            if list(map(type, leaves)) != self.types:
                return None
        else:
            leaves, treedef = flatten(args)
            if treedef != self.structure.treedef or list(map(type, leaves)) != self.types:
                return None
        for k, shape, dtype in self.arrays:
            if leaves[k].shape != shape or leaves[k].dtype != dtype:
                return None
        return leaves

    def __call__(self, leaves: Sequence[Any]) -> Any:
        program = self.program
        workspace = program.take()
        if self.floats_only:
            # struct moves a few Python floats three times as fast as NumPy.
            self.pack(workspace.memory, 0, *leaves)
            program.run(workspace)
            flat: Any = self.unpack(workspace.result_memory)
        else:
            if self.short_vectors:
                numbers = itertools.chain.from_iterable([leaf.tolist() for leaf in leaves])
                self.pack(workspace.memory, 0, *numbers)
            else:
                self.structure.pack(leaves, workspace.inputs)
            program.run(workspace)
            flat = workspace.take_results()
        workspace.home.append(workspace)
        gradient = self.gather(flat)
        return self.finish(self.value(flat), gradient) if self.with_value else gradient

    def _value(self, flat: Any) -> Any:
        own = flat[: self.n_outputs]
        return self.output.unflatten(self.output.split(np.array(own)))

    def _gatherer(self, parts: Sequence[Part]) -> Callable[[Any], Any]:
        """What makes the gradient in all arguments."""
        build = self.build
        if self.single:
            return build[0]
        numbers = all(self.arg_types[part.argument] is float for part in parts)
        if self.floats_only and numbers and len(parts) > 1:
            return operator.itemgetter(*(self.n_outputs + part.slots.start for part in parts))
        return lambda flat: tuple([own(flat) for own in build])

    def _builder(self, part: Part, args: tuple[Any, ...]) -> Callable[[Any], Any]:
        """What makes an argument's gradient of the outputs and gradients in one run."""
        own = slice(self.n_outputs + part.slots.start, self.n_outputs + part.slots.stop)
        structure, treedef = part.structure, part.structure.treedef
        kind = self.arg_types[part.argument]
        if self.floats_only:
            if kind is float:
                return operator.itemgetter(own.start)
            if kind is tuple and self.flat:
                return operator.itemgetter(own)
            return lambda flat: treedef.unflatten(flat[own])
        casts = [
            (k, leaf.dtype) if isinstance(leaf, np.ndarray) else (k, type(leaf))
            for k, leaf in enumerate(optree.tree_leaves(args)[part.leaves])
            if (
                leaf.dtype != np.float64
                if isinstance(leaf, np.ndarray)
                else type(leaf) is not float
            )
        ]
        if kind is np.ndarray and not casts and len(structure.leaves[0].shape or ()) == 1:
            return operator.itemgetter(own)

        def build(flat: Floats) -> Any:
            pieces = structure.split(flat[own])
            for k, cast in casts:
                piece = pieces[k]
                pieces[k] = piece.astype(cast) if isinstance(piece, np.ndarray) else cast(piece)
                if settings.current().debugging:
                    rows = [np.reshape(pieces[k], (1, -1))]
                    how = "rounding them to its precision"
                    check_results(self.name, "gradient", rows, how, False)
            return treedef.unflatten(pieces)

        return build


class _ElsewhereError(Exception):
    """The sample takes another path."""


class BranchReplay(Replay):
    """The same for one of a function's paths, which the next call may leave."""

    def __init__(
        self,
        gradient: "Gradient",
        tree: Tree,
        path: Path,
        parts: Sequence[Part],
        args: tuple[Any, ...],
    ) -> None:
        tape = path.tape
        super().__init__(gradient, flagged(tape), parts, args, tape.output_structure)
        self.gradient, self.tree, self.path, self.args = gradient, tree, path, args
        self.careful = may_raise(tape)
        place, gather = len(tape.outputs), self.gather

        def checked(flat: Any) -> Any:
            if flat[place] == 0.0:
                raise _ElsewhereError
            path.runs += 1
            return gather(flat)

        self.gather, self._sure = checked, gather

    def __call__(self, leaves: Sequence[Any]) -> Any:
        if not (self.careful or settings.current().debugging):
            try:
                return super().__call__(leaves)
            except _ElsewhereError:
                pass
        path = self.tree.settle(leaves)
        return self.gradient.branch(self.tree, path, self.args).run(leaves)

    def run(self, leaves: Sequence[Any]) -> Any:
        """The results at leaves of which it is known that they take this path."""
        self.path.runs += 1
        # Not `flat[place]`: two programs of BLAS may differ by rounding, and the first has its way.
        program = self.program
        workspace = program.take()
        self.structure.pack(leaves, workspace.inputs)
        program.run(workspace)
        flat = workspace.take_results()
        workspace.home.append(workspace)
        results = flat.tolist() if self.floats_only else flat
        gradient = self._sure(tuple(results) if self.floats_only else results)
        return self.finish(self.value(results), gradient) if self.with_value else gradient
