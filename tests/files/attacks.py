"""Tape files made by hand to do harm. Each is a whole file, with a hash that fits, but for one lie.

All are refused. An attack is a name and a function from the files of `fuzz.seeds` to a file.
"""

import copy
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tapeflow.ops import BY_NAME
from tests.files.crafted import parts, written

Files = dict[str, bytes]
Attack = Callable[[Files], bytes]


def on(tape: str, change: Callable[[Any, Any, Any], Any]) -> Attack:
    """A change to the main tape of a file: of its fields, lengths and arrays."""

    def attack(files: Files) -> bytes:
        header, arrays = parts(files[tape])
        row = header["tapes"][0]
        change(row["fields"], row["lengths"], arrays)
        return written(header, arrays)

    return attack


def put(name: str, at: int, value: Any, tape: str = "numbers") -> Attack:
    """One number of an array is another."""

    def change(fields: Any, lengths: Any, arrays: Any) -> None:
        array = arrays[name].copy()
        array[at] = value(array) if callable(value) else value
        arrays[name] = array

    return on(tape, change)


def field(path: list[Any], value: Any, tape: str = "numbers") -> Attack:
    """A part of the header is another."""

    def change(fields: Any, lengths: Any, arrays: Any) -> None:
        node = fields
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value

    return on(tape, change)


def of_lengths() -> Iterator[tuple[str, Attack]]:
    names = ("opcodes", "starts", "operands", "slots", "constants", "outputs", "locations")
    for name in names:
        for claimed in (-1, 0, 1, 2**31, 2**62, "3", 1.5, None, [3]):

            def change(
                fields: Any, lengths: Any, arrays: Any, name: str = name, claimed: Any = claimed
            ) -> None:
                lengths[name] = claimed

            if (name, claimed) != ("outputs", 1):
                yield f"{name} claims a length of {claimed}", on("numbers", change)
        for what, make in {
            "one more": lambda a: np.append(a, a[-1:]),
            "one less": lambda a: a[:-1],
            "none": lambda a: a[:0],
        }.items():

            def resize(
                fields: Any, lengths: Any, arrays: Any, name: str = name, make: Any = make
            ) -> None:
                arrays[name] = make(arrays[name])
                lengths[name] = len(arrays[name])

            yield f"{name} has {what}", on("numbers", resize)

        def widen(fields: Any, lengths: Any, arrays: Any, name: str = name) -> None:
            arrays[name] = arrays[name].astype(np.float32)

        yield f"{name} is of another type", on("numbers", widen)


def of_instructions() -> Iterator[tuple[str, Attack]]:
    for opcode in (57, 59, 77, 255, 263, 999, 1023, 1024, 1030, 2**16 - 1):
        yield f"opcode {opcode}", put("opcodes", 0, opcode)
    yield "an op of another arity", put("opcodes", 0, BY_NAME["mul"].opcode)
    yield "an op on arrays among numbers", put("opcodes", 0, BY_NAME["view"].opcode)
    for value in (-1, -(2**31), 2**31 - 1, 2**30):
        yield f"operand {value}", put("operands", 3, value)
        yield f"the first operand is {value}", put("operands", 0, value)
        yield f"output {value}", put("outputs", 0, value)
        yield f"slot {value}", put("slots", 2, value)
        yield f"the last slot is {value}", put("slots", -1, value)
        yield f"start {value}", put("starts", 2, value)
        yield f"the last start is {value}", put("starts", -1, value)

    def own(fields: Any, lengths: Any, arrays: Any) -> None:
        arrays["operands"] = np.append(arrays["slots"][:1], arrays["operands"][1:])

    yield "an instruction reads its own result", on("numbers", own)
    yield "a cycle", put("operands", 1, lambda a: int(a.max()))
    yield "the first reads the last", put("operands", 0, lambda a: int(a.max()))
    yield "slots begin below the constants", put("slots", 0, 2)
    yield "slots begin at nothing", put("slots", 0, 0)
    yield "two slots for a number", put("slots", 3, lambda a: a[3] + 1)
    yield "no slot for a number", put("slots", 3, lambda a: a[3] - 1)
    yield "a start too early", put("starts", 1, lambda a: a[1] - 1)
    yield "a start too late", put("starts", 1, lambda a: a[1] + 1)
    yield "a source that is not there", put("locations", 0, 255)
    yield "an output past the end", put("outputs", 0, lambda a: int(a.max()) + 10**6)


