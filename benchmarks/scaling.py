"""How the time of a gradient depends on the size of the batch, and on the number of threads."""

import os
from typing import Any

import tapeflow as tpf
from benchmarks import bundle_adjustment, lotka_volterra
from benchmarks.harness import Contender, Row, measure, report, save, series

BATCHES = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000)
N = bundle_adjustment.N


def batch_sizes() -> None:
    """Bundle adjustment's gradient, in batches from one to a million."""
    # A function each: what is fused once stays so.
    mapped = {
        tier: tpf.vmap(
            tpf.value_and_grad(lambda own, rest: bundle_adjustment.residual((*own, *rest)))
        )
        for tier in ("fused", "interpret")
    }
    points = []
    for n in BATCHES:
        p = bundle_adjustment.columns(n)

        def ours(tier: str, p: Any = p) -> Contender:
            def run() -> Any:
                with tpf.config(tier=tier):
                    return mapped[tier](tuple(p[:N]), tuple(p[N:]))

            return run

        rows = measure(
            {
                "tapeflow": ours("fused"),
                "tapeflow, interpreter only": ours("interpret"),
                "JAX": bundle_adjustment.by_jax(p),
                "PyTorch": bundle_adjustment.by_torch(p),
                "CasADi": bundle_adjustment.by_casadi(p),
            },
            "tapeflow, interpreter only",
            bundle_adjustment.TOLERANCE,
            repeats=5,
        )
        report(f"bundle adjustment, batches of {n}", rows, "tapeflow", n, "residual")
        points.append({"x": n, "rows": rows})
    series("batch size", "residuals in a batch", "ns per residual", points, 1e9)


def threads() -> None:
    """Lotka and Volterra's equations, which are bound by arithmetic, by one thread and more."""
    p, start = lotka_volterra.ensemble()
    f = tpf.vmap(tpf.value_and_grad(lotka_volterra.loss, argnums=(0, 1)))

    def ours(count: int) -> Contender:
        def run() -> Any:
            with tpf.config(tier="fused", threads=count):
                value, slopes = f(p, start)
            return value, *slopes

        return run

    counts = range(1, len(os.sched_getaffinity(0)) + 1)
    # Not a bit may differ between them.
    rows = measure({str(k): ours(k) for k in counts}, "1", 0.0, repeats=9, seconds=2.0)
    report("Lotka-Volterra, by the number of threads", rows, "1", len(p), "trajectory")
    medians = [row.median for row in rows if isinstance(row, Row)]
    line = [(k, medians[0] / median) for k, median in zip(counts, medians, strict=True)]
    save("threads", {"x": "threads", "y": "times as fast as one", "lines": {"tapeflow": line}})


def main() -> None:
    batch_sizes()
    threads()


if __name__ == "__main__":
    main()
