"""vmap: a function, or its gradient, over a batch of samples in one call."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from tapeflow.api import Function, Gradient
from tapeflow.arguments import Part
from tapeflow.branches.branching import Branching
from tapeflow.branches.lanes import sample_of
from tapeflow.control import scan
from tapeflow.errors import StructureError
from tapeflow.inspection import WithPaths
from tapeflow.plans import Axis, Plan, wanted_leaves
from tapeflow.recorded import Fixed, Recorded, flatten_args
from tapeflow.structure import Floats, Structure, is_number, leaf_of


def vmap(
    function: Callable[..., Any] | Gradient | Function,
    in_axes: Any = 0,
    reduce: str | None = None,
) -> "Mapped":
    """Map a function, or a ``tpf.grad`` or ``tpf.value_and_grad`` of one, over a batch.

    The function is written, and recorded, for one sample.

    in_axes: the axis of each argument's arrays along which the samples lie, or None for an
    argument that all samples share; one for all arguments, or a tuple with one for each, each of
    which may again be a structure of axes for the argument's parts, as in JAX.

    reduce: None for a result for each sample, along a new first axis; "sum" or "mean" for the
    results' sum or mean over the batch. The gradient in a shared argument is then summed as the
    batch is swept, and never stored for each sample. The sums have the same bits for every number
    of threads and block width.

    The arrays may have any strides and are not written to. Raises StructureError where an argument
    lacks its axis, or where the batch sizes differ.

    Inside a recording the batch is one instruction, a loop over the samples as `scan` records it:
    a loss that sums over a batch can be differentiated.

    >>> loss = lambda w, x, y: (w * x - y) ** 2
    >>> x, y = np.array([1.0, 2.0]), np.array([2.0, 2.0])
    >>> tpf.vmap(loss, in_axes=(None, 0, 0))(3.0, x, y)
    array([ 1., 16.])
    >>> tpf.vmap(tpf.value_and_grad(loss), in_axes=(None, 0, 0), reduce="mean")(3.0, x, y)
    (8.5, 9.0)
    """
    if reduce not in (None, "sum", "mean"):
        raise ValueError(f'reduce must be None, "sum" or "mean", not {reduce!r}')
    return Mapped(function, in_axes, reduce)


class Mapped(WithPaths):
    """What ``tpf.vmap`` makes."""

    def __init__(self, function: Any, in_axes: Any, reduce: str | None) -> None:
        self._function = function
        self._gradient = function if isinstance(function, Gradient) else None
        # Of a Jacobian, what knows the arguments that it is in.
        self._differentiates = getattr(function, "differentiates", self._gradient)
        if isinstance(function, (Gradient, Function)):
            self.recorded = function.recorded
        else:
            self.recorded = function if isinstance(function, Fixed) else Recorded(function)
        self.__wrapped__ = self.recorded.function
        self._in_axes = in_axes
        self._reduce = reduce
        self.signed = getattr(function, "signed", True)
        """Whether zeros among the results keep their sign: not where they are derivatives."""
        self._plans: dict[Any, tuple[Plan | Branching, int]] = {}

    def __call__(self, *args: Any) -> Any:
        leaves, treedef, is_traced = flatten_args(args)
        found = None if is_traced else self._plan(args, leaves, treedef)
        if found is None:
            return self._recorded_over(args, leaves, treedef)
        plan, n_lanes = found
        structure, (values, gradients) = plan.run(leaves, n_lanes)
        given = values or self._gradient is None
        value = self._unflatten(structure, values, plan.value_dtypes) if given else None
        if self._gradient is None:
            return value
        by_leaf = dict(zip(wanted_leaves(plan.parts), gradients, strict=True))
        arguments = [self._argument(part, by_leaf, leaves) for part in plan.parts]
        return self._gradient.finish(
            value, arguments[0] if self._gradient.single else tuple(arguments)
        )

    def _recorded_over(
        self, args: tuple[Any, ...], leaves: Sequence[Any], treedef: optree.PyTreeSpec
    ) -> Any:
        """The batch as one instruction of the recording in progress: a loop over its samples."""
        axes = batch_axes(args, self._in_axes, leaves, self.recorded.name)
        n_lanes = self._batch_size(leaves, axes)
        mapped = [
            np.moveaxis(leaf, axis, 0)
            for leaf, axis in zip(leaves, axes, strict=True)
            if axis is not None
        ]

        def sample(carry: None, own: Sequence[Any]) -> Any:
            rest = iter(own)
            inputs = [
                leaf if axis is None else next(rest)
                for leaf, axis in zip(leaves, axes, strict=True)
            ]
            return carry, self._function(*treedef.unflatten(inputs))

        _, results = scan(sample, None, mapped, length=n_lanes)
        if self._reduce is None:
            return results
        reduction = np.sum if self._reduce == "sum" else np.mean
        return optree.tree_map(lambda result: reduction(result, axis=0), results)

    def guard_margins(self, *args: Any) -> Floats:
        leaves, treedef, _ = flatten_args(args)
        found = self._plan(args, leaves, treedef)
        if found is None or isinstance(found[0], Plan):
            return np.full(
                self._batch_size(
                    leaves, batch_axes(args, self._in_axes, leaves, self.recorded.name)
                ),
                np.inf,
            )
        return found[0].margins(leaves, found[1])

    def _plan(
        self, args: tuple[Any, ...], leaves: Sequence[Any], treedef: optree.PyTreeSpec
    ) -> tuple[Plan | Branching, int] | None:
        """What was found out for arguments of these shapes and types, or is now; and the batch.

        None where the function closes over traced values of a recording in progress.
        """
        key = (treedef, *((type(x), np.shape(x), getattr(x, "dtype", None)) for x in leaves))
        plan = self._plans.get(key)
        if plan is None or not self.recorded.is_current():
            plan = self._new_plan(args, leaves, treedef)
            if plan is None:
                return None
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _new_plan(
        self, args: tuple[Any, ...], leaves: Sequence[Any], treedef: optree.PyTreeSpec
    ) -> tuple[Plan | Branching, int] | None:
        axes = batch_axes(args, self._in_axes, leaves, self.recorded.name)
        n_lanes = self._batch_size(leaves, axes)
        samples = [_sample(leaf, axis) for leaf, axis in zip(leaves, axes, strict=True)]
        tree = self.recorded.tree(samples, treedef)
        if tree.captures:
            return None
        parts: list[Part] = []
        tape = tree.last.tape
        if self._differentiates is not None:
            chosen = self._differentiates.parts(tape.input_structure)
            self._differentiates.check_real(leaves, chosen)
        if self._gradient is not None:
            self._gradient.check_scalar(tape)
            parts = chosen
        with_value = self._gradient is None or self._gradient.needs_value
        if tree.plain is None:
            found = Branching(tree, axes, parts, leaves, self._reduce, with_value, self.signed)
            return found, n_lanes
        plan = Plan(axes, tree.plain, parts, leaves, self._reduce, with_value, self.signed)
        return plan, n_lanes

    # Arguments.

    def _batch_size(self, leaves: Sequence[Any], axes: Sequence[Axis]) -> int:
        sizes = {
            leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None
        }
        if not sizes:
            raise StructureError(
                f"in_axes={self._in_axes!r} maps {self.recorded.name} over nothing: "
                "give at least one argument an axis"
            )
        if len(sizes) > 1:
            raise StructureError(
                f"the batches of {self.recorded.name}'s arguments differ in size: "
                f"{', '.join(map(str, sorted(sizes)))}"
            )
        return int(sizes.pop())

    # Results.

    def _argument(self, part: Part, by_leaf: dict[int, Floats], leaves: Sequence[Any]) -> Any:
        """An argument's gradient, in the dtypes of its leaves."""
        own = range(part.leaves.start, part.leaves.stop)
        dtypes = [getattr(leaf, "dtype", np.dtype(np.float64)) for leaf in leaves[part.leaves]]
        return self._unflatten(part.structure, [by_leaf[k] for k in own], dtypes)

    def _unflatten(
        self, structure: Structure, arrays: Sequence[Floats], dtypes: Sequence[Any]
    ) -> Any:
        """Arrays of shape (rows, size) as a result's leaves; with a reduction, without rows."""
        pieces: list[Any] = []
        for leaf, array in zip(structure.leaves, arrays, strict=True):
            shape = leaf.shape or ()
            if self._reduce is None:
                pieces.append(array.reshape(len(array), *shape))
            else:
                pieces.append(array.item() if leaf.shape is None else array.reshape(shape))
        pieces = [
            np.asarray(piece, dtype) if isinstance(piece, np.ndarray) else piece
            for piece, dtype in zip(pieces, dtypes, strict=True)
        ]
        return structure.unflatten(pieces)

    def __repr__(self) -> str:
        return f"<tapeflow.vmap of {self.recorded.name}>"


