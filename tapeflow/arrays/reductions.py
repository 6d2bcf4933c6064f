"""Reducing and scanning along one axis, and finding places.

Parameters: how many groups there are outside the axis, its length, and how many numbers inside.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.arrays.base import (
    Array,
    ArrayRule,
    Parameters,
    Reach,
    Sizes,
    Value,
    ZeroRule,
    array_rule,
    call,
    require,
)
from tapeflow.rules import azmul


def _axis(p: Parameters) -> tuple[int, int, int]:
    require(len(p) >= 3, all(n >= 0 for n in p))
    return int(p[0]), int(p[1]), int(p[2])


def _folded(p: Parameters, x: Array) -> Array:
    outer, n, inner = _axis(p)
    return x.reshape(outer, n, inner, x.shape[1])


class _Reduction(ArrayRule):
    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        outer, n, inner = _axis(p)
        require(len(p) == 3)
        return (outer * n * inner,), outer * inner

    @classmethod
    def shape(cls, p: Parameters) -> tuple[int, ...]:
        outer, _, inner = _axis(p)
        return tuple(n for n in (outer, inner) if n != 1)

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        return [_along(p)]


def _along(p: Parameters) -> Reach:
    """Each result depends on the numbers along the axis."""
    outer, n, inner = _axis(p)
    groups = np.arange(outer * inner).reshape(outer, 1, inner)
    return Reach(
        0, np.broadcast_to(groups, (outer, n, inner)).reshape(-1), np.arange(outer * inner)
    )


def pairwise_sum(x: Array) -> Array:
    """The sum over axis 1 in a fixed tree, the same for any layout and number of lanes.

    Eight running sums take the terms in turn in blocks of 128; sums of blocks are added pairwise.
    """
    n = x.shape[1]
    if n == 0:
        return np.zeros((x.shape[0], *x.shape[2:]))
    blocks = []
    for first in range(0, n, _BLOCK):
        block = x[:, first : first + _BLOCK]
        parts = [block[:, k] for k in range(min(8, block.shape[1]))]
        for k in range(8, block.shape[1]):
            parts[k % 8] = parts[k % 8] + block[:, k]
        blocks.append(_tree(parts))
    return _tree(blocks)


_BLOCK = 128


def _tree(parts: list[Any]) -> Any:
    while len(parts) > 1:
        odd = parts[len(parts) // 2 * 2 :]
        parts = [a + b for a, b in zip(parts[0::2], parts[1::2], strict=False)] + odd
    return parts[0]


@array_rule
class Sum(_Reduction):
    """The sum along the axis."""

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        return pairwise_sum(_folded(p, operands[0])).reshape(-1, operands[0].shape[1])

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        outer, n, inner = _axis(p)
        spread = np.broadcast_to(flowing.reshape(outer, 1, inner), (outer, n, inner))
        return (spread.reshape(-1),)


class _Chosen(_Reduction):
    """A reduction to one of the numbers along the axis: there must be one."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        runs, size = _Reduction.sizes(p)
        require(size == 0 or p[1] > 0)
        return runs, size


class _Extreme(_Chosen):
    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        # Equal extremes share the gradient (the subgradient of least norm); NaN reaches all.
        outer, n, inner = _axis(p)
        x, v = operands[0].reshape(outer, n, inner), result.reshape(outer, 1, inner)
        # The sign of a NaN is NaN, and steps: which are chosen changes by no derivative.
        chosen = np.where(np.isnan(v), np.sign(v), x == v)
        share = chosen / np.sum(chosen, axis=1, keepdims=True)
        return (azmul(flowing.reshape(outer, 1, inner), share).reshape(-1),)


@array_rule
class Amax(_Extreme):
    """The largest along the axis, which has one number at least; NaN if one is."""

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        return _folded(p, operands[0]).max(axis=1).reshape(-1, operands[0].shape[1])


@array_rule
class Amin(_Extreme):
    """The smallest along the axis, which has one number at least; NaN if one is."""

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        return _folded(p, operands[0]).min(axis=1).reshape(-1, operands[0].shape[1])


@array_rule
class Log_Of_Sum(ArrayRule):
    """The second operand, which is log(sum(exp(x))) of the first along the axis: its gradient."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        outer, n, inner = _axis(p)
        require(len(p) == 3)
        return (outer * n * inner, outer * inner), outer * inner

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        return [_along(p)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        return operands[1]

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        outer, n, inner = _axis(p)
        x, v = operands[0].reshape(outer, n, inner), result.reshape(outer, 1, inner)
        return azmul(flowing.reshape(outer, 1, inner), np.exp(x - v)).reshape(-1), None


@array_rule
class Cumsum(ArrayRule):
    """Running sums along the axis; with a fourth parameter of 1, from its end."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        outer, n, inner = _axis(p)
        require(len(p) == 4 and p[3] in (0, 1))
        return (outer * n * inner,), outer * n * inner

    @classmethod
    def reaches(cls, p: Parameters) -> Sequence[Reach]:
        outer, n, inner = _axis(p)
        groups = np.arange(outer * n * inner).reshape(outer, n, inner)
        own = (groups[:, ::-1] if p[3] else groups).reshape(-1)
        return [Reach(0, own, own, inner, n * inner)]

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        x = _folded(p, operands[0])
        x = x[:, ::-1] if p[3] else x
        y = np.cumsum(x, axis=1)
        return (y[:, ::-1] if p[3] else y).reshape(operands[0].shape)

    @staticmethod
    def pull(
        p: Parameters, operands: Sequence[Value], result: Value, flowing: Value
    ) -> Sequence[Value | None]:
        return (call("cumsum", (*p[:3], 1 - p[3]), flowing),)


@array_rule
class Argmax(ZeroRule, _Chosen):
    """The place of the first largest along the axis, or of the first NaN."""

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        x = _folded(p, operands[0])
        return x.argmax(axis=1).astype(float).reshape(-1, operands[0].shape[1])


@array_rule
class Argmin(ZeroRule, _Chosen):
    """The place of the first smallest along the axis, or of the first NaN."""

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        x = _folded(p, operands[0])
        return x.argmin(axis=1).astype(float).reshape(-1, operands[0].shape[1])


@array_rule
class Argsort(ZeroRule):
    """The places in ascending order along the axis; equal numbers stay in order, NaNs go last."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        outer, n, inner = _axis(p)
        require(len(p) == 3)
        return (outer * n * inner,), outer * n * inner

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        order = np.argsort(_folded(p, operands[0]), axis=1, kind="stable")
        return order.astype(float).reshape(operands[0].shape)


@array_rule
class Searchsorted(ZeroRule):
    """Where numbers go in a sorted run. Parameters: its length, how many, 1 for the right side."""

    @staticmethod
    def sizes(p: Parameters) -> Sizes:
        require(len(p) == 3 and p[0] >= 0 and p[1] >= 0 and p[2] in (0, 1))
        return (int(p[0]), int(p[1])), int(p[1])

    @staticmethod
    def forward(p: Parameters, *operands: Array) -> Array:
        table, x = operands
        side: Any = "right" if p[2] else "left"
        columns = [np.searchsorted(t, v, side) for t, v in zip(table.T, x.T, strict=True)]
        return np.array(columns, float).reshape(x.shape[1], x.shape[0]).T
