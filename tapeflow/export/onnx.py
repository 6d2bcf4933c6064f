"""A tape as an ONNX model: the rules evaluated on names of its graph's values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tapeflow.arrays import structural
from tapeflow.backend import KINDS, NUMBERS, Value
from tapeflow.errors import TapeError
from tapeflow.export.c_ops import identifier
from tapeflow.export.library import Library
from tapeflow.export.whole import Values, evaluate, prepared
from tapeflow.ops import Op
from tapeflow.tape import Tape

OPSET, IR_VERSION = 17, 8
"""Of ONNX 1.12 (2022), which the runtimes of today read."""


def to_onnx(tape: Tape, path: Any = None) -> Any:
    try:
        import onnx
    except ImportError:
        raise ImportError("to_onnx needs ONNX: python -m pip install onnx") from None
    run, values = prepared(tape, "ONNX"), _Onnx()
    kind = onnx.TensorProto.DOUBLE
    given, inputs = [], []
    structure = tape.input_structure
    outputs = [f"result{k}" for k in range(len(tape.output_structure.leaves))]
    for name, leaf in zip(_unique(tape.input_names, outputs), structure.leaves, strict=True):
        shape = leaf.shape or ()
        given.append(onnx.helper.make_tensor_value_info(name, kind, shape))
        flat = () if leaf.shape is None else (-1,)
        inputs.append(name if len(shape) <= 1 else values.reshape(name, flat))
    results = evaluate(run, inputs, values)
    taken = []
    for name, value, leaf in zip(outputs, results, tape.output_structure.leaves, strict=True):
        values.graph.node("Identity", value, output=name)
        taken.append(onnx.helper.make_tensor_value_info(name, kind, leaf.shape or ()))
    graph = onnx.helper.make_graph(
        values.graph.nodes, identifier(tape.name), given, taken, values.graph.initializers
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        producer_name="tapeflow",
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        onnx.save(model, path)
    return model


def _unique(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    """The inputs' names, each of which is that of one value in a graph."""
    found = list(taken)
    for name in names:
        others = (f"{name}_{k}" for k in range(2, len(names) + len(taken) + 3))
        found.append(name if name not in found else next(n for n in others if n not in found))
    return found[len(taken) :]


