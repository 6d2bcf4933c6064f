"""``python -m benchmarks [NAME ...]``: run all benchmarks, or some."""

import argparse
import importlib

NAMES = (
    "startup",
    "neuron",
    "weather",
    "arrays",
    "single",
    "bundle_adjustment",
    "sparse",
    "lotka_volterra",
    "loops",
    "branches",
    "libor",
    "heston",
    "gmm",
    "derivatives",
    "scaling",
    "files",
    "see",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__} What is printed is also written to benchmarks/results, as JSON.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    chosen = parser.parse_args().names or NAMES
    for name in chosen:
        if name not in NAMES:
            parser.error(f"there is no benchmark {name!r}: choose from {', '.join(NAMES)}")
    for name in chosen:
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
