"""A network that reads digits: 1,797 images of 8 x 8 that scikit-learn ships.

The digit is one of ten classes, so maximum likelihood makes the last layer a softmax and the loss
the cross-entropy, which is computed from the logits.
"""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import tapeflow as tpf
from tapeflow import nn


def network(p: dict[str, Any], x: Any) -> Any:
    """Logits, shape (samples, 10), of images of shape (samples, 64)."""
    hidden = nn.relu(nn.dense(p["first"], x))
    return nn.dense(p["last"], nn.relu(nn.dense(p["second"], hidden)))


def loss(p: dict[str, Any], x: Any, y: Any) -> Any:
    """Mean cross-entropy; y: the digits' one-hot rows."""
    return np.mean(nn.categorical_nll(network(p, x), y))


def main(epochs: int = 60, batch: int = 64) -> float:
    """Train, and return the accuracy on 360 images held out."""
    digits = load_digits()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(digits.target))
    x, y = digits.data[order] / 16.0, digits.target[order]
    train, test = slice(0, -360), slice(-360, None)
    hot = np.eye(10)[y]
    p = {
        "first": nn.dense_init(rng, 64, 96, nn.he_normal),
        "second": nn.dense_init(rng, 96, 48, nn.he_normal),
        "last": nn.dense_init(rng, 48, 10),
    }
    n = len(x[train])
    steps = epochs * (n // batch)
    optimizer = tpf.optim.adamw(tpf.optim.cosine(3e-3, steps, warmup=50), decay=1e-2)
    state = optimizer.init(p)
    gradient = tpf.grad(loss)
    for _ in range(epochs):
        shuffled = rng.permutation(n)
        for first in range(0, n - batch + 1, batch):
            own = shuffled[first : first + batch]
            p, state = optimizer.update(gradient(p, x[own], hot[own]), state, p)
    guessed = np.argmax(network(p, x[test]), axis=1)
    return float(np.mean(guessed == y[test]))


if __name__ == "__main__":
    print(f"accuracy on images it has not seen: {main():.3f}")
