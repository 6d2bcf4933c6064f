"""One small function applied to many tuples of a problem's unknowns: its Jacobian, assembled.

Such are bundle adjustment (a camera and a point for each observation), graphs of poses (two poses
for each edge), and finite elements (the vertices of each element).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tapeflow.branches.paths import Tree
from tapeflow.errors import StructureError, TracingError
from tapeflow.recorded import Recorded
from tapeflow.recorder import Recorder
from tapeflow.sparsity.assembly import Assembly
from tapeflow.sparsity.by_path import ByPath
from tapeflow.sparsity.compressed import Compressed, as_array
from tapeflow.sparsity.elements import Elements
from tapeflow.sparsity.gathered import Checked, Gathered
from tapeflow.structure import Floats, Leaf, Structure, flatten
from tapeflow.tape import Tape
from tapeflow.trace import inputs_of, output_slots
from tapeflow.transforms import inline


def scatter_jacobian(
    function: Callable[..., Any], indices: Sequence[Any], *example: Any
) -> "ScatterPlan":
    """Plan the Jacobian of a function applied to many tuples of unknowns.

    function: of one tuple; it returns its residuals, numbers and arrays of them. indices: one for
    each of its arguments:

    - an integer array: the argument is unknown. The plan is called with all of them, an array (or a
      structure of arrays) along whose first axis they lie, and element k of the problem has
      ``argument[index[k]]``. With an index of more than one axis, element k has several.
    - None: the argument is data, and element k has ``argument[k]``; of a plain number all have the
      same.

    example: arguments as those that the plan will be called with; only their shapes matter.

    Rows of the Jacobian are the residuals, element by element. Columns are the unknowns: argument
    by argument, leaf by leaf, flattened. The residuals of an element are taken to depend on all
    its unknowns. A function that branches takes its own path at each element.

    Returns a plan: ``plan(*args)`` is a ``scipy.sparse.csr_array``. Raises StructureError for
    indices that do not fit the arguments, and IndexError for one out of range.

    >>> def spring(ends, length):
    ...     return np.sqrt(np.sum((ends[1] - ends[0]) ** 2)) - length
    >>> places, edges = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]]), np.array([[0, 1], [1, 2]])
    >>> lengths = np.array([4.0, 4.0])
    >>> plan = tpf.scatter_jacobian(spring, (edges, None), places, lengths)
    >>> plan
    <scatter jacobian of spring: 2 x 6, 2 blocks of 1 x 4>
    >>> plan(places, lengths).toarray()
    array([[-0.6, -0.8,  0.6,  0.8,  0. ,  0. ],
           [ 0. ,  0. ,  0. ,  1. ,  0. , -1. ]])
    >>> plan.residuals(places, lengths)
    array([1., 0.])
    """
    return ScatterPlan(function, indices, example)


class NormalEquations(NamedTuple):
    """What a step of Gauss and Newton solves.

    matrix: J^T J, a csr_array, exactly symmetric. gradient: J^T r. residuals: r.
    """

    matrix: Any
    gradient: Floats
    residuals: Floats


class ScatterPlan:
    """What ``tpf.scatter_jacobian`` makes.

    shape, nnz: of the matrix. indices, indptr: its structure, read-only, which all matrices share.
    """

    def __init__(
        self, function: Callable[..., Any], indices: Sequence[Any], example: tuple[Any, ...]
    ) -> None:
        self._recorded = Recorded(function)
        self.__name__ = f"scatter jacobian of {self._recorded.name}"
        self._elements = Elements(self._recorded.name, indices, example)
        self._tree: Tree | None = None
        self._tree, self._programs = self._programs_at(self._elements.leaves(example))
        self._assembly = Assembly(self._elements, self._programs.n_rows)

    def __call__(self, *args: Any) -> Any:
        """The Jacobian, as a csr_array. Raises StructureError for arguments of other shapes."""
        data = self.data(*args)  # first, as the structure may be another at these arguments
        return self._assembly.pattern.matrix(data)

    def data(self, *args: Any) -> Floats:
        """The Jacobian's entries alone, shape (nnz,), in the order of ``indices``."""
        return self._assembly.data(self.blocks(*args))

    def blocks(self, *args: Any) -> Floats:
        """Each element's Jacobian in its own unknowns, shape (elements, residuals, unknowns)."""
        leaves = self._at(args)
        return self._shaped(self._programs.blocks(leaves)[0])

    def residuals(self, *args: Any) -> Floats:
        """The residuals of all elements, one after the other."""
        leaves = self._at(args)
        return self._programs.residuals(leaves)[0].reshape(-1)

    def linearize(self, *args: Any) -> tuple[Floats, Any]:
        """The residuals and the Jacobian, in one sweep."""
        residuals, blocks = self._programs.both(self._at(args))
        data = self._assembly.data(self._shaped(blocks))
        return residuals.reshape(-1), self._assembly.pattern.matrix(data)

    def normal_equations(self, *args: Any) -> NormalEquations:
        """J^T J, J^T r and r, without J: the structure once, then sums of the elements' blocks.

        The sums have the same bits for every number of threads.

        >>> x, y = np.ones(2), np.array([1.0, 2.0, 3.0])
        >>> plan = tpf.scatter_jacobian(lambda x, y: x * y, ([0, 1, 1], None), x, y)
        >>> matrix, gradient, residuals = plan.normal_equations(x, y)
        >>> matrix.toarray(), gradient
        (array([[ 1.,  0.],
               [ 0., 13.]]), array([ 1., 13.]))
        """
        from tapeflow.sparsity.sums import transposed_product

        residuals, flat = self._programs.both(self._at(args))
        blocks, normal = self._shaped(flat), self._assembly.normal
        gradient = np.zeros(self._elements.n_columns)
        transposed_product(blocks, self._columns, residuals, gradient)
        matrix = normal.pattern.matrix(normal.data(blocks))
        return NormalEquations(matrix, gradient, residuals.reshape(-1))

    def flatten(self, *args: Any) -> Floats:
        """The unknowns among some arguments, in the order of the columns: a copy."""
        leaves = self._elements.leaves(args)
        pairs = zip(self._elements.groups, leaves, strict=True)
        own = [np.ravel(leaf) for group, leaf in pairs if group.wanted]
        return np.concatenate(own).astype(np.float64)

    def unflatten(self, x: Any, *args: Any) -> tuple[Any, ...]:
        """Arguments with other unknowns, x of shape (columns,); those that are data are kept.

        So ``scipy.optimize.least_squares`` takes a plan:
        ``least_squares(lambda x: plan.residuals(*plan.unflatten(x, *args)), plan.flatten(*args),
        lambda x: plan(*plan.unflatten(x, *args)))``.
        """
        if np.shape(x) != (self._elements.n_columns,):
            raise ValueError(f"x must be of shape ({self._elements.n_columns},), not {np.shape(x)}")
        leaves = self._elements.leaves(args)
        for k, group in enumerate(self._elements.groups):
            if group.wanted:
                own = np.asarray(x)[group.first : group.first + leaves[k].size]
                leaves[k] = own.reshape(leaves[k].shape)
        found: tuple[Any, ...] = self._elements.treedef.unflatten(leaves)
        return found

    @property
    def shape(self) -> tuple[int, int]:
        return self._assembly.pattern.n_rows, self._elements.n_columns

    @property
    def nnz(self) -> int:
        return self._assembly.pattern.nnz

    @property
    def indices(self) -> Any:
        return self._assembly.pattern.index_arrays[0]

    @property
    def indptr(self) -> Any:
        return self._assembly.pattern.index_arrays[1]

    def __repr__(self) -> str:
        (m, n), programs = self.shape, self._programs
        blocks = f"{self._elements.n} blocks of {programs.n_rows} x {programs.n_columns}"
        return f"<{self.__name__}: {m} x {n}, {blocks}>"

    @cached_property
    def _columns(self) -> Any:
        return self._elements.columns()

    def _shaped(self, blocks: Floats) -> Floats:
        programs = self._programs
        return blocks.reshape(self._elements.n, programs.n_rows, programs.n_columns)

    def _programs_at(self, leaves: list[Any]) -> tuple[Tree, "_Programs | ByPath"]:
        """The function's tapes, and its programs at some arguments: those at hand if they fit."""
        sample = self._elements.sample(leaves)
        tree = self._recorded.tree(sample, self._elements.treedef)
        if tree.captures:
            raise TracingError(
                f"{self._recorded.name} uses a traced value of an enclosing function: "
                "pass it as an argument"
            )
        tape = tree.settle(sample).tape if tree.plain is None else tree.plain
        if not len(tape.outputs):
            raise StructureError(f"{self._recorded.name} returns no residuals: return numbers")
        if tree is self._tree and self._programs.n_rows == len(tape.outputs):
            return tree, self._programs
        if tree.plain is not None:
            return tree, _Programs(tape, self._elements)
        return tree, ByPath(self._recorded.function, self._elements, len(tape.outputs))

    def _at(self, args: tuple[Any, ...]) -> list[Any]:
        """The leaves of some arguments; the programs are those of the function as it is now."""
        leaves = self._elements.leaves(args)
        self._tree, self._programs = self._programs_at(leaves)
        if self._programs.n_rows != self._assembly.n_rows:
            self._assembly = Assembly(self._elements, self._programs.n_rows)
        return leaves


