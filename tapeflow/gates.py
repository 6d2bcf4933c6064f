"""Gates of the user's own: a class with forward and backward, or a rule function."""

import copy
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np

from tapeflow.arrays import GateRule
from tapeflow.errors import GateError, TapeError
from tapeflow.ops import FIRST_GATE, Op
from tapeflow.tracers import elementwise, is_traced, lift
from tapeflow.tracers.instructions import joined


class PythonGate:
    """What the interpreter calls for a gate written as a class: one instance a sample.

    The instance that ran ``forward`` runs ``backward``, so it can cache what it needs.
    """

    def __init__(self, name: str, prototype: Any, arity: int) -> None:
        self.name = name
        self.arity = arity
        self.prototype = prototype
        self.backward_ops: dict[int, Op] = {}

    def forward(self, values: list[float]) -> tuple[Any, float]:
        """A fresh instance and its output; GateError where that is not one number."""
        instance = copy.copy(self.prototype)
        try:
            result = instance.forward(*values)
        except Exception as error:
            raise GateError(f"gate {self.name}: forward raised {_describe(error)}") from error
        return instance, self._number(result, "forward returned")

    def backward(self, instance: Any, flowing: float) -> list[float]:
        """The instance's gradients, one for each operand; GateError for anything else."""
        try:
            gradients = instance.backward(flowing)
        except Exception as error:
            raise GateError(f"gate {self.name}: backward raised {_describe(error)}") from error
        if not isinstance(gradients, (list, tuple)):
            gradients = np.atleast_1d(gradients)
        if len(gradients) != self.arity:
            raise GateError(
                f"gate {self.name}: backward returned {len(gradients)} gradients "
                f"for {self.arity} inputs: return a list with one for each"
            )
        return [self._number(g, f"gradient {k} of backward is") for k, g in enumerate(gradients)]

    def _number(self, value: Any, what: str) -> float:
        if np.ndim(value) == 0 and not isinstance(value, (str, bytes)):
            try:
                return float(value)
            except TypeError:
                pass
        shape = f"an array of shape {np.shape(value)}" if np.ndim(value) else repr(value)
        raise GateError(f"gate {self.name}: {what} {shape}: it must be one number")


class PythonBackward(PythonGate):
    """One gradient of a gate written as a class, as a gate of its operands and what flows back.

    It runs the gate forward again, on an instance of its own.
    """

    def __init__(self, gate: PythonGate, operand: int) -> None:
        super().__init__(gate.name, None, gate.arity + 1)
        self.gate, self.operand = gate, operand

    def forward(self, values: list[float]) -> tuple[Any, float]:
        *operands, flowing = values
        if flowing == 0.0:
            return None, 0.0  # an absolute zero skips the gate
        instance, _ = self.gate.forward(operands)
        return None, self.gate.backward(instance, flowing)[self.operand]


def backward_op(op: Op, operand: int) -> Op:
    """The op that computes a gate's gradient in an operand."""
    known: dict[int, Op] = op.python.backward_ops
    if operand not in known:
        python = PythonBackward(op.python, operand)
        known[operand] = replace(op, arity=op.arity + 1, python=python)
    return known[operand]


def gate(target: Any) -> Any:
    """Make a gate of a class with ``forward`` and ``backward``, or of a rule function.

    A class: ``forward(self, x, y)`` gives the output and caches on ``self`` what ``backward(self,
    dz)`` needs, which returns the list of gradients, one for each input. Its instances are called
    like functions. Both run in Python, once for each sample.

    A function: it returns the value and the tuple of partials, one for each operand, is written
    with operators, NumPy or tapeflow functions and ``tpf.where``, and is compiled like a built-in.

    Raises TypeError for anything else, and for a variable number of operands.

    >>> @tpf.gate
    ... class Multiply:
    ...     def forward(self, x, y):
    ...         self.x, self.y = x, y
    ...         return x * y
    ...     def backward(self, dz):
    ...         return [self.y * dz, self.x * dz]
    >>> tpf.grad(lambda x: Multiply()(x, 3.0))(2.0)
    3.0
    >>> @tpf.gate
    ... def softsign(x):
    ...     d = 1.0 + abs(x)
    ...     return x / d, (1.0 / (d * d),)
    >>> tpf.grad(softsign)(1.0)
    0.25
    """
    if inspect.isclass(target):
        return _gate_class(target)
    if callable(target):
        return RuleGate(target)
    raise TypeError(f"tpf.gate takes a class or a function, not a {type(target).__name__}")


_IS_GATE = "_tapeflow_gate"
"""The attribute of classes that `gate` has made gates of."""


