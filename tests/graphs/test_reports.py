"""Tables, summaries and profiles: their numbers, and how they are shown."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from rich.console import Console

import tapeflow as tpf
from tapeflow.graphs.cost import cost_of
from tapeflow.graphs.profile import Profile
from tapeflow.graphs.report import Section, columns, show
from tapeflow.graphs.summary import Summary
from tapeflow.graphs.theme import DARK, LIGHT, TEXT
from tapeflow.ops import BY_NAME, COMPILED
from tests.strategies import tapes

W, X = (2.0, -3.0, -3.0), (-1.0, -2.0)


def neuron(w: Any, x: Any) -> Any:
    return tpf.sigmoid(w[0] * x[0] + w[1] * x[1] + w[2])


def orbit(x: Any, y: Any) -> Any:
    for _ in range(200):
        x = x + 0.01 * y
        y = y - 0.01 * np.sin(x)
    return x


def test_a_table_in_a_notebook_is_html() -> None:
    tape = tpf.record(lambda وزن: وزن[0] * 2.0 < 3.0, (2.0,))
    text = tape.table()._repr_html_()
    assert "<bdi>وزن[0]</bdi>" in text
    assert '<td class="gradient"></td>' in text
    assert "prefers-color-scheme:dark" in text


def test_reports_are_shown_by_who_asks_for_them_and_once(capsys: Any) -> None:
    tape = tpf.record(neuron, W, X)
    branching = tpf.function(lambda x: x if x > 0.0 else -x)
    branching(1.0)
    makers = (tape.table, tape.summary, lambda: tape.profile(W, X), branching.paths)
    for report in (make() for make in makers):
        assert capsys.readouterr().out == ""
        assert repr(report) == str(report)
        assert report._repr_html_().count("<table>") == len(report.sections())
        print(report)
        show(report)
        assert capsys.readouterr().out == f"{report}\n{report}\n"


def test_a_profile_says_of_what_it_is() -> None:
    text = str(tpf.record(neuron, W, X).profile(W, X))
    assert text.startswith("one sample in the interpreter tier, a kernel for each gate: ")


def test_colours_on_a_terminal_do_not_change_the_text() -> None:
    tape = tpf.record(neuron, W, X)
    tape.forward(W, X)
    tape.backward()
    table = tape.table()
    coloured, plain = io.StringIO(), io.StringIO()
    Console(file=coloured, force_terminal=True, width=400).print(table)
    Console(file=plain, width=400).print(table)
    assert "\x1b[32m" in coloured.getvalue() and "\x1b[31m" in coloured.getvalue()
    lines = [line.rstrip() for line in plain.getvalue().splitlines()]
    assert "\n".join(lines) == str(table)


def test_long_tables_are_shown_in_part() -> None:
    def f(x: Any) -> Any:
        for _ in range(2000):
            x = np.sin(x)
        return x

    table = tpf.record(f, 1.0).table()
    assert len(list(table)) == len(table) == 2001
    lines = str(table).splitlines()
    assert len(lines) == 1002
    assert lines[501].strip() == "... 1,001 more"
    assert table._repr_html_().count("<tr>") == 1002


def test_empty_arrays_have_neither_depth_nor_cost() -> None:
    found: Summary = tpf.record(lambda x: x * 2.0, np.empty(0)).summary()
    assert (found.gates, found.depth, found.forward) == (1, 0, 0)


def test_columns_stand_below_each_other_whatever_the_script() -> None:
    section = Section(("name", "x"), ("text", "number"), [("وزن", "1"), ("\u2068w\u2069", "22")])
    assert [columns(line) for line in str(section).splitlines()] == [8, 8, 8]


def test_the_summary_of_a_loop_that_was_unrolled() -> None:
    tape = tpf.record(orbit, 1.0, 0.0)
    found: Summary = tape.summary()
    assert found.gates == len(tape) == 1000
    assert sum(kind.gates for kind in found.kinds) == 1000
    assert {kind.name: kind.gates for kind in found.kinds}["sin"] == 200
    assert found.depth == 1000  # each gate reads the one before it
    assert found.forward == 800 + 200 * cost_of(BY_NAME["sin"]).forward
    # One body after the other runs every instruction once.
    assert sum(body.gates * body.times for body in found.bodies) == 1000
    assert found.bodies[0].times > 10
    assert "1 in 1 call" not in str(found)


@settings(max_examples=30)
@given(tapes())
def test_depth_is_the_longest_chain(tape: tpf.Tape) -> None:
    levels = np.zeros(tape.n_slots, int)
    for i in range(len(tape)):
        levels[tape.slots[i]] = 1 + levels[tape.operands_of(i)].max()
    assert tape.summary().depth == levels.max()


def test_the_summary_counts_loops_branches_and_guards() -> None:
    def f(x: Any) -> Any:
        if x > 0.0:
            x = x * 2.0
        y = tpf.fori_loop(0, 50, lambda i, c: c * x + 1.0, x)
        return tpf.cond(y > 1.0, lambda u: u * u, lambda u: u, y)

    found: Summary = tpf.record(f, 1.0).summary()
    assert found.guards == 1
    assert [(one.name, one.steps) for one in found.inner] == [("fori_loop", 50), ("cond", 1)]
    assert found.inner[0].gates == 2
    loop = next(kind for kind in found.kinds if kind.name == "fori_loop")
    assert loop.forward == 50 * 2


def test_matrices_are_counted_by_their_sizes() -> None:
    found: Summary = tpf.record(lambda a, b: a @ b, np.ones((3, 5)), np.ones((5, 7))).summary()
    assert found.forward == 2 * 3 * 5 * 7


def test_every_op_has_a_cost() -> None:
    for op in COMPILED:
        cost = cost_of(op)
        assert cost.forward >= 1
        assert (cost.reverse == 0) == op.zero_derivative, op.name
    assert cost_of(BY_NAME["mul"]) == (1, 2)
    assert cost_of(BY_NAME["exp"]).forward > 10


def test_a_profile_adds_up() -> None:
    tape = tpf.record(orbit, 1.0, 0.0)
    found: Profile = tape.profile(1.0, 0.0)
    for parts in (found.by_op(), found.by_line()):
        assert sum(one.gates for one in parts.values()) == len(tape)
        assert sum(one.total for one in parts.values()) == pytest.approx(found.total, rel=1e-12)
    assert all(one.forward > 0.0 and one.reverse > 0.0 for one in found.spent)
    assert len(found.by_line()) == 2


@pytest.mark.jit
def test_a_profile_is_of_the_size_of_the_sweep() -> None:
    """Kernels run in groups take about as long as all in order: within a factor of four."""
    from tapeflow.engine.evaluate import sample_program

    def f(x: Any) -> Any:
        for _ in range(3000):
            x = np.exp(np.tanh(x))
        return x

    tape = tpf.record(f, 0.5)
    with tpf.config(tier="interpret"):
        program = sample_program(tape, slice(0, 1))
        program.results([0.5])
        times = []
        for _ in range(20):
            start = time.perf_counter()
            program.results([0.5])
            times.append(time.perf_counter() - start)
        found: Profile = tape.profile(0.5)
    assert min(times) / 4 < found.total < 4 * min(times)


@pytest.mark.parametrize(
    "f, args",
    [
        (lambda w, x: np.sum(np.tanh(w @ x)), (np.ones((3, 4)), np.ones(4))),
        (lambda x: tpf.fori_loop(0, 9, lambda i, c: c * x, x), (2.0,)),
        (lambda x: x, (2.0,)),
    ],
)
def test_profiles_of_arrays_of_loops_and_of_nothing(f: Any, args: Any) -> None:
    found: Profile = tpf.record(f, *args).profile(*args)
    assert found.svg.startswith("<svg") and "</svg>" in found._repr_html_()
    if found.spent:
        assert any(one.forward for one in found.spent) and any(one.reverse for one in found.spent)


def test_a_flame_is_saved_as_svg(tmp_path: Path) -> None:
    found = tpf.record(neuron, W, X).profile(W, X)
    found.save(tmp_path / "flame.svg")
    text = (tmp_path / "flame.svg").read_text()
    assert "sigmoid" in text and "test_reports.py" in text
    with pytest.raises(ValueError, match=r"cannot draw a profile as 'flame.png': end its name"):
        found.save(tmp_path / "flame.png")
    with pytest.raises(tpf.StructureError, match="was recorded for arguments of structure"):
        tpf.record(neuron, W, X).profile(W)


# Colours.


def linear(colour: str) -> Any:
    s = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255.0
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_has_contrast(colours: dict[str, str]) -> None:
    """WCAG 2, level AA: 4.5 to 1."""
    for role in TEXT:
        for paper in ("paper", "gate"):
            light, dark = sorted([luminance(colours[role]), luminance(colours[paper])])[::-1]
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (role, paper)
    assert LIGHT.keys() == DARK.keys()


# Viénot, Brettel and Mollon, "Digital video colourmaps for checking the legibility of displays by
# dichromats" (Color Res. Appl. 24, 1999): linear RGB to what a dichromat sees of it.
PROTAN = np.array([[0.1124, 0.8876, 0.0], [0.1124, 0.8876, 0.0], [0.0040, -0.0040, 1.0]])
DEUTAN = np.array([[0.2927, 0.7073, 0.0], [0.2927, 0.7073, 0.0], [-0.0223, 0.0223, 1.0]])


def lab(rgb: Any) -> Any:
    """CIE L*a*b* of linear RGB, D65."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    t = to_xyz @ np.clip(rgb, 0.0, 1.0) / (0.9505, 1.0, 1.089)
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16.0 / 116.0)
    return np.array([116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])])


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("eye", [PROTAN, DEUTAN], ids=["protan", "deutan"])
def test_values_and_gradients_differ_to_colour_blind_eyes(
    colours: dict[str, str], eye: Any
) -> None:
    """By 20 and more, where 2 is just noticeable side by side."""
    value, gradient = (lab(eye @ linear(colours[role])) for role in ("value", "gradient"))
    assert float(np.linalg.norm(value - gradient)) >= 20.0
