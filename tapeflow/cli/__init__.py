"""The command ``tapeflow``, also ``python -m tapeflow``."""

import argparse
import os
import sys
from collections.abc import Sequence

import tapeflow as tpf
from tapeflow.cli import bench, demo, files
from tapeflow.cli.refusal import Refusal

_COMMANDS = (demo, bench, files)

_DONE, _FAILED, _REFUSED, _INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: 1 where a check has found something, 2 for what cannot be done."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tapeflow",
        description="Automatic differentiation by the tape: a demonstration, a benchmark, and "
        "commands for the tapes that tape.save has written.",
        epilog="Without a command it is demo. Exit status: 0, or 1 where check or bench finds "
        "something wrong, 2 for what cannot be done, 130 for Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"tapeflow {tpf.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (
        arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")
    ):
        arguments.insert(0, "demo")
    options = _parser().parse_args(arguments)
    try:
        passed = options.run(options)
        sys.stdout.flush()
    except Refusal as refusal:
        print(f"tapeflow: {refusal}", file=sys.stderr)
        return _REFUSED
    except BrokenPipeError:
        # The reader has gone: nothing is left to say, at interpreter exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _DONE
    except KeyboardInterrupt:
        print("tapeflow: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return _DONE if passed else _FAILED
