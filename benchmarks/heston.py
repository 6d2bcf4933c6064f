"""An Asian option under Heston's model: its price and seven pathwise Greeks, by simulation.

50 steps of Euler's scheme for the logarithm of the price, the variance kept from falling below a
small positive number. A path takes 100 normal numbers; price and Greeks are means over all paths.
"""

import ctypes
from typing import Any

import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report
from benchmarks.peers import compiled_c, jax64, pointer, torch64

PATHS, STEPS, STRIKE, LEAST = 100_000, 50, 100.0, 1e-8
H = 1.0 / STEPS
MARKET = np.array([100.0, 0.09, 2.0, 0.09, 0.3, -0.5, 0.03])
"""Price and variance today, speed and level of its reversion, its volatility, correlation, rate."""

TOLERANCE = 1e-11
"""50 steps of some 20 roundings of 2**-53 are 1.1e-13 in each path's exponent; the mean's largest
Greek weighs them by some tens, and sums 1e5 terms in another order."""


def step(p: Any, s: Any, v: Any, z1: Any, z2: Any, m: Any) -> Any:
    _, _, speed, level, vol, correlation, rate = p
    v = m.maximum(v, LEAST)
    root = m.sqrt(v * H)
    other = correlation * z1 + m.sqrt(1.0 - correlation * correlation) * z2
    grown = s * m.exp((rate - 0.5 * v) * H + root * z1)
    return grown, v + speed * (level - v) * H + vol * root * other


def payoff(p: Any, z: Any, m: Any = np) -> Any:
    s, v, total = p[0], p[1], 0.0
    for k in range(STEPS):
        s, v = step(p, s, v, z[2 * k], z[2 * k + 1], m)
        total = total + s
    return m.exp(-p[6]) * m.maximum(total / STEPS - STRIKE, 0.0)


C = """
#include <math.h>
#include <string.h>
#define W 8
#define STEPS 50
void run(long n, const double *p, const double *z, double *result) {
  const double h=1.0/STEPS, speed=p[2], level=p[3], vol=p[4], rho=p[5], rate=p[6];
  const double bar=sqrt(1.0-rho*rho), discount=exp(-rate);
  double sums[8]={0};
  #pragma omp parallel for schedule(static) reduction(+:sums[:8])
  for (long b=0;b<n;b+=W) {
    double S[STEPS+1][W], V[STEPS+1][W], R[STEPS][W], E[STEPS][W], Z1[STEPS][W], Z2[STEPS][W];
    double total[W]={0}, gs[W], gv[W], g[7][W];
    memset(g,0,sizeof g);
    for (int k=0;k<STEPS;k++) for (int i=0;i<W;i++) {
      Z1[k][i]=z[(b+i)*2*STEPS+2*k]; Z2[k][i]=z[(b+i)*2*STEPS+2*k+1]; }
    for (int i=0;i<W;i++) { S[0][i]=p[0]; V[0][i]=p[1]; }
    for (int k=0;k<STEPS;k++) {
      #pragma omp simd
      for (int i=0;i<W;i++) {
        double v=V[k][i]>1e-8?V[k][i]:1e-8, r=sqrt(v*h), w=rho*Z1[k][i]+bar*Z2[k][i];
        double e=exp((rate-0.5*v)*h+r*Z1[k][i]);
        R[k][i]=r; E[k][i]=e; S[k+1][i]=S[k][i]*e; total[i]+=S[k+1][i];
        V[k+1][i]=v+speed*(level-v)*h+vol*r*w;
      }
    }
    double each[W];
    for (int i=0;i<W;i++) {
      double mean=total[i]/STEPS-100.0, paid=mean>0?discount*mean:0.0;
      sums[0]+=paid; g[6][i]=-paid; each[i]=mean>0?discount/STEPS:0.0; gs[i]=gv[i]=0;
    }
    for (int k=STEPS-1;k>=0;k--) {
      #pragma omp simd
      for (int i=0;i<W;i++) {
        int low=V[k][i]<=1e-8;
        double v=low?1e-8:V[k][i], r=R[k][i], w=rho*Z1[k][i]+bar*Z2[k][i];
        double s=gs[i]+each[i], x=s*S[k+1][i], u=gv[i];
        gs[i]=s*E[k][i];
        double gr=x*Z1[k][i]+u*vol*w;
        g[2][i]+=u*(level-v)*h; g[3][i]+=u*speed*h; g[4][i]+=u*r*w;
        g[5][i]+=u*vol*r*(Z1[k][i]-rho/bar*Z2[k][i]); g[6][i]+=x*h;
        double dv=u*(1.0-speed*h)-0.5*h*x+gr*0.5*h/r;
        gv[i]=low?0.0:dv;
      }
    }
    for (int i=0;i<W;i++) { sums[1]+=gs[i]; sums[2]+=gv[i];
      for (int j=2;j<7;j++) sums[1+j]+=g[j][i]; }
  }
  for (int j=0;j<8;j++) result[j]=sums[j]/n;
}
"""


