"""Optimisers as pairs of pure functions.

``init(parameters)`` makes a state; ``update(gradients, state, parameters)`` gives new parameters
and a new state, and changes neither. Parameters, gradients and state are nested alike.

>>> optimizer = tpf.optim.adam(0.1)
>>> p = {"x": np.array([2.0])}
>>> state = optimizer.init(p)
>>> for _ in range(200):
...     p, state = optimizer.update(tpf.grad(lambda p: np.sum(p["x"] ** 2))(p), state, p)
>>> bool(abs(p["x"][0]) < 1e-3)
True
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import optree

__all__ = [
    "AdamState",
    "Optimizer",
    "SGDState",
    "adam",
    "adamw",
    "constant",
    "cosine",
    "exponential",
    "global_norm",
    "piecewise",
    "sgd",
]

Rate = float | Callable[[int], float]
"""A learning rate, or a function of the number of steps taken that gives one."""


class Optimizer(NamedTuple):
    """A pair of functions: see the module."""

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any], tuple[Any, Any]]


class SGDState(NamedTuple):
    """steps taken, and the velocity of each parameter."""

    step: int
    velocity: Any


class AdamState(NamedTuple):
    """steps taken, and running means of the gradients and of their squares."""

    step: int
    mean: Any
    square: Any


def sgd(
    rate: Rate, momentum: float = 0.0, nesterov: bool = False, clip: float | None = None
) -> Optimizer:
    """Gradient descent, with momentum (Polyak, 1964) or Nesterov's.

    rate: a number, or a function of the number of steps taken. clip: the largest norm of all
    gradients together; they are scaled down to it. Raises ValueError for a momentum that is not
    from 0 up to 1.

    >>> optimizer = tpf.optim.sgd(0.5)
    >>> optimizer.update({"x": 4.0}, optimizer.init({"x": 3.0}), {"x": 3.0})[0]
    {'x': 1.0}
    """
    _check(momentum=(momentum, 0.0, 1.0))

    def init(parameters: Any) -> SGDState:
        return SGDState(0, optree.tree_map(np.zeros_like, parameters))

    def update(gradients: Any, state: SGDState, parameters: Any) -> tuple[Any, SGDState]:
        gradients = _clipped(gradients, clip)
        speed = optree.tree_map(lambda v, g: momentum * v + g, state.velocity, gradients)
        move = speed
        if nesterov:
            move = optree.tree_map(lambda v, g: momentum * v + g, speed, gradients)
        lr = _at(rate, state.step)
        parameters = optree.tree_map(lambda p, m: _like(p, p - lr * m), parameters, move)
        return parameters, SGDState(state.step + 1, speed)

    return Optimizer(init, update)


def adam(
    rate: Rate = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    clip: float | None = None,
) -> Optimizer:
    """Adam (Kingma and Ba, 2014). rate, clip: as in `sgd`; b1, b2: how much of the means stays.

    >>> optimizer = tpf.optim.adam(0.1)
    >>> round(optimizer.update(4.0, optimizer.init(3.0), 3.0)[0], 6)
    2.9
    """
    return adamw(rate, b1, b2, eps, decay=0.0, clip=clip)


def adamw(
    rate: Rate = 1e-3,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    decay: float = 1e-2,
    clip: float | None = None,
) -> Optimizer:
    """Adam with weights that decay by ``rate * decay`` a step (Loshchilov and Hutter, 2017).

    The rest as in `adam`.

    >>> optimizer = tpf.optim.adamw(0.1, decay=0.1)
    >>> round(optimizer.update(0.0, optimizer.init(3.0), 3.0)[0], 6)
    2.97
    """
    _check(b1=(b1, 0.0, 1.0), b2=(b2, 0.0, 1.0))

    def init(parameters: Any) -> AdamState:
        zeros = optree.tree_map(np.zeros_like, parameters)
        return AdamState(0, zeros, optree.tree_map(np.zeros_like, parameters))

    def update(gradients: Any, state: AdamState, parameters: Any) -> tuple[Any, AdamState]:
        gradients = _clipped(gradients, clip)
        step = state.step + 1
        mean = optree.tree_map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, gradients)
        square = optree.tree_map(
            lambda s, g: b2 * s + (1 - b2) * np.square(g), state.square, gradients
        )
        lr = _at(rate, state.step)
        size, root = lr / (1 - b1**step), math.sqrt(1 - b2**step)

        def moved(p: Any, m: Any, s: Any) -> Any:
            return _like(p, p - size * (m / (np.sqrt(s) / root + eps)) - lr * decay * p)

        return optree.tree_map(moved, parameters, mean, square), AdamState(step, mean, square)

    return Optimizer(init, update)


def global_norm(tree: Any) -> float:
    """The Euclidean norm of all numbers of a nested structure together.

    >>> tpf.optim.global_norm({"w": np.array([3.0, 0.0]), "b": 4.0})
    5.0
    """
    return math.sqrt(sum(float(np.sum(np.square(x))) for x in optree.tree_leaves(tree)))


def constant(rate: float) -> Callable[[int], float]:
    """Always the same rate.

    >>> tpf.optim.constant(0.1)(1000)
    0.1
    """
    return lambda step: rate


def cosine(rate: float, steps: int, warmup: int = 0, end: float = 0.0) -> Callable[[int], float]:
    """Up in a straight line over ``warmup`` steps, then down to ``end`` along half a cosine.

    >>> [round(tpf.optim.cosine(1.0, 4, warmup=2)(k), 3) for k in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def at(step: int) -> float:
        if step < warmup:
            return rate * (step + 1) / warmup
        share = min(1.0, (step - warmup) / max(1, steps - warmup))
        return end + (rate - end) * 0.5 * (1.0 + math.cos(math.pi * share))

    return at


def exponential(rate: float, steps: int, factor: float) -> Callable[[int], float]:
    """Times ``factor`` every ``steps`` steps, smoothly.

    >>> tpf.optim.exponential(1.0, 100, 0.5)(200)
    0.25
    """
    return lambda step: float(rate * factor ** (step / steps))


def piecewise(rates: dict[int, float]) -> Callable[[int], float]:
    """The rate of the last key not after the step, as in ``{0: 0.1, 1000: 0.01}``.

    Raises ValueError without a rate from step 0 on.

    >>> [tpf.optim.piecewise({0: 0.1, 1000: 0.01})(step) for step in (0, 999, 1000)]
    [0.1, 0.1, 0.01]
    """
    if 0 not in rates:
        raise ValueError("piecewise needs a rate from step 0 on")
    return lambda step: rates[max(first for first in rates if first <= step)]


def _at(rate: Rate, step: int) -> float:
    return rate(step) if callable(rate) else rate


def _like(before: Any, after: Any) -> Any:
    """In the dtype, or as the Python number, that the parameter was."""
    return after.astype(before.dtype) if isinstance(before, np.ndarray) else type(before)(after)


def _clipped(gradients: Any, clip: float | None) -> Any:
    if clip is None:
        return gradients
    norm = global_norm(gradients)
    if norm <= clip:
        return gradients
    return optree.tree_map(lambda g: g * (clip / norm), gradients)


def _check(**ranges: tuple[float, float, float]) -> None:
    for name, (value, low, high) in ranges.items():
        if not low <= value < high:
            raise ValueError(f"{name} must be from {low:g} up to {high:g}, not {value}")
