"""Today's weather and season as numbers, and tomorrow's highest temperature as the target."""

import datetime
from dataclasses import dataclass

import numpy as np

from tapeflow.weather.records import KINDS, DataError, Floats, Records

HELD_OUT = 365
"""Days at the end of the record that no model sees in training."""

NAMES = (
    "highest temperature",
    "lowest temperature",
    "log precipitation",
    "wind",
    *(f"kind: {kind}" for kind in KINDS[1:]),
    "season: sine",
    "season: cosine",
    "half season: sine",
    "half season: cosine",
)


@dataclass(frozen=True)
class Examples:
    """Days whose tomorrow is known. x: standardised features, shape (n, 12), by the training
    days' mean and deviation. y: tomorrow's highest temperature, °C. today: today's. days: date
    ordinals of tomorrow.
    """

    x: Floats
    y: Floats
    today: Floats
    days: Floats

    def __len__(self) -> int:
        return len(self.y)


def split(records: Records) -> tuple[Examples, Examples]:
    """Training and test examples: the test is the last HELD_OUT pairs of consecutive days.

    A day without a record of the next is left out. Raises DataError if fewer days remain for
    training than for the test.
    """
    follows = np.flatnonzero(np.diff(records.days) == 1)
    if len(follows) < 2 * HELD_OUT:
        raise DataError(
            f"{len(follows)} pairs of consecutive days are too few: "
            f"{HELD_OUT} are held out, and as many are needed for training"
        )
    raw = _raw(records)[follows]
    y = records.temp_max[follows + 1]
    train = slice(0, len(follows) - HELD_OUT)
    mean, deviation = raw[train].mean(axis=0), raw[train].std(axis=0)
    # A feature that never varies tells nothing: it becomes zero.
    x = (raw - mean) / np.where(deviation > 0.0, deviation, 1.0)
    x[:, deviation == 0.0] = 0.0
    today, days = records.temp_max[follows], records.days[follows + 1].astype(np.float64)

    def part(rows: slice) -> Examples:
        return Examples(x[rows], y[rows], today[rows], days[rows])

    return part(train), part(slice(train.stop, None))


def _raw(records: Records) -> Floats:
    dates = [datetime.date.fromordinal(day) for day in records.days.tolist()]
    angle = 2.0 * np.pi * np.array([date.timetuple().tm_yday for date in dates]) / 365.25
    columns = [
        records.temp_max,
        records.temp_min,
        np.log1p(records.precipitation),
        records.wind,
        *(records.kind == k for k in range(1, len(KINDS))),
        np.sin(angle),
        np.cos(angle),
        np.sin(2.0 * angle),
        np.cos(2.0 * angle),
    ]
    return np.stack(columns, axis=1).astype(np.float64)
