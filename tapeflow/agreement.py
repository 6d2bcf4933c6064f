"""Whether a tape computes what a Python function does: values, and gradients by differences."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tapeflow.differences import derivative
from tapeflow.engine.evaluate import checked_leaves
from tapeflow.engine.outcomes import check_guards
from tapeflow.engine.programs import sample_program
from tapeflow.errors import GuardError, StructureError
from tapeflow.structure import Floats, flatten, leaf_of
from tapeflow.tape import Tape

_ROUNDING = 1e-12
"""What differences lose of the outputs: a rounding of 2^-53 over a step of 0.1, extrapolated."""

_MOST = 16
"""Inputs up to which each one's gradient is looked at; of more, so many are drawn."""


@dataclass(frozen=True)
class Agreement:
    """What `check_tape` has compared, and the largest differences, relative to the largest number.

    samples: how many were compared; undefined: how many more were drawn, at which the function has
    no finite value; elsewhere: at which it takes a branch that the tape has not. derivatives: how
    many were compared with differences, at all samples together.
    """

    samples: int
    undefined: int
    elsewhere: int
    outputs: int
    derivatives: int
    value_error: float
    gradient_error: float

    def __str__(self) -> str:
        more = [
            *([f"{self.undefined} more are outside its domain"] if self.undefined else []),
            *([f"{self.elsewhere} more take another branch"] if self.elsewhere else []),
        ]
        beside = f" ({', '.join(more)})" if more else ""
        return (
            f"{_counted(self.samples, 'sample')}{beside}: {_counted(self.outputs, 'output')} to "
            f"{self.value_error:.1e}, {_counted(self.derivatives, 'derivative')} to "
            f"{self.gradient_error:.1e}"
        )


def check_tape(
    tape: Tape,
    function: Callable[..., Any],
    samples: int | Iterable[tuple[Any, ...]] = 8,
    *,
    seed: int = 0,
    rtol: float = 1e-6,
    value_rtol: float = 1e-9,
) -> Agreement:
    """Raise AssertionError where a tape does not compute what a Python function does.

    samples: how many to draw (half of them normal, half uniform between 0.1 and 2, by ``seed``), or
    an iterable of tuples of arguments. At each the function itself is run, on plain numbers and
    arrays, and the tape's values are compared with its own; its gradients with central differences
    of the function, extrapolated, along each input (16 of them, drawn, if there are more). Drawn
    samples where the function raises, is not finite, or takes a branch that the tape has not are
    left out.

    rtol, value_rtol: the differences allowed in gradients and values, relative to the largest
    derivative or output of the sample. The error names the sample, the output or input, and both
    numbers. Returns what was compared, as an `Agreement`. Raises StructureError for samples of
    another structure than the tape's, GuardError for given ones that take another branch, and
    ValueError where there is nothing to compare.

    >>> tape = tpf.record(lambda x, y: x * np.sin(y), 1.0, 1.0)
    >>> print(tpf.check_tape(tape, lambda x, y: x * np.sin(y), [(2.0, 0.5)]))
    1 sample: 1 output to ..., 2 derivatives to ...
    >>> tpf.check_tape(tape, lambda x, y: x * np.cos(y), [(2.0, 0.5)])
    Traceback (most recent call last):
        ...
    AssertionError: sample 0 ((2.0, 0.5)), result: the tape gives 0.9588..., and <lambda> 1.755...
    """
    if not isinstance(tape, Tape):
        raise TypeError(f"check_tape takes a tape, not a {type(tape).__name__}: use tpf.record")
    if not callable(function):
        raise TypeError(f"check_tape takes a function, not a {type(function).__name__}")
    check = _Check(tape, function, rtol, value_rtol)
    rng = np.random.default_rng(seed)
    undefined = elsewhere = 0
    drawn = isinstance(samples, (int, np.integer))
    for k, args in enumerate(_drawn(tape, samples, rng) if drawn else _given(samples)):  # type: ignore[arg-type]
        leaves = checked_leaves(tape, args)
        try:
            expected = check.value(leaves)
        except GuardError:  # it is a tape itself
            if not drawn:
                raise
            elsewhere += 1
            continue
        except (ArithmeticError, ValueError):
            if not drawn:
                raise
            expected = None
        if drawn and (expected is None or not np.isfinite(expected).all()):
            undefined += 1
            continue
        try:
            check.sample(k, args, leaves, expected, rng)
        except GuardError:
            if not drawn:
                raise
            elsewhere += 1
    if not check.samples:
        raise ValueError(
            f"{check.name} has no finite value, on the tape's branches, at any of "
            f"{undefined + elsewhere} samples: give some, as in check_tape(tape, f, [(1.0, 2.0)])"
        )
    return Agreement(
        check.samples,
        undefined,
        elsewhere,
        check.outputs,
        check.derivatives,
        *check.largest.values(),
    )


