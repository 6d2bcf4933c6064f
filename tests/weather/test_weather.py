"""The main job: records, features, training and the command."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeflow.cli import main
from tapeflow.weather import features, models, records, report, train

HEADER = "date,precipitation,temp_max,temp_min,wind,weather\n"


def test_the_shipped_record() -> None:
    data = records.seattle()
    assert len(data) == 1461
    assert np.all(np.diff(data.days) == 1)
    assert data.temp_max.min() == -1.6
    assert set(data.kind.tolist()) == set(range(5))


def test_examples_pair_each_day_with_the_next() -> None:
    data = records.seattle()
    training, test = features.split(data)
    assert (len(training), len(test)) == (1460 - 365, 365)
    assert np.array_equal(np.append(training.y, test.y), data.temp_max[1:])
    assert np.array_equal(np.append(training.today, test.today), data.temp_max[:-1])
    assert training.x.shape == (1095, len(features.NAMES))
    # Standardised by the training days alone.
    assert np.allclose(training.x.mean(axis=0), 0, atol=1e-12)
    assert np.allclose(training.x.std(axis=0), 1, atol=1e-12)


def test_a_gap_in_the_dates_is_stepped_over() -> None:
    data = records.seattle()
    keep = np.arange(len(data)) != 500
    holey = records.Records(*(getattr(data, name)[keep] for name in data.__dataclass_fields__))
    training, test = features.split(holey)
    assert len(training) + len(test) == 1460 - 2


def test_the_linear_model_converges_to_the_closed_form() -> None:
    training, _ = features.split(records.seattle())
    exact = models.closed_form(training.x, training.y)
    starts = [models.linear_start(training.x.shape[1])]
    for seed, size in enumerate((1e-6, 1e-3, 1.0, 100.0)):
        # From near and far: a start close to the end must not make it less exact.
        away = np.random.default_rng(seed).standard_normal(len(exact["w"]))
        starts.append({"w": exact["w"] + size * away, "b": exact["b"] + size})
    for start in starts:
        found = train.converge(models.linear_loss, start, training.x, training.y)
        assert np.abs(found["w"] - exact["w"]).max() < 1e-10
        assert abs(found["b"] - exact["b"]) < 1e-10


@pytest.mark.jit
def test_the_network_learns() -> None:
    study = report.study(records.seattle(), seed=0, epochs=40, n_hidden=8)
    persistence, linear, network = (
        float(np.sqrt(np.mean((r.predictions - study.test.y) ** 2))) for r in study.results
    )
    assert linear < persistence
    assert network < persistence
    assert study.difference < 1e-6
    curve = study.results[2].curve
    assert curve is not None
    assert curve.training[-1] < curve.training[0] / 2
    assert curve.gradients == 40 * 876


BAD = {
    "": "is empty: it needs a header with date, precipitation",
    HEADER: "has a header and no rows",
    HEADER.replace("wind,", ""): "row 1: there is no column 'wind'",
    HEADER + "2012/01/01,0.0,12.8,5.0,4.7\n": "row 2: 5 fields, but the header has 6",
    HEADER + "2012/01/01,0.0,x,5.0,4.7,sun\n": "row 2, column temp_max: 'x' is not a number",
    HEADER + "2012/01/01,0.0,nan,5.0,4.7,sun\n": "row 2, column temp_max: 'nan' is not a finite",
    HEADER + "2012/01/01,inf,1,5.0,4.7,sun\n": "row 2, column precipitation: 'inf' is not a finite",
    HEADER + "2012/01/01,-1,1,5.0,4.7,sun\n": "row 2, column precipitation: -1 is below zero",
    HEADER + "2012/01/01,,1,5.0,4.7,sun\n": "row 2, column precipitation: '' is not a number",
    HEADER + "2012/13/01,0,1,5.0,4.7,sun\n": "row 2, column date: '2012/13/01' is not a date",
    HEADER + "2012/01/01,0,1,5.0,4.7,hail\n": "row 2, column weather: 'hail' is none of drizzle",
    HEADER + "2012/01/02,0,1,1,1,sun\n2012/01/01,0,1,1,1,sun\n": "row 3, column date: not later",
    HEADER + "2012/01/01,0,1,1,1,sun\n": "0 pairs of consecutive days are too few",
    HEADER + '2012/01/01,0,"1\n': "row 2: 3 fields, but the header has 6",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_files_get_one_line_and_status_2(text: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    assert main(["--data", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("tapeflow: ")
    assert BAD[text] in captured.err


def test_unreadable_files(tmp_path: Path, capsys: Any) -> None:
    assert main(["--data", str(tmp_path / "none.csv")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
    assert main(["--data", str(tmp_path)]) == 2
    assert "Is a directory" in capsys.readouterr().err
    (tmp_path / "latin.csv").write_bytes(b"date\xe9")
    assert main(["--data", str(tmp_path / "latin.csv")]) == 2
    assert "byte 4 is not UTF-8 text" in capsys.readouterr().err
    assert main(["--plot", str(tmp_path / "no" / "p.png")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_the_users_own_file(tmp_path: Path, capsys: Any) -> None:
    source = Path(records.__file__).parent.parent / "data" / "seattle-weather.csv"
    path = tmp_path / "mine.csv"
    # Columns in another order, dates written the ISO way, a byte order mark and a column more.
    rows = [line.split(",") for line in source.read_text().splitlines()]
    lines = [",".join([r[5], r[0].replace("/", "-"), *r[1:5], "more"]) for r in rows]
    path.write_text("\ufeff" + "\n".join(lines) + "\n")
    assert main(["--data", str(path), "--epochs", "2", "--hidden", "3"]) == 0
    assert "network, 3 tanh" in capsys.readouterr().out


def test_the_command(tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    result = subprocess.run(
        [sys.executable, "-m", "tapeflow", "--epochs", "3", "--plot", str(plot)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    for word in ("persistence", "linear", "network", "RMSE", "MAE", "gradients/s"):
        assert word in result.stdout
    assert re.search(r"largest difference \d\.\de-\d\d", result.stdout)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_bad_options() -> None:
    for options in (["--epochs", "0"], ["--hidden", "x"], ["--nonsense"]):
        result = subprocess.run(
            [sys.executable, "-m", "tapeflow", *options], capture_output=True, text=True
        )
        assert result.returncode == 2
        assert "usage: tapeflow" in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "it is a folder"),
        ("no/p.png", "there is no folder"),
        ("p.foo", "no format of"),
    ],
)
def test_a_plot_that_cannot_be_written_is_refused_before_training(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--plot", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.parent.glob("*.png")) == []


def test_a_negative_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--seed", "-1"])
    assert caught.value.code == 2
    assert "must not be negative" in capsys.readouterr().err
