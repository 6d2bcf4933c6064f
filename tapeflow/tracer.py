"""Recording: run a Python function once on tracers, and keep what it computed as a tape.

A `Tracer` stands for one slot. Its operators, and NumPy's ufuncs through ``__array_ufunc__``,
append an instruction to the `Recorder` it belongs to. What would bake one run's value into the
tape (``float(x)``, ``if x > 0``) raises a `TracingError` that names the line.
"""

import re
import struct
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from tapeflow.errors import TracingError
from tapeflow.ops import BY_NAME, BY_UFUNC, FIRST_GATE, OPS, Op
from tapeflow.sources import refuse, user_frame, user_line
from tapeflow.structure import Structure
from tapeflow.tape import MAX_SLOTS, Location, Tape

_NUMBERS = (float, int, np.floating, np.integer, np.bool_)

# While recording, inputs are numbered from 0 and results follow; what is only counted at the end
# is negative: constants from -1 down, values captured from an enclosing recording from here down.
_CAPTURES = -(2**30)

_active = threading.local()


class Recorder:
    """A tape being written.

    As a context manager it is the recording in progress: tracers of those around it are captured.
    share: give an instruction that is there already its old slot instead of a new one.
    """

    def __init__(self, n_inputs: int, share: bool = False) -> None:
        self.n_inputs = n_inputs
        self.parent: Recorder | None = getattr(_active, "recorder", None)
        self.depth = 0 if self.parent is None else self.parent.depth + 1
        self.closed = False
        self.opcodes = array("H")
        self.starts = array("q", [0])
        self.operands = array("i")
        self.locations = array("i")
        self.constants: dict[bytes, int] = {}
        self.captures: dict[Tracer, int] = {}
        self.gates: dict[Op, int] = {}
        self.sources: dict[tuple[str, int], int] = {}
        self.functions: list[str] = []
        self.location: int | None = None
        self._shared: dict[tuple[int, ...], int] | None = {} if share else None

    def __enter__(self) -> "Recorder":
        _active.recorder = self
        return self

    def __exit__(self, *error: object) -> None:
        _active.recorder = self.parent
        self.closed = True

    def inputs(self) -> list["Tracer"]:
        return [Tracer(self, slot) for slot in range(self.n_inputs)]

    def slot_of(self, value: Any) -> int:
        """The slot of a tracer of this recording or an enclosing one, or of a plain number."""
        if type(value) is Tracer:
            if value.recorder is self:
                return value.slot
            if value.recorder.closed:
                refuse("use a traced value after its recording has ended", "return it instead")
            return _CAPTURES - self.captures.setdefault(value, len(self.captures))
        try:
            bits = struct.pack("d", value)
        except (struct.error, OverflowError):
            refuse("use an integer beyond the largest double", "scale it")
        return -1 - self.constants.setdefault(bits, len(self.constants))

    def append(self, op: Op, operands: Sequence[int]) -> int:
        """Write one instruction and return the slot of its result."""
        opcode = op.opcode
        if opcode >= FIRST_GATE:
            opcode = FIRST_GATE + self.gates.setdefault(op, len(self.gates))
        if self._shared is not None:
            key = (opcode, *operands)
            if key in self._shared:
                return self._shared[key]
            self._shared[key] = self.n_inputs + len(self.opcodes)
        self.operands.extend(operands)
        self.opcodes.append(opcode)
        self.starts.append(len(self.operands))
        self.locations.append(self._source() if self.location is None else self.location)
        return self.n_inputs + len(self.opcodes) - 1

    def _source(self) -> int:
        frame = user_frame()
        key = (frame.f_code.co_filename, frame.f_lineno)
        index = self.sources.get(key)
        if index is None:
            index = self.source(Location(*key, frame.f_code.co_name))
        return index

    def source(self, location: Location) -> int:
        """The index of a source line."""
        index = self.sources.setdefault(location[:2], len(self.sources))
        if index == len(self.functions):
            self.functions.append(location.function)
        return index

    def finish(
        self,
        name: str,
        outputs: Sequence[int],
        input_structure: Structure,
        output_structure: Structure,
        input_names: Sequence[str],
    ) -> Tape:
        """The tape written so far. Captured values become inputs after the others."""
        n, n_captures, n_constants = len(self.opcodes), len(self.captures), len(self.constants)
        first_result = self.n_inputs + n_captures + n_constants
        if first_result + n > MAX_SLOTS:
            raise TracingError(f"the function takes more than {MAX_SLOTS} slots: split it")

        def settle(recorded: Any) -> npt.NDArray[np.int64]:
            slots = np.array(recorded, np.int64)
            return np.select(
                [slots <= _CAPTURES, slots < 0, slots < self.n_inputs],
                [
                    self.n_inputs + _CAPTURES - slots,
                    self.n_inputs + n_captures - 1 - slots,
                    slots,
                ],
                slots + n_captures + n_constants,
            )

        return Tape(
            name=name,
            opcodes=np.array(self.opcodes, np.uint16),
            starts=np.array(self.starts, np.int64),
            operands=settle(self.operands).astype(np.int32),
            slots=np.arange(first_result, first_result + n + 1, dtype=np.int32),
            constants=np.frombuffer(b"".join(self.constants), np.float64),
            outputs=settle(outputs).astype(np.int32),
            locations=np.array(self.locations, np.int32),
            sources=tuple(
                Location(*key, function)
                for key, function in zip(self.sources, self.functions, strict=True)
            ),
            input_structure=input_structure,
            output_structure=output_structure,
            input_names=tuple(input_names),
            gates=tuple(self.gates),
        )


