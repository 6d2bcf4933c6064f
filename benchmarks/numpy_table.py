"""Writes docs/numpy.md, what is recorded of NumPy's and SciPy's functions, from the code."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tapeflow.meanings import SPECIAL
from tapeflow.ops import BY_UFUNC
from tapeflow.tracers.protocol import FUNCTIONS, HINTS, METHODS, UFUNCS

MODULES = {"np": np, "np.linalg": np.linalg, "np.fft": np.fft}
# Not functions of arrays of numbers: types, settings, files, dates, text and what only makes
# plain arrays.
APART = {
    "add_docstring", "add_newdoc", "arange", "array", "asanyarray", "asarray",
    "asarray_chkfinite", "ascontiguousarray", "asfortranarray", "asmatrix", "base_repr",
    "binary_repr", "blackman", "bartlett", "hamming", "hanning", "kaiser", "bmat",
    "broadcast_shapes", "busday_count", "busday_offset", "can_cast", "common_type", "copyto",
    "datetime_as_string", "datetime_data", "diag_indices", "diag_indices_from", "einsum_path",
    "empty", "eye", "from_dlpack", "frombuffer", "fromfile", "fromfunction", "fromiter",
    "frompyfunc", "fromregex", "fromstring", "full", "genfromtxt", "get_include",
    "get_printoptions", "getbufsize", "geterr", "geterrcall", "identity", "indices", "info",
    "is_busday", "isdtype", "isfortran", "isscalar", "issubdtype", "iterable", "ix_", "load",
    "loadtxt", "mask_indices", "matrix", "min_scalar_type", "mintypecode", "nested_iters",
    "ones", "packbits", "unpackbits", "printoptions", "promote_types", "ravel_multi_index",
    "require", "result_type", "set_printoptions", "setbufsize", "seterr", "seterrcall",
    "show_config", "show_runtime", "test", "tri", "tril_indices", "tril_indices_from",
    "triu_indices", "triu_indices_from", "typename", "unravel_index", "zeros", "in1d",
    "format_float_positional", "format_float_scientific", "isnat", "fftfreq", "rfftfreq",
    "row_stack", "trapz",
}  # fmt: skip


def functions() -> Iterator[tuple[str, str, Any]]:
    """NumPy's public functions: module, name, and the function."""
    for module, namespace in MODULES.items():
        for name in sorted(dir(namespace)):
            function = getattr(namespace, name, None)
            if name.startswith("_") or name in APART or isinstance(function, type):
                continue
            if callable(function) and not isinstance(function, types.ModuleType):
                yield module, name, function


def status(name: str, function: Any) -> str:
    """How a function is recorded; or what to use in its place."""
    if isinstance(function, np.ufunc):
        op = BY_UFUNC.get(function)
        if op is not None:
            return "yes; no gradient flows" if op.zero_derivative else "yes"
        if function.__name__ in UFUNCS:
            return "yes"
    elif function in FUNCTIONS:
        complex_result = getattr(FUNCTIONS[function], "__module__", "").endswith("calculus")
        if complex_result and FUNCTIONS[function].__name__ == "record":
            return "no: its result is complex"
        return "yes"
    return f"no: {HINTS[name]}" if name in HINTS else "no"


def page() -> str:
    lines = [
        "# NumPy and SciPy on traced arrays",
        "",
        "Written by `python -m benchmarks.numpy_table` from the code. A function that is not",
        "recorded raises `TracingError`, with its name, your line and what is given here.",
        "",
    ]
    for module in MODULES:
        lines += [f"## `{module}`", "", "| function | recorded |", "|---|---|"]
        lines += [
            f"| `{name}` | {status(name, function)} |"
            for own, name, function in functions()
            if own == module
        ]
        lines.append("")
    lines += ["## Methods of ufuncs", "", "| ufunc | recorded |", "|---|---|"]
    names = sorted({name for name, _ in METHODS})
    lines += [
        f"| `np.{name}` | {', '.join(sorted(m for n, m in METHODS if n == name))} |"
        for name in names
    ]
    lines += ["| every ufunc | outer |", ""]
    lines += [
        "## `scipy.special` and `scipy.linalg`",
        "",
        "As ufuncs of `scipy.special` or from `tpf.special`: "
        + ", ".join(f"`{name}`" for name in SPECIAL)
        + ". From `tpf.special` alone, as SciPy's are no ufuncs: `logsumexp`, `softmax`, "
        "`log_softmax`, `polygamma`. From `tpf.linalg`: `solve_triangular`, `cho_factor`, "
        "`cho_solve`, `expm`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    Path("docs/numpy.md").write_text(page())


if __name__ == "__main__":
    main()
