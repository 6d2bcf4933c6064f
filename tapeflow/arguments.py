"""Which arguments of a function are differentiated in."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow.errors import StructureError
from tapeflow.structure import Structure
from tapeflow.tracers import is_traced


@dataclass(frozen=True)
class Part:
    """One argument to differentiate in: its leaves, their slots, and its structure alone."""

    argument: int
    leaves: slice
    slots: slice
    structure: Structure


def argument_numbers(argnums: Any) -> tuple[tuple[int, ...], bool]:
    """Which arguments argnums chooses, and whether it is one alone; TypeError for other things."""
    several = isinstance(argnums, (tuple, list, range))
    try:
        return tuple(map(operator.index, argnums if several else (argnums,))), not several
    except TypeError:
        raise TypeError(f"argnums must be an int or several, not {argnums!r}") from None


def chosen_arguments(argnums: Any) -> tuple[tuple[int, ...], bool]:
    """As `argument_numbers`; ValueError where none is chosen."""
    chosen, single = argument_numbers(argnums)
    if not chosen:
        raise ValueError("argnums chooses no argument: give at least one number")
    return chosen, single


def parts_of(structure: Structure, argnums: Sequence[int], name: str) -> list[Part]:
    """The arguments that argnums choose; StructureError for one that is not there."""
    children = structure.treedef.children()
    firsts = np.cumsum([0, *(child.num_leaves for child in children)]).tolist()
    bounds = [first for first, _ in structure.bounds] + [structure.size]
    parts = []
    for argnum in argnums:
        check_range(argnum, len(children), name)
        argument = argnum % len(children)
        own = slice(firsts[argument], firsts[argument + 1])
        parts.append(
            Part(
                argument,
                own,
                slice(bounds[own.start], bounds[own.stop]),
                Structure(children[argument], structure.leaves[own]),
            )
        )
    return parts


def check_range(argnum: int, n: int, name: str) -> None:
    """StructureError for an argument that is not among n."""
    if not -n <= argnum < n:
        few = {0: "no arguments", 1: "one argument, which is argnums=0"}
        given = few.get(n, f"{n} arguments, numbered from 0")
        raise StructureError(f"argnums={argnum} is out of range: {name} was called with {given}")


def in_dtype_of(value: Any, leaf: Any) -> Any:
    """A derivative in the dtype of the argument that it is in, if that is a plain one."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or dtype == np.float64 or is_traced(leaf) or is_traced(value):
        return value
    return np.asarray(value, dtype) if np.ndim(value) else dtype.type(value)


def check_real(name: str, leaves: Sequence[Any]) -> None:
    """TypeError for an integer among arguments to differentiate in."""
    for leaf in leaves:
        if not np.issubdtype(getattr(leaf, "dtype", type(leaf)), np.floating):
            what = getattr(leaf, "dtype", type(leaf).__name__)
            instead = "x.astype(float)" if np.ndim(leaf) else "3.0, not 3"
            raise TypeError(
                f"cannot differentiate {name} in an integer ({what}): "
                f"pass a real number, as in {instead}"
            )