def of_parameters(files: Files) -> Iterator[tuple[str, Attack]]:
    """For each op on arrays, parameters that lie about the lengths of runs, or of the result."""
    seen = set()
    for tape in ("moves", "pullback of moves", "matrices", "pullback of matrices"):
        _, arrays = parts(files[tape])
        starts = arrays["parameter_starts"]
        names = {op.opcode: op.name for op in BY_NAME.values()}
        for i, opcode in enumerate(arrays["opcodes"].tolist()):
            first, last = starts[i : i + 2].tolist()
            name = names[opcode]
            if first == last or name in seen:
                continue
            seen.add(name)
            for value in (-2, 2**31, 2**62, -(2**63)):
                for at in {first, last - 1}:
                    yield (
                        f"{name}: parameter {at - first} is {value}",
                        put("parameters", at, value, tape),
                    )
            yield f"{name}: parameters of another", put("parameter_starts", i, last, tape)
            yield f"{name}: its result is longer", _longer(tape, i)


def _longer(tape: str, i: int) -> Attack:
    def change(fields: Any, lengths: Any, arrays: Any) -> None:
        slots = arrays["slots"].copy()
        slots[i + 1 :] += 1
        arrays["slots"] = slots

    return on(tape, change)


def of_headers() -> Iterator[tuple[str, Attack]]:
    for name in ("name", "sources", "input_structure", "output_structure", "input_names", "gates"):
        for value in (None, 7, {"x": 1}, [[["x"]]], "\x1b]0;x\x07", [None]):
            if (name, value) != ("output_structure", None):
                yield f"{name} is {value!r}", field([name], value)
    structures = {
        "a negative shape": {"array": [-1]},
        "two negative lengths": {"array": [-2, -3]},
        "a shape that overflows": {"array": [2**32, 2**32]},
        "a shape that overflows to 1": {"array": [2**31 - 1, 2**31 - 1]},
        "a shape of a hundred axes": {"array": [1] * 100},
        "a shape of texts": {"array": ["2"]},
        "an unknown container": {"set": ["number"]},
        "a class to import": {"named_tuple": [], "name": "os.system", "fields": []},
        "two kinds": {"tuple": [], "list": []},
        "a pair of one": {"dict": [["a"]]},
        "a key twice": {"dict": [["a", "number"], ["a", "number"]]},
        "a key of a list": {"dict": [[[1], "number"]]},
        "a factory that is code": {"default_dict": [], "factory": "eval"},
        "a deque too long": {"deque": ["number", "number"], "maxlen": 1},
        "a key that is no float": {"dict": [[{"float": "x"}, "number"]]},
        "no leaf": None,
    }
    for what, structure in structures.items():
        yield f"arguments: {what}", field(["input_structure"], {"tuple": [structure, "number"]})
        yield f"results: {what}", field(["output_structure"], {"list": [structure]})
    yield "arguments that are no tuple", field(["input_structure"], {"list": ["number", "number"]})
    deep: Any = "number"
    for _ in range(80):
        deep = {"tuple": [deep]}
    yield "a structure too deep", field(["input_structure"], {"tuple": [deep, "number"]})
    checkpoints = [[[5, 2]], [[0, 10**6]], [[-1, 2]], [[0, 4], [2, 6]], [[1]], [["0", 1]], [3], 3]
    for pairs in checkpoints:
        yield f"checkpoints {pairs}", field(["checkpoints"], pairs)
    guards = [[-1, 0, 0, 0, 0, "1"], [10**6, 0, 0, 0, 0, "1"], [0, 9, 0, 0, 0, "1"]]
    guards += [[0, 0, 999, 0, 0, "1"], [0, 0, 0, 0, 10**6, "1"], [0, 0, 0, 0, 0, "nan"]]
    guards += [[0, 0, 0, 0, 0, "x"], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [40, 0, 0, 0, 0, "1"]]
    for guard in guards:
        yield f"guard {guard}", field(["guards"], [guard])
    gates = [{"name": "os.system", "arity": 1}, {"name": "f"}, {"loop": None}, {"loop": {}}]
    gates += [{"switch": {"branches": [0]}}, {"name": "f", "arity": 1, "gradient": 0}, {}]
    for gate in gates:
        yield f"gate {gate}", field(["gates"], [gate])
    for what, source in {
        "no line": ["a", None, "b"],
        "two": ["a", 1],
        "a line of -1": ["a", -1, "b"],
    }.items():
        yield f"a source of {what}", field(["sources", 0], source)
    yield "an entry too many", field(["more"], 1)


