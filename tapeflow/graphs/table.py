"""The Wengert list as a table: each gate with its operands, value and gradient."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tapeflow.engine.evaluate import Sweeps, last_sweeps
from tapeflow.graphs.report import Report, Section, number
from tapeflow.tape import Tape

_MOST_ROWS = 1_000
"""Rows up to which all are shown: of more the first and the last, and a table has all of them."""


@dataclass(frozen=True)
class Row:
    """One line of the table. value and gradient are None before forward and backward."""

    slot: str
    gate: str
    operands: tuple[str, ...]
    value: float | None
    gradient: float | None
    source: str


@dataclass(frozen=True, repr=False)
class Table(Report):
    """The Wengert list of a tape; print it, or go through its rows."""

    name: str
    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def sections(self) -> Sequence[Section]:
        shown, left_out = self.rows, 0
        if len(shown) > _MOST_ROWS:
            half = _MOST_ROWS // 2
            left_out = len(shown) - 2 * half
            shown = (*shown[:half], *shown[-half:])
        rows = [
            (
                row.slot,
                row.gate,
                ", ".join(row.operands),
                number(row.value),
                number(row.gradient),
                row.source,
            )
            for row in shown
        ]
        if left_out:
            rows.insert(len(rows) // 2, (f"... {left_out:,} more", "", "", "", "", ""))
        headings = ("slot", "gate", "operands", "value", "gradient", "source")
        return [Section(headings, ("text", "text", "text", "value", "gradient", "text"), rows)]


def table(tape: Tape) -> Table:
    return table_of(tape, last_sweeps(tape))


def table_of(tape: Tape, sweeps: Sweeps) -> Table:
    """The rows of a tape: inputs first, then gates in the order they run."""
    values, cotangents = sweeps.values, sweeps.cotangents

    def row(slot: int, name: str, gate: str, operands: tuple[str, ...], source: str) -> Row:
        return Row(
            name,
            gate,
            operands,
            None if values is None else float(values[slot]),
            None if cotangents is None else float(cotangents[slot]),
            source,
        )

    rows = [row(slot, tape.slot_name(slot), "input", (), "") for slot in range(tape.n_inputs)]
    for i in range(len(tape)):
        operands = tuple(tape.operand_names(i))
        for slot in range(*tape.slots[i : i + 2].tolist()):
            name = tape.slot_name(slot)
            rows.append(row(slot, name, tape.op(i).name, operands, str(tape.source(i))))
    return Table(tape.name, tuple(rows))
