"""Whether the derivatives of a function, or of a gate of your own, are those of its values."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from tapeflow.api import Function
from tapeflow.derivatives import jvp, linearize, vjp
from tapeflow.differences import derivative
from tapeflow.recorded import argument_names, flatten_args
from tapeflow.structure import Structure, structure_of

MODES = ("fwd", "rev")

_MOST = 64
"""Numbers of the arguments up to which each is looked at; of more, so many are drawn."""


def check_grads(
    function: Callable[..., Any],
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = MODES,
    rtol: float = 1e-6,
) -> None:
    """Raise AssertionError where a derivative is not that of the function's values.

    args: where to look; real numbers and arrays, in any structure. order: up to which derivative.
    modes: "fwd" looks at `jvp` along each number of the arguments, "rev" at what `vjp` gives for
    each (64 of them, drawn, if there are more). Both are compared with central differences,
    extrapolated by Ridders' method, and each at random cotangents and tangents of everything by
    <w, J v> = <J^T w, v>. A higher order is checked as the first derivative of the one before, by
    each mode over each. rtol: what may be missing, relative to the largest derivative; differences
    are good to some 1e-9 where the function is smooth. The error names the argument, the index, the
    order, the modes, both numbers and how far they are apart. Raises ValueError for an order below
    one, or another mode.

    >>> tpf.check_grads(lambda x, y: np.sin(x) * y, (0.3, np.array([1.0, 2.0])))
    >>> @tpf.gate
    ... def wrong(x):
    ...     return x * x, (3.0 * x,)
    >>> tpf.check_grads(wrong, (2.0,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: derivative 1 of wrong in operands[0], mode fwd: jvp gives 6.0, ..., 2.0 apart
    """
    if type(order) is not int or order < 1:
        raise ValueError(f"order must be a whole number from 1 up, not {order!r}")
    if not modes or any(mode not in MODES for mode in modes):
        raise ValueError(f"modes must be some of {', '.join(MODES)}, not {modes!r}")
    if not isinstance(args, (tuple, list)):
        raise TypeError(
            "give the arguments as a tuple with all of them, as in (x,), "
            f"not as a {type(args).__name__}"
        )
    _Check(function, tuple(args), tuple(modes), rtol, function).run(order)


class _Check:
    """One order: a function whose first derivative is looked at.

    original: the user's own. over: the modes by which it is a derivative of that, the last first.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        modes: tuple[str, ...],
        rtol: float,
        original: Callable[..., Any],
        over: tuple[str, ...] = (),
    ) -> None:
        self.function, self.args, self.modes, self.rtol = function, args, modes, rtol
        self.original, self.over = original, over
        self.structure, self.x = _taken_apart(args)
        self.rng = np.random.default_rng(self.structure.size)

    def run(self, last: int) -> None:
        order = 1 + len(self.over)
        value, push = linearize(self.function, *self.args)
        output, _ = _taken_apart((value,))
        direction = self.rng.standard_normal(self.x.size)
        weights = self.rng.standard_normal(output.size)
        along, cotangent = _together(self.structure, direction), _together(output, weights)[0]
        differences = [(k, self._differences(self._unit(k))) for k in self._chosen()]
        if "fwd" in self.modes:
            pushed = [
                _numbers(push(*_together(self.structure, self._unit(k)))) for k, _ in differences
            ]
            self._compare("fwd", "jvp", zip(pushed, differences, strict=True))
        if "rev" in self.modes:
            pulled = _numbers(vjp(self.function, *self.args)[1](cotangent))
            flows = [(k, np.array([weights @ by_k])) for k, by_k in differences]
            self._compare("rev", "vjp", ((pulled[k : k + 1], (k, by_k)) for k, by_k in flows))
            self._meet(weights, direction, pulled)
        if order < last:
            following = {
                "fwd": lambda *args: jvp(self.function, args, along)[1],
                "rev": lambda *args: vjp(self.function, *args)[1](cotangent),
            }
            for mode in self.modes:
                rest = self.args, self.modes, self.rtol, self.original, (mode, *self.over)
                _Check(Function(following[mode]), *rest).run(last)

    def _compare(self, mode: str, ours_by: str, found: Iterable[Any]) -> None:
        """Ours and the differences, for each number of the arguments."""
        found = list(found)
        sizes = [np.abs(ours[np.isfinite(ours)]).max(initial=0.0) for ours, _ in found]
        scale = max(sizes, default=0.0)
        for ours, (k, theirs) in found:
            wrong = ~(np.abs(ours - theirs) <= self.rtol * max(scale, 1e-300))
            if wrong.any():
                j = int(wrong.argmax())
                of = f", result {j}" if ours.size > 1 else ""
                self._refuse(f" in {self._place(k)}{of}", mode, ours_by, ours[j], theirs[j])

    def _meet(self, weights: Any, direction: Any, pulled: Any) -> None:
        """Cotangents of all results with tangents of all arguments."""
        tangent = self._differences(direction)
        scale = np.abs(weights) @ np.abs(tangent) + np.abs(pulled) @ np.abs(direction)
        left, right = weights @ tangent, pulled @ direction
        if not abs(left - right) <= self.rtol * max(scale, 1e-300):
            self._refuse("", "rev", "vjp, by <J^T w, v>,", right, left)

    def _refuse(self, where: str, mode: str, ours_by: str, ours: Any, theirs: Any) -> NoReturn:
        name = getattr(self.original, "__name__", type(self.original).__name__)
        modes = " over ".join((mode, *self.over))
        raise AssertionError(
            f"derivative {1 + len(self.over)} of {name}{where}, mode {modes}: {ours_by} gives "
            f"{ours.item()!r}, differences {theirs.item()!r}, {abs(ours - theirs):.3} apart"
        )

    def _unit(self, k: int) -> Any:
        unit = np.zeros(self.x.size)
        unit[k] = 1.0
        return unit

    def _chosen(self) -> Iterator[int]:
        n = self.x.size
        if n <= _MOST:
            return iter(range(n))
        return iter(np.sort(self.rng.choice(n, _MOST, replace=False)).tolist())

    def _differences(self, along: Any) -> Any:
        """The derivative of all results along a direction."""

        def value(x: Any) -> Any:
            return _numbers(self.function(*_together(self.structure, x)))

        return derivative(value, self.x, along)

    def _place(self, k: int) -> str:
        """A number of the arguments, as Python would write it."""
        structure = self.structure
        names = argument_names(self.original, structure.treedef.num_children)
        leaf = next(i for i, (_, last) in enumerate(structure.bounds) if k < last)
        path = structure.treedef.accessors()[leaf]
        shape = structure.leaves[leaf].shape or ()
        index = np.unravel_index(k - structure.bounds[leaf][0], shape)
        where = f"[{', '.join(str(int(i)) for i in index)}]" if shape else ""
        return f"{names[path.path[0]]}{path[1:].codify('')}{where}"


def _numbers(result: Any) -> Any:
    """All numbers of a result, one after the other."""
    leaves, _, _ = flatten_args((result,))
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in leaves])


def _taken_apart(tree: Any) -> tuple[Structure, Any]:
    """A structure of numbers and arrays, and its numbers."""
    leaves, structure = structure_of(tree)
    flat = np.empty(structure.size)
    structure.pack(leaves, flat)
    return structure, flat


def _together(structure: Structure, flat: Any) -> tuple[Any, ...]:
    made: tuple[Any, ...] = structure.unflatten(structure.split(flat))
    return made
