"""``tapeflow bench``: a minute's benchmark, with gradients by hand in NumPy beside ours."""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tapeflow as tpf
from tapeflow import settings
from tapeflow.cli.refusal import whole
from tapeflow.structure import flatten


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure values and gradients against NumPy by hand",
        description="Check gradients against ones written by hand in NumPy, and measure both. "
        "Exit status 1, and no times, where they differ. benchmarks/ in the sources measures more, "
        "against other libraries.",
    )
    parser.add_argument(
        "--seconds", type=whole, default=18, help="to spend on measuring (default: 18)"
    )
    parser.set_defaults(run=_run)


@dataclass(frozen=True)
class _Times:
    """Seconds a value and gradient: first call, then the median, fastest and slowest of repeats."""

    first: float
    median: float
    fastest: float
    slowest: float


def _run(options: argparse.Namespace) -> bool:
    from tapeflow.cli.workloads import WORKLOADS

    rows, passed = [], True
    for make in WORKLOADS:
        work = make()
        start = time.perf_counter()
        ours = work.ours()
        first = time.perf_counter() - start
        apart = difference(ours, work.by_hand())
        if not apart <= work.tolerance:
            print(
                f"tapeflow: {work.name}: differs by {apart:.1e} from the gradient by hand, more "
                f"than {work.tolerance:.0e}: it is not timed",
                file=sys.stderr,
            )
            passed = False
            continue
        seconds = options.seconds / len(WORKLOADS)
        own, by_hand = measured([work.ours, work.by_hand], seconds)
        rows.append(
            (work, apart, _times(first, own, work.samples), _times(0, by_hand, work.samples))
        )
    _print(rows)
    return passed


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference of two structures of numbers, relative to their largest number."""
    a, b = (
        np.concatenate([np.ravel(np.asarray(leaf, float)) for leaf in flatten(given)[0]])
        for given in (ours, theirs)
    )
    if a.shape != b.shape:
        raise ValueError(f"there are {a.size} numbers, and {b.size} by hand")
    return float(np.abs(a - b).max() / np.abs(b).max())


def measured(contenders: list[Callable[[], Any]], seconds: float) -> list[list[float]]:
    """The times of each one's calls, in turns, after some that let ours compile beside them."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end - 0.7 * seconds:
        for run in contenders:
            run()
    loops = [_loops(run) for run in contenders]
    times: list[list[float]] = [[] for _ in contenders]
    while time.perf_counter() < end or len(times[0]) < 3:
        for run, n, own in zip(contenders, loops, times, strict=True):
            start = time.perf_counter()
            for _ in range(n):
                run()
            own.append((time.perf_counter() - start) / n)
    return times


def _loops(run: Callable[[], Any]) -> int:
    """Calls that take the clock's resolution a thousand times, at least one."""
    start = time.perf_counter()
    run()
    return max(1, int(1e-3 / max(time.perf_counter() - start, 1e-7)))


def _times(first: float, calls: list[float], samples: int) -> _Times:
    each = np.array(calls) / samples
    return _Times(first, float(np.median(each)), float(each.min()), float(each.max()))


def _print(rows: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    current = settings.current()
    table = Table(
        title="a value and its gradient, float64",
        caption=f"tapeflow {tpf.__version__}, NumPy {np.__version__}, Python "
        f"{sys.version.split()[0]}, threads: {current.threads}. Times are for one sample: the "
        "median, and the fastest and slowest of repeats in which both take turns.",
    )
    table.add_column("workload")
    for heading in (
        "difference",
        "first call",
        "tapeflow",
        "range",
        "NumPy by hand",
        "NumPy / ours",
    ):
        table.add_column(heading, justify="right")
    for work, apart, ours, by_hand in rows:
        table.add_row(
            work.name,
            f"{apart:.0e}",
            shown(ours.first),
            shown(ours.median),
            f"{shown(ours.fastest)} - {shown(ours.slowest)}",
            shown(by_hand.median),
            f"{by_hand.median / ours.median:.2g}x",
        )
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def shown(seconds: float) -> str:
    """A time in three digits, with its unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
