"""The lecture's examples, digit for digit."""

from typing import Any

import numpy as np
import pytest

import tapeflow as tpf

W, X = (2.0, -3.0, -3.0), (-1.0, -2.0)


def elementary_gates(w: Any, x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))


def reciprocal_gate(w: Any, x: Any) -> Any:
    return tpf.reciprocal(1.0 + tpf.exp(-(w[0] * x[0] + w[1] * x[1] + w[2])))


def sigmoid_gate(w: Any, x: Any) -> Any:
    return tpf.sigmoid(w[0] * x[0] + w[1] * x[1] + w[2])


@pytest.mark.parametrize("f", [elementary_gates, reciprocal_gate, sigmoid_gate])
def test_linear_and_sigmoid(f: Any) -> None:
    value, (dw, dx) = tpf.value_and_grad(f, argnums=(0, 1))(W, X)
    s = 1.0 / (1.0 + np.exp(-1.0))
    local = (1.0 - s) * s  # 0.196612
    exact = 4 * 2.0**-53  # some roundings of numbers below 1
    assert abs(value - s) <= exact
    assert np.allclose(dw, [-local, -2 * local, local], rtol=0, atol=exact)
    assert np.allclose(dx, [2 * local, -3 * local], rtol=0, atol=2 * exact)
    assert [round(g, 4) for g in (value, *dw, *dx)] == [
        0.7311, -0.1966, -0.3932, 0.1966, 0.3932, -0.5898,
    ]  # fmt: skip


def test_the_computational_graph_forward_and_backward() -> None:
    tape = tpf.record(sigmoid_gate, W, X)
    assert round(tape.forward(W, X), 4) == 0.7311
    dw, dx = tape.backward()
    assert [round(g, 4) for g in (*dw, *dx)] == [-0.1966, -0.3932, 0.1966, 0.3932, -0.5898]
    table = tape.table()
    rows = {row.slot: row for row in table}
    assert rows["v4"].gate == "sigmoid"
    assert rows["w[0]"].gate == "input"
    assert rows["v0"].operands == ("w[0]", "x[0]")
    # The lecture's listing says grad_w0 = grad_s2 where it means grad_s0 = grad_s2.
    assert rows["v0"].gradient == rows["v2"].gradient == rows["w[2]"].gradient
    assert rows["w[0]"].gradient == rows["v0"].gradient * X[0]


def test_add_distributes() -> None:
    tape = tpf.record(lambda x, y: x + y, 1.0, 1.0)
    tape.forward(3.0, -4.0)
    assert tape.backward(2.0) == (2.0, 2.0)


def test_multiply_swaps() -> None:
    tape = tpf.record(lambda x, y: x * y, 1.0, 1.0)
    tape.forward(3.0, -4.0)
    assert tape.backward(2.0) == (-8.0, 6.0)


def test_max_routes() -> None:
    tape = tpf.record(lambda x, y: np.maximum(x, y), 1.0, 1.0)
    tape.forward(4.0, 5.0)
    assert tape.backward(9.0) == (0.0, 9.0)


def test_copy_adds() -> None:
    tape = tpf.record(lambda x: (x, x), 1.0)
    tape.forward(3.0)
    assert tape.backward((4.0, 2.0)) == 6.0


@tpf.gate
class MultiplyGate:
    """
    x,y are scalars
    """

    def forward(self, x: Any, y: Any) -> Any:
        z = x * y
        self.x = x  # Cache
        self.y = y  # Cache
        # We cache x and y because we know that the derivatives contains them.
        return z

    def backward(self, dz: Any) -> Any:
        dx = self.y * dz
        # self.y is dx
        dy = self.x * dz
        return [dx, dy]


def test_the_lectures_multiply_gate() -> None:
    gate = MultiplyGate()
    assert gate.forward(3.0, -4.0) == -12.0
    assert gate.backward(2.0) == [-8.0, 6.0]


def test_the_lectures_multiply_gate_in_a_graph() -> None:
    def neuron(w: Any, x: Any) -> Any:
        multiply = MultiplyGate()
        return tpf.sigmoid(multiply(w[0], x[0]) + multiply(w[1], x[1]) + w[2])

    expected = tpf.value_and_grad(sigmoid_gate, argnums=(0, 1))(W, X)
    assert tpf.value_and_grad(neuron, argnums=(0, 1))(W, X) == expected
    x = np.random.default_rng(0).standard_normal((100, 2))
    both = [
        tpf.vmap(tpf.grad(f), in_axes=(None, 0), reduce="mean")(np.array(W), x)
        for f in (neuron, sigmoid_gate)
    ]
    assert np.array_equal(*both)


def test_gaussian_noise_makes_the_loss_the_squared_error() -> None:
    """The gradient of the negative log likelihood of a Gaussian is that of the squared error."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    w = rng.standard_normal(3)

    def squared(w: Any, x: Any, y: Any) -> Any:
        return (np.sum(w * x) - y) ** 2

    def negative_log_likelihood(w: Any, x: Any, y: Any) -> Any:
        return 0.5 * (np.sum(w * x) - y) ** 2 + 0.5 * np.log(2 * np.pi)

    gradients = [
        tpf.vmap(tpf.grad(f), in_axes=(None, 0, 0), reduce="mean")(w, x, y)
        for f in (squared, negative_log_likelihood)
    ]
    assert np.array_equal(gradients[0], 2 * gradients[1])
    formula = 2 * np.mean((x @ w - y)[:, None] * x, axis=0)
    # Sums of 20 products, of three terms each, of numbers below 10.
    assert np.allclose(gradients[0], formula, rtol=0, atol=100 * 2.0**-53 * 10)


def test_the_table_of_a_graph_with_arrays() -> None:
    """A neuron whose weights are an array: every number has its value and its gradient."""
    tape = tpf.record(lambda w, x: tpf.sigmoid(np.sum(w[:2] * x) + w[2]), np.ones(3), np.ones(2))
    w, x = np.array([2.0, -3.0, -3.0]), np.array([-1.0, -2.0])
    assert round(tape.forward(w, x), 4) == 0.7311
    dw, dx = tape.backward()
    assert dw.round(4).tolist() == [-0.1966, -0.3932, 0.1966]
    assert dx.round(4).tolist() == [0.3932, -0.5898]
    rows = {row.slot: row for row in tape.table()}
    assert rows["v0[1]"].gate == "mul"
    assert rows["v0[1]"].operands == ("w[0:2]", "x")
    assert rows["v0[1]"].value == 6.0
    assert round(rows["v0[1]"].gradient or 0.0, 4) == 0.1966
    assert round(rows["w[2]"].gradient or 0.0, 4) == 0.1966
    assert rows["v3"].gradient == 1.0
