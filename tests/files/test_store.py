"""Saving and loading: what comes back is what was saved, and nothing else comes back."""

import collections
import copy
import io
import json
import os
import pickle
import stat
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given

import tapeflow as tpf
from tapeflow.files import FORMAT
from tapeflow.files.fields import FIELDS
from tapeflow.structure import Structure
from tapeflow.tape import ARRAYS, Tape
from tests.strategies import tapes


class Params(NamedTuple):
    w: Any
    b: Any


@tpf.gate
def softsign(x: Any) -> Any:
    d = 1.0 + abs(x)
    return x / d, (1.0 / (d * d),)


@tpf.gate
class Scale:
    """A gate with state: it multiplies by a number of its own."""

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor

    def forward(self, x: float) -> float:
        return self.factor * x

    def backward(self, dz: float) -> list[float]:
        return [self.factor * dz]


@tpf.gate
class Powers:
    """A gate that cannot be made without arguments."""

    def __init__(self, power: float) -> None:
        self.power = power

    def forward(self, x: float) -> float:
        return x**self.power

    def backward(self, dz: float) -> list[float]:
        return [dz]


def saved(tape: Tape) -> io.BytesIO:
    file = io.BytesIO()
    tape.save(file)
    file.seek(0)
    return file


def assert_same(a: Tape, b: Tape) -> None:
    """Equal in every field."""
    for name in (field.name for field in fields(Tape) if field.init):
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, name
            assert left.tobytes() == right.tobytes(), name
        elif isinstance(left, Structure):
            assert left == right, name
            assert str(left.treedef) == str(right.treedef)
        else:
            assert left == right, name


def test_the_format_knows_every_field_of_a_tape() -> None:
    assert FIELDS.keys().isdisjoint(ARRAYS)
    known = {*FIELDS, *ARRAYS, "locations"}
    assert known == {field.name for field in fields(Tape) if field.init}


@given(tapes())
def test_what_is_loaded_is_what_was_saved(tape: Tape) -> None:
    assert_same(tpf.load(saved(tape)), tape)
    assert_same(pickle.loads(pickle.dumps(tape)), tape)


def test_guards_are_kept() -> None:
    def f(x: Any, y: Any) -> Any:
        return x * y if x > y else [x, y][int(x)] + tpf.concrete(y)

    for args in [(2.0, 1.0), (1.0, np.inf), (0.0, 0.0)]:
        tape = tpf.record(f, *args)
        assert len(tape.guards)
        assert_same(tpf.load(saved(tape)), tape)
        assert_same(pickle.loads(pickle.dumps(tape)), tape)


