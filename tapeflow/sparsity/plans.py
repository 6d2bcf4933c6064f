"""Sparse Jacobians and Hessians: planned once, evaluated at many points into one structure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow.branches.lanes import Lanes, find_paths, put
from tapeflow.errors import GuardError, StructureError
from tapeflow.recorded import flatten_args
from tapeflow.sparsity.compressed import Compressed, as_array
from tapeflow.sparsity.entrywise import Entrywise
from tapeflow.sparsity.methods import (
    HESSIAN_MODES,
    JACOBIAN_MODES,
    Method,
    hessian_method,
    jacobian_method,
)
from tapeflow.sparsity.patterns import Pattern, pattern_of, symmetric
from tapeflow.sparsity.spread import NotSpread
from tapeflow.sparsity.subject import Subject
from tapeflow.structure import Floats
from tapeflow.tape import Tape
from tapeflow.vmap import batch_axes


def sparse_jacobian(
    function: Callable[..., Any],
    *example: Any,
    argnums: int | Sequence[int] = 0,
    mode: str = "auto",
    order: str = "auto",
) -> "SparsePlan":
    """Plan the sparse Jacobian of a function of numbers and arrays.

    example: arguments as those that the plan will be called with; only their structure and shapes
    matter. argnums: as in ``tpf.jacobian``. Rows are the numbers of the result, columns those of
    the arguments differentiated in, in the order of their flattened leaves.

    mode: "entrywise" computes each entry by itself, which needs a function of arrays that works on
    their numbers one by one and moves them. "forward" finds sums of columns of one colour,
    "reverse" of rows, "both" of some of each, as suits arrow-shaped matrices. "auto" is "entrywise"
    where that works and is less work, and otherwise the one of fewest colours. order: in which
    columns or rows are coloured, as in ``tpf.sparsity.color_columns``; to give one asks for
    colours.

    Returns a plan: ``plan(*args)`` is a ``scipy.sparse.csr_array`` of float64.

    Raises ValueError for another mode or order, or if "entrywise" does not work, and otherwise as
    ``tpf.jacobian``.

    >>> plan = tpf.sparse_jacobian(lambda x: x[:-1] * x[1:], np.ones(5))
    >>> plan
    <sparse jacobian of <lambda>: 4 x 5, 8 entries, entrywise>
    >>> plan(np.arange(5.0)).toarray()
    array([[1., 0., 0., 0., 0.],
           [0., 2., 1., 0., 0.],
           [0., 0., 3., 2., 0.],
           [0., 0., 0., 4., 3.]])
    """
    if mode not in JACOBIAN_MODES:
        raise ValueError(f"mode must be one of {', '.join(JACOBIAN_MODES)}, not {mode!r}")
    return SparsePlan("jacobian", Subject(function, argnums), example, mode, order)


def sparse_hessian(
    function: Callable[..., Any],
    *example: Any,
    argnums: int | Sequence[int] = 0,
    mode: str = "auto",
    order: str = "auto",
) -> "SparsePlan":
    """Plan the sparse Hessian of a function that returns one number.

    example, argnums, order: as in `sparse_jacobian`; the matrix is square, and exactly symmetric.

    mode: "entrywise" as in `sparse_jacobian`. "star" reads each entry off one sum of columns,
    "acyclic" finds entries by substitution, with fewer colours, and errors that add up along the
    trees of two colours; "forward" does not use the symmetry. "auto" is "entrywise" where that
    works and is less work, and otherwise "star".

    Returns a plan, as `sparse_jacobian` does. Raises ValueError for another mode or order, or if
    "entrywise" does not work, and otherwise as ``tpf.hessian``.

    >>> def rosenbrock(x):
    ...     return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
    >>> plan = tpf.sparse_hessian(rosenbrock, np.ones(1000))
    >>> plan
    <sparse hessian of rosenbrock: 1000 x 1000, 2998 entries, entrywise>
    >>> plan(np.ones(1000))[:2, :2].toarray()
    array([[ 802., -400.],
           [-400., 1002.]])
    """
    if mode not in HESSIAN_MODES:
        raise ValueError(f"mode must be one of {', '.join(HESSIAN_MODES)}, not {mode!r}")
    return SparsePlan("hessian", Subject(function, argnums), example, mode, order)


@dataclass(frozen=True, eq=False)
class Colored:
    """A plan by colours: sums of columns and rows, and the way from them to the entries."""

    method: Method
    compressed: Compressed

    @property
    def mode(self) -> str:
        return self.method.mode

    @property
    def n_colors(self) -> int:
        return self.method.n_colors

    def data(self, leaves: Sequence[Any]) -> Floats:
        """The entries at one point."""
        found: Floats = self.method.recover(self.compressed(leaves)[None])[0]
        return found

    def batch(self, leaves: Sequence[Any], axes: Sequence[int | None]) -> Floats:
        """The entries at many points, shape (points, nnz)."""
        return self.method.recover(self.compressed.batch(leaves, axes))


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What a plan is for one tape."""

    pattern: Pattern
    way: Entrywise | Colored


