"""An LSTM that learns the characters of a text: the Zen of Python, which ships with Python."""

import codecs
import contextlib
import io
from typing import Any

import numpy as np

import tapeflow as tpf
from tapeflow import nn


def text() -> str:
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    return codecs.decode(this.s, "rot13")


def main(steps: int = 300, length: int = 24, size: int = 48) -> tuple[float, float]:
    """Train, and return the loss in nats a character before and after."""
    letters = sorted(set(text()))
    codes = np.array([letters.index(c) for c in text()])
    rng = np.random.default_rng(0)
    n = len(letters)
    p = {
        "cell": nn.lstm_init(rng, n, size),
        "last": nn.dense_init(rng, size, n),
    }

    def loss(p: dict[str, Any], x: Any, y: Any) -> Any:
        """x, y: one-hot characters and those that follow them, (length, samples, n)."""
        state = (np.zeros((x.shape[1], size)), np.zeros((x.shape[1], size)))
        total = 0.0
        for step in range(length):
            state = nn.lstm_cell(p["cell"], state, x[step])
            logits = nn.dense(p["last"], state[0])
            total = total + np.mean(nn.categorical_nll(logits, y[step]))
        return total / length

    both = tpf.value_and_grad(loss)
    optimizer = tpf.optim.adam(tpf.optim.cosine(1e-2, steps), clip=1.0)
    state = optimizer.init(p)
    hot = np.eye(n)
    losses = []
    for _ in range(steps):
        first = rng.integers(0, len(codes) - length - 1, 16)
        places = first[None, :] + np.arange(length + 1)[:, None]
        chosen = hot[codes[places]]
        value, gradient = both(p, chosen[:-1], chosen[1:])
        p, state = optimizer.update(gradient, state, p)
        losses.append(value)
    return float(np.mean(losses[:5])), float(np.mean(losses[-20:]))


if __name__ == "__main__":
    print("loss from {:.2f} to {:.2f} nats a character".format(*main()))
