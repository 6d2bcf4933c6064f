"""The primitives as LLVM IR: evaluating a rule on these values writes its machine code.

A value holds one number (width 1) or a vector of lanes. No instruction carries a fast-math flag,
and a product and a sum are fused only where a text says ``fma``: so the bits do not depend on
the width, nor on what else is in a kernel.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from tapeflow.ops import BY_UFUNC
from tapeflow.primitives import wrap

WIDTH = 8
"""Lanes of a vector: the widest registers of today's processors hold eight doubles."""

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_PYTHON_NUMBERS = (int, float, np.floating, np.integer)


class _Splat(ir.Constant):  # type: ignore[misc]
    """One number in every lane, in a text an eighth as long as that of the lanes."""

    def __init__(self, kind: ir.Type, number: ir.Constant) -> None:
        super().__init__(kind, None)
        self._number = number

    def get_reference(self) -> str:
        return f"splat ({self._number})"


class Emitter:
    """Writes instructions at a builder's position, on values of ``width`` lanes.

    It is the backend of its values (see `primitives`).
    """

    def __init__(self, builder: ir.IRBuilder, width: int) -> None:
        self.builder, self.width = builder, width
        self.float_type = self._wide(ir.DoubleType())
        self.int_type = self._wide(_I64)
        self.mask_type = self._wide(_I1)
        self._known: dict[Any, tuple[Any, Any]] = {}
        self._aside = False

    def _wide(self, element: ir.Type) -> ir.Type:
        return element if self.width == 1 else ir.VectorType(element, self.width)

    def _constant(self, kind: ir.Type, value: Any) -> ir.Constant:
        if self.width == 1:
            return ir.Constant(kind, value)
        one = ir.Constant(kind.element, value)
        return _Splat(kind, one)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """One number in every lane."""
        if self.width == 1:
            return scalar
        first = self.builder.insert_element(
            ir.Constant(self.float_type, ir.Undefined), scalar, ir.Constant(_I32, 0)
        )
        zeros = ir.Constant(ir.VectorType(_I32, self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, ir.Constant(self.float_type, ir.Undefined), zeros)

    def float(self, value: Any) -> "Float":
        if isinstance(value, Float):
            return value
        if isinstance(value, _PYTHON_NUMBERS):
            return Float(self, self._constant(self.float_type, float(value)))
        raise TypeError(f"a kernel computes with numbers, not with a {type(value).__name__}")

    def int(self, value: Any) -> "Int":
        if isinstance(value, Int):
            return value
        return Int(self, self._constant(self.int_type, wrap(int(value))))

    def intrinsic(self, name: str, *args: "Float") -> "Float":
        kind = "f64" if self.width == 1 else f"v{self.width}f64"
        return Float(self, self._call(f"llvm.{name}.{kind}", self.float_type, *args))

    def _call(self, name: str, result: ir.Type, *args: "Any") -> ir.Value:
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            kinds = [arg.value.type for arg in args]
            function = ir.Function(module, ir.FunctionType(result, kinds), name)
        return self.builder.call(function, [arg.value for arg in args])

    def once(self, function: Callable[..., Any], args: Sequence[Any]) -> Any:
        """A function's value; for arguments that it had before, the value it gave then."""
        args = [self.lift(arg) for arg in args]
        if self._aside:  # what stands here does not reach other places
            return function(*args)
        key = (function, *(id(arg.value) for arg in args))
        if key not in self._known:
            self._known[key] = args, function(*args)  # the arguments, so that their ids stay theirs
        return self._known[key][1]

    def lift(self, x: Any) -> Any:
        return x if isinstance(x, _Value) else self.float(x)

    # The primitives.

    def fma(self, a: Any, b: Any, c: Any) -> "Float":
        return self.intrinsic("fma", self.float(a), self.float(b), self.float(c))

    def sqrt(self, x: "Float") -> "Float":
        return self.intrinsic("sqrt", x)

    def floor(self, x: "Float") -> "Float":
        return self.intrinsic("floor", x)

    def ceil(self, x: "Float") -> "Float":
        return self.intrinsic("ceil", x)

    def rint(self, x: "Float") -> "Float":
        return self.intrinsic("roundeven", x)

    def trunc(self, x: "Float") -> "Float":
        return self.intrinsic("trunc", x)

    def absolute(self, x: "Float") -> "Float":
        return self.intrinsic("fabs", x)

    def copysign(self, x: Any, y: Any) -> "Float":
        return self.intrinsic("copysign", self.float(x), self.float(y))

    def where(self, mask: "Mask", a: Any, b: Any) -> Any:
        both = (a, b)
        kind = Int if any(isinstance(v, Int) for v in both) else Float
        if all(isinstance(v, Mask) for v in both):
            return Mask(self, self.builder.select(mask.value, a.value, b.value))
        lift = self.int if kind is Int else self.float
        return kind(self, self.builder.select(mask.value, lift(a).value, lift(b).value))

    def bits(self, x: "Float") -> "Int":
        return Int(self, self.builder.bitcast(x.value, self.int_type))

    def from_bits(self, i: "Int") -> "Float":
        return Float(self, self.builder.bitcast(i.value, self.float_type))

    def shift_right_logical(self, i: "Int", n: Any) -> "Int":
        return Int(self, self.builder.lshr(i.value, self.int(n).value))

    def mul_high(self, i: Any, j: Any) -> "Int":
        wide = self._wide(ir.IntType(128))
        a, b = (self.builder.zext(self.int(v).value, wide) for v in (i, j))
        product = self.builder.mul(a, b)
        high = self.builder.lshr(product, self._constant(wide, 64))
        return Int(self, self.builder.trunc(high, self.int_type))

    def to_float(self, i: "Int") -> "Float":
        return Float(self, self.builder.sitofp(i.value, self.float_type))

    def to_int(self, x: "Float") -> "Int":
        return Int(self, self.builder.fptosi(x.value, self.int_type))

    def table(self, values: Sequence[Any], index: "Int") -> Any:
        """Look up each lane's element on its own: tables stand on slow paths only."""
        whole = isinstance(values[0], int)
        element = _I64 if whole else ir.DoubleType()
        kind = ir.ArrayType(element, len(values))
        module = self.builder.module
        name = module.get_unique_name("table")
        data = ir.GlobalVariable(module, kind, name)
        data.global_constant, data.linkage = True, "internal"
        data.initializer = ir.Constant(
            kind, [ir.Constant(element, wrap(v) if whole else v) for v in values]
        )

        def look_up(i: ir.Value) -> ir.Value:
            place = self.builder.gep(data, [ir.Constant(_I64, 0), i], source_etype=kind)
            return self.builder.load(place, typ=element)

        make = Int if whole else Float
        if self.width == 1:
            return make(self, look_up(index.value))
        result: Any = ir.Constant(self._wide(element), ir.Undefined)
        for lane in range(self.width):
            position = ir.Constant(_I32, lane)
            found = look_up(self.builder.extract_element(index.value, position))
            result = self.builder.insert_element(result, found, position)
        return make(self, result)

    def rarely(self, mask: "Mask", slow: Callable[..., Any], fast: Any, *args: Any) -> Any:
        builder = self.builder
        several = isinstance(fast, tuple)
        fasts = [self.float(value) for value in (fast if several else (fast,))]
        before = builder.block
        path, after = builder.append_basic_block("slow"), builder.append_basic_block("after")
        builder.cbranch(self.any(mask), path, after).set_weights([1, 1000])
        builder.position_at_end(path)
        aside, self._aside = self._aside, True
        found = slow(*args)
        self._aside = aside
        founds = [
            self.where(mask, s, f)
            for s, f in zip(found if several else (found,), fasts, strict=True)
        ]
        end = builder.block
        builder.branch(after)
        builder.position_at_end(after)
        results = []
        for slow_value, fast_value in zip(founds, fasts, strict=True):
            phi = builder.phi(self.float_type)
            phi.add_incoming(slow_value.value, end)
            phi.add_incoming(fast_value.value, before)
            results.append(Float(self, phi))
        return tuple(results) if several else results[0]

    def any(self, mask: "Mask") -> ir.Value:
        """Whether a lane is set."""
        if self.width == 1:
            return mask.value
        return self._call(f"llvm.vector.reduce.or.v{self.width}i1", _I1, mask)


class _Value:
    """An IR value of an emitter."""

    __slots__ = ("emitter", "value")

    def __init__(self, emitter: Emitter, value: ir.Value) -> None:
        self.emitter, self.value = emitter, value

    @property
    def __tapeflow_backend__(self) -> Emitter:
        return self.emitter

    def __bool__(self) -> bool:
        raise TypeError("a rule takes no branch on a value: use tpf.where")


def _binary(lift: str, instruction: str) -> Any:
    """A pair of methods: the operator, and the one with a plain number on its left."""

    def forward(self: Any, other: Any) -> Any:
        emit = getattr(self.emitter.builder, instruction)
        return type(self)(self.emitter, emit(self.value, getattr(self.emitter, lift)(other).value))

    def reflected(self: Any, other: Any) -> Any:
        emit = getattr(self.emitter.builder, instruction)
        return type(self)(self.emitter, emit(getattr(self.emitter, lift)(other).value, self.value))

    return forward, reflected


def _comparison(lift: str, method: str, sign: str) -> Any:
    def compare(self: Any, other: Any) -> "Mask":
        emit = getattr(self.emitter.builder, method)
        other = getattr(self.emitter, lift)(other)
        return Mask(self.emitter, emit(sign, self.value, other.value))

    return compare


class Float(_Value):
    """Float64 lanes."""

    __slots__ = ()

    __add__, __radd__ = _binary("float", "fadd")
    __sub__, __rsub__ = _binary("float", "fsub")
    __mul__, __rmul__ = _binary("float", "fmul")
    __truediv__, __rtruediv__ = _binary("float", "fdiv")
    __lt__ = _comparison("float", "fcmp_ordered", "<")
    __le__ = _comparison("float", "fcmp_ordered", "<=")
    __gt__ = _comparison("float", "fcmp_ordered", ">")
    __ge__ = _comparison("float", "fcmp_ordered", ">=")
    __eq__ = _comparison("float", "fcmp_ordered", "==")
    __ne__ = _comparison("float", "fcmp_unordered", "!=")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> "Float":
        return Float(self.emitter, self.emitter.builder.fneg(self.value))

    def __pos__(self) -> "Float":
        return self

    def __abs__(self) -> "Float":
        return self.emitter.absolute(self)

    def __pow__(self, other: Any) -> Any:
        return self.__array_ufunc__(np.power, "__call__", self, other)

    def __rpow__(self, other: Any) -> Any:
        return self.__array_ufunc__(np.power, "__call__", other, self)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        op = BY_UFUNC.get(ufunc)
        if op is None or method != "__call__" or options:
            raise TypeError(f"a rule cannot use np.{ufunc.__name__}: see docs/ops.md")
        return op.rule(*map(self.emitter.float, inputs))[0]


class Int(_Value):
    """Lanes of 64-bit ints, which wrap around."""

    __slots__ = ()

    __add__, __radd__ = _binary("int", "add")
    __sub__, __rsub__ = _binary("int", "sub")
    __mul__, __rmul__ = _binary("int", "mul")
    __and__, __rand__ = _binary("int", "and_")
    __or__, __ror__ = _binary("int", "or_")
    __xor__, __rxor__ = _binary("int", "xor")
    __lshift__, _ = _binary("int", "shl")
    __rshift__, _ = _binary("int", "ashr")
    __lt__ = _comparison("int", "icmp_signed", "<")
    __le__ = _comparison("int", "icmp_signed", "<=")
    __gt__ = _comparison("int", "icmp_signed", ">")
    __ge__ = _comparison("int", "icmp_signed", ">=")
    __eq__ = _comparison("int", "icmp_signed", "==")
    __ne__ = _comparison("int", "icmp_signed", "!=")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> "Int":
        return Int(self.emitter, self.emitter.builder.neg(self.value))

    def __invert__(self) -> "Int":
        return Int(self.emitter, self.emitter.builder.not_(self.value))


class Mask(_Value):
    """Lanes of truth values."""

    __slots__ = ()

    def __and__(self, other: "Mask") -> "Mask":
        return Mask(self.emitter, self.emitter.builder.and_(self.value, other.value))

    def __or__(self, other: "Mask") -> "Mask":
        return Mask(self.emitter, self.emitter.builder.or_(self.value, other.value))

    def __invert__(self) -> "Mask":
        true = self.emitter._constant(self.emitter.mask_type, 1)
        return Mask(self.emitter, self.emitter.builder.xor(self.value, true))
