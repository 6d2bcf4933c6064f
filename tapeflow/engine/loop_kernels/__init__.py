"""Compiled loops and branches: their bodies' programs, run step by step without Python."""

from tapeflow.engine.loop_kernels.table import control_kernel, keep_within

__all__ = ["control_kernel", "keep_within"]
