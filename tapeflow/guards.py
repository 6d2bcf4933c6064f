"""Guards: what the branches of a recorded function were decided by, and how.

A guard is a slot of the tape and the number that it had where the function was recorded. While it
has that number, the tape is what the function computes; where it has another, the function would
have gone another way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeflow.structure import Floats

TRUTH, WHOLE, EXACT = range(3)
"""Kinds: whether something is true (1.0 or 0.0); a number rounded towards zero; a number itself."""

KINDS = ("bool", "int", "concrete")
"""How a person would call the kinds: by what asked."""


@dataclass(frozen=True, eq=False)
class Guards:
    """The guards of a tape in the order in which they came up, m of them.

    - slots: int32 (m,); what was looked at
    - expected: float64 (m,); the number it had, never NaN; a guard holds where the slot == it
    - kinds: uint8 (m,); TRUTH, WHOLE or EXACT
    - locations: uint32 (m,); indices into the tape's ``sources``
    - numbers: int32 (m,), ascending; which of the recording's guards it is, as passes drop those
      that always hold
    - after: int32 (m,), ascending; how many instructions come before it
    """

    slots: npt.NDArray[np.int32]
    expected: Floats
    kinds: npt.NDArray[np.uint8]
    locations: npt.NDArray[np.uint32]
    numbers: npt.NDArray[np.int32]
    after: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        for name, dtype in _ARRAYS.items():
            array = np.array(getattr(self, name), dtype)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.slots)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Guards) and self._bytes() == other._bytes()

    def __hash__(self) -> int:
        return hash(self._bytes())

    def _bytes(self) -> bytes:
        return b"".join(getattr(self, name).tobytes() for name in _ARRAYS)

    def __getitem__(self, chosen: Any) -> "Guards":
        """Some of the guards: by a slice, a mask or indices."""
        return Guards(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def moved(self, **changes: Any) -> "Guards":
        """The same guards with some arrays replaced."""
        return replace(self, **changes) if len(self) else self


_ARRAYS: dict[str, type[np.generic]] = {
    "slots": np.int32,
    "expected": np.float64,
    "kinds": np.uint8,
    "locations": np.uint32,
    "numbers": np.int32,
    "after": np.int32,
}

NONE = Guards(*([],) * len(_ARRAYS))  # type: ignore[arg-type]
"""No guards: the tape of a function that takes no branch."""


class Notes:
    """The guards of a recording in progress; slots are numbered as the recorder does."""

    def __init__(self) -> None:
        self.slots: list[int] = []
        self.expected: list[float] = []
        self.kinds: list[int] = []
        self.locations: list[int] = []
        self.after: list[int] = []
        self.known: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self.slots)

    def add(self, slot: int, expected: float, kind: int, location: int, after: int) -> None:
        """Note a guard, unless there is one on the slot already."""
        if slot not in self.known:
            self.known[slot] = expected
            self.slots.append(slot)
            self.expected.append(expected)
            self.kinds.append(kind)
            self.locations.append(location)
            self.after.append(after)

    def guards(self, slots: Sequence[int] | npt.NDArray[np.int32]) -> Guards:
        """The guards noted, on slots as the tape numbers them."""
        if not len(self):
            return NONE
        numbers: Any = range(len(self))
        columns: Any = (self.expected, self.kinds, self.locations, numbers, self.after)
        return Guards(slots, *columns)  # type: ignore[arg-type]
