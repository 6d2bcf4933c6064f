"""Tape files changed at random, loaded and run in guarded memory: a program of its own.

    python -m tests.files.fuzz FOLDER random SEED COUNT
    python -m tests.files.fuzz FOLDER flips TAPE

Random changes of ten tapes' files; or every bit of the header and of each array of one, with a
hash that fits. It prints what became of the files, as JSON. A file whose tape kills the process is
FOLDER/last.
"""

import copy
import io
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import tapeflow as tpf
from tapeflow.ops import BY_OPCODE, FIRST_GATE
from tapeflow.tape import Tape
from tapeflow.transforms import pullback
from tests.files import guarded
from tests.files.crafted import parts, written

MAX_BYTES = 4_000_000


def numbers(x: Any, y: Any) -> Any:
    for _ in range(3):
        x = tpf.sin(x) * y + tpf.where(x > y, x, 2.0)
        y = tpf.checkpoint(lambda x, y: tpf.exp(x * 0.1) / y + tpf.maximum(x, y))(x, y)
    if x > 0.0:
        y = y * x
    return x * y, tpf.fma(x, y, 1.5)


def moves(x: Any, k: Any) -> Any:
    y = np.sin(x)[:, ::2] + x[:, 1::2] * np.arange(3.0)[:, None]
    z = np.concatenate([y.ravel(), x[[2, 0, 0], :].ravel(), np.roll(x, 1, 0).ravel()])
    z = z + np.cumsum(z) * np.max(x, axis=1)[0] + np.sum(z[np.argsort(-z)[:3]] * k)
    w = np.sort(z)[::-1][:16].reshape(2, 8) * np.ones((3, 2, 8))
    w = np.tanh(w) + np.arange(8.0) + w[:, :1, :]
    return np.sum(w, axis=(0, 2)), np.min(z), np.argmax(z), np.searchsorted(np.sort(z), x[0])


def matrices(a: Any, b: Any) -> Any:
    c = a @ a.T + 3.0 * np.eye(4)
    factor = np.linalg.cholesky(c)
    z = tpf.linalg.solve_triangular(factor, b, lower=True)
    w = np.linalg.solve(c, b) + np.linalg.inv(c)[:, :2] + np.linalg.det(c)
    big = np.tile(a, (3, 3)) @ np.tile(a, (3, 3))
    _, s, _ = np.linalg.svd(b, full_matrices=False)
    q, r = np.linalg.qr(a)
    e, _ = np.linalg.eigh(c)
    return np.sum(z * w), np.sum(big), np.linalg.slogdet(c)[1], s[0] + q[0, 0] + r[0, 0] + e[1]


def loops(x: Any, w: Any) -> Any:
    def body(carry: Any, x: Any) -> Any:
        carry = tpf.cond(carry > 0.3, lambda c: c * x, lambda c: c + w[0], carry)
        return carry, np.sin(carry * x)

    last, ys = tpf.scan(body, 0.5, x)
    return last + np.sum(ys) + np.sum(tpf.fori_loop(0, 3, lambda i, c: c * w[0] + i, x))


@tpf.gate
def softsign(x: Any) -> Any:
    d = 1.0 + abs(x)
    return x / d, (1.0 / (d * d),)


GATES = {"softsign": softsign}
"""What the reader of a changed file supplies: so a gate's name may be right, and the rest not."""


def gates(x: Any, y: Any) -> Any:
    for _ in range(3):
        x = softsign(x * y) + softsign(y)
    return x * softsign(x), y


def seeds() -> dict[str, Tape]:
    """The tapes whose files are changed."""
    a = np.arange(16.0).reshape(4, 4) % 5.0
    made = {
        "numbers": tpf.record(numbers, 1.3, 0.4),
        "moves": tpf.record(moves, np.arange(24.0).reshape(4, 6)[:3] % 7.0, np.zeros(3)),
        "matrices": tpf.record(matrices, a, a[:, :2] + 1.0),
        "gates": tpf.record(gates, 0.7, -1.2),
        "loops": tpf.record(loops, np.array([0.3, 0.6, -0.2]), np.array([2.0, 0.7])),
    }
    return made | {f"pullback of {name}": pullback(tape) for name, tape in made.items()}


WHOLE = [0, 1, -1, 2, 3, 7, 8, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, -(2**31), 2**31, 2**32]
WHOLE += [2**62, 2**63 - 1, -(2**63)]
ODD = [None, True, "", "number", [], {}, [[]], 1.5, -1, 0, 2**31, 2**80, "\x1b[2J", {"tuple": []}]


