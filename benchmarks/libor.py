"""A portfolio of swaptions in the LIBOR market model: 40 steps of 80 rates, and all 160 Greeks.

The model and its numbers are those of Giles and Glasserman, "Smoking adjoints" (Risk, 2006): each
path's value, and its gradient in 80 initial rates and 80 volatilities. The recorded tape is the
Python loop, unrolled: 31,000 instructions, in which tapeflow finds what repeats.
"""

import ctypes
import time
from typing import Any

import numpy as np

import tapeflow as tpf
from benchmarks.harness import Contender, Missing, measure, report
from benchmarks.peers import compiled_c, jax64, pointer

PATHS = 100_000
RATES, STEPS, DELTA = 80, 40, 0.25
MATURITIES = [4, 4, 4, 8, 8, 8, 20, 20, 20, 28, 28, 28, 40, 40, 40]
SWAP_RATES = [0.045, 0.05, 0.055] * 5

TOLERANCE = 1e-11
"""A rate is multiplied 40 times by an exponential of a few roundings: 40 * 10 * 2**-53, and sums
of 80 such; ten times that for the peers' fast-math."""


def portfolio(rates: Any, volatilities: Any, z: Any) -> Any:
    L = list(rates)
    for n in range(STEPS):
        shock, drift = z[n] * DELTA**0.5, 0.0
        for i in range(n + 1, RATES):
            own = volatilities[i - n - 1]
            scaled = own * DELTA
            drift = scaled * L[i] / (1.0 + L[i] * DELTA) + drift
            L[i] = L[i] * np.exp(scaled * drift + own * (shock - scaled * 0.5))
    bond, annuity, bonds, annuities = 1.0, 0.0, [], []
    for n in range(STEPS, RATES):
        bond = bond / (1.0 + L[n] * DELTA)
        annuity = annuity + bond * DELTA
        bonds.append(bond)
        annuities.append(annuity)
    value = 0.0
    for maturity, rate in zip(MATURITIES, SWAP_RATES, strict=True):
        value = value + np.maximum(bonds[maturity - 1] + rate * annuities[maturity - 1] - 1.0, 0.0)
    value = value * 100.0
    for n in range(STEPS):
        value = value / (1.0 + L[n] * DELTA)
    return value


# Blocks of eight paths in each thread, the lanes innermost: GCC makes them SIMD, and exp libmvec's.
C = """
#include <math.h>
#include <string.h>
#define N 80
#define M 40
#define W 8
static const int mat[15]={4,4,4,8,8,8,20,20,20,28,28,28,40,40,40};
static const double sw[3]={0.045,0.05,0.055};
static const double D=0.25;
void run(long paths,const double*L0,const double*lam,const double*z,double*val,double*gL,double*gl){
 #pragma omp parallel
 {
 static __thread double S[M+1][N][W], V[M][N][W], E[M][N][W];
 #pragma omp for schedule(static)
 for(long b=0;b<paths/W;b++){
  for(int i=0;i<N;i++) for(int l=0;l<W;l++) S[0][i][l]=L0[i];
  for(int n=0;n<M;n++){
   double v[W]={0},q[W];
   for(int l=0;l<W;l++) q[l]=z[(b*W+l)*M+n]*0.5;
   for(int i=0;i<=n;i++) memcpy(S[n+1][i],S[n][i],sizeof v);
   for(int i=n+1;i<N;i++){
    double lm=lam[i-n-1],c=lm*D;
    #pragma omp simd
    for(int l=0;l<W;l++){
     double L=S[n][i][l];
     v[l]+=c*L/(1.0+D*L);
     double e=exp(c*v[l]+lm*(q[l]-0.5*c));
     V[n][i][l]=v[l]; E[n][i][l]=e; S[n+1][i][l]=L*e;
    }
   }
  }
  double gS[N][W]; memset(gS,0,sizeof gS);
  double B[M][W],A[M][W],gB[M][W],gA[M][W]; memset(gB,0,sizeof gB); memset(gA,0,sizeof gA);
  double bb[W],aa[W]; for(int l=0;l<W;l++){bb[l]=1;aa[l]=0;}
  for(int m=0;m<M;m++){
   #pragma omp simd
   for(int l=0;l<W;l++){bb[l]/=1.0+D*S[M][M+m][l]; aa[l]+=D*bb[l]; B[m][l]=bb[l]; A[m][l]=aa[l];}
  }
  double v[W]={0},disc[W]; for(int l=0;l<W;l++) disc[l]=1;
  for(int n=0;n<M;n++){
   #pragma omp simd
   for(int l=0;l<W;l++) disc[l]/=1.0+D*S[M][n][l];
  }
  for(int k=0;k<15;k++){ int m=mat[k]-1;
   #pragma omp simd
   for(int l=0;l<W;l++){
    double p=B[m][l]+sw[k%3]*A[m][l]-1.0; double on=p>=0?100.0*disc[l]:0.0;
    v[l]+=p>=0?100.0*p:0.0; gB[m][l]+=on; gA[m][l]+=on*sw[k%3];
   }
  }
  for(int l=0;l<W;l++) val[b*W+l]=v[l]*disc[l];
  for(int n=0;n<M;n++){
   #pragma omp simd
   for(int l=0;l<W;l++) gS[n][l]-=v[l]*disc[l]*D/(1.0+D*S[M][n][l]);
  }
  double cb[W]={0},ca[W]={0};
  for(int m=M-1;m>=0;m--){
   #pragma omp simd
   for(int l=0;l<W;l++){
    ca[l]+=gA[m][l]; cb[l]+=gB[m][l]+D*ca[l];
    double q=1.0/(1.0+D*S[M][M+m][l]);
    gS[M+m][l]-=cb[l]*B[m][l]*D*q; cb[l]*=q;
   }
  }
  double gv[N][W]; memset(gv,0,sizeof gv);
  for(int n=M-1;n>=0;n--){
   double cv[W]={0};
   for(int i=N-1;i>n;i--){
    double lm=lam[i-n-1],c=lm*D;
    #pragma omp simd
    for(int l=0;l<W;l++){
     double L=S[n][i][l],q=1.0/(1.0+D*L),z0=z[(b*W+l)*M+n]*0.5;
     double ge=gS[i][l]*S[n+1][i][l];
     cv[l]+=ge*c;
     gv[i-n-1][l]+=ge*(D*V[n][i][l]+z0-c)+cv[l]*D*L*q;
     gS[i][l]=gS[i][l]*E[n][i][l]+cv[l]*c*q*q;
    }
   }
  }
  for(int l=0;l<W;l++) for(int i=0;i<N;i++){gL[(b*W+l)*N+i]=gS[i][l]; gl[(b*W+l)*N+i]=gv[i][l];}
 }
 }
}
"""


