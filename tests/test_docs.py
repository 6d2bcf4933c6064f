"""The documents say what the code does: examples run, and generated pages are fresh."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf
from benchmarks import listings, op_table
from tapeflow.cli import main
from tapeflow.methods import Methods
from tests.snippets import FLAGS, run_page

ROOT = Path(__file__).parent.parent
MODULES = ["tapeflow", *(m.name for m in pkgutil.walk_packages(tpf.__path__, "tapeflow."))]


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith("__main__")])
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    names: dict[str, Any] = {"tpf": tpf, "np": np}
    result = doctest.testmod(module, extraglobs=names, optionflags=FLAGS)
    assert result.failed == 0


def test_examples_in_the_readme() -> None:
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=FLAGS)
    assert result.attempted > 20
    assert result.failed == 0


PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.jit
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_snippets_of_the_pages(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(arguments: list[str]) -> str:
        capsys.readouterr()
        main(arguments)
        return "".join(capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    run_page(page, {"tpf": tpf, "np": np, "__name__": page.stem}, command)


def test_a_snippet_that_prints_something_else_fails(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for text in ("```python\n>>> 1\n2\n```\n", "```python\nassert False\n```\n"):
        page.write_text("# Page\n\n" + text)
        with pytest.raises(AssertionError):
            run_page(page, {}, lambda _: "")
    page.write_text("```console\n$ tapeflow show x\nwanted\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:2: tapeflow show x printed"):
        run_page(page, {}, lambda _: "other\n")
    run_page(page, {}, lambda arguments: "wanted\n" if arguments == ["show", "x"] else "")


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    listed = [
        line
        for block in index.split("```{toctree}")[1:]
        for line in block.split("```")[0].splitlines()
        if line and not line.startswith(":")
    ]
    assert sorted([*listed, "index"]) == sorted(page.stem for page in PAGES)


def test_the_op_table_is_fresh() -> None:
    assert (ROOT / "docs" / "ops.md").read_text() == op_table.page()


def test_the_accuracy_table_keeps_the_promise() -> None:
    from benchmarks.accuracy import SUBJECTS

    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (ROOT / "docs" / "accuracy.md").read_text().splitlines()
        if line.startswith("| ") and "function" not in line
    ]
    assert [row[0] for row in rows] == list(SUBJECTS)
    for name, points, error, _ in rows:
        assert int(points.replace(",", "")) >= 1_000_000, name
        assert float(error) <= 2.0, name


NEEDS_EXTRAS = {"to_jax", "to_onnx"}
"""Their examples are on the page of exports, and run where JAX and ONNX are installed."""


def test_every_public_function_has_a_docstring_with_an_example() -> None:
    spaces = (tpf, tpf.nn, tpf.special, tpf.linalg, tpf.optim)
    public = [(f"{space.__name__}.{name}", getattr(space, name)) for space in spaces
              for name in space.__all__]  # fmt: skip
    methods = (name for name in vars(Methods) if not name.startswith("_"))
    public += [(f"Tape.{name}", getattr(Methods, name)) for name in methods]
    functions = [(name, f) for name, f in public if callable(f)]
    assert len(functions) > 150
    for name, function in functions:
        assert function.__doc__, name
        if not isinstance(function, type) and name.split(".")[-1] not in NEEDS_EXTRAS:
            assert ">>> " in function.__doc__, f"{name} has no example"


def test_the_ci_runs_the_readmes_commands() -> None:
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    commands = [block.split("```")[0].strip() for block in readme.split("```sh\n")[1:]]
    assert len(commands) == 2
    for command in commands:
        assert command in script.splitlines()


def test_the_readme_has_the_table_of_likelihoods() -> None:
    readme = (ROOT / "README.md").read_text()
    for row in tpf.nn.LIKELIHOODS.values():
        loss = f"{row.loss_name}, `nn.{row.loss.__name__}`"
        assert f"| {row.target} | {row.layer_name} | {loss} |" in readme


@pytest.mark.jit
def test_the_equivalents_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry in the last column of a table."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "migrating.md"
    names: dict[str, Any] = {"tpf": tpf, "np": np}
    run_page(page, names, lambda arguments: "")
    entries = [
        row.rpartition(" | ")[2].removesuffix(" |").strip("`")
        for row in page.read_text().splitlines()
        if row.startswith("| ") and not row.endswith("| tapeflow |")
    ]
    assert len(entries) > 60
    for entry in entries:
        exec(entry, names)


def test_the_listings_are_fresh() -> None:
    for name, text in listings.pages().items():
        written = (ROOT / "docs" / "listings" / name).read_text()
        # Another version of LLVM may write other code.
        if written.splitlines()[0] == text.splitlines()[0]:
            assert written == text, name


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text()
    elementwise = (ROOT / "docs" / "ops.md").read_text()
    for name in tpf.__all__:
        listed = re.search(rf"auto\w+:: tapeflow\.{name}(\(\))?$", reference, re.MULTILINE)
        assert listed or f"`tpf.{name}`" in elementwise, f"{name} is not in docs/reference.md"
