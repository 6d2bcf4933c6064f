"""What each whole-array op means, in NumPy: one class an op."""

from tapeflow.arrays import linear, products, reductions, spectral, structural
from tapeflow.arrays.base import RULES, ArrayRule, GateRule, Pull, Seam, SubTapes, ZeroRule

__all__ = [
    "RULES",
    "ArrayRule",
    "GateRule",
    "Pull",
    "Seam",
    "SubTapes",
    "ZeroRule",
    "linear",
    "products",
]
__all__ += ["reductions", "spectral", "structural"]
