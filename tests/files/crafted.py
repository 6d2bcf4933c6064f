"""Tape files made by hand: any header, any arrays, and a hash that fits them."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from tapeflow.files import container

Change = Callable[[Any, dict[str, Any]], Any]


def parts(data: bytes) -> tuple[Any, dict[str, Any]]:
    """A file's header and arrays."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {
            name: archive[name] for name in archive.files if not name.endswith((".json", "6"))
        }
        return json.loads(archive["header.json"]), arrays


def craft(data: bytes, change: Change) -> bytes:
    """The file after a change to its header and arrays, with a hash that says it is whole.

    change: changes what it is given, or returns another header.
    """
    header, arrays = parts(data)
    other = change(header, arrays)
    return written(header if other is None else other, arrays)


def written(header: Any, arrays: dict[str, Any]) -> bytes:
    """A file of any header, as JSON or as its bytes, and arrays, which is whole."""
    file = io.BytesIO()
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    container.write(file, text, arrays)
    return file.getvalue()
