"""Gates of a page that the library has computed: values and local derivatives at one point.

What SciPy, LAPACK or Python code computes has no text that could be written in JavaScript, and a
loop of very many steps has too many gates. Such an instruction is a gate for each of its numbers,
whose value and partials are constants.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.engine.evaluate import backward, forward
from tapeflow.graphs.javascript import Script, arrows
from tapeflow.ops import FIRST_GATE, Op
from tapeflow.recorder import Recorder
from tapeflow.structure import Floats, Leaf, Structure, flatten
from tapeflow.tape import Location


def rule_of(op: Op) -> Callable[..., Any]:
    """What computes an op's value and partials; a gate in Python is run as it is, both ways."""
    if op.python is None:
        return op.rule
    prototype = op.python.prototype

    def run(*operands: Any) -> Any:
        gate = copy.copy(prototype)
        value = gate.forward(*operands)
        return value, tuple(gate.backward(1.0))

    return run


@functools.cache
def in_javascript(op: Op) -> bool:
    """Whether an op on numbers can be written as JavaScript."""
    try:
        arrows(Script(), [("0", rule_of(op), op.arity)])
    except Exception:  # a rule of the user's own may do anything
        return False
    return True


def gates_at(
    op: Op, parameters: Sequence[int], operands: Sequence[Floats], size: int, place: Location
) -> list[Op]:
    """A gate for each number that an instruction makes, from all the numbers that it reads."""
    x = np.concatenate([np.empty(0), *operands])
    values, partials = (
        _number(op, x) if op.array is None else _run(op, parameters, operands, size, place)
    )
    names = [op.name] if size == 1 else [f"{op.name}[{k}]" for k in range(size)]
    return [
        _gate(op, *made) for made in zip(names, values.tolist(), partials.tolist(), strict=True)
    ]


def _gate(op: Op, name: str, value: float, partials: list[float]) -> Op:
    def rule(*operands: Any) -> Any:
        return value, tuple(partials)

    still = op.zero_derivative or not any(partials)
    return Op(
        FIRST_GATE,
        name,
        len(partials),
        rule,
        name,
        name,
        zero_derivative=still,
        drawn=op.drawn or op.name,
    )


def _number(op: Op, x: Floats) -> tuple[Floats, Floats]:
    with np.errstate(all="ignore"):
        value, partials = rule_of(op)(*x)
    return np.array([value], np.float64), np.array([partials], np.float64)


def _run(
    op: Op, parameters: Sequence[int], operands: Sequence[Floats], size: int, place: Location
) -> tuple[Floats, Floats]:
    """The values, and each one's derivatives, by a tape of this instruction alone."""
    ends = np.cumsum([0, *map(len, operands)])
    n = int(ends[-1])
    treedef = flatten(0.0)[1]
    recorder = Recorder(n)
    with recorder:
        recorder.location = recorder.source(place)
        slot = recorder.append(op, ends[:-1].tolist(), parameters, size)
    tape = recorder.finish(
        op.name,
        np.arange(slot, slot + size),
        Structure(flatten((0.0,))[1], (Leaf((n,)),)),
        Structure(treedef, (Leaf((size,)),)),
        ("x",),
    )
    x = np.concatenate([np.empty(0), *operands])
    values = forward(tape, x)
    if op.zero_derivative:
        return values, np.zeros((size, n))
    return values, np.array([backward(tape, seed) for seed in np.eye(size)]).reshape(size, n)
