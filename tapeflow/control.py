"""Loops and branches that are one instruction of a tape: scan, fori_loop, while_loop, cond, switch.

Their bodies are recorded once, however often they run. What a body takes from around it, traced
values too, is passed to the instruction as operands.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from tapeflow.bodies import (
    as_number,
    check_carry,
    identity,
    places,
    run_rule,
    shapes,
    shown,
    sizes,
    traced_body,
)
from tapeflow.errors import StructureError
from tapeflow.loops import Loop, Phase, Switch
from tapeflow.loops.loop import Place
from tapeflow.ops import BY_NAME
from tapeflow.recorded import flatten_args, traced_leaf
from tapeflow.sources import user_place
from tapeflow.structure import Leaf, Structure
from tapeflow.tracers import elementwise, is_traced
from tapeflow.tracers.number import NUMBERS


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Go over the first axis of ``xs`` with a carry: ``carry, y = f(carry, x)`` at each step.

    init: the first carry, numbers and arrays in lists, tuples and dicts; f returns a carry of the
    same structure and shapes. xs: arrays of one length, or None with a ``length``. Returns the last
    carry, and the ys, stacked along a new first axis. reverse: from the last x to the first.

    On a tape it is one instruction, whatever the length. All orders of derivatives are loops too;
    they keep the carries, or where those outgrow memory compute them again (docs/loops.md).

    Raises StructureError where a carry changes its structure or shapes, and where lengths differ.

    >>> tpf.scan(lambda total, x: (total + x, total * x), 0.0, np.array([1.0, 2.0, 3.0]))
    (6.0, array([0., 2., 9.]))
    >>> tpf.grad(lambda r: tpf.scan(lambda c, _: (c * r, None), 1.0, length=10)[0])(1.0)
    10.0
    """
    place = user_place()
    leaves, treedef, _ = flatten_args((init, xs))
    n_carries = treedef.children()[0].num_leaves
    steps = _steps(leaves[n_carries:], length, str(place))
    own = [traced_leaf(leaf) if k < n_carries else _entry(leaf) for k, leaf in enumerate(leaves)]
    tape, captures = traced_body(f, treedef, own)
    children = tape.output_structure.treedef.children()
    if tape.output_structure.treedef.type is not tuple or len(children) != 2:
        raise StructureError(
            f"the function of scan must return a carry and a y ({place}): "
            "return (carry, None) where there is no y"
        )
    carry = Structure(treedef.children()[0], tuple(own[:n_carries]))
    check_carry("scan", carry, children[0], tape.output_structure.leaves, str(place))
    ys = tape.output_structure.leaves[n_carries:]
    m, k = len(leaves) - n_carries, len(captures)
    phase = Phase(
        tape,
        (*places("carry", n_carries), *places("x", m), *places("const", k)),
        n_carries,
        places("y", len(ys)),
        tuple(range(n_carries)),
        reverse,
    )
    loop = Loop(
        "scan",
        (phase,),
        sizes(captures),
        tuple(leaf.size for leaf in own[n_carries:]),
        tuple(leaf.size for leaf in ys),
    )
    stacked = [Leaf((steps, *(leaf.shape or ()))) for leaf in ys]
    results = run_rule(loop, (steps,), [*captures, *leaves], [*own[:n_carries], *stacked])
    return carry.unflatten(results[:n_carries]), children[1].unflatten(results[n_carries:])