def batch_axes(args: tuple[Any, ...], in_axes: Any, leaves: Sequence[Any], name: str) -> list[Axis]:
    """The batch axis of each leaf, from a structure that may stop short of the leaves."""
    try:
        if isinstance(in_axes, list):
            in_axes = tuple(in_axes)
        full = optree.broadcast_prefix(in_axes, args, none_is_leaf=True)
    except ValueError as error:
        raise StructureError(f"in_axes={in_axes!r} does not fit the arguments: {error}") from None
    # An argument's own Nones are no leaves, but have taken an axis here.
    holes = optree.tree_leaves(args, none_is_leaf=True)
    axes = [axis for axis, leaf in zip(full, holes, strict=True) if leaf is not None]
    for axis, leaf in zip(axes, leaves, strict=True):
        if axis is None:
            continue
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise StructureError(f"in_axes must hold axes (int or None), not {axis!r}")
        shape = np.shape(leaf)
        if is_number(leaf) or not -len(shape) <= axis < len(shape):
            what = "a number" if is_number(leaf) else f"an array of shape {shape}"
            raise StructureError(
                f"cannot map {name} over axis {axis} of {what}: "
                "use in_axes=None for what all samples share"
            )
    return axes


def _sample(leaf: Any, axis: Axis) -> Any:
    """A leaf as the first sample has it; zeros where there is none."""
    leaf_of(leaf)
    if axis is None:
        return leaf
    if leaf.shape[axis]:
        return sample_of(leaf, axis, 0)
    rest = np.delete(leaf.shape, axis)
    return np.zeros(rest) if len(rest) else 0.0


_MOST_PLANS = 256
"""Shapes of arguments that a vmapped function remembers."""
