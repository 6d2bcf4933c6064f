"""Functions with derivatives of the user's own: custom_vjp, custom_jvp.

On a tape such a function is what it computes, and then a *seam*: an instruction that gives the
results back, and whose pullback is the user's rule. The rule runs when a pullback is made, on the
traced values there; what it records is differentiated like all else, and so to any order.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import optree

from tapeflow.arguments import argument_numbers
from tapeflow.arrays import Pull
from tapeflow.auxiliary import without_aux
from tapeflow.errors import StructureError
from tapeflow.rule_calls import Call, closure, kind_of, positional, reached, split
from tapeflow.structure import Structure, flatten
from tapeflow.tape import Tape
from tapeflow.trace import trace
from tapeflow.tracers import is_traced, lift
from tapeflow.transforms import inline, pullback


class _Custom:
    """What both kinds have in common: a call, on plain or on traced arguments."""

    kind: str
    fun: Callable[..., Any]

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()) -> None:
        if not callable(fun):
            raise TypeError(f"tpf.{self.kind} takes a function, not a {type(fun).__name__}")
        functools.update_wrapper(self, fun, updated=())
        self.fun = fun
        self.name = getattr(fun, "__name__", type(fun).__name__)
        self.nondiff_argnums, _ = argument_numbers(nondiff_argnums)

    def __call__(self, *args: Any, **options: Any) -> Any:
        call = Call(self, positional(self.fun, args, options))
        if not call.traced:
            result = self.fun(*call.args)
            if any(map(is_traced, optree.tree_leaves(result))):
                raise closure(self.name)
            return result
        return call.record()

    def rules(self) -> tuple[Callable[..., Any], ...]:
        """What the user has defined; TypeError while there is nothing."""
        raise NotImplementedError

    @property
    def __tapeflow_uses__(self) -> tuple[Any, ...]:
        return tuple(rule for rule in vars(self).values() if callable(rule))

    def begin(self, call: Call, operands: Sequence[Any]) -> tuple[list[Any], Pull]:
        """The value's leaves, and from their cotangents to that of each of the traced leaves."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<tapeflow.{self.kind} {self.name}>"


