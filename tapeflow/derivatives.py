"""Derivatives of functions with any number of results: vjp, jvp, Jacobians and Hessians.

All are made of two tapes: the pullback, and the pushforward, which is the pullback of the pullback
in its seed. Both are tapes like others, so these functions nest, in each other and in recordings.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.api import Function, Gradient, Part, grad, plain
from tapeflow.errors import StructureError
from tapeflow.evaluate import sample_program
from tapeflow.recorded import Recorded, flatten_args, traced_leaf
from tapeflow.structure import Structure
from tapeflow.tape import Tape
from tapeflow.tracers import is_traced, lift
from tapeflow.transforms import inline, pullback, pushforward
from tapeflow.vmap import vmap

MODES = ("auto", "forward", "reverse")


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The value at some arguments, and the function that pulls cotangents back to them.

    Returns ``(value, pull)``. ``pull(cotangent)``, whose argument has the structure and shapes of
    the value, gives a tuple with the product of the cotangent and the Jacobian in each argument,
    in that argument's structure.

    Raises StructureError for a cotangent of another structure or shape, and TypeError for an
    integer among the arguments.

    >>> value, pull = tpf.vjp(lambda x, y: (x * y, x + y), 3.0, 4.0)
    >>> value, pull((1.0, 10.0))
    ((12.0, 7.0), (14.0, 13.0))
    """
    point = _Point(_recorded(function), primals)

    def pull(cotangent: Any) -> Any:
        seed = _flat(cotangent, point.tape.output_structure, "cotangent", point.tape.name)
        results = point.run(pullback, point.every, seed)
        gradients: Any = point.structure.unflatten(results[point.n_outputs :])
        return gradients

    return point.value(), pull


