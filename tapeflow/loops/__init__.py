"""Loops and branches as single instructions, which carry tapes of their own.

A loop's pullback is a loop and a branch's is a branch, so all orders of derivatives follow.
"""

from tapeflow.loops.loop import Loop, Phase
from tapeflow.loops.switch import Switch

__all__ = ["Loop", "Phase", "Switch"]
