"""Whether the derivatives of a function, or of a gate of your own, are those of its values."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tapeflow.derivatives import jvp, vjp
from tapeflow.differences import derivative
from tapeflow.recorded import argument_names, flatten_args
from tapeflow.structure import Structure, leaf_of

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
    modes: "fwd" compares `jvp` along each number of the arguments (64 of them, drawn, if there are
    more) with central differences, extrapolated by Ridders' method; "rev" compares `vjp` with `jvp`
    by <w, J v> = <J^T w, v>. Each order is checked as the first derivative of the one before.
    rtol: what may be missing, relative to the largest derivative; differences are good to some 1e-9
    where the function is smooth. The error names the argument, the index, order, mode and both
    numbers. Raises ValueError for an order below one, or another mode.

    >>> tpf.check_grads(lambda x, y: np.sin(x) * y, (0.3, np.array([1.0, 2.0])))
    >>> @tpf.gate
    ... def wrong(x):
    ...     return x * x, (3.0 * x,)
    >>> tpf.check_grads(wrong, (2.0,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: derivative 1 of wrong in operands[0], mode fwd: jvp gives 6.0, ...
    """
    if type(order) is not int or order < 1:
        raise ValueError(f"order must be a whole number from 1 up, not {order!r}")
    if not modes or any(mode not in MODES for mode in modes):
        raise ValueError(f"modes must be some of {', '.join(MODES)}, not {modes!r}")
    name = getattr(function, "__name__", type(function).__name__)
    _Check(function, tuple(args), tuple(modes), rtol, name, 1).run(order)


class _Check:
    """One order: a function whose first derivative is looked at."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        modes: tuple[str, ...],
        rtol: float,
        name: str,
        order: int,
    ) -> None:
        self.function, self.args, self.modes, self.rtol = function, args, modes, rtol
        self.name, self.order = name, order
        leaves, treedef, _ = flatten_args(args)
        self.structure = Structure(treedef, tuple(map(leaf_of, leaves)))
        self.x = np.empty(self.structure.size)
        self.structure.pack(leaves, self.x)
        self.rng = np.random.default_rng(self.structure.size)

    def run(self, last: int) -> None:
        direction = self.rng.standard_normal(self.x.size)
        if "fwd" in self.modes:
            self._forward()
        if "rev" in self.modes:
            self._reverse(direction)
        if self.order < last:
            along = self._arguments(direction)
            following = _Check(
                lambda *args: jvp(self.function, args, along)[1],
                self.args,
                self.modes,
                self.rtol,
                self.name,
                self.order + 1,
            )
            following.run(last)

    def _arguments(self, flat: Any) -> tuple[Any, ...]:
        arguments: tuple[Any, ...] = self.structure.unflatten(self.structure.split(flat))
        return arguments

    def _value(self, flat: Any) -> Any:
        return _numbers(self.function(*self._arguments(flat)))

    def _forward(self) -> None:
        found = []
        for k in self._chosen():
            unit = np.zeros(self.x.size)
            unit[k] = 1.0
            _, tangent = jvp(self.function, self.args, self._arguments(unit))
            found.append((k, _numbers(tangent), self._differences(unit)))
        scale = max((np.abs(ours).max(initial=0.0) for _, ours, _ in found), default=0.0)
        for k, ours, theirs in found:
            wrong = ~(np.abs(ours - theirs) <= self.rtol * max(scale, 1e-300))
            if wrong.any():
                j = int(wrong.argmax())
                of = f", result {j}" if ours.size > 1 else ""
                raise AssertionError(
                    f"{self._what()} in {self._place(k)}{of}, mode fwd: jvp gives "
                    f"{ours[j].item()!r}, differences {theirs[j].item()!r}"
                )

    def _reverse(self, direction: Any) -> None:
        value, tangent = jvp(self.function, self.args, self._arguments(direction))
        leaves, treedef, _ = flatten_args((value,))
        structure = Structure(treedef, tuple(map(leaf_of, leaves)))
        weights = self.rng.standard_normal(structure.size)
        (cotangent,) = structure.unflatten(structure.split(weights))
        _, pull = vjp(self.function, *self.args)
        pulled = _numbers(pull(cotangent))
        left, right = weights @ _numbers(tangent), pulled @ direction
        scale = np.abs(weights) @ np.abs(_numbers(tangent)) + np.abs(pulled) @ np.abs(direction)
        if not abs(left - right) <= self.rtol * max(scale, 1e-300):
            raise AssertionError(
                f"{self._what()}, mode rev: vjp gives <J^T w, v> = {right.item()!r}, "
                f"and jvp <w, J v> = {left.item()!r}"
            )

    def _what(self) -> str:
        return f"derivative {self.order} of {self.name}"

    def _chosen(self) -> Iterator[int]:
        n = self.x.size
        if n <= _MOST:
            return iter(range(n))
        return iter(np.sort(self.rng.choice(n, _MOST, replace=False)).tolist())

    def _differences(self, unit: Any) -> Any:
        """The derivative along a direction."""
        return derivative(lambda h: self._value(self.x + h * unit), float(np.abs(self.x @ unit)))

    def _place(self, k: int) -> str:
        """A number of the arguments, as Python would write it."""
        structure = self.structure
        names = argument_names(self.function, structure.treedef.num_children)
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
