"""Drawn graphs: what they show, and that nothing overlaps."""

import html
import operator
import re
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.graphs.compose import RADIUS
from tapeflow.graphs.picture import Picture
from tapeflow.graphs.scene import Box, Stroke, Text
from tests.browser import Browser, needs_chromium
from tests.strategies import tapes

W, X = (2.0, -3.0, -3.0), (-1.0, -2.0)


def neuron(w: Any, x: Any) -> Any:
    return tpf.sigmoid(w[0] * x[0] + w[1] * x[1] + w[2])


def mixed(*values: Any, gates: int = 200) -> Any:
    """As many gates, and one, that read each other at random."""
    v, rng = list(values), np.random.default_rng(1)
    for _ in range(gates):
        a, b = (v[-1 - int(rng.exponential(8.0)) % len(v)] for _ in range(2))
        kinds = (operator.mul, operator.add, np.maximum, lambda a, _: np.sin(a))
        v.append(kinds[rng.integers(4)](a, b))
    return v[-1] + v[-2]


def halved(x: Any, times: int) -> Any:
    for _ in range(times):
        x = x * 0.5
    return x


def persian(وزن: Any, ورودی: Any) -> Any:
    return وزن[0] * ورودی + وزن[1]


def texts(picture: Picture, role: str) -> list[str]:
    return [text.text for text in picture.scene.texts if text.style.role == role]


def touching(a: Any, b: Any) -> Any:
    """Which boxes of a (n, 4) and b (m, 4) overlap: (n, m)."""
    a, b = a[:, None, :], b[None, :, :]
    across = (a[..., 0] < b[..., 2]) & (b[..., 0] < a[..., 2])
    return across & (a[..., 1] < b[..., 3]) & (b[..., 1] < a[..., 3])


def assert_nothing_overlaps(picture: Picture) -> None:
    """No text touches another, or a wire; no gate touches a text of another, or another gate."""
    scene = picture.scene
    items = [(group.id, item) for group in scene.groups for item in group.items]
    labels = [(owner, item.box) for owner, item in items if isinstance(item, Text)]
    bodies = [
        (owner, (item.x, item.y, item.x + item.width, item.y + item.height))
        for owner, item in items
        if isinstance(item, Box) and owner.startswith("n")
    ]
    text = np.array([box for _, box in labels]).reshape(-1, 4)
    body = np.array([box for _, box in bodies]).reshape(-1, 4)
    assert (text >= 0.0).all() and (text[:, 2:] <= (scene.width, scene.height)).all()
    assert not np.triu(touching(text, text), 1).any()
    own = np.array([owner for owner, _ in bodies], object)
    assert not (touching(body, body) & (own[:, None] != own)).any()
    owners = np.array([owner for owner, _ in labels], object)
    assert not (touching(body, text) & (own[:, None] != owners)).any()
    points = np.array([p for _, item in items if isinstance(item, Stroke) for p in along(item)])
    for left, top, right, bottom in text if len(points) else ():
        x, y = points.T
        assert not ((x > left) & (x < right) & (y > top) & (y < bottom)).any()


def along(stroke: Stroke) -> list[tuple[float, float]]:
    """Points of a wire, some pixels apart."""
    found: list[Any] = []
    here = np.zeros(2)
    t = np.linspace(0.0, 1.0, 25)[:, None]
    for kind, points in stroke.pieces:
        ends = [np.array(p) for p in points]
        if kind == "L":
            found.append(here + t * (ends[0] - here))
        elif kind == "C":
            a, b, c = ends
            s = 1.0 - t
            found.append(s**3 * here + 3 * s**2 * t * a + 3 * s * t**2 * b + t**3 * c)
        here = ends[-1]
    return [tuple(p) for part in found for p in part]


@settings(max_examples=60)
@given(tapes(), st.booleans(), st.data())
def test_nothing_overlaps(tape: tpf.Tape, swept: bool, data: st.DataObject) -> None:
    inputs = data.draw(st.lists(st.floats(-1e9, 1e9), min_size=4, max_size=4))
    at = tuple(inputs[: tape.n_inputs]) if swept else None
    assert_nothing_overlaps(tape.draw(at=at))