class custom_vjp(_Custom):
    """A function whose gradient is given by a rule of its own, as in JAX.

    ``f.defvjp(fwd, bwd)`` says how: ``fwd`` takes what ``f`` takes, and returns a pair, what ``f``
    returns and anything that ``bwd`` needs (a structure whose traced numbers and arrays are
    differentiated when a derivative of higher order is taken). ``bwd(residuals, cotangent)`` gets
    the cotangent in the structure of the value, and returns a tuple with one cotangent for each
    argument, in its structure and shapes, or None for zeros.

    nondiff_argnums: arguments that are no numbers, or that nothing flows to, such as functions;
    ``bwd`` gets them first. Everything traced goes in as another argument.

    The rule takes part in every derivative: it is recorded, and so a derivative of higher order, or
    in forward mode, is one of what ``fwd`` and ``bwd`` compute. On plain numbers the function is
    called as it is. Raises StructureError for cotangents of another structure, and TracingError
    where the function closes over a traced value.

    >>> @tpf.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, g: (np.clip(g, -1.0, 1.0),))
    >>> tpf.grad(lambda x: clipped(x) ** 2)(3.0)
    1.0
    """

    kind = "custom_vjp"

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Define the rule; TypeError for what cannot be called."""
        for rule in (fwd, bwd):
            if not callable(rule):
                raise TypeError(f"defvjp takes two functions, fwd and bwd, not {kind_of(rule)}")
        self.fwd, self.bwd = fwd, bwd

    def rules(self) -> tuple[Callable[..., Any], ...]:
        if not hasattr(self, "bwd"):
            raise TypeError(f"{self.name} has no rule yet: define one by {self.name}.defvjp")
        return self.fwd, self.bwd

    def begin(self, call: Call, operands: Sequence[Any]) -> tuple[list[Any], Pull]:
        fwd, _ = self.rules()
        result = fwd(*call.arguments(operands))
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise StructureError(
                f"fwd of {self.name} must return a pair, the value and the residuals, "
                f"not {kind_of(result)}"
            )
        value, residuals = result
        leaves = call.check(value, call.output, "fwd", "the value")
        return leaves, lambda flowing: self._pull(call, residuals, flowing)

    def _pull(self, call: Call, residuals: Any, flowing: Any) -> list[Any]:
        _, bwd = self.rules()
        cotangent = call.output.unflatten(split(call.output, flowing))
        found = bwd(*call.static.values(), residuals, cotangent)
        children = call.treedef.children()
        if not isinstance(found, (tuple, list)) or len(found) != len(children):
            raise StructureError(
                f"bwd of {self.name} must return a tuple with a cotangent for each of "
                f"{len(children)} arguments, not {kind_of(found)}"
            )
        flows: list[Any] = []
        for k, (own, structure) in enumerate(zip(found, call.structures(), strict=True)):
            if own is None:
                flows += [None] * len(structure.leaves)
            else:
                flows += call.check(own, structure, "bwd", f"cotangent {k}")
        return [flows[k] for k in call.traced]


class custom_jvp(_Custom):
    """A function whose tangent is given by a rule of its own, as in JAX.

    ``f.defjvp(jvp)``, also as a decorator, says how: ``jvp(primals, tangents)`` gets the arguments
    and their tangents as two tuples, and returns the value and its tangent, which must be linear in
    the tangents. ``f.defjvps(jvp_0, jvp_1, ...)`` takes a rule for each argument alone,
    ``jvp_k(tangent, value, *args)``, or None for no dependence.

    nondiff_argnums: arguments that are no numbers, or that nothing flows to, such as functions;
    ``jvp`` gets them first. Everything traced goes in as another argument.

    The rule is recorded, and transposed in reverse mode, so it takes part in every derivative, of
    any order. On plain numbers the function is called as it is. Raises StructureError for a tangent
    of another structure than the value, and TracingError where the function closes over a traced
    value.

    >>> @tpf.custom_jvp
    ... def log1pexp(x):
    ...     return np.log1p(np.exp(x))
    >>> @log1pexp.defjvp
    ... def _(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return log1pexp(x), t / (1.0 + np.exp(-x))
    >>> tpf.grad(log1pexp)(100.0), tpf.jvp(log1pexp, (0.0,), (2.0,))[1]
    (1.0, 1.0)
    """

    kind = "custom_jvp"

    def defjvp(self, jvp: Callable[..., Any]) -> Callable[..., Any]:
        """Define the rule, and give it back; TypeError for what cannot be called."""
        if not callable(jvp):
            raise TypeError(f"defjvp takes a function, not {kind_of(jvp)}")
        self.jvp = jvp
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Define the rule by one for each argument."""
        if self.nondiff_argnums:
            raise TypeError("defjvps takes no nondiff_argnums: use defjvp")

        def jvp(primals: Any, tangents: Any) -> Any:
            if len(jvps) != len(primals):
                raise TypeError(
                    f"{self.name} has {len(primals)} arguments, and {len(jvps)} rules by defjvps"
                )
            value = self(*primals)
            flows = [
                own(tangent, value, *primals)
                for own, tangent in zip(jvps, tangents, strict=True)
                if own is not None
            ]
            zero = optree.tree_map(lambda x: np.zeros(x.shape) if np.ndim(x) else 0.0, value)
            total = functools.reduce(
                lambda a, b: optree.tree_map(lambda x, y: x + y, a, b), flows or [zero]
            )
            return value, total

        self.defjvp(jvp)

    def rules(self) -> tuple[Callable[..., Any], ...]:
        if not hasattr(self, "jvp"):
            raise TypeError(f"{self.name} has no rule yet: define one by {self.name}.defjvp")
        return (self.jvp,)

    def begin(self, call: Call, operands: Sequence[Any]) -> tuple[list[Any], Pull]:
        (rule,) = self.rules()
        n = len(operands)

        def both_of(primals: list[Any], tangents: list[Any]) -> Any:
            result = rule(
                *call.static.values(),
                call.treedef.unflatten(call.filled(primals)),
                call.treedef.unflatten(call.filled(tangents, zero=True)),
            )
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise StructureError(
                    f"jvp of {self.name} must return a pair, the value and its tangent, "
                    f"not {kind_of(result)}"
                )
            value = call.check(result[0], call.output, "jvp", "the value")
            return value, call.check(result[1], call.output, "jvp", "the tangent")

        leaves = tuple(call.leaf(k) for k in call.traced) * 2
        _, treedef = flatten(([0.0] * n, [0.0] * n))
        names = [f"{what}[{k}]" for what in ("primals", "tangents") for k in range(n)]
        tape, captures = trace(both_of, Structure(treedef, leaves), names)
        if captures:
            raise closure(f"the rule of {self.name}")
        tangent = _tangent(tape)
        back = pullback(tangent, [False] * n + [True] * n)
        _check_linear(tangent, back, self.name)
        given = [*operands, *(np.zeros(leaf.shape) if leaf.shape else 0.0 for leaf in leaves[:n])]

        def pull(flowing: Any) -> list[Any]:
            seed = lift(flowing).reshape(-1)
            found = inline(back, [*given, seed[0] if seed.size == 1 else seed])
            return found[len(call.output.leaves) :]

        return inline(without_aux(tape), given)[: len(call.output.leaves)], pull


def _tangent(tape: Tape) -> Tape:
    """A tape with a pair of results, with the second of them alone."""
    whole = tape.output_structure
    own = whole.treedef.children()[1]
    tangent = Structure(own, whole.leaves[len(whole.leaves) - own.num_leaves :])
    outputs = tape.outputs[len(tape.outputs) - tangent.size :]
    return replace(tape, outputs=outputs, output_structure=tangent)


def _check_linear(tangent: Tape, back: Tape, name: str) -> None:
    """StructureError for a tangent that is not linear in the tangents, which come second.

    A part of it that depends on none must be zero; and what its pullback, back, gives must depend
    on none, but for linear instructions whose texts look at what is zero.
    """
    n = len(tangent.input_structure.leaves) // 2
    tangents = slice(tangent.input_structure.bounds[n][0], tangent.n_inputs)
    flows = reached(tangent, tangents)
    for slot in tangent.outputs[~flows[tangent.outputs]].tolist():
        constant = slot - tangent.n_inputs
        zero = 0 <= constant < len(tangent.constants) and tangent.constants[constant] == 0.0
        if not zero:
            raise StructureError(
                f"jvp of {name} returns a tangent that does not depend on the tangents: "
                "multiply each partial by its tangent"
            )
    if reached(back, tangents)[back.outputs[len(tangent.outputs) :]].any():
        raise StructureError(
            f"jvp of {name} returns a tangent that is not linear in the tangents: multiply each "
            "partial by its tangent, and add them up"
        )
