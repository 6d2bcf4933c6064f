"""Running a tape with its memory between pages that nobody may touch.

An access beyond the workspaces or the tables of the compiled sweeps kills the process; one in the
last bytes before a page's end, which alignment leaves free, changes a canary. What comes out is
compared with the slow oracle, so a write to a wrong place inside the memory is found as well.
"""

import ctypes
import math
import mmap
import sys
import warnings
from typing import Any

import numpy as np

from tapeflow import memory, reference
from tapeflow.arrays import linear, products, spectral
from tapeflow.arrays.base import SubTapes
from tapeflow.engine import array_sample, sample
from tapeflow.engine.array_batch import ArrayBatch
from tapeflow.engine.batch import BatchProgram
from tapeflow.engine.batch_run import Source
from tapeflow.engine.program import Code
from tapeflow.tape import Tape
from tapeflow.transforms import pullback
from tests.strategies import same_bits

PAGE = mmap.PAGESIZE
_CANARY = 0xA5
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_regions: list[tuple[mmap.mmap, int, int]] = []
"""Each region of memory, where its array ends, and where the free bytes after it end."""


def _memory(size: int) -> Any:
    """Bytes that end where a forbidden page begins, but for the rest of a cache line."""
    room = -(-size // 64) * 64
    pages = max(-(-room // PAGE), 1)
    region = mmap.mmap(-1, (pages + 2) * PAGE)
    whole = np.frombuffer(region, np.uint8)
    start = memory.address_of(whole)
    for guard in (start, start + (pages + 1) * PAGE):
        if _libc.mprotect(guard, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    end = (pages + 1) * PAGE
    own = whole[end - room : end]
    own[size:] = _CANARY
    _regions.append((region, end - room + size, end))
    return own[:size]


def _aligned(shape: Any) -> Any:
    n = shape if isinstance(shape, int) else math.prod(shape)
    return _memory(8 * n).view(np.float64).reshape(shape)


def _copied(array: Any) -> Any:
    own = _memory(array.nbytes).view(array.dtype)
    own[:] = array
    return own


def install() -> None:
    """From now on the sweeps of this process run in guarded memory."""
    for module in [m for name, m in sys.modules.items() if name.startswith("tapeflow.")]:
        if getattr(module, "aligned", None) is memory.aligned:
            module.aligned = _aligned  # type: ignore[attr-defined]

    def address(code: Code) -> int:
        return memory.address_of(_copied(code.stream))

    Code.address = property(address)  # type: ignore[assignment]
    made = sample.Workspace.__init__

    def workspace(self: Any, program: Any, home: Any) -> None:
        for name in ("forward", "reverse_ids", "operands", "table", "outputs"):
            setattr(program, name, _copied(getattr(program, name)))
        made(self, program, home)

    sample.Workspace.__init__ = workspace  # type: ignore[method-assign]


def check_canaries() -> None:
    """AssertionError if something was written behind an array; then forget the arrays."""
    for region, end, last in _regions:
        found = region[end:last]
        assert found == bytes([_CANARY]) * len(found), "written beyond the end of an array"
    _regions.clear()


_ROUNDED = (linear, products, spectral)
"""Modules of array ops whose numbers are BLAS's and LAPACK's, and round as those like."""


def is_exact(tape: Tape) -> bool:
    ops = [tape.op_of(opcode) for opcode in np.unique(tape.opcodes).tolist()]
    modules = [m.__name__ for m in _ROUNDED]
    return not any(
        op.host or (op.array is not None and getattr(op.array, "__module__", "") in modules)
        for op in ops
    )


def is_short(tape: Tape) -> bool:
    """Whether the tape has no loop that may run for long: the oracle goes step by step."""
    for i in range(len(tape)):
        rule = tape.op(i).array
        if isinstance(rule, SubTapes):
            (p,) = tape.parameters_of(i).tolist()
            if not 0 <= p <= 64 or not all(map(is_short, rule.tapes)):
                return False
    return True


def exercise(tape: Tape, rng: np.random.Generator) -> int:
    """Run a tape forward and in reverse, on one sample and on a batch; how many sweeps there were.

    AssertionError where a result is not the oracle's.
    """
    if not is_short(tape):
        return 0
    mild = rng.normal(size=(tape.n_inputs, 11))
    wild = rng.choice([0.0, -1.0, 1e3, np.nan, np.inf, 0.25, 3.0], mild.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sweeps = [_forward, _gradient, _batch]
        done = sum(sweep(tape, inputs) for sweep in sweeps for inputs in (mild, wild))
    check_canaries()
    return done


def _forward(tape: Tape, inputs: Any) -> bool:
    expected = _tried(reference.forward, tape, inputs[:, :1])
    kind: Any = sample.SampleProgram if tape.numbers_only else array_sample.ArraySample
    found = _tried(_sample, kind, tape, inputs[:, 0], False)
    if expected is None or found is None:
        return False
    _compare(tape, found, expected[tape.outputs, 0])
    return True


def _gradient(tape: Tape, inputs: Any) -> bool:
    if tape.numbers_only:
        found = _sample(sample.SampleProgram, tape, inputs[:, 0], True)
        values = reference.forward(tape, inputs[:, :1])
        seeds = np.ones((len(tape.outputs), 1))
        flows = reference.backward(tape, values, seeds)[: tape.n_inputs, 0]
        _compare(tape, found[len(tape.outputs) :], flows)
        return True
    pulled = _tried(pullback, tape)
    found = _tried(_sample, array_sample.ArraySample, tape, inputs[:, 0], True)
    if pulled is None or found is None:
        return False
    whole = np.concatenate([inputs[:, :1], np.ones((len(tape.outputs), 1))])
    expected = _tried(reference.forward, pulled, whole)
    if expected is None:
        return False
    _compare(pulled, found, expected[pulled.outputs, 0])
    return True


def _sample(kind: Any, tape: Tape, inputs: Any, reverse: bool) -> Any:
    program = kind(tape, np.full(tape.n_inputs, reverse), reverse)
    workspace = program.new_workspace()
    workspace.inputs[:], workspace.seeds[:] = inputs, 1.0
    program.run(workspace)
    return workspace.take_results()


def _batch(tape: Tape, inputs: Any) -> bool:
    every = np.ones(tape.n_inputs, np.bool_)
    leaves = tape.input_structure.leaves
    lanes = inputs.shape[1]
    batch: Any = _tried(ArrayBatch, tape, every, [True] * len(leaves), False)
    if tape.numbers_only:
        sizes = [leaf.size for leaf in leaves]
        batch = BatchProgram(tape, every, every, sizes, False)
    inputs = np.ascontiguousarray(inputs)
    source = Source(
        memory.address_of(inputs) + 8 * lanes * np.arange(tape.n_inputs),
        np.full(tape.n_inputs, 8),
        np.full(tape.n_inputs, 8),
        np.zeros(tape.n_inputs),
        (inputs,),
        [inputs.dtype] * len(tape.output_structure.leaves),
        [inputs.dtype] * len(leaves),
    )
    found = _tried(batch.run, source, lanes, None) if batch is not None and leaves else None
    expected = _tried(reference.forward, tape, inputs)
    if found is None or expected is None:
        return False
    values = np.concatenate([np.empty((lanes, 0)), *found[0]], axis=1)
    _compare(tape, values, expected[tape.outputs].T)
    return True


def _tried(function: Any, *args: Any) -> Any:
    """A result; None where NumPy or SciPy refuse the numbers, as they may."""
    try:
        return function(*args)
    except (np.linalg.LinAlgError, ValueError, FloatingPointError):
        return None


def _compare(tape: Tape, found: Any, expected: Any) -> None:
    if is_exact(tape):
        assert same_bits(found, expected), (found, expected)
        return
    # Where numbers are huge, or matrices close to singular, rounding is all there is.
    assert np.shape(found) == np.shape(expected)
