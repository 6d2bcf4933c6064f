"""Each primitive means the same in NumPy and in compiled code, at both widths, bit for bit."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llvmlite import ir

from tapeflow import primitives as p
from tapeflow.backend import Float
from tapeflow.kernels import llvm
from tapeflow.kernels.emit import WIDTH, Emitter
from tests.strategies import identical

SPECIAL = [0.0, -0.0, 1.0, -1.5, 2.5, 3.5, 0.5, np.inf, -np.inf, np.nan, 5e-324, 1e308, -1e-310]

CASES: dict[str, Callable[..., Any]] = {
    "arithmetic": lambda x, y: (x + y) * (x - y) / (2.0 - x) + 1.0 / y - (-x) * 3.0,
    "fma": lambda x, y: p.fma(x, y, x),
    "roots and rounding": lambda x, y: p.sqrt(x) + p.floor(y) * p.ceil(x) - p.rint(y) + p.trunc(x),
    "signs": lambda x, y: p.copysign(p.absolute(x), y),
    "less": lambda x, y: p.where(x < y, x, p.where(x <= y, 2.0, y)),
    "greater": lambda x, y: p.where(x > y, x, p.where(x >= y, 2.0, y)),
    "equal": lambda x, y: p.where(x == y, 1.0, 0.0) + p.where(x != y, 2.0, 0.0),
    "masks": lambda x, y: p.where((x < y) & ~(x == 1.0) | (y != y), x, y),
    "bits": lambda x, y: p.from_bits((p.bits(x) ^ p.bits(y)) & 0x7FEFFFFFFFFFFFFF | 1),
    "ints": lambda x, y: p.to_float((p.bits(x) >> 60) * 3 - (p.bits(y) >> 61) + (p.bits(x) & 7)),
    "shifts": lambda x, y: p.to_float(p.shift_right_logical(p.bits(x) << 3, 40)),
    "high products": lambda x, y: p.to_float(p.mul_high(p.bits(x), p.bits(y))),
    "to int": lambda x, y: p.to_float(p.to_int(p.where(p.absolute(x) < 1e6, x, 7.9))),
    "chosen ints": lambda x, y: p.to_float(p.where(x < y, p.bits(x) >> 50, 5)),
    "tables": lambda x, y: (
        p.table((1.5, -2.5, 4.0, 8.0), p.bits(x) & 3)
        + p.to_float(p.table((3, 2**64 - 5), p.bits(y) & 1))
    ),
    "rarely": lambda x, y: p.rarely(x > 2.0, lambda a, b: a * b - 1.0, x + y, x, y),
    "rarely, several": lambda x, y: sum(
        p.rarely(p.absolute(y) > 1e300, lambda a: (a * 0.5, p.sqrt(a)), (x, y), x)
    ),
}


def compiled(case: str, width: int) -> Any:
    """The case as a C function of pointers: the result, x and y."""
    module = ir.Module("test")
    kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()] * 3)
    name = f"case_{abs(hash(case))}_{width}"
    function = ir.Function(module, kind, name)
    builder = ir.IRBuilder(function.append_basic_block())
    emitter = Emitter(builder, width)
    x, y = (
        Float(emitter, builder.load(arg, typ=emitter.float_type, align=8))
        for arg in function.args[1:]
    )
    builder.store(emitter.float(CASES[case](x, y)).value, function.args[0], align=8)
    builder.ret_void()
    (address,) = llvm.load([(llvm.compile_module(str(module)), name)])
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(address)


@pytest.mark.parametrize("case", CASES)
def test_numpy_vector_and_scalar_agree(case: str) -> None:
    rng = np.random.default_rng(len(case))
    patterns = rng.integers(0, 2**64, 400, np.uint64).view(np.float64)
    x = np.concatenate([np.repeat(SPECIAL, len(SPECIAL)), patterns[:200], rng.normal(0, 3, 31)])
    y = np.concatenate([np.tile(SPECIAL, len(SPECIAL)), patterns[200:], rng.normal(0, 3, 31)])
    assert len(x) % WIDTH == 0
    with np.errstate(all="ignore"):
        expected = CASES[case](x, y)
    for width in (1, WIDTH):
        function, result = compiled(case, width), np.empty_like(x)
        for first in range(0, len(x), width):
            function(*(array.ctypes.data + 8 * first for array in (result, x, y)))
        assert identical(result, expected), width


def test_a_value_takes_no_branch() -> None:
    module = ir.Module("test")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), []), "f")
    emitter = Emitter(ir.IRBuilder(function.append_basic_block()), 1)
    with pytest.raises(TypeError, match=r"takes no branch on a value: use tpf\.where"):
        bool(emitter.float(1.0) < emitter.float(2.0))
    with pytest.raises(TypeError, match="computes with numbers, not with a str"):
        emitter.float("x")
    with pytest.raises(TypeError, match=r"a rule cannot use np\.logaddexp"):
        np.logaddexp(emitter.float(1.0), 2.0)
