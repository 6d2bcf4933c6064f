"""Derivatives of functions with any number of results: vjp, jvp, Jacobians and Hessians.

All are made of two tapes: the pullback, and the pushforward, which is the pullback of the pullback
in its seed. Both are tapes like others, so these functions nest, in each other and in recordings.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.api import Function, Gradient, grad, plain
from tapeflow.arguments import Part, check_range, check_real, chosen_arguments, in_dtype_of
from tapeflow.auxiliary import with_aux, without_aux
from tapeflow.errors import StructureError
from tapeflow.programs import sample_program
from tapeflow.recorded import Recorded, flatten_args, traced_leaf
from tapeflow.structure import Structure, outline
from tapeflow.tape import Tape
from tapeflow.tracers import is_traced, lift
from tapeflow.transforms import inline, pullback, pushforward
from tapeflow.vmap import vmap

MODES = ("auto", "forward", "reverse")


def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value at some arguments, and the function that pulls cotangents back to them.

    Returns ``(value, pull)``. ``pull(cotangent)``, whose argument has the structure and shapes of
    the value, gives a tuple with the product of the cotangent and the Jacobian in each argument,
    in that argument's structure. has_aux: the function returns a pair, its value and what goes
    with it and is not differentiated; the result is then ``(value, pull, aux)``.

    Raises StructureError for a cotangent of another structure or shape, and TypeError for an
    integer among the arguments.

    >>> value, pull = tpf.vjp(lambda x, y: (x * y, x + y), 3.0, 4.0)
    >>> value, pull((1.0, 10.0))
    ((12.0, 7.0), (14.0, 13.0))
    """
    point = _Point(_recorded(function, has_aux), primals, has_aux)

    def pull(cotangent: Any) -> Any:
        seed = _flat(cotangent, point.tape.output_structure, "cotangent", point.tape.name)
        results = point.run(pullback, point.every, seed)
        gradients = zip(results[point.n_outputs :], point.leaves, strict=False)
        return point.structure.unflatten(in_dtype_of(own, leaf) for own, leaf in gradients)

    return (point.value(), pull, point.aux()) if has_aux else (point.value(), pull)


def jvp(
    function: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: bool = False,
) -> Any:
    """The value at some arguments, and the product of the Jacobian and a tangent.

    primals: the arguments; tangents: one for each, of its structure and shapes. Returns
    ``(value, tangent)``, the tangent in the value's structure; with has_aux, which is as in `vjp`,
    ``(value, tangent, aux)``. Raises as `vjp`.

    >>> tpf.jvp(lambda x, y: (x * y, x + y), (3.0, 4.0), (1.0, 0.0))
    ((12.0, 7.0), (4.0, 1.0))
    """
    _check_tuples(primals, tangents)
    point = _Point(_recorded(function, has_aux), tuple(primals), has_aux)
    value, tangent = point.push(tuple(tangents))
    return (value, tangent, point.aux()) if has_aux else (value, tangent)


