"""Memory that compiled code is given: where it is, and arrays that begin with a cache line."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tapeflow.structure import Floats


def address_of(array: Any) -> int:
    """Where an array's first number is; ``array.ctypes`` takes five times as long to say."""
    address: int = array.__array_interface__["data"][0]
    return address


def aligned(shape: int | Sequence[int]) -> Floats:
    """An uninitialised array that starts at a cache line."""
    size = 8 * (shape if isinstance(shape, int) else math.prod(shape))
    buffer = np.empty(size + 64, np.uint8)
    offset = -address_of(buffer) % 64
    return buffer[offset : offset + size].view(np.float64).reshape(shape)
