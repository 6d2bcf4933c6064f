"""The reprojection residual of bundle adjustment: value and 15 gradients of a million residuals.

A camera has a rotation (Rodrigues), a centre, a focal length and two coefficients of radial
distortion; with it come the point, a weight and the two observed coordinates. The parameters lie
as columns, one array each, for every contender.
"""

import ctypes
from typing import Any

import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report
from benchmarks.peers import casadi, compiled_c, jax64, pointer, torch64

SAMPLES = 1_000_000
N = 15
"""Parameters that are differentiated in: 11 of the camera, 3 of the point, and the weight."""

TOLERANCE = 1e-12
"""Some eighty operations of rounding 2**-53 each, on values of the order of the largest result
times ten: 80 * 10 * 1.1e-16, and ten times that for the peers' fast-math."""


def residual(p: Any, m: Any = np) -> Any:
    r0, r1, r2, c0, c1, c2, f, x0, y0, k1, k2, px, py, pz, w, u, v = p
    dx, dy, dz = px - c0, py - c1, pz - c2
    angle = m.sqrt(r0 * r0 + r1 * r1 + r2 * r2)
    c, s, inverse = m.cos(angle), m.sin(angle), 1.0 / angle
    a, b, d = r0 * inverse, r1 * inverse, r2 * inverse
    along = (a * dx + b * dy + d * dz) * (1.0 - c)
    x = dx * c + (b * dz - d * dy) * s + a * along
    y = dy * c + (d * dx - a * dz) * s + b * along
    z = dz * c + (a * dy - b * dx) * s + d * along
    h, g = x / z, y / z
    r = h * h + g * g
    scale = (1.0 + k1 * r + k2 * (r * r)) * f
    e0, e1 = w * (h * scale + x0 - u), w * (g * scale + y0 - v)
    return e0 * e0 + e1 * e1


def columns(n: int) -> list[Any]:
    """Points in front of their cameras, so that no residual is ill-conditioned."""
    rng = np.random.default_rng(0)
    ranges = [(-0.5, 0.5)] * 6 + [(0.5, 1.5)] + [(-0.1, 0.1)] * 4
    ranges += [(-2.0, 2.0), (-2.0, 2.0), (8.0, 12.0), (0.5, 1.5), (-0.5, 0.5), (-0.5, 0.5)]
    return [rng.uniform(low, high, n) for low, high in ranges]


C = """
#include <math.h>
void run(long n, const double *const *p, double *value, double *const *g) {
  #pragma omp parallel for simd schedule(static)
  for (long i = 0; i < n; i++) {
    double r0=p[0][i], r1=p[1][i], r2=p[2][i], f=p[6][i], k1=p[9][i], k2=p[10][i], w=p[14][i];
    double dx=p[11][i]-p[3][i], dy=p[12][i]-p[4][i], dz=p[13][i]-p[5][i];
    double t=sqrt(r0*r0+r1*r1+r2*r2), c=cos(t), s=sin(t), q=1.0/t;
    double a=r0*q, b=r1*q, d=r2*q, dot=a*dx+b*dy+d*dz, l=dot*(1.0-c);
    double X=b*dz-d*dy, Y=d*dx-a*dz, Z=a*dy-b*dx;
    double x=dx*c+X*s+a*l, y=dy*c+Y*s+b*l, z=dz*c+Z*s+d*l;
    double iz=1.0/z, h=x*iz, e=y*iz, rr=h*h+e*e, D=1.0+k1*rr+k2*rr*rr, S=D*f;
    double u0=h*S+p[7][i]-p[15][i], u1=e*S+p[8][i]-p[16][i], e0=w*u0, e1=w*u1;
    value[i]=e0*e0+e1*e1;
    double b0=2*e0*w, b1=2*e1*w, bS=b0*h+b1*e, bD=bS*f;
    double brr=bD*(k1+2*k2*rr), bh=b0*S+2*h*brr, be=b1*S+2*e*brr;
    double bx=bh*iz, by=be*iz, bz=-(bh*h+be*e)*iz;
    double bc=bx*dx+by*dy+bz*dz, bs=bx*X+by*Y+bz*Z, bl=bx*a+by*b+bz*d;
    double bX=bx*s, bY=by*s, bZ=bz*s, bdot=bl*(1.0-c);
    bc-=bl*dot;
    double ba=bx*l+bZ*dy-bY*dz+bdot*dx, bb=by*l+bX*dz-bZ*dx+bdot*dy, bd=bz*l+bY*dx-bX*dy+bdot*dz;
    double gx=bx*c+bY*d-bZ*b+bdot*a, gy=by*c+bZ*a-bX*d+bdot*b, gz=bz*c+bX*b-bY*a+bdot*d;
    double bt=bs*c-bc*s-(ba*r0+bb*r1+bd*r2)*q*q, bn=bt*q;
    g[0][i]=ba*q+bn*r0; g[1][i]=bb*q+bn*r1; g[2][i]=bd*q+bn*r2;
    g[3][i]=-gx; g[4][i]=-gy; g[5][i]=-gz; g[6][i]=bS*D; g[7][i]=b0; g[8][i]=b1;
    g[9][i]=bD*rr; g[10][i]=bD*rr*rr; g[11][i]=gx; g[12][i]=gy; g[13][i]=gz;
    g[14][i]=2*(e0*u0+e1*u1);
  }
}
"""


