"""Structures of arguments and results as JSON, and back.

A number is ``"number"``, an array ``{"array": shape}``, None is null; containers name their kind
and list their parts. There are tuples, lists, dicts, ordered dicts, deques, and default dicts of a
built-in kind. Named tuples are written by name, and read with the classes that the caller supplies:
nothing is looked up or imported by what a file says.
"""

import collections
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import optree

from tapeflow.errors import TapeError
from tapeflow.files import checks
from tapeflow.structure import Leaf, Structure, flatten

DEPTH = 64
"""How deep containers may lie in each other."""

_FACTORIES = {"float": float, "int": int, "list": list, "dict": dict, "tuple": tuple, "none": None}
"""What a default dict may make of a missing key."""


def encoded(structure: Structure, types: dict[str, type]) -> Any:
    """A structure as JSON. Adds the classes of named tuples to ``types``, by their names.

    Raises TapeError for what the format cannot hold: keys of other kinds, registered classes.
    """
    leaves = iter(structure.leaves)
    return _encoded(structure.treedef, leaves, types, 0)


def _encoded(
    treedef: optree.PyTreeSpec, leaves: Iterator[Leaf], types: dict[str, type], depth: int
) -> Any:
    kind = treedef.type
    if depth > DEPTH:
        raise TapeError(f"a structure of more than {DEPTH} containers in each other: flatten it")
    if kind is None or kind is type(None):
        if treedef.is_leaf():
            shape = next(leaves).shape
            return "number" if shape is None else {"array": list(shape)}
        return None
    children = [_encoded(child, leaves, types, depth + 1) for child in treedef.children()]
    if kind in (tuple, list):
        return {kind.__name__: children}
    if kind is dict:
        # The order of its keys is not that of its leaves, which go by the sorted keys.
        entries = dict(zip(treedef.entries(), children, strict=True))
        order = treedef.unflatten([0] * treedef.num_leaves)
        return {"dict": [[_key(key), entries[key]] for key in order]}
    if kind is collections.OrderedDict:
        pairs = zip(treedef.entries(), children, strict=True)
        return {"ordered_dict": [[_key(key), child] for key, child in pairs]}
    if kind is collections.defaultdict:
        entries = dict(zip(treedef.entries(), children, strict=True))
        order = treedef.unflatten([0] * treedef.num_leaves)
        return {
            "default_dict": [[_key(key), entries[key]] for key in order],
            "factory": _factory_name(order.default_factory),
        }
    if kind is collections.deque:
        maxlen = treedef.unflatten([0] * treedef.num_leaves).maxlen
        return {"deque": children, "maxlen": maxlen}
    if optree.is_namedtuple_class(kind):
        name = kind.__name__
        cls: Any = kind
        if types.setdefault(name, kind) is not kind:
            raise TapeError(f"two classes of named tuples have the name {name}: rename one")
        return {"named_tuple": children, "name": name, "fields": list(cls._fields)}
    raise TapeError(
        f"a tape with a {kind.__name__} among its arguments or results cannot be saved: "
        "use tuples, lists, dicts and named tuples"
    )


def _factory_name(factory: Any) -> str:
    for name, known in _FACTORIES.items():
        if factory is known:
            return name
    raise TapeError(
        f"a default dict of {factory!r} cannot be saved: use a dict, or one of "
        f"{', '.join(_FACTORIES)}"
    )


def _key(key: Any) -> Any:
    """A dict's key as JSON."""
    if key is None or type(key) in (str, int, bool):
        return key
    if type(key) is float:
        return {"float": key.hex()}
    if type(key) is tuple:
        return {"tuple": [_key(part) for part in key]}
    raise TapeError(f"a dict's key {key!r} cannot be saved: use texts, numbers, or tuples of them")


def decoded(given: Any, types: Mapping[str, type], what: str) -> Structure:
    """The structure that JSON describes, with these classes of named tuples."""
    leaves: list[Leaf] = []
    tree = _decoded(given, leaves, types, what, 0)
    # The numbers stand for the leaves in the order of the file: that of optree may be another.
    places, treedef = flatten(tree)
    return Structure(treedef, tuple(leaves[place] for place in places))


