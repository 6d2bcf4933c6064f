"""The transforms: record, function, grad, value_and_grad."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from tapeflow.arguments import Part, check_real, chosen_arguments, parts_of
from tapeflow.auxiliary import with_aux, without_aux
from tapeflow.branches.paths import Path, Tree
from tapeflow.calls import BranchReplay, Replay
from tapeflow.engine.programs import sample_program
from tapeflow.errors import StructureError, TracingError
from tapeflow.inspection import WithPaths
from tapeflow.recorded import Recorded, flatten_args, traced_leaf
from tapeflow.structure import Structure
from tapeflow.tape import Tape
from tapeflow.transforms import inline, pullback


def record(function: Callable[..., Any], *example_args: Any) -> Tape:
    """Run ``function`` once on traced values and return what it computed as a `Tape`.

    example_args: Python numbers, NumPy arrays, or lists, tuples and dicts of them. The tape is for
    arguments of the same structure and shapes; the numbers themselves do not matter. Integers are
    taken as real numbers.

    Raises TracingError where the function would bake a value in (``float(x)``, ``if x > 0``) and
    StructureError for arguments or results that are not numbers.

    >>> tape = tpf.record(lambda x, y: x * np.exp(y), 1.0, 1.0)
    >>> tape
    <tapeflow.Tape <lambda>: 2 inputs, 2 instructions, 1 outputs>
    >>> tape(2.0, 0.0)
    2.0
    """
    leaves, treedef, is_traced = flatten_args(example_args)
    if is_traced:
        raise TracingError("cannot record inside a recording: call the function itself")
    tape, captures = Recorded(plain(function)).trace(leaves, treedef)
    if captures:
        raise TracingError(
            f"{tape.name} uses a traced value of an enclosing function: pass it as an argument"
        )
    return tape


class Function(WithPaths):
    """What ``tpf.function`` makes: records on the first call, and replays after it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.recorded = Recorded(plain(function))
        functools.update_wrapper(self, self.recorded.function, updated=())

    def __call__(self, *args: Any) -> Any:
        leaves, treedef, is_traced = flatten_args(args)
        if is_traced:
            return self.recorded.function(*args)
        tree = self.recorded.tree(leaves, treedef)
        if tree.captures:
            # It closes over values of a recording in progress, and becomes part of that.
            return self.recorded.function(*args)
        tape = tree.plain
        if tape is None:
            tape, results = tree.results(leaves, None)
        else:
            results = sample_program(tape, None).results(leaves)
        structure = tape.output_structure
        return structure.unflatten(structure.split(results))

    def tape(self, *args: Any) -> Tape:
        """The tape that a call with these arguments replays."""
        leaves, treedef, _ = flatten_args(args)
        return self.recorded.tape(leaves, treedef)

    def __repr__(self) -> str:
        return f"<tapeflow.function {self.recorded.name}>"


def function(function: Callable[..., Any]) -> Function:
    """Record a function when it is first called, and replay the tape from then on.

    There is one tape for each structure and shapes of arguments. A variable that the function
    closes over, or a global it names, may be bound anew: it is then recorded again. What is
    changed in place is not seen; pass it as an argument.

    >>> @tpf.function
    ... def f(x):
    ...     return np.sin(x) * x
    >>> f(0.5), f(0.5) == f(0.5)
    (0.2397127693021015, True)
    """
    return Function(function)


def grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> "Gradient":
    """The gradient of a function that returns one number.

    argnums: which argument or arguments to differentiate in, from the last one where negative. The
    gradient has the structure, shapes and dtypes of the argument; with several argnums it is a
    tuple. has_aux: the function returns a pair, its value and what goes with it (numbers and
    arrays, in any structure), and a call gives ``(gradient, aux)``. The function is recorded on the
    first call and replayed after, as by `function`.

    Raises StructureError if the result is not one number (or such a pair), or an argnum is out of
    range, and TypeError for an integer in an argument to differentiate in.

    >>> tpf.grad(lambda x: x * x)(3.0)
    6.0
    >>> tpf.grad(lambda w, x: np.sum(w * x), argnums=-1)(np.ones(2), 1.0)
    2.0
    >>> tpf.grad(lambda x: (x * x, {"half": x / 2.0}), has_aux=True)(3.0)
    (6.0, {'half': 1.5})
    """
    return Gradient(function, argnums, False, has_aux)


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> "Gradient":
    """The value and the gradient of a function that returns one number, as `grad` gives it.

    With has_aux a call gives ``((value, aux), gradient)``.

    >>> tpf.value_and_grad(lambda x: x * x)(3.0)
    (9.0, 6.0)
    >>> tpf.value_and_grad(lambda x: (x * x, x + 1.0), has_aux=True)(3.0)
    ((9.0, 4.0), 6.0)
    """
    return Gradient(function, argnums, True, has_aux)