def by_c(L: Any, volatilities: Any, z: Any) -> Contender | Missing:
    library = compiled_c("adjoint in C by hand", C)
    if isinstance(library, Missing):
        return library
    n = len(z)
    assert n % 8 == 0
    value, gl, gv = np.empty(n), np.empty((n, RATES)), np.empty((n, RATES))

    def run() -> Any:
        arrays = [pointer(a) for a in (L, volatilities, z, value, gl, gv)]
        library.run(ctypes.c_long(n), *arrays)
        return value, gl, gv

    return run


def by_jax(L: Any, volatilities: Any, z: Any) -> Contender | Missing:
    jax = jax64("JAX, scan over the steps")
    if isinstance(jax, Missing):
        return jax
    jnp = jax.numpy
    every, index = jnp.arange(RATES), jnp.array(MATURITIES) - 1

    def value(L: Any, volatilities: Any, z: Any) -> Any:
        def step(L: Any, own: Any) -> Any:
            n, z = own
            live = every > n
            lam = jnp.where(live, volatilities[jnp.maximum(every - n - 1, 0)], 0.0)
            scaled = lam * DELTA
            drift = jnp.cumsum(jnp.where(live, scaled * L / (1.0 + L * DELTA), 0.0))
            growth = jnp.exp(scaled * drift + lam * (z * DELTA**0.5 - scaled * 0.5))
            return jnp.where(live, L * growth, L), None

        L, _ = jax.lax.scan(step, L, (jnp.arange(STEPS), z))
        bonds = jnp.cumprod(1.0 / (1.0 + L[STEPS:] * DELTA))
        annuities = jnp.cumsum(bonds * DELTA)
        swaps = bonds[index] + jnp.array(SWAP_RATES) * annuities[index] - 1.0
        payoff = 100.0 * jnp.sum(jnp.maximum(swaps, 0.0))
        return payoff / jnp.prod(1.0 + L[:STEPS] * DELTA)

    f = jax.jit(jax.vmap(jax.value_and_grad(value, argnums=(0, 1)), in_axes=(None, None, 0)))
    args = [jnp.asarray(a) for a in (L, volatilities, z)]

    def run() -> Any:
        value, (gl, gv) = jax.block_until_ready(f(*args))
        return value, gl, gv

    return run


def main() -> None:
    rng = np.random.default_rng(0)
    L, volatilities = np.full(RATES, 0.05), np.full(RATES, 0.2)
    z = 0.3 + rng.standard_normal((PATHS, STEPS))
    # A gradient for each path: the shared arguments are differentiated in each lane.
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        gradient = tpf.value_and_grad(portfolio, argnums=(0, 1))
        mapped = tpf.vmap(gradient, in_axes=(None, None, 0))
        mapped(L, volatilities, z[:64])
        seconds.append(time.perf_counter() - begin)
    print(f"record to the first batch gradient, which starts Numba: {seconds[0]:.2f} s")
    print(f"the same again, from a new recording: {seconds[1]:.2f} s")

    def ours(threads: int) -> Contender:
        def run() -> Any:
            with tpf.config(tier="fused", threads=threads):
                value, (gl, gv) = mapped(L, volatilities, z)
            return value, gl, gv

        return run

    rows = measure(
        {
            "tapeflow": ours(2),
            "tapeflow, one thread": ours(1),
            "adjoint in C by hand": by_c(L, volatilities, z),
            "JAX, scan over the steps": by_jax(L, volatilities, z),
        },
        "tapeflow",
        TOLERANCE,
        repeats=5,
        seconds=1.0,
    )
    report("LIBOR swaptions, 100000 paths", rows, "tapeflow", PATHS, "path")


if __name__ == "__main__":
    main()