def fori_loop(lower: Any, upper: Any, body: Callable[[Any, Any], Any], init: Any) -> Any:
    """The carry after ``carry = body(i, carry)`` for i from ``lower`` up to ``upper`` - 1.

    lower, upper: plain or traced numbers; in a batch each sample may have its own. init: as for
    `scan`. On a tape it is one instruction, whatever the number of steps, and has all orders of
    derivatives in the carry and in what the body closes over; i is a real number without one.

    Raises StructureError where the carry changes its structure or shapes.

    >>> tpf.fori_loop(0, 5, lambda i, c: c + i, 0.0)
    10.0
    >>> tpf.grad(lambda x: tpf.fori_loop(0, 3, lambda i, c: c * x, 1.0))(2.0)
    12.0
    """
    place = user_place()
    leaves, treedef, _ = flatten_args((init,))
    own = [traced_leaf(leaf) for leaf in leaves]

    def step(index: Any, *carry: Any) -> Any:
        return body(index + lower, *carry)

    step.__name__ = getattr(body, "__name__", "body")
    both = optree.tree_structure((0.0, init), none_is_leaf=False)
    tape, captures = traced_body(step, both, [Leaf(None), *own], ["i", *_carry_names(leaves)])
    carry = Structure(treedef.children()[0], tuple(own))
    returned = tape.output_structure
    check_carry("fori_loop", carry, returned.treedef, returned.leaves, str(place))
    n = len(leaves)
    reads = (("index", 0), *places("carry", n), *places("const", len(captures)))
    counted = is_traced(lower) or is_traced(upper)
    for bound in (lower, upper):
        if not is_traced(bound) and not isinstance(bound, NUMBERS):
            raise TypeError(f"fori_loop counts from number to number, not {bound!r} ({place})")
    phase = Phase(tape, reads, n, (), tuple(range(n)))
    loop = Loop("fori_loop", (phase,), sizes(captures), counted=counted)
    if counted:
        count = as_number(upper, "upper", str(place)) - as_number(lower, "lower", str(place))
        count = elementwise(BY_NAME["max"], (elementwise(BY_NAME["ceil"], (count,)), 0.0))
        results = run_rule(loop, (-1,), [count, *captures, *leaves], own)
    else:
        number = float(upper) - float(lower)
        if number == np.inf:
            raise ValueError(f"fori_loop would never end ({place}): give it an upper bound")
        count = int(np.ceil(number)) if number > 0.0 else 0
        results = run_rule(loop, (count,), [*captures, *leaves], own)
    return carry.unflatten(results)


