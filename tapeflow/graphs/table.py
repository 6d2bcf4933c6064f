"""The Wengert list as a table: each gate with its operands, value and gradient."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tapeflow.evaluate import Sweeps, last_sweeps
from tapeflow.graphs.report import Report, Section, number, show
from tapeflow.tape import Tape


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

    def __repr__(self) -> str:
        return f"<tapeflow table of {self.name}: {len(self.rows)} rows>"

    def sections(self) -> Sequence[Section]:
        rows = [
            (
                row.slot,
                row.gate,
                ", ".join(row.operands),
                number(row.value),
                number(row.gradient),
                row.source,
            )
            for row in self.rows
        ]
        headings = ("slot", "gate", "operands", "value", "gradient", "source")
        return [Section(headings, ("text", "text", "text", "value", "gradient", "text"), rows)]


def table(tape: Tape) -> Table:
    result = table_of(tape, last_sweeps(tape))
    show(result)
    return result


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
