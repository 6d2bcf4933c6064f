"""Time from nothing: imports, and the first use of this and that, cold and warm.

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

USES = {
    "gradient of a fori_loop": (
        "tpf.grad(lambda x: tpf.fori_loop(0, 10, lambda i, c: c * x + np.sin(c), 1.0))(0.5)",
        "abs(found - (turns(0.5 + 1e-6) - turns(0.5 - 1e-6)) / 2e-6) < 1e-6",
    ),
    "gradient of a while_loop": (
        "tpf.grad(lambda a: tpf.while_loop("
        "lambda x: abs(x * x - a) > 1e-12, lambda x: 0.5 * (x + a / x), a))(4.0)",
        "abs(found - 0.25) < 1e-9",
    ),
    "gradient of a cond": (
        "tpf.grad(lambda x: tpf.cond(x > 0.0, np.sqrt, lambda x: 0.0 * x, x))(4.0)",
        "found == 0.25",
    ),
    "gradients of a batch": (
        "tpf.vmap(tpf.grad(lambda x: x * x * x))(np.arange(100.0))",
        "np.array_equal(found, 3.0 * np.arange(100.0) ** 2)",
    ),
    "gradients of a batch that branches": (
        "tpf.vmap(tpf.grad(lambda x: x * x if x > 0.0 else -x))(np.arange(-50.0, 50.0))",
        "np.array_equal(found, [2.0 * k if k > 0 else -1.0 for k in range(-50, 50)])",
    ),
    "a Jacobian": (
        "tpf.jacobian(lambda x: x * x[0])(np.arange(1.0, 5.0))",
        "np.array_equal(found, np.eye(4) + np.outer(np.arange(1.0, 5.0), [1.0, 0.0, 0.0, 0.0]))",
    ),
    "a Hessian": (
        "tpf.hessian(lambda x: np.sum(x * x) * x[0])(np.ones(4))",
        "np.array_equal(found, [[6, 2, 2, 2], [2, 2, 0, 0], [2, 0, 2, 0], [2, 0, 0, 2]])",
    ),
    "a sparse Jacobian": (
        "tpf.sparse_jacobian(lambda x: x[1:] * x[:-1], np.ones(50))(np.ones(50))",
        "np.array_equal(found.toarray(), np.eye(49, 50) + np.eye(49, 50, 1))",
    ),
}
"""First uses in a process: what is timed, and what must hold of what it has found."""

USE = """
import time, numpy as np, tapeflow as tpf
import numba, scipy.sparse
from numba.core.registry import cpu_target
cpu_target.typing_context.refresh(); cpu_target.target_context.refresh()
import gc; gc.collect()
turns = lambda x, c=1.0: [c := c * x + np.sin(c) for _ in range(10)][-1]
begin = time.perf_counter()
found = {use}
print(1e3 * (time.perf_counter() - begin))
assert {holds}, found
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
        *((f"first: {name}", USE.format(use=u, holds=h)) for name, (u, h) in USES.items()),
    ):
        with tempfile.TemporaryDirectory() as caches:
            cold = run(script, caches)
            warm = [run(script, caches) for _ in range(7)]
        figures = (cold, statistics.median(warm), min(warm), max(warm))
        table.add_row(name, *(f"{figure:,.1f}" for figure in figures))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
