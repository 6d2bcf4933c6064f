"""Exported C: no warnings from either compiler, and the library's numbers to the last bit."""

import ctypes
import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow import reference
from tapeflow.export.c_arrays import ARRAYS
from tapeflow.ops import COMPILED
from tapeflow.passes.dead_code import remove_dead_code
from tapeflow.tape import Tape
from tests.strategies import identical, same_bits, tapes

COMPILERS = [cc for cc in ("gcc", "clang") if shutil.which(cc)]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
pytestmark = pytest.mark.skipif(not COMPILERS, reason="there is no C compiler")

_numbers = itertools.count()


class Compiled:
    """A tape's C functions, called from Python."""

    def __init__(self, tape: Tape, folder: Path, compiler: str, options: list[str]) -> None:
        self.tape = tape
        stem = folder / f"f{next(_numbers)}"
        text = tape.to_c(stem.with_suffix(".c"), name="f")
        library = stem.with_suffix(".so")
        command = [compiler, *STRICT, *options, "-shared", "-fPIC", f"{stem}.c", "-o", str(library)]
        result = subprocess.run([*command, "-lm"], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert not result.stderr
        self.library = ctypes.CDLL(str(library))
        sizes = dict(line.split()[1:] for line in text.splitlines() if line.startswith("#define F"))
        self.n, self.m = int(sizes["F_INPUTS"]), int(sizes["F_OUTPUTS"])
        self.work = int(sizes["F_WORK"])
        assert (self.n, self.m) == (tape.n_inputs, len(tape.outputs))

    def __call__(self, name: str, *arrays: Any, n: int | None = None) -> int:
        # What is written behind the room would show.
        work = np.full(self.work + 1, np.pi)
        count = () if n is None else (ctypes.c_size_t(n),)
        given = [a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, work)]
        code: int = getattr(self.library, name)(*count, *given)
        assert work[-1] == np.pi
        return code

    def value(self, x: Any) -> Any:
        y = np.full(self.m + 1, np.pi)
        assert self("f", x, y) == 0
        assert y[-1] == np.pi
        return y[:-1]

    def pullback(self, x: Any, s: Any) -> tuple[Any, Any]:
        y, g = np.empty(self.m), np.full(self.n + 1, np.pi)
        assert self("f_pullback", x, s, y, g) == 0
        assert g[-1] == np.pi
        return y, g[:-1]


def check(tape: Tape, compiled: Compiled, x: Any) -> None:
    """Against the slow oracle, bit for bit."""
    values = reference.forward(tape, x[:, None])
    s = np.linspace(0.5, 1.5, len(tape.outputs))
    flows = reference.backward(tape, values, s[:, None])
    expected = values[tape.outputs, 0]
    assert identical(compiled.value(x), expected)
    y, g = compiled.pullback(x, s)
    assert identical(y, expected)
    assert identical(g, flows[: tape.n_inputs, 0] + 0.0)


def every_op(*x: Any) -> Any:
    results = []
    for k, op in enumerate(COMPILED):
        call = getattr(tpf, op.function, None)
        operands = [x[(k + j) % len(x)] for j in range(op.arity)]
        if call is not None:
            results.append(call(*operands))
        else:
            from tapeflow.tracers import apply

            results.append(apply(op, operands))
    return results


POINTS = [
    [0.3, 1.7, 2.5],
    [-0.4, 0.9, 1e-3],
    [0.0, 1.0, -1.0],
    [-0.0, 2.0, 0.5],
    [1e300, -1e300, 3e9],
    [5e-324, 1e-310, -2.0],
    [np.inf, -np.inf, np.nan],
    [700.0, -745.5, 1e22],
]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("options", [["-O0"], ["-O3", "-march=native"]])
def test_every_op_has_the_bits_of_the_library(
    compiler: str, options: list[str], tmp_path: Path
) -> None:
    tape = tpf.record(every_op, 0.3, 1.7, 2.5)
    assert {tape.op(i).name for i in range(len(tape))} >= {op.name for op in COMPILED}
    compiled = Compiled(tape, tmp_path, compiler, options)
    for point in POINTS:
        check(tape, compiled, np.array(point))


