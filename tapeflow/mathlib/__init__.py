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
from tapeflow.mathlib.special import (
    digamma,
    erfinv,
    gamma,
    gammaln,
    i0,
    i0e,
    i1,
    i1e,
    j0,
    j1,
    log_ndtr,
    ndtri,
    polygamma,
    y0,
    y1,
)
from tapeflow.mathlib.trigonometric import cos, sin, sincos, tan
from tapeflow.primitives import absolute, ceil, copysign, floor, fma, rint, sqrt, trunc, where

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
    "digamma",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "expm1",
    "floor",
    "fma",
    "gamma",
    "gammaln",
    "hypot",
    "i0",
    "i0e",
    "i1",
    "i1e",
    "j0",
    "j1",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_ndtr",
    "ndtri",
    "polygamma",
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
    "trunc",
    "where",
    "y0",
    "y1",
]