class _Graph:
    """Nodes and constants, as they are written."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._constants: dict[Any, str] = {}

    def node(self, kind: str, *inputs: str, output: str = "", **options: Any) -> str:
        import onnx

        name = output or f"node/{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, list(inputs), [name], **options))
        return name

    def constant(self, numbers: Any) -> str:
        import onnx

        array = np.asarray(numbers)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            name = self._constants[key] = f"constant/{len(self._constants)}"
            self.initializers.append(onnx.numpy_helper.from_array(array, name))
        return self._constants[key]


_PRIMITIVES = {
    "+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "<": "Less", "<=": "LessOrEqual",
    ">": "Greater", ">=": "GreaterOrEqual", "==": "Equal", "&": "And", "|": "Or", "!": "Not",
    "sqrt": "Sqrt", "floor": "Floor", "ceil": "Ceil", "rint": "Round", "absolute": "Abs",
    "where": "Where",
}  # fmt: skip

_ELEMENTARY = {
    "exp": "Exp", "log": "Log", "sin": "Sin", "cos": "Cos", "tanh": "Tanh", "sigmoid": "Sigmoid",
    "pow": "Pow",
}  # fmt: skip
"""What ONNX has, and onnxruntime in float64; other texts are written out."""


class _Backend(Library):
    """The primitives, and the elementary functions that ONNX has, as nodes."""

    what = "ONNX"

    def __init__(self, graph: _Graph) -> None:
        self.graph = graph

        def known(kind: str) -> Callable[..., Any]:
            return lambda *operands: graph.node(kind, *map(self._name, operands))

        self.known = {name: known(kind) for name, kind in _ELEMENTARY.items()}
        node = graph.node
        c = self._name
        self.known["sign"] = lambda x: node("Where", node("IsNaN", x), x, node("Sign", x))
        self.known["log2"] = lambda x: node("Div", node("Log", x), c(float(np.log(2.0))))
        self.known["log10"] = lambda x: node("Div", node("Log", x), c(float(np.log(10.0))))
        self.known["tan"] = lambda x: node("Div", node("Sin", x), node("Cos", x))
        self.known["sinh"] = lambda x: node("Mul", c(0.5), self._of_exponentials("Sub", x))
        self.known["cosh"] = lambda x: node("Mul", c(0.5), self._of_exponentials("Add", x))
        self.known["softplus"] = self._softplus

    def _of_exponentials(self, kind: str, x: str) -> str:
        """The sum or the difference of e^x and e^-x."""
        node = self.graph.node
        return node(kind, node("Exp", x), node("Exp", node("Neg", x)))

    def _softplus(self, x: str) -> str:
        node = self.graph.node
        rest = node("Log", node("Add", self._name(1.0), node("Exp", node("Neg", node("Abs", x)))))
        return node("Add", node("Max", x, self._name(0.0)), rest)

    def _name(self, x: Any) -> str:
        return x if isinstance(x, str) else self.graph.constant(np.float64(x))

    def constant(self, kind: str, number: Any) -> Value:
        return KINDS[kind](self, self._name(float(number)))

    def make(self, kind: str, name: str, *operands: Value) -> Value:
        node, names = self.graph.node, [self._name(operand.value) for operand in operands]
        if name == "-" and len(operands) == 1:
            found = node("Neg", *names)
        elif name == "!=":
            found = node("Not", node("Equal", *names))
        elif name == "fma":
            found = node("Add", node("Mul", *names[:2]), names[2])
        elif name == "copysign":
            zero = self._name(0.0)
            # The inverse of a negative zero is below zero.
            below = node(
                "Less",
                node(
                    "Where",
                    node("Equal", names[1], zero),
                    node("Div", self._name(1.0), names[1]),
                    names[1],
                ),
                zero,
            )
            size = node("Abs", names[0])
            found = node("Where", below, node("Neg", size), size)
        elif name == "trunc":
            down, up = node("Floor", *names), node("Ceil", *names)
            found = node("Where", node("Less", names[0], self._name(0.0)), up, down)
        elif name in _PRIMITIVES and kind != "int":
            found = node(_PRIMITIVES[name], *names)
        else:
            raise TapeError(f"its text computes with {name}, which ONNX has not")
        return KINDS[kind](self, found)


class _Onnx(Values):
    what = "ONNX"

    def __init__(self) -> None:
        self.graph = _Graph()
        self.backend = _Backend(self.graph)

    def constant(self, numbers: Any) -> Any:
        single = isinstance(numbers, NUMBERS)
        return self.graph.constant(np.float64(numbers) if single else np.array(numbers, float))

    def _whole(self, numbers: Sequence[int]) -> str:
        return self.graph.constant(np.array(numbers, np.int64))

    def part(self, run: Any, first: int, last: int) -> Any:
        return self.graph.node("Slice", run, self._whole([first]), self._whole([last]))

    def reshape(self, value: Any, shape: Sequence[int]) -> Any:
        # A length of 0 would be taken for that of the operand.
        return self.graph.node("Reshape", value, self._whole(list(shape)), allowzero=1)

    def broadcast(self, value: Any, shape: Sequence[int]) -> Any:
        return self.graph.node("Expand", value, self._whole(list(shape)))

    def array(self, op: Op, p: Sequence[int], operands: Sequence[Any]) -> Any:
        make = _ARRAYS.get(op.name)
        return None if make is None else self.reshape(make(self, p, *operands), (-1,))


def _gathered(values: _Onnx, run: str, places: Any) -> str:
    return values.graph.node("Gather", run, values._whole(places))


def _scattered(values: _Onnx, run: str, places: Any, size: int) -> str:
    zeros = values.constant(np.zeros(size))
    at = values.graph.constant(np.asarray(places, np.int64)[:, None])
    return values.graph.node("ScatterND", zeros, at, run, reduction="add")


def _take(values: _Onnx, p: Sequence[int], run: str) -> str:
    places = np.array(p[1:], np.int64)
    whole = values.graph.node("Concat", run, values.constant([0.0]), axis=0)
    return _gathered(values, whole, np.where(places < 0, p[0], places))


def _put(values: _Onnx, p: Sequence[int], run: str) -> str:
    places = np.array(p[1:], np.int64)
    kept = _gathered(values, run, np.flatnonzero(places >= 0))
    return _scattered(values, kept, places[places >= 0], p[0])


def _reduction(kind: str, place: bool = False) -> Callable[..., str]:
    def make(values: _Onnx, p: Sequence[int], run: str) -> str:
        whole = values.reshape(run, p[:3])
        if kind == "ReduceSum":
            return values.graph.node(kind, whole, values._whole([1]), keepdims=0)
        if not place:
            return values.graph.node(kind, whole, axes=[1], keepdims=0)
        found = values.graph.node(kind, whole, axis=1, keepdims=0)
        return values.graph.node("Cast", found, to=11)  # a double

    return make


def _cumsum(values: _Onnx, p: Sequence[int], run: str) -> str:
    axis = values.graph.constant(np.int64(1))
    return values.graph.node("CumSum", values.reshape(run, p[:3]), axis, reverse=p[3])


def _factors(values: _Onnx, p: Sequence[int], a: str, b: str) -> tuple[str, str]:
    batch, m, k, n, a_turned, b_turned, a_single, b_single = p
    left = values.reshape(a, (1 if a_single else batch, *((k, m) if a_turned else (m, k))))
    right = values.reshape(b, (1 if b_single else batch, *((n, k) if b_turned else (k, n))))
    node = values.graph.node
    left = node("Transpose", left, perm=[0, 2, 1]) if a_turned else left
    right = node("Transpose", right, perm=[0, 2, 1]) if b_turned else right
    return left, right


def _matmul(values: _Onnx, p: Sequence[int], a: str, b: str) -> str:
    return values.graph.node("MatMul", *_factors(values, p, a, b))


def _azmatmul(values: _Onnx, p: Sequence[int], a: str, b: str) -> str:
    """The product of the finite numbers; the plain one where another meets what is not zero."""
    node, zero = values.graph.node, values.graph.constant(0.0)

    def parts(x: str) -> tuple[str, str, str]:
        """What is finite; 1 for each number that is not, and for each that is not zero."""
        wild = node("IsNaN", node("Sub", x, x))
        given = node("Cast", node("Not", node("Equal", x, zero)), to=11)  # a double
        return node("Where", wild, zero, x), node("Cast", wild, to=11), given

    x, y = _factors(values, p, a, b)
    (left, wild_left, any_left), (right, wild_right, any_right) = parts(x), parts(y)
    met = node("MatMul", wild_left, any_right), node("MatMul", any_left, wild_right)
    wild = node("Greater", node("Add", *met), zero)
    return node("Where", wild, node("MatMul", x, y), node("MatMul", left, right))


_ARRAYS: dict[str, Callable[..., str]] = {
    "view": lambda values, p, run: _gathered(values, run, structural._places(p)),
    "unview": lambda values, p, run: _scattered(values, run, structural._places(p), p[0]),
    "take": _take,
    "put": _put,
    "concat": lambda values, p, *runs: values.graph.node("Concat", *runs, axis=0),
    "sum": _reduction("ReduceSum"),
    "amax": _reduction("ReduceMax"),
    "amin": _reduction("ReduceMin"),
    "argmax": _reduction("ArgMax", True),
    "argmin": _reduction("ArgMin", True),
    "cumsum": _cumsum,
    "log_of_sum": lambda values, p, run, value: value,
    "matmul": _matmul,
    "azmatmul": _azmatmul,
    "det": lambda values, p, run: values.graph.node("Det", values.reshape(run, (p[0], p[1], p[1]))),
}
"""The ops on whole arrays that ONNX has: each gives the name of the result."""