class SparsePlan:
    """What ``tpf.sparse_jacobian`` and ``tpf.sparse_hessian`` make.

    shape, nnz, mode, n_colors: of the matrix, and of how it is found. indices, indptr: its
    structure, read-only, which all matrices of the plan share.

    If the function is recorded anew, as what it closes over has changed, so is the plan.
    """

    def __init__(
        self, kind: str, subject: Subject, example: tuple[Any, ...], mode: str, order: str
    ) -> None:
        self.kind, self._subject = kind, subject
        self._mode, self._order = mode, order
        self._tape, _ = subject.tape(example)
        self._last = self._tape, self._prepare(self._tape)
        self.__name__ = f"sparse {kind} of {subject.name}"

    def __call__(self, *args: Any) -> Any:
        """The matrix at some arguments, as a csr_array. Raises StructureError for other shapes."""
        prepared, leaves = self._at(args)
        return prepared.pattern.matrix(self._data(prepared, leaves))

    def data(self, *args: Any) -> Floats:
        """The matrix's entries alone, shape (nnz,), in the order of ``indices``."""
        return self._data(*self._at(args))

    def batch(self, *args: Any, in_axes: Any = 0) -> Floats:
        """The entries at many points, shape (points, nnz).

        in_axes: as in ``tpf.vmap``. Row k goes into a matrix by ``plan.matrix(entries[k])``. Where
        the function branches each point takes its own path; raises GuardError where the matrix has
        another structure there than at the first point.

        >>> plan = tpf.sparse_jacobian(lambda x: x**2, np.ones(2))
        >>> plan.batch(np.array([[1.0, 2.0], [3.0, 4.0]]))
        array([[2., 4.],
               [6., 8.]])
        """
        leaves, treedef, traced = flatten_args(args)
        if traced:
            self._subject.tape(args)  # which refuses
        axes = batch_axes(args, in_axes, leaves, self._subject.name)
        first = [
            leaf if axis is None else np.take(leaf, 0, axis)
            for leaf, axis in zip(leaves, axes, strict=True)
        ]
        # Before the function is recorded at other shapes, which may make no sense to it.
        shapes = [leaf.shape or () for leaf in self._tape.input_structure.leaves]
        if list(map(np.shape, first)) != shapes:
            raise self._other_shapes()
        prepared, _ = self._at(treedef.unflatten(first))
        n = next(np.shape(x)[a] for x, a in zip(leaves, axes, strict=True) if a is not None)
        if not prepared.pattern.nnz:
            return np.empty((n, 0))
        tree = self._subject.recorded.tree(first, treedef)
        if tree.plain is not None:
            return prepared.way.batch(leaves, axes)
        lanes, found = Lanes(leaves, axes, n), np.empty((n, prepared.pattern.nnz))
        for path, own in find_paths(tree, lanes, None) if n else []:
            there, points = self._prepare(path.tape), leaves
            if not there.pattern.equals(prepared.pattern):
                point = 0 if own is None else own[0]
                raise GuardError(
                    f"{self._subject.name} takes another branch at point {point} than at the "
                    "first, and has another pattern there: evaluate the plan point by point"
                )
            if own is not None:
                points = lanes.chosen(own, [leaf.size for leaf in path.tape.input_structure.leaves])
            put(there.way.batch(points, axes), own, found)
        return found

    def matrix(self, data: Any) -> Any:
        """Entries, shape (nnz,), as a csr_array of the plan's structure."""
        if np.shape(data) != (self.nnz,):
            raise ValueError(f"data must be of shape ({self.nnz},), not {np.shape(data)}")
        return self._last[1].pattern.matrix(data)

    @property
    def pattern(self) -> Any:
        """The structure, as a csr_array of bool."""
        return self._last[1].pattern.matrix(np.ones(self.nnz, np.bool_))

    @property
    def shape(self) -> tuple[int, int]:
        pattern = self._last[1].pattern
        return pattern.n_rows, pattern.n_columns

    @property
    def nnz(self) -> int:
        return self._last[1].pattern.nnz

    @property
    def indices(self) -> Any:
        return self._last[1].pattern.index_arrays[0]

    @property
    def indptr(self) -> Any:
        return self._last[1].pattern.index_arrays[1]

    @property
    def n_colors(self) -> int:
        """Sweeps that one evaluation takes; one if it is entrywise."""
        return self._last[1].way.n_colors

    @property
    def mode(self) -> str:
        return self._last[1].way.mode

    def __repr__(self) -> str:
        m, n = self.shape
        colors = "" if self.mode == Entrywise.mode else f"{self.n_colors} colours, "
        return f"<{self.__name__}: {m} x {n}, {self.nnz} entries, {colors}{self.mode}>"

    def _data(self, prepared: _Prepared, leaves: Sequence[Any]) -> Floats:
        if not prepared.pattern.nnz:
            return np.empty(0)
        return prepared.way.data(leaves)

    def _at(self, args: tuple[Any, ...]) -> tuple[_Prepared, list[Any]]:
        """What is prepared for the tape of some arguments, and their leaves."""
        tape, leaves = self._subject.tape(args)
        last, prepared = self._last
        if tape is not last:
            if tape.input_structure != self._tape.input_structure:
                raise self._other_shapes()
            prepared = self._prepare(tape)
            self._last = tape, prepared
        return prepared, leaves

    def _other_shapes(self) -> StructureError:
        return StructureError(
            f"the {self.__name__} was planned for arguments of other shapes: "
            "plan it again for these"
        )

    def _prepare(self, tape: Tape) -> _Prepared:
        wanted = self._subject.wanted(tape)
        key = ("sparse", self.kind, tuple(wanted), self._mode, self._order)
        if key not in tape.prepared:
            hessian = self.kind == "hessian"
            subject = self._subject.gradient(tape) if hessian else as_array(tape)
            tape.prepared[key] = self._entrywise(subject, wanted) or self._colored(subject, wanted)
        found: _Prepared = tape.prepared[key]
        return found

    def _entrywise(self, subject: Tape, wanted: Sequence[bool]) -> _Prepared | None:
        """None where colours are the way."""
        if self._mode not in ("auto", Entrywise.mode) or self._order != "auto":
            return None
        try:
            way = Entrywise(subject, wanted, self.kind == "hessian")
        except NotSpread as refused:
            if self._mode == "auto":
                return None
            raise ValueError(
                f"cannot find the entries of {self._subject.name} one by one, as {refused}: "
                'use mode="auto"'
            ) from None
        return _Prepared(way.pattern, way)

    def _colored(self, subject: Tape, wanted: Sequence[bool]) -> _Prepared:
        pattern = pattern_of(subject, wanted)
        if self.kind == "hessian":
            pattern = symmetric(pattern)
            method = hessian_method(pattern, self._mode, self._order)
        else:
            method = jacobian_method(pattern, self._mode, self._order)
        compressed = Compressed(subject, len(wanted), wanted, method.columns, method.rows)
        return _Prepared(pattern, Colored(method, compressed))
