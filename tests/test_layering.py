"""Imports go downwards only, and importing tapeflow stays light."""

import ast
import subprocess
import sys
from collections.abc import Sequence
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
    "engine.addresses",
    "engine.tiles",
    "engine.staging",
    "engine.interpreter",
    "engine.blocks",
    "engine.groups",
    "engine.grouping",
    "engine.layout",
    "engine.segments",
    "engine.program",
    "engine.threaded",
    "engine.tier",
    "engine.nonfinite",
    "engine.debug",
    "engine.sample",
    "engine.columns",
    "engine.batch_run",
    "engine.batch",
    "engine.array_kernels",
    "engine.pieces",
    "engine.failures",
    "engine.loop_kernels",
    "engine.array_program",
    "engine.array_sample",
    "engine.programs",
    "engine.outcomes",
    "engine.native",
    "engine.array_batch",
    "engine.pulled_batch",
    "engine.evaluate",
    "differences",
    "export",
    "graphs",
    "checkpoint",
    "functions",
    "auxiliary",
    "arguments",
    "smoothing",
    "branches.paths",
    "branches.path_report",
    "branches.margins",
    "branches.legs",
    "plans",
    "branches.lanes",
    "branches.branching",
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

MODULES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" or path.parent.name in ORDER
)


def layer_of(parts: Sequence[str]) -> str:
    """A package is a layer, unless its modules are."""
    return parts[0] if parts[0] in ORDER else ".".join(parts[:2])


def layer(path: Path) -> str:
    return layer_of(path.relative_to(PACKAGE).with_suffix("").parts)


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
                several = len(parts) == 1 or layer_of(parts[1:]) not in ORDER
                names = [[*parts, name.name] for name in node.names] if several else [parts]
                found |= {layer_of(name[1:]) for name in names}
        elif isinstance(node, ast.Import):
            names = [name.name.split(".") for name in node.names]
            found |= {layer_of(name[1:]) for name in names if name[0] == "tapeflow" and name[1:]}
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