@pytest.mark.parametrize("level", ["line", "function", "file"])
def test_nothing_overlaps_where_gates_are_collapsed(level: str) -> None:
    args = (1.0, 2.0, 0.5, 0.3)
    assert_nothing_overlaps(tpf.record(mixed, *args).draw(by=level))


def test_the_lectures_neuron() -> None:
    picture = tpf.record(neuron, W, X).draw(at=(W, X))
    assert texts(picture, "ink") == [
        "w[0]", "w[1]", "w[2]", "x[0]", "x[1]", "×", "×", "+", "+", "σ", "neuron",
    ]  # fmt: skip
    assert texts(picture, "value") == [
        "2", "−3", "−3", "−1", "−2", "−2", "6", "4", "1", "0.7311",
    ]  # fmt: skip
    assert texts(picture, "gradient") == [
        "−0.1966", "−0.3932", "0.1966", "0.3932", "−0.5898",
        "0.1966", "0.1966", "0.1966", "0.1966", "1",
    ]  # fmt: skip


def test_values_and_gradients_are_those_of_the_last_sweeps() -> None:
    tape = tpf.record(neuron, W, X)
    assert not texts(tape.draw(), "value")
    tape.forward(W, X)
    assert "0.7311" in texts(tape.draw(), "value")
    assert not texts(tape.draw(), "gradient")
    tape.backward(2.0)
    assert texts(tape.draw(), "gradient")[-1] == "2"
    # Values of its own leave those of the thread as they are.
    tape.draw(at=((0.0, 0.0, 0.0), X))
    assert texts(tape.draw(), "gradient")[-1] == "2"


def test_a_value_that_is_read_twice_forks_and_its_gradients_add_up() -> None:
    tape = tpf.record(lambda x, y: x * y + x, 1.0, 1.0)
    picture = tape.draw(at=(3.0, 4.0))
    x = picture.graph.nodes[0]
    branches = [p.gradient for node in picture.graph.nodes for p in node.ports if p.source == 0]
    assert x.gradient == "5"
    assert sorted(branches) == ["1", "4"]
    dots = [
        item
        for group in picture.scene.groups
        for item in group.items
        if group.id == "w0" and isinstance(item, Box)
    ]
    assert len(dots) == 1
    assert dots[0].width == dots[0].height < RADIUS


@settings(max_examples=40)
@given(tapes(longest=12), st.data())
def test_what_flows_back_along_the_branches_is_the_gradient(
    tape: tpf.Tape, data: st.DataObject
) -> None:
    from tapeflow.engine.evaluate import sweeps_at
    from tapeflow.graphs.graph import _Builder

    inputs = data.draw(st.lists(st.floats(-2.0, 2.0), min_size=4, max_size=4))
    sweeps = sweeps_at(tape, tuple(inputs[: tape.n_inputs]))
    builder = _Builder(tape, sweeps)
    builder.graph()
    total = np.zeros(tape.n_slots)
    size = np.zeros(tape.n_slots)
    np.add.at(total, tape.outputs, 1.0)
    size += np.abs(total)
    for i in range(len(tape)):
        for slot, flow in zip(tape.operands_of(i).tolist(), builder._flows(i), strict=True):
            assert flow is not None
            total[slot] += flow[0]
            size[slot] += abs(flow[0])
    assert sweeps.cotangents is not None
    slots = [*range(tape.n_inputs), *tape.slots[:-1].tolist()]
    reached = np.isfinite(total) & np.isfinite(sweeps.cotangents) & (sweeps.cotangents != 0.0)
    for slot in slots:
        if reached[slot]:
            # Each term is a product and a sum, rounded; the sweep rounds both at once.
            error = abs(total[slot] - sweeps.cotangents[slot])
            assert error <= 2.0**-52 * (2 * len(tape) + 2) * size[slot]


