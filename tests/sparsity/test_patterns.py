"""Sparsity patterns: against sets propagated in Python, against numbers, and op by op."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapeflow as tpf
from tapeflow.arrays import RULES, ZeroRule
from tapeflow.ops import BY_NAME, COMPILED
from tapeflow.sparsity import hessian_pattern, jacobian_pattern
from tapeflow.sparsity.dependence import flows
from tapeflow.sparsity.patterns import Pattern, pattern_of
from tapeflow.sparsity.subject import gradient_of
from tapeflow.tape import Tape
from tapeflow.transforms import pullback
from tests.engine.test_array_kernels import CASES
from tests.strategies import SMOOTH, numbers, tapes


def dense(pattern: Pattern) -> Any:
    return pattern.matrix(np.ones(pattern.nnz, bool)).toarray()


def by_sets(tape: Tape) -> Any:
    """The pattern by a set for each slot."""
    sets = [{k} for k in range(tape.n_inputs)] + [set() for _ in tape.constants]
    for i in range(len(tape)):
        own = zip(tape.operands_of(i), flows(tape.op(i)), strict=True)
        sets.append(set().union(*(sets[slot] for slot, flowing in own if flowing)))
    found = np.zeros((len(tape.outputs), tape.n_inputs), bool)
    for row, slot in enumerate(tape.outputs):
        found[row, list(sets[slot])] = True
    return found


@given(tapes(longest=40))
def test_the_jacobian_of_random_tapes(tape: Tape) -> None:
    assert np.array_equal(dense(pattern_of(tape, [True] * tape.n_inputs)), by_sets(tape))


@given(tapes(SMOOTH, longest=15), st.data())
def test_what_is_not_zero_is_in_the_pattern(tape: Tape, data: st.DataObject) -> None:
    x = data.draw(st.lists(numbers, min_size=tape.n_inputs, max_size=tape.n_inputs))
    found = dense(pattern_of(tape, [True] * tape.n_inputs))
    for row in range(len(tape.outputs)):
        seed = np.eye(len(tape.outputs))[row] if len(tape.outputs) > 1 else 1.0
        gradient = np.array(pullback(tape)(*x, seed)[len(tape.outputs) :])
        assert not gradient[~found[row]].any()


@given(tapes(SMOOTH, n_outputs=1, longest=12), st.data())
@settings(max_examples=50)
def test_second_derivatives_that_are_not_zero_are_in_the_pattern(
    tape: Tape, data: st.DataObject
) -> None:
    x = data.draw(st.lists(numbers, min_size=tape.n_inputs, max_size=tape.n_inputs))
    n = tape.n_inputs
    gradient = gradient_of(tape, [True] * n)
    found = dense(pattern_of(gradient, [True] * n))
    rows = pullback(gradient, [True] * n + [False])
    for row in range(n):
        seed = np.eye(n)[row] if n > 1 else 1.0
        second = np.array(rows(*x, 1.0, seed)[1:])
        assert not second[~found[row]].any()


MORE = [
    ("take_at", (2, 4, 3)),
    ("put_at", (2, 4, 3)),
    ("cumsum", (2, 4, 3, 0)),
    ("cumsum", (2, 4, 3, 1)),
    ("amin", (2, 3, 2)),
    ("argsort", (1, 5, 1)),
    ("argmax", (1, 5, 1)),
    ("searchsorted", (4, 3, 0)),
    ("cofactors", (2, 3)),
    ("pinv", (2, 4, 2)),
    ("expm", (2, 3)),
    ("qr", (2, 4, 3)),
    ("eigh", (2, 3)),
    ("svd", (2, 4, 3)),
    ("eig", (1, 3)),
]
SMALL = [(name, p) for name, p in CASES + MORE if RULES[name].sizes(p)[1] < 200]
DENSE = {
    "cofactors", "triangular_solve", "aztriangular_solve", "take_at", "put_at", "argmax", "argmin",
    "amax", "amin",
}  # fmt: skip
"""Those whose pattern holds for any numbers, and has more than one example shows."""


@pytest.mark.parametrize(("name", "p"), SMALL, ids=str)
def test_the_reach_of_array_ops(name: str, p: tuple[int, ...]) -> None:
    """Against the numbers of each op's own pullback, a row at a time."""
    rng = np.random.default_rng(0)
    rule = RULES[name]
    sizes, size = rule.sizes(p)
    operands = [well_conditioned(name, p, n, rng) for n in sizes]
    found = [np.zeros((size, n), bool) for n in sizes]
    if not issubclass(rule, ZeroRule):
        result = rule.forward(p, *(x[:, None] for x in operands))[:, 0]
        for row in range(size):
            for k, part in enumerate(rule.pull(p, operands, result, np.eye(size)[row])):
                if part is not None and sizes[k]:
                    found[k][row] = np.abs(part) > 1e-12
    reached = [np.zeros((size, n), bool) for n in sizes]
    for reach in rule.reaches(p):
        groups = 1 + max(reach.gives.max(initial=0), reach.takes.max(initial=0))
        has = np.zeros((groups, sizes[reach.operand]), bool)
        giving = np.flatnonzero(reach.gives >= 0)
        has[reach.gives[giving], giving] = True
        for k in range(groups) if reach.chained else ():
            if k % reach.period >= reach.chained:
                has[k] |= has[k - reach.chained]
        taking = reach.takes >= 0
        reached[reach.operand][taking] |= has[reach.takes[taking]]
    for a, b in zip(found, reached, strict=True):
        assert not (a & ~b).any()
        if name not in DENSE | {"eigh", "eig", "qr", "cholesky", "svd"}:
            assert np.array_equal(a, b)