@settings(max_examples=12)
@given(tape=tapes(), seed=st.integers(0, 1000))
def test_random_tapes(tape: Tape, seed: int, tmp_path_factory: Any) -> None:
    compiled = Compiled(tape, tmp_path_factory.mktemp("c"), COMPILERS[seed % len(COMPILERS)], [])
    rng = np.random.default_rng(seed)
    for scale in (1.0, 1e3):
        check(tape, compiled, scale * rng.normal(size=tape.n_inputs))


@pytest.mark.exhaustive
@settings(max_examples=200)
@given(tape=tapes(longest=80), seed=st.integers(0, 1000))
def test_many_random_tapes(tape: Tape, seed: int, tmp_path_factory: Any) -> None:
    options = [["-O0"], ["-O2"], ["-O3", "-march=native"]][seed % 3]
    compiler = COMPILERS[seed % len(COMPILERS)]
    compiled = Compiled(tape, tmp_path_factory.mktemp("c"), compiler, options)
    check(tape, compiled, np.random.default_rng(seed).normal(size=tape.n_inputs))


def test_a_long_tape_is_cut_into_functions(tmp_path: Path) -> None:
    def f(x: Any, y: Any) -> Any:
        for _ in range(300):
            x, y = x * 0.9 + np.sin(y), y - 0.1 * x
        return x * y, x

    tape = tpf.record(f, 0.1, 0.2)
    assert "f_part2" in tape.to_c(name="f")
    check(tape, Compiled(tape, tmp_path, COMPILERS[0], ["-O1"]), np.array([0.3, -0.7]))


@pytest.mark.parametrize("n", [0, 1, 5])
def test_batches(n: int, tmp_path: Path) -> None:
    tape = tpf.record(lambda x, w: np.sum(np.exp(x) * w) + x[0], np.ones(2), np.ones(2))
    compiled = Compiled(tape, tmp_path, COMPILERS[0], [])
    x = np.random.default_rng(n).normal(size=(n, 4))
    y, g = np.empty(n), np.empty((n, 4))
    assert compiled("f_gradient_batch", x, y, g, n=n) == 0
    for k in range(n):
        own, (gx, gw) = tape.value_and_grad(x[k, :2], x[k, 2:])
        assert same_bits([own, *gx, *gw], [y[k], *g[k]])
    z = np.empty(n)
    assert compiled("f_batch", x, z, n=n) == 0
    assert same_bits(y, z)


def test_a_branch_not_taken_is_a_code(tmp_path: Path) -> None:
    def f(x: Any) -> Any:
        y = x * 2.0 if x > 0.0 else -x
        return y + (1.0 if y < 10.0 else 0.0)

    compiled = Compiled(tpf.record(f, 1.0), tmp_path, COMPILERS[0], [])
    y, g = np.empty(1), np.empty(1)
    for x, code in ((2.0, 0), (-1.0, 1), (7.0, 2), (np.nan, 1)):
        assert compiled("f", np.array([x]), y) == code
        assert compiled("f_gradient", np.array([x]), y, g) == code
    assert compiled("f_batch", np.array([1.0, 7.0, -1.0]), np.empty(3), n=3) == 2


def moves(x: Any, k: Any) -> Any:
    y = np.sin(x)[:, ::2] + x[:, 1::2] * np.arange(3.0)[:, None]
    z = np.concatenate([y.ravel(), x[[2, 0, 0], :].ravel(), np.roll(x, 1, 0).ravel()])
    z = z + np.cumsum(z) * np.max(x, axis=1)[0] + np.sum(z[np.argsort(-z)[:3]] * k)
    w = np.sort(z)[::-1][:16].reshape(2, 8) * np.ones((3, 2, 8))
    w = np.tanh(w) + np.arange(8.0) + w[:, :1, :]
    more = np.argmax(x, 1), np.argmin(x, 0), np.cumsum(x[::-1])[::-1], tpf.special.logsumexp(z)
    return np.sum(w, axis=(0, 2)), np.min(z), np.searchsorted(np.sort(z), x[0]), more


