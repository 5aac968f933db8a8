"""Forecasts of monthly airline passengers with an LSTM(32), whose only input is the growth from month to month.

The last three years are for testing. They are not used for scaling or training, and the options were chosen on the two years
before them (`--hide 36 --months 24`). There are two kinds of forecasts: of each month from all months before it, and of all
months at once, where the network reads its own forecasts. They are compared with naive forecasts: the last month, or the same
month of the last year, with or without the average growth. Needs `pip install "jlstm[examples]"`.

    python examples/05_forecast.py
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console

import jlstm
from common.forecast_report import YEAR, Forecasts, draw, errors, naive, table
from common.options import Options, one_sentence
from jlstm import train
from jlstm.data import Minibatches, Series, airline

LAYER = jlstm.LSTM(32, dropout=0.2, recurrent_dropout=0.2)


@dataclass(frozen=True)
class ForecastOptions(Options):
    """Forecast monthly passengers with an LSTM, compare with naive forecasts, and save a picture."""

    months: int = 36  # number of months for testing: the last ones
    hide: int = 0  # drop this many months at the end, to choose options on earlier months
    window: int = 48  # months per training example
    batch: int = 16  # windows per step
    epochs: int = 150  # passes over the windows
    out: Path = Path("results/forecast")  # folder for checkpoints, history, weights.safetensors and picture.png


def scale(values: np.ndarray, months: int) -> tuple[np.ndarray, float, float]:
    """Return the standardized logarithmic growth from month to month.

    Args:
        values: Passengers of each month.
        months: Number of months for testing, which do not enter the mean and the standard deviation.

    Returns:
        The standardized growth, its mean and its standard deviation.
    """
    growth = np.diff(np.log(values))
    past = growth[: len(growth) - months]
    return ((growth - past.mean()) / past.std()).astype(np.float32), past.mean(), past.std()


def read(params: Any, ys: jax.Array) -> jax.Array:
    """Return the predicted growth of the next month from outputs of the LSTM."""
    return (ys @ params["kernel"] + params["bias"])[..., 0]


def loss_fn(params: Any, windows: tuple, key: jax.Array | None, carry: None) -> train.Outcome:
    """Return the mean squared error of the next month's growth. The first year of a window is not included."""
    growth, following = windows
    _, ys = LAYER.apply(params["lstm"], growth[..., None], key=key)
    return train.Outcome(((read(params, ys) - following)[:, YEAR:] ** 2).mean(1), {}, carry)


def learn(past: np.ndarray, options: ForecastOptions) -> train.Result:
    """Train on all windows of the growth before the test months."""
    starts = range(len(past) - options.window)
    windows = tuple(np.stack([past[k + lag : k + lag + options.window] for k in starts]) for lag in (0, 1))
    batches = Minibatches(windows, options.batch, options.seed)
    kernel_key, lstm_key = jax.random.split(jax.random.key(options.seed))
    kernel = jax.nn.initializers.glorot_uniform()(kernel_key, (LAYER.features_out, 1))
    params = {"lstm": LAYER.init(lstm_key, features=1), "kernel": kernel, "bias": jnp.zeros(1)}
    rate = optax.cosine_decay_schedule(0.01, options.steps or options.epochs * len(batches))
    optimizer = optax.chain(optax.clip_by_global_norm(1), optax.adamw(rate, weight_decay=0.1))
    return options.fit(loss_fn, params, optimizer, batches, every=50)


@jax.jit
def forecast(params: Any, past: jax.Array, test: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Forecast the standardized growth in the test months.

    Args:
        params: Parameters.
        past: Growth before the test months, of shape (months,).
        test: Growth in the test months, of shape (test months,).

    Returns:
        Forecasts of each month from all months before it, and forecasts of all months from `past` alone.
    """
    carry, ys = LAYER.apply(params["lstm"], past[:, None])
    next_growth = read(params, ys[-1])
    _, test_ys = LAYER.apply(params["lstm"], test[:-1, None], carry)
    one_step = jnp.concatenate([next_growth[None], read(params, test_ys)])

    def extend(state: tuple, _: None) -> tuple[tuple, jax.Array]:
        carry, growth = state
        carry, y = LAYER.step(params["lstm"], carry, growth[None])
        return (carry, read(params, y)), growth

    return one_step, jax.lax.scan(extend, (carry, next_growth), None, length=len(test))[1]


def main(options: ForecastOptions) -> None:
    """Train, forecast, compare, and save the weights and a picture."""
    options.prepare()
    months, window = options.months, options.window
    series = Series(*(part[: max(0, len(part) - options.hide)] for part in airline(options.data_dir)))
    if min(months, options.hide + 1) < 1 or not YEAR < window < len(series.values) - months - 1:
        raise ValueError(f"--window must be over {YEAR} and leave some of the {len(series.values)} months to --months and --hide")
    values = series.values.astype(np.float64)
    scaled, mean, deviation = scale(values, months)
    past, test = np.split(scaled, [len(scaled) - months])
    params = learn(past, options).params
    one_step, ahead = (np.asarray(z, np.float64) * deviation + mean for z in forecast(params, past[-window:], test))
    naive_forecasts = naive(values, months)
    forecasts = Forecasts(
        {"LSTM": values[-months - 1 : -1] * np.exp(one_step)} | naive_forecasts.one_month,
        {"LSTM": values[-months - 1] * np.exp(np.cumsum(ahead))} | naive_forecasts.all_months,
    )
    jlstm.save(options.out / "weights.safetensors", params)
    draw(options.out / "picture.png", series, forecasts, months)
    Console(highlight=False, soft_wrap=True).print(table(forecasts, values, months))
    print(f"Weights and picture are in {options.out}")
    print(f"Test RMSE: {errors(forecasts.one_month['LSTM'], values, months).rmse:.1f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(ForecastOptions))
