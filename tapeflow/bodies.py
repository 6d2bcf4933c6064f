"""What loops and branches share: their bodies are recorded, their carries checked, and they run."""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import optree

from tapeflow.arrays import SubTapes
from tapeflow.engine.programs import sample_program
from tapeflow.errors import StructureError
from tapeflow.loops.loop import Place
from tapeflow.loops.record import record
from tapeflow.passes import simplified
from tapeflow.recorded import argument_names, traced_leaf
from tapeflow.sources import refuse
from tapeflow.structure import Leaf, Structure
from tapeflow.tape import Tape
from tapeflow.trace import trace
from tapeflow.tracers import is_traced, lift


def traced_body(
    function: Callable[..., Any],
    treedef: optree.PyTreeSpec,
    leaves: Sequence[Leaf],
    names: Sequence[str] | None = None,
) -> tuple[Tape, list[Any]]:
    """A body's tape, and the traced values that it takes from around it: inputs after its own."""
    if names is None:
        arguments = argument_names(function, treedef.num_children)
        names = [
            arguments[accessor.path[0]] + accessor[1:].codify("")
            for accessor in treedef.accessors()
        ]
    tape, captures = trace(function, Structure(treedef, tuple(leaves)), names, _no_example)
    return simplified(tape), captures


def _no_example() -> NoReturn:
    refuse(
        "decide on a traced value in what is recorded once for all steps and branches",
        "use tpf.cond, tpf.switch or tpf.where",
    )


def run_rule(
    rule: SubTapes, p: Sequence[int], operands: Sequence[Any], leaves: Sequence[Leaf]
) -> list[Any]:
    """The leaves of the instruction's result: recorded, or, if all is plain, computed."""
    if any(map(is_traced, operands)):
        return _recorded(rule, p, operands, leaves)
    treedef = optree.tree_structure(tuple(operands))
    structure = Structure(treedef, tuple(map(traced_leaf, operands)))
    names = [f"x{k}" for k in range(len(operands))]
    tape, _ = trace(lambda *values: _recorded(rule, p, values, leaves), structure, names)
    results = sample_program(tape, None).results(list(operands))
    return tape.output_structure.split(results)


def _recorded(
    rule: SubTapes, p: Sequence[int], operands: Sequence[Any], leaves: Sequence[Leaf]
) -> list[Any]:
    parts = record(rule, p, operands)
    return [
        part[0] if leaf.shape is None else part.reshape(leaf.shape)
        for part, leaf in zip(parts, leaves, strict=True)
    ]


def identity(value: Any) -> Any:
    return value.recorder, value.slot, value.size


def places(kind: str, n: int) -> tuple[Place, ...]:
    return tuple((kind, k) for k in range(n))


def sizes(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(traced_leaf(value).size for value in values)


def as_number(value: Any, what: str, place: str) -> Any:
    if not is_traced(value):
        return float(value)
    array = lift(value)
    if array.size != 1:
        raise StructureError(f"{what} is an array of shape {array.shape} ({place}): give a number")
    return array.reshape(-1)[0]


def check_carry(
    name: str, carry: Structure, treedef: optree.PyTreeSpec, leaves: Sequence[Any], place: str
) -> None:
    found = [leaf if isinstance(leaf, Leaf) else traced_leaf(leaf) for leaf in leaves]
    found = found[: treedef.num_leaves]
    if treedef != carry.treedef or shapes(found) != shapes(carry.leaves):
        _refuse_carry(name, carry, treedef, found, place)


def _refuse_carry(
    name: str, carry: Structure, treedef: optree.PyTreeSpec, found: Sequence[Leaf], place: str
) -> NoReturn:
    raise StructureError(
        f"the body of {name} is given a carry {shown(carry.treedef, carry.leaves)} and returns "
        f"{shown(treedef, found)} ({place}): a carry keeps its structure and shapes"
    )


def shapes(leaves: Sequence[Leaf]) -> list[tuple[int, ...]]:
    return [leaf.shape or () for leaf in leaves]


def shown(treedef: optree.PyTreeSpec, leaves: Sequence[Leaf]) -> str:
    """A structure with the shape of each leaf."""
    try:
        return repr(treedef.unflatten([_Shape(leaf.shape or ()) for leaf in leaves]))
    except (TypeError, ValueError):
        return f"{shapes(leaves)}"


class _Shape:
    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __repr__(self) -> str:
        return f"array{self.shape}" if self.shape else "number"
