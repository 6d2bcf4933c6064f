"""Where the blocks of all elements go: in the Jacobian, and in its product with itself."""

from functools import cached_property

import numpy as np

from tapeflow import settings
from tapeflow.sparsity.elements import Elements
from tapeflow.sparsity.patterns import Pattern
from tapeflow.structure import Floats, Ints
from tapeflow.threads import pool


class Assembly:
    """The structure of the Jacobian of elements with n_rows residuals each."""

    def __init__(self, elements: Elements, n_rows: int) -> None:
        self.elements, self.n_rows = elements, n_rows
        columns = elements.columns()
        n, count = columns.shape
        # Where in its row each number of a block goes; None where all are in order.
        self.places: Ints | None = None
        counts = np.full(n, count)
        if (np.diff(columns, axis=1) <= 0).any():
            order = np.argsort(columns, axis=1, kind="stable")
            columns = np.take_along_axis(columns, order, axis=1)
            new = np.ones(columns.shape, np.bool_)
            new[:, 1:] = np.diff(columns, axis=1) > 0
            self.places = np.empty(columns.shape, np.int32)
            np.put_along_axis(self.places, order, np.cumsum(new, axis=1, dtype=np.int32) - 1, 1)
            counts = new.sum(axis=1)
            whole = np.repeat(columns[:, None], n_rows, axis=1)
            indices = whole[np.broadcast_to(new[:, None], whole.shape)]
        else:
            indices = np.repeat(columns[:, None], n_rows, axis=1).ravel()
        starts = np.concatenate([[0], np.cumsum(np.repeat(counts, n_rows))])
        self.pattern = Pattern(starts, indices, elements.n_columns)

    def data(self, blocks: Floats) -> Floats:
        """The Jacobian's entries from the blocks, shape (n, rows, count)."""
        if self.places is None:
            return blocks.reshape(-1)
        from tapeflow.sparsity.sums import spread

        found = np.zeros(self.pattern.nnz)
        spread(blocks, self.places, self.pattern.starts, found)
        return found

    @cached_property
    def normal(self) -> "Normal":
        return Normal(self.elements)


class Normal:
    """The structure of J^T J: a block for each two unknowns that some element has.

    A node is an entry of an indexed leaf: as many neighbouring columns as it has numbers.
    """

    def __init__(self, elements: Elements) -> None:
        from tapeflow.sparsity.sums import block_columns

        sizes, firsts, nodes, local, before, offset = [], [], [], [], 0, 0
        wanted = zip(elements.groups, elements.shapes, strict=True)
        for group, shape in ((group, shape) for group, shape in wanted if group.wanted):
            sizes.append(np.full(shape[0], group.size))
            firsts.append(group.first + group.size * np.arange(shape[0]))
            for k in range(group.index.shape[1]):
                nodes.append(before + group.index[:, k].astype(np.int64))
                local.append(offset)
                offset += group.size
            before += shape[0]
        self.n_columns = elements.n_columns
        size, first = np.concatenate(sizes), np.concatenate(firsts)
        # Each pair of an element's nodes, the lower one first; both ways round if it is one node.
        a, b = (x.ravel() for x in np.indices((len(nodes), len(nodes))))
        pairs = [(i, j, nodes[i] <= nodes[j]) for i, j in zip(a, b, strict=True)]
        element = np.concatenate([np.flatnonzero(kept) for _, _, kept in pairs])
        counts = [int(kept.sum()) for _, _, kept in pairs]
        left = np.concatenate([nodes[i][kept] for i, _, kept in pairs])
        right = np.concatenate([nodes[j][kept] for _, j, kept in pairs])
        # What the nodes' columns are within the element's.
        within = [np.repeat([local[pair[side]] for pair in pairs], counts) for side in (0, 1)]
        keys, block = np.unique(left * before + right, return_inverse=True)
        order = np.argsort(block, kind="stable")
        self.terms = np.stack([element, *within], axis=1)[order]
        self.term_starts = np.concatenate([[0], np.cumsum(np.bincount(block, minlength=len(keys)))])
        lower, upper = keys // max(before, 1), keys % max(before, 1)
        # The blocks of both triangles, by row and then by column.
        off = np.flatnonzero(lower != upper)
        rows = np.concatenate([lower, upper[off]])
        columns = np.concatenate([upper, lower[off]])
        sorted_ = np.lexsort((columns, rows))
        rows, columns = rows[sorted_], columns[sorted_]
        ends = np.cumsum(size[columns])
        row_starts = np.searchsorted(rows, np.arange(before + 1))
        before_row = np.concatenate([[0], ends])[row_starts]
        inside = ends - size[columns] - before_row[rows]
        widths = np.diff(before_row)
        starts = np.concatenate([[0], np.cumsum(np.repeat(widths, size))])
        indices = block_columns(row_starts, columns, first, size, starts)
        self.pattern = Pattern(starts, indices, elements.n_columns)
        # Of each block above the diagonal: its nodes' sizes, where its first row's numbers begin,
        # the length of its rows, and the same of its mirror image.
        place = np.empty(len(sorted_), np.int64)
        place[sorted_] = starts[first[rows]] + inside
        mirror = place[: len(keys)].copy()
        mirror[off] = place[len(keys) :]
        self.blocks = np.stack(
            [size[lower], size[upper], place[: len(keys)], widths[lower], mirror, widths[upper]],
            axis=1,
        )

    def data(self, jacobians: Floats) -> Floats:
        """The entries of J^T J from the elements' blocks, shape (n, rows, count).

        Each is summed in the order of the elements, whatever the number of threads.
        """
        from tapeflow.sparsity.sums import products

        found = np.empty(self.pattern.nnz)
        threads = settings.current().threads if len(self.terms) > _SMALL else 1
        cuts = [len(self.terms) * k // threads for k in range(threads + 1)]
        bounds = np.searchsorted(self.term_starts, cuts)
        bounds[-1] = len(self.blocks)

        def run(k: int) -> None:
            own = int(bounds[k]), int(bounds[k + 1])
            products(jacobians, self.terms, self.term_starts, self.blocks, *own, found)

        others = [pool(threads).submit(run, k) for k in range(1, threads)]
        run(0)
        for other in others:
            other.result()
        return found


_SMALL = 10_000
"""Pairs of unknowns below which handing work to another thread costs more than it saves."""
