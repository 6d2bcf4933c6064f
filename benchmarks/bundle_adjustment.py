"""The reprojection residual of bundle adjustment: a million gradients, and Jacobians of 2 by 15.

A camera has a rotation (Rodrigues), a centre, a focal length and two coefficients of radial
distortion; with it come the point, a weight and the two observed coordinates. The parameters lie
as columns, one array each, for every contender.
"""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report
from benchmarks.peers import (
    adolc,
    casadi,
    compiled_c,
    ddx,
    drjit64,
    hips_autograd,
    jax64,
    pointer,
    sacado,
    torch64,
)

SAMPLES = 1_000_000
N = 15
"""Parameters that are differentiated in: 11 of the camera, 3 of the point, and the weight."""

TOLERANCE = 1e-12
"""Some eighty operations of rounding 2**-53 each, on values of the order of the largest result
times ten: 80 * 10 * 1.1e-16, and ten times that for the peers' fast-math."""


def errors(p: Any, m: Any = np) -> Any:
    """The two weighted errors of the projection."""
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
    return w * (h * scale + x0 - u), w * (g * scale + y0 - v)


def residual(p: Any, m: Any = np) -> Any:
    e0, e1 = errors(p, m)
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


COPY = """
#include <immintrin.h>
void run(long n, const double *const *p, double *value, double *const *g) {
  #pragma omp parallel for schedule(static)
  for (long b=0;b<n/64;b++) {
    double row[17][64] __attribute__((aligned(64)));
    for (int k=0;k<17;k++) for (int i=0;i<64;i++) row[k][i]=p[k][64*b+i];
    for (int i=0;i<64;i++) value[64*b+i]=row[16][i];
    for (int k=0;k<15;k++) for (int i=0;i<64;i+=8)
      _mm512_stream_pd(g[k]+64*b+i, _mm512_load_pd(row[k]+i));
  }
}
"""

MEMORY = "memory alone: the same bytes"
"""What the gradient reads and writes, without the gradient: the memory's share of its time."""


def memory_alone(p: list[Any]) -> Contender | Missing:
    if "avx512f" not in Path("/proc/cpuinfo").read_text():
        return Missing(MEMORY, "needs AVX-512")
    return by_library(compiled_c(MEMORY, COPY), p)


def by_library(library: Any, p: list[Any]) -> Contender | Missing:
    """One of the programs in C or C++, which all are called alike."""
    if isinstance(library, Missing):
        return library
    n = len(p[0])
    value, g = np.empty(n), [_lines(n) for _ in range(N)]
    addresses = ctypes.c_void_p * len(p)
    inputs = addresses(*(a.ctypes.data for a in p))
    outputs = (ctypes.c_void_p * N)(*(a.ctypes.data for a in g))

    def run() -> Any:
        library.run(ctypes.c_long(n), inputs, pointer(value), outputs)
        return value, g

    return run


def _lines(n: int) -> Any:
    """An array that begins with a cache line, as what is stored past the caches must."""
    memory = np.empty(8 * n + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + 8 * n].view(np.float64)


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


def by_compiled_torch(p: list[Any]) -> Contender | Missing:
    torch = torch64("PyTorch, compiled")
    if isinstance(torch, Missing):
        return torch
    tensors = [torch.from_numpy(a).requires_grad_(k < N) for k, a in enumerate(p)]
    compiled = torch.compile(lambda *p: residual(p, torch))

    def run() -> Any:
        value = compiled(*tensors)
        gradients = torch.autograd.grad(value.sum(), tensors[:N])
        return value.detach().numpy(), [g.numpy() for g in gradients]

    try:
        run()
    except Exception as error:
        return Missing("PyTorch, compiled", f"does not compile here: {type(error).__name__}")
    return run


def by_autograd(p: list[Any]) -> Contender | Missing:
    autograd = hips_autograd("HIPS autograd")
    if isinstance(autograd, Missing):
        return autograd
    gradient = autograd.value_and_grad(
        lambda own: autograd.numpy.sum(residual((*own, *p[N:]), autograd.numpy))
    )

    def run() -> Any:
        _, g = gradient(tuple(p[:N]))
        # It gives the sum, and not each value.
        return residual(p), list(g)

    return run


def by_drjit(p: list[Any]) -> Contender | Missing:
    found = drjit64("Dr.Jit")
    if isinstance(found, Missing):
        return found
    dr, array = found
    arrays = [array(a) for a in p]

    def run() -> Any:
        own = [array(a) for a in arrays[:N]]
        dr.enable_grad(*own)
        value = residual((*own, *arrays[N:]), dr)
        dr.backward(value)
        g = [dr.grad(a) for a in own]
        dr.eval(value, *g)
        dr.sync_thread()
        return value.numpy(), [a.numpy() for a in g]

    return run


def by_ddx(p: list[Any]) -> Contender | Missing:
    d = ddx("ddx-ad")
    if isinstance(d, Missing):
        return d

    @d.equation
    def model() -> Any:
        own = [d.var(f"p{k}") for k in range(N)]
        return residual((*own, d.param("u"), d.param("v")), d)

    points = np.stack(p)

    def run() -> Any:
        value, g = model.jacobian(points)
        return value, list(g)

    return run