def apply(op: Op, values: Sequence[Any]) -> "Tracer":
    """Record ``op`` on tracers and plain numbers, in the innermost recording among them."""
    recorder: Recorder | None = None
    for value in values:
        if type(value) is Tracer:
            if recorder is None or value.recorder.depth > recorder.depth:
                recorder = value.recorder
        elif not isinstance(value, _NUMBERS):
            refuse(
                f"use a {type(value).__name__} with a traced value in '{op.name}'",
                "use real numbers or arrays of them",
            )
    assert recorder is not None
    if recorder.closed:
        refuse("use a traced value after its recording has ended", "return it instead")
    innermost = getattr(_active, "recorder", None)
    if innermost is not None and innermost.depth > recorder.depth and not innermost.closed:
        recorder = innermost
    return Tracer(recorder, recorder.append(op, [recorder.slot_of(value) for value in values]))


def _infix(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    op = BY_NAME[name]

    def forward(self: "Tracer", other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented  # the array then asks each of its elements
        return apply(op, (self, other))

    def reflected(self: "Tracer", other: Any) -> Any:
        return apply(op, (other, self))

    return forward, reflected


class _Backend:
    """The primitives of ``primitives.py``, as rules use them, on tracers."""

    def elementary(self, name: str, args: Sequence[Any]) -> "Tracer":
        return apply(BY_NAME[name], args)

    def __getattr__(self, name: str) -> Callable[..., "Tracer"]:
        op = BY_NAME.get(_PRIMITIVES.get(name, name))
        if op is None:
            raise TracingError(f"{name} works on numbers in compiled code, not on a traced value")
        return lambda *args: apply(op, args)


_PRIMITIVES = {"absolute": "abs", "rint": "round"}


class Tracer:
    """A number whose operations are recorded. Made by ``tpf.record`` and what is built on it."""

    __slots__ = ("recorder", "slot")
    __tapeflow_backend__ = _Backend()
    shape = ()
    ndim = 0
    size = 1

    def __init__(self, recorder: Recorder, slot: int) -> None:
        self.recorder = recorder
        self.slot = slot

    __add__, __radd__ = _infix("add")
    __sub__, __rsub__ = _infix("sub")
    __mul__, __rmul__ = _infix("mul")
    __truediv__, __rtruediv__ = _infix("div")
    __lt__, _ = _infix("less")
    __le__, _ = _infix("less_equal")
    __gt__, _ = _infix("greater")
    __ge__, _ = _infix("greater_equal")
    __eq__, _ = _infix("equal")
    __ne__, _ = _infix("not_equal")
    _pow, __rpow__ = _infix("pow")
    __or__, __ror__ = _infix("max")
    __and__, __rand__ = _infix("min")

    def __pow__(self, exponent: Any) -> Any:
        # As NumPy does, and as exact as multiplication is.
        if isinstance(exponent, _NUMBERS) and exponent in (1, 2, -1):
            name = {1: None, 2: "square", -1: "reciprocal"}[int(exponent)]
            return self if name is None else apply(BY_NAME[name], (self,))
        return self._pow(exponent)

    def __neg__(self) -> "Tracer":
        return apply(BY_NAME["neg"], (self,))

    def __pos__(self) -> "Tracer":
        return self

    conjugate = __pos__  # np.var and np.vdot ask for it

    def __abs__(self) -> "Tracer":
        return apply(BY_NAME["abs"], (self,))

    def __floor__(self) -> "Tracer":
        return apply(BY_NAME["floor"], (self,))

    def __ceil__(self) -> "Tracer":
        return apply(BY_NAME["ceil"], (self,))

    def __round__(self, digits: int | None = None) -> "Tracer":
        if digits:
            refuse(f"round a traced value to {digits} digits", "scale it: round(x * 100) / 100")
        return apply(BY_NAME["round"], (self,))

    def __getattr__(self, name: str) -> Any:
        # NumPy's loops over arrays of objects call x.exp() and the like.
        op = _METHODS.get(name)
        if op is None:
            raise AttributeError(f"a traced number has no attribute {name!r}")
        return lambda *others: apply(op, (self, *others))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return _ufunc(ufunc, method, inputs, options)

    def __float__(self) -> NoReturn:
        line = user_line()
        call = re.search(r"\bmath\.(\w+)\(", line)
        if call:
            refuse(
                "turn a traced value into a Python float",
                f"use np.{call[1]}, not math.{call[1]}",
            )
        refuse("turn a traced value into a Python float", "keep computing with the traced value")

    def __int__(self) -> NoReturn:
        refuse("turn a traced value into a Python int", "use np.floor or np.rint to round it")

    __trunc__ = __int__

    def __index__(self) -> NoReturn:
        refuse("use a traced value as an index", "choose the elements with tpf.where")

    def __complex__(self) -> NoReturn:
        refuse("turn a traced value into a complex number", "compute with real numbers")

    def __bool__(self) -> NoReturn:
        line = user_line()
        instead = "use tpf.where(condition, a, b)"
        if re.search(r"\b(?<!\.)(max|min)\(", line):
            instead = "use np.maximum(a, b) or np.minimum(a, b), not Python's max or min"
        elif re.search(r"\bin\b", line) and not re.search(r"\bfor\b", line):
            instead = "compare with each element, and use tpf.where"
        refuse("decide on the value of a traced comparison", instead)

    def __iter__(self) -> NoReturn:
        refuse("iterate over a traced number", "pass a list or an array")

    def __hash__(self) -> int:
        # Captured values are dictionary keys, by identity.
        return id(self)

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return f"<traced number in slot {self.slot}>"


_METHODS = {op.name: op for op in OPS} | {u.__name__: op for u, op in BY_UFUNC.items()}


class TracedArray(np.ndarray[Any, Any]):
    """An array of tracers: NumPy's own indexing and reshaping, with elementwise ops recorded."""

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return _ufunc(ufunc, method, inputs, options)

    def __bool__(self) -> bool:
        return bool(self.item())


def _ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Record a NumPy ufunc, element by element where an operand is an array."""
    op = BY_UFUNC.get(ufunc)
    # NumPy's own functions pass all options on, most of them unset.
    options = {name: value for name, value in options.items() if not _is_unset(name, value)}
    (out,) = options.get("out") or (None,)
    if isinstance(out, TracedArray):
        # In place, as in x += y: the array's elements become other tracers.
        del options["out"]
        out[...] = _ufunc(ufunc, method, inputs, options)
        return out
    if op is not None and method == "__call__" and not options:
        return elementwise(op, inputs)
    if ufunc in _STRUCTURAL and options.keys() <= {"axis", "keepdims", "initial"}:
        # NumPy's loops over objects use the elements' own operators.
        return _traced_array(getattr(ufunc, method)(*map(_plain, inputs), **options))
    name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    refuse(
        f"record np.{name}{f' with {min(options)}=' if op and options else ''}",
        "write it with the ufuncs that tapeflow records (see docs/ops.md)",
    )


def elementwise(op: Op, operands: Sequence[Any]) -> Any:
    """Record ``op`` on traced values and numbers, or on each element of arrays, broadcast."""
    if not any(isinstance(value, np.ndarray) for value in operands):
        return apply(op, operands)
    elements = np.frompyfunc(lambda *values: apply(op, values), op.arity, 1)
    return _traced_array(elements(*map(_plain, operands)))


def _traced_array(result: Any) -> Any:
    return result.view(TracedArray) if isinstance(result, np.ndarray) else result


def _is_unset(name: str, value: Any) -> bool:
    if name == "where":
        return value is True
    if name in ("casting", "subok", "order"):
        return True  # of no meaning for tracers
    if name == "axis":
        return False  # None says all axes, where leaving it out says the first
    return value is None or value is False or value is np._NoValue


_STRUCTURAL = {
    np.add, np.multiply, np.subtract, np.matmul, np.vecdot, np.positive, np.conjugate,
}  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, Tracer):
        # A bare tracer would call __array_ufunc__ again.
        box = np.empty((), object)
        box[()] = value
        return box
    return value.view(np.ndarray) if isinstance(value, TracedArray) else value


def is_traced(value: Any) -> bool:
    """Whether a leaf is a tracer, or an array with one."""
    if isinstance(value, TracedArray):
        return True
    if isinstance(value, np.ndarray) and value.dtype == object:
        return any(type(element) is Tracer for element in value.flat)
    return type(value) is Tracer
