"""Runs the snippets of a page, one after the other, in one namespace."""

import doctest
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page: Path) -> Iterator[tuple[str, int, str]]:
    """The language, first line (from 0) and text of each block of code that has a language."""
    text = page.read_text()
    for match in _FENCE.finditer(text):
        yield match[1], text.count("\n", 0, match.start(2)), match[2]


def run_page(page: Path, names: dict[str, Any], command: Callable[[list[str]], str]) -> None:
    """Run Python blocks, with prompts or without, and lines ``$ tapeflow ...`` of console blocks.

    command: runs the arguments of a line, and returns what it has printed. AssertionError where
    something else is printed than the page says.
    """
    for language, line, text in snippets(page):
        if language == "python" and text.lstrip().startswith(">>>"):
            found = doctest.DocTestParser().get_doctest(text, names, page.stem, str(page), line)
            said: list[str] = []
            runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
            runner.run(found, out=said.append, clear_globs=False)
            assert not runner.failures, "".join(said)
            names.update(found.globs)  # what it has defined, for the blocks after it
        elif language == "python":
            exec(compile("\n" * line + text, str(page), "exec"), names)
        elif language == "console":
            for own in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                _line(own, command, f"{page.name}:{line + 1}")


def _line(text: str, command: Callable[[list[str]], str], where: str) -> None:
    first, _, wanted = text.partition("\n")
    program, *arguments = shlex.split(first)
    assert program == "tapeflow", f"{where}: {program} is not run here"
    printed = command(arguments)
    checker = doctest.OutputChecker()
    assert checker.check_output(wanted, printed, FLAGS), (
        f"{where}: {first} printed\n{printed}\nand not\n{wanted}"
    )
