"""The tapes of a Python function: one for each structure of arguments, recorded when first met.

A tape holds what the function computed when it was recorded. So that it is never replayed after
the world around the function has changed, the variables that the function closes over and the
globals it names are looked at before each replay: if one is bound to another object, the function
is recorded again. (What is changed in place cannot be seen: pass it as an argument.)
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NoReturn

import numpy as np
import optree

from tapeflow.branches.paths import Path, Tree
from tapeflow.engine.outcomes import refuse
from tapeflow.structure import Leaf, Structure, flatten, is_number, leaf_of
from tapeflow.tape import Tape
from tapeflow.trace import numbers_of, trace
from tapeflow.tracers import TracedArray, Tracer, is_traced, lift

Key = tuple[Any, ...]


class Recorded:
    """A function with the tapes recorded from it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if not callable(function):
            raise TypeError(f"expected a function to record, not a {type(function).__name__}")
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self._trees: dict[Key, Tree] = {}
        self.environment: list[tuple[Any, Any, Any]] = []
        self._lock = threading.RLock()

    def is_current(self) -> bool:
        """Whether the variables around the function are bound as they were when it was recorded."""
        for scope, name, value in self.environment:
            if (scope.get(name) if name is not None else _cell(scope)) is not value:
                return False
        return True

    def tree(self, leaves: Sequence[Any], treedef: optree.PyTreeSpec) -> Tree:
        """The tapes for arguments (a tuple of them, flattened) that are numbers and arrays.

        Raises StructureError for other arguments, and what the function itself raises.
        """
        with self._lock:
            if not self.is_current():
                self._trees.clear()
            key = (treedef, *map(traced_leaf, leaves))
            tree = self._trees.get(key)
            if tree is None:
                # Looked at first, so that a change while the function runs is noticed.
                self.environment = list(_environment(self.function))
                tape, captures = self.trace(leaves, treedef)

                def record(leaves: Sequence[Any], outcomes: Sequence[float]) -> Tape:
                    return self.trace(leaves, treedef, outcomes)[0]

                tree = Tree(self.name, record, tape, bool(captures))
                if not captures:
                    # A value of an enclosing recording belongs to that recording alone.
                    self._trees[key] = tree
            return tree

    def tape(self, leaves: Sequence[Any], treedef: optree.PyTreeSpec) -> Tape:
        """The tape of what the function computes at some arguments; raises as `tree`."""
        tree = self.tree(leaves, treedef)
        if tree.captures:
            return tree.last.raw
        return tree.settle(leaves).tape if tree.plain is None else tree.plain

    def settled(self, leaves: Sequence[Any], treedef: optree.PyTreeSpec) -> Tape:
        """The same without guards: for these arguments alone."""
        tree = self.tree(leaves, treedef)
        if tree.captures:
            return tree.last.raw
        return tree.settle(leaves).bare if tree.plain is None else tree.plain

    def paths(self) -> list[Path]:
        """The paths that have been recorded, as they were met."""
        return [path for tree in list(self._trees.values()) for path in tree.paths]

    def trace(
        self, leaves: Sequence[Any], treedef: optree.PyTreeSpec, forced: Sequence[float] = ()
    ) -> tuple[Tape, list[Any]]:
        """A new tape, and the values of enclosing recordings that the function closes over.

        forced: what its first guards are decided as, be the leaves as they may.
        """
        structure = Structure(treedef, tuple(traced_leaf(leaf) for leaf in leaves))
        names = self.names(leaves, treedef)
        return trace(self.function, structure, names, lambda: numbers_of(leaves, structure), forced)

    def names(self, leaves: Sequence[Any], treedef: optree.PyTreeSpec) -> list[str]:
        """A name for each leaf of the arguments, as Python would write it: ``params['w']``."""
        arguments = argument_names(self.function, treedef.num_children)
        return [
            arguments[accessor.path[0]] + accessor[1:].codify("")
            for accessor in treedef.accessors()
        ]


class Fixed(Recorded):
    """A tape in the place of a function's; where a branch would be recorded, it is refused."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(tape)
        self.name, self._only = tape.name, tape
        self._tree = Tree(tape.name, self._refuse, tape)

    def _refuse(self, leaves: Sequence[Any], outcomes: Sequence[float]) -> NoReturn:
        k = int(np.searchsorted(self._only.guards.numbers, len(outcomes) - 1))
        refuse(self._only, k, outcomes[-1])

    def is_current(self) -> bool:
        return True

    def tree(self, leaves: Sequence[Any], treedef: optree.PyTreeSpec) -> Tree:
        return self._tree


def traced_leaf(leaf: Any) -> Leaf:
    if type(leaf) is Tracer:
        return Leaf(None)
    return Leaf(leaf.shape) if isinstance(leaf, TracedArray) else leaf_of(leaf)


def flatten_args(args: tuple[Any, ...]) -> tuple[list[Any], optree.PyTreeSpec, bool]:
    """The leaves of arguments, their structure, and whether a traced value is among them.

    An array of objects that holds tracers becomes one that records.
    """
    leaves, treedef = flatten(args)
    traced = False
    for k, leaf in enumerate(leaves):
        if not is_number(leaf) and is_traced(leaf):
            traced = True
            if type(leaf) is np.ndarray:
                leaves[k] = lift(leaf)
    return leaves, treedef, traced


def argument_names(function: Callable[..., Any], n: int) -> list[str]:
    """The names of n positional arguments."""
    names: list[str] = []
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    for parameter in parameters:
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        elif parameter.kind == parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{k}]" for k in range(n - len(names))]
    return names[:n] + [f"arg{k}" for k in range(len(names), n)]


def _environment(function: Any) -> Iterator[tuple[Any, Any, Any]]:
    """What a function's result may depend on besides its arguments: (scope, name, value).

    Goes on into the functions of the same module that it names or closes over.
    """
    seen: set[int] = set()
    pending = [function]
    home = getattr(_plain(function), "__globals__", None)
    while pending:
        current = pending.pop()
        # The rules of a function with derivatives of its own.
        pending += getattr(current, "__tapeflow_uses__", ())
        current = _plain(current)
        if not isinstance(current, FunctionType) or id(current) in seen:
            continue
        seen.add(id(current))
        if current.__globals__ is not home:
            continue
        for cell in current.__closure__ or ():
            yield cell, None, _cell(cell)
            pending.append(_cell(cell))
        for name in _global_names(current.__code__):
            value = current.__globals__.get(name)
            if value is not None and not isinstance(value, ModuleType):
                yield current.__globals__, name, value
                pending.append(value)


def _plain(function: Any) -> Any:
    """The Python function in what wraps it, a method, or a partial."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif callable(getattr(function, "__wrapped__", None)):
            function = function.__wrapped__
        else:
            return function


def _global_names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _global_names(constant)
    return names


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None
