"""Bundle adjustment: cameras and points are found together, from where the cameras saw the points.

The residual is written for one observation. `tpf.scatter_jacobian` applies it to all pairs of a
camera and a point, and gives the normal equations of Levenberg and Marquardt's method, in which the
points are eliminated first: each of them is in a block of three by three of its own (the Schur
complement, as in Triggs et al., "Bundle adjustment - a modern synthesis", 2000).
"""

from typing import Any

import numpy as np
import scipy.sparse as sp

import tapeflow as tpf

CAMERAS, POINTS, NOISE = 8, 200, 0.5


def rotate(vector: Any, point: Any) -> Any:
    """Rodrigues' formula; for no rotation its limit."""
    square = vector @ vector
    small = square < 1e-16
    angle = np.sqrt(np.where(small, 1.0, square))
    sine = np.where(small, 1.0, np.sin(angle) / angle)
    cosine = np.where(small, 0.5, (1.0 - np.cos(angle)) / angle**2)
    across = np.cross(vector, point)
    return point + sine * across + cosine * np.cross(vector, across)


def residual(camera: Any, point: Any, seen: Any) -> Any:
    """Where a camera sees a point, less where it was seen, in pixels.

    camera: rotation, shift, focal length, and a coefficient of radial distortion.
    """
    x, y, z = rotate(camera[:3], point) + camera[3:6]
    flat = np.stack([x / z, y / z])
    return camera[6] * (1.0 + camera[7] * (flat @ flat)) * flat - seen


def scene(rng: Any) -> tuple[Any, ...]:
    """Cameras on a circle, points in a cube; which camera sees which point, and where."""
    cameras, points = np.zeros((CAMERAS, 8)), rng.uniform(-1.0, 1.0, (POINTS, 3))
    cameras[:, 1], cameras[:, 5] = np.linspace(-0.6, 0.6, CAMERAS), 5.0
    cameras[:, 6], cameras[:, 7] = 500.0, 0.05
    pairs = np.argwhere(rng.random((CAMERAS, POINTS)) < 0.7)
    at = tpf.vmap(residual)(cameras[pairs[:, 0]], points[pairs[:, 1]], np.zeros((len(pairs), 2)))
    return cameras, points, pairs[:, 0], pairs[:, 1], at + NOISE * rng.standard_normal(at.shape)


def step(matrix: Any, gradient: Any, n: int, damping: float) -> Any:
    """Solve the damped normal equations, whose first n unknowns are the cameras' numbers."""
    damped = matrix + damping * sp.diags_array(matrix.diagonal() + 1e-9)
    damped = damped.tocsr()
    a, b, blocks = damped[:n, :n], damped[:n, n:], damped[n:, n:]
    # Three rows of three numbers for each point, as no two points are in one observation.
    inverse = sp.block_diag(np.linalg.inv(blocks.data.reshape(-1, 3, 3)), format="csr")
    reduced = (a - b @ inverse @ b.T).toarray()
    cameras = np.linalg.solve(reduced, -gradient[:n] + b @ (inverse @ gradient[n:]))
    points = inverse @ (-gradient[n:] - b.T @ cameras)
    return np.concatenate([cameras, points])


def main(steps: int = 20) -> tuple[float, float, float]:
    """The error in pixels before and after, and what the noise alone leaves."""
    rng = np.random.default_rng(0)
    cameras, points, of_camera, of_point, seen = scene(rng)
    spread = [0.02] * 3 + [0.05] * 3 + [5.0, 0.01]
    args = (
        cameras + rng.normal(0.0, spread, cameras.shape),
        points + 0.05 * rng.standard_normal(points.shape),
        seen,
    )
    plan = tpf.scatter_jacobian(residual, (of_camera, of_point, None), *args)
    x, damping = plan.flatten(*args), 1e-3
    errors = [np.mean(plan.residuals(*args) ** 2)]
    for _ in range(steps):
        matrix, gradient, _ = plan.normal_equations(*plan.unflatten(x, *args))
        moved = x + step(matrix, gradient, cameras.size, damping)
        error = np.mean(plan.residuals(*plan.unflatten(moved, *args)) ** 2)
        if error < errors[-1]:
            x, damping = moved, damping / 3.0
            errors.append(error)
        else:
            damping *= 4.0
    # Seven of the unknowns only move, turn and scale the scene as a whole.
    free = 1.0 - (x.size - 7) / seen.size
    return float(np.sqrt(errors[0])), float(np.sqrt(errors[-1])), NOISE * float(np.sqrt(free))


if __name__ == "__main__":
    print("{:.2f} pixels before, {:.3f} after; {:.3f} expected".format(*main()))
