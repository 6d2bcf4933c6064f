"""The pictures of docs/branches.md, drawn from the functions of that page: see `pictures`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

import tapeflow as tpf
from benchmarks.plot import Panel, picture

WIDTHS = (1.0, 4.0, 16.0)
"""Widths of a smooth step, in units of the price."""


def pieces(x: Any, y: Any, at: float) -> Iterator[tuple[Any, Any]]:
    """A curve's parts on both sides of a place where it may jump."""
    for own in (x < at, x > at):
        yield x[own], y[own]


def boundary(page: dict[str, Any]) -> str:
    """What the derivative is on the boundary itself, of a kink and at a single point."""
    kink, naive, careful = page["kink"], page["naive"], page["careful"]
    x = np.linspace(0.0, 2.0, 401)
    left = Panel("if x > 1.0: a kink", "x", "f′(x)", (0.0, 2.0), (0.0, 4.3))
    for own, slope in pieces(x, tpf.vmap(tpf.grad(kink))(x), 1.0):
        left.line(own, slope, "value")
    left.dot(1.0, 2.0, "value", filled=False)
    left.dot(1.0, tpf.grad(kink)(1.0), "value")
    left.text(1.06, 0.72, "at x = 1: the branch", "ink")
    left.text(1.06, 0.36, "that Python takes", "ink")
    x = np.linspace(-1.0, 1.0, 401)
    right = Panel("if x == 0.0: a single point", "x", "f′(x)", (-1.0, 1.0), (-0.1, 1.1))
    for own, slope in pieces(x, tpf.vmap(tpf.grad(naive))(x), 0.0):
        right.line(own, slope, "value")
    right.dot(0.0, tpf.grad(careful)(0.0), "value", filled=False)
    right.dot(0.0, tpf.grad(naive)(0.0), "gradient")
    right.text(0.06, 0.41, "is ½: abs(x) < 1e-4", "value")
    right.text(0.06, 0.02, "return 1.0 has slope 0", "gradient")
    return picture("derivatives on the boundary of a branch", [left, right])


def digital(page: dict[str, Any]) -> str:
    """A payoff that jumps, whose derivative is zero on each path, and their mean, which slopes."""
    payoff, noise = page["digital"], page["noise"]
    left = Panel("one sample, noise 0", "spot", "payoff", (60.0, 140.0), (-0.1, 1.25))
    x = np.linspace(60.0, 140.0, 801)
    for own, value in pieces(x, tpf.vmap(payoff, (0, None))(x, 0.0), 100.0 * np.exp(0.02)):
        left.line(own, value, "value")
    left.text(64.0, 0.06, "slope 0", "gradient")
    left.text(118.0, 1.06, "slope 0", "gradient")
    spots = np.linspace(60.0, 140.0, 81)
    mean = tpf.vmap(tpf.value_and_grad(payoff), (None, 0), reduce="mean")
    prices, slopes = zip(*(mean(float(s), noise) for s in spots), strict=True)
    right = Panel("the mean of 20,000 samples", "spot", "price", (60.0, 140.0), (-0.1, 1.25))
    right.line(spots, np.array(prices), "value")
    right.line(spots, np.array(slopes), "gradient", dashed=True)
    right.text(108.0, 0.44, "rises with the spot", "value")
    right.text(84.0, 0.05, "mean of the slopes: 0", "gradient")
    return picture("a digital payoff", [left, right])


def smooth(page: dict[str, Any]) -> str:
    """Smooth steps, and the sensitivity that they find: near the exact one, for some widths."""
    exact, found = page["exact"], page["smooth_delta"]
    left = Panel("smooth_step(x - 100, width)", "last price", "payoff", (60.0, 140.0), (-0.1, 1.25))
    x = np.linspace(60.0, 140.0, 401)
    for own, value in pieces(x, (x > 100.0) * 1.0, 100.0):
        left.line(own, value, "faint", dashed=True)
    roles = ("gradient", "value", "accent")
    for width, role in zip(WIDTHS, roles, strict=True):
        left.line(x, tpf.smooth_step(x - 100.0, width), role)
    for (px, py), width, role in zip(
        ((101.0, 1.1), (109.0, 0.8), (116.0, 0.56)), WIDTHS, roles, strict=True
    ):
        left.text(px, py, f"width {width:g}", role)
    widths = np.geomspace(0.1, 40.0, 33)
    deltas, errors = np.transpose([found(float(width)) for width in widths])
    low, high = deltas - 2.0 * errors, deltas + 2.0 * errors
    right = Panel("the sensitivity found", "width", "delta", (0.1, 40.0), (0.0, 0.032), log=True)
    right.band(widths, low, high, "value")
    right.line(widths, np.full(len(widths), exact(100.0)), "gradient", dashed=True)
    right.line(widths, deltas, "value")
    right.text(0.13, 0.0135, "± 2 standard errors", "value")
    right.text(12.0, 0.0212, "exact", "gradient")
    right.text(2.2, 0.006, "too wide: biased", "ink")
    return picture("smooth steps", [left, right])


def margins(page: dict[str, Any]) -> str:
    """Samples of a function of two numbers by how near they are to a branch."""
    f = tpf.vmap(page["lens"])
    x, y = np.random.default_rng(0).uniform(-1.5, 1.5, (2, 400))
    found = f.guard_margins(x, y)
    near = found < 0.1
    panel = Panel("guard_margins", "x", "y", (-1.5, 1.5), (-1.5, 1.5), square=True)
    t = np.linspace(0.0, 2.0 * np.pi, 181)
    panel.line(np.cos(t), np.sin(t), "ink")
    panel.line(np.full(2, 0.5), np.sqrt(0.75) * np.array([-1.0, 1.0]), "ink")
    for own_x, own_y, own in zip(x.tolist(), y.tolist(), near.tolist(), strict=True):
        panel.dot(own_x, own_y, "gradient" if own else "value", filled=own, radius=3.2)
    panel.legend("gradient", True, "margin < 0.1")
    panel.legend("value", False, "further away")
    panel.legend("ink", None, "a branch")
    return picture("samples near a branch", [panel])


DRAWN = {
    "boundary.svg": boundary,
    "digital.svg": digital,
    "smooth.svg": smooth,
    "margins.svg": margins,
}
