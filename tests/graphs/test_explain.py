"""The page that steps through a tape, in a real browser: its numbers are the library's."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.engine.evaluate import sweeps_at
from tapeflow.graphs.explain import MOST_BYTES
from tapeflow.graphs.unroll import unrolled
from tests.browser import Browser, PageError, needs_chromium
from tests.strategies import identical, numbers, tapes, wild

pytestmark = needs_chromium

W, X = (2.0, -3.0, -3.0), (-1.0, -2.0)


def neuron(w: Any, x: Any) -> Any:
    return tpf.sigmoid(w[0] * x[0] + w[1] * x[1] + w[2])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def floats(found: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(
        [float(x.replace("Infinity", "inf").replace("NaN", "nan")) for x in found], np.float64
    )


def flat_inputs(args: Any) -> Any:
    return np.concatenate([np.ravel(x) for x in args])


VALUES = "now.V.map(x => Object.is(x, -0) ? '-0' : String(x))"
GRADIENTS = "now.G.map(String)"


def edit(browser: Browser, k: int, value: str) -> None:
    """Write into a field: inputs come first, then seeds."""
    browser.run(
        f"(() => {{ const e = document.querySelectorAll('input[type=text]')[{k}];"
        f"e.value = {json.dumps(value)}; e.dispatchEvent(new Event('input')); }})()"
    )


def assert_page_agrees(browser: Browser, tape: tpf.Tape, inputs: tuple[Any, ...]) -> None:
    """Every value and gradient of the page is that of the tape, which is of numbers, bit for bit.

    JavaScript writes the shortest digits that give a number back, as Python reads them.
    """
    sweeps = sweeps_at(tape, inputs)
    assert sweeps.values is not None and sweeps.cotangents is not None
    slots = [*range(tape.n_inputs), *range(int(tape.slots[0]), tape.n_slots)]
    assert identical(floats(browser.run(VALUES))[slots], sweeps.values[slots])
    assert identical(floats(browser.run(GRADIENTS))[slots], sweeps.cotangents[slots])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tapes(longest=15), st.data())
def test_numbers_are_those_of_the_library(
    browser: Browser, tmp_path: Path, tape: tpf.Tape, data: st.DataObject
) -> None:
    n = tape.n_inputs
    inputs = tuple(data.draw(st.lists(numbers | wild, min_size=n, max_size=n)))
    tape.explain(tmp_path / "page.html", at=inputs)
    browser.open(tmp_path / "page.html")
    assert_page_agrees(browser, tape, inputs)


def test_stepping_forward_and_back(browser: Browser, tmp_path: Path) -> None:
    tape = tpf.record(neuron, W, X)
    tape.explain(tmp_path / "page.html", at=(W, X))
    browser.open(tmp_path / "page.html")

    def text(element: str) -> str:
        return str(browser.run(f"document.querySelector('{element}').textContent"))

    assert text("#where") == "0 / 11 start"
    assert text("#v0") == "2" and text("#v5") == ""
    browser.run("document.querySelector('#next').click()")
    assert "v0 = w[0]·x[0]" in text("#now")
    assert "∂v0/∂w[0] = x[0] = −1" in text("#now")
    assert browser.run("document.querySelector('.lit > text').textContent") == "×"
    for _ in range(4):
        browser.key("ArrowRight")
    assert "v4 = sigmoid(v3)" in text("#now") and "0.731059" in text("#now")
    assert "∂v4/∂v3 = (1 − v4)·v4 = 0.196612" in text("#now")
    browser.key("ArrowRight")
    assert "∂neuron/∂neuron = 1" in re.sub(r"\s+", " ", text("#now"))
    browser.key("End")
    assert text("#where") == "11 / 11 backward"
    shown = re.sub(r"\s+", " ", text("#now"))
    assert "∂neuron/∂v0 · ∂v0/∂w[0] = 0.196612 · (−1) = −0.196612" in shown
    assert text("#g0") == "−0.1966"
    rows = browser.run(
        "[...document.querySelectorAll('#inputs tr')].slice(1).map(r => r.innerText)"
    )
    assert all("✓" in row for row in rows)
    browser.key("ArrowLeft")
    assert text("#where") == "10 / 11 backward"
    assert text("#g0") == ""  # the gradient has not come that far
    browser.key("Home")
    assert text("#where") == "0 / 11 start"


def test_an_edited_input_changes_every_number(browser: Browser, tmp_path: Path) -> None:
    tape = tpf.record(neuron, W, X)
    tape.explain(tmp_path / "page.html", at=(W, X))
    browser.open(tmp_path / "page.html")

    edit(browser, 0, "0.7")
    edit(browser, 4, "۱۲٫۵")  # twelve and a half, in Persian digits
    assert_page_agrees(browser, tape, ((0.7, -3.0, -3.0), (-1.0, 12.5)))
    before = browser.run(VALUES)
    edit(browser, 1, "not a number")
    assert browser.run("document.querySelectorAll('input.bad').length") == 1
    assert browser.run(VALUES) == before
    edit(browser, 1, "-inf")
    assert_page_agrees(browser, tape, ((0.7, -np.inf, -3.0), (-1.0, 12.5)))
    assert browser.run("document.querySelectorAll('input.bad').length") == 0


def test_gradients_add_up_where_a_value_is_read_twice(browser: Browser, tmp_path: Path) -> None:
    tape = tpf.record(lambda x, y: x * y + x, 1.0, 1.0)
    tape.explain(tmp_path / "page.html", at=(3.0, 4.0))
    browser.open(tmp_path / "page.html")
    browser.key("End")
    shown = browser.run("document.querySelector('#now').textContent.replace(/\\s+/g, ' ')")
    assert "sum so far: 1 + 4 = 5" in shown
    flows = browser.run("['f0_0', 'f1_1'].map(id => document.getElementById(id).textContent)")
    assert flows == ["4", "1"]


def test_several_results_have_seeds(browser: Browser, tmp_path: Path) -> None:
    tape = tpf.record(lambda x, y: (x * y, np.sin(x)), 1.0, 1.0)
    tape.explain(tmp_path / "page.html", at=(3.0, 4.0))
    browser.open(tmp_path / "page.html")
    edit(browser, 3, "-2")
    tape.forward(3.0, 4.0)
    expected = tape.backward((1.0, -2.0))
    assert identical(floats(browser.run(GRADIENTS))[:2], expected)


@pytest.mark.parametrize(
    "f, args",
    [
        (lambda w, x: -np.log(tpf.nn.softmax(w @ x)[1]), (np.eye(3, 2), np.array([0.5, -1.0]))),
        (lambda x: np.sum(np.tanh(x) ** 2) / np.max(x), (np.array([0.5, 2.0, 2.0, 2.0]),)),
        (lambda x: np.cumsum(x[::2])[-1] * np.linalg.norm(x), (np.arange(5.0),)),
    ],
)
def test_arrays_are_taken_apart(browser: Browser, tmp_path: Path, f: Any, args: Any) -> None:
    tape = tpf.record(f, *args)
    tape.explain(tmp_path / "page.html", at=args)
    browser.open(tmp_path / "page.html")
    assert_page_agrees(browser, unrolled(tape, flat_inputs(args), 1000).tape, args)
    tape.forward(*args)
    gradients = tape.backward()
    flat = np.concatenate([np.ravel(g) for g in (gradients if len(args) > 1 else [gradients])])
    # Sums of a few terms, in another order than the whole arrays'.
    assert np.allclose(floats(browser.run(GRADIENTS))[: len(flat)], flat, rtol=1e-13, atol=1e-15)


def test_gates_of_the_users_own(browser: Browser, tmp_path: Path) -> None:
    @tpf.gate
    class Multiply:
        def forward(self, x: Any, y: Any) -> Any:
            self.x, self.y = x, y
            return x * y

        def backward(self, dz: Any) -> Any:
            return [self.y * dz, self.x * dz]

    @tpf.gate
    def softsign(x: Any) -> Any:
        d = 1.0 + abs(x)
        return x / d, (1.0 / (d * d),)

    multiply = Multiply()
    tape = tpf.record(lambda x, y: softsign(multiply(x, y)), 1.0, 1.0)
    tape.explain(tmp_path / "page.html", at=(3.0, -0.2))
    browser.open(tmp_path / "page.html")
    tape.forward(3.0, -0.2)
    assert identical(floats(browser.run(GRADIENTS))[:2], tape.backward())


def test_a_branch_that_would_go_another_way_is_said(browser: Browser, tmp_path: Path) -> None:
    def f(x: Any) -> Any:
        return x * 2.0 if x > 0.0 else -x

    tpf.record(f, 1.5).explain(tmp_path / "page.html", at=(1.5,))
    browser.open(tmp_path / "page.html")
    assert browser.run("document.getElementById('branch').hidden")
    edit(browser, 0, "-1")
    assert not browser.run("document.getElementById('branch').hidden")
    assert "takes another branch" in browser.run("document.getElementById('branch').textContent")


def test_a_loop_that_would_take_more_steps_is_said(browser: Browser, tmp_path: Path) -> None:
    tape = tpf.record(lambda x: tpf.while_loop(lambda c: c < 9.0, lambda c: c * x, x), 2.0)
    tape.explain(tmp_path / "page.html", at=(2.0,))
    browser.open(tmp_path / "page.html")
    assert_page_agrees(browser, unrolled(tape, np.array([2.0]), 100).tape, (2.0,))
    for value, hidden in (("1.5", False), ("2.05", True)):
        edit(browser, 0, value)
        assert browser.run("document.getElementById('branch').hidden") is hidden


def test_what_the_library_computes_is_shown_and_fixed(browser: Browser, tmp_path: Path) -> None:
    def f(a: Any, b: Any, s: Any) -> Any:
        z = np.linalg.solve(a, b)
        return s * np.sum(z**2), z[0]

    args = (np.array([[4.0, 1.0], [0.5, 3.0]]), np.array([1.0, 2.0]), 1.5)
    tape = tpf.record(f, *args)
    tape.explain(tmp_path / "page.html", at=args)
    browser.open(tmp_path / "page.html")
    text = browser.run("document.getElementById('fixed').textContent")
    assert re.fullmatch(r"Not computed by this page, .*: solve \(test_explain.py:\d+\)\. .*", text)
    fields = "[...document.querySelectorAll('#inputs input')].map(e => e.disabled)"
    assert browser.run(fields) == [True] * 6 + [False]
    values = tape.forward(*args)
    seeds = (1.0, -2.0)
    edit(browser, 6, "2.5")
    edit(browser, 8, "-2")
    tape.forward(*args[:2], 2.5)
    gradients = np.concatenate([np.ravel(g) for g in tape.backward(seeds)])
    assert np.allclose(floats(browser.run(GRADIENTS))[:7], gradients, rtol=1e-12)
    assert browser.run("now.V[TAPE.outputs[1][1]]") == values[1]
    browser.key("End")
    browser.wait("!document.querySelector('[data-check]')")
    text = browser.run("document.getElementById('inputs').innerText")
    assert text.count("✓") == 1 and "≠" not in text  # those of the others were at another s
    edit(browser, 6, "1.5")
    browser.wait("!document.querySelector('[data-check]')")
    text = browser.run("document.getElementById('inputs').innerText")
    assert text.count("✓") == 7 and "≠" not in text
    browser.run("go(1)")
    assert "The library has computed it" in browser.run(
        "document.getElementById('now').textContent"
    )


def test_long_loops_are_one_gate(browser: Browser, tmp_path: Path) -> None:
    tape = tpf.record(lambda x: tpf.fori_loop(0, 5000, lambda k, c: np.sin(c) + x, x) * x, 0.5)
    tape.explain(tmp_path / "page.html", at=(0.25,))
    browser.open(tmp_path / "page.html")
    value, gradient = tape.value_and_grad(0.25)
    assert browser.run("now.V[TAPE.outputs[0][1]]") == value
    assert browser.run("now.G[0]") == pytest.approx(gradient, rel=1e-12)


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_and_a_dark_room(
    browser: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    tape = tpf.record(lambda وزن, x: tpf.sigmoid(وزن[0] * x + وزن[1]), (1.0, 2.0), 3.0)
    tape.explain(tmp_path / "page.html", at=((1.0, 2.0), 3.0))
    browser.open(tmp_path / "page.html", width=width, height=844, dark=dark)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
    small = browser.run(
        "[...document.querySelectorAll('button')].map(b => b.getBoundingClientRect())"
        ".filter(r => r.width < 44 || r.height < 40).length"
    )
    assert small == 0  # a finger's width
    assert browser.run(
        "[...document.querySelectorAll('button, input')].every(e => e.getAttribute('aria-label'))"
    )


def test_a_page_needs_nothing_else(tmp_path: Path) -> None:
    page = tpf.record(neuron, W, X).explain()
    assert not re.search(r"(src|href)\s*=|@import|url\(|https?://(?!www\.w3\.org/)", page.html)
    assert len(page.html.encode()) < 50_000


def test_the_largest_page_is_less_than_300_kilobytes(browser: Browser, tmp_path: Path) -> None:
    """Two hundred gates of every kind, each drawn."""
    from tapeflow.ops import COMPILED

    def f(x: Any, y: Any, z: Any) -> Any:
        values = [x, y, z]
        for k in range(200):
            op = COMPILED[k % len(COMPILED)]
            if op.name in ("azmul", "azfma", "stop_gradient"):
                continue
            operands = [values[-1 - 2 * j] if j < 2 else z for j in range(op.arity)]
            values.append(getattr(tpf, op.function)(*operands))
        return sum(values)

    page = tpf.record(f, 0.5, 0.25, 0.125).explain(tmp_path / "page.html")
    assert len(page.html.encode()) <= MOST_BYTES
    browser.open(tmp_path / "page.html")
    browser.key("End")


def test_a_failing_script_is_a_failing_test(browser: Browser, tmp_path: Path) -> None:
    page = tpf.record(neuron, W, X).explain().html
    (tmp_path / "page.html").write_text(page.replace("recompute();\n", "recompute();missing();\n"))
    with pytest.raises(PageError, match="missing is not defined"):
        browser.open(tmp_path / "page.html")
    browser.errors.clear()


def test_what_a_page_cannot_compute_is_refused(tmp_path: Path) -> None:
    with pytest.raises(tpf.TapeError, match="up to 3,000 gates, and <lambda> has more"):
        tpf.record(lambda x: np.sum(x * x), np.ones(4000)).explain()

    def long(x: Any) -> Any:
        for _ in range(4000):
            x = np.sin(x)
        return x

    with pytest.raises(tpf.TapeError, match="up to 3,000 gates, and long has more"):
        tpf.record(long, 1.0).explain()
    with pytest.raises(ValueError, match=r"cannot write a page as 'page.pdf': end its name in"):
        tpf.record(neuron, W, X).explain(tmp_path / "page.pdf")
    with pytest.raises(tpf.StructureError, match="was recorded for arguments of structure"):
        tpf.record(neuron, W, X).explain(at=(1.0,))


def test_many_checks_come_one_after_the_other(browser: Browser, tmp_path: Path) -> None:
    """The page answers before all of them are there; an edit in between begins them again."""
    x = np.linspace(-2.0, 2.0, 250)
    tape = tpf.record(lambda x: np.sum(np.tanh(x) ** 2), x)
    tape.explain(tmp_path / "page.html", at=(x,))
    browser.open(tmp_path / "page.html")
    browser.run("patience = 0, go(STEPS)")
    edit(browser, 0, "0.5")
    browser.wait("!document.querySelector('[data-check]')")
    text = browser.run("document.getElementById('inputs').innerText")
    assert text.count("✓") == 250 and "≠" not in text
