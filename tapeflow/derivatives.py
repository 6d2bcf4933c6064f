"""Derivatives of functions with any number of results: vjp, jvp, Jacobians and Hessians.

All are made of two tapes: the pullback, and the pushforward, which is the pullback of the pullback
in its seed. Both are tapes like others, so these functions nest, in each other and in recordings.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.api import Gradient, grad
from tapeflow.arguments import Part, check_range, chosen_arguments, in_dtype_of
from tapeflow.inspection import WithPaths
from tapeflow.points import Point, flat_numbers, recorded_of
from tapeflow.recorded import flatten_args
from tapeflow.transforms import pullback, pushforward

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
    point = Point(recorded_of(function, has_aux), primals, has_aux)

    def pull(cotangent: Any) -> Any:
        seed = flat_numbers(cotangent, point.tape.output_structure, "cotangent", point.tape.name)
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
    point = Point(recorded_of(function, has_aux), tuple(primals), has_aux)
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
    point = Point(recorded_of(function, has_aux), primals, has_aux)

    def push(*tangents: Any) -> Any:
        return point.push(tangents)[1]

    return (point.value(), push, point.aux()) if has_aux else (point.value(), push)


def hvp(
    function: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    argnums: int | Sequence[int] | None = None,
    has_aux: bool = False,
) -> Any:
    """The product of the Hessian, of a function that returns one number, and a tangent.

    primals: the arguments. argnums: which of them to differentiate in, all if None. tangents: a
    tuple with one for each of those, of its structure and shapes. The result has the structure of
    the argument where it is one alone (the only one, or argnums an int), or is a tuple with one for
    each of several; with has_aux, which is as in `grad`, it is ``(product, aux)``. It costs some
    gradients, and no Hessian is formed. Raises as `grad` and `jvp`, and ValueError where argnums
    chooses an argument twice.

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
    if len(set(chosen)) < len(chosen):
        raise ValueError(
            f"argnums={argnums} chooses an argument twice: give each of them once, with its tangent"
        )
    own = chosen[0] if single else chosen

    def of_chosen(*arguments: Any) -> Any:
        given = list(primals)
        for k, argument in zip(chosen, arguments, strict=True):
            given[k] = argument
        return grad(function, own, has_aux)(*given)

    of_chosen.__name__ = _name(function)
    differentiated = [primals[k] for k in chosen]
    _, product, *aux = jvp(of_chosen, differentiated, tangents, has_aux)
    leaves, treedef, _ = flatten_args((differentiated[0] if single else tuple(differentiated),))
    found, _, _ = flatten_args((product,))
    pairs = zip(found, leaves, strict=True)
    result = treedef.unflatten(in_dtype_of(flow, leaf) for flow, leaf in pairs)[0]
    return (result, *aux) if has_aux else result


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


class Jacobian(WithPaths):
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
        self.recorded = self._gradient.nested
        self._mode = mode
        self.__name__ = f"jacobian of {self._gradient.recorded.name}"
        self.__wrapped__ = self._gradient.nested.function

    @property
    def differentiates(self) -> Gradient:
        """What knows the arguments to differentiate in."""
        return self._gradient

    @property
    def signed(self) -> bool:
        """Whether zeros among the results keep their sign: where some are values."""
        return self._gradient.has_aux

    def __call__(self, *args: Any) -> Any:
        point = Point(self._gradient.nested, args, self._gradient.has_aux, real=False)
        parts = self._gradient.parts(point.structure)
        self._gradient.check_real(point.leaves, parts)
        wanted = [False] * len(point.leaves)
        for part in parts:
            wanted[part.leaves] = [True] * (part.leaves.stop - part.leaves.start)
        inputs, output = point.structure, point.tape.output_structure
        n_inputs = sum(leaf.size for leaf, own in zip(inputs.leaves, wanted, strict=False) if own)
        forward = self._mode == "forward"
        if self._mode == "auto":
            forward = _forward_is_cheaper(n_inputs, output.size, point.traced)
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

    def _rows(self, point: "Point", wanted: list[bool]) -> list[list[Any]]:
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

    def _columns(self, point: "Point", wanted: list[bool]) -> list[list[Any]]:
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


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _forward_is_cheaper(n_inputs: int, n_outputs: int, one_by_one: bool) -> bool:
    """Whether a Jacobian is rather made of tangents than of cotangents.

    one_by_one: the seeds are not lanes, which go by groups. A group of tangents costs somewhat less
    than one of cotangents, as no value waits for the way back (benchmarks/derivatives.py: 0.6 to 1
    of it for a layer of 1000).
    """
    from tapeflow.engine.addresses import GROUP  # brings Numba, which takes a while

    if n_inputs == 1 or n_outputs == 1:
        return n_inputs == 1
    group = 1 if one_by_one else GROUP
    return -(-n_inputs // group) <= -(-n_outputs // group)


def _check_tuples(primals: Any, tangents: Any) -> None:
    for what, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise TypeError(
                f"give the {what} as a tuple with one an argument, as in (x,), "
                f"not as a {type(given).__name__}"
            )


def _shaped(block: Any, shapes: Sequence[tuple[int, ...] | None]) -> Any:
    """A block of a Jacobian in its shape; a number where both shapes are numbers'."""
    whole = block.reshape(sum((shape or () for shape in shapes), ()))
    if all(shape is None for shape in shapes):
        return whole.item() if isinstance(whole, np.ndarray) else whole[()]
    return whole