def of_texts() -> Iterator[tuple[str, Attack]]:
    def text(make: Callable[[bytes], bytes]) -> Attack:
        def attack(files: Files) -> bytes:
            header, arrays = parts(files["numbers"])
            return written(make(json.dumps(header).encode()), arrays)

        return attack

    yield "a header that is no JSON", text(lambda _: b"{")
    yield "an empty header", text(lambda _: b"")
    yield "a header of brackets", text(lambda _: b"[" * 200_000)
    yield "a header of objects", text(lambda _: b'{"a":' * 100_000)
    yield "a header of another encoding", text(lambda old: old.decode().encode("utf-16"))
    yield "a header with a NaN", text(lambda old: old.replace(b'"version": 3', b'"version": NaN'))
    yield (
        "a huge number",
        text(lambda old: old.replace(b'"version": 3', b'"version": ' + b"9" * 9999)),
    )
    yield "a header that is a list", text(lambda old: b"[" + old + b"]")
    yield (
        "no tapes",
        text(lambda old: b'{"format":"tapeflow","version":3,"byteorder":"little","tapes":[]}'),
    )


def of_archives(files: Files) -> Iterator[tuple[str, Attack]]:
    def rezipped(**changes: Any) -> bytes:
        """The file's members, put into an archive in another way."""
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(files["numbers"])) as old, zipfile.ZipFile(out, "w") as new:
            for info in old.infolist():
                if info.filename in changes.get("without", ()):
                    continue
                name = changes.get("rename", {}).get(info.filename, info.filename)
                data = changes.get("data", {}).get(info.filename, old.read(info))
                kind = changes.get("compression", zipfile.ZIP_STORED)
                new.writestr(zipfile.ZipInfo(name), data, compress_type=kind)
            for name, data in changes.get("more", {}).items():
                new.writestr(zipfile.ZipInfo(name), data)
        return out.getvalue()

    def npy(array: Any, **options: Any) -> bytes:
        out = io.BytesIO()
        np.lib.format.write_array(out, array, **options)
        return out.getvalue()

    data = files["numbers"]
    _, arrays = parts(data)
    made = {
        "compressed": rezipped(compression=zipfile.ZIP_DEFLATED),
        "compressed by bzip2": rezipped(compression=zipfile.ZIP_BZIP2),
        "without a hash": rezipped(without=["sha256"]),
        "without a header": rezipped(without=["header.json"]),
        "without operands": rezipped(without=["operands.npy"]),
        "a member more": rezipped(more={"../../etc/passwd": b"x"}),
        "an array more": rezipped(more={"parameter_starts.npy": npy(np.zeros(3, np.int32))}),
        "a hash of something else": rezipped(data={"sha256": b"0" * 64}),
        "a short hash": rezipped(data={"sha256": b"0"}),
        "a pickle": rezipped(data={"operands.npy": npy(np.array([print], object))}),
        "a pickle alone": rezipped(data={"operands.npy": b"cos\nsystem\n(S'true'\ntR."}),
        "a matrix": rezipped(data={"operands.npy": npy(np.eye(4, dtype=np.int32))}),
        "numbers of the other order": rezipped(
            data={"operands.npy": npy(arrays["operands"].astype(">i4"))}
        ),
        "another version of npy": rezipped(
            data={"operands.npy": npy(arrays["operands"], version=(2, 0))}
        ),
        "a renamed header": rezipped(rename={"header.json": "Header.json"}),
        "nothing": b"",
        "a text": b"hello",
        "an empty archive": b"PK\x05\x06" + bytes(18),
        "bytes behind it": data + b"x" * 70_000,
    }
    end = data.rindex(b"PK\x05\x06")
    directory = data.index(b"PK\x01\x02")
    fields_ = {"offset": 42, "compressed size": 20, "size": 24, "name length": 28, "flags": 8}
    for what, at in fields_.items():
        for value in (1, 0xFFFE, 0xFFFFFFFE):
            own = bytearray(data)
            size = 2 if what in ("name length", "flags") else 4
            own[directory + at : directory + at + size] = struct.pack("<I", value)[:size]
            made[f"{what} of a member is {value}"] = bytes(own)
    for what, at in {"size of the directory": 12, "place of it": 16}.items():
        for value in (0, 1, 0xFFFE):
            own = bytearray(data)
            own[end + at : end + at + 2] = struct.pack("<H", value)
            made[f"{what} is {value}"] = bytes(own)
    for part in range(1, 20):
        made[f"cut at {part} of 20"] = data[: len(data) * part // 20]
    made["a name twice"] = _twice(data)
    for what, own_data in made.items():
        yield f"an archive: {what}", lambda _, own_data=own_data: own_data


def _twice(data: bytes) -> bytes:
    out = io.BytesIO(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr(zipfile.ZipInfo("sha256"), b"0" * 64)
    return out.getvalue()


def of_loops(files: Files) -> Iterator[tuple[str, Attack]]:
    def loop(change: Callable[[Any, Any], None]) -> Attack:
        def attack(files: Files) -> bytes:
            header, arrays = parts(files["loops"])
            header = copy.deepcopy(header)
            gates = [gate for tape in header["tapes"] for gate in tape["fields"]["gates"]]
            scan = next(gate["loop"] for gate in gates if "loop" in gate and gate["loop"]["ys"])
            switch = next(gate["switch"] for gate in gates if "switch" in gate)
            change(scan, switch)
            return written(header, arrays)

        return attack

    def set_in(k: int, path: list[Any], value: Any) -> Attack:
        def change(*both: Any) -> None:
            node = both[k]
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value

        return loop(change)

    for body in (-1, 0, 99, None, "1"):
        yield f"a body of tape {body}", set_in(0, ["phases", 0, "body"], body)
        yield f"a branch of tape {body}", set_in(1, ["branches", 0], body)
    for name, value in {
        "xs": [2],
        "ys": [2**31 - 1],
        "streams": [-1],
        "consts": [],
        "counted": True,
        "phases": [],
        "start": 1,
    }.items():
        yield f"a loop whose {name} is {value}", set_in(0, [name], value)
    for name, value in {"n_carries": 9, "results": [7], "writes": [["y", 3]], "reads": []}.items():
        yield f"a phase whose {name} is {value}", set_in(0, ["phases", 0, name], value)
    for kind in ("stream", "go", "y", "nothing"):
        yield f"a phase that reads {kind}", set_in(0, ["phases", 0, "reads", 0], [kind, 0])

    def twice(scan: Any, switch: Any) -> None:
        reads = scan["phases"][0]["reads"]
        carry = next(place for place in reads if place[0] == "carry")
        reads[next(k for k, place in enumerate(reads) if place[0] == "x")] = carry

    yield "a carry that is read twice", loop(twice)
    yield "no branches", set_in(1, ["branches"], [])
    yield "branches that read what is not there", set_in(1, ["reads"], [[9, 9], [9, 9]])
    yield "lengths of branches", set_in(1, ["lengths"], [5, 5, 5])


def attacks(files: Files) -> dict[str, Attack]:
    """All of them, by name."""
    groups = [of_lengths(), of_instructions(), of_parameters(files), of_headers(), of_texts()]
    groups += [of_archives(files), of_loops(files)]
    found: dict[str, Attack] = {}
    for group in groups:
        for name, attack in group:
            assert name not in found, name
            found[name] = attack
    return found
