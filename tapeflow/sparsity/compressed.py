"""A Jacobian times a few seeds: the tape that computes it, or the sweep with seeds as lanes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from tapeflow.engine.programs import sample_program
from tapeflow.recorded import Fixed
from tapeflow.recorder import Recorder
from tapeflow.sparsity.seeded import seeded
from tapeflow.sparsity.subject import part_of
from tapeflow.structure import Floats, Leaf, Structure
from tapeflow.tape import Tape
from tapeflow.trace import inputs_of, output_slots
from tapeflow.tracers import lift
from tapeflow.transforms import inline, pullback, pushforward
from tapeflow.vmap import Mapped

_LONGEST, _LONGEST_OF_NUMBERS = 20_000, 20_000_000
"""Instructions up to which every seed has its own copy of them on one tape. It is then one sweep
whose seeds are constants and whose primal values are computed once; and many points can be lanes.
Beyond, writing that tape, which is compiled code for numbers alone, takes longer than it saves."""


class Compressed:
    """Sums of a Jacobian's columns of one colour, and of its rows of one colour.

    tape: whose Jacobian it is, with one array as result, and besides the n_leaves arguments only
    inputs that are 1. columns, rows: colours, -1 for none. The result of a call is flat: for each
    colour of columns as many numbers as rows, then for each colour of rows one for each column.
    """

    def __init__(
        self, tape: Tape, n_leaves: int, wanted: Sequence[bool], columns: Any, rows: Any
    ) -> None:
        self.tape, self.n_leaves, self.rows = tape, n_leaves, rows
        self.n_extra = len(tape.input_structure.leaves) - n_leaves
        self.wanted = [*wanted, *[False] * self.n_extra]
        self.columns = columns
        self.n_columns, self.n_rows = len(columns), len(rows)
        # Tapes of one more input, the seed, and one result.
        self.swept: list[tuple[Tape, Floats]] = []
        if columns.max(initial=-1) >= 0:
            push = pushforward(tape, self.wanted)
            self.swept.append((part_of(push, self.n_rows, 2 * self.n_rows), _seeds(columns)))
        if rows.max(initial=-1) >= 0:
            pull = pullback(tape, self.wanted)
            total = self.n_rows + self.n_columns
            self.swept.append((part_of(pull, self.n_rows, total), _seeds(rows)))

    @cached_property
    def unrolled(self) -> bool:
        """Whether each seed has its own instructions."""
        longest = _LONGEST_OF_NUMBERS if self._of_numbers else _LONGEST
        return sum(len(tape) * len(seeds) for tape, seeds in self.swept) <= longest

    @property
    def _of_numbers(self) -> bool:
        return all(tape.numbers_only and not len(tape.guards) for tape, _ in self.swept)

    @cached_property
    def tapes(self) -> list[Tape]:
        """Tapes that give all sums, one after the other, from the arguments alone."""
        structure = self.tape.input_structure
        own = Structure(
            structure.treedef if not self.n_extra else _flat_treedef(self.n_leaves),
            structure.leaves[: self.n_leaves],
        )
        names = self.tape.input_names[: self.n_leaves]
        if self._of_numbers:
            return [seeded(tape, seeds, own, names) for tape, seeds in self.swept]
        return [self._recorded(own, names)]

    def _recorded(self, own: Structure, names: tuple[str, ...]) -> Tape:
        recorder = Recorder(own.size, share=True)
        with recorder:
            inputs = [*inputs_of(recorder, own), *[1.0] * self.n_extra]
            results = [
                lift(inline(tape, [*inputs, seed[0] if len(seed) == 1 else seed])[0]).reshape(-1)
                for tape, seeds in self.swept
                for seed in seeds
            ]
            recorder.location = None
            slots, leaves = output_slots(recorder, results, self.tape.name)
        output = Structure(_flat_treedef(len(leaves)), leaves)
        # What is in there twice is shared already, and all of it is needed.
        return recorder.finish(f"sparse {self.tape.name}", slots, own, output, names)

    @cached_property
    def _mapped(self) -> list[tuple[Mapped, Any]]:
        """The sweeps with seeds as lanes."""
        axes = (*[None] * (self.n_leaves + self.n_extra), 0)
        return [
            (Mapped(Fixed(tape), axes, None), seeds[:, 0] if seeds.shape[1] == 1 else seeds)
            for tape, seeds in self.swept
        ]

    def __call__(self, leaves: Sequence[Any]) -> Floats:
        """The sums at one point."""
        if self.unrolled:
            found = [sample_program(tape, None).results(leaves) for tape in self.tapes]
            return found[0] if len(found) == 1 else np.concatenate(found)
        ones = [1.0] * self.n_extra
        return np.concatenate(
            [mapped(*leaves, *ones, seeds).reshape(-1) for mapped, seeds in self._mapped]
        )

    def batch(self, leaves: Sequence[Any], axes: Sequence[int | None]) -> Floats:
        """The sums at many points, shape (points, sums)."""
        if self.unrolled:
            parts = []
            for tape in self.tapes:
                found = Mapped(Fixed(tape), tuple(axes), None)(*leaves)
                parts += list(found) if isinstance(found, tuple) else [found]
            sums: Floats = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
            return sums
        pairs = list(zip(leaves, axes, strict=True))
        n = next(np.shape(leaf)[axis] for leaf, axis in pairs if axis is not None)
        return np.array(
            [
                self([x if axis is None else np.take(x, k, axis) for x, axis in pairs])
                for k in range(n)
            ]
        )


def _seeds(colors: Any) -> Floats:
    """A row for each colour, 1 where it is."""
    seeds: Floats = (colors == np.arange(colors.max() + 1)[:, None]).astype(np.float64)
    return seeds


def _flat_treedef(n: int) -> Any:
    from tapeflow.structure import flatten

    return flatten((0.0,) * n)[1]


def as_array(tape: Tape) -> Tape:
    """The tape with all numbers of its result as one array."""
    n = len(tape.outputs)
    leaf = Structure(_flat_treedef(1).children()[0], (Leaf((n,)),))
    return replace(tape, output_structure=leaf)