ARGUMENTS = {
    "dict": {"b": 1.0, "a": [2.0, (), None, (3.0,)], 3: 4.0},
    "keys": {(1, "x"): 1.0, 2.5: 2.0, True: 3.0, None: 4.0, float("inf"): 5.0},
    "ordered": collections.OrderedDict(z=1.0, a=2.0),
    "default": collections.defaultdict(float, {"q": 1.0, "a": 2.0}),
    "no default": collections.defaultdict(None, {"q": 1.0}),
    "deque": collections.deque([1.0, 2.0], maxlen=3),
    "arrays": [np.ones((2, 3)), np.ones(()), np.ones((0, 4)), np.ones(5)],
    "empty": (),
    "persian": {"وزن": 1.0},
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_structures_come_back(name: str) -> None:
    argument = ARGUMENTS[name]
    tape = tpf.record(lambda x, y: {"result": x, "more": y}, argument, 1.0)
    again = tpf.load(saved(tape))
    assert_same(again, tape)
    assert str(again(argument, 2.0)) == str(tape(argument, 2.0))


def test_named_tuples_come_with_the_classes_given() -> None:
    tape = tpf.record(lambda p, x: Params(p.w * x, p.b), Params(2.0, 1.0), 3.0)
    again = tpf.load(saved(tape), types={"Params": Params})
    assert_same(again, tape)
    assert again(Params(2.0, 1.0), 5.0) == Params(10.0, 1.0)
    assert_same(pickle.loads(pickle.dumps(tape)), tape)
    with pytest.raises(tpf.TapeError, match=r"types=\{'Params': Params\}"):
        tpf.load(saved(tape))
    other = collections.namedtuple("Params", "w c")
    with pytest.raises(tpf.TapeError, match="not a named tuple of w, b"):
        tpf.load(saved(tape), types={"Params": other})


def test_gates_come_by_name() -> None:
    tape = tpf.record(lambda x: softsign(x) + Scale(3.0)(x) + Scale(5.0)(x), 1.0)
    given = {"softsign": softsign, "Scale": Scale(3.0), "Scale#2": Scale(5.0)}
    assert tpf.load(saved(tape), gates=given).value_and_grad(1.0) == (8.5, 8.25)
    with pytest.raises(tpf.TapeError, match=r"gates=\{'softsign': softsign\}"):
        tpf.load(saved(tape))
    with pytest.raises(tpf.TapeError, match=r"gates=\{'Scale#2': Scale\}"):
        tpf.load(saved(tape), gates={"softsign": softsign, "Scale": Scale})
    with pytest.raises(TypeError, match="gate Powers takes arguments: pass an instance"):
        tpf.load(saved(tape), gates={**given, "Scale": Powers})
    with pytest.raises(TypeError, match="is not a gate: decorate it"):
        tpf.load(saved(tape), gates={**given, "softsign": abs})
    assert pickle.loads(pickle.dumps(tape)).value_and_grad(1.0) == (8.5, 8.25)


def test_the_gradient_of_a_gate_is_saved() -> None:
    scale = Scale(4.0)
    tape = tpf.function(tpf.grad(lambda x: scale(x) * x)).tape(2.0)
    again = tpf.load(saved(tape), gates={"Scale": Scale(4.0)})
    assert again(2.0) == tape(2.0) == 16.0


def test_a_gate_of_other_operands_is_refused() -> None:
    @tpf.gate
    def other(x: Any, y: Any) -> Any:
        return x * y, (y, x)

    tape = tpf.record(lambda x: softsign(x), 1.0)
    with pytest.raises(tpf.TapeError, match="takes 2 inputs, and the tape's takes 1"):
        tpf.load(saved(tape), gates={"softsign": other})


def test_what_another_process_could_not_import_is_not_pickled() -> None:
    @tpf.gate
    def local(x: Any) -> Any:
        return x, (1.0,)

    tape = tpf.record(lambda x: local(x), 1.0)
    with pytest.raises(tpf.TapeError, match="cannot pickle <lambda>: local is not found"):
        pickle.dumps(tape)
    assert copy.copy(tape) is copy.deepcopy(tape) is tape


def test_what_the_format_cannot_hold_is_refused() -> None:
    tape = tpf.record(lambda d: d[frozenset([1])], {frozenset([1]): 1.0})
    with pytest.raises(tpf.TapeError, match="a dict's key frozenset"):
        tape.save(io.BytesIO())
    tape = tpf.record(lambda d: d["a"], collections.defaultdict(lambda: 1.0, a=1.0))
    with pytest.raises(tpf.TapeError, match="a default dict of <function"):
        tape.save(io.BytesIO())
    deep: Any = 1.0
    for _ in range(100):
        deep = [deep]
    with pytest.raises(tpf.TapeError, match="more than 64 containers"):
        tpf.record(lambda x: 1.0, deep).save(io.BytesIO())


def test_files_paths_and_streams(tmp_path: Path) -> None:
    tape = tpf.record(lambda x: x * 2.0, 1.0)
    path = tmp_path / "f.tape"
    tape.save(path)
    tape.save(str(path))
    assert os.listdir(tmp_path) == ["f.tape"]
    assert_same(tpf.load(path), tape)
    assert_same(tpf.load(str(path)), tape)
    assert path.read_bytes() == saved(tape).getvalue()
    # A file is read from where it stands, and need not be one that can seek.
    with path.open("rb") as file:
        assert_same(tpf.load(file), tape)
    later = io.BytesIO(b"before" + path.read_bytes())
    later.seek(6)
    assert_same(tpf.load(later), tape)
    with pytest.raises(TypeError, match="takes a path or a file"):
        tape.save(3)
    with pytest.raises(TypeError, match="takes a path or a file"):
        tpf.load(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="open it with 'rb'"):
        tpf.load(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        tpf.load(tmp_path / "g.tape")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="a device of Unix")
def test_devices_and_pipes(tmp_path: Path) -> None:
    with pytest.raises(tpf.TapeError, match="not a tape file"):
        tpf.load("/dev/zero")
    tape = tpf.record(lambda x: x * 2.0, 1.0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(saved(tape).getvalue()))
    writer.start()
    assert_same(tpf.load(pipe), tape)
    writer.join()
    with pytest.raises(FileNotFoundError, match=r"folder/f\.tape'"):
        tape.save(tmp_path / "folder" / "f.tape")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f.tape"
    path.write_bytes(b"the old one")
    tape = tpf.record(lambda d: d[frozenset([1])], {frozenset([1]): 1.0})
    with pytest.raises(tpf.TapeError):
        tape.save(path)
    assert path.read_bytes() == b"the old one"
    assert os.listdir(tmp_path) == ["f.tape"]
    link = tmp_path / "link"
    link.symlink_to(path)
    tpf.record(lambda x: x, 1.0).save(link)
    assert link.is_symlink()
    assert tpf.load(path)(2.0) == 2.0
    umask = os.umask(0o027)
    try:
        tpf.record(lambda x: x, 1.0).save(tmp_path / "new")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_numpy_reads_the_arrays_and_json_the_header() -> None:
    tape = tpf.record(lambda x: np.exp(x) * x, 1.0)
    with np.load(saved(tape), allow_pickle=False) as archive:
        assert np.array_equal(archive["opcodes"], tape.opcodes)
        assert np.array_equal(archive["operands"], tape.operands)
        header = json.loads(archive["header.json"])
    assert header["version"] == FORMAT
    assert header["tapes"][0]["fields"]["input_names"] == ["x"]


def test_a_tape_too_large_is_refused_before_memory_is_taken() -> None:
    tape = tpf.record(lambda x: np.sum(np.broadcast_to(x, (30_000, 1000))), 1.0)
    file = saved(tape)
    assert len(file.getvalue()) < 10_000
    with pytest.raises(tpf.TapeError, match="to evaluate the tape takes"):
        tpf.load(file, max_bytes=10**8)
    file.seek(0)
    with pytest.raises(tpf.TapeError, match="raise max_bytes"):
        tpf.load(file, max_bytes=100)
    with pytest.raises(ValueError, match="max_bytes must be"):
        tpf.load(file, max_bytes=-1)
    with pytest.raises(ValueError, match="max_bytes must be"):
        tpf.load(file, max_bytes="1 GB")  # type: ignore[arg-type]
