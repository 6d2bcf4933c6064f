"""Kernels that NumPy and SciPy compute, called from the sweeps as the compiled ones are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow import grid, mathlib
from tapeflow.kernels.callbacks import address, guarded, record_at, row_at
from tapeflow.ops import Op


class HostKernel:
    """One instruction's kernel. Its record: the place of the result, and of each operand.

    sizes: the lengths of the operands' runs, and of the result's. shared: which operands lie in
    single numbers, not in rows of lanes.
    """

    def __init__(
        self,
        op: Op,
        parameters: Sequence[int],
        sizes: tuple[tuple[int, ...], int],
        shared: Sequence[bool],
    ) -> None:
        self._op, self._parameters = op, parameters
        self._sizes, self._size = sizes
        self._shared = shared
        # In use by compiled code as long as the program that holds it is.
        self._function = guarded(self._run)
        self.address = address(self._function)

    def _run(self, values: int, _: int, single: int, record: int, lanes: int) -> None:
        places = record_at(record, 1 + len(self._sizes))
        operands = []
        for shared, place, size in zip(self._shared, places[1:], self._sizes, strict=True):
            if shared:
                run = row_at(single + 8 * int(place), size).reshape(size, 1)
                operands.append(np.broadcast_to(run, (size, lanes)))
            else:
                run = row_at(values + 8 * lanes * int(place), size * lanes)
                operands.append(run.reshape(size, lanes))
        result = row_at(values + 8 * lanes * int(places[0]), self._size * lanes)
        with np.errstate(all="ignore"):
            result.reshape(self._size, lanes)[...] = self._evaluate(operands)

    def _evaluate(self, operands: Sequence[Any]) -> Any:
        if self._op.array is not None:
            return self._op.array.forward(self._parameters, *operands)
        if len(self._parameters):
            operands = [x[grid.places(self._parameters, k)] for k, x in enumerate(operands)]
        return getattr(mathlib, self._op.name)(*operands)
