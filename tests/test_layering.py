"""Imports go downwards only, and importing tapeflow stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tapeflow"

# Lowest first: a module may import those above it in this list.
ORDER = [
    "errors",
    "meanings",
    "settings",
    "threads",
    "primitives",
    "mathlib",
    "rules",
    "special_rules",
    "arrays",
    "ops",
    "structure",
    "grid",
    "guards",
    "verification",
    "methods",
    "tape",
    "sources",
    "example",
    "recorder",
    "tracers",
    "trace",
    "numpy_api",
    "gates",
    "reference",
    "memory",
    "jit",
    "passes",
    "transforms",
    "loops",
    "files",
    "backend",
    "kernels",
    "addresses",
    "tiles",
    "staging",
    "interpreter",
    "blocks",
    "groups",
    "grouping",
    "layout",
    "segments",
    "program",
    "threaded",
    "tier",
    "nonfinite",
    "debug",
    "sample",
    "columns",
    "batch_run",
    "batch",
    "array_kernels",
    "pieces",
    "failures",
    "loop_kernels",
    "array_program",
    "array_sample",
    "programs",
    "outcomes",
    "native",
    "array_batch",
    "pulled_batch",
    "evaluate",
    "differences",
    "export",
    "graphs",
    "checkpoint",
    "functions",
    "auxiliary",
    "arguments",
    "smoothing",
    "paths",
    "path_report",
    "margins",
    "legs",
    "plans",
    "lanes",
    "branching",
    "recorded",
    "inspection",
    "bodies",
    "control",
    "calls",
    "api",
    "vmap",
    "points",
    "derivatives",
    "taylor",
    "checking",
    "agreement",
    "sparsity",
    "rule_calls",
    "custom",
    "implicit",
    "special",
    "linalg",
    "nn",
    "optim",
    "weather",
    "cli",
    "__main__",
]

MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree: ast.AST) -> set[str]:
    """The layers that a module imports, but for the types it only names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "tapeflow":
                found |= {parts[1]} if len(parts) > 1 else {name.name for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {n.name.split(".")[1] for n in node.names if n.name.startswith("tapeflow.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    own = layer(path)
    assert own in ORDER, f"give {own} a place in the order"
    for other in imported(ast.parse(path.read_text())):
        assert other in ORDER, f"give {other} a place in the order"
        assert ORDER.index(other) <= ORDER.index(own), f"{own} must not import {other}"


def test_the_order_has_no_module_that_is_gone() -> None:
    assert set(ORDER) == {layer(path) for path in MODULES}


def test_importing_tapeflow_brings_no_heavy_module() -> None:
    heavy = {"numba", "llvmlite", "matplotlib", "rich", "scipy"}
    script = (
        "import sys, tapeflow as tpf; tpf.record(lambda x: x * tpf.exp(x), 1.0); "
        f"print(sorted({heavy} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_files_stay_short() -> None:
    lengths = {str(p): len(p.read_text().splitlines()) for p in MODULES}
    assert max(lengths.values()) <= 400, max(lengths.items(), key=lambda item: item[1])
