"""What ``python -m tapeflow`` does: train the models, and show how they compare."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import tapeflow as tpf
from tapeflow.weather import models
from tapeflow.weather.features import Examples, split
from tapeflow.weather.records import Floats, Records
from tapeflow.weather.train import Curve, Progress, converge, fit


@dataclass(frozen=True)
class Result:
    """A model's predictions for the test days, °C, and how it was trained."""

    name: str
    predictions: Floats
    curve: Curve | None = None


@dataclass(frozen=True)
class Study:
    """All that is shown. difference: the largest between the linear model's coefficients and
    the closed form's.
    """

    test: Examples
    results: tuple[Result, ...]
    difference: float


def study(records: Records, seed: int, epochs: int, n_hidden: int) -> Study:
    """Train the linear model and the network; the last year's days are the test."""
    training, test = split(records)
    rng = np.random.default_rng(seed)
    x, y = training.x, training.y
    with _progress("linear model") as progress:
        start = models.linear_start(x.shape[1])
        params, linear_curve = fit(
            models.linear_loss, start, x, y, rng, epochs, rate=0.5, progress=progress
        )
        linear = converge(models.linear_loss, params, x, y)
    exact = models.closed_form(x, y)
    difference = max(float(np.abs(linear["w"] - exact["w"]).max()), abs(linear["b"] - exact["b"]))
    # The network learns what the mean leaves over, in units of its deviation.
    mean, deviation = y.mean(), y.std()
    with _progress("network") as progress:
        start = models.network_start(x.shape[1], n_hidden, rng)
        scaled, loss = (y - mean) / deviation, models.network_loss
        params, curve = fit(
            loss, start, x, scaled, rng, epochs, rate=0.003, batch=32, progress=progress
        )
    predict_linear = tpf.vmap(models.linear, in_axes=(None, 0))
    predict_network = tpf.vmap(models.network, in_axes=(None, 0))
    network = mean + deviation * predict_network(params, test.x)
    return Study(
        test,
        (
            Result("persistence (as today)", test.today),
            Result("linear", predict_linear(linear, test.x), linear_curve),
            Result(f"network, {n_hidden} tanh", network, curve),
        ),
        difference,
    )


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Progress]:
    """A bar on stderr while a model trains, if somebody is watching."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=1.0)
        yield lambda done: bar.update(task, completed=done)


def show(found: Study) -> None:
    """Print the comparison."""
    table = Table(title=f"Tomorrow's highest temperature, {len(found.test)} days held out")
    table.add_column("model")
    for heading in ("RMSE (°C)", "MAE (°C)", "gradients/s", "record (ms)", "first gradient (ms)"):
        table.add_column(heading, justify="right")
    for result in found.results:
        error = result.predictions - found.test.y
        row = [result.name, f"{np.sqrt(np.mean(error**2)):.3f}", f"{np.abs(error).mean():.3f}"]
        if result.curve is not None:
            row += [
                f"{result.curve.gradients_per_second:,.0f}",
                f"{1e3 * result.curve.record_seconds:.1f}",
                f"{1e3 * result.curve.first_gradient_seconds:.1f}",
            ]
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 100)
    console.print(table)
    console.print(
        "linear coefficients against the closed-form least squares: "
        f"largest difference {found.difference:.1e}"
    )


def plot(found: Study, path: Path) -> None:
    """Draw predicted against observed and the learning curves; ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.dates import ConciseDateFormatter

    blue, orange, grey = "#0072B2", "#D55E00", "#666666"  # Okabe and Ito's, safe for all eyes
    observed, best = found.test.y, found.results[-1]
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 8), layout="constrained")
    scatter, series, *curves = axes.ravel()
    for result, colour, marker in zip(found.results[1:], (orange, blue), "x.", strict=True):
        scatter.plot(observed, result.predictions, marker, color=colour, alpha=0.7,
                     label=result.name)  # fmt: skip
    ends = [observed.min(), observed.max()]
    scatter.plot(ends, ends, color=grey, linewidth=1, label="perfect")
    scatter.set(xlabel="observed (°C)", ylabel="predicted (°C)", title="Held-out days")
    scatter.legend()
    dates = found.test.days - 719163.0  # matplotlib counts days from 1970-01-01
    series.plot(dates, observed, color=grey, linewidth=1, label="observed")
    series.plot(dates, best.predictions, color=blue, linewidth=1.2, label=best.name)
    series.xaxis_date()
    series.xaxis.set_major_formatter(ConciseDateFormatter(series.xaxis.get_major_locator()))
    series.set(ylabel="highest temperature (°C)", title="The year that no model has seen")
    series.legend()
    for axis, result, unit in zip(curves, found.results[1:], ("°C²", "scaled"), strict=True):
        assert result.curve is not None
        epochs = np.arange(1, len(result.curve.training) + 1)
        axis.semilogy(epochs, result.curve.training, color=orange, label="training")
        axis.semilogy(epochs, result.curve.validation, color=blue, linestyle="--",
                      label="validation")  # fmt: skip
        axis.set(xlabel="epoch", ylabel=f"mean squared error ({unit})",
                 title=f"Learning curve: {result.name}")  # fmt: skip
        axis.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
