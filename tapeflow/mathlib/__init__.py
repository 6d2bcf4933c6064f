"""The elementary functions as straight-line arithmetic in `primitives`: at most 2 ulp in error.

The same text is the NumPy reference and, through the kernel compiler, SIMD machine code; a tracer
records the function and does not look inside. `docs/accuracy.md` has each one's worst error.
"""

from tapeflow.mathlib.error_function import erf, erfc
from tapeflow.mathlib.exponential import exp, expm1, sigmoid
from tapeflow.mathlib.hyperbolic import acosh, asinh, atanh, cosh, sinh, tanh
from tapeflow.mathlib.inverse_trigonometric import acos, asin, atan, atan2
from tapeflow.mathlib.logarithm import log, log1p, log2, log10, softplus
from tapeflow.mathlib.power import cbrt, hypot, pow
from tapeflow.mathlib.trigonometric import cos, sin, sincos, tan
from tapeflow.primitives import absolute, ceil, copysign, floor, fma, rint, sqrt, where

__all__ = [
    "absolute",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "copysign",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "floor",
    "fma",
    "hypot",
    "log",
    "log1p",
    "log2",
    "log10",
    "pow",
    "rint",
    "sigmoid",
    "sin",
    "sincos",
    "sinh",
    "softplus",
    "sqrt",
    "tan",
    "tanh",
    "where",
]
