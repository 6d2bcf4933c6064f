"""Writes docs/ops.md, the operations that are recorded, from the op table."""

from pathlib import Path

from tapeflow.ops import COMPILED, Op
from tapeflow.recorder import Recorder
from tapeflow.structure import Structure, flat_structure, flatten
from tapeflow.tape import Tape
from tapeflow.trace import output_slots
from tapeflow.tracers import Tracer


def page() -> str:
    lines = [
        "# The operations",
        "",
        "Written by `python -m benchmarks.op_table`. Each works on numbers and, element by",
        "element, on arrays; a constant may stand for any operand. The partials, in the operands",
        "x, y and z, are what the rule of the operation records: v is the operation's own value.",
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
    """An operation's partials as formulas, read off the tape that its rule records."""
    recorder = Recorder(op.arity)
    with recorder:
        value, own = op.rule(*(Tracer(recorder, slot) for slot in range(op.arity)))
        results = [value, *own]
        slots, leaves = output_slots(recorder, results, op.name)
    structure = Structure(flatten([0.0] * len(results))[1], leaves)
    inputs = flat_structure(op.arity)
    tape = recorder.finish(op.name, slots, inputs, structure, "xyz"[: op.arity])
    value_slot, *rest = tape.outputs.tolist()
    known = {value_slot: "v"} if value_slot >= tape.slots[0] else {}
    return [_formula(tape, slot, known) for slot in rest]


def _formula(tape: Tape, slot: int, known: dict[int, str], inner: bool = False) -> str:
    """The slot's value as Python would write it; known: what slots are called."""
    if slot in known:
        return known[slot]
    if slot < tape.slots[0]:
        return tape.slot_name(slot)
    i = slot - int(tape.slots[0])
    op, operands = tape.op(i), tape.operands_of(i).tolist()
    infix = {"add": "+", "sub": "-", "mul": "*", "div": "/"}.get(op.name)
    if infix or op.name == "neg":
        parts = [_formula(tape, own, known, True) for own in operands]
        text = f"{parts[0]} {infix} {parts[1]}" if infix else f"-{parts[0]}"
        return f"({text})" if inner and infix else text
    return f"{op.name}({', '.join(_formula(tape, own, known) for own in operands)})"


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
