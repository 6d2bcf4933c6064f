"""One way to time things: a correctness gate first, then medians of repeats, peers in one run.

A contender is a function of no arguments that does all its work and returns what it computed.
They take turns, so that a noisy moment of the machine falls on all of them.
"""

import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

_REST, _SHORT = 0.05, 2.0
"""Seconds between two contenders; and those of a call up to which one goes before what is timed."""

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One contender: median and spread of a run in seconds, and of its first call."""

    name: str
    first: float
    median: float
    fastest: float
    slowest: float
    note: str = ""


@dataclass(frozen=True)
class Missing:
    """A peer that is not installed: a row that says so."""

    name: str
    reason: str


Contender = Callable[[], Any]


def measure(
    contenders: dict[str, Contender | Missing],
    reference: str,
    tolerance: float,
    repeats: int = 9,
    seconds: float = 0.2,
) -> list[Row | Missing]:
    """Time the contenders in turns, after each has been checked against the reference.

    tolerance: the largest difference allowed, over the largest number of the reference's result;
    the caller derives it. A contender that is wrong raises AssertionError, and is not timed. Each
    repeat calls often enough to last ``seconds`` over the number of repeats.
    """
    if isinstance(contenders[reference], Missing):
        return [row for row in contenders.values() if isinstance(row, Missing)]
    expected = _flat(_run(contenders[reference])[1])
    first, calls, once = {}, {}, {}
    for name, contender in contenders.items():
        if isinstance(contender, Missing):
            continue
        first[name], result = _run(contender)
        error = _difference(_flat(result), expected)
        if not error <= tolerance:
            raise AssertionError(
                f"{name} differs from {reference} by {error:.1e} > {tolerance:.1e}"
            )
        once[name] = min(_run(contender)[0] for _ in range(3))
        calls[name] = max(1, int(seconds / repeats / max(once[name], 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = np.random.default_rng(0)
    for _ in range(repeats):
        # In another order each time: what one leaves behind would always fall on the same next.
        for name in order.permutation(list(calls)).tolist():
            contender, n = contenders[name], calls[name]
            assert not isinstance(contender, Missing)
            # The last one's threads come to rest, and this one's memory comes back.
            time.sleep(_REST)
            if once[name] < _SHORT:
                contender()
            begin = time.perf_counter()
            for _ in range(n):
                contender()
            times[name].append((time.perf_counter() - begin) / n)
    return [
        c if isinstance(c, Missing)
        else Row(name, first[name], statistics.median(times[name]), min(times[name]),
                 max(times[name]))
        for name, c in contenders.items()
    ]  # fmt: skip


def _run(contender: Contender | Missing) -> tuple[float, Any]:
    assert not isinstance(contender, Missing)
    begin = time.perf_counter()
    result = contender()
    return time.perf_counter() - begin, result


def _flat(result: Any) -> Any:
    if isinstance(result, (tuple, list)):
        return np.concatenate([_flat(part) for part in result])
    if isinstance(result, dict):
        return _flat([result[key] for key in sorted(result)])
    return np.ravel(np.asarray(result, np.float64))


def _difference(result: Any, expected: Any) -> float:
    if result.shape != expected.shape:
        raise AssertionError(f"a result of shape {result.shape}, not {expected.shape}")
    worst = float(np.max(np.abs(result - expected), initial=0.0))
    # Zeros are right where zeros are expected.
    return worst / float(np.max(np.abs(expected))) if worst else 0.0


def report(title: str, rows: list[Row | Missing], ours: str, per: int, unit: str) -> None:
    """Print a table and write it as JSON. per: items in one call, each of which is a ``unit``."""
    own = next(row for row in rows if isinstance(row, Row) and row.name == ours)
    table = Table(title=title)
    table.add_column("contender")
    for heading in (f"ns per {unit}", "fastest", "slowest", "times ours", "first call (ms)"):
        table.add_column(heading, justify="right")
    for row in rows:
        if isinstance(row, Missing):
            table.add_row(row.name, row.reason)
            continue
        scale = 1e9 / per
        table.add_row(
            row.name,
            f"{scale * row.median:,.2f}",
            f"{scale * row.fastest:,.2f}",
            f"{scale * row.slowest:,.2f}",
            f"{row.median / own.median:.2f}",
            f"{1e3 * row.first:,.1f}",
        )
    Console(width=110).print(table)
    save(
        title,
        {"per": per, "unit": unit, "ours": ours, "rows": [asdict(row) for row in rows]},
    )


def series(
    title: str, x: str, y: str, points: Sequence[dict[str, Any]], scale: float = 1.0
) -> None:
    """Write, as JSON, what a plot shows: the time of each contender over x, divided by x.

    points: each with its "x" and the "rows" that `measure` gave. scale: of the times in seconds.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        for row in point["rows"]:
            if isinstance(row, Row):
                time = scale * row.median / point["x"]
                lines.setdefault(row.name, []).append((point["x"], time))
    save(title, {"x": x, "y": y, "lines": lines})


def save(title: str, record: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in title.lower())
    about = {"title": title, "machine": machine(), "python": platform.python_version()}
    (RESULTS / f"{name}.json").write_text(json.dumps(about | record, indent=1) + "\n")


def machine() -> str:
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {len(os.sched_getaffinity(0))} cores"