def _drawn(tape: Tape, n: int, rng: np.random.Generator) -> Iterator[tuple[Any, ...]]:
    if isinstance(n, bool) or n < 1:
        raise ValueError(f"samples must be a number from 1 up, or tuples of arguments, not {n!r}")
    structure = tape.input_structure
    for k in range(int(n)):
        size = structure.size
        flat = rng.uniform(0.1, 2.0, size) if k % 2 else rng.standard_normal(size)
        yield structure.unflatten(structure.split(flat))


def _given(samples: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    if not isinstance(samples, Iterable):
        raise TypeError(f"samples must be a number or tuples of arguments, not {samples!r}")
    for k, args in enumerate(samples):
        if not isinstance(args, tuple):
            raise TypeError(
                f"sample {k} is a {type(args).__name__}: give a tuple of arguments for each, as in "
                "[(1.0, 2.0)]"
            )
        yield args


class _Check:
    def __init__(
        self, tape: Tape, function: Callable[..., Any], rtol: float, value_rtol: float
    ) -> None:
        self.tape, self.function = tape, function
        self.rtol = {"value": value_rtol, "gradient": rtol}
        self.name = getattr(function, "__name__", type(function).__name__)
        self.largest = {"value": 0.0, "gradient": 0.0}
        self.samples = self.outputs = self.derivatives = 0
        self.size = 0.0

    def value(self, leaves: Sequence[Any]) -> Floats:
        """The numbers that the function itself returns."""
        structure, output = self.tape.input_structure, self.tape.output_structure
        with np.errstate(all="ignore"):
            result = self.function(*structure.unflatten(list(leaves)))
        found, treedef = flatten(result)
        shapes = [leaf_of(leaf).shape or () for leaf in found]
        if treedef != output.treedef or shapes != [leaf.shape or () for leaf in output.leaves]:
            raise StructureError(
                f"{self.name} returns another structure than the tape of {self.tape.name}: "
                f"shapes {shapes}, not {[leaf.shape or () for leaf in output.leaves]}"
            )
        flat = np.empty(output.size)
        output.pack(found, flat)
        return flat

    def sample(
        self,
        k: int,
        args: tuple[Any, ...],
        leaves: Sequence[Any],
        expected: Any,
        rng: np.random.Generator,
    ) -> None:
        """Compare at one sample."""
        tape, structure = self.tape, self.tape.input_structure
        where = f"sample {k} ({_short(args)})"
        values, _ = self._sweep(leaves, np.ones(len(tape.outputs)))
        self._compare("value", f"{where}", values, expected, self._output)
        self.samples, self.outputs = self.samples + 1, self.outputs + len(values)
        if not np.isfinite(expected).all():
            return
        self.size = float(np.abs(expected).max(initial=0.0))
        x = np.empty(structure.size)
        structure.pack(list(leaves), x)
        chosen = np.arange(x.size)
        if x.size > _MOST:
            chosen = np.sort(rng.choice(x.size, _MOST, replace=False))
        differences = [self._differences(x, slot) for slot in chosen.tolist()]
        columns = np.array(differences).reshape(len(chosen), -1)
        # One sweep for all outputs; one for each where that is not enough to say which is wrong.
        weights = rng.choice([-1.0, 1.0], values.size) * rng.uniform(0.5, 1.0, values.size)
        _, pulled = self._sweep(leaves, weights)
        theirs = columns @ weights
        wrong = ~(np.abs(pulled[chosen] - theirs) <= self._allowed("gradient", theirs))
        if wrong.any():
            for j in range(values.size):
                _, own = self._sweep(leaves, np.eye(values.size)[j])
                of = f"{where}, gradient of {self._output(j)}"
                self._compare("gradient", of, own[chosen], columns[:, j], self._input(chosen))
        self._compare("gradient", f"{where}, gradient", pulled[chosen], theirs, self._input(chosen))
        self.derivatives += len(chosen) * values.size

    def _sweep(self, leaves: Sequence[Any], seeds: Floats) -> tuple[Floats, Floats]:
        """The tape's outputs, and the gradients of all inputs."""
        tape = self.tape
        check_guards(tape, list(leaves))
        program = sample_program(tape, slice(0, tape.n_inputs))
        workspace = program.new_workspace()
        tape.input_structure.pack(list(leaves), workspace.inputs)
        workspace.seeds[:] = seeds
        program.run(workspace)
        return workspace.outputs.copy(), workspace.gradients.copy()

    def _differences(self, x: Floats, slot: int) -> Any:
        structure = self.tape.input_structure

        def value(moved: Floats) -> Any:
            try:
                return self.value(structure.split(moved))
            except (ArithmeticError, ValueError):
                return np.full(self.tape.output_structure.size, np.nan)

        unit = np.zeros(x.size)
        unit[slot] = 1.0
        return derivative(value, x, unit)

    def _allowed(self, kind: str, theirs: Floats) -> float:
        finite = np.abs(theirs[np.isfinite(theirs)])
        allowed = self.rtol[kind] * max(float(finite.max(initial=0.0)), 1e-300)
        return allowed + (_ROUNDING * self.size if kind == "gradient" else 0.0)

    def _compare(
        self, kind: str, where: str, ours: Floats, theirs: Floats, name: Callable[[int], str]
    ) -> None:
        allowed = self._allowed(kind, theirs)
        both = np.isnan(theirs) & np.isnan(ours) if kind == "value" else np.zeros(len(ours), bool)
        same = (ours == theirs) | both
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0.0, np.abs(ours - theirs))
        wrong = ~(error <= allowed)
        scale = allowed / self.rtol[kind]
        if wrong.any():
            j = int(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0).argmax())
            of, source = f", {name(j)}: ", f"and {self.name}"
            if kind == "gradient":
                of, source = f" in {name(j)}: ", "and differences"
            raise AssertionError(
                f"{where}{of}the tape gives {ours[j].item()!r}, {source} {theirs[j].item()!r}: "
                f"they differ by {error[j] / scale:.1e} of the largest"
            )
        self.largest[kind] = max(self.largest[kind], float(error.max(initial=0.0)) / scale)

    def _output(self, j: int) -> str:
        structure = self.tape.output_structure
        if structure.size == 1:
            return "result"
        leaf = next(k for k, (_, last) in enumerate(structure.bounds) if j < last)
        path = structure.treedef.accessors()[leaf].codify("")
        shape = structure.leaves[leaf].shape or ()
        index = np.unravel_index(j - structure.bounds[leaf][0], shape)
        return f"result{path}" + (f"[{', '.join(str(int(i)) for i in index)}]" if shape else "")

    def _input(self, chosen: Any) -> Callable[[int], str]:
        return lambda k: self.tape.slot_name(int(chosen[k]))


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _short(args: tuple[Any, ...]) -> str:
    text = " ".join(repr(args).split())
    return text if len(text) <= 60 else text[:57] + "..."
