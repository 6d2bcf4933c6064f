"""Draws the pictures of the pages again: ``python -m benchmarks.pictures``.

A page's snippets draw them; here they are run, and what they have drawn is kept. The screenshot of
the step page needs chromium, and is left as it is without one.
"""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import tapeflow as tpf
from benchmarks.branch_pictures import DRAWN
from tests.browser import Browser, chromium
from tests.snippets import run_page

DOCS = Path(__file__).parent.parent / "docs"
KEPT = DOCS / "pictures"
PAGES = ("lecture", "see")


@contextlib.contextmanager
def drawn(page: str) -> Iterator[list[Path]]:
    """What a page's snippets write, in a folder that is there as long."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        names: dict[str, Any] = {"tpf": tpf, "np": np, "__name__": page}
        run_page(DOCS / f"{page}.md", names, lambda arguments: "")
        yield sorted(Path(folder).iterdir())


def plots() -> dict[str, str]:
    """The plots of docs/branches.md, from the functions of the page."""
    names: dict[str, Any] = {"tpf": tpf, "np": np, "__name__": "branches"}
    run_page(DOCS / "branches.md", names, lambda arguments: "")
    return {name: draw(names) for name, draw in DRAWN.items()}


def times_are_in(path: Path) -> bool:
    """Whether a picture is of times, which are others at each run."""
    return path.stem == "profile"


def step_page() -> None:
    """The pages that readers may open, and how one looks."""
    w, x = (2.0, -3.0, -3.0), (-1.0, -2.0)
    names: dict[str, Any] = {}
    run_page(DOCS / "lecture.md", names, lambda arguments: "")
    tpf.record(names["neuron"], w, x).explain(KEPT / "neuron.html", at=(w, x))
    if chromium() is None:
        return
    with Browser() as browser:
        browser.open(KEPT / "f.html", width=1100, height=760)
        browser.run("go(STEPS - 2)")
        browser.run("new Promise(done => setTimeout(done, 600))")
        browser.screenshot(KEPT / "explain.png")


def main() -> None:
    KEPT.mkdir(exist_ok=True)
    for page in PAGES:
        with drawn(page) as files:
            for path in files:
                if not times_are_in(path):
                    shutil.copy(path, KEPT / path.name)
    for name, text in plots().items():
        (KEPT / name).write_text(text, "utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        step_page()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    with contextlib.redirect_stdout(io.StringIO()):
        main()
