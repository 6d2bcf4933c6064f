"""Loops and branches as C: their bodies are functions, called step by step."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Protocol

from tapeflow.loops import Loop, Phase, Switch
from tapeflow.tape import Tape


class Caller(Protocol):
    """The function that a loop is in."""

    def room(self, n: int) -> str: ...
    def body(self, tape: Tape) -> Callable[[Sequence[str], Sequence[str]], str]:
        """What calls a tape: from pointers to its inputs, and to its results, a statement."""
        ...


def switch(caller: Caller, rule: Switch, result: str, operands: Sequence[str]) -> list[str]:
    """The lines of a branch."""
    index, *rest = operands
    last = len(rule.branches) - 1
    sizes = rule.parts(())
    starts = [f"{result} + {first}" for first in accumulate(sizes[:-1], initial=0)]
    # NaN compares as false, and is the first.
    lines = [f"{{ const double index = *({index});"]
    lines += [f"switch (index >= 1.0 ? (index < {last}.0 ? (int)index : {last}) : 0) {{"]
    for k, (branch, reads) in enumerate(zip(rule.branches, rule.reads, strict=True)):
        call = caller.body(branch)([rest[j] for j in reads], starts)
        lines.append(f"{f'case {k}' if k < last else 'default'}: {call} break;")
    return [*lines, "} }"]


def loop(
    caller: Caller, rule: Loop, p: Sequence[int], result: str, operands: Sequence[str]
) -> list[str]:
    """The lines of a loop."""
    return _Loop(caller, rule, int(p[0]), result, list(operands)).lines


class _Loop:
    def __init__(
        self, caller: Caller, rule: Loop, steps: int, result: str, rest: list[str]
    ) -> None:
        self.caller, self.rule = caller, rule
        self.lines: list[str] = []
        count = f"*({rest.pop(0)})" if rule.counted else ""
        self.steps = str(steps)
        self.consts = [rest.pop(0) for _ in rule.consts]
        inits = [rest.pop(0) for _ in rule.inits]
        self.xs = rest
        self.streams = [caller.room(max(steps, 0) * size) for size in rule.streams]
        offsets = list(accumulate(rule.parts((steps,)), initial=0))
        places = [f"{result} + {offset}" for offset in offsets]
        self.count = places.pop(0) if rule.start is not None else ""
        n_results = sum(len(phase.results) for phase in rule.phases)
        self.ys, ends = places[n_results:], places[:n_results]
        self.lines.append("{ size_t k;" + (" const double count = " + count + ";" if count else ""))
        if count:
            self.lines.append("const size_t steps = count >= 1.0 ? (size_t)count : 0;")
            self.steps = "steps"
        for phase in rule.phases:
            own, inits = inits[: phase.n_carries], inits[phase.n_carries :]
            self._phase(phase, own, ends[: len(phase.results)])
            ends = ends[len(phase.results) :]
        self.lines.append("}")

    def _phase(self, phase: Phase, inits: Sequence[str], ends: Sequence[str]) -> None:
        room, rule = self.caller.room, self.rule
        carries = [room(size) for size in phase.carries]
        following = [room(size) for size in phase.carries]
        self.lines += _copies(carries, inits, phase.carries)
        self.go = room(1) if rule.start is not None else ""
        written = [self._written(kind, k) for kind, k in phase.writes]
        step = f"const size_t step = {f'{self.steps} - 1 - k' if phase.reverse else 'k'};"
        inner = [step, "const double index = (double)step; (void)index; (void)step;"]
        if rule.start is not None:
            reads = [self._read(kind, k, carries) for kind, k in rule.start_reads]
            self.lines.append(self.caller.body(rule.start)(reads, [self.go]))
            self.lines.append(f"for (k = 0; *{self.go} != 0.0; k++) {{")
        else:
            self.lines.append(f"for (k = 0; k < {self.steps}; k++) {{")
        reads = [self._read(kind, k, carries) for kind, k in phase.reads]
        self.lines += [*inner, self.caller.body(phase.body)(reads, [*following, *written])]
        self.lines += [*_copies(carries, following, phase.carries), "}"]
        if rule.start is not None:
            self.lines.append(f"*({self.count}) = (double)k;")
        sizes = [phase.carries[k] for k in phase.results]
        self.lines += _copies(ends, [carries[k] for k in phase.results], sizes)

    def _read(self, kind: str, k: int, carries: Sequence[str]) -> str:
        if kind == "const":
            return self.consts[k]
        if kind == "carry":
            return carries[k]
        if kind == "index":
            return "&index"
        base, size = (
            (self.xs[k], self.rule.xs[k])
            if kind == "x"
            else (self.streams[k], self.rule.streams[k])
        )
        return f"{base} + step * {size}"

    def _written(self, kind: str, k: int) -> str:
        if kind == "go":
            return self.go
        base, size = {
            "y": lambda: (self.ys[k], self.rule.ys[k]),
            "stream": lambda: (self.streams[k], self.rule.streams[k]),
        }[kind]()
        return f"{base} + step * {size}"


def _copies(targets: Sequence[Any], sources: Sequence[Any], sizes: Sequence[int]) -> list[str]:
    return [
        f"memcpy({target}, {source}, {size} * sizeof(double));"
        for target, source, size in zip(targets, sources, sizes, strict=True)
        if size
    ]
