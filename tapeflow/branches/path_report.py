"""What people see of a function's paths: how often each was taken, and where they part."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tapeflow.branches.paths import Path
from tapeflow.engine.outcomes import outcome, question
from tapeflow.graphs.report import Report, Section


@dataclass(frozen=True)
class Branch:
    """One decision on a path: what was looked at, what it was, and the user's line."""

    question: str
    outcome: str
    source: str


@dataclass(frozen=True)
class PathRow:
    """One path: how many samples took it, the instructions of its tape, and its decisions."""

    runs: int
    instructions: int
    branches: tuple[Branch, ...]

    def __str__(self) -> str:
        parts = []
        for source, own in itertools.groupby(self.branches, lambda branch: branch.source):
            ways = []
            for way, same in itertools.groupby(f"{b.question} {b.outcome}" for b in own):
                n = len(list(same))
                ways.append(way if n == 1 else f"{way} x{n}")
            if len(ways) > 3:
                ways = [*ways[:2], f"... {len(ways) - 3} more", ways[-1]]
            parts.append(f"{source} {', '.join(ways)}")
        return "; ".join(parts)


@dataclass(frozen=True, repr=False)
class Paths(Report):
    """The paths of a function; print them, or go through the rows."""

    name: str
    rows: tuple[PathRow, ...]

    def __iter__(self) -> Iterator[PathRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def sections(self) -> Sequence[Section]:
        rows = [(f"{row.runs:,}", str(row.instructions), str(row)) for row in self.rows]
        headings = ("runs", "instructions", "branches")
        return [Section(headings, ("number", "number", "text"), rows)]


def paths_of(name: str, paths: Sequence[Path]) -> Paths:
    """What there is to see of some paths, those most taken first."""
    rows = []
    for path in sorted(paths, key=lambda path: -path.runs):
        tape = path.raw
        branches = tuple(
            Branch(
                question(tape, k),
                outcome(tape, k, float(tape.guards.expected[k])),
                str(tape.sources[int(tape.guards.locations[k])]),
            )
            for k in range(len(tape.guards))
        )
        rows.append(PathRow(path.runs, len(path.tape), branches))
    return Paths(name, tuple(rows))