class Gradient(WithPaths):
    """What ``tpf.grad`` and ``tpf.value_and_grad`` make."""

    def __init__(
        self,
        function: Callable[..., Any],
        argnums: int | Sequence[int],
        with_value: bool,
        has_aux: bool = False,
    ) -> None:
        self.recorded = self.nested = Recorded(plain(function))
        if has_aux:
            # An enclosing derivative sees the aux; the native sweep seeds every result.
            self.recorded = Recorded(with_aux(plain(function), stopped=True))
            self.nested = Recorded(with_aux(plain(function)))
        self.argnums, self.single = chosen_arguments(argnums)
        self.with_value, self.has_aux = with_value, has_aux
        self.needs_value = with_value or has_aux
        self.__wrapped__ = self.recorded.function
        self.__name__ = f"gradient of {self.recorded.name}"
        self._last: Replay | None = None

    def __call__(self, *args: Any) -> Any:
        replay = self._last
        recorded = self.recorded
        if replay is not None and (not recorded.environment or recorded.is_current()):
            leaves = replay.leaves(args)
            if leaves is not None:
                return replay(leaves)
        leaves, treedef, is_traced = flatten_args(args)
        if is_traced:
            return self._inline(leaves, treedef)
        tree = self.recorded.tree(leaves, treedef)
        if tree.captures:
            return self._inline(leaves, treedef)  # it closes over traced values
        if tree.plain is None:
            return self.branch(tree, tree.settle(leaves), args).run(leaves)
        self._last = replay = Replay(self, tree.plain, self._checked(tree.plain, leaves), args)
        return replay(leaves)

    def _checked(self, tape: Tape, leaves: Sequence[Any]) -> list[Part]:
        """The arguments to differentiate in, of a tape and leaves that allow it."""
        self.check_scalar(tape)
        parts = self.parts(tape.input_structure)
        self.check_real(leaves, parts)
        return parts

    def branch(self, tree: Tree, path: Path, args: tuple[Any, ...]) -> BranchReplay:
        """The calls that take one of several paths, with arguments like these."""
        replay: BranchReplay | None = path.prepared.get("replay")
        if replay is None or replay.leaves(args) is None:
            parts = self._checked(path.tape, optree.tree_leaves(args))
            replay = path.prepared["replay"] = BranchReplay(self, tree, path, parts, args)
        self._last = replay
        return replay

    def finish(self, value: Any, gradient: Any) -> Any:
        """What a call gives. value: what the function returns, where that is needed."""
        if self.has_aux:
            value, aux = value
            return ((value, aux), gradient) if self.with_value else (gradient, aux)
        return (value, gradient) if self.with_value else gradient

    def check_scalar(self, tape: Tape) -> None:
        """StructureError unless there is one number to differentiate."""
        n = len((without_aux(tape) if self.has_aux else tape).outputs)
        if n != 1:
            raise StructureError(
                f"{self.recorded.name} returns {n} numbers, and a gradient is of one: "
                "sum them, choose one, or use tpf.jacobian"
            )

    def parts(self, structure: Structure) -> list[Part]:
        """The arguments to differentiate in."""
        return parts_of(structure, self.argnums, self.recorded.name)

    def check_real(self, leaves: Sequence[Any], parts: Sequence[Part]) -> None:
        """TypeError for an integer in an argument to differentiate in."""
        for part in parts:
            check_real(self.recorded.name, leaves[part.leaves])

    def _inline(self, leaves: list[Any], treedef: optree.PyTreeSpec) -> Any:
        """The gradient as instructions of the recording in progress."""
        tape, captures = self.nested.trace(leaves, treedef)
        self.check_scalar(tape)
        structure = Structure(treedef, tuple(map(traced_leaf, leaves)))
        parts = self.parts(structure)
        self.check_real(leaves, parts)
        wanted = [False] * len(tape.input_structure.leaves)
        for part in parts:
            wanted[part.leaves] = [True] * (part.leaves.stop - part.leaves.start)
        alone = without_aux(tape) if self.has_aux else tape
        results = iter(inline(pullback(alone, wanted), [*leaves, *captures, 1.0]))
        values = [next(results) for _ in alone.output_structure.leaves]
        if self.has_aux:
            values = inline(tape, [*leaves, *captures])
        value = tape.output_structure.unflatten(values)
        found = {k: next(results) for k in range(len(wanted)) if wanted[k]}
        gradients = tuple(
            part.structure.unflatten(found[k] for k in range(part.leaves.start, part.leaves.stop))
            for part in parts
        )
        return self.finish(value, gradients[0] if self.single else gradients)

    def __repr__(self) -> str:
        return f"<{self.__name__}>"


def _is_float64_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray) and leaf.dtype == np.float64


def plain(function: Any) -> Any:
    """The Python function in a ``tpf.function``: recording goes through to it."""
    return function.recorded.function if isinstance(function, Function) else function