def jvp(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """The value at some arguments, and the product of the Jacobian and a tangent.

    primals: the arguments; tangents: one for each, of its structure and shapes. Returns
    ``(value, tangent)``, the tangent in the value's structure. Raises as `vjp`.

    >>> tpf.jvp(lambda x, y: (x * y, x + y), (3.0, 4.0), (1.0, 0.0))
    ((12.0, 7.0), (4.0, 1.0))
    """
    for given in (primals, tangents):
        if not isinstance(given, (tuple, list)):
            raise TypeError("give the primals, and the tangents, as a tuple with one an argument")
    return _Point(_recorded(function), tuple(primals)).push(tuple(tangents))


def linearize(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The value at some arguments, and the function's linear part there.

    Returns ``(value, push)``; ``push(*tangents)`` is the tangent that `jvp` gives. Raises as `vjp`.

    >>> value, push = tpf.linearize(lambda x: np.sin(x), 0.0)
    >>> push(1.0), push(-2.0)
    (1.0, -2.0)
    """
    point = _Point(_recorded(function), primals)
    return point.value(), lambda *tangents: point.push(tangents)[1]


def hvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The product of the Hessian, of a function that returns one number, and a tangent.

    primals, tangents: as in `jvp`. The result has the structure of the argument, or is a tuple with
    one for each of several. It costs some gradients, and no Hessian is formed. Raises as `grad` and
    `jvp`.

    >>> tpf.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 1.0]),))
    array([ 6., 12.])
    """
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(function, argnums), primals, tangents)[1]


def jacobian(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, mode: str = "auto"
) -> "Jacobian":
    """The Jacobian of a function of numbers and arrays, all at once.

    argnums: which argument or arguments to differentiate in. mode: "forward" pushes a tangent for
    each number of the arguments, "reverse" pulls a cotangent for each number of the result, "auto"
    is the one of fewer. Either is one sweep with the seeds as lanes.

    The result has the structure of the value, and in the place of each of its arrays the structure
    of the argument (a tuple, for several), with an array of the shapes of both, the value's first.

    Raises ValueError for another mode, StructureError for an argnum out of range, and TypeError
    for an integer in an argument to differentiate in.

    >>> tpf.jacobian(lambda x: x[:2] * x[2])(np.array([1.0, 2.0, 3.0]))
    array([[3., 0., 1.],
           [0., 3., 2.]])
    """
    return Jacobian(function, argnums, mode)


def hessian(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> "Jacobian":
    """The second derivatives of a function that returns one number: the `jacobian` of its `grad`.

    >>> tpf.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return Jacobian(grad(function, argnums), argnums, "auto")


class Jacobian:
    """What ``tpf.jacobian`` and ``tpf.hessian`` make."""

    def __init__(
        self, function: Callable[..., Any], argnums: int | Sequence[int], mode: str
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        # A gradient knows which arguments it is in.
        self._gradient = Gradient(function, argnums, with_value=False)
        self._mode = mode
        self.__name__ = f"jacobian of {self._gradient.recorded.name}"

    def __call__(self, *args: Any) -> Any:
        point = _Point(self._gradient.recorded, args, real=False)
        parts = self._gradient.parts(point.structure)
        self._gradient.check_real(point.leaves, parts)
        wanted = [False] * len(point.leaves)
        for part in parts:
            wanted[part.leaves] = [True] * (part.leaves.stop - part.leaves.start)
        inputs, output = point.structure, point.tape.output_structure
        n_inputs = sum(leaf.size for leaf, own in zip(inputs.leaves, wanted, strict=False) if own)
        forward = self._mode == "forward" or (self._mode == "auto" and n_inputs < output.size)
        blocks = self._columns(point, wanted) if forward else self._rows(point, wanted)
        results = []
        for row in blocks:
            by_leaf = dict(zip(np.flatnonzero(wanted).tolist(), row, strict=True))
            own = [self._argument(part, by_leaf) for part in parts]
            results.append(own[0] if self._gradient.single else tuple(own))
        return output.treedef.unflatten(results)

    def _argument(self, part: Part, by_leaf: dict[int, Any]) -> Any:
        own = [by_leaf[k] for k in range(part.leaves.start, part.leaves.stop)]
        return part.structure.treedef.unflatten(own)

    def _rows(self, point: "_Point", wanted: list[bool]) -> list[list[Any]]:
        """By cotangents: for each leaf of the result, the block of each wanted leaf."""
        output = point.tape.output_structure
        found = point.map(pullback, wanted, output.size)
        leaves = [leaf for leaf, own in zip(point.structure.leaves, wanted, strict=False) if own]
        return [
            [
                _shaped(rows[first:last], (leaf.shape, own.shape))
                for rows, own in zip(found, leaves, strict=True)
            ]
            for leaf, (first, last) in zip(output.leaves, output.bounds, strict=True)
        ]

    def _columns(self, point: "_Point", wanted: list[bool]) -> list[list[Any]]:
        """The same by tangents."""
        output = point.tape.output_structure
        leaves = [leaf for leaf, own in zip(point.structure.leaves, wanted, strict=False) if own]
        ends = np.cumsum([0, *(leaf.size for leaf in leaves)]).tolist()
        found = point.map(pushforward, wanted, ends[-1])
        return [
            [
                _shaped(np.moveaxis(columns[first:last], 0, -1), (leaf.shape, own.shape))
                for own, first, last in zip(leaves, ends[:-1], ends[1:], strict=True)
            ]
            for columns, leaf in zip(found, output.leaves, strict=True)
        ]

    def __repr__(self) -> str:
        return f"<{self.__name__}>"


class _Point:
    """A function recorded at some arguments, plain or traced.

    leaves: of the arguments, then the values of enclosing recordings that the function closes over.
    every: flags the former. real: whether integers among the arguments are refused.
    """

    def __init__(self, recorded: Recorded, primals: tuple[Any, ...], real: bool = True) -> None:
        leaves, treedef, traced = flatten_args(primals)
        self.structure = Structure(treedef, tuple(map(traced_leaf, leaves)))
        if real:
            _check_real(recorded.name, leaves)
        captures: list[Any] = []
        if not traced:
            self.tape = recorded.tape(leaves, treedef)
        if traced or len(self.tape.input_structure.leaves) != len(leaves):
            self.tape, captures = recorded.trace(leaves, treedef)
        self.leaves = [*leaves, *captures]
        self.every = [True] * len(leaves) + [False] * len(captures)
        self.n_outputs = len(self.tape.output_structure.leaves)

    def value(self) -> Any:
        return self.tape.output_structure.unflatten(_evaluate(self.tape, self.leaves))

    def run(self, transform: Any, wanted: Sequence[bool], seed: Any) -> list[Any]:
        """The results of the pullback, or of the pushforward, at the point."""
        return _evaluate(self._made(transform, wanted), [*self.leaves, seed])

    def push(self, tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        flat = _flat(tangents, self.structure, "tangents", self.tape.name)
        results = self.run(pushforward, self.every, flat)
        output = self.tape.output_structure
        value, tangent = results[: self.n_outputs], results[self.n_outputs :]
        return output.unflatten(value), output.unflatten(tangent)

    def map(self, transform: Any, wanted: list[bool], n: int) -> list[Any]:
        """What follows the values among the results of a transform, for n unit seeds, in rows."""
        wanted = [*wanted, *[False] * (len(self.leaves) - len(wanted))]
        tape = self._made(transform, wanted)
        seeds = np.eye(n) if n > 1 else np.ones(n)
        if any(map(is_traced, self.leaves)):
            rows = [self.run(transform, wanted, seed)[self.n_outputs :] for seed in seeds]
            return [np.stack(leaf) for leaf in zip(*rows, strict=True)]
        key = ("seeds", transform.__name__, tuple(wanted))
        if key not in self.tape.prepared:

            def each(*inputs: Any) -> list[Any]:
                return inline(tape, inputs)[self.n_outputs :]

            self.tape.prepared[key] = vmap(each, (*[None] * len(self.leaves), 0))
        found: list[Any] = self.tape.prepared[key](*self.leaves, seeds)
        return found

    def _made(self, transform: Any, wanted: Sequence[bool]) -> Tape:
        key = (transform.__name__, tuple(wanted))
        if key not in self.tape.prepared:
            self.tape.prepared[key] = transform(self.tape, wanted)
        made: Tape = self.tape.prepared[key]
        return made


def _recorded(function: Callable[..., Any]) -> Recorded:
    return function.recorded if isinstance(function, Function) else Recorded(plain(function))


def _evaluate(tape: Tape, leaves: Sequence[Any]) -> list[Any]:
    """A tape's results, leaf by leaf: numbers, or instructions of the recording in progress."""
    if any(map(is_traced, leaves)):
        return inline(tape, leaves)
    return list(tape.output_structure.split(sample_program(tape, None).results(leaves)))


def _check_real(name: str, leaves: Sequence[Any]) -> None:
    for leaf in leaves:
        if not np.issubdtype(getattr(leaf, "dtype", type(leaf)), np.floating):
            what = getattr(leaf, "dtype", type(leaf).__name__)
            raise TypeError(
                f"cannot differentiate {name} in an integer ({what}): pass a real number"
            )


def _flat(given: Any, structure: Structure, what: str, name: str) -> Any:
    """The numbers of a cotangent, or of tangents, one after the other."""
    leaves, treedef, traced = flatten_args((given,))
    shapes = [traced_leaf(leaf).shape or () for leaf in leaves]
    expected = [leaf.shape or () for leaf in structure.leaves]
    if treedef.children()[0] != structure.treedef or shapes != expected:
        of = "its value" if what == "cotangent" else "the primals"
        raise StructureError(
            f"the {what} of {name} must have the structure and shapes of {of}, "
            f"{expected}, not {shapes}"
        )
    if traced:
        numbers = np.concatenate([lift(leaf).reshape(-1) for leaf in leaves])
    else:
        numbers = np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])
    return numbers[0] if structure.size == 1 else numbers


def _shaped(block: Any, shapes: Sequence[tuple[int, ...] | None]) -> Any:
    """A block of a Jacobian in its shape; a number where both shapes are numbers'."""
    whole = block.reshape(sum((shape or () for shape in shapes), ()))
    if all(shape is None for shape in shapes):
        return whole.item() if isinstance(whole, np.ndarray) else whole[()]
    return whole
