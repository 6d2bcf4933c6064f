"""What stands for NumPy's functions on traced values, by kind."""

from tapeflow.numpy_api import (
    calculus,
    elementwise,
    hints,
    linalg,
    order,
    products,
    reductions,
    structural,
)

__all__ = [
    "calculus",
    "elementwise",
    "hints",
    "linalg",
    "order",
    "products",
    "reductions",
    "structural",
]
