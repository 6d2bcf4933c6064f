"""``tapeflow demo``: tomorrow's temperature, learnt."""

import argparse
import os
from pathlib import Path
from typing import Any

from tapeflow.cli.refusal import Refusal, seed, whole


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="predict tomorrow's temperature by models trained on tapes",
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
    parser.add_argument("--seed", type=seed, default=0, help="of the random numbers (default: 0)")
    parser.add_argument(
        "--epochs", type=whole, default=60, help="passes over the training days (default: 60)"
    )
    parser.add_argument(
        "--hidden", type=whole, default=16, help="tanh units of the network (default: 16)"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> bool:
    from tapeflow.weather import records, report

    if options.plot is not None:
        _check_plot(options.plot)
    try:
        data = records.seattle() if options.data is None else records.read(options.data)
        found = report.study(data, options.seed, options.epochs, options.hidden)
    except records.DataError as error:
        raise Refusal(str(error)) from None
    report.show(found)
    if options.plot is not None:
        report.plot(found, options.plot)
    return True


def _check_plot(path: Path) -> None:
    """Fail before the training, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise Refusal('--plot needs matplotlib: pip install "tapeflow[plot]"') from None
    from matplotlib.figure import Figure

    if path.is_dir():
        raise Refusal(f"--plot {path}: it is a folder: name a file, as in {path / 'plot.png'}")
    if not path.absolute().parent.is_dir():
        raise Refusal(f"--plot {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise Refusal(f"--plot {path}: it cannot be written")
    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in formats:
        raise Refusal(
            f"--plot {path}: {path.suffix} is no format of pictures: use .png, .svg or .pdf"
        )
