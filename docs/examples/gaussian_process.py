"""A Gaussian process whose size, length and noise maximise the marginal likelihood.

SciPy's L-BFGS climbs it with the gradient through a Cholesky factor (Rasmussen and Williams,
Gaussian processes for machine learning, equation 2.30).
"""

import math
from typing import Any

import numpy as np
from scipy.optimize import minimize

import tapeflow as tpf


def main() -> tuple[dict[str, float], float]:
    """Return what was fitted, and the root mean square error against the curve behind it."""
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(0.0, 10.0, 80))
    y = np.sin(x) + 0.2 * rng.normal(size=80)
    square = (x[:, None] - x[None, :]) ** 2

    def kernel(log: Any, square: Any) -> Any:
        return np.exp(2 * log[0]) * np.exp(-0.5 * square * np.exp(-2 * log[1]))

    def negative_log_likelihood(log: Any) -> Any:
        k = kernel(log, square) + np.exp(2 * log[2]) * np.eye(80)
        factor = np.linalg.cholesky(k)
        z = tpf.linalg.solve_triangular(factor, y, lower=True)
        ends = np.sum(np.log(np.diagonal(factor))) + 40 * math.log(2 * math.pi)
        return 0.5 * np.sum(z * z) + ends

    both = tpf.value_and_grad(negative_log_likelihood)
    found = minimize(both, np.zeros(3), jac=True, method="L-BFGS-B")
    t = np.linspace(0.5, 9.5, 100)
    k = kernel(found.x, square) + np.exp(2 * found.x[2]) * np.eye(80)
    mean = kernel(found.x, (t[:, None] - x[None, :]) ** 2) @ np.linalg.solve(k, y)
    size, length, noise = np.exp(found.x)
    error = math.sqrt(np.mean((mean - np.sin(t)) ** 2))
    return {"size": size, "length": length, "noise": noise}, error


if __name__ == "__main__":
    print(main())