def _gate_class(cls: type) -> type:
    for method in ("forward", "backward"):
        if not callable(getattr(cls, method, None)):
            raise TypeError(f"gate {cls.__name__} needs a method {method}")

    def call(self: Any, *operands: Any) -> Any:
        """Run the gate's forward on numbers, or record the gate on traced values."""
        if not any(map(is_traced, operands)):
            return self.forward(*operands)
        op = self.__dict__.get("_tapeflow_op")
        if op is None:
            op = _python_op(cls.__name__, self)
            self._tapeflow_op = op
        return _record(op, operands)

    setattr(cls, "__call__", call)  # noqa: B010 - the type checker takes no assignment
    setattr(cls, _IS_GATE, True)
    return cls


def _python_op(name: str, instance: Any) -> Op:
    arity = _arity(instance.forward, name)

    def rule(*operands: Any) -> Any:
        raise GateError(f"gate {name} runs in Python and has no rule")

    prototype = copy.copy(instance)
    return Op(FIRST_GATE, name, arity, rule, name, name, python=PythonGate(name, prototype, arity))


class RuleGate:
    """A gate made of a rule function; call it on numbers, arrays or traced values."""

    def __init__(self, rule: Callable[..., tuple[Any, tuple[Any, ...]]]) -> None:
        name = getattr(rule, "__name__", "gate")
        self.__name__, self.__doc__, self.__module__ = name, rule.__doc__, rule.__module__
        self.__qualname__: str = getattr(rule, "__qualname__", name)
        self._rule = rule
        self.op = Op(FIRST_GATE, name, _arity(rule, name), self.checked, name, name)

    def checked(self, *operands: Any) -> tuple[Any, tuple[Any, ...]]:
        """The value and the partials; GateError where the rule returns something else."""
        name, arity = self.op.name, self.op.arity
        result = self._rule(*operands)
        if not isinstance(result, tuple) or len(result) != 2:
            raise GateError(f"gate {name}: return the value and the tuple of partials")
        value, partials = result
        if not isinstance(partials, (tuple, list)) or len(partials) != arity:
            count = len(partials) if isinstance(partials, (tuple, list)) else 1
            raise GateError(
                f"gate {name}: {count} partials for {arity} inputs: "
                "return a tuple with one for each"
            )
        return value, tuple(partials)

    def __reduce__(self) -> str:
        """Pickled by reference, as the function is that it was made of."""
        return self.__qualname__

    def __call__(self, *operands: Any) -> Any:
        if len(operands) != self.op.arity:
            raise TypeError(
                f"gate {self.op.name} takes {self.op.arity} inputs, not {len(operands)}"
            )
        if any(map(is_traced, operands)):
            return _record(self.op, operands)
        return self.op.rule(*operands)[0]

    def __repr__(self) -> str:
        return f"<gate {self.op.name}>"


def _record(op: Op, operands: tuple[Any, ...]) -> Any:
    if len(operands) != op.arity:
        raise TypeError(f"gate {op.name} takes {op.arity} inputs, not {len(operands)}")
    if op.python is None or not any(np.ndim(x) for x in operands):
        return elementwise(op, operands)
    # A gate in Python takes numbers: one instruction an element.
    arrays = [lift(x) for x in operands]
    shape = np.broadcast_shapes(*(x.shape for x in arrays))
    rows = zip(*(x.broadcast_to(shape).reshape(-1) for x in arrays), strict=True)
    return joined([elementwise(op, row) for row in rows]).reshape(shape)


def _arity(function: Callable[..., Any], name: str) -> int:
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.KEYWORD_ONLY) for p in parameters):
        raise TypeError(f"gate {name} must take a fixed number of inputs by position")
    if not parameters:
        raise TypeError(f"gate {name} must take at least one input")
    return len(parameters)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def gate_of(op: Op) -> tuple[Any, int | None]:
    """What the user made an op of: a rule gate, or an instance of a gate class.

    For the gradient of a gate that runs in Python, the operand it is for as well. TapeError for
    what belongs to one call of a function, as its rule does, and has no name.
    """
    if isinstance(op.array, GateRule):
        raise TapeError(
            f"a file cannot hold {op.name}, which is Python code of one call: save the tape of a "
            "function without it, or of a gradient if that has none"
        )
    python = op.python
    if isinstance(python, PythonBackward):
        return python.gate.prototype, python.operand
    return (cast(Any, op.rule).__self__ if python is None else python.prototype), None


def op_of(target: Any) -> Op:
    """The op of a gate: a rule gate, an instance of a gate class, or the class itself.

    TypeError for anything else.
    """
    if isinstance(target, RuleGate):
        return target.op
    instance = target
    if inspect.isclass(target) and hasattr(target, _IS_GATE):
        try:
            instance = target()
        except TypeError:
            raise TypeError(f"gate {target.__name__} takes arguments: pass an instance") from None
    if not hasattr(type(instance), _IS_GATE):
        raise TypeError(f"{target!r} is not a gate: decorate it with tpf.gate")
    return _python_op(type(instance).__name__, instance)


def is_importable(target: Any) -> bool:
    """Whether pickle would find a gate, or its class, by module and name."""
    named: Any = target if isinstance(target, (RuleGate, type)) else type(target)
    found: Any = sys.modules.get(named.__module__)
    for part in named.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is named
