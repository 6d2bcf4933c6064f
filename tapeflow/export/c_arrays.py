"""Ops on whole arrays as C: a call of a function below, or loops. See `arrays` for what they mean.

Sums have the same tree as in the library, so they have the same bits.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

_TEXT = (Path(__file__).parent / "arrays.c").read_text()

FUNCTIONS = {
    re.search(r"tape_(\w+)\(", text)[1]: text + "\n"  # type: ignore[index]
    for text in _TEXT.rstrip("\n").split("\n\n")[1:]
}
"""The functions of arrays.c, each after those that it calls."""


def called(name: str) -> Iterator[str]:
    """The functions that one calls."""
    body = FUNCTIONS[name].partition("{")[2]
    return (other for other in FUNCTIONS if f"tape_{other}(" in body)


class Needs(Protocol):
    """What a call needs besides itself; each gives the C text for it."""

    def function(self, name: str) -> str: ...
    def table(self, values: Sequence[int]) -> str: ...
    def room(self, n: int) -> str: ...
    def op(self, name: str) -> str: ...


Lines = list[str]


def _of_axis(name: str, *more: Any) -> Callable[..., Lines]:
    def call(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
        arguments = ", ".join(map(str, [r, a, *p, *more]))
        return [f"{needs.function(name)}({arguments});"]

    return call


def _places(p: Sequence[int], body: str) -> Lines:
    """Loops over a view's numbers; ``body`` takes their place in the run."""
    n_axes = (len(p) - 2) // 2
    shape, strides = p[2 : 2 + n_axes], p[2 + n_axes :]
    axes = [(k, n, s) for k, (n, s) in enumerate(zip(shape, strides, strict=True)) if n != 1]
    place = " + ".join([f"{p[1]}L", *(f"i{k} * {s}L" for k, _, s in axes)])
    counters = "".join(f"long i{k}; " for k, _, _ in axes)
    loops = "".join(f"for (i{k} = 0; i{k} < {n}; i{k}++) " for k, n, _ in axes)
    return [f"{{ {counters}size_t n = 0; {loops}{body.format(place)} }}"]


def _view(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
    return _places(p, f"({r})[n++] = ({a})[{{}}];")


def _unview(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
    clear = f"{{ size_t i; for (i = 0; i < {p[0]}; i++) ({r})[i] = 0.0; }}"
    return [clear, *_places(p, f"({r})[{{}}] += ({a})[n++];")]


def _take(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
    count, table = len(p) - 1, needs.table(p[1:])
    return [
        f"{{ size_t i; for (i = 0; i < {count}; i++)",
        f"    ({r})[i] = {table}[i] < 0 ? 0.0 : ({a})[{table}[i]]; }}",
    ]


def _put(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
    count, table = len(p) - 1, needs.table(p[1:])
    return [
        f"{{ size_t i; for (i = 0; i < {p[0]}; i++) ({r})[i] = 0.0;",
        f"    for (i = 0; i < {count}; i++) if ({table}[i] >= 0) ({r})[{table}[i]] += ({a})[i]; }}",
    ]


def _copy(r: str, a: str, n: int) -> str:
    return f"memcpy({r}, {a}, {n} * sizeof(double));"


def _concat(needs: Needs, p: Sequence[int], r: str, *operands: str) -> Lines:
    found, first = [], 0
    for n, a in zip(p, operands, strict=True):
        if n:
            found.append(_copy(f"{r} + {first}", a, n))
        first += n
    return found


def _log_of_sum(needs: Needs, p: Sequence[int], r: str, a: str, v: str) -> Lines:
    return [_copy(r, v, p[0] * p[2])]


def _argsort(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
    return _of_axis("argsort", needs.room(p[1]))(needs, p, r, a)


def _plain(name: str) -> Callable[..., Lines]:
    def call(needs: Needs, p: Sequence[int], r: str, *operands: str) -> Lines:
        return [f"{needs.function(name)}({', '.join(map(str, [r, *operands, *p]))});"]

    return call


def _searchsorted(needs: Needs, p: Sequence[int], r: str, a: str, x: str) -> Lines:
    return [f"{needs.function('searchsorted')}({r}, {a}, {p[0]}, {x}, {p[1]}, {p[2]});"]


def _solve(needs: Needs, p: Sequence[int], r: str, a: str, b: str) -> Lines:
    batch, n, columns, turned = p
    room = needs.room(n * n + n)
    return [f"{needs.function('solve')}({r}, {a}, {b}, {batch}, {n}, {columns}, {turned}, {room});"]


def _absolute(solve: Callable[..., Lines]) -> Callable[..., Lines]:
    """With the solution zero for each column of zeros."""

    def call(needs: Needs, p: Sequence[int], r: str, a: str, b: str) -> Lines:
        clear = f"{needs.function('clear_columns')}({r}, {b}, {p[0]}, {p[1]}, {p[2]});"
        return [*solve(needs, p, r, a, b), clear]

    return call


def _inv(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
    return _solve(needs, (p[0], p[1], p[1], 0), r, a, "NULL")


def _det(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
    return [f"{needs.function('det')}({r}, {a}, {p[0]}, {p[1]}, {needs.room(p[1] ** 2 + p[1])});"]


def _cofactors(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
    # Determinants of minors, also of a singular matrix.
    room = needs.room(2 * (p[1] - 1) ** 2 + p[1])
    return [f"{needs.function('cofactors')}({r}, {a}, {p[0]}, {p[1]}, {room});"]


def _slogdet(needs: Needs, p: Sequence[int], r: str, a: str) -> Lines:
    room, log = needs.room(p[1] ** 2 + p[1]), needs.op("log")
    return [f"{needs.function('slogdet')}({r}, {a}, {p[0]}, {p[1]}, {log}, {room});"]


ARRAYS: dict[str, Callable[..., Lines]] = {
    "view": _view,
    "unview": _unview,
    "take": _take,
    "put": _put,
    "concat": _concat,
    "take_at": _plain("take_at"),
    "put_at": _plain("put_at"),
    "sum": _of_axis("sum"),
    "amax": _of_axis("extreme", "1.0", 0),
    "amin": _of_axis("extreme", "-1.0", 0),
    "argmax": _of_axis("extreme", "1.0", 1),
    "argmin": _of_axis("extreme", "-1.0", 1),
    "cumsum": _of_axis("cumsum"),
    "argsort": _argsort,
    "searchsorted": _searchsorted,
    "log_of_sum": _log_of_sum,
    "matmul": _plain("matmul"),
    "azmatmul": _plain("azmatmul"),
    "cholesky": _plain("cholesky"),
    "triangular_solve": _plain("triangular_solve"),
    "aztriangular_solve": _absolute(_plain("triangular_solve")),
    "solve": _solve,
    "azsolve": _absolute(_solve),
    "inv": _inv,
    "det": _det,
    "slogdet": _slogdet,
    "cofactors": _cofactors,
}
"""The ops that can be exported, by name: each gives the lines of a call."""