def well_conditioned(name: str, p: tuple[int, ...], n: int, rng: Any) -> Any:
    """Numbers that no derivative of the op is zero, or not defined, at by chance."""
    x = rng.uniform(0.5, 1.5, n)
    if name in ("cholesky", "eigh", "eig") and n == p[0] * p[1] ** 2:
        a = x.reshape(p[0], p[1], p[1])
        return (a + np.swapaxes(a, 1, 2) + 4 * np.diag(1.0 + np.arange(p[1]))).reshape(-1)
    return x


def test_flows_are_those_of_the_rules() -> None:
    assert flows(BY_NAME["where"]) == (False, True, True)
    assert flows(BY_NAME["less"]) == (False, False)
    assert flows(BY_NAME["copysign"]) == (True, False)
    assert all(any(flows(op)) != op.zero_derivative for op in COMPILED)


def test_a_hessian_has_what_interacts() -> None:
    def f(x: Any) -> Any:
        linear = 3.0 * x[0] - x[1] / 2.0 + np.sum(x[:2]) + np.sum(np.abs(x)) + np.max(x)
        steps = np.maximum(x[4], x[5]) + tpf.relu(x[6]) + tpf.where(x[0] > x[1], x[4], x[5])
        return linear + steps + x[2] * x[3] + np.exp(x[7]) + x[8] * x[9] * x[10]

    expected = np.zeros((11, 11), bool)
    expected[2, 3] = expected[7, 7] = True
    expected[8, 9] = expected[8, 10] = expected[9, 10] = True
    found = hessian_pattern(f, np.ones(11)).toarray()
    assert np.array_equal(found, expected | expected.T)


def test_arrays_and_structures() -> None:
    def f(p: Any, x: Any) -> Any:
        layer = np.tanh(p["w"] @ x + p["b"])
        return {"out": layer, "norm": np.sum(x)}

    p = {"w": np.ones((2, 3)), "b": np.ones(2)}
    # The leaves of a dict are in the order of their keys: b, then w; and norm, then out.
    found = jacobian_pattern(f, p, np.ones(3), argnums=(0, 1)).toarray().astype(int)
    assert found.tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1],
        [1, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1],
        [0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1],
    ]
    assert jacobian_pattern(f, p, np.ones(3), argnums=1).shape == (3, 3)


def test_a_long_sum_is_as_quick_as_its_terms() -> None:
    def f(x: Any) -> Any:
        total = 0.0
        for k in range(len(x)):
            total = total + x[k] * x[k]
        return [total, x[0]]

    n = 20_000
    tape = tpf.record(f, [1.0] * n)
    pattern = pattern_of(tape, [True] * n)
    # A set for each partial sum would be of 200 million numbers.
    assert pattern.nnz == n + 1


def test_a_loop_reaches_from_all_to_all() -> None:
    def f(x: Any) -> Any:
        return tpf.scan(lambda carry, x: (carry * x, carry), 1.0, x)[0]

    assert jacobian_pattern(f, np.ones(3)).toarray().all()


def test_wrong_calls() -> None:
    with pytest.raises(TypeError, match=r"cannot differentiate .* in an integer"):
        jacobian_pattern(lambda x: x * 2, np.arange(3))
    with pytest.raises(tpf.StructureError, match="returns 3 numbers"):
        hessian_pattern(lambda x: x * 2, np.ones(3))
    with pytest.raises(tpf.StructureError, match="argnums=1 is out of range"):
        jacobian_pattern(lambda x: x * 2, np.ones(3), argnums=1)
    with pytest.raises(tpf.TracingError, match=r"inside a recording: use tpf.jacobian"):
        tpf.grad(lambda x: jacobian_pattern(lambda y: y * 2, x))(np.ones(3))
