"""``tapeflow show``, ``table``, ``explain`` and ``check``: what a tape's file holds."""

import argparse
import ast
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tapeflow as tpf
from tapeflow.cli.refusal import Refusal, seed, whole
from tapeflow.graphs.report import show
from tapeflow.structure import Leaf
from tapeflow.tape import Tape

_SHOWN = 200
"""Instructions that `show` lists unless it is asked for all."""


def add_to(commands: Any) -> None:
    show = _command(commands, "show", _show, "list a tape's instructions, or draw its graph")
    show.add_argument(
        "--all", action="store_true", help=f"all instructions, not the first {_SHOWN}"
    )
    show.add_argument(
        "--summary", action="store_true", help="what it consists of, and not its instructions"
    )
    show.add_argument(
        "--out", metavar="PICTURE", help="draw the graph to a .svg, .png, .pdf or .dot file instead"
    )
    show.add_argument(
        "--by",
        choices=("auto", "gate", "line", "function", "file"),
        default="auto",
        help="what is a box of the picture (default: auto, gates where they are few)",
    )
    table = _command(commands, "table", _table, "print a tape's gates, values and gradients")
    explain = _command(
        commands, "explain", _explain, "write a page that steps through both sweeps of a tape"
    )
    explain.add_argument("--out", required=True, metavar="PAGE.html", help="the page's file")
    check = _command(commands, "check", _check, "verify a tape's file, and what it computes")
    check.add_argument(
        "--against",
        metavar="FILE.py:FUNCTION",
        help="the function that it was recorded from: run it, and compare values and gradients",
    )
    check.add_argument("--samples", type=whole, default=8, help="inputs to draw (default: 8)")
    check.add_argument("--seed", type=seed, default=0, help="of what is drawn (default: 0)")
    for parser in (show, table, explain):
        parser.add_argument(
            "--at",
            metavar="ARGUMENTS",
            help="run it forward and in reverse at these arguments, as Python writes them: "
            "'(2.0, [1.0, 3.0])'",
        )


def _command(commands: Any, name: str, run: Any, what: str) -> Any:
    parser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument("file", metavar="FILE", help="what tape.save has written")
    parser.add_argument(
        "--gate",
        action="append",
        default=[],
        metavar="FILE.py:NAME",
        help="a gate of your own that the tape has: runs that file",
    )
    parser.set_defaults(run=run)
    return parser


# The commands.


def _show(options: argparse.Namespace) -> bool:
    tape = _loaded(options)
    if options.out is not None:
        _write(lambda at: tape.draw(options.out, at=at, by=options.by), tape, options)
        return True
    if options.at is not None:
        raise Refusal("--at is for a picture: name one with --out, or use tapeflow table")
    if options.summary:
        show(tape.summary())
        return True
    print(repr(tape))
    lines = tape.disassemble().splitlines()
    if len(lines) > _SHOWN + 1 and not options.all:
        hidden = len(lines) - 1 - _SHOWN
        lines = [*lines[:_SHOWN], f"... {hidden:,} more: --all shows them", lines[-1]]
    print("\n".join(lines))
    return True


def _explain(options: argparse.Namespace) -> bool:
    tape = _loaded(options)
    _write(lambda at: tape.explain(options.out, at=at), tape, options)
    return True


def _write(write: Callable[[Any], Any], tape: Tape, options: argparse.Namespace) -> None:
    """Write a file that shows a tape, at the arguments that are given, if any."""
    at = None if options.at is None else _arguments(tape, options.at)
    try:
        write(at)
    except OSError as error:
        raise Refusal(f"--out {options.out}: {error.strerror or error}") from None
    except (ArithmeticError, ValueError, ImportError) as error:
        raise Refusal(f"--out {options.out}: {error}") from None


def _table(options: argparse.Namespace) -> bool:
    tape = _loaded(options)
    _run_at(tape, options.at)
    show(tape.table())
    return True