def change_array(rng: np.random.Generator, header: Any, arrays: dict[str, Any]) -> None:
    name = str(rng.choice(list(arrays)))
    array = arrays[name].copy()
    place, _, own = name.rpartition("/")
    lengths = header["tapes"][int(place or 0)]["lengths"]
    kind = rng.integers(6)
    if kind == 0:
        array = array[: rng.integers(len(array) + 1)]
    elif kind == 1:
        array = np.concatenate([array, array[-1:]])
    elif len(array) and kind == 2:
        info = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
        value = int(rng.choice(len(WHOLE)))
        bounds = (info.min, info.max) if info else (-(2**63), 2**63)
        array[rng.integers(len(array))] = np.clip(WHOLE[value], *bounds)
    elif len(array) and kind == 3 and own == "opcodes":
        known = sorted([*BY_OPCODE, *range(FIRST_GATE, FIRST_GATE + 4)])
        array[rng.integers(len(array))] = rng.choice(known)
    elif len(array) and kind == 4:
        k, j = rng.integers(len(array), size=2)
        array[k] = array[j]
    elif len(array):
        with np.errstate(all="ignore"):
            array[rng.integers(len(array))] += array.dtype.type(rng.integers(1, 4))
    arrays[name] = array
    if rng.random() < 0.9:
        lengths[own] = len(array)


def change_header(rng: np.random.Generator, header: Any) -> None:
    spots = []
    pending = [header]
    while pending:
        node = pending.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            spots.append((node, key))
            if isinstance(node[key], (dict, list)):
                pending.append(node[key])
    if not spots:
        return
    node, key = spots[rng.integers(len(spots))]
    kind = rng.integers(4)
    if kind == 0:
        del node[key]
    elif kind == 1:
        node[key] = ODD[rng.integers(len(ODD))]
    elif kind == 2 and isinstance(node, list):
        node.insert(key, copy.deepcopy(node[key]))
    elif type(node[key]) is int:
        node[key] += int(rng.integers(-2, 3))
    else:
        other, own = spots[rng.integers(len(spots))]
        node[key] = copy.deepcopy(other[own])


def changed(rng: np.random.Generator, data: bytes, header: Any, arrays: Any) -> bytes:
    """The file after a change or a few: of its bytes, or of what it says, with a hash that fits."""
    if rng.random() < 0.3:
        out = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            kind, at = rng.integers(4), int(rng.integers(len(out)))
            if kind == 0:
                del out[at:]
                out += b"\0"
            elif kind == 1:
                out[at : at + 1] = bytes(rng.integers(0, 256, rng.integers(0, 9), np.uint8))
            else:
                out[at] ^= 1 << int(rng.integers(8))
        return bytes(out)
    header, arrays = copy.deepcopy(header), dict(arrays)
    of_arrays = rng.random(rng.choice([1, 1, 1, 2, 3])) < 0.7
    for _ in range(of_arrays.sum()):
        change_array(rng, header, arrays)
    for _ in range((~of_arrays).sum()):
        change_header(rng, header)
    return written(header, arrays)


def saved(tape: Tape) -> bytes:
    file = io.BytesIO()
    tape.save(file)
    return file.getvalue()


def attempt(data: bytes, rng: np.random.Generator, last: Path) -> str:
    """What becomes of a file: "refused", "run" or "too long to run"."""
    try:
        tape = tpf.load(io.BytesIO(data), gates=GATES, max_bytes=MAX_BYTES)
    except tpf.TapeError as error:
        assert "\n" not in str(error), error
        return "refused"
    last.write_bytes(data)
    return "run" if guarded.exercise(tape, rng) else "not run"


def random(folder: Path, seed: int, count: int) -> dict[str, int]:
    rng = np.random.default_rng(seed)
    made = seeds()
    files = [(data, *parts(data)) for data in map(saved, made.values())]
    guarded.install()
    found: Counter[str] = Counter()
    for name, (data, _, _) in zip(made, files, strict=True):
        # Unchanged, they run: so the guards and the comparison are at work.
        assert attempt(data, rng, folder / "last") == "run", name
    for k in range(count):
        data = changed(rng, *files[k % len(files)])
        found[attempt(data, rng, folder / "last")] += 1
    return dict(found)


def flips(folder: Path, name: str) -> dict[str, int]:
    rng = np.random.default_rng(0)
    header, arrays = parts(saved((seeds() | {"small": small()})[name]))
    guarded.install()
    found: Counter[str] = Counter()
    text = bytearray(json.dumps(header).encode())
    for bit in range(8 * len(text)):
        text[bit // 8] ^= 1 << bit % 8
        found[attempt(written(bytes(text), arrays), rng, folder / "last")] += 1
        text[bit // 8] ^= 1 << bit % 8
    for name, array in arrays.items():
        for bit in range(8 * array.nbytes):
            data = bytearray(array.tobytes())
            data[bit // 8] ^= 1 << bit % 8
            other = arrays | {name: np.frombuffer(bytes(data), array.dtype)}
            found[attempt(written(header, other), rng, folder / "last")] += 1
    return dict(found)


def small() -> Tape:
    """A tape whose file has each kind of thing, and little of it."""

    def f(x: Any, y: Any) -> Any:
        z = np.sin(x) * y
        return tpf.checkpoint(lambda z: np.sum(z))(z if y > 0.0 else x)

    return tpf.record(f, np.ones(2), 1.0)


if __name__ == "__main__":
    run = {"random": random, "flips": flips}[sys.argv[2]]
    arguments = [int(a) if a.isdigit() else a for a in sys.argv[3:]]
    with tpf.config(tier="interpret", threads=2):
        print(json.dumps(run(Path(sys.argv[1]), *arguments)))  # type: ignore[operator]
