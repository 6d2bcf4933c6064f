"""The command ``tapeflow``, also ``python -m tapeflow``: tomorrow's temperature, learnt."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import tapeflow as tpf


def _whole(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, as {value} is")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tapeflow",
        description="Predict tomorrow's highest temperature from today's weather: a linear model "
        "and a small network, trained by gradients of recorded tapes.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE.csv",
        help="daily records with columns date, precipitation, temp_max, temp_min, wind, weather "
        "(default: Seattle, 2012 to 2015)",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw predictions and learning curves"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of the random numbers (default: 0)")
    parser.add_argument(
        "--epochs", type=_whole, default=60, help="passes over the training days (default: 60)"
    )
    parser.add_argument(
        "--hidden", type=_whole, default=16, help="tanh units of the network (default: 16)"
    )
    parser.add_argument("--version", action="version", version=f"tapeflow {tpf.__version__}")
    return parser


def _run(options: argparse.Namespace) -> None:
    from tapeflow.weather import records, report

    if options.plot is not None:
        _check_plot(options.plot)
    data = records.seattle() if options.data is None else records.read(options.data)
    found = report.study(data, options.seed, options.epochs, options.hidden)
    report.show(found)
    if options.plot is not None:
        report.plot(found, options.plot)


def _check_plot(path: Path) -> None:
    """Fail before the training, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise _Refusal('--plot needs matplotlib: pip install "tapeflow[plot]"') from None
    from matplotlib.figure import Figure

    if path.is_dir():
        raise _Refusal(f"--plot {path}: it is a folder: name a file, as in {path / 'plot.png'}")
    if not path.absolute().parent.is_dir():
        raise _Refusal(f"--plot {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise _Refusal(f"--plot {path}: it cannot be written")
    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in formats:
        raise _Refusal(
            f"--plot {path}: {path.suffix} is no format of pictures: use .png, .svg or .pdf"
        )


class _Refusal(ValueError):
    """What the user asked for cannot be done; one sentence says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, or 2 for bad input and 130 for Ctrl-C."""
    options = _parser().parse_args(argv)
    from tapeflow.weather.records import DataError

    try:
        _run(options)
        sys.stdout.flush()
    except (DataError, _Refusal) as error:
        print(f"tapeflow: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader has gone: nothing is left to say, at interpreter exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("tapeflow: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