def _check(options: argparse.Namespace) -> bool:
    tape = _loaded(options)
    print(f"{options.file}: {tape!r}")
    inputs, outputs = tape.input_structure.leaves, tape.output_structure.leaves
    print(
        f"verified: hash; opcodes and arities of {_counted(len(tape), 'instruction')}; "
        f"{_counted(len(tape.operands), 'operand')}, each below its own of "
        f"{_counted(tape.n_slots, 'slot')}; parameters and sizes; "
        f"{_counted(len(tape.sources), 'source line')}; the structure of "
        f"{_counted(len(inputs), 'input')} and {_counted(len(outputs), 'output')}; "
        f"{_counted(len(tape.guards), 'guard')}; {_counted(_sub_tapes(tape), 'tape')} inside it"
    )
    try:
        if options.against is not None:
            function = _object(options.against)
            found = tpf.check_tape(tape, function, options.samples, seed=options.seed)
            print(f"against {options.against}: {found}")
        else:
            print(f"against differences of its own values: {_own(tape, options)}")
    except AssertionError as error:
        print(f"tapeflow: {options.file}: {error}", file=sys.stderr)
        return False
    except (ArithmeticError, ValueError, TypeError) as error:
        raise Refusal(f"{options.file}: {error}") from None
    return True


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _sub_tapes(tape: Tape) -> int:
    """How many tapes its loops and branches carry, and those of theirs."""
    inside = [t for op in tape.gates for t in getattr(op.array, "tapes", ())]
    return len(inside) + sum(map(_sub_tapes, inside))


def _own(tape: Tape, options: argparse.Namespace) -> str:
    """Gradients against differences of the values that the tape itself computes."""

    def function(*args: Any) -> Any:
        return tape(*args)

    function.__name__ = tape.name
    try:
        return str(tpf.check_tape(tape, function, options.samples, seed=options.seed))
    except ValueError as error:
        # That no input is in its domain is nothing against the tape.
        if "has no finite value" not in str(error):
            raise
        return f"none of {options.samples} samples is in its domain, on its branches"


# Their arguments.


def _loaded(options: argparse.Namespace) -> Tape:
    gates = {}
    for given in options.gate:
        gate = _object(given)
        gates[given.rpartition(":")[2]] = gate
    try:
        return tpf.load(options.file, gates=gates)
    except OSError as error:
        raise Refusal(f"{options.file}: {error.strerror or error}") from None
    except (tpf.TapeError, TypeError) as error:
        text = str(error)
        raise Refusal(text if options.file in text else f"{options.file}: {text}") from None


def _object(given: str) -> Any:
    """What FILE.py:NAME names; the file is run."""
    path, _, name = given.rpartition(":")
    if not path or not name:
        raise Refusal(f"{given}: name a file and what is in it, as in model.py:loss")
    if not Path(path).is_file():
        raise Refusal(f"{given}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise Refusal(f"{given}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # What it imports from beside it is found, as if it were run.
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise Refusal(f"{given}: {path} raises {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        raise Refusal(f"{given}: {path} has no {name}")
    return getattr(module, name)


def _run_at(tape: Tape, text: str | None) -> None:
    """Run a tape both ways at arguments, given as Python writes them, if there are any."""
    if text is None:
        return
    args = _arguments(tape, text)
    try:
        tape.forward(*args)
        tape.backward(tape.output_structure.unflatten(
            [np.ones(leaf.shape) if leaf.shape else 1.0 for leaf in tape.output_structure.leaves]
        ))  # fmt: skip
    except (ArithmeticError, ValueError, TypeError) as error:
        raise Refusal(f"--at {text}: {error}") from None


def _arguments(tape: Tape, text: str) -> tuple[Any, ...]:
    structure = tape.input_structure
    try:
        given = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise Refusal(f"--at {text}: write the arguments as in '(2.0, [1.0, 3.0])'") from None
    args = given if isinstance(given, tuple) else (given,)
    try:
        parts = structure.treedef.flatten_up_to(args)
        leaves = [_leaf(part, leaf) for part, leaf in zip(parts, structure.leaves, strict=True)]
    except (ValueError, TypeError):
        wanted = ", ".join(
            f"{name} {'a number' if leaf.shape is None else f'an array of shape {leaf.shape}'}"
            for name, leaf in zip(tape.input_names, structure.leaves, strict=True)
        )
        raise Refusal(f"--at {text}: {tape.name} takes {wanted}") from None
    arguments: tuple[Any, ...] = structure.unflatten(leaves)
    return arguments


def _leaf(given: Any, leaf: Leaf) -> Any:
    if leaf.shape is None:
        return float(given)
    array = np.asarray(given, np.float64)
    if array.shape != leaf.shape:
        raise ValueError("another shape")
    return array