def linearize(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value at some arguments, and the function's linear part there.

    Returns ``(value, push)``; ``push(*tangents)`` is the tangent that `jvp` gives. With has_aux,
    which is as in `vjp`, ``(value, push, aux)``. Raises as `vjp`.

    >>> value, push = tpf.linearize(lambda x: np.sin(x), 0.0)
    >>> push(1.0), push(-2.0)
    (1.0, -2.0)
    """
    point = _Point(_recorded(function, has_aux), primals, has_aux)

    def push(*tangents: Any) -> Any:
        return point.push(tangents)[1]

    return (point.value(), push, point.aux()) if has_aux else (point.value(), push)


def hvp(
    function: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    argnums: int | Sequence[int] | None = None,
) -> Any:
    """The product of the Hessian, of a function that returns one number, and a tangent.

    primals: the arguments. argnums: which of them to differentiate in, all if None. tangents: a
    tuple with one for each of those, of its structure and shapes. The result has the structure of
    the argument where it is one alone (the only one, or argnums an int), or is a tuple with one for
    each of several. It costs some gradients, and no Hessian is formed. Raises as `grad` and `jvp`.

    >>> tpf.hvp(lambda x: np.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 1.0]),))
    array([ 6., 12.])
    >>> tpf.hvp(lambda a, x: a * x**3, (2.0, 1.0), (1.0,), argnums=1)
    12.0
    """
    _check_tuples(primals, tangents)
    if argnums is None:
        argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    chosen, single = chosen_arguments(argnums)
    for k in chosen:
        check_range(k, len(primals), _name(function))
    chosen = tuple(k % len(primals) for k in chosen)

    def of_chosen(*arguments: Any) -> Any:
        given = list(primals)
        for k, argument in zip(chosen, arguments, strict=True):
            given[k] = argument
        return grad(function, chosen[0] if single else chosen)(*given)

    of_chosen.__name__ = _name(function)
    differentiated = [primals[k] for k in chosen]
    product = jvp(of_chosen, differentiated, tangents)[1]
    leaves, treedef, _ = flatten_args((differentiated[0] if single else tuple(differentiated),))
    found, _, _ = flatten_args((product,))
    pairs = zip(found, leaves, strict=True)
    return treedef.unflatten(in_dtype_of(own, leaf) for own, leaf in pairs)[0]


def jacobian(
    function: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    mode: str = "auto",
    has_aux: bool = False,
) -> "Jacobian":
    """The Jacobian of a function of numbers and arrays, all at once.

    argnums: which argument or arguments to differentiate in. mode: "forward" pushes a tangent for
    each number of the arguments, "reverse" pulls a cotangent for each number of the result, "auto"
    is the one of fewer. Either is one sweep with the seeds as lanes. has_aux: the function returns
    a pair, its value and what goes with it and is not differentiated, and a call gives
    ``(jacobian, aux)``.

    The result has the structure of the value, and in the place of each of its arrays the structure
    of the argument (a tuple, for several), with an array of the shapes of both, the value's first.

    Raises ValueError for another mode, StructureError for an argnum out of range, and TypeError
    for an integer in an argument to differentiate in.

    >>> tpf.jacobian(lambda x: x[:2] * x[2])(np.array([1.0, 2.0, 3.0]))
    array([[3., 0., 1.],
           [0., 3., 2.]])
    """
    return Jacobian(function, argnums, mode, has_aux)


def hessian(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> "Jacobian":
    """The second derivatives of a function that returns one number: the `jacobian` of its `grad`.

    argnums, has_aux: as in `jacobian`.

    >>> tpf.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    return Jacobian(grad(function, argnums, has_aux), argnums, "auto", has_aux)


