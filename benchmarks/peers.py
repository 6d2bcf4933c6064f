"""What the workloads' peers have in common. A peer that is not installed is a row that says so."""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import Missing

_FLAGS = ["-O3", "-march=native", "-ffast-math", "-mprefer-vector-width=512", "-fopenmp"]


def jax64(name: str) -> Any:
    """JAX in float64, or Missing."""
    try:
        import jax
    except ImportError:
        return Missing(name, "not installed: pip install jax")
    jax.config.update("jax_enable_x64", True)
    return jax


def torch64(name: str) -> Any:
    """PyTorch in float64, or Missing."""
    try:
        import torch
    except ImportError:
        return Missing(name, "not installed: pip install torch")
    torch.set_default_dtype(torch.float64)
    return torch


def casadi(name: str) -> Any:
    try:
        import casadi as ca
    except ImportError:
        return Missing(name, "not installed: pip install casadi")
    return ca


def compiled_c(name: str, source: str) -> Any:
    """A library from C source, by GCC with fast-math, OpenMP and libmvec; or Missing."""
    if shutil.which("gcc") is None:
        return Missing(name, "not installed: gcc")
    folder = Path(tempfile.mkdtemp(prefix="tapeflow-bench-"))
    (folder / "peer.c").write_text(source)
    command = ["gcc", *_FLAGS, "-shared", "-fPIC", "peer.c", "-o", "peer.so", "-lmvec", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "peer.so"))


def pointer(array: Any) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)
