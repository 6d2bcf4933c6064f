"""tapeflow: tape-based reverse-mode automatic differentiation, compiled by Numba.

>>> import tapeflow as tpf
>>> tpf.grad(lambda x: x * x)(3.0)
6.0
"""

from typing import TYPE_CHECKING, Any

from tapeflow import linalg, nn, optim, sparsity, special
from tapeflow.agreement import Agreement, check_tape
from tapeflow.api import Function, Gradient, function, grad, record, value_and_grad
from tapeflow.auxiliary import stop_gradient
from tapeflow.checking import check_grads
from tapeflow.checkpoint import checkpoint
from tapeflow.control import cond, fori_loop, scan, switch, while_loop
from tapeflow.custom import custom_jvp, custom_vjp
from tapeflow.derivatives import hessian, hvp, jacobian, jvp, linearize, vjp
from tapeflow.errors import (
    GateError,
    GuardError,
    NonFiniteError,
    StructureError,
    TapeError,
    TracingError,
)
from tapeflow.files import load
from tapeflow.functions import FUNCTIONS as _FUNCTIONS
from tapeflow.gates import gate
from tapeflow.implicit import implicit
from tapeflow.settings import config
from tapeflow.smoothing import smooth_abs, smooth_max, smooth_min, smooth_step
from tapeflow.sparsity import scatter_jacobian, sparse_hessian, sparse_jacobian
from tapeflow.tape import Tape
from tapeflow.taylor import directional_taylor
from tapeflow.tracers.plain import concrete
from tapeflow.vmap import vmap

__version__ = "0.1.0"

__all__ = [
    "Agreement",
    "Function",
    "GateError",
    "Gradient",
    "GuardError",
    "NonFiniteError",
    "StructureError",
    "Tape",
    "TapeError",
    "TracingError",
    "check_grads",
    "check_tape",
    "checkpoint",
    "concrete",
    "cond",
    "config",
    "custom_jvp",
    "custom_vjp",
    "directional_taylor",
    "fori_loop",
    "function",
    "gate",
    "grad",
    "hessian",
    "hvp",
    "implicit",
    "jacobian",
    "jvp",
    "linalg",
    "linearize",
    "load",
    "nn",
    "optim",
    "record",
    "scan",
    "scatter_jacobian",
    "sparse_hessian",
    "sparse_jacobian",
    "sparsity",
    "smooth_abs",
    "smooth_max",
    "smooth_min",
    "smooth_step",
    "special",
    "stop_gradient",
    "switch",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
    *(name for name in _FUNCTIONS if name != "stop_gradient"),
]

globals().update({**_FUNCTIONS, "stop_gradient": stop_gradient})

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
