# mypy: allow-untyped-defs, allow-untyped-decorators
"""Tapes for functions that users compile with Numba themselves.

All of them are values of one Numba type, a struct with one address: code compiled for one tape
takes every other. What is at the address, an int64 array in the order of the names below, and all
that it points to, lives as long as the process.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.extending import (
    NativeValue,
    box,
    intrinsic,
    make_attribute_wrapper,
    models,
    overload_method,
    register_model,
    typeof_impl,
    unbox,
)

from tapeflow import settings
from tapeflow.engine.addresses import (
    STACK,
    call_threaded,
    load_float,
    load_int,
    stack_memory,
    store_float,
    swap_flag,
)
from tapeflow.engine.array_sample import ArraySample, consecutive
from tapeflow.engine.interpreter import fill_zero, run_code
from tapeflow.engine.outcomes import check_guards, flagged
from tapeflow.engine.threaded import ThreadedProgram
from tapeflow.errors import GuardError, TapeError
from tapeflow.jit import OPTIONS
from tapeflow.memory import aligned
from tapeflow.passes import executable
from tapeflow.structure import Floats
from tapeflow.tape import Tape

# With a table the code is threaded: ids forward and in reverse, from the first place and operand to
# the last. Otherwise, for a tape with arrays, there is code forward alone, of a number of steps.
(
    FORWARD,
    REVERSE,
    TABLE,
    STEPS,
    FIRST_PLACE,
    OPERANDS,
    LAST_OPERAND,
    N_VALUES,
    N_COTANGENTS,
    N_INPUTS,
    CONSTANTS,
    N_CONSTANTS,
    OUTPUT,
    FLAG,
    MOVES,
    N_MOVES,
    MEMORY,
    IN_USE,
    SIZE,
) = range(19)

_kept: list[Any] = []

_ELSEWHERE = (
    "a tape was given arguments at which the function takes another branch than it has: call the "
    "tape itself at them to see which"
)
"""Compiled code raises no exception with a text of the moment."""


class NativeTape:
    """What `Tape.njit` makes: a tape that functions compiled by Numba can call.

    Pass it to them as an argument, and they serve every tape; or let them name it as a global. It
    works in loops and ``prange``, and with ``nogil``. It has one number as its result, and takes
    all its inputs, one after the other, as one array of ``n_inputs`` float64.

    >>> import numba
    >>> @numba.njit
    ... def step(f, x, grad):
    ...     f.value_and_grad(x, grad)
    ...     return x - 0.1 * grad
    >>> step(tpf.record(lambda x: x[0] ** 2, [1.0]).njit(), np.array([5.0]), np.empty(1))
    array([4.])
    """

    def __init__(self, tape: Tape) -> None:
        if len(tape.outputs) != 1:
            raise TapeError(
                f"{tape.name} gives {len(tape.outputs)} numbers, and njit() is for one: sum them"
            )
        self.name, self.n_inputs, self._tape = tape.name, tape.n_inputs, tape
        value, gradient = (_Job(tape, reverse) for reverse in (False, True))
        self.jobs = np.array([value.job.ctypes.data, gradient.job.ctypes.data], np.int64)
        # Compiled code may hold the address for as long as it likes.
        _kept.append((value, gradient, self.jobs))

    @property
    def address(self) -> int:
        return self.jobs.ctypes.data

    def value(self, x: Floats) -> float:
        """The value at inputs x, float64 of shape (n_inputs,). ValueError for another shape."""
        self._check(x, "x")
        return self._run(0, x, 0, 0)

    def value_and_grad(self, x: Floats, grad_out: Floats) -> float:
        """The value at x; its gradient goes into ``grad_out``, both of shape (n_inputs,), float64.

        Raises ValueError for another shape.

        >>> f = tpf.record(lambda x: x[0] * x[1], [1.0, 1.0]).njit()
        >>> grad = np.empty(2)
        >>> f.value_and_grad(np.array([3.0, 4.0]), grad), grad
        (12.0, array([4., 3.]))
        """
        self._check(x, "x")
        self._check(grad_out, "grad_out")
        place, step = grad_out.ctypes.data, grad_out.strides[0]
        return self._run(1, x, place, step)

    def _run(self, job: int, x: Floats, place: int, step: int) -> float:
        try:
            return float(_run(int(self.jobs[job]), x.ctypes.data, x.strides[0], place, step))
        except GuardError:
            structure = self._tape.input_structure
            check_guards(self._tape, structure.split(x))
            raise

    def _check(self, array: Any, name: str) -> None:
        if not isinstance(array, np.ndarray) or array.dtype != np.float64 or array.ndim != 1:
            kind = f"{array.ndim}-d {array.dtype}" if isinstance(array, np.ndarray) else type(array)
            raise TypeError(f"{self.name} takes {name} as a 1-d float64 array, not {kind}")
        if array.size != self.n_inputs:
            raise ValueError(
                f"{name} does not have one number for each input of the tape: {array.size}, and "
                f"{self.name} has {self.n_inputs}"
            )

    def __repr__(self) -> str:
        return f"<tapeflow.NativeTape {self.name}: {self.n_inputs} inputs>"


class _Job:
    """Code, numbers and places of one use of a tape, and the array that tells of them."""

    def __init__(self, tape: Tape, reverse: bool) -> None:
        wanted = np.full(tape.n_inputs, reverse)
        self.job = job = np.zeros(SIZE, np.int64)
        if len(tape.guards):
            tape = flagged(tape)
        n_outputs = len(tape.outputs)
        self.constants: Floats
        if not reverse:
            tape = executable(tape)
        if tape.numbers_only:
            fused = settings.current().tier != "interpret"
            self.program: Any = ThreadedProgram(tape, wanted, reverse, fused)
            self.program.load()
            moves = [(0, 0, tape.n_inputs)] if reverse else []
            self.constants, outputs = tape.constants, self.program.outputs.tolist()
            job[N_COTANGENTS] = self.program.n_places if reverse else 0
            job[FORWARD], job[REVERSE], job[TABLE], job[OPERANDS] = (
                array.ctypes.data
                for array in (
                    self.program.forward,
                    self.program.reverse_ids,
                    self.program.table,
                    self.program.operands,
                )
            )
            job[LAST_OPERAND] = job[OPERANDS] + self.program.operands.nbytes
            job[FIRST_PLACE] = tape.slots[0]
        else:
            sample = ArraySample(tape, wanted, reverse)
            self.program, run = sample.program, sample.program.tape
            places = np.zeros(sample.n_results, np.int64)
            for source, target in sample.moves:
                places[target] = np.arange(source.start, source.stop)
            outputs = places[:n_outputs].tolist()
            moves = [
                (source.start, target.start, source.stop - source.start)
                for source, target in consecutive(places[n_outputs:], 0)
            ]
            # The seed is the last input.
            self.constants = np.concatenate([np.ones(run.n_inputs - tape.n_inputs), run.constants])
            code = self.program.shared_forward
            job[FORWARD], job[STEPS] = code.address, len(code)
        if self.program.has_python_gates:
            raise TapeError(
                f"{tape.name} has operations that run in Python, which compiled code cannot call: "
                "call the tape itself"
            )
        self.moves = np.array(moves, np.int64).reshape(-1, 3)
        job[N_VALUES], job[N_INPUTS] = self.program.n_places, tape.n_inputs
        job[CONSTANTS], job[N_CONSTANTS] = self.constants.ctypes.data, len(self.constants)
        job[OUTPUT], job[FLAG] = outputs[0], outputs[1] if n_outputs > 1 else -1
        # Taken by one caller at a time, as fresh pages for each call would take longer than it.
        self.memory = aligned(int(job[N_VALUES] + job[N_COTANGENTS]))
        job[MEMORY] = self.memory.ctypes.data
        job[MOVES], job[N_MOVES] = self.moves.ctypes.data, len(self.moves)


# The same in compiled code.


class _Type(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="tapeflow.NativeTape")


_TYPE = _Type()


@typeof_impl.register(NativeTape)
def _typeof(value: NativeTape, context: Any) -> _Type:
    return _TYPE


@register_model(_Type)
class _Model(models.StructModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [("address", types.int64)])


make_attribute_wrapper(_Type, "address", "address")


@unbox(_Type)
def _unbox(kind: Any, value: Any, c: Any) -> NativeValue:
    address = c.pyapi.object_getattr_string(value, "address")
    struct = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    struct.address = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    return NativeValue(
        struct._getvalue(), is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred())
    )


@box(_Type)
def _box(kind: Any, value: Any, c: Any) -> Any:
    raise NotImplementedError("compiled code cannot return a NativeTape")


@lower_constant(_Type)
def _constant(context: Any, builder: Any, kind: Any, value: NativeTape) -> Any:
    struct = cgutils.create_struct_proxy(kind)(context, builder)
    struct.address = context.get_constant(types.int64, value.address)
    return struct._getvalue()


@intrinsic
def _address(typing: Any, array: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        own = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(own.data, context.get_value_type(types.int64))

    return types.int64(array), emit


@njit(**OPTIONS)
def _sweep(job, values, cotangents, x, step, gradient, gradient_step):
    """Run a job on memory for its values and cotangents; the gradient goes to an address."""
    n_inputs = load_int(job + 8 * N_INPUTS)
    for k in range(n_inputs):
        store_float(values, 8 * k, load_float(x, step * k))
    constants = load_int(job + 8 * CONSTANTS)
    for k in range(load_int(job + 8 * N_CONSTANTS)):
        store_float(values, 8 * (n_inputs + k), load_float(constants, 8 * k))
    output = 8 * load_int(job + 8 * OUTPUT)
    forward, table = load_int(job + 8 * FORWARD), load_int(job + 8 * TABLE)
    if table:
        operands = load_int(job + 8 * OPERANDS)
        call_threaded(values, 0, load_int(job + 8 * FIRST_PLACE), operands, forward, table)
    else:
        run_code(forward, load_int(job + 8 * STEPS), values, 0, 0, 1)
    source, n = values, load_int(job + 8 * N_COTANGENTS)
    if n:
        source = cotangents
        fill_zero(cotangents, n)
        store_float(cotangents, output, 1.0)
        operands, reverse = load_int(job + 8 * LAST_OPERAND), load_int(job + 8 * REVERSE)
        call_threaded(values, cotangents, n, operands, reverse, table)
    moves = load_int(job + 8 * MOVES)
    for k in range(load_int(job + 8 * N_MOVES)):
        start, target = load_int(moves + 24 * k), load_int(moves + 24 * k + 8)
        for j in range(load_int(moves + 24 * k + 16)):
            number = load_float(source, 8 * (start + j)) + 0.0
            store_float(gradient, gradient_step * (target + j), number)
    return load_float(values, output)


@njit(**OPTIONS)
def _holds(job, values):
    """Whether the guards of the tape hold."""
    place = load_int(job + 8 * FLAG)
    return place < 0 or load_float(values, 8 * place) != 0.0


@njit(**OPTIONS)
def _run(job, x, step, gradient, gradient_step):
    n_values = load_int(job + 8 * N_VALUES)
    n = n_values + load_int(job + 8 * N_COTANGENTS)
    if n <= STACK:
        memory = stack_memory()
        value = _sweep(job, memory, memory + 8 * n_values, x, step, gradient, gradient_step)
        holds = _holds(job, memory)
    elif not swap_flag(job + 8 * IN_USE, 1):
        memory = load_int(job + 8 * MEMORY)
        value = _sweep(job, memory, memory + 8 * n_values, x, step, gradient, gradient_step)
        holds = _holds(job, memory)
        swap_flag(job + 8 * IN_USE, 0)
    else:
        array = np.empty(n)
        memory = array.ctypes.data
        value = _sweep(job, memory, memory + 8 * n_values, x, step, gradient, gradient_step)
        holds = _holds(job, memory)
        array[0] = value  # still in use up to here
    if not holds:
        raise GuardError(_ELSEWHERE)
    return value


# Numba compares the two argument lists, annotations too: these have none.
@overload_method(_Type, "value")
def _overload_value(tape, x):
    def value(tape, x):
        job = load_int(tape.address)
        if x.size != load_int(job + 8 * N_INPUTS):
            raise ValueError("x does not have one number for each input of the tape")
        return _run(job, _address(x), x.strides[0], 0, 0)

    return value


# Numba compares the two argument lists, annotations too: these have none.
@overload_method(_Type, "value_and_grad")
def _overload_value_and_grad(tape, x, grad_out):
    def value_and_grad(tape, x, grad_out):
        job = load_int(tape.address + 8)
        if x.size != load_int(job + 8 * N_INPUTS):
            raise ValueError("x does not have one number for each input of the tape")
        if grad_out.size != x.size:
            raise ValueError("grad_out does not have one number for each input of the tape")
        return _run(job, _address(x), x.strides[0], _address(grad_out), grad_out.strides[0])

    return value_and_grad
