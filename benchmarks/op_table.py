"""Writes docs/ops.md, the operations that are recorded, from the op table."""

from pathlib import Path

from tapeflow.graphs.formula import formulas
from tapeflow.ops import COMPILED, Op


def page() -> str:
    lines = [
        "# The operations",
        "",
        "Written by `python -m benchmarks.op_table`. Each works on numbers and, element by",
        "element, on arrays; a constant may stand for any operand. The partials, in the operands",
        "x, y and z, are what the rule of the operation comes to: v is the operation's own value.",
        "",
        "| op | operands | operator | tapeflow | NumPy | partials |",
        "|---|---:|---|---|---|---|",
    ]
    lines += [
        f"| {op.name} | {op.arity} | {_operator(op)} | "
        f"{'' if op.name.startswith('az') else f'`tpf.{op.function}`'} | "
        f"{', '.join(f'`np.{u.__name__}`' for u in op.ufuncs)} | "
        f"{'zero' if op.zero_derivative else ', '.join(f'`{p}`' for p in partials(op))} |"
        for op in COMPILED
    ]
    return "\n".join(lines) + "\n"


def partials(op: Op) -> list[str]:
    """An operation's partials as formulas, written by its rule."""
    _, found = formulas(op, "xyz"[: op.arity], "v")
    return [formula.replace("|", "\\|") for formula in found]


def _operator(op: Op) -> str:
    if op.name in ("abs", "round"):
        return f"`{op.name}(x)`"
    if op.name == "neg":
        return "`-x`"
    return f"`x {op.symbol} y`" if op.symbol != op.name else ""


def main() -> None:
    Path("docs/ops.md").write_text(page())


if __name__ == "__main__":
    main()