class _Programs:
    """The sweeps of one tape over all elements: blocks, residuals, or both."""

    def __init__(self, tape: Tape, elements: Elements) -> None:
        self._elements, self._tape = elements, as_array(tape)
        wanted = [group.wanted for group in elements.groups]
        sizes = (leaf.size for leaf in tape.input_structure.leaves)
        self.n_rows = len(tape.outputs)
        self.n_columns = sum(size for size, own in zip(sizes, wanted, strict=True) if own)
        m, n = self.n_rows, self.n_columns
        columns, rows = (np.full(size, -1, np.int32) for size in (n, m))
        forward = n < m
        (columns if forward else rows)[:] = np.arange(min(m, n))
        (sums,) = Compressed(self._tape, len(wanted), wanted, columns, rows).tapes
        # By columns the block comes turned.
        order = np.arange(m * n)
        order = order.reshape(n, m).T.ravel() if forward else order
        structure = Structure(flatten(0.0)[1], (Leaf((m * n,)),))
        # Not a pullback any more, although it may be made of one: its last input is no seed.
        self._sums = replace(
            sums,
            name=f"Jacobian of {tape.name}",
            outputs=sums.outputs[order],
            output_structure=structure,
        )

    @cached_property
    def blocks(self) -> Checked:
        return Checked(self._sums, self._elements)

    @cached_property
    def residuals(self) -> Gathered:
        return Gathered(self._tape, self._elements)

    @cached_property
    def both(self) -> Checked:
        structure = self._tape.input_structure
        recorder = Recorder(structure.size, share=True)
        with recorder:
            inputs = inputs_of(recorder, structure)
            results = [*inline(self._tape, inputs), *inline(self._sums, inputs)]
            recorder.location = None
            slots, leaves = output_slots(recorder, results, self._tape.name)
        output = Structure(flatten((0.0,) * len(leaves))[1], leaves)
        names, name = self._tape.input_names, self._sums.name
        return Checked(recorder.finish(name, slots, structure, output, names), self._elements)
