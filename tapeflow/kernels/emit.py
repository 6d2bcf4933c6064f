"""The primitives as LLVM IR: evaluating a rule on these values writes its machine code.

A value holds one number (width 1) or a vector of lanes. No instruction carries a fast-math flag,
and a product and a sum are fused only where a text says ``fma``: so the bits do not depend on
the width, nor on what else is in a kernel.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from tapeflow.backend import COMPARISONS, KINDS, Backend, Float, Int, Value
from tapeflow.primitives import wrap

WIDTH = 8
"""Lanes of a vector: the widest registers of today's processors hold eight doubles."""

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)

_INTRINSICS = {
    "fma": "fma",
    "sqrt": "sqrt",
    "floor": "floor",
    "ceil": "ceil",
    "rint": "roundeven",
    "trunc": "trunc",
    "absolute": "fabs",
    "copysign": "copysign",
}

_INSTRUCTIONS = {
    ("float", "+"): "fadd",
    ("float", "-"): "fsub",
    ("float", "*"): "fmul",
    ("float", "/"): "fdiv",
    ("int", "+"): "add",
    ("int", "-"): "sub",
    ("int", "*"): "mul",
    ("int", "&"): "and_",
    ("int", "|"): "or_",
    ("int", "^"): "xor",
    ("int", "<<"): "shl",
    ("int", ">>"): "ashr",
    ("int", "shift_right_logical"): "lshr",
    ("mask", "&"): "and_",
    ("mask", "|"): "or_",
}
"""Methods of a builder, for two operands of a kind."""

_UNARY = {
    ("float", "-"): "fneg",
    ("int", "-"): "neg",
    ("int", "~"): "not_",
    ("mask", "!"): "not_",
}


class _Splat(ir.Constant):  # type: ignore[misc]
    """One number in every lane, in a text an eighth as long as that of the lanes."""

    def __init__(self, kind: ir.Type, number: ir.Constant) -> None:
        super().__init__(kind, None)
        self._number = number

    def get_reference(self) -> str:
        return f"splat ({self._number})"


class Emitter(Backend):
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

    def constant(self, kind: str, number: Any) -> Value:
        if kind == "int":
            return Int(self, self._constant(self.int_type, wrap(int(number))))
        return Float(self, self._constant(self.float_type, float(number)))

    def _intrinsic(self, name: str, *args: Value) -> ir.Value:
        kind = "f64" if self.width == 1 else f"v{self.width}f64"
        return self._call(f"llvm.{name}.{kind}", self.float_type, *args)

    def _call(self, name: str, result: ir.Type, *args: Value) -> ir.Value:
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

    # The primitives.

    def make(self, kind: str, name: str, *operands: Value) -> Value:
        return KINDS[kind](self, self._written(name, *operands))

    def _written(self, name: str, *operands: Value) -> ir.Value:
        values, kind = [operand.value for operand in operands], operands[0].kind
        if name in _INTRINSICS:
            return self._intrinsic(_INTRINSICS[name], *operands)
        if len(values) == 1 and (kind, name) in _UNARY:
            return getattr(self.builder, _UNARY[kind, name])(*values)
        if (kind, name) in _INSTRUCTIONS:
            return getattr(self.builder, _INSTRUCTIONS[kind, name])(*values)
        if name in COMPARISONS:
            return self._compared(kind, name, *values)
        return getattr(self, f"_{name}")(*values)

    def _compared(self, kind: str, sign: str, a: ir.Value, b: ir.Value) -> ir.Value:
        if kind == "int":
            return self.builder.icmp_signed(sign, a, b)
        if sign == "!=":
            return self.builder.fcmp_unordered(sign, a, b)  # true of a NaN, as in Python
        return self.builder.fcmp_ordered(sign, a, b)

    def _where(self, mask: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(mask, a, b)

    def _bits(self, x: ir.Value) -> ir.Value:
        return self.builder.bitcast(x, self.int_type)

    def _from_bits(self, i: ir.Value) -> ir.Value:
        return self.builder.bitcast(i, self.float_type)

    def _mul_high(self, i: ir.Value, j: ir.Value) -> ir.Value:
        wide = self._wide(ir.IntType(128))
        product = self.builder.mul(self.builder.zext(i, wide), self.builder.zext(j, wide))
        high = self.builder.lshr(product, self._constant(wide, 64))
        return self.builder.trunc(high, self.int_type)

    def _to_float(self, i: ir.Value) -> ir.Value:
        return self.builder.sitofp(i, self.float_type)

    def _to_int(self, x: ir.Value) -> ir.Value:
        return self.builder.fptosi(x, self.int_type)

    def table(self, values: Sequence[Any], index: Value) -> Any:
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

    def rarely(self, mask: Value, slow: Callable[..., Any], fast: Any, *args: Any) -> Any:
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

    def any(self, mask: Value) -> ir.Value:
        """Whether a lane is set."""
        if self.width == 1:
            return mask.value
        return self._call(f"llvm.vector.reduce.or.v{self.width}i1", _I1, mask)
