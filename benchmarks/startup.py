"""Time from nothing: imports, recording and the first gradient of a hundred ops, cold and warm.

Each measurement is a process of its own. Cold: with empty caches. Warm: with those that the cold
one has left.
"""

import os
import statistics
import subprocess
import sys
import tempfile

from rich.console import Console
from rich.table import Table

IMPORTS = """
import time
begin = time.perf_counter(); import numpy; numpy_done = time.perf_counter()
import tapeflow; print(1e3 * (time.perf_counter() - numpy_done))
"""

FIRST = """
import time, numpy as np, tapeflow as tpf
import numba
from numba.core.registry import cpu_target
# Numba fills its tables on its first use of any kind: they belong to its import.
cpu_target.typing_context.refresh(); cpu_target.target_context.refresh()
# And so does the collection (40 ms) that its million objects make fall due at a random moment.
import gc; gc.collect()
def f(x):
    for _ in range(20):
        x = np.tanh(np.sin(x) * x + 1.5) * x
    return x
begin = time.perf_counter()
g = tpf.grad(f)(0.5)
print(1e3 * (time.perf_counter() - begin))
assert len(tpf.record(f, 0.5)) == 100
h = 1e-6
assert abs(g - (f(0.5 + h) - f(0.5 - h)) / (2 * h)) < 1e-6 * max(1.0, abs(g))
"""

MAIN = """
import subprocess, sys, time
begin = time.perf_counter()
subprocess.run([sys.executable, "-m", "tapeflow"], check=True, stdout=subprocess.DEVNULL)
print(1e3 * (time.perf_counter() - begin))
"""


def run(script: str, caches: str) -> float:
    environment = {
        **os.environ,
        "NUMBA_CACHE_DIR": os.path.join(caches, "numba"),
        "TAPEFLOW_CACHE_DIR": os.path.join(caches, "kernels"),
        # As after an ordinary install, the sources are compiled to bytecode once.
        "PYTHONPYCACHEPREFIX": os.path.join(caches, "bytecode"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    return float(result.stdout.split()[-1])


def main() -> None:
    table = Table(title="start-up (ms)")
    for heading in ("what", "cold", "warm, median of 7", "fastest", "slowest"):
        table.add_column(heading, justify="right" if heading != "what" else "left")
    for name, script in (
        ("import tapeflow, over import numpy", IMPORTS),
        ("record and first gradient of 100 ops, after imports", FIRST),
        ("python -m tapeflow", MAIN),
    ):
        with tempfile.TemporaryDirectory() as caches:
            cold = run(script, caches)
            warm = [run(script, caches) for _ in range(7)]
        figures = (cold, statistics.median(warm), min(warm), max(warm))
        table.add_row(name, *(f"{figure:,.1f}" for figure in figures))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