def test_an_array_shows_its_shape_and_a_part_its_place() -> None:
    def f(w: Any, x: Any) -> Any:
        h = np.tanh(w @ x)
        return np.sum(h * h) / h[0]

    w, x = np.full((3, 4), 0.1), np.arange(4.0)
    picture = tpf.record(f, w, x).draw(at=(w, x))
    assert texts(picture, "faint") == ["3×4", "4", "3", "3", "3", "[0]"]
    assert "[0.537, 0.537, 0.537]" in texts(picture, "value")
    assert_nothing_overlaps(picture)


def test_constants_are_part_of_their_gate() -> None:
    def f(x: Any) -> Any:
        return np.maximum(1.0 / (1.0 + x**2) - 0.5 * x, 0.25)

    picture = tpf.record(f, 1.0).draw()
    assert texts(picture, "ink") == ["x", "x²", "+1", "1/x", "×0.5", "−", "max", "f"]
    assert texts(picture, "faint") == ["0.25"]


def test_a_gate_whose_value_decided_a_branch_has_a_second_circle() -> None:
    def f(x: Any) -> Any:
        return x * 2.0 if x > 0.0 else x

    guarded = [n.text for n in tpf.record(f, 1.0).draw().graph.nodes if n.guarded]
    assert guarded == [">0"]


def test_names_from_right_to_left_keep_their_order() -> None:
    """Each is isolated, so that brackets and numbers beside it stay where they belong."""
    svg = tpf.record(persian, (2.0, 3.0), 4.0).draw().svg
    assert "\u2068وزن\u2069[0]" in svg
    assert "\u2068ورودی\u2069" in svg


def test_long_tapes_are_collapsed_and_every_gate_is_counted() -> None:
    def step(x: Any, y: Any) -> Any:
        x = x * y + 0.1
        return np.sin(x), y - x

    def f(x: Any, y: Any) -> Any:
        for _ in range(100):
            x, y = step(x, y)
        return x

    tape = tpf.record(f, 1.0, 2.0)
    for level, boxes in (("auto", 2), ("line", 2), ("function", 1), ("file", 1)):
        groups = [n for n in tape.draw(by=level).graph.nodes if n.kind == "group"]
        assert len(groups) == boxes
        assert sum(len(n.instructions) for n in groups) == len(tape)
    lines = [node.lines for node in tape.draw().graph.nodes if node.kind == "group"]
    assert lines[0][0] == "x = x * y + 0.1"
    assert lines[0][1].startswith("200 gates: 100 add, 100 mul")


def test_two_hundred_gates_are_drawn_in_less_than_half_a_second() -> None:
    args = (1.0, 2.0, 0.5, 0.3)
    tape = tpf.record(mixed, *args)
    times = []
    for _ in range(4):  # the first brings Numba, and others may meet a thread that compiles
        start = time.process_time()
        picture = tape.draw(at=args, by="gate")
        assert "</svg>" in picture.svg
        times.append(time.process_time() - start)
    assert min(times) < 0.5
    assert_nothing_overlaps(picture)


def test_a_million_gates_are_collapsed_in_a_few_seconds() -> None:
    def f(x: Any) -> Any:
        for _ in range(100_000):
            x = x * 0.5 + 1.0
        return x

    tape = tpf.record(f, 1.0)
    start = time.process_time()
    assert len(tape.draw().graph.nodes) == 3
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize("ending", ["svg", "dot", "png", "pdf"])
def test_files(tmp_path: Path, ending: str) -> None:
    tape = tpf.record(persian, (2.0, 3.0), 4.0)
    path = tmp_path / f"graph.{ending}"
    tape.draw(path, at=((2.0, 3.0), 4.0))
    data = path.read_bytes()
    if ending == "svg":
        root = ElementTree.fromstring(data)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    start = {"svg": b"<svg", "dot": b"digraph", "png": b"\x89PNG", "pdf": b"%PDF"}[ending]
    assert data.startswith(start)


