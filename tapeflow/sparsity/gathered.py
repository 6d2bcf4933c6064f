"""A tape run for every element of a scattered problem, its inputs read in place by index."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tapeflow import settings
from tapeflow.sparsity.elements import Elements
from tapeflow.sparsity.plain import with_plain_products
from tapeflow.structure import Floats
from tapeflow.tape import Tape


class Checked:
    """A tape run by plain products where that makes no difference."""

    def __init__(self, tape: Tape, elements: Elements) -> None:
        self.tape, self._elements = tape, elements
        plain = with_plain_products(tape)
        self._plain = None if plain is None else Gathered(plain, elements)

    @cached_property
    def _exact(self) -> "Gathered":
        return Gathered(self.tape, self._elements)

    def __call__(self, leaves: Sequence[Any]) -> list[Floats]:
        """Each leaf of the result, shape (elements, its size)."""
        if self._plain is not None and not settings.current().debugging:
            *found, check = self._plain(leaves)
            if not np.isnan(check).any():
                return found
            del found
        return self._exact(leaves)


class Gathered:
    """A tape whose inputs are an element's leaves; its result is arrays."""

    def __init__(self, tape: Tape, elements: Elements) -> None:
        # These bring Numba, which takes a while.
        from tapeflow.engine.array_batch import ArrayBatch
        from tapeflow.engine.batch import BatchProgram

        self.tape, self.n = tape, elements.n
        offsets, strides, leaf_of, indices, steps, lane = [], [], [], [], [], []
        for k, group in enumerate(elements.groups):
            inside = 8 * np.arange(group.size)
            times = 1 if group.index is None else group.index.shape[1]
            count = group.size * times
            offsets.append(np.tile(inside, times))
            strides.append(np.full(count, 8 * group.size))
            leaf_of.append(np.full(count, k))
            lane.append(np.full(count, group.entry is not None))
            own = np.zeros(count, np.int64)
            # What every element has one of its own of, in order, is read as data is.
            if group.index is not None and not _in_order(group.index):
                first = group.index.__array_interface__["data"][0]
                own = np.repeat(first + 4 * np.arange(times), group.size)
            indices.append(own)
            steps.append(np.full(count, 4 * times))
        self.offsets, self.strides = np.concatenate(offsets), np.concatenate(strides)
        self.leaf_of, self.lane = np.concatenate(leaf_of), np.concatenate(lane)
        self.indices, self.steps = np.concatenate(indices), np.concatenate(steps)
        # The arrays that the addresses are of.
        self.keep = tuple(group.index for group in elements.groups)
        none = np.zeros(tape.n_inputs, np.bool_)
        if tape.numbers_only:
            self.program: Any = BatchProgram(tape, self.lane, none, (), False)
        else:
            leaves = [False] * len(tape.input_structure.leaves)
            self.program = ArrayBatch(tape, self.lane, leaves, False)
        self.program.n_signed = 0

    def __call__(self, leaves: Sequence[Any]) -> list[Floats]:
        """Each leaf of the result, shape (elements, its size)."""
        from tapeflow.engine.batch_run import Source

        arrays = [np.ascontiguousarray(leaf, np.float64) for leaf in leaves]
        bases = np.array([array.__array_interface__["data"][0] for array in arrays], np.int64)
        shared = np.zeros(self.tape.n_inputs)
        numbers = np.array([array.flat[0] if array.size else 0.0 for array in arrays])
        shared[~self.lane] = numbers[self.leaf_of[~self.lane]]
        source = Source(
            bases[self.leaf_of] + self.offsets,
            np.where(self.lane, self.strides, 0),
            np.full(len(self.lane), 8),
            shared,
            (*arrays, *self.keep),
            [np.dtype(np.float64)] * len(self.tape.output_structure.leaves),
            [],
            self.indices,
            self.steps,
        )
        values, _ = self.program.run(source, self.n, None)
        found: list[Floats] = values
        return found


def _in_order(index: Any) -> bool:
    return index.shape[1] == 1 and bool((index[:, 0] == np.arange(len(index))).all())
