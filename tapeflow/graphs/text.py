"""Text in pictures: how wide it is, how numbers are written, and names in other directions."""

import re
import unicodedata

from tapeflow.structure import Floats

# The advances of DejaVu Sans from the space to the tilde, in hundredths of the size.
_WIDTHS = [
    32, 41, 46, 84, 64, 95, 78, 28, 39, 39, 50, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 34, 34, 84, 84, 84, 54, 100, 69, 69, 70, 77, 64, 58, 78, 76, 30, 30, 66, 56, 87, 75, 79,
    61, 79, 70, 64, 62, 74, 69, 99, 69, 62, 69, 39, 34, 39, 84, 50, 50, 62, 64, 55, 64, 62, 36, 64,
    64, 28, 28, 58, 28, 98, 64, 62, 64, 64, 42, 53, 40, 64, 60, 82, 60, 60, 53, 64, 34, 64, 84,
]  # fmt: skip
_OTHERS = {"−": 84, "×": 84, "…": 100, "²": 41, "³": 41, "⁴": 41, "⁻": 53, "¹": 41}

_BOLD = 1.27
"""How much wider a letter may be in bold."""


def width_of(text: str, size: float, bold: bool = False) -> float:
    """No less than the width of a text, in the fonts of `theme.FONT`."""
    total = 0
    for c in text:
        if " " <= c <= "~":
            total += _WIDTHS[ord(c) - 32]
        elif c in _OTHERS:
            total += _OTHERS[c]
        elif not unicodedata.combining(c) and unicodedata.category(c) != "Cf":
            total += 105
    return total * size / 100 * (_BOLD if bold else 1.0)


def number(x: float, digits: int = 4) -> str:
    """A number as a picture shows it, with a minus sign as long as a plus."""
    return f"{x + 0.0:.{digits}g}".replace("e+0", "e").replace("e-0", "e-").replace("-", "−")


def numbers(run: Floats | None) -> str:
    """A run of numbers as a picture shows it: the first few; nothing for None."""
    if run is None:
        return ""
    if len(run) == 1:
        return number(float(run[0]))
    few = run if len(run) <= 3 else run[:2]
    shown = ", ".join(number(x, 3) for x in few.tolist())
    return f"[{shown}]" if len(few) == len(run) else f"[{shown}, …]"


_WORD = re.compile(r"\w+")
_RIGHT_TO_LEFT = ("R", "AL")


def isolated(text: str) -> str:
    """A text whose names in other directions keep their place among brackets and commas.

    Each word from right to left stands in directional isolates (Unicode Standard Annex 9), which
    are not seen: without them ``[0]`` after a Persian name would be drawn before it.
    """
    if text.isascii():
        return text
    return _WORD.sub(
        lambda m: (
            f"\u2068{m[0]}\u2069"
            if any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in m[0])
            else m[0]
        ),
        text,
    )


def counted(n: int, what: str) -> str:
    """So many of something."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")
