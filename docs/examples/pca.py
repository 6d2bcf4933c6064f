"""Principal components of the digits' images by gradient descent, against the SVD.

Minimises the error of putting images together from their products with k directions, which a QR
factorisation keeps orthonormal.
"""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import tapeflow as tpf


def main(k: int = 3) -> float:
    """Return the largest sine of an angle between the space that is found and the exact one."""
    x = load_digits().data / 16.0
    x = x - x.mean(0)
    moments = x.T @ x / len(x)

    def lost(w: Any) -> Any:
        q, _ = np.linalg.qr(w)
        return np.trace(moments) - np.sum((moments @ q) * q)

    gradient = tpf.grad(lost)
    w = np.linalg.qr(np.random.default_rng(0).normal(size=(x.shape[1], k))).Q
    for _ in range(400):
        w = np.linalg.qr(w - 1.0 * gradient(w)).Q
    exact = np.linalg.svd(x, full_matrices=False).Vh[:k]
    return float(np.linalg.norm(w - exact.T @ (exact @ w), 2))


if __name__ == "__main__":
    print(f"sine of the largest angle to the exact space: {main():.1e}")
