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


def drjit64(name: str) -> Any:
    """Dr.Jit, and its differentiable arrays on LLVM; or Missing."""
    try:
        import drjit
        from drjit.llvm.ad import Float64

        drjit.eval(Float64(1.0) + 1.0)
    except ImportError:
        return Missing(name, "not installed: pip install drjit")
    except Exception as error:
        return Missing(name, f"does not run here: {str(error).splitlines()[0]}")
    return drjit, Float64


def ddx(name: str) -> Any:
    try:
        import ddx
    except ImportError:
        return Missing(name, "not installed: pip install ddx-ad")
    return ddx


def hips_autograd(name: str) -> Any:
    """HIPS autograd and its NumPy, or Missing."""
    try:
        import autograd
        import autograd.numpy
    except ImportError:
        return Missing(name, "not installed: pip install autograd")
    return autograd


def compiled_c(name: str, source: str) -> Any:
    """A library from C source, by GCC with fast-math, OpenMP and libmvec; or Missing."""
    return _compiled(name, "gcc", ".c", source, [*_FLAGS], ["-lmvec", "-lm"])


def adolc(name: str, source: str) -> Any:
    """A library from C++ source that uses ADOL-C, or Missing."""
    if not Path("/usr/include/adolc/adolc.h").exists():
        return Missing(name, "not installed: apt-get install libadolc-dev")
    return _compiled(name, "g++", ".cpp", source, _CPP, ["-ladolc"])


def sacado(name: str, source: str) -> Any:
    """A library from C++ source that uses Trilinos's Sacado, or Missing."""
    if not Path("/usr/include/trilinos/Sacado.hpp").exists():
        return Missing(name, "not installed: see benchmarks/README.md")
    folders = ["/usr/include/trilinos", "/usr/lib/x86_64-linux-gnu/openmpi/include"]
    flags = [*_CPP, "-DOMPI_SKIP_MPICXX", *(f"-I{folder}" for folder in folders)]
    return _compiled(
        name,
        "g++",
        ".cpp",
        source,
        flags,
        ["-ltrilinos_sacado", "-ltrilinos_teuchoscore", "-ltrilinos_teuchoscomm"],
    )


_CPP = ["-O3", "-march=native", "-fopenmp", "-std=c++17", "-w"]


def _compiled(
    name: str, compiler: str, suffix: str, source: str, flags: list[str], libraries: list[str]
) -> Any:
    if shutil.which(compiler) is None:
        return Missing(name, f"not installed: {compiler}")
    folder = Path(tempfile.mkdtemp(prefix="tapeflow-bench-"))
    (folder / f"peer{suffix}").write_text(source)
    command = [compiler, *flags, "-shared", "-fPIC", f"peer{suffix}", "-o", "peer.so", *libraries]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if result.returncode:
        return Missing(name, f"does not compile here: {result.stderr.splitlines()[0][:80]}")
    try:
        return ctypes.CDLL(str(folder / "peer.so"))
    except OSError as error:
        return Missing(name, f"does not load here: {error}")


def pointer(array: Any) -> Any:
    return array.ctypes.data_as(ctypes.c_void_p)
