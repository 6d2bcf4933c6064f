"""Gates of the user's own, and what is said of wrong ones."""

import math
from typing import Any

import numpy as np
import pytest

import tapeflow as tpf


@tpf.gate
def softsign(x: Any) -> Any:
    d = 1.0 + abs(x)
    return x / d, (1.0 / (d * d),)


@tpf.gate
def smooth_max(x: Any, y: Any) -> Any:
    difference = x - y
    return y + np.log1p(np.exp(difference)), (
        tpf.sigmoid(difference),
        tpf.sigmoid(-difference),
    )


def test_a_rule_function_is_compiled() -> None:
    value, gradient = tpf.value_and_grad(softsign)(-1.0)
    assert (value, gradient) == (-0.5, 0.25)
    x = np.linspace(-3, 3, 100)
    assert np.array_equal(tpf.vmap(tpf.grad(softsign))(x), 1 / (1 + abs(x)) ** 2)
    assert softsign(3.0) == 0.75
    assert np.array_equal(softsign(x), x / (1 + abs(x)))
    assert repr(softsign) == "<gate softsign>"


def test_a_rule_function_has_all_orders() -> None:
    # (x / (1 + x))'' = -2 / (1 + x)^3, and ''' = 6 / (1 + x)^4.
    assert tpf.grad(tpf.grad(softsign))(1.0) == -0.25
    assert tpf.grad(tpf.grad(tpf.grad(softsign)))(1.0) == 0.375


def test_a_rule_of_two_operands_and_mathlib_functions() -> None:
    dx, dy = tpf.grad(smooth_max, argnums=(0, 1))(1.0, 0.0)
    assert dx == tpf.sigmoid(1.0)
    assert dy == tpf.sigmoid(-1.0)
    shared = tpf.vmap(tpf.grad(smooth_max), in_axes=(0, None), reduce="sum")
    assert shared(np.array([1.0, 1.0]), 0.0) == 2 * tpf.sigmoid(1.0)


def test_gates_of_arrays_work_on_each_element() -> None:
    assert np.array_equal(
        tpf.grad(lambda x: np.sum(softsign(x)))(np.array([1.0, -3.0])), [0.25, 0.0625]
    )


def make(backward: Any = None, forward: Any = None) -> Any:
    @tpf.gate
    class Odd:
        def forward(self, x: Any, y: Any) -> Any:
            return forward(x) if forward else x * y

        def backward(self, dz: Any) -> Any:
            return backward(dz)

    return Odd()


