"""A Jacobian or a Hessian entry by entry: the tape of all of them, and how they make the matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow import settings
from tapeflow.engine.programs import sample_program
from tapeflow.passes import simplified
from tapeflow.recorded import Fixed
from tapeflow.recorder import Recorder
from tapeflow.sparsity.parts import Part
from tapeflow.sparsity.patterns import Pattern
from tapeflow.sparsity.places import Places
from tapeflow.sparsity.spread import NotSpread, Spread
from tapeflow.sparsity.subject import part_of
from tapeflow.structure import Floats, Ints, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.threads import pool
from tapeflow.trace import output_slots
from tapeflow.transforms import pushforward
from tapeflow.transforms.replay import on_numbers
from tapeflow.vmap import Mapped

_LONGEST = 20_000
"""Instructions up to which a tape is written anew, one by one in Python."""

_FULLEST = 64
"""Entries on the way, for each number of the tape, from which on it is given up."""


@dataclass(frozen=True, eq=False)
class Terms:
    """Where a matrix's entries come from.

    first: for each entry a place among the numbers that the tape gives. more, then: entries to
    which others are added, in order, and the places of those.
    """

    first: Any
    more: Any
    then: Any

    def moved(self, places: Ints) -> "Terms":
        """The same, where the numbers have other places."""
        own = places.astype(np.int32)
        return Terms(own[self.first], self.more, own[self.then])

    def collect(self, numbers: Floats, found: Floats) -> None:
        """The entries from the numbers of one point."""
        from tapeflow.sparsity.recovery import added, collected

        n = len(self.first)
        threads = settings.current().threads if n > _SMALL else 1
        ends = [n * k // threads for k in range(threads + 1)]

        def run(k: int) -> None:
            collected(numbers, self.first, found, ends[k], ends[k + 1])

        others = [pool(threads).submit(run, k) for k in range(1, threads)]
        run(0)
        for other in others:
            other.result()
        added(numbers, self.more, self.then, found)


_FLOAT = np.dtype(np.float64)

_SMALL = 500_000
"""Entries, a nanosecond each at most, below which another thread saves little, and costs much where
it has to wait for a processor."""


class Entrywise:
    """A plan without colours: a tape that computes each entry by itself.

    tape, wanted: as `Compressed` has them. symmetric: the matrix is a Hessian. Raises NotSpread
    where that is not the way.
    """

    mode = "entrywise"

    def __init__(self, tape: Tape, wanted: Sequence[bool], symmetric: bool) -> None:
        structure, n_leaves = tape.input_structure, len(wanted)
        n_extra = len(structure.leaves) - n_leaves
        if on_numbers(tape):
            raise NotSpread("it computes with single numbers")
        n_rows = len(tape.outputs)
        push = pushforward(tape, [*wanted, *[False] * n_extra])
        swept = part_of(push, n_rows, 2 * n_rows)
        if len(swept) > _LONGEST:
            raise NotSpread(f"it takes {len(swept)} instructions")
        treedef = structure.treedef if not n_extra else flatten((0.0,) * n_leaves)[1]
        own = Structure(treedef, structure.leaves[:n_leaves])
        n_numbers = swept.n_slots - int(swept.slots[0])
        recorder = Recorder(own.size, share=True)
        with recorder:
            spread = Spread(swept, recorder, np.arange(own.size), _FULLEST * n_numbers)
            parts = spread.results().parts
            if symmetric:
                parts = [part for part in _halved(parts) if len(part.places)]
            self.pattern, self.terms = _collected(parts, n_rows, spread.n_columns, symmetric)
            fullest = int(np.diff(self.pattern.starts).max(initial=0))
            # A sweep for each colour computes all numbers each time.
            if spread.computed > 2 * fullest * n_numbers:
                raise NotSpread("there are too many on the way")
            results = [0.0, *(part.numbers for part in parts)]
            recorder.location = None
            outputs, leaves = output_slots(recorder, results, tape.name)
        output = Structure(flatten((0.0,) * len(leaves))[1], leaves)
        names = tape.input_names[:n_leaves]
        made = recorder.finish(f"entries of {tape.name}", outputs, own, output, names)
        self.tape = simplified(made)
        self._in_memory: Terms | None = None
        self._free: list[Any] = []

    @property
    def n_colors(self) -> int:
        """One sweep, if there is anything to find."""
        return min(1, self.pattern.nnz)

    def data(self, leaves: Sequence[Any]) -> Floats:
        """The entries at one point."""
        from tapeflow.engine.columns import Recycler

        sample = sample_program(self.tape, None)
        try:
            recycler = self._free.pop()
        except IndexError:
            recycler = Recycler()
        found: Floats = recycler.array(("entries", 0), (self.pattern.nnz,), _FLOAT)
        if self.tape.numbers_only:
            self.terms.collect(sample.results(leaves), found)
        else:
            if self._in_memory is None:
                self._in_memory = self.terms.moved(sample.output_places)
            terms = self._in_memory
            sample.read(leaves, lambda values: terms.collect(values, found))
        self._free.append(recycler)
        return found

    def batch(self, leaves: Sequence[Any], axes: Sequence[int | None]) -> Floats:
        """The entries at many points, shape (points, nnz)."""
        parts = Mapped(Fixed(self.tape), tuple(axes), None)(*leaves)
        numbers = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
        found = np.empty((len(numbers), self.pattern.nnz))
        for own, row in zip(numbers, found, strict=True):
            self.terms.collect(own, row)
        return found


def _halved(parts: Sequence[Part]) -> list[Part]:
    """The parts of a symmetric matrix, without what is below the diagonal if it is above too."""
    from tapeflow.sparsity.collecting import above

    rows, columns = (_joined([f(part.places) for part in parts]) for f in (_rows, _columns))
    kept = above(rows, columns, 1 + max(rows.max(initial=-1), columns.max(initial=-1)))
    ends = np.cumsum([len(part.places) for part in parts])
    flags = np.split(kept, ends[:-1]) if len(parts) else []
    return [part.chosen(np.flatnonzero(own)) for part, own in zip(parts, flags, strict=True)]


def _collected(
    parts: Sequence[Part], n_rows: int, n_columns: int, symmetric: bool
) -> tuple[Pattern, Terms]:
    """The matrix of some parts, whose numbers lie one after the other behind a zero."""
    from tapeflow.sparsity.collecting import ordered

    sources, first = [], 1
    for part in parts:
        n = 1 if part.is_one else len(part.places)
        sources.append(np.full(len(part.places), first) if part.is_one else first + np.arange(n))
        first += n
    source = _joined(sources)
    rows, columns = (_joined([f(part.places) for part in parts]) for f in (_rows, _columns))
    if symmetric:
        off = rows != columns
        mirrored = columns[off], rows[off], source[off]
        rows, columns, source = (
            np.concatenate(pair) for pair in zip((rows, columns, source), mirrored, strict=True)
        )
    starts, indices, *terms = ordered(rows, columns, source, n_rows, n_columns)
    return Pattern(starts, indices, n_columns), Terms(*terms)


def _rows(places: Places) -> Any:
    return places.rows


def _columns(places: Places) -> Any:
    return places.columns


def _joined(arrays: Sequence[Any]) -> Any:
    return np.concatenate([np.empty(0, np.int32), *arrays]).astype(np.int32)
