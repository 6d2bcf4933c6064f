"""A scattered problem whose function branches: each element runs on its own path.

Its elements' leaves are gathered into arrays, and not read in place.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from tapeflow.derivatives import jacobian
from tapeflow.sparsity.elements import Elements
from tapeflow.structure import Floats
from tapeflow.tracers import lift
from tapeflow.vmap import Mapped


class ByPath:
    """As `scatter._Programs`, for a function of n_rows residuals that branches."""

    def __init__(self, function: Callable[..., Any], elements: Elements, n_rows: int) -> None:
        self._elements, self.n_rows = elements, n_rows
        unknown = [k for k, group in enumerate(elements.groups) if group.wanted]
        sizes = [elements.groups[k].index.shape[1] * elements.groups[k].size for k in unknown]
        self.n_columns = sum(sizes)

        # It is in the user's function that what it closes over is looked for.
        @functools.wraps(function)
        def residuals(*leaves: Any) -> Any:
            results = function(*elements.treedef.unflatten(leaves))
            return np.concatenate([lift(x).reshape(-1) for x in optree.tree_leaves(results)])

        in_unknowns = jacobian(residuals, tuple(unknown))

        @functools.wraps(function)
        def blocks(*leaves: Any) -> Any:
            parts = in_unknowns(*leaves)
            rows = [x.reshape(-1, size) for x, size in zip(parts, sizes, strict=True)]
            return np.concatenate(rows, axis=1).reshape(-1)

        @functools.wraps(function)
        def both(*leaves: Any) -> Any:
            return residuals(*leaves), blocks(*leaves)

        axes = tuple(None if group.entry is None else 0 for group in elements.groups)
        self._blocks = Mapped(blocks, axes, None)
        self._residuals = Mapped(residuals, axes, None)
        self._both = Mapped(both, axes, None)

    def blocks(self, leaves: Sequence[Any]) -> list[Floats]:
        return [self._blocks(*self._gathered(leaves))]

    def residuals(self, leaves: Sequence[Any]) -> list[Floats]:
        return [self._residuals(*self._gathered(leaves))]

    def both(self, leaves: Sequence[Any]) -> list[Floats]:
        return list(self._both(*self._gathered(leaves)))

    def _gathered(self, leaves: Sequence[Any]) -> list[Any]:
        """Each leaf as the elements have it, one after the other along the first axis."""
        found = []
        for group, leaf in zip(self._elements.groups, leaves, strict=True):
            if group.index is None:
                found.append(leaf)
                continue
            own = np.asarray(leaf)[group.index]
            found.append(own.reshape(len(own), *(group.entry or ())))
        return found
