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
from tapeflow.sparsity.scatter import NormalEquations, ScatterPlan, scatter_jacobian

__all__ = [
    "Coloring",
    "NormalEquations",
    "ScatterPlan",
    "SparsePlan",
    "color_both",
    "color_columns",
    "color_rows",
    "color_symmetric",
    "hessian_pattern",
    "jacobian_pattern",
    "scatter_jacobian",
    "sparse_hessian",
    "sparse_jacobian",
]