def _decoded(
    given: Any, leaves: list[Leaf], types: Mapping[str, type], what: str, depth: int
) -> Any:
    def children(of: Any) -> list[Any]:
        return [
            _decoded(child, leaves, types, what, depth + 1)
            for child in checks.of(list, of, f"a part of {what}")
        ]

    def pairs(of: Any) -> list[tuple[Any, Any]]:
        found = []
        for pair in checks.of(list, of, f"a part of {what}"):
            if len(checks.of(list, pair, f"an entry of {what}")) != 2:
                raise TapeError(f"an entry of {what} is no pair of a key and a value")
            key = _decoded_key(pair[0], what, depth + 1)
            found.append((key, _decoded(pair[1], leaves, types, what, depth + 1)))
        if len({key for key, _ in found}) != len(found):
            raise TapeError(f"a key stands twice in {what}")
        return found

    if given is None:
        return None
    if depth > DEPTH:
        raise TapeError(f"{what} has more than {DEPTH} containers in each other")
    if given == "number" or (type(given) is dict and given.keys() == {"array"}):
        leaves.append(Leaf(None if given == "number" else _shape(given["array"], what)))
        return len(leaves) - 1
    checks.of(dict, given, f"a part of {what}")
    make: dict[frozenset[str], Callable[[], Any]] = {
        frozenset(["tuple"]): lambda: tuple(children(given["tuple"])),
        frozenset(["list"]): lambda: children(given["list"]),
        frozenset(["dict"]): lambda: dict(pairs(given["dict"])),
        frozenset(["ordered_dict"]): lambda: collections.OrderedDict(pairs(given["ordered_dict"])),
        frozenset(["default_dict", "factory"]): lambda: collections.defaultdict(
            _factory(given["factory"]), pairs(given["default_dict"])
        ),
        frozenset(["deque", "maxlen"]): lambda: _deque(
            children(given["deque"]), given["maxlen"], what
        ),
        frozenset(["named_tuple", "name", "fields"]): lambda: _named_tuple(
            given, children(given["named_tuple"]), types, what
        ),
    }
    known = make.get(frozenset(given))
    if known is None:
        raise TapeError(f"{what} has a part of an unknown kind: {sorted(given)[:3]}")
    return known()


def _shape(given: Any, what: str) -> tuple[int, ...]:
    shape = tuple(
        checks.count(n, f"a length in {what}") for n in checks.of(list, given, f"a shape in {what}")
    )
    if len(shape) > 32 or math.prod(n for n in shape if n) > 2**31 - 1:
        raise TapeError(f"{what} has an array that is too large: {list(shape[:32])}")
    return shape


def _factory(name: Any) -> Any:
    if type(name) is not str or name not in _FACTORIES:
        raise TapeError(f"a default dict of {name!r} is not one of {', '.join(_FACTORIES)}")
    return _FACTORIES[name]


def _deque(parts: list[Any], maxlen: Any, what: str) -> Any:
    if maxlen is not None and checks.count(maxlen, f"a deque's length in {what}") < len(parts):
        raise TapeError(f"{what} has a deque that is longer than it may be")
    return collections.deque(parts, maxlen)


def _named_tuple(
    given: dict[str, Any], parts: list[Any], types: Mapping[str, type], what: str
) -> Any:
    name = checks.text(given["name"], f"a named tuple of {what}")
    fields = [
        checks.text(field, f"a field of {name}")
        for field in checks.of(list, given["fields"], f"the fields of {name}")
    ]
    if name not in types:
        raise TapeError(
            f"{what} has a named tuple {name}({', '.join(fields)}), whose class a file does not "
            f"hold: pass it, as in tpf.load(path, types={{{name!r}: {name}}})"
        )
    cls: Any = types[name]
    if not optree.is_namedtuple_class(cls) or list(cls._fields) != fields:
        raise TapeError(f"types[{name!r}] is not a named tuple of {', '.join(fields)}")
    if len(parts) != len(fields):
        raise TapeError(f"{what} has {len(parts)} parts for the {len(fields)} fields of {name}")
    return cls(*parts)


def _decoded_key(given: Any, what: str, depth: int) -> Any:
    if depth > DEPTH:
        raise TapeError(f"{what} has a key of more than {DEPTH} tuples in each other")
    if type(given) is str:
        return checks.text(given, f"a key of {what}")
    if given is None or type(given) in (int, bool):
        return given
    if type(given) is dict and given.keys() == {"float"}:
        try:
            return float.fromhex(checks.of(str, given["float"], f"a key of {what}"))
        except (ValueError, OverflowError):
            raise TapeError(f"a key of {what} is not a number") from None
    if type(given) is dict and given.keys() == {"tuple"}:
        parts = checks.of(list, given["tuple"], f"a key of {what}")
        return tuple(_decoded_key(part, what, depth + 1) for part in parts)
    raise TapeError(f"{what} has a key of an unknown kind")
