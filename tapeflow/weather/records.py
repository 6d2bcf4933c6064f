"""Daily weather records from a CSV file."""

import csv
import datetime
import io
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

KINDS = ("drizzle", "fog", "rain", "snow", "sun")
COLUMNS = ("date", "precipitation", "temp_max", "temp_min", "wind", "weather")
_NUMBERS = COLUMNS[1:5]


class DataError(ValueError):
    """A file of records cannot be used; one sentence says which row and column, and why."""


@dataclass(frozen=True)
class Records:
    """Weather by day, n days in the order of their dates.

    days: ordinal of each date. precipitation (mm), temp_max and temp_min (°C), wind (m/s) and
    kind (index into KINDS): each of shape (n,).
    """

    days: npt.NDArray[np.int64]
    precipitation: Floats
    temp_max: Floats
    temp_min: Floats
    wind: Floats
    kind: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.days)


def seattle() -> Records:
    """The record of Seattle, 2012 to 2015, that tapeflow ships."""
    text = resources.files("tapeflow").joinpath("data/seattle-weather.csv").read_text("utf-8")
    return parse(text, "seattle-weather.csv")


def read(path: Path) -> Records:
    """Records from the user's own file; DataError in one sentence for anything wrong with it."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8 text: save it as CSV") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> Records:
    """Records from the text of a CSV file with a header; ``name`` stands in errors."""
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [cell.strip() for cell in next(rows, [])]
        if not header:
            raise DataError(f"{name} is empty: it needs a header with {', '.join(COLUMNS)}")
        places = {}
        for column in COLUMNS:
            if column not in header:
                raise DataError(f"{name}, row 1: there is no column {column!r}")
            places[column] = header.index(column)
        parsed = [
            _row(row, places, len(header), f"{name}, row {number}")
            for number, row in enumerate(rows, 2)
            if row
        ]
    except csv.Error as error:
        raise DataError(f"{name}, row {rows.line_num}: {error}") from None
    if not parsed:
        raise DataError(f"{name} has a header and no rows")
    days = np.array([day for day, _, _ in parsed])
    later = np.flatnonzero(np.diff(days) <= 0)
    if later.size:
        raise DataError(f"{name}, row {later[0] + 3}, column date: not later than the row before")
    precipitation, temp_max, temp_min, wind = np.array([values for _, values, _ in parsed]).T
    kinds = np.array([kind for _, _, kind in parsed])
    return Records(days, precipitation, temp_max, temp_min, wind, kinds)


def _row(
    row: list[str], places: dict[str, int], width: int, where: str
) -> tuple[int, list[float], int]:
    if len(row) != width:
        raise DataError(f"{where}: {len(row)} fields, but the header has {width}")
    cells = {column: row[place].strip() for column, place in places.items()}
    try:
        day = datetime.date.fromisoformat(cells["date"].replace("/", "-")).toordinal()
    except ValueError:
        raise DataError(
            f"{where}, column date: {cells['date']!r} is not a date such as 2012/01/31"
        ) from None
    values = []
    for column in _NUMBERS:
        try:
            value = float(cells[column])
        except ValueError:
            raise DataError(
                f"{where}, column {column}: {cells[column]!r} is not a number"
            ) from None
        if not math.isfinite(value):
            raise DataError(f"{where}, column {column}: {cells[column]!r} is not a finite number")
        values.append(value)
    if values[0] < 0.0:
        raise DataError(f"{where}, column precipitation: {values[0]:g} is below zero")
    if cells["weather"] not in KINDS:
        raise DataError(
            f"{where}, column weather: {cells['weather']!r} is none of {', '.join(KINDS)}"
        )
    return day, values, KINDS.index(cells["weather"])
