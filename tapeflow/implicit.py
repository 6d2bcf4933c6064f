"""Functions that are given by an equation: roots, fixed points and optima.

The implicit function theorem: where F(x, a) = 0, and the Jacobian F_x has an inverse, x depends on
a with the derivative -F_x^-1 F_a. So a cotangent v of x gives -F_a^T w, where F_x^T w = v, and the
way in which x was found does not matter. That is recorded, and differentiated like all else, so all
orders follow; x depends on a by the same rule wherever it is read.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from tapeflow.arrays import RULES, GateRule
from tapeflow.arrays.base import Array, Parameters, Sizes, Value, require
from tapeflow.derivatives import jacobian, vjp
from tapeflow.errors import GateError, StructureError, TapeError, TracingError
from tapeflow.recorded import flatten_args, traced_leaf
from tapeflow.recorder import innermost
from tapeflow.rule_calls import (
    alike,
    closure,
    fresh,
    plain_leaf,
    reached,
    record_gate,
    shaped,
    split,
)
from tapeflow.rules import azmul
from tapeflow.sources import user_place
from tapeflow.structure import Floats, Leaf, Structure, flatten, outline, structure_of
from tapeflow.trace import numbers_of, trace
from tapeflow.tracers import is_traced, lift


def implicit(
    solve: Callable[..., Any], residual: Callable[..., Any], like: Any = None
) -> "Implicit":
    """The function of some arguments that solves an equation, with its derivatives.

    solve: from the arguments to x, a number, an array, or a structure of them. It is any code in
    Python or SciPy, runs on plain numbers, and is not recorded: its iterations do not matter. On a
    tape it is called at each evaluation, and in a batch once for each sample.

    residual: from x and the arguments to as many numbers as x has, which are zero where x solves
    the equation. It is recorded, and its derivatives give those of x, by the implicit function
    theorem, of any order. For a fixed point x = g(x, a) it is ``lambda x, a: x - g(x, a)``; for an
    optimum of f, ``lambda x, a: tpf.grad(f)(x, a)``. Whether it is zero is not looked at.

    like: something of x's structure and shapes, whatever its numbers. It is needed in the bodies of
    loops and in rules alone; elsewhere solve is called once while recording, to see it.

    Raises StructureError where x or the residual are not as they must be, GateError for what solve
    raises, and LinAlgError where the residual's Jacobian in x is singular; in a batch the sample is
    NaN there. Where an argument is NaN so is x, and solve is not called.

    >>> from scipy.optimize import brentq
    >>> root = tpf.implicit(
    ...     lambda a: brentq(lambda x: x**3 + a * x - 1.0, -2.0, 2.0, xtol=1e-15),
    ...     lambda x, a: x**3 + a * x - 1.0,
    ... )
    >>> round(tpf.grad(root)(2.0), 6), round(-root(2.0) / (3.0 * root(2.0) ** 2 + 2.0), 6)
    (-0.17327, -0.17327)
    >>> tpf.vmap(tpf.grad(root))(np.array([1.0, 2.0])).round(6)
    array([-0.284693, -0.17327 ])
    """
    for what, given in (("solve", solve), ("residual", residual)):
        if not callable(given):
            raise TypeError(f"{what} must be a function, not a {type(given).__name__}")
    return Implicit(solve, residual, like)


class Implicit:
    """What ``tpf.implicit`` makes."""

    def __init__(
        self, solve: Callable[..., Any], residual: Callable[..., Any], like: Any = None
    ) -> None:
        functools.update_wrapper(self, solve, updated=())
        self.solve, self.residual, self.like = solve, residual, like
        self.name = getattr(solve, "__name__", type(solve).__name__)
        self.__tapeflow_uses__ = (solve, residual)

    def __call__(self, *args: Any) -> Any:
        leaves, treedef, traced = flatten_args(args)
        if not traced:
            return self.solve(*args)
        equation = _Equation(self, leaves, treedef)
        own = [leaves[k] for k in equation.traced]
        recorder = innermost([leaf.recorder for leaf in own])
        own = [fresh(recorder, leaf) for leaf in own]
        sizes = [lift(leaf).size for leaf in own]
        p = (equation.unknowns.size, *sizes)
        x = record_gate(f"implicit:{self.name}", equation, p, own)
        return equation.unknowns.unflatten(split(equation.unknowns, x))

    def __repr__(self) -> str:
        return f"<tapeflow.implicit {self.name}>"


class _Equation(GateRule):
    """An equation, with those of its arguments that are traced: the op that solves it.

    Its parameters: how many unknowns there are, then the lengths of the traced arguments.
    """

    in_python = True

    def __init__(self, of: Implicit, leaves: Sequence[Any], treedef: optree.PyTreeSpec) -> None:
        self.of: Implicit = of
        self.treedef = treedef
        self.traced = [k for k, leaf in enumerate(leaves) if is_traced(leaf)]
        self.plain = [plain_leaf(leaf) for leaf in leaves]
        own = [leaves[k] for k in self.traced]
        self.given = Structure(flatten([0.0] * len(own))[1], tuple(map(traced_leaf, own)))
        self.failure = f"{of.name} found no solution"
        self.unknowns = self._unknowns(own)
        self._check_residual()

    def _unknowns(self, own: Sequence[Any]) -> Structure:
        """How many unknowns there are: seen at the point of the recording, where there is one."""
        of, found = self.of, self.of.like
        if found is None:
            try:
                numbers = numbers_of(own, self.given)
            except TracingError:
                raise TracingError(
                    f"cannot see here how many unknowns {of.name} has ({user_place()}): say it, as "
                    "in tpf.implicit(solve, residual, like=x), with x as solve gives it"
                ) from None
            found = self._solve(numbers)
        if any(map(is_traced, optree.tree_leaves(found))):
            raise closure(of.name)
        return structure_of(found)[1]

    def sizes(self, p: Parameters) -> Sizes:  # type: ignore[override]
        require(len(p) > 1, all(n >= 0 for n in p))
        return tuple(map(int, p[1:])), int(p[0])

    def forward(self, p: Parameters, *operands: Array) -> Array:  # type: ignore[override]
        given = np.concatenate(operands)
        found = np.full((int(p[0]), given.shape[1]), np.nan)
        for lane in range(given.shape[1]):
            own = given[:, lane].copy()
            if lane and np.array_equal(own, given[:, lane - 1]):
                found[:, lane] = found[:, lane - 1]  # lanes beyond a batch are its last one
            elif not np.isnan(own).any():
                with contextlib.suppress(np.linalg.LinAlgError):
                    self._write(self._solve(own), found[:, lane])
        return found

    def pull(  # type: ignore[override]
        self, p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        n = self.unknowns.size
        own = [shaped(x, leaf) for x, leaf in zip(operands, self.given.leaves, strict=True)]
        x = lift(result).reshape(-1)
        by_x = jacobian(self._residual)(x, *own)
        weights = _JacobianSolve(self.of.name).record((1, n, 1, 1), by_x, flowing)
        _, back = vjp(self._residual, x, *own)
        return [-cotangent for cotangent in back(weights)[1:]]

    def _arguments(self, own: Sequence[Any]) -> Any:
        leaves = list(self.plain)
        for k, leaf in zip(self.traced, own, strict=True):
            leaves[k] = leaf
        return self.treedef.unflatten(leaves)

    def _solve(self, numbers: Floats) -> Any:
        try:
            return self.of.solve(*self._arguments(self.given.split(numbers)))
        except (np.linalg.LinAlgError, StructureError, TapeError, TracingError):
            raise
        except Exception as error:
            raise GateError(
                f"{self.of.name} raised {type(error).__name__} where it is to solve an equation: "
                f"{error}"
            ) from error

    def _write(self, found: Any, out: Floats) -> None:
        leaves, structure = structure_of(found)
        if not alike(structure, self.unknowns):
            raise GateError(
                f"{self.of.name} returned {outline(structure)}, where it was recorded with "
                f"{outline(self.unknowns)}: return x in one structure"
            )
        own = np.empty(structure.size)
        structure.pack(leaves, own)
        out[:] = own

    def _residual(self, x: Any, *own: Any) -> Any:
        """The residual's numbers as an array."""
        unknowns = self.unknowns.unflatten(split(self.unknowns, x))
        value = self.of.residual(unknowns, *self._arguments(own))
        leaves, _ = flatten(value)
        runs = [np.reshape(lift(leaf), -1) for leaf in leaves]
        return np.concatenate(runs) if runs else np.zeros(0)

    def _check_residual(self) -> None:
        """Run it once, where the function is called, to say there what is wrong with it."""
        n = self.unknowns.size
        leaves = (Leaf((n,)), *self.given.leaves)
        structure = Structure(flatten((0.0,) * len(leaves))[1], leaves)
        tape, captures = trace(self._residual, structure, [f"x{k}" for k in range(len(leaves))])
        if captures:
            raise closure(f"the residual of {self.of.name}")
        if len(tape.outputs) != n:
            raise StructureError(
                f"the residual of {self.of.name} gives {len(tape.outputs)} numbers for {n} "
                "unknowns: it must give one for each"
            )
        if n and not reached(tape, slice(0, n))[tape.outputs].any():
            raise StructureError(
                f"the residual of {self.of.name} does not depend on the unknowns: it must be a "
                "function of x that is zero where x solves the equation"
            )


class _JacobianSolve(GateRule):
    """The op ``azsolve`` on the Jacobian of a residual, which it names where that is singular."""

    kernel = "azsolve"

    def __init__(self, name: str) -> None:
        self.of = self.name = name
        self.failure = f"the Jacobian of the residual of {name} in x is singular"

    def record(self, p: Parameters, matrix: Value, right: Value) -> Value:
        return record_gate("jacobian_solve", self, p, [matrix, right])

    def sizes(self, p: Parameters) -> Sizes:  # type: ignore[override]
        return RULES["azsolve"].sizes(p)

    def forward(self, p: Parameters, *operands: Array) -> Array:  # type: ignore[override]
        return RULES["azsolve"].forward(p, *operands)

    def pull(  # type: ignore[override]
        self, p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        (_, n, _, turned), matrix = p, operands[0]
        back = self.record((1, n, 1, 1 - turned), matrix, flowing)
        left, right = (result, back) if turned else (back, result)
        outer = azmul(left.reshape(n, 1), right.reshape(1, n))
        return -outer.reshape(-1), back
