"""Results that go with a function's value and are not differentiated, and where gradients stop."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tapeflow.errors import StructureError
from tapeflow.functions import FUNCTIONS
from tapeflow.structure import Structure, flatten
from tapeflow.tape import Tape
from tapeflow.tracers import is_traced

_stop: Callable[[Any], Any] = FUNCTIONS["stop_gradient"]


def stop_gradient(x: Any) -> Any:
    """The same value, through which no gradient flows: a constant to every derivative.

    x: a number, an array, or lists, tuples and dicts of them; the result has its structure, and
    plain numbers and arrays in it are those given. Raises StructureError for what cannot be taken
    apart.

    >>> tpf.grad(lambda x: x * tpf.stop_gradient(x))(3.0)
    3.0
    >>> tpf.stop_gradient({"a": 1.0, "b": (2, 3.0)})
    {'a': 1.0, 'b': (2, 3.0)}
    """
    leaves, treedef = flatten(x)
    return treedef.unflatten([_stop(leaf) if _records(leaf) else leaf for leaf in leaves])


def _records(leaf: Any) -> bool:
    return is_traced(leaf) or hasattr(leaf, "__tapeflow_backend__")


def with_aux(function: Callable[..., Any], stopped: bool = False) -> Callable[..., Any]:
    """The function, which raises StructureError where its result is no pair.

    stopped: no gradient flows to the second of the pair, whatever it is seeded with.
    """
    name = getattr(function, "__name__", type(function).__name__)

    @functools.wraps(function, updated=())
    def pair(*args: Any) -> Any:
        result = function(*args)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise StructureError(
                f"{name} must return a pair with has_aux=True, the value and what goes with it, "
                f"not {_kind(result)}"
            )
        value, aux = result
        return value, stop_gradient(aux) if stopped else aux

    return pair


def _kind(result: Any) -> str:
    if isinstance(result, (tuple, list)):
        return f"a {type(result).__name__} of {len(result)}"
    return "a traced value" if is_traced(result) else f"a {type(result).__name__}"


def without_aux(tape: Tape) -> Tape:
    """A tape with a pair of results, with the first of them alone."""
    made: Tape | None = tape.prepared.get("without aux")
    if made is None:
        whole = tape.output_structure
        own = whole.treedef.children()[0]
        value = Structure(own, whole.leaves[: own.num_leaves])
        made = replace(tape, outputs=tape.outputs[: value.size], output_structure=value)
        tape.prepared["without aux"] = made
    return made
