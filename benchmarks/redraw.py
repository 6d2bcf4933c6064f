"""``python -m benchmarks.redraw``: the README's table, and the plots, from the results in JSON."""

import json
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- benchmarks: by python -m benchmarks.redraw -->", "<!-- end of benchmarks -->"

WORKLOADS = {
    "bundle adjustment, a million residuals": "bundle adjustment: residual, 15 gradients",
    "bundle adjustment, a million Jacobians of 2 by 15": "bundle adjustment: Jacobian of 2 by 15",
    "LIBOR swaptions, 100000 paths": "LIBOR swaptions: 160 sensitivities of a path",
    "Heston Asian option, 100000 paths": "Asian option under Heston: 7 Greeks, a path",
    "Lotka-Volterra, 100000 trajectories": "Lotka-Volterra: 200 steps of Runge-Kutta",
    "Gaussian mixture, 10000 points, summed": "Gaussian mixture: summed gradient",
}
"""The results that the table has, by their titles, and what it calls them."""

PEERS = {
    "JAX": ("JAX", "JAX, scan over the steps", "JAX, jacrev"),
    "PyTorch": ("PyTorch", "PyTorch, batched"),
    "CasADi": ("CasADi",),
    "Dr.Jit": ("Dr.Jit",),
    "C by hand": ("adjoint in C by hand",),
}
"""The table's columns, and what the peer of each is called among the results."""

COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000")
"""Okabe and Ito's, which the colour-blind tell apart."""


def results() -> dict[str, dict[str, Any]]:
    found = (json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json")))
    return {record["title"]: record for record in found}


def shown(seconds: float) -> str:
    for unit, size in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def table(records: dict[str, dict[str, Any]]) -> str:
    """What tapeflow takes for each workload, and how many times that the peers take."""
    lines = [
        "| value and gradient of one | tapeflow | " + " | ".join(PEERS) + " |",
        "|---|--:|" + "--:|" * len(PEERS),
    ]
    machines = set()
    for title, name in WORKLOADS.items():
        if title not in records:
            continue
        record = records[title]
        machines.add(record["machine"])
        medians = {row["name"]: row["median"] for row in record["rows"] if "median" in row}
        ours = medians[record["ours"]]
        cells = [name, shown(ours / record["per"])]
        for names in PEERS.values():
            found = [medians[name] / ours for name in names if name in medians]
            cells.append(f"{found[0]:.3g}x" if found else "")
        lines.append("| " + " | ".join(cells) + " |")
    note = (
        f"Float64, on {' and '.join(sorted(machines))}; for a peer, how many times as long it "
        "takes, in the same run; below 1, it is faster."
    )
    return "\n".join([*lines, "", note])


def plot(record: dict[str, Any], path: Path, logarithmic: bool) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    markers = "os^Dv<>"
    for k, (name, points) in enumerate(record["lines"].items()):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=COLOURS[k], marker=markers[k], label=name)
    if logarithmic:
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0.0)
        axes.set_xticks([x for x, _ in points])
    axes.set_xlabel(record["x"])
    axes.set_ylabel(record["y"])
    axes.set_title(record["machine"], fontsize=9)
    axes.grid(True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    records = results()
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{table(records)}\n{END}{after}")
    for title in ("batch size", "tape length", "threads"):
        if title in records:
            path = ROOT / "docs" / "benchmarks" / f"{title.replace(' ', '-')}.svg"
            plot(records[title], path, logarithmic=title != "threads")
            print(path.relative_to(ROOT))
    print("README.md")


if __name__ == "__main__":
    main()
