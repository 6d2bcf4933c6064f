"""Tapes as files: saving and loading a million instructions, verification included.

The peers are what one would do by hand: NumPy's arrays alone, unverified, and a pickle of them.
"""

import io
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import tapeflow as tpf
from benchmarks.harness import measure, report
from tapeflow.tape import ARRAYS, Tape
from tapeflow.verification import verify

INSTRUCTIONS = 1_000_000

COLD = """
import sys, time
import tapeflow as tpf
begin = time.perf_counter()
tape = tpf.load(sys.argv[1])
print(1e3 * (time.perf_counter() - begin))
assert "numba" not in sys.modules and len(tape) == int(sys.argv[2])
"""


def long_tape() -> Tape:
    def f(x: Any) -> Any:
        y = x
        for _ in range(INSTRUCTIONS // 4):
            y = tpf.sin(y * x + 1.5) * 0.5
        return y

    return tpf.record(f, 0.5)


def arrays(tape: Any) -> list[Any]:
    return [tape.opcodes, tape.operands, tape.slots]


def main() -> None:
    tape = long_tape()
    assert len(tape) == INSTRUCTIONS
    own = {name: getattr(tape, name) for name in ARRAYS if name != "parameter_starts"}
    with tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder) / "f.tape", Path(folder) / "f.npz"
        tape.save(path)
        np.savez(plain, **own)
        pickled = pickle.dumps(own)
        assert tpf.load(path)(0.5) == tape(0.5)

        def load() -> Any:
            return arrays(tpf.load(path))

        def save() -> Any:
            tape.save(path)
            return arrays(tape)

        def numpy_alone() -> Any:
            with np.load(plain, allow_pickle=False) as found:
                return [found[name] for name in ("opcodes", "operands", "slots")]

        def verified() -> Any:
            verify(tape)
            return arrays(tape)

        def in_memory() -> Any:
            return arrays(tpf.load(io.BytesIO(path.read_bytes())))

        rows = measure(
            {
                "tpf.load": load,
                "tape.save": save,
                "tpf.load, from memory": in_memory,
                "verification alone": verified,
                "np.load of three arrays": numpy_alone,
                "pickle.loads of the arrays": lambda: [
                    pickle.loads(pickled)[name] for name in ("opcodes", "operands", "slots")
                ],
            },
            reference="verification alone",
            tolerance=0.0,  # they are the same numbers
        )
        report("files: a tape of a million instructions", rows, "tpf.load", 1, "tape")
        command = [sys.executable, "-c", COLD, str(path), str(INSTRUCTIONS)]
        cold = [
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(7)
        ]
        Console().print(
            f"tpf.load in a new process, of {os.path.getsize(path):,} bytes: median "
            f"{statistics.median(cold):.1f} ms, from {min(cold):.1f} to {max(cold):.1f}"
        )


if __name__ == "__main__":
    main()
