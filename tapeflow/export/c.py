"""A tape as C99: functions for its value and its gradient, for one sample and for many."""

import os
from pathlib import Path

from tapeflow.errors import TapeError
from tapeflow.export.c_function import Function, Regions, Shared
from tapeflow.export.c_ops import comment, identifier
from tapeflow.export.c_text import HELPERS
from tapeflow.passes import executable
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.tape import Tape
from tapeflow.transforms import pullback

_PREAMBLE = """\
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The numbers are those of the library to the last bit only without fused or reordered sums. */
#ifdef __FAST_MATH__
#error "compile without -ffast-math"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__) && !defined(__STRICT_ANSI__)
#pragma GCC optimize ("-ffp-contract=off")
#endif

"""


def to_c(tape: Tape, path: str | os.PathLike[str] | None = None, *, name: str | None = None) -> str:
    prefix = identifier(tape.name if name is None else str(name))
    if name is not None and prefix != name:
        raise TapeError(f"{name!r} is taken in C, or no name: use other letters and digits")
    header, source = _Files(tape, prefix).texts()
    if path is None:
        return header + "\n" + source
    target = Path(path)
    if target.suffix == ".c":
        target.with_suffix(".h").write_text(_guarded(header, prefix))
        include = f'#include "{target.with_suffix(".h").name}"\n'
        target.write_text(include + source)
    else:
        raise TapeError(f"to_c writes {target.name!r} as a .c file, with a .h beside it: name one")
    return header + "\n" + source


def _guarded(header: str, prefix: str) -> str:
    word = f"{prefix.upper()}_H"
    return f"#ifndef {word}\n#define {word}\n\n{header}\n#endif\n"


class _Files:
    """The header and the source of a tape."""

    def __init__(self, tape: Tape, prefix: str) -> None:
        self.prefix = prefix
        run = remove_dead_code(executable(tape))
        self.n, self.m = run.n_inputs, len(run.outputs)
        self.shared = Shared(prefix)
        inputs: Regions = [("x", self.n)]
        self.value = Function(run, prefix, self.shared, inputs, [("y", self.m)])
        pulled = remove_dead_code(executable(pullback(tape)))
        self.pulled = Function(
            pulled,
            f"{prefix}_pullback",
            self.shared,
            [*inputs, ("s", self.m)],
            [("y", self.m), ("g", self.n)],
        )
        self.title = comment(tape.name)
        self.names = [comment(name) for name in tape.input_names]
        self.bounds = tape.input_structure.bounds

    def texts(self) -> tuple[str, str]:
        p, public = self.prefix, [*self._batches()]
        declared = [f"{self.value.head};", f"{self.pulled.head};"]
        declared += [f"{head};" for head, _ in public]
        big = p.upper()
        work = max(self.value.work, self.pulled.work)
        sizes = {"INPUTS": self.n, "OUTPUTS": self.m, "WORK": work}
        header = "\n".join(
            [
                self._about(),
                "#include <stddef.h>",
                "",
                *(f"#define {big}_{key} {size}" for key, size in sizes.items()),
                "",
                *declared,
                "",
            ]
        )
        own = "\n".join(
            [
                *self.value.texts,
                *self.pulled.texts,
                *(f"{head}\n{{\n{body}\n}}\n" for head, body in public),
            ]
        )
        own = "\n".join([*self.shared.texts(own), own])
        helpers = "".join(text + "\n" for name, text in HELPERS.items() if f"{name}(" in own)
        return header, _PREAMBLE + helpers + own

    def _about(self) -> str:
        p, big = self.prefix, self.prefix.upper()
        inputs = "".join(
            f"\n *   x[{first}] to x[{last - 1}]: {name}"
            if last - first > 1
            else f"\n *   x[{first}]: {name}"
            for name, (first, last) in zip(self.names, self.bounds, strict=True)
            if last > first
        )
        return f"""\
/* {self.title}, exported by tapeflow.
 *
 * x: {big}_INPUTS numbers:{inputs}
 * y: the {big}_OUTPUTS results. s: what flows into each in reverse. g: the gradient, as x.
 * w: room for {big}_WORK numbers, one for each thread; may be NULL if that is 0.
 * Arrays must not overlap.
 *
 * {p} computes y; {p}_pullback y and g{self._about_gradient()}.
 * The _batch functions do so for n samples, whose numbers lie one sample after the other.
 * All return 0; or, where the function took a branch that is not taken at x, the number of that
 * branch, from 1 on, and what they have computed is not what the function would.
 */"""

    def _about_gradient(self) -> str:
        return f"; {self.prefix}_gradient the same for s = 1" if self.m == 1 else ""

    def _batches(self) -> list[tuple[str, str]]:
        """The other functions: declarations and bodies."""
        p, n, m = self.prefix, self.n, self.m
        found = []
        batch = [("value", p, ["x"], ["y"]), ("pullback", f"{p}_pullback", ["x", "s"], ["y", "g"])]
        if m == 1:
            own = "const double *x, double *y, double *g, double *w"
            body = f"    const double s = 1.0;\n    return {p}_pullback(x, &s, y, g, w);"
            found.append((f"int {p}_gradient({own})", body))
            batch[1] = ("gradient", f"{p}_gradient", ["x"], ["y", "g"])
        sizes = {"x": n, "y": m, "s": m, "g": n}
        for _, name, given, taken in batch:
            heads = [f"const double *{k}" for k in given] + [f"double *{k}" for k in taken]
            head = f"int {name}_batch(size_t n, {', '.join(heads)}, double *w)"
            call = ", ".join(f"{k} + {sizes[k]} * i" for k in [*given, *taken])
            body = f"""\
    size_t i;
    int code = 0;
    for (i = 0; i < n; i++) {{
        const int own = {name}({call}, w);
        if (code == 0) code = own;
    }}
    return code;"""
            found.append((head, body))
        return found