def test_dot_has_an_edge_for_each_operand() -> None:
    dot = tpf.record(neuron, W, X).draw(at=(W, X)).dot
    assert dot.count(" -> ") == 10
    assert '"w[0]"' in dot and "0.7311" in dot


def test_another_format_is_refused(tmp_path: Path) -> None:
    tape = tpf.record(neuron, W, X)
    with pytest.raises(ValueError, match=r"cannot draw a graph as '.gif': end the file's name in"):
        tape.draw(tmp_path / "graph.gif")
    with pytest.raises(ValueError, match="cannot draw by 'colour': choose one of auto, gate"):
        tape.draw(by="colour")
    with pytest.raises(tpf.StructureError, match="was recorded for arguments of structure"):
        tape.draw(at=(W,))
    with pytest.raises(TypeError, match=r"at= takes the arguments of neuron in a tuple, not a fl"):
        tape.draw(at=1.0)
    long = tpf.record(lambda x: halved(x, 4000), 1.0)
    with pytest.raises(ValueError, match="cannot draw 4,000 gates one by one, but up to 3,000"):
        long.draw(by="gate")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tape.draw(tmp_path / "nowhere" / "graph.svg")


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'graph.png needs matplotlib: pip install "tapeflow'):
        tpf.record(neuron, W, X).draw(tmp_path / "graph.png")


def test_a_tape_shows_itself_in_a_notebook() -> None:
    bundle = tpf.record(neuron, W, X)._repr_mimebundle_()
    assert bundle["text/plain"] == "<tapeflow.Tape neuron: 5 inputs, 5 instructions, 1 outputs>"
    assert bundle["image/svg+xml"].startswith("<svg")
    assert bundle["image/svg+xml"] in bundle["text/html"]


def test_names_are_escaped() -> None:
    tape = tpf.record(lambda p: p["<b>&"] * 2.0, {"<b>&": 1.0})
    svg = tape.draw().svg
    ElementTree.fromstring(svg)
    assert html.escape("p['<b>&']") in svg


@pytest.mark.parametrize(
    "f, args",
    [
        (lambda x: x, (1.0,)),
        (lambda x: 3.0, (1.0,)),
        (lambda x, y: (x, x, y * 0.0), (1.0, 2.0)),
        (lambda x: np.concatenate([x, x])[::2], (np.arange(3.0),)),
        (lambda x: {"a": x[1], "b": [x, x[0:2]]}, (np.arange(3.0),)),
        (lambda x: np.sum(x), (np.empty(0),)),
        (lambda x: x * 2.0, (np.empty(0),)),
        (lambda: 1.0, ()),
        (lambda x: (), (1.0,)),
    ],
)
def test_graphs_that_hardly_have_gates(f: Any, args: Any) -> None:
    picture = tpf.record(f, *args).draw(at=args)
    ElementTree.fromstring(picture.svg)
    assert_nothing_overlaps(picture)


@needs_chromium
def test_text_is_no_wider_than_it_was_taken_for(tmp_path: Path) -> None:
    """In a real browser every text lies in its box, so that what holds of boxes holds of texts."""
    tape = tpf.record(lambda وزن, x: np.tanh(وزن[0] * x + 1e-5) ** 3 / (1.0 + x), (2.0, 1.0), 0.1)
    for picture in (tape.draw(at=((2.0, 1.0), 0.1)), tape.draw(by="line")):
        page = tmp_path / "graph.svg"
        picture.save(page)
        with Browser() as browser:
            browser.open(page)
            measured = browser.run(
                "[...document.querySelectorAll('text')].map(t => {"
                "const b = t.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]})"
            )
        for text, (left, _, right, _) in zip(picture.scene.texts, measured, strict=True):
            assert text.box[0] <= left + 0.6 and right <= text.box[2] + 0.6, text


def test_coordinates_are_numbers() -> None:
    svg = tpf.record(neuron, W, X).draw(at=(W, X)).svg
    assert not re.search(r"(nan|inf)", svg.split("</style>")[1])
