"""What each whole-array op means, in NumPy: one class an op."""

from tapeflow.arrays import linear, products, reductions, spectral, structural
from tapeflow.arrays.base import RULES, ArrayRule, SubTapes, ZeroRule

__all__ = ["RULES", "ArrayRule", "SubTapes", "ZeroRule", "linear", "products", "reductions"]
__all__ += ["spectral", "structural"]