_CPP = """
#include <cmath>
template <class T, class P> T residual(const T *p, const P *o) {
  T dx=p[11]-p[3], dy=p[12]-p[4], dz=p[13]-p[5];
  T t=sqrt(p[0]*p[0]+p[1]*p[1]+p[2]*p[2]), c=cos(t), s=sin(t), q=1.0/t;
  T a=p[0]*q, b=p[1]*q, d=p[2]*q, l=(a*dx+b*dy+d*dz)*(1.0-c);
  T x=dx*c+(b*dz-d*dy)*s+a*l, y=dy*c+(d*dx-a*dz)*s+b*l, z=dz*c+(a*dy-b*dx)*s+d*l;
  T h=x/z, e=y/z, rr=h*h+e*e, S=(1.0+p[9]*rr+p[10]*(rr*rr))*p[6];
  T e0=p[14]*(h*S+p[7]-o[0]), e1=p[14]*(e*S+p[8]-o[1]);
  return e0*e0+e1*e1;
}
"""

ADOLC = (
    """
#include <adolc/adolc.h>
"""
    + _CPP
    + """
extern "C" void run(long n, const double *const *p, double *value, double *const *g) {
  adouble x[15], y; double at[17], out, gradient[17];
  double *point = at, *slope = gradient;
  trace_on(1, 1);
  for (int k=0;k<15;k++) x[k] <<= p[k][0];
  pdouble o[2] = {mkparam(p[15][0]), mkparam(p[16][0])};
  y = residual(x, o);
  y >>= out;
  trace_off();
  double one = 1.0;
  for (long i=0;i<n;i++) {
    double observed[2] = {p[15][i], p[16][i]};
    for (int k=0;k<15;k++) at[k]=p[k][i];
    set_param_vec(1, 2, observed);
    zos_forward(1, 1, 15, 1, at, &out);
    fos_reverse(1, 1, 15, &one, slope);
    value[i]=out;
    for (int k=0;k<15;k++) g[k][i]=gradient[k];
  }
}
"""
)

SACADO = (
    """
#include <Sacado.hpp>
"""
    + _CPP
    + """
extern "C" void run(long n, const double *const *p, double *value, double *const *g) {
  typedef Sacado::Fad::SFad<double,15> T;
  #pragma omp parallel for schedule(static)
  for (long i=0;i<n;i++) {
    T x[15]; double o[2] = {p[15][i], p[16][i]};
    for (int k=0;k<15;k++) x[k]=T(15,k,p[k][i]);
    T y = residual(x, o);
    value[i]=y.val();
    for (int k=0;k<15;k++) g[k][i]=y.fastAccessDx(k);
  }
}
"""
)


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
            "adjoint in C by hand": by_library(compiled_c("adjoint in C by hand", C), p),
            "JAX": by_jax(p),
            "PyTorch": by_torch(p),
            "PyTorch, compiled": by_compiled_torch(p),
            "Dr.Jit": by_drjit(p),
            "ddx-ad": by_ddx(p),
            "CasADi": by_casadi(p),
            "HIPS autograd": by_autograd(p),
            "ADOL-C, one thread": by_library(adolc("ADOL-C, one thread", ADOLC), p),
            "Sacado, forward": by_library(sacado("Sacado, forward", SACADO), p),
        },
        "tapeflow, interpreter only",
        TOLERANCE,
        repeats=7,
        seconds=2.0,
    )
    rows += measure({MEMORY: memory_alone(p)}, MEMORY, 0.0)
    report("bundle adjustment, a million residuals", rows, "tapeflow", SAMPLES, "residual")
    jacobians(p)


def jacobians(p: list[Any]) -> None:
    """The Jacobians of the two errors in the 15 parameters."""

    def both(own: Any, rest: Any) -> Any:
        return tuple(tpf.grad(lambda own, k=k: errors((*own, *rest))[k])(own) for k in (0, 1))

    def ours(tier: str) -> Contender:
        mapped = tpf.vmap(both)

        def run() -> Any:
            with tpf.config(tier=tier):
                return mapped(tuple(p[:N]), tuple(p[N:]))

        return run

    def by_jax() -> Contender | Missing:
        jax = jax64("JAX, jacrev")
        if isinstance(jax, Missing):
            return jax
        one = jax.jacrev(lambda own, rest: errors((*own, *rest), jax.numpy))
        f = jax.jit(jax.vmap(one))
        own, rest = tuple(map(jax.numpy.asarray, p[:N])), tuple(map(jax.numpy.asarray, p[N:]))
        return lambda: jax.block_until_ready(f(own, rest))

    rows = measure(
        {
            "tapeflow": ours("fused"),
            "tapeflow, interpreter only": ours("interpret"),
            "JAX, jacrev": by_jax(),
        },
        "tapeflow, interpreter only",
        TOLERANCE,
        repeats=5,
        seconds=1.0,
    )
    title = "bundle adjustment, a million Jacobians of 2 by 15"
    report(title, rows, "tapeflow", SAMPLES, "Jacobian")


if __name__ == "__main__":
    main()