def by_c(z: Any) -> Contender | Missing:
    library = compiled_c("adjoint in C by hand", C)
    if isinstance(library, Missing):
        return library
    result = np.empty(8)

    def run() -> Any:
        library.run(ctypes.c_long(len(z)), pointer(MARKET), pointer(z), pointer(result))
        return result[0], result[1:]

    return run


def by_jax(z: Any) -> Contender | Missing:
    jax = jax64("JAX, scan over the steps")
    if isinstance(jax, Missing):
        return jax
    m = jax.numpy

    def one(p: Any, z: Any) -> Any:
        def body(state: Any, z: Any) -> Any:
            s, v, total = state
            s, v = step(p, s, v, z[0], z[1], m)
            return (s, v, total + s), None

        (_, _, total), _ = jax.lax.scan(body, (p[0], p[1], 0.0), z.reshape(STEPS, 2))
        return m.exp(-p[6]) * m.maximum(total / STEPS - STRIKE, 0.0)

    price = lambda p, z: m.mean(jax.vmap(one, (None, 0))(p, z))  # noqa: E731
    f = jax.jit(jax.value_and_grad(price))
    args = m.asarray(MARKET), m.asarray(z)
    return lambda: jax.block_until_ready(f(*args))


def by_torch(z: Any) -> Contender | Missing:
    torch = torch64("PyTorch, batched")
    if isinstance(torch, Missing):
        return torch

    class Maths:
        sqrt, exp = torch.sqrt, torch.exp
        maximum = staticmethod(lambda a, b: torch.clamp(a, min=b))

    columns = torch.from_numpy(z.T.copy())

    def run() -> Any:
        p = torch.from_numpy(MARKET.copy()).requires_grad_(True)
        value = payoff(tuple(p), columns, Maths).mean()
        (slope,) = torch.autograd.grad(value, p)
        return value.item(), slope.numpy()

    return run


def main() -> None:
    z = np.random.default_rng(0).standard_normal((PATHS, 2 * STEPS))

    def ours(tier: str, threads: int) -> Contender:
        mapped = tpf.vmap(tpf.value_and_grad(payoff), in_axes=(None, 0), reduce="mean")

        def run() -> Any:
            with tpf.config(tier=tier, threads=threads):
                return mapped(MARKET, z)

        return run

    rows = measure(
        {
            "tapeflow": ours("fused", 2),
            "tapeflow, one thread": ours("fused", 1),
            "tapeflow, interpreter only": ours("interpret", 2),
            "adjoint in C by hand": by_c(z),
            "JAX, scan over the steps": by_jax(z),
            "PyTorch, batched": by_torch(z),
        },
        "tapeflow, interpreter only",
        TOLERANCE,
        repeats=5,
        seconds=1.0,
    )
    report("Heston Asian option, 100000 paths", rows, "tapeflow", PATHS, "path")


if __name__ == "__main__":
    main()