class Jacobian:
    """What ``tpf.jacobian`` and ``tpf.hessian`` make."""

    def __init__(
        self,
        function: Callable[..., Any],
        argnums: int | Sequence[int],
        mode: str,
        has_aux: bool,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        # A gradient knows which arguments it is in.
        self._gradient = Gradient(function, argnums, False, has_aux)
        self._mode = mode
        self.__name__ = f"jacobian of {self._gradient.recorded.name}"
        self.__wrapped__ = self._gradient.nested.function

    @property
    def differentiates(self) -> Gradient:
        """What knows the arguments to differentiate in."""
        return self._gradient

    def __call__(self, *args: Any) -> Any:
        point = _Point(self._gradient.nested, args, self._gradient.has_aux, real=False)
        parts = self._gradient.parts(point.structure)
        self._gradient.check_real(point.leaves, parts)
        wanted = [False] * len(point.leaves)
        for part in parts:
            wanted[part.leaves] = [True] * (part.leaves.stop - part.leaves.start)
        inputs, output = point.structure, point.tape.output_structure
        n_inputs = sum(leaf.size for leaf, own in zip(inputs.leaves, wanted, strict=False) if own)
        forward = self._mode == "forward" or (self._mode == "auto" and n_inputs < output.size)
        blocks = self._columns(point, wanted) if forward else self._rows(point, wanted)
        results: list[Any] = []
        for row in blocks:
            by_leaf = dict(zip(np.flatnonzero(wanted).tolist(), row, strict=True))
            own = [self._argument(part, by_leaf, point.leaves) for part in parts]
            results.append(own[0] if self._gradient.single else tuple(own))
        found = output.treedef.unflatten(results)
        return (found, point.aux()) if self._gradient.has_aux else found

    def _argument(self, part: Part, by_leaf: dict[int, Any], leaves: Sequence[Any]) -> Any:
        own = range(part.leaves.start, part.leaves.stop)
        return part.structure.treedef.unflatten(in_dtype_of(by_leaf[k], leaves[k]) for k in own)

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
    every: flags the former. has_aux: what goes with the value is not differentiated. real: whether
    integers among the arguments are refused.
    """

    def __init__(
        self, recorded: Recorded, primals: tuple[Any, ...], has_aux: bool, real: bool = True
    ) -> None:
        leaves, treedef, traced = flatten_args(primals)
        self.structure = Structure(treedef, tuple(map(traced_leaf, leaves)))
        if real:
            check_real(recorded.name, leaves)
        captures: list[Any] = []
        if not traced:
            self.tape = recorded.settled(leaves, treedef)
        if traced or len(self.tape.input_structure.leaves) != len(leaves):
            self.tape, captures = recorded.trace(leaves, treedef)
        self.leaves = [*leaves, *captures]
        self.every = [True] * len(leaves) + [False] * len(captures)
        self.whole = self.tape
        if has_aux:
            self.tape = without_aux(self.tape)
        self.n_outputs = len(self.tape.output_structure.leaves)

    def aux(self) -> Any:
        """What goes with the value."""
        return self.whole.output_structure.unflatten(_evaluate(self.whole, self.leaves))[1]

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
        seeds = np.eye(n) if n != 1 else np.ones(1)
        if any(map(is_traced, self.leaves)):
            rows = [self.run(transform, wanted, seed)[self.n_outputs :] for seed in seeds]
            return [np.stack(leaf) for leaf in zip(*rows, strict=True)]
        key = ("seeds", transform.__name__, tuple(wanted))
        if key not in self.tape.prepared:

            def each(*inputs: Any) -> list[Any]:
                return inline(tape, inputs)[self.n_outputs :]

            each.__name__ = tape.name

            self.tape.prepared[key] = vmap(each, (*[None] * len(self.leaves), 0))
        found: list[Any] = self.tape.prepared[key](*self.leaves, seeds)
        return found

    def _made(self, transform: Any, wanted: Sequence[bool]) -> Tape:
        key = (transform.__name__, tuple(wanted))
        if key not in self.tape.prepared:
            self.tape.prepared[key] = transform(self.tape, wanted)
        made: Tape = self.tape.prepared[key]
        return made


def _recorded(function: Callable[..., Any], has_aux: bool) -> Recorded:
    if has_aux:
        return Recorded(with_aux(plain(function)))
    return function.recorded if isinstance(function, Function) else Recorded(plain(function))


def _evaluate(tape: Tape, leaves: Sequence[Any]) -> list[Any]:
    """A tape's results, leaf by leaf: numbers, or instructions of the recording in progress."""
    if any(map(is_traced, leaves)):
        return inline(tape, leaves)
    return list(tape.output_structure.split(sample_program(tape, None).results(leaves)))


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _check_tuples(primals: Any, tangents: Any) -> None:
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(
                f"give the {what} as a tuple with one an argument, as in (x,), "
                f"not as a {type(given).__name__}"
            )


def _flat(given: Any, structure: Structure, what: str, name: str) -> Any:
    """The numbers of a cotangent, or of tangents, one after the other."""
    leaves, treedef, traced = flatten_args((given,))
    found = Structure(treedef.children()[0], tuple(map(traced_leaf, leaves)))
    shapes, expected = ([leaf.shape or () for leaf in own.leaves] for own in (found, structure))
    if found.treedef != structure.treedef or shapes != expected:
        of = "its value" if what == "cotangent" else "the primals"
        raise StructureError(
            f"the {what} of {name} must have the structure and shapes of {of}, "
            f"{outline(structure)}, not {outline(found)}"
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
