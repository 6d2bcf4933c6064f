"""Writes docs/listings: kernels as LLVM IR and as assembly, for docs/how.md.

The assembly is for one processor, whatever this one is, so that a test can say whether it is fresh.
"""

import re
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from tapeflow.kernels.body import FORWARD, REVERSE, Body, Kernel, body_of
from tapeflow.kernels.write import emit
from tapeflow.ops import BY_NAME

FOLDER = Path(__file__).parent.parent / "docs" / "listings"

_CPU = "x86-64-v3"

_MULTIPLY = body_of(BY_NAME["mul"])
_RESIDUAL = Body((BY_NAME["mul"], BY_NAME["sub"], BY_NAME["square"]),
                 ((~0, ~1), (0, ~2), (1,)), 3, (2,))  # fmt: skip
"""(w x - y)^2, a loss of one sample, as one body."""

_KERNELS = {
    "multiply-forward": Kernel(_MULTIPLY, FORWARD, lanes=True),
    "multiply-reverse": Kernel(_MULTIPLY, REVERSE, lanes=True, active=3, flowing=1),
    "residual-forward": Kernel(_RESIDUAL, FORWARD, lanes=True),
}


def pages() -> dict[str, str]:
    """The text of each file."""
    found = {}
    for name, kernel in _KERNELS.items():
        text = emit(kernel)
        found[f"{name}.s"] = f"# {_CPU}, llvmlite {llvmlite.__version__}\n{assembly(text)}"
        if name == "multiply-forward":
            found[f"{name}.ll"] = f"; llvmlite {llvmlite.__version__}\n{_readable(text)}"
    return found


def assembly(text: str) -> str:
    """The loop of a module's function, optimised as the library does."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    machine = target.create_target_machine(cpu=_CPU, opt=2)
    module = llvm.parse_assembly(text)
    module.triple = "x86_64-unknown-linux-gnu"
    module.data_layout = str(machine.target_data)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    lines = [line.expandtabs(8).rstrip() for line in machine.emit_assembly(module).splitlines()]
    return "\n".join(_loop([line for line in lines if _is_code(line)])) + "\n"


def _is_code(line: str) -> bool:
    return bool(line) and not re.match(r"\s*(\.(?!LBB)|#)", line)


def _loop(lines: list[str]) -> list[str]:
    """From a label to the jump back to it."""
    for k, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.LBB\w+)", line)
        if jump and f"{jump[1]}:" in [before.split()[0] for before in lines[:k]]:
            first = [before.split()[0] for before in lines].index(f"{jump[1]}:")
            return lines[first : k + 1]
    raise ValueError("the function has no loop")


def _readable(text: str) -> str:
    """The function alone."""
    return text[text.index("define") :].replace('"', "").strip() + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
