"""Compiled loops on disk are those of the sources as they are now."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import njit

from tapeflow.engine import blocks
from tapeflow.jit import INT, OPTIONS, compiled, entry, helper, plain, sources_of

HELPER = """
from tapeflow.jit import INT, OPTIONS, compiled, helper as part

@{decorator}
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

CALLED_FROM_C = """
from tapeflow import jit
jit._PACKAGE = "loops_of_a_test"
from loops_of_a_test.helper import helper

def entry(x):
    return helper(x)

made = jit.callback(entry, jit.INT(jit.INT))
print(made.ctypes(1), made.cache_hits)
"""


def test_a_compiled_function_depends_on_the_files_of_its_callees() -> None:
    files = {Path(file).name for file in sources_of(blocks.run_blocks)}
    assert {"blocks.py", "interpreter.py", "addresses.py", "tiles.py"} <= files


@pytest.mark.jit
@pytest.mark.parametrize("decorator", ["compiled()", "part(INT)"])
@pytest.mark.parametrize("caller", [CALLER, CALLED_FROM_C], ids=["python", "c"])
def test_an_edit_of_a_helper_in_another_file_is_noticed(
    caller: str, decorator: str, tmp_path: Path
) -> None:
    package = tmp_path / "loops_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "caller.py").write_text(caller)
    root = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)]),
    }

    def run(added: int) -> str:
        (package / "helper.py").write_text(HELPER.format(added=added, decorator=decorator))
        command = [sys.executable, "-c", "import loops_of_a_test.caller"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert run(1) == "2 0"
    assert run(1) == "2 1"
    assert run(5) == "6 0"


@helper(INT)
def scaled(x, by):
    return x * by


@helper(INT, apart=True)
def sum_of_scaled(n, by):
    total = 0
    for k in range(n):
        total += scaled(k, by) + scaled(k, 2)
    return total


@helper()
def nothing(x):
    scaled(x, 3)


@compiled()
def with_helpers(n):
    nothing(n)
    return sum_of_scaled(n, 3), sum_of_scaled(n, scaled(n, 0)), scaled(n, 1)


def test_helpers_in_compiled_code_and_in_python() -> None:
    expected = 5 * 45, 2 * 45, 10
    assert with_helpers(10) == expected
    assert plain(with_helpers)(10) == expected
    assert entry(sum_of_scaled)(10, 3) == expected[0]


@pytest.mark.jit
def test_a_helper_is_nothing_of_its_own() -> None:
    """What is inlined leaves no code; what is apart is there once, for literals as well."""
    # Compiled here: what is loaded from disk is machine code, and does not say.
    fresh = njit(**OPTIONS)(plain(with_helpers))
    assert fresh(10) == with_helpers(10)
    (library,) = (own.library for own in fresh.overloads.values())
    names = [function.name for function in library.get_defined_functions()]
    assert sum("sum_of_scaled" in name for name in names) == 1
    assert not any("5scaled" in name or "nothing" in name for name in names)
