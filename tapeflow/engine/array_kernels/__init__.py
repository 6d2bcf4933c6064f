"""Compiled kernels of whole-array ops, in Numba, and the records they take."""

from tapeflow.engine.array_kernels.table import array_kernel

__all__ = ["array_kernel"]