WRONG = {
    "too few": (lambda dz: [dz], "backward returned 1 gradients for 2 inputs"),
    "one number": (lambda dz: dz, "backward returned 1 gradients for 2 inputs"),
    "too many": (lambda dz: [dz] * 3, "backward returned 3 gradients for 2 inputs"),
    "shape": (lambda dz: [dz, np.ones(2)], r"gradient 1 of backward is an array of shape \(2,\)"),
    "none": (lambda dz: [dz, None], "gradient 1 of backward is None"),
    "text": (lambda dz: [dz, "1"], "gradient 1 of backward is '1'"),
    "raises": (lambda dz: 1 / 0, "backward raised ZeroDivisionError"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("batch", [False, True])
def test_a_wrong_backward_is_named(name: str, batch: bool) -> None:
    backward, message = WRONG[name]
    gate = make(backward)
    with pytest.raises(tpf.GateError, match=f"gate Odd: {message}"):
        if batch:
            tpf.vmap(tpf.grad(lambda x, y: gate(x, y)))(np.ones(20), np.ones(20))
        else:
            tpf.grad(lambda x, y: gate(x, y))(1.0, 2.0)
    # The next evaluation is not haunted by it.
    assert tpf.grad(lambda x: x * x)(3.0) == 6.0


def test_a_wrong_gate_in_what_a_batch_shares_is_named() -> None:
    gate = make(lambda dz: [dz])
    f = tpf.vmap(tpf.grad(lambda w, x: gate(w, w) * x), in_axes=(None, 0), reduce="sum")
    with pytest.raises(tpf.GateError, match="gate Odd: backward returned 1 gradients"):
        f(2.0, np.ones(20))
    gate = make(lambda dz: [dz, dz], lambda x: None)
    with pytest.raises(tpf.GateError, match="gate Odd: forward returned None"):
        tpf.vmap(tpf.grad(lambda w, x: gate(w, w) * x), in_axes=(None, 0))(2.0, np.ones(20))


def test_a_wrong_forward_is_named() -> None:
    for forward, message in (
        (lambda x: np.ones(3), "forward returned an array of shape"),
        (lambda x: None, "forward returned None"),
        (lambda x: {}["a"], "forward raised KeyError"),
    ):
        gate = make(lambda dz: [dz, dz], forward)
        with pytest.raises(tpf.GateError, match=f"gate Odd: {message}"):
            tpf.grad(lambda x, gate=gate: gate(x, 1.0))(1.0)


def test_a_gates_cache_belongs_to_its_sample_and_place() -> None:
    @tpf.gate
    class Square:
        def forward(self, x: float) -> float:
            self.x = x
            return x * x

        def backward(self, dz: float) -> list[float]:
            return [2 * self.x * dz]

    square = Square()
    x = np.random.default_rng(0).standard_normal(5000)
    f = tpf.vmap(tpf.grad(lambda x: square(square(x) + 1.0)))
    with tpf.config(threads=2, block=64):
        assert np.array_equal(f(x), 2 * x * (2 * (x * x + 1.0)))
    tape = tpf.record(lambda x: square(x), 1.0)
    tape.forward(3.0)
    assert tape.backward() == 6.0
    assert tape.backward(2.0) == 12.0


def test_a_gate_with_parameters() -> None:
    @tpf.gate
    class Scale:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def forward(self, x: float) -> float:
            return self.factor * x

        def backward(self, dz: float) -> list[float]:
            return [self.factor * dz]

    f = tpf.grad(lambda x: Scale(3.0)(x) * Scale(5.0)(x))
    assert f(1.0) == 30.0


def test_wrong_definitions() -> None:
    with pytest.raises(TypeError, match="gate Half needs a method backward"):

        @tpf.gate
        class Half:
            def forward(self, x: float) -> float:
                return x / 2

    with pytest.raises(TypeError, match="a class or a function, not a int"):
        tpf.gate(3)
    with pytest.raises(TypeError, match="a fixed number of inputs"):
        tpf.gate(lambda *x: (x, x))
    with pytest.raises(tpf.GateError, match="2 partials for 1 inputs"):
        tpf.grad(tpf.gate(lambda x: (x, (1.0, 1.0))))(1.0)
    with pytest.raises(tpf.GateError, match="return the value and the tuple of partials"):
        tpf.grad(tpf.gate(lambda x: x))(1.0)
    with pytest.raises(TypeError, match="takes no branch on a value"):
        tpf.grad(tpf.gate(lambda x: (x, (1.0 if x > 0 else 0.0,))))(1.0)
    with pytest.raises(TypeError, match="takes 1 inputs, not 2"):
        tpf.grad(lambda x: softsign(x, x))(1.0)


@pytest.mark.parametrize("batch", [False, True])
def test_a_python_gate_among_arrays(batch: bool) -> None:
    """Such a tape is differentiated by its pullback, which runs the gate's backward too."""

    @tpf.gate
    class Product:
        def forward(self, x: float, y: float) -> float:
            self.x, self.y = x, y
            return x * y

        def backward(self, dz: float) -> list[float]:
            return [self.y * dz, self.x * dz]

    def f(w: Any, x: Any) -> Any:
        return Product()(np.sum(w * x), w[0]) + np.sum(Product()(w, x))

    w, x = np.array([1.0, -2.0, 3.0]), np.array([0.5, 1.5, 2.5])
    expected = x * w[0] + np.array([w @ x, 0.0, 0.0]) + x
    if batch:
        got = tpf.vmap(tpf.grad(f), in_axes=(None, 0))(w, np.stack([x, x]))[1]
    else:
        got = tpf.grad(f)(w, x)
    assert np.allclose(got, expected, rtol=1e-15)
    # d2f/dw_0 dw_k = x_k, and once more for k = 0.
    second = tpf.grad(lambda w: tpf.grad(f)(w, x)[0])(w)
    assert np.allclose(second, x + np.array([x[0], 0.0, 0.0]), rtol=1e-15)


@tpf.gate
class Softsign:
    def forward(self, x: Any) -> Any:
        self.d = 1.0 + abs(x)
        return x / self.d

    def backward(self, dz: Any) -> Any:
        return [dz / self.d**2]


def test_a_backward_that_can_be_recorded_has_all_orders() -> None:
    """Softsign's derivatives for positive x are 1 / d^2, -2 / d^3, 6 / d^4, with d = 1 + x."""
    gate, x = Softsign(), 0.3
    d = 1.0 + x
    f = tpf.grad(lambda x: gate(x))
    seconds = {
        "grad of grad": tpf.grad(f)(x),
        "hessian": tpf.hessian(lambda x: gate(x))(x),
        "hvp": tpf.hvp(lambda x: gate(x), (x,), (1.0,)),
        "jvp of grad": tpf.jvp(f, (x,), (1.0,))[1],
        "batch": tpf.vmap(tpf.grad(f))(np.array([1.0, x]))[1],
        "sum over a batch": tpf.vmap(tpf.grad(f), reduce="sum")(np.array([x, x])) / 2.0,
        "tape": tpf.record(f, 1.0).value_and_grad(x)[1],
        "among arrays": tpf.hessian(lambda x: np.sum(gate(x)))(np.array([x]))[0, 0],
    }
    for name, got in seconds.items():
        assert got == pytest.approx(-2.0 / d**3, rel=1e-14), name
    assert tpf.grad(tpf.grad(f))(x) == pytest.approx(6.0 / d**4, rel=1e-14)
    tpf.check_grads(lambda x: gate(x) * x, (x,), order=3)


def test_forward_mode_runs_backward() -> None:
    product = tpf.gate(
        type(
            "Product",
            (),
            {
                "forward": lambda self, x, y: (setattr(self, "xy", (float(x), float(y))), x * y)[1],
                "backward": lambda self, dz: [self.xy[1] * dz, self.xy[0] * dz],
            },
        )
    )()

    def f(x: Any) -> Any:
        return product(x[0], x[1]) * x

    x = np.array([2.0, 3.0])
    expected = [[12.0, 4.0], [9.0, 12.0]]
    assert tpf.jacobian(f, mode="forward")(x).tolist() == expected
    assert tpf.jacobian(f, mode="reverse")(x).tolist() == expected
    assert tpf.jvp(lambda x, y: product(x, y), (2.0, 3.0), (1.0, 10.0)) == (6.0, 23.0)


def test_a_backward_that_cannot_be_recorded_is_named_with_the_order() -> None:
    @tpf.gate
    class Exp:
        def forward(self, x: float) -> float:
            self.x = x
            return math.exp(x)

        def backward(self, dz: float) -> list[float]:
            return [dz * math.exp(self.x)]

    gate = Exp()
    assert tpf.grad(lambda x: gate(x))(1.0) == math.e
    message = (
        r"second derivative of gate Exp, as its backward cannot be recorded "
        r"\(.*use np\.exp, not math\.exp\): write it with operators and NumPy"
    )
    for second in (
        lambda: tpf.grad(tpf.grad(lambda x: gate(x)))(1.0),
        lambda: tpf.hessian(lambda x: np.sum(gate(x)))(np.ones(2)),
        lambda: tpf.vmap(tpf.hessian(lambda x: gate(x)))(np.ones(3)),
        lambda: tpf.hvp(lambda x: gate(x) * x, (1.0,), (1.0,)),
    ):
        with pytest.raises(tpf.GateError, match=message):
            second()


@tpf.gate
class Picky:
    """Takes numbers below two."""

    def forward(self, x: float) -> Any:
        if x > 2.0:
            raise ValueError(f"{x} is too large")
        return x

    def backward(self, dz: float) -> Any:
        if self.limit is not None:
            raise ValueError("no way back")
        return [dz]

    def __init__(self, limit: Any = None) -> None:
        self.limit = limit


def picky(x: Any) -> Any:
    y = Picky()(x) * 0.5
    z = Picky()(x * 3.0)
    return y + z


def stuck(x: Any) -> Any:
    y = x * 2.0
    return Picky("stuck")(y) + Picky()(x)


@pytest.mark.parametrize("tier", ["interpret", "fused"])
@pytest.mark.parametrize("kind", ["sample", "batch", "shared", "array"])
def test_an_error_names_the_line(kind: str, tier: str) -> None:
    """Of two gates alike, the one that raises."""

    def run(f: Any, x: float) -> Any:
        if kind == "sample":
            return tpf.grad(f)(x)
        if kind == "batch":
            return tpf.vmap(tpf.grad(f))(np.array([0.5] * 20 + [x]))
        if kind == "shared":
            both = tpf.vmap(tpf.grad(lambda w, x: f(w) * x), in_axes=(None, 0), reduce="sum")
            return both(x, np.ones(20))
        return tpf.grad(lambda x: np.sum(f(x) * np.ones(2)))(np.array([x, 0.5]))

    with tpf.config(tier=tier):
        run(picky, 0.5)
        first = picky.__code__.co_firstlineno
        with pytest.raises(tpf.GateError) as caught:
            run(picky, 1.0)
        message = str(caught.value)
        assert message.startswith("gate Picky: forward raised ValueError: 3.0 is too large (")
        assert f"(test_gates.py:{first + 2})" in message
        assert isinstance(caught.value.__cause__, ValueError)
        with tpf.config(debug_nans=True), pytest.raises(tpf.GateError, match=f":{first + 2}\\)$"):
            run(picky, 1.0)
        with pytest.raises(tpf.GateError, match=r"backward raised .* \(test_gates.py:\d+"):
            run(stuck, 0.5)


@pytest.mark.parametrize("batch", [False, True])
def test_an_error_inside_a_loop_names_the_line(batch: bool) -> None:
    def f(x: Any) -> Any:
        return tpf.scan(lambda c, _: (Picky()(c) * 2.0, None), x, length=3)[0]

    gradient = tpf.grad(f)
    assert gradient(0.1) == 8.0
    line = f.__code__.co_firstlineno + 1
    with pytest.raises(tpf.GateError, match=rf"too large \(test_gates.py:{line}\)"):
        tpf.vmap(gradient)(np.array([0.1, 1.5])) if batch else gradient(1.5)


@pytest.mark.parametrize("batch", [False, True])
def test_an_error_of_a_solver_names_the_line(batch: bool) -> None:
    def solve(a: float) -> float:
        if a < 0.0:
            raise ValueError("no root")
        return float(a**0.5)

    root = tpf.implicit(solve, lambda x, a: x * x - a)
    gradient = tpf.grad(lambda a: root(a) * 2.0)
    assert gradient(4.0) == 0.5
    with pytest.raises(tpf.GateError, match=r"no root \(test_gates.py:\d+\)"):
        tpf.vmap(gradient)(np.array([4.0, -1.0])) if batch else gradient(-1.0)


def test_nothing_flows_back_through_a_gate_that_nothing_flows_into() -> None:
    """In Python, where its backward is NaN there, and to the second order."""

    @tpf.gate
    class Log:
        def forward(self, x: Any) -> Any:
            self.x = x
            return np.log(x) if isinstance(x, float) and x > 0.0 else x * 0.0

        def backward(self, dz: Any) -> Any:
            return [dz / self.x]

    def f(x: Any) -> Any:
        return tpf.where(x > 0.0, Log()(x), 0.0)

    assert tpf.grad(f)(0.0) == tpf.grad(tpf.grad(f))(0.0) == tpf.hessian(f)(0.0) == 0.0
    assert tpf.grad(tpf.grad(f))(2.0) == tpf.hessian(f)(2.0) == -0.25
    assert tpf.vmap(tpf.hessian(f))(np.array([0.0, 2.0])).tolist() == [0.0, -0.25]
    # What flows into the gate is zero at 1, and counts.
    assert tpf.hessian(lambda x: Log()(x) ** 2)(1.0) == 2.0
