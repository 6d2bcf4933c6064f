"""Logistic regression by Newton's method: is a tumour malignant? (569 cases, scikit-learn.)

A yes-or-no target is Bernoulli, so the last layer is a sigmoid and the loss the binary
cross-entropy. The Hessian is the gradient's gradient, row by row.
"""

from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer

import tapeflow as tpf
from tapeflow import nn


def main() -> tuple[float, float]:
    """Fit, and return the training accuracy and the norm of the gradient that is left."""
    data = load_breast_cancer()
    x = (data.data - data.data.mean(0)) / data.data.std(0)
    x = np.column_stack([x, np.ones(len(x))])
    y = data.target.astype(float)

    def loss(w: Any) -> Any:
        return np.mean(nn.bernoulli_nll(x @ w, y)) + 1e-3 * np.sum(w * w)

    gradient = tpf.grad(loss)
    product = tpf.grad(lambda w, v: np.sum(gradient(w) * v))  # a Hessian-vector product
    hessian = tpf.vmap(product, in_axes=(None, 0))
    w = np.zeros(x.shape[1])
    for _ in range(12):
        w = w - np.linalg.solve(hessian(w, np.eye(len(w))), gradient(w))
    accuracy = np.mean((x @ w > 0) == (y == 1))
    return float(accuracy), float(np.linalg.norm(gradient(w)))


if __name__ == "__main__":
    print("accuracy {:.3f}, gradient {:.1e}".format(*main()))
