"""Compiled loops on disk are those of the sources as they are now."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapeflow import blocks
from tapeflow.jit import sources_of

HELPER = """
from tapeflow.jit import compiled

@compiled()
def helper(x):
    return x + {added}
"""

CALLER = """
from tapeflow import jit
jit._PACKAGE = "loops_of_a_test"
from numba import int64
from loops_of_a_test.helper import helper

@jit.compiled(int64(int64))
def entry(x):
    return helper(x)

print(entry(1), sum(entry.stats.cache_hits.values()))
"""


def test_a_compiled_function_depends_on_the_files_of_its_callees() -> None:
    files = {Path(file).name for file in sources_of(blocks.run_blocks)}
    assert {"blocks.py", "interpreter.py", "addresses.py", "tiles.py"} <= files


@pytest.mark.jit
def test_an_edit_of_a_helper_in_another_file_is_noticed(tmp_path: Path) -> None:
    package = tmp_path / "loops_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "caller.py").write_text(CALLER)
    root = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)]),
    }

    def run(added: int) -> str:
        (package / "helper.py").write_text(HELPER.format(added=added))
        command = [sys.executable, "-c", "import loops_of_a_test.caller"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert run(1) == "2 0"
    assert run(1) == "2 1"
    assert run(5) == "6 0"
