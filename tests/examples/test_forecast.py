"""The forecast does not see its test data, and the baselines are what they are called."""

import importlib
import os
import re

import jax
import numpy as np
import pytest
import tyro
from safetensors.numpy import load_file

from jlstm import train
from jlstm.data import Series
from problems import normal
from scripts import imported

NEEDS_DATA = pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with the airline's series")
MONTHS = np.arange("1949-01", "1961-01", dtype="datetime64[M]")
STEPS = np.arange(len(MONTHS))
GROWING = 100 * 1.1 ** (STEPS // 12) * (2 + np.sin(2 * np.pi * STEPS / 12))  # the same seasons each year, growing by a tenth

pytestmark = [pytest.mark.no_cover, pytest.mark.loose]


@pytest.fixture
def example(monkeypatch):
    """The module of 05_forecast.py, with a series that needs no file."""
    module = imported(monkeypatch, "05_forecast")
    monkeypatch.setattr(module, "airline", lambda data_dir: Series(MONTHS, GROWING.astype(np.float32)))
    return module


@pytest.fixture
def report(monkeypatch):
    """The module of forecast_report.py."""
    return imported(monkeypatch, "common.forecast_report")


def random_params(example):
    """Return parameters of the structure that training makes."""
    shapes = {"lstm": example.LAYER.init(jax.random.key(0), 1), "kernel": np.empty((32, 1)), "bias": np.empty(1)}
    return normal(shapes, rng=np.random.default_rng(0), dtype=np.float32)


def test_nothing_of_the_test_is_seen_before(example):
    """Test values change neither the scaling nor the training data, only later one-step forecasts."""
    changed, month = GROWING.copy(), len(GROWING) - 10
    changed[month:] *= 3
    outcomes = []
    for values in (GROWING, changed):
        scaled, *scales = example.scale(values, 24)
        history, test = np.split(scaled, [len(scaled) - 24])
        outcomes.append((scales, history, example.forecast(random_params(example), history[-48:], test)))
    (scales, history, (one_step, ahead)), (other_scales, other_history, (other_one_step, other_ahead)) = outcomes
    assert scales == other_scales
    np.testing.assert_array_equal(history, other_history)
    np.testing.assert_array_equal(ahead, other_ahead)
    same = np.asarray(one_step == other_one_step)
    assert same[:15].all()  # the first of the changed ten is forecast from unchanged ones
    assert not same[15:].any()


def test_what_runs_on_is_what_would_be_forecast_had_it_come_so(example):
    """Multi-step forecasts equal one-step forecasts on the forecast values."""
    scaled, *_ = example.scale(GROWING, 24)
    history, test = np.split(scaled, [len(scaled) - 24])
    params = random_params(example)
    one_step, ahead = example.forecast(params, history[-48:], test)
    assert one_step[0] == ahead[0]
    fed_back, _ = example.forecast(params, history[-48:], ahead)
    # float32, rounded in other orders, and fed back 24 times, which makes the difference grow
    np.testing.assert_allclose(fed_back, ahead, atol=1e-4)


def test_windows_are_followed_by_the_next_months(example, tmp_path, monkeypatch):
    """The target of every window is its input one month later."""
    calls = []
    monkeypatch.setattr(
        example.Options, "fit", lambda self, loss, params, optimizer, batches, **_: calls.append(batches.examples)
    )
    example.learn(np.arange(60, dtype=np.float32), example.ForecastOptions(window=50, out=tmp_path))
    ((growth, following),) = calls
    assert growth.shape == (10, 50)
    np.testing.assert_array_equal(following, growth + 1)
    assert following.max() == 59


def test_naive_forecasts_are_those_of_the_textbook(report):
    """On equal seasons with a growth of a tenth a year the naive forecast misses only the growth."""
    forecasts = report.naive(GROWING, 24)
    np.testing.assert_array_equal(forecasts.one_month["naive"], GROWING[-25:-1])
    np.testing.assert_allclose(forecasts.one_month["seasonal naive"] * 1.1, GROWING[-24:], rtol=1e-12)
    np.testing.assert_array_equal(forecasts.all_months["naive"], np.full(24, GROWING[-25]))
    np.testing.assert_array_equal(forecasts.all_months["seasonal naive"], np.tile(GROWING[-36:-24], 2))
    np.testing.assert_allclose(forecasts.all_months["seasonal naive with growth"], GROWING[-24:], rtol=1e-12)


def test_errors_are_their_definitions(report):
    """Root mean square, mean, and mean over that of the seasonal naive forecast in training (Hyndman & Koehler 2006)."""
    values = np.concatenate([STEPS[:36] * 1.0, [10, 20]])  # STEPS grows by 12 a year
    result = report.errors(np.array([13.0, 16.0]), values, 2)
    assert result == pytest.approx((np.sqrt(12.5), 3.5, 3.5 / 12))


def test_it_prints_and_saves_what_it_says(example, tmp_path, capsys):
    """All forecasts are in a table. The picture and weights are saved; the last line is the LSTM's error."""
    example.main(tyro.cli(example.ForecastOptions, args=["--steps", "8", "--out", str(tmp_path)]))
    printed = capsys.readouterr().out
    rows = re.findall(r"│ (one month|36 months) ahead: ([a-zA-Z ]+?) +│ +([\d.]+) +│ +[\d.]+ +│ +[\d.]+ │", printed)
    assert [row[:2] for row in rows] == [
        *(("one month", name) for name in ("LSTM", "naive", "seasonal naive")),
        *(("36 months", name) for name in ("LSTM", "naive", "seasonal naive", "seasonal naive with growth")),
    ]
    assert printed.endswith(f"Test RMSE: {rows[0][2]}\n")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert load_file(tmp_path / "weights.safetensors")["lstm.kernel"].shape == (1, 128)


def test_hidden_months_play_no_part(example, tmp_path, capsys, monkeypatch):
    """Hidden months give the output of a series that ends earlier."""
    monkeypatch.setattr(example, "learn", lambda values, options: train.Result(random_params(example), [], None))
    example.main(example.ForecastOptions(months=12, hide=36, out=tmp_path))
    hidden_output = capsys.readouterr().out
    monkeypatch.setattr(example, "airline", lambda data_dir: Series(MONTHS[:-36], GROWING[:-36].astype(np.float32)))
    example.main(example.ForecastOptions(months=12, out=tmp_path))
    assert capsys.readouterr().out == hidden_output


@pytest.mark.slow
@NEEDS_DATA
def test_it_beats_naive_forecasts_of_the_airline(monkeypatch, tmp_path, capsys):
    """A hundred and fifty steps are enough, for forecasts of one month and of three years."""
    module = importlib.reload(imported(monkeypatch, "05_forecast"))
    module.main(module.ForecastOptions(steps=150, out=tmp_path))
    figures = [float(value) for value in re.findall(r"ahead: .*? +│ +([\d.]+) +│", capsys.readouterr().out)]
    assert figures[1:3] + figures[4:6] == [50.3, 42.0, 121.1, 73.6]  # naive and seasonal naive, by hand
    assert figures[0] < 42
    assert figures[3] < 73.6


@pytest.mark.parametrize(
    "options", [{"months": 0}, {"hide": -1}, {"window": 12}, {"window": 107}, {"hide": 200}, {"months": 144}]
)
def test_months_that_do_not_fit_are_one_sentence(example, tmp_path, options):
    """Wrong numbers of months are refused before training."""
    with pytest.raises(ValueError, match=r"--window must be over 12 and leave some of the \d+ months to --months and --hide"):
        example.main(example.ForecastOptions(out=tmp_path, **options))
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_one_sentence(monkeypatch, tmp_path):
    """The sentence names the folder."""
    module = importlib.reload(imported(monkeypatch, "05_forecast"))
    message = r"there is no airline-passengers.csv in the folder .*nowhere: put it there"
    with pytest.raises(FileNotFoundError, match=message):
        module.main(module.ForecastOptions(data_dir=tmp_path / "nowhere", out=tmp_path / "out"))
