"""Which entries of a Jacobian or a Hessian can be other than zero."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tapeflow.sparsity.dependence import graph_of
from tapeflow.sparsity.subject import Subject, columns_of
from tapeflow.structure import Ints
from tapeflow.tape import Tape


@dataclass(frozen=True, eq=False)
class Pattern:
    """A sparse matrix's structure: the columns of row k are indices[starts[k]:starts[k + 1]].

    The columns of a row are ascending.
    """

    starts: Ints
    indices: Any
    n_columns: int

    @property
    def n_rows(self) -> int:
        return len(self.starts) - 1

    @property
    def nnz(self) -> int:
        return len(self.indices)

    def equals(self, other: "Pattern") -> bool:
        """Whether it has the same entries."""
        same = np.array_equal(self.starts, other.starts)
        return same and np.array_equal(self.indices, other.indices)

    @cached_property
    def transposed(self) -> "Pattern":
        from tapeflow.sparsity.walks import transposed

        starts, indices = transposed(self.starts, self.indices, self.n_columns)
        return Pattern(starts, indices, self.n_rows)

    @cached_property
    def index_arrays(self) -> tuple[Any, Any]:
        """Indices and starts as SciPy has them, in 32 bits if they fit; all matrices share them."""
        kind = np.int32 if max(self.nnz, self.n_columns) < 2**31 else np.int64
        arrays = self.indices.astype(kind), self.starts.astype(kind)
        for array in arrays:
            array.setflags(write=False)
        return arrays

    def matrix(self, data: Any) -> Any:
        """The matrix with these numbers, as a csr_array."""
        # SciPy looks through all indices to make one, so that is done once.
        matrix = copy.copy(self._empty)
        matrix.data = data
        return matrix

    @cached_property
    def _empty(self) -> Any:
        """A matrix of the structure; its numbers are no memory."""
        from scipy.sparse import csr_array

        nothing = np.broadcast_to(np.float64(0.0), self.nnz)
        matrix = csr_array((nothing, *self.index_arrays), shape=(self.n_rows, self.n_columns))
        matrix.has_canonical_format = True
        return matrix

    @classmethod
    def of_matrix(cls, matrix: Any) -> "Pattern":
        """The structure of any matrix, dense or sparse: where it is not zero."""
        from scipy.sparse import csr_array

        found = csr_array(matrix, copy=True)
        found.sum_duplicates()
        if not isinstance(matrix, np.ndarray):
            return cls(found.indptr.astype(np.int64), found.indices, found.shape[1])
        found.eliminate_zeros()
        return cls(found.indptr.astype(np.int64), found.indices, found.shape[1])


def pattern_of(tape: Tape, wanted: Sequence[bool]) -> Pattern:
    """The structure of a tape's Jacobian in some leaves of its inputs."""
    from tapeflow.sparsity.walks import index_sets

    graph, column = graph_of(tape), columns_of(tape, wanted)
    n_columns = int(column.max(initial=-1)) + 1
    # Constants come after the inputs, and depend on nothing.
    first = np.full(int(tape.slots[0]), -1, np.int64)
    first[: tape.n_inputs] = column
    outputs = graph.of_slot[tape.outputs]
    starts, indices = index_sets(graph.starts, graph.sources, first, outputs, n_columns)
    return Pattern(starts, indices, n_columns).transposed.transposed


def jacobian_pattern(
    function: Callable[..., Any], *args: Any, argnums: int | Sequence[int] = 0
) -> Any:
    """Where the Jacobian of a function can be other than zero, whatever the arguments' numbers.

    args: example arguments, as for ``tpf.record``. argnums: as in ``tpf.jacobian``. Returns a
    ``scipy.sparse.csr_array`` of bool, of shape (numbers of the result, numbers of the arguments
    differentiated in), in the order of their flattened leaves.

    An entry is there if some path of operations through which derivatives flow leads from the
    argument to the result. A derivative that is zero because of the numbers (``0.0 * x``), or
    because terms cancel (``x - x``), counts; one that is zero by the rule of an operation (a step,
    the condition of a ``where``) does not. Raises as ``tpf.jacobian``.

    >>> tpf.sparsity.jacobian_pattern(lambda x: x[:-1] * x[1:], np.ones(3)).toarray()
    array([[ True,  True, False],
           [False,  True,  True]])
    """
    subject = Subject(function, argnums)
    tape, _ = subject.tape(args)
    pattern = pattern_of(tape, subject.wanted(tape))
    return pattern.matrix(np.ones(pattern.nnz, np.bool_))


def hessian_pattern(
    function: Callable[..., Any], *args: Any, argnums: int | Sequence[int] = 0
) -> Any:
    """Where the Hessian of a function of one number can be other than zero.

    As `jacobian_pattern` of the gradient; the result is square and symmetric. Operations that are
    linear add no entry: ``x + y`` has none, ``x * y`` has two. Raises as ``tpf.hessian``.

    >>> tpf.sparsity.hessian_pattern(lambda x: x[0] * x[1] + x[2] ** 2 + x[3], np.ones(4)).nnz
    3
    """
    subject = Subject(function, argnums)
    tape, _ = subject.tape(args)
    pattern = symmetric(pattern_of(subject.gradient(tape), subject.wanted(tape)))
    return pattern.matrix(np.ones(pattern.nnz, np.bool_))


def symmetric(pattern: Pattern) -> Pattern:
    """The union of a square pattern and its transpose.

    The derivative of a gradient is symmetric, but an entry may be seen from one side alone, where a
    factor that is zero in fact stands in the way of being seen from the other.
    """
    other = pattern.transposed
    if np.array_equal(other.starts, pattern.starts) and np.array_equal(
        other.indices, pattern.indices
    ):
        return pattern
    ones = np.ones(pattern.nnz, np.int8)
    return Pattern.of_matrix(pattern.matrix(ones) + other.matrix(ones))