def by_c(p: list[Any]) -> Contender | Missing:
    library = compiled_c("adjoint in C by hand", C)
    if isinstance(library, Missing):
        return library
    n = len(p[0])
    value, g = np.empty(n), [np.empty(n) for _ in range(N)]
    addresses = ctypes.c_void_p * len(p)
    inputs = addresses(*(a.ctypes.data for a in p))
    outputs = (ctypes.c_void_p * N)(*(a.ctypes.data for a in g))

    def run() -> Any:
        library.run(ctypes.c_long(n), inputs, pointer(value), outputs)
        return value, g

    return run


def by_jax(p: list[Any]) -> Contender | Missing:
    jax = jax64("JAX")
    if isinstance(jax, Missing):
        return jax
    one = jax.value_and_grad(lambda own, rest: residual((*own, *rest), jax.numpy))
    f = jax.jit(jax.vmap(one))
    own, rest = tuple(map(jax.numpy.asarray, p[:N])), tuple(map(jax.numpy.asarray, p[N:]))

    def run() -> Any:
        value, g = jax.block_until_ready(f(own, rest))
        return value, list(g)

    return run


def by_torch(p: list[Any]) -> Contender | Missing:
    torch = torch64("PyTorch")
    if isinstance(torch, Missing):
        return torch
    tensors = [torch.from_numpy(a) for a in p]

    def run() -> Any:
        own = [t.detach().requires_grad_(True) for t in tensors[:N]]
        value = residual((*own, *tensors[N:]), torch)
        gradients = torch.autograd.grad(value.sum(), own)
        return value.detach().numpy(), [g.numpy() for g in gradients]

    return run


def by_casadi(p: list[Any]) -> Contender | Missing:
    ca = casadi("CasADi")
    if isinstance(ca, Missing):
        return ca
    x = ca.SX.sym("x", N + 2)
    value = residual(ca.vertsplit(x), ca)
    gradient = ca.gradient(value, x)[:N]
    f = ca.Function("f", [x], [value, gradient]).map(len(p[0]), "thread", 2)
    data = ca.DM(np.stack(p))

    def run() -> Any:
        value, g = f(data)
        return np.asarray(value).ravel(), list(np.asarray(g))

    return run


def main() -> None:
    p = columns(SAMPLES)
    mapped = tpf.vmap(tpf.value_and_grad(lambda own, rest: residual((*own, *rest))))

    def ours(tier: str, threads: int | None = None) -> Contender:
        def run() -> Any:
            with tpf.config(tier=tier, **({"threads": threads} if threads else {})):
                return mapped(tuple(p[:N]), tuple(p[N:]))

        return run

    interpreted = tpf.vmap(tpf.value_and_grad(lambda own, rest: residual((*own, *rest))))

    def interpreter() -> Any:
        with tpf.config(tier="interpret"):
            return interpreted(tuple(p[:N]), tuple(p[N:]))

    rows = measure(
        {
            "tapeflow": ours("fused"),
            "tapeflow, interpreter only": interpreter,
            "tapeflow, one thread": ours("fused", 1),
            "adjoint in C by hand": by_c(p),
            "JAX": by_jax(p),
            "PyTorch": by_torch(p),
            "CasADi": by_casadi(p),
        },
        "tapeflow, interpreter only",
        TOLERANCE,
        repeats=7,
        seconds=2.0,
    )
    report("bundle adjustment, a million residuals", rows, "tapeflow", SAMPLES, "residual")


if __name__ == "__main__":
    main()
