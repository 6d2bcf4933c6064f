"""Sparse derivatives: where Jacobians and Hessians are not zero, and how to find what is there."""

from tapeflow.sparsity.coloring import (
    Coloring,
    color_both,
    color_columns,
    color_rows,
    color_symmetric,
)
from tapeflow.sparsity.patterns import hessian_pattern, jacobian_pattern
from tapeflow.sparsity.plans import SparsePlan, sparse_hessian, sparse_jacobian

__all__ = [
    "Coloring",
    "SparsePlan",
    "color_both",
    "color_columns",
    "color_rows",
    "color_symmetric",
    "hessian_pattern",
    "jacobian_pattern",
    "sparse_hessian",
    "sparse_jacobian",
]
