"""Rules as JavaScript have the bits of the reference, for every op; and what fma is made of."""

import json
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from tapeflow.graphs.formula import formulas
from tapeflow.graphs.javascript import Script, arrows, literal
from tapeflow.ops import BY_NAME, COMPILED
from tapeflow.primitives import fma
from tests.browser import Browser, needs_chromium
from tests.strategies import identical

EDGES = [
    0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324, -1e-310, 1e308, -1e308, 0.5, 2.0, 3.0,
    710.0, -745.2, 1e22, 1e-5, 2.0**31, 1e15 + 0.5, 0.1,
]  # fmt: skip


def operands(rng: np.random.Generator, arity: int) -> list[Any]:
    """Edges of every kind, ordinary numbers, and numbers of every size."""
    return [
        np.concatenate(
            [
                rng.permutation(EDGES),
                3.0 * rng.standard_normal(60),
                rng.choice([-1.0, 1.0], 60) * 10.0 ** rng.uniform(-320.0, 308.0, 60),
            ]
        )
        for _ in range(arity)
    ]


def patterns(x: Any) -> list[str]:
    return [str(bits) for bits in np.ascontiguousarray(x, np.float64).view(np.int64).tolist()]


def numbers(found: list[list[str]]) -> Any:
    return np.array([[int(bits) for bits in row] for row in found], np.int64).view(np.float64)


def runtime() -> str:
    return (files("tapeflow.graphs") / "page" / "runtime.js").read_text("utf-8")


@needs_chromium
def test_every_op_has_the_bits_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    script = Script()
    ops = arrows(script, [(op.name, op.rule, op.arity) for op in COMPILED])
    code = f"{runtime()}\n{chr(10).join(script.functions)}\nconst OPS={{{ops}}};"
    with Browser() as browser:
        browser.run(code + "0")
        for op in COMPILED:
            inputs = operands(rng, op.arity)
            with np.errstate(all="ignore"):
                value, partials = op.rule(*inputs)
            expected = np.stack(
                [np.broadcast_to(np.asarray(y, float), inputs[0].shape) for y in (value, *partials)]
            )
            rows = json.dumps([patterns(x) for x in inputs])
            found = browser.run(
                f"(() => {{ const X = {rows}.map(r => r.map(b => fromBits(BigInt(b))));"
                f"const {{v, p}} = OPS[{json.dumps(op.name)}];"
                "const Y = X[0].map((_, k) => { const x = X.map(r => r[k]);"
                "return [v(...x), ...p(...x)]; });"
                "return Y[0].map((_, j) => Y.map(y => String(bits(y[j])))); })()"
            )
            assert identical(numbers(found), expected), op.name


@needs_chromium
def test_fma_is_rounded_once() -> None:
    rng = np.random.default_rng(0)
    n = 2000

    def wide() -> Any:
        return rng.choice([-1, 1], n) * 2.0 ** rng.integers(-1070, 1020, n) * rng.uniform(1, 2, n)

    a, b, c = wide(), wide(), wide()
    a[: n // 2], b[: n // 2] = rng.standard_normal(n // 2), rng.standard_normal(n // 2)
    # What is left after the product has cancelled is what rounding twice would lose.
    half = slice(0, n // 2)
    c[half] = -(a[half] * b[half]) + rng.choice([0.0, 1e-17, 1e-30, 5e-324], n // 2)
    with Browser() as browser:
        browser.run(runtime() + "0")
        rows = json.dumps([patterns(x) for x in (a, b, c)])
        found = browser.run(
            f"(() => {{ const X = {rows}.map(r => r.map(b => fromBits(BigInt(b))));"
            "return [X[0].map((_, k) => String(bits(fma(X[0][k], X[1][k], X[2][k]))))]; })()"
        )
    with np.errstate(all="ignore"):
        assert identical(numbers(found)[0], fma(a, b, c))


@pytest.mark.parametrize(
    "x, text",
    [(1.0, "1"), (-0.0, "-0.0"), (0.1, "0.1"), (1e300, "1e+300"), (np.inf, "Infinity")],
)
def test_literals(x: float, text: str) -> None:
    assert literal(x) == text


@pytest.mark.parametrize(
    "name, value, partials",
    [
        ("mul", "a·b", ["b", "a"]),
        ("sub", "a − b", ["1", "−1"]),
        ("div", "a / b", ["1 / b", "−(v·(1 / b))"]),
        ("sigmoid", "sigmoid(a)", ["(1 − v)·v"]),
        ("tanh", "tanh(a)", ["1 − v²"]),
        ("square", "a²", ["a + a"]),
        ("exp", "exp(a)", ["v"]),
        ("sqrt", "√a", ["0.5 / v"]),
        ("pow", "a^b", None),
        ("where", "b if a ≠ 0, else c", ["0", "1 if a ≠ 0, else 0", "0 if a ≠ 0, else 1"]),
    ],
)
def test_formulas_for_people(name: str, value: str, partials: list[str] | None) -> None:
    op = BY_NAME[name]
    found = formulas(op, "abc"[: op.arity], "v")
    assert found[0] == value
    assert partials is None or found[1] == partials


def test_every_op_on_numbers_has_a_formula() -> None:
    for op in COMPILED:
        value, partials = formulas(op, "abc"[: op.arity], "v")
        assert value and len(partials) == op.arity, op.name
