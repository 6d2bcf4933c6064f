"""The numbers of a traced array, which views share and assignments change."""

import bisect
from collections.abc import Sequence
from operator import itemgetter

from tapeflow.ops import BY_NAME
from tapeflow.recorder import Recorder
from tapeflow.structure import Floats

_start = itemgetter(0)


class Buffer:
    """A run of numbers put together of pieces: (first place, length, first slot).

    Assigning to a stretch swaps the piece there, and writes no instruction; reading across pieces
    joins them first. A plain array is a buffer without a recording until something traced is
    assigned to it.
    """

    def __init__(self, recorder: Recorder | None, size: int, slot: int = 0) -> None:
        self.recorder = recorder
        self.size = size
        self.version = 0
        self.pieces: list[tuple[int, int, int]] = [(0, size, slot)]
        self.numbers: Floats | None = None

    @classmethod
    def of_numbers(cls, numbers: Floats) -> "Buffer":
        """A buffer of plain numbers, shape (size,)."""
        buffer = cls(None, numbers.size)
        buffer.numbers = numbers
        return buffer

    def record_in(self, recorder: Recorder) -> None:
        """Make plain numbers constants of a recording."""
        if self.recorder is None:
            assert self.numbers is not None
            self.recorder = recorder
            self.pieces = [(0, self.size, recorder.constants_of(self.numbers))]
            self.numbers = None

    def run(self, first: int, length: int) -> int:
        """The first slot of a stretch, in the buffer's own recording."""
        assert self.recorder is not None
        k = bisect.bisect_right(self.pieces, first, key=_start) - 1
        start, size, slot = self.pieces[k]
        if first + length <= start + size:
            return slot + first - start
        joined = self.recorder.append(
            BY_NAME["concat"],
            [slot for _, _, slot in self.pieces],
            [size for _, size, _ in self.pieces],
            self.size,
        )
        self.pieces = [(0, self.size, joined)]
        return joined + first

    def stretch(self, first: int, length: int) -> list[tuple[int, int]]:
        """The runs that make up a stretch: the length and first slot of each."""
        runs, last = [], first + length
        for start, size, slot in self.pieces:
            if start < last and start + size > first:
                cut = max(start, first)
                runs.append((min(start + size, last) - cut, slot + cut - start))
        return runs

    def write(self, first: int, length: int, slot: int) -> None:
        """Put a run in place of a stretch."""
        last = first + length
        before: list[tuple[int, int, int]] = []
        after: list[tuple[int, int, int]] = []
        for start, size, own in self.pieces:
            if start < first:
                before.append((start, min(size, first - start), own))
            if start + size > last:
                cut = max(start, last)
                after.append((cut, start + size - cut, own + cut - start))
        self.pieces = [*before, (first, length, slot), *after]
        self.version += 1


def c_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in numbers, of an array in C order."""
    strides, stride = [], 1
    for length in reversed(shape):
        strides.append(stride)
        stride *= length
    return tuple(reversed(strides))
