"""Training by gradients of recorded tapes: minibatches, and the linear model to convergence."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optree

import tapeflow as tpf
from tapeflow.weather.models import Params
from tapeflow.weather.records import Floats

Progress = Callable[[float], None]


@dataclass
class Curve:
    """A training run: mean squared errors by epoch, and how fast gradients came."""

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    gradients: int = 0
    seconds: float = 0.0
    record_seconds: float = 0.0
    first_gradient_seconds: float = 0.0

    @property
    def gradients_per_second(self) -> float:
        return self.gradients / self.seconds if self.seconds else 0.0


class Adam:
    """Kingma and Ba's Adam (2015, algorithm 1) over nested parameters."""

    def __init__(self, params: Params, rate: float) -> None:
        self.rate = rate
        self.steps = 0
        self.mean = optree.tree_map(lambda p: np.zeros(np.shape(p)), params)
        self.square = optree.tree_map(lambda p: np.zeros(np.shape(p)), params)

    def step(self, params: Params, gradient: Params) -> Params:
        self.steps += 1
        fade = 0.9, 0.999
        self.mean = optree.tree_map(
            lambda m, g: fade[0] * m + (1 - fade[0]) * g, self.mean, gradient
        )
        self.square = optree.tree_map(
            lambda s, g: fade[1] * s + (1 - fade[1]) * g * g, self.square, gradient
        )
        correct = 1 - fade[0] ** self.steps, 1 - fade[1] ** self.steps

        def move(p: Any, m: Any, s: Any) -> Any:
            change = self.rate * (m / correct[0]) / (np.sqrt(s / correct[1]) + 1e-8)
            return p - change if isinstance(p, np.ndarray) else float(p - change)

        moved: Params = optree.tree_map(move, params, self.mean, self.square)
        return moved


def fit(
    loss: Callable[..., Any],
    params: Params,
    x: Floats,
    y: Floats,
    rng: np.random.Generator,
    epochs: int,
    rate: float = 0.01,
    batch: int = 64,
    progress: Progress = lambda done: None,
) -> tuple[Params, Curve]:
    """Minimise the mean loss over days by minibatches; the parameters best in validation.

    x: (n, features), y: (n,). A fifth of the days is kept for validation. ``progress`` is told
    the fraction that is done. Returns the parameters and the curve.
    """
    order = rng.permutation(len(x))
    kept, rest = order[: len(x) // 5], order[len(x) // 5 :]
    step = tpf.vmap(tpf.value_and_grad(loss), in_axes=(None, 0, 0), reduce="mean")
    value = tpf.vmap(loss, in_axes=(None, 0, 0), reduce="mean")
    curve = Curve()
    begin = time.perf_counter()
    tpf.record(loss, params, x[0], y[0].item())
    curve.record_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    step(params, x[rest[:batch]], y[rest[:batch]])
    curve.first_gradient_seconds = time.perf_counter() - begin
    optimiser = Adam(params, rate)
    best, lowest = params, np.inf
    for epoch in range(epochs):
        optimiser.rate = rate * (1.0 - epoch / epochs)
        shuffled = rng.permutation(rest)
        total = 0.0
        for first in range(0, len(rest), batch):
            rows = shuffled[first : first + batch]
            begin = time.perf_counter()
            error, gradient = step(params, x[rows], y[rows])
            curve.seconds += time.perf_counter() - begin
            curve.gradients += len(rows)
            total += error * len(rows)
            params = optimiser.step(params, gradient)
        curve.training.append(total / len(rest))
        curve.validation.append(value(params, x[kept], y[kept]))
        if curve.validation[-1] < lowest:
            best, lowest = params, curve.validation[-1]
        progress((epoch + 1) / epochs)
    return best, curve


def converge(loss: Callable[..., Any], params: Params, x: Floats, y: Floats) -> Params:
    """The minimum of a mean loss that is quadratic in the parameters, by conjugate gradients.

    Hestenes and Stiefel's method (1952); the curvature along a direction is the difference of
    two gradients a unit apart, which is exact for a quadratic. In n parameters it takes about n
    steps, and a few more against rounding; the best point met is returned.
    """
    gradient = tpf.vmap(tpf.grad(loss), in_axes=(None, 0, 0), reduce="mean")
    flat, structure = _flat(params)
    residual = -_flat(gradient(params, x, y))[0]
    direction, size = residual.copy(), float(residual @ residual)
    best, least = flat, size
    for _ in range(4 * len(flat)):
        if size == 0.0:
            break
        unit = direction / np.linalg.norm(direction)
        ahead = _flat(gradient(structure(flat + unit), x, y))[0]
        curvature = float(unit @ (ahead + residual))  # the gradient here is -residual
        flat = flat + float(residual @ unit) / curvature * unit
        # Taken afresh, not updated: rounding errors do not pile up.
        residual = -_flat(gradient(structure(flat), x, y))[0]
        before, size = size, float(residual @ residual)
        direction = residual + (size / before) * direction
        if size < least:
            best, least = flat, size
    return structure(best)


def _flat(params: Params) -> tuple[Floats, Callable[[Floats], Params]]:
    """Nested parameters as one vector, and the way back."""
    leaves, treedef = optree.tree_flatten(params)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])

    def back(flat: Floats) -> Params:
        pieces = [
            piece.reshape(np.shape(leaf)) if isinstance(leaf, np.ndarray) else float(piece[0])
            for leaf, piece in zip(leaves, np.split(flat, ends[:-1]), strict=True)
        ]
        params: Params = treedef.unflatten(pieces)
        return params

    return np.concatenate([np.ravel(leaf) for leaf in leaves]), back
