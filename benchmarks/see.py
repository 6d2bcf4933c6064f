"""What people see: how long two hundred gates take to be drawn, and how large their page is.

Nothing in the drawing overlaps, or there is no time; and each planted NaN and infinity is found at
its gate and line, in its sweep and sample.
"""

from typing import Any

import numpy as np
from rich.console import Console

import tapeflow as tpf
from benchmarks.harness import measure, report, save
from tests.engine.planted import CASES
from tests.engine.test_debug import batch_of, check, debugging, gradient
from tests.graphs.test_picture import assert_nothing_overlaps, mixed

GATES = 200
ARGUMENTS = (1.0, 2.0, 0.5, 0.3)


def two_hundred() -> tpf.Tape:
    """Gates that read each other at random, which is harder to lay out than what people write."""

    def f(*values: Any) -> Any:
        return mixed(*values, gates=GATES - 1)

    tape = tpf.record(f, *ARGUMENTS)
    assert len(tape) == GATES
    return tape


def found() -> int:
    """How many of the planted numbers are found; AssertionError unless all are, where they are."""
    for case in CASES:
        _, bad = batch_of(case)
        with debugging(case.kind):
            try:
                tpf.vmap(gradient(case))(*bad)
            except tpf.NonFiniteError as error:
                check(case, error, 13)
            else:
                raise AssertionError(f"{case} is not found")
    return len(CASES)


def main() -> None:
    tape = two_hundred()
    assert_nothing_overlaps(tape.draw(at=ARGUMENTS, by="gate"))

    def draw() -> Any:
        return [len(tape.draw(at=ARGUMENTS, by="gate").svg)]

    def explain() -> Any:
        assert tape.explain(at=ARGUMENTS).html
        return draw()

    rows = measure(
        {"tape.draw, as SVG": draw, "the same and tape.explain": explain},
        reference="tape.draw, as SVG",
        tolerance=0.0,  # it is the same picture
    )
    report(f"see: {GATES} gates drawn", rows, "tape.draw, as SVG", 1, "graph")
    page = len(tape.explain(at=ARGUMENTS).html.encode())
    cases = found()
    kinds = np.unique([f"{case.kind}, {case.sweep}" for case in CASES], return_counts=True)
    told = "; ".join(f"{n} {kind}" for kind, n in zip(*kinds, strict=True))
    Console().print(f"the page of {GATES} gates: {page:,} bytes")
    Console().print(f"planted and found, by gate, line, sweep and sample: {cases} ({told})")
    save("see: page and planted", {"gates": GATES, "page_bytes": page, "planted": cases})


if __name__ == "__main__":
    main()