def while_loop(cond: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
    """The carry after ``while cond(carry): carry = body(carry)``.

    init: as for `scan`; cond gives one number or truth value. In a batch each sample takes its own
    number of steps, and those that have ended cost nothing more. On a tape it is one instruction,
    and it has all orders of derivatives, in reverse too.

    Raises StructureError where the carry changes its structure or shapes, or where cond gives no
    single number.

    >>> root = lambda a: tpf.while_loop(
    ...     lambda x: abs(x * x - a) > 1e-12, lambda x: 0.5 * (x + a / x), a)
    >>> root(2.0).__round__(6), tpf.grad(root)(4.0).__round__(6)
    (1.414214, 0.25)
    """
    place = user_place()
    leaves, treedef, _ = flatten_args((init,))
    own = [traced_leaf(leaf) for leaf in leaves]
    names = _carry_names(leaves)
    start, started = traced_body(cond, treedef, own, names)
    if start.output_structure.size != 1:
        raise StructureError(
            f"the condition of while_loop gives {start.output_structure.size} numbers ({place}): "
            "return one truth value, as np.any or np.all do"
        )

    def step(carry: Any) -> Any:
        following = body(carry)
        # Before the condition sees it: the error should name the body.
        given, found, _ = flatten_args((following,))
        check_carry("while_loop", carries, found.children()[0], given, str(place))
        return following, cond(following)

    carries = Structure(treedef.children()[0], tuple(own))
    step.__name__ = getattr(body, "__name__", "body")
    tape, captured = traced_body(step, treedef, own, names)
    n = len(leaves)
    captures: dict[Any, Any] = {identity(value): value for value in captured}
    captures |= {identity(value): value for value in started}
    order = list(captures)

    def consts(values: Sequence[Any]) -> tuple[Place, ...]:
        return tuple(("const", order.index(identity(value))) for value in values)

    phase = Phase(
        tape,
        (*places("carry", n), *consts(captured)),
        n,
        (("go", 0),),
        tuple(range(n)),
    )
    loop = Loop(
        "while_loop",
        (phase,),
        sizes(list(captures.values())),
        start=start,
        start_reads=(*places("carry", n), *consts(started)),
    )
    results = run_rule(loop, (-1,), [*captures.values(), *leaves], [Leaf(None), *own])
    return carries.unflatten(results[1:])


def cond(
    pred: Any, true_fun: Callable[..., Any], false_fun: Callable[..., Any], *operands: Any
) -> Any:
    """``true_fun(*operands) if pred else false_fun(*operands)``, where pred is computed.

    Only the function that is chosen runs, in a batch for each sample its own: a NaN of the other
    never shows, in no derivative either. On a tape it is one instruction. The functions return
    results of one structure and the same shapes; what they close over is passed along.

    Raises StructureError where the results differ in structure or shapes.

    >>> f = lambda x: tpf.cond(x > 0.0, lambda x: np.log(x), lambda x: x, x)
    >>> tpf.vmap(tpf.grad(f))(np.array([2.0, -1.0]))
    array([0.5, 1. ])
    """
    index = elementwise(BY_NAME["not_equal"], (pred, 0.0)) if is_traced(pred) else bool(pred)
    return _switch("cond", index, (false_fun, true_fun), operands)


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)``, where the index is computed; otherwise as `cond`.

    An index is cut to an integer, and to the branches that there are.

    >>> f = lambda i, x: tpf.switch(i, [np.sin, np.cos, np.exp], x)
    >>> tpf.vmap(f)(np.array([0.0, 1.0, 2.0, 9.0]), np.zeros(4))
    array([0., 1., 1., 1.])
    """
    if not branches:
        raise ValueError(f"switch was given no branches ({user_place()}): give one at least")
    if not is_traced(index):
        number = min(float(index), len(branches) - 1.0)
        # As where it is computed, what is not above zero is the first: NaN too.
        index = int(number) if number > 0.0 else 0
    return _switch("switch", index, branches, operands)


def _switch(
    name: str, index: Any, branches: Sequence[Callable[..., Any]], operands: tuple[Any, ...]
) -> Any:
    place = user_place()
    for branch in branches:
        if not callable(branch):
            raise TypeError(
                f"a branch of {name} is {branch!r} ({place}): give a function, as in lambda: 1.0"
            )
    if not is_traced(index):
        # It is known now, and no instruction.
        return branches[int(index)](*operands)
    index = as_number(index, "the index", str(place))
    leaves, treedef, _ = flatten_args(operands)
    own = [traced_leaf(leaf) for leaf in leaves]
    values: dict[Any, Any] = {k: leaf for k, leaf in enumerate(leaves)}
    tapes, reads = [], []
    for branch in branches:
        tape, captures = traced_body(branch, treedef, own)
        tapes.append(tape)
        values |= {identity(value): value for value in captures}
        reads.append([*range(len(leaves)), *map(identity, captures)])
    first = tapes[0].output_structure
    for k, tape in enumerate(tapes):
        structure = tape.output_structure
        if structure.treedef != first.treedef or shapes(structure.leaves) != shapes(first.leaves):
            raise StructureError(
                f"the branches of {name} return {shown(first.treedef, first.leaves)} and "
                f"{shown(structure.treedef, structure.leaves)} ({place}): "
                f"let branch {k} return what the first does"
            )
    order = list(values)
    rule = Switch(
        name,
        tuple(tapes),
        sizes(list(values.values())),
        tuple(tuple(order.index(key) for key in own_reads) for own_reads in reads),
    )
    results = run_rule(rule, (len(tapes),), [index, *values.values()], list(first.leaves))
    return first.unflatten(results)


def _carry_names(leaves: Sequence[Any]) -> list[str]:
    return ["carry"] if len(leaves) == 1 else [f"carry{k}" for k in range(len(leaves))]


def _entry(leaf: Any) -> Leaf:
    """What is one entry of an array along its first axis."""
    shape = traced_leaf(leaf).shape
    assert shape
    return Leaf(shape[1:] or None)


def _steps(xs: Sequence[Any], length: int | None, place: str) -> int:
    if length is not None and (not isinstance(length, (int, np.integer)) or length < 0):
        raise ValueError(f"length must be a whole number from 0 up, not {length!r} ({place})")
    lengths = set() if length is None else {int(length)}
    for x in xs:
        shape = traced_leaf(x).shape
        if not shape:
            raise StructureError(f"scan goes over arrays, not over a number ({place})")
        lengths.add(shape[0])
    if len(lengths) != 1:
        what = f"lengths {sorted(lengths)}" if lengths else "neither xs nor a length"
        raise StructureError(f"scan was given {what} ({place}): give one length")
    return lengths.pop()
