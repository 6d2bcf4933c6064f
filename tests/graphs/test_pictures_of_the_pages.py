"""The pictures beside the documents are what their snippets draw."""

from typing import Any

import pytest

from benchmarks.pictures import KEPT, PAGES, drawn, plots, times_are_in


@pytest.mark.jit
@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_fresh(page: str, capsys: Any) -> None:
    with drawn(page) as files:
        assert files
        for path in files:
            if not times_are_in(path):
                kept = (KEPT / path.name).read_text("utf-8")
                again = "draw them again: python -m benchmarks.pictures"
                assert path.read_text("utf-8") == kept, f"{path.name}: {again}"


@pytest.mark.jit
def test_plots_are_fresh() -> None:
    for name, text in plots().items():
        again = "draw them again: python -m benchmarks.pictures"
        assert text == (KEPT / name).read_text("utf-8"), f"{name}: {again}"


def test_every_picture_is_shown_somewhere() -> None:
    text = "".join(page.read_text("utf-8") for page in KEPT.parent.glob("*.md"))
    for path in KEPT.iterdir():
        assert f"pictures/{path.name}" in text, path.name
