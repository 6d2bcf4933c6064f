"""vmap: a function, or its gradient, over a batch of samples in one call."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optree

from tapeflow.api import Function, Gradient
from tapeflow.arguments import Part
from tapeflow.errors import StructureError, TracingError
from tapeflow.passes import executable
from tapeflow.recorded import Fixed, Recorded, flatten_args
from tapeflow.structure import Floats, Ints, Structure, is_number, leaf_of
from tapeflow.tape import Tape

if TYPE_CHECKING:
    from tapeflow.batch import BatchProgram
    from tapeflow.batch_run import Source

Axis = int | None


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

    >>> loss = lambda w, x, y: (w * x - y) ** 2
    >>> x, y = np.array([1.0, 2.0]), np.array([2.0, 2.0])
    >>> tpf.vmap(loss, in_axes=(None, 0, 0))(3.0, x, y)
    array([ 1., 16.])
    >>> tpf.vmap(tpf.value_and_grad(loss), in_axes=(None, 0, 0), reduce="mean")(3.0, x, y)
    (8.5, 9.0)
    """
    if reduce not in (None, "sum", "mean"):
        raise ValueError(f'reduce must be None, "sum" or "mean", not {reduce!r}')
    if isinstance(function, Mapped):
        raise TypeError("vmap over vmap is not supported: give the function one batch axis")
    return Mapped(function, in_axes, reduce)