def matrices(a: Any, b: Any) -> Any:
    c = a @ a.T + 3.0 * np.eye(4)
    z = tpf.linalg.solve_triangular(np.linalg.cholesky(c), b, lower=True)
    w = np.linalg.solve(c, b) + np.linalg.inv(c)[:, :2] + np.linalg.det(c[:3, :3])
    return np.sum(z * w), np.linalg.slogdet(c)[1], np.linalg.inv(a), a[0] @ c


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("f", [moves, matrices])
def test_arrays(f: Any, compiler: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    args = (rng.normal(size=(3, 6)), rng.normal(size=3))
    if f is matrices:
        args = (rng.normal(size=(4, 4)) + 4.0 * np.eye(4), rng.normal(size=(4, 2)))
    tape = tpf.record(f, *args)
    compiled = Compiled(tape, tmp_path, compiler, ["-O2"])
    x = np.concatenate([np.ravel(a) for a in args])
    flat = [np.ravel(leaf) for leaf in __import__("optree").tree_leaves(tape(*args))]
    # BLAS and LAPACK add in another order: some tens of roundings, in numbers near 1 to 100.
    np.testing.assert_allclose(compiled.value(x), np.concatenate(flat), rtol=1e-12, atol=1e-13)
    seeds = rng.normal(size=len(tape.outputs))
    _, g = compiled.pullback(x, seeds)
    tape.forward(*args)
    expected = tape.backward(tape.output_structure.unflatten(tape.output_structure.split(seeds)))
    whole = np.concatenate([np.ravel(own) for own in expected])
    np.testing.assert_allclose(g, whole, rtol=1e-11, atol=1e-11)


def unused(x: Any, w: Any, a: Any) -> Any:
    """Products and solutions, of which the last rows and matrices are of no use."""
    solved = np.linalg.solve(a, np.ones((2, 3, 1))) + np.linalg.cholesky(a)
    return np.sum((x @ w)[:2] ** 2) + np.sum(solved[0] ** 2)


def with_nans() -> tuple[Any, ...]:
    """Arguments of `unused` that are NaN and infinite where they are of no use."""
    rng = np.random.default_rng(5)
    x, a = rng.normal(size=(3, 4)), np.stack([np.eye(3) * 3.0 + 1.0] * 2)
    x[2], x[2, 1], a[1] = np.nan, np.inf, np.nan
    return x, rng.normal(size=(4, 2)), a


@pytest.mark.parametrize("compiler", COMPILERS)
def test_nothing_flows_back_from_what_is_of_no_use(compiler: str, tmp_path: Path) -> None:
    args = with_nans()
    tape = tpf.record(unused, *args)
    x = np.concatenate([np.ravel(a) for a in args])
    _, g = Compiled(tape, tmp_path, compiler, ["-O2"]).pullback(x, np.ones(1))
    expected = np.concatenate([np.ravel(own) for own in tpf.grad(unused, (0, 1, 2))(*args)])
    assert np.isfinite(expected).all() and not expected[8:12].any() and not expected[-9:].any()
    np.testing.assert_allclose(g, expected, rtol=1e-12, atol=1e-12)


def test_the_tests_of_arrays_have_every_op() -> None:
    from tapeflow.transforms import pullback

    a, b = np.eye(4) * 2.0, np.ones((4, 2))
    made = [tpf.record(moves, np.ones((3, 6)), np.ones(3)), tpf.record(matrices, a, b)]
    made.append(tpf.record(unused, *with_nans()))
    made += [pullback(tape) for tape in made]
    used = {tape.op(i).name for tape in map(remove_dead_code, made) for i in range(len(tape))}
    assert used >= ARRAYS.keys()


def test_what_cannot_be_exported_is_refused_by_name() -> None:
    @tpf.gate
    class Twice:
        def forward(self, x: float) -> float:
            return 2.0 * x

        def backward(self, dz: float) -> list[float]:
            return [2.0 * dz]

    for f, x, name in (
        (tpf.special.gammaln, 1.0, "gammaln cannot be exported to C: it is computed by SciPy"),
        (lambda x: Twice()(x), 1.0, "Twice cannot be exported to C: it runs in Python"),
        (lambda x: np.linalg.eigh(x)[0], np.eye(2), "eigh .* cannot be exported to C"),
    ):
        with pytest.raises(tpf.TapeError, match=name):
            tpf.record(f, x).to_c()


def test_rule_gates_of_the_user_are_exported(tmp_path: Path) -> None:
    @tpf.gate
    def softsign(x: Any) -> Any:
        d = 1.0 + abs(x)
        return np.exp(x) / d / d / d, (1.0 / (d * d),)

    tape = tpf.record(lambda x: softsign(x) * x, 1.0)
    check(tape, Compiled(tape, tmp_path, COMPILERS[0], []), np.array([0.7]))


def test_names_and_files(tmp_path: Path) -> None:
    tape = tpf.record(lambda x: x * 2.0, 1.0)
    assert "int lambda(const double *x" in tape.to_c()
    for name in ("int", "exp", "2f", "a b", "", "f;", "main"):
        with pytest.raises(tpf.TapeError, match="is taken in C, or no name"):
            tape.to_c(name=name)
    with pytest.raises(tpf.TapeError, match=r"as a \.c file"):
        tape.to_c(tmp_path / "f.txt")
    tape.to_c(tmp_path / "twice.c", name="twice")
    main = tmp_path / "main.c"
    main.write_text(
        '#include <stdio.h>\n#include "twice.h"\n#include "twice.h"\n'
        "int main(void) { double x = 4.0, y, g; twice_gradient(&x, &y, &g, NULL);"
        ' printf("%g %g", y, g); return 0; }\n'
    )
    program = tmp_path / "main"
    files = [str(main), str(tmp_path / "twice.c")]
    subprocess.run([COMPILERS[0], *STRICT, *files, "-o", str(program), "-lm"], check=True)
    assert subprocess.run([program], capture_output=True, text=True).stdout == "8 2"


def recurrence(x: Any, w: Any) -> Any:
    def body(carry: Any, x: Any) -> Any:
        carry = tpf.cond(carry > 0.3, lambda c: c * x, lambda c: c + w[0], carry)
        return carry, np.sin(carry * x)

    last, ys = tpf.scan(body, 0.5, x)
    back, _ = tpf.scan(lambda c, x: (c * x + w[1], None), np.ones(2), ys, reverse=True)
    inner = tpf.fori_loop(0, 3, lambda i, c: tpf.fori_loop(0, 2, lambda j, d: d * w[0] + i, c), x)
    chosen = tpf.switch(w[0], [np.sin, np.cos, np.exp], last)
    return last + np.sum(ys) + np.sum(back) + np.sum(inner) + chosen


@pytest.mark.parametrize("compiler", COMPILERS)
def test_loops_and_branches(compiler: str, tmp_path: Path) -> None:
    args = np.array([0.3, 0.6, -0.2]), np.array([1.2, 0.7])
    tape = tpf.record(recurrence, *args)
    compiled = Compiled(tape, tmp_path, compiler, ["-O2"])
    for scale in (1.0, -1.0, 2.0):
        x, w = scale * args[0], scale * args[1]
        value, (gx, gw) = tape.value_and_grad(x, w)
        y, g = compiled.pullback(np.concatenate([x, w]), np.ones(1))
        assert same_bits(compiled.value(np.concatenate([x, w])), [value])
        assert same_bits(y, [value])
        np.testing.assert_allclose(g, [*gx, *gw], 1e-14)


def test_a_loop_that_ends_by_itself(tmp_path: Path) -> None:
    def root(a: Any) -> Any:
        step = lambda x: 0.5 * (x + a / x)  # noqa: E731
        return tpf.while_loop(lambda x: abs(x * x - a) > 1e-12, step, a)

    tape = tpf.record(root, 2.0)
    with pytest.raises(tpf.TapeError, match="how many there are is not known"):
        tape.to_c()
