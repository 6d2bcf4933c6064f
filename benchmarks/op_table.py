"""Writes docs/ops.md, the operations that are recorded, from the op table."""

from pathlib import Path

from tapeflow.ops import COMPILED, Op


def page() -> str:
    lines = [
        "# The operations",
        "",
        "Written by `python -m benchmarks.op_table`. Each works on numbers and, element by",
        "element, on arrays; a constant may stand for any operand.",
        "",
        "| op | operands | operator | tapeflow | NumPy | derivative |",
        "|---|---:|---|---|---|---|",
    ]
    lines += [
        f"| {op.name} | {op.arity} | {_operator(op)} | "
        f"{'' if op.name.startswith('az') else f'`tpf.{op.function}`'} | "
        f"{', '.join(f'`np.{u.__name__}`' for u in op.ufuncs)} | "
        f"{'zero' if op.zero_derivative else 'yes'} |"
        for op in COMPILED
    ]
    return "\n".join(lines) + "\n"


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