class Mapped:
    """What ``tpf.vmap`` makes."""

    def __init__(self, function: Any, in_axes: Any, reduce: str | None) -> None:
        self._gradient = function if isinstance(function, Gradient) else None
        if isinstance(function, (Gradient, Function)):
            self._recorded = function.recorded
        else:
            self._recorded = function if isinstance(function, Fixed) else Recorded(function)
        self.__wrapped__ = self._recorded.function
        self._in_axes = in_axes
        self._reduce = reduce
        self._plans: dict[Any, _Plan] = {}

    def __call__(self, *args: Any) -> Any:
        leaves, treedef, is_traced = flatten_args(args)
        if is_traced:
            raise TracingError(
                "cannot call a vmapped function inside a recording: call it on the recorded "
                "function from outside, as in vmap(grad(f))"
            )
        plan = self._plan(args, leaves, treedef)
        values, gradients = plan.batch.run(plan.source(leaves), plan.n_lanes, self._reduce)
        structure = plan.tape.output_structure
        value = self._unflatten(structure, values, plan.value_dtypes) if values else None
        if self._gradient is None:
            return value
        by_leaf = dict(zip(_wanted_leaves(plan.parts), gradients, strict=True))
        arguments = [self._argument(part, by_leaf, leaves) for part in plan.parts]
        return self._gradient.finish(
            value, arguments[0] if self._gradient.single else tuple(arguments)
        )

    def _plan(
        self, args: tuple[Any, ...], leaves: Sequence[Any], treedef: optree.PyTreeSpec
    ) -> "_Plan":
        """What was found out for arguments of these shapes and types, or is now."""
        key = (treedef, *((type(x), np.shape(x), getattr(x, "dtype", None)) for x in leaves))
        plan = self._plans.get(key)
        if plan is None or not self._recorded.is_current():
            plan = self._new_plan(args, leaves, treedef)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _new_plan(
        self, args: tuple[Any, ...], leaves: Sequence[Any], treedef: optree.PyTreeSpec
    ) -> "_Plan":
        axes = batch_axes(args, self._in_axes, leaves, self._recorded.name)
        n_lanes = self._batch_size(leaves, axes)
        samples = [_sample(leaf, axis) for leaf, axis in zip(leaves, axes, strict=True)]
        tape = self._recorded.tape(samples, treedef)
        if len(tape.input_structure.leaves) != len(leaves):
            raise TracingError(
                f"{self._recorded.name} uses a traced value of an enclosing function: "
                "pass it as an argument"
            )
        parts: list[Part] = []
        if self._gradient is not None:
            self._gradient.check_scalar(tape)
            parts = self._gradient.parts(tape.input_structure)
            self._gradient.check_real(leaves, parts)
        program = self._program(tape, axes, parts, leaves)
        return _Plan(axes, n_lanes, tape, parts, program, leaves)

    # Arguments.

    def _batch_size(self, leaves: Sequence[Any], axes: Sequence[Axis]) -> int:
        sizes = {
            leaf.shape[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None
        }
        if not sizes:
            raise StructureError(
                f"in_axes={self._in_axes!r} maps {self._recorded.name} over nothing: "
                "give at least one argument an axis"
            )
        if len(sizes) > 1:
            raise StructureError(
                f"the batches of {self._recorded.name}'s arguments differ in size: "
                f"{', '.join(map(str, sorted(sizes)))}"
            )
        return int(sizes.pop())

    # Programs.

    def _program(
        self, tape: Tape, axes: Sequence[Axis], parts: Sequence[Part], leaves: Sequence[Any]
    ) -> "BatchProgram":
        with_value = self._gradient is None or self._gradient.needs_value
        columns = np.zeros(tape.n_inputs, np.bool_)
        if self._reduce is None:
            # Gradients of single numbers lie as columns; those of an array side by side.
            for leaf, (first, last) in zip(leaves, tape.input_structure.bounds, strict=True):
                if last == first + 1:
                    columns[first] = not _is_single(leaf)
        key = (
            "batch",
            with_value,
            columns.tobytes(),
            tuple(axis is not None for axis in axes),
            self._reduce is None,
            *((part.slots.start, part.slots.stop) for part in parts),
        )
        program = tape.prepared.get(key)
        if program is None:
            program = tape.prepared[key] = self._new_program(tape, axes, parts, columns)
        return program

    def _new_program(
        self, tape: Tape, axes: Sequence[Axis], parts: Sequence[Part], columns: Any
    ) -> "BatchProgram":
        # These bring Numba, which takes a while.
        from tapeflow.array_batch import ArrayBatch
        from tapeflow.batch import BatchProgram
        from tapeflow.pulled_batch import PulledBatch, gradients_as_numbers

        with_value = self._gradient is None or self._gradient.needs_value
        reduced = self._reduce is not None
        lane = np.zeros(tape.n_inputs, np.bool_)
        for axis, (first, last) in zip(axes, tape.input_structure.bounds, strict=True):
            lane[first:last] = axis is not None
        chosen = _wanted_leaves(parts)
        run = tape if parts else executable(tape)
        if not run.numbers_only:
            leaves = [k in chosen for k in range(len(axes))]
            pulled = gradients_as_numbers(tape, leaves) if parts else None
            if pulled is not None:
                n_values = len(tape.output_structure.leaves)
                return PulledBatch(pulled, n_values, lane, reduced, with_value)
            return ArrayBatch(tape, lane, leaves, reduced, with_value)
        wanted = np.zeros(tape.n_inputs, np.bool_)
        for part in parts:
            wanted[part.slots] = True
        if not reduced:
            # A gradient for each sample in a shared argument: each lane has its own copy.
            lane |= wanted
        sizes = [tape.input_structure.leaves[k].size for k in chosen]
        return BatchProgram(run, lane, wanted, sizes, reduced, with_value, columns)

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
        return f"<tapeflow.vmap of {self._recorded.name}>"


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


def _wanted_leaves(parts: Sequence[Part]) -> list[int]:
    """The leaves of all arguments to differentiate in, each once."""
    return sorted({k for part in parts for k in range(part.leaves.start, part.leaves.stop)})


def _sample(leaf: Any, axis: Axis) -> Any:
    """A leaf as one sample has it: only its shape matters."""
    leaf_of(leaf)
    if axis is None:
        return leaf
    shape = list(leaf.shape)
    del shape[axis]
    # As an array even where the sample is one number, which a function sees as a number.
    return np.broadcast_to(np.float64(0.0), shape) if shape else 0.0


def _is_single(leaf: Any) -> bool:
    return getattr(leaf, "dtype", None) == np.float32


_MOST_PLANS = 256
"""Shapes of arguments that a vmapped function remembers."""

_Layout = tuple[Ints, Ints]


class _Plan:
    """A call with arguments of certain shapes: their axes, the tape and its program."""

    def __init__(
        self,
        axes: Sequence[Axis],
        n_lanes: int,
        tape: Tape,
        parts: Sequence[Part],
        batch: "BatchProgram",
        leaves: Sequence[Any],
    ) -> None:
        self.axes, self.n_lanes, self.tape = axes, n_lanes, tape
        self.parts, self.batch = parts, batch
        structure = tape.input_structure
        self._sizes = [leaf.size for leaf in structure.leaves]
        self._shared = [
            (k, slice(*structure.bounds[k])) for k, axis in enumerate(axes) if axis is None
        ]
        self._layouts: dict[Any, _Layout] = {}
        # Read and written in place; the arithmetic is float64.
        stored = [
            axis is not None and _is_single(leaf) for leaf, axis in zip(leaves, axes, strict=True)
        ]
        self._dtypes = [np.dtype(np.float32 if single else np.float64) for single in stored]
        reals = [leaf for leaf in leaves if not isinstance(leaf, (float, int))]
        of_all = np.float32 if reals and all(map(_is_single, reals)) else np.float64
        self.value_dtypes = [np.dtype(of_all)] * len(tape.output_structure.leaves)
        self._gradient_dtypes = [
            np.dtype(np.float32 if _is_single(leaves[k]) else np.float64)
            for k in _wanted_leaves(parts)
        ]

    def source(self, leaves: Sequence[Any]) -> "Source":
        """Where every input's numbers are: in the caller's own arrays, if they fit."""
        from tapeflow.batch_run import Source

        arrays = [
            np.ascontiguousarray(leaf, np.float64)
            if axis is None
            else np.require(leaf, dtype, ["ALIGNED"])
            for leaf, axis, dtype in zip(leaves, self.axes, self._dtypes, strict=True)
        ]
        key = tuple([array.strides for array in arrays])
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = self._layout(arrays)
        offsets, strides = layout
        bases = np.array([array.__array_interface__["data"][0] for array in arrays], np.int64)
        shared = np.zeros(self.tape.n_inputs)
        for k, slots in self._shared:
            shared[slots] = arrays[k].ravel()
        return Source(
            offsets + np.repeat(bases, self._sizes),
            strides,
            np.repeat([array.itemsize for array in arrays], self._sizes),
            shared,
            tuple(arrays),
            self.value_dtypes,
            self._gradient_dtypes,
        )

    def _layout(self, arrays: Sequence[Any]) -> _Layout:
        """Each slot's offset from the start of its array, and its stride from lane to lane."""
        offsets, strides = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for array, axis in zip(arrays, self.axes, strict=True):
            lanes = array[None] if axis is None else np.moveaxis(array, axis, 0)
            own = np.zeros((), np.int64)
            for length, stride in zip(lanes.shape[1:], lanes.strides[1:], strict=True):
                own = np.add.outer(own, np.arange(length) * stride)
            offsets.append(own.ravel())
            strides.append(np.full(own.size, 0 if axis is None else lanes.strides[0]))
        return np.concatenate(offsets), np.concatenate(strides)
