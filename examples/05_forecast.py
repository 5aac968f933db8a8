"""Forecast the airline's passengers with an LSTM(32) that sees nothing but how they grew from month to month.

The last three years are the test: nothing of them is used for scaling or training, and the options were chosen on the two years
before (`--hide 36 --months 24`). Two forecasts are judged: of each month from those before it, and of all months at once, where
the network runs on with its own forecasts. Beside them stand naive ones: the last month, or the same month of the last year, with
or without the usual growth. Needs `pip install 'jlstm[examples]'`.

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
from forecast_report import YEAR, draw, errors, naive, table
from options import Options, one_sentence
from rich.console import Console

import jlstm
from jlstm import train
from jlstm.data import Minibatches, Series, airline

LAYER = jlstm.LSTM(32, dropout=0.2, recurrent_dropout=0.2)


@dataclass(frozen=True)
class ForecastOptions(Options):
    """Forecast monthly passengers with an LSTM, beside naive forecasts; save the forecasts as a picture."""

    months: int = 36  # of the test, the last ones
    hide: int = 0  # leave out that many months at the end altogether, to choose options on those before
    window: int = 48  # months that the network sees at a time in training
    batch: int = 16  # windows a step
    epochs: int = 150  # passes over the windows
    out: Path = Path("results/forecast")  # folder for checkpoints, history, weights.safetensors and picture.png


def scale(values: np.ndarray, months: int) -> tuple[np.ndarray, float, float]:
    """Growth from month to month on a logarithmic scale, in deviations from the mean before the test; that mean and deviation."""
    growth = np.diff(np.log(values))
    known = growth[: len(growth) - months]
    return ((growth - known.mean()) / known.std()).astype(np.float32), known.mean(), known.std()


def read(params: Any, ys: jax.Array) -> jax.Array:
    """The growth that is expected next, from outputs of the LSTM."""
    return (ys @ params["kernel"] + params["bias"])[..., 0]


def loss_fn(params: Any, windows: tuple, key: jax.Array | None, carry: None) -> train.Outcome:
    """Squared error of the next month's growth, after a year to look at."""
    growth, following = windows
    _, ys = LAYER.apply(params["lstm"], growth[..., None], key=key)
    return train.Outcome(((read(params, ys) - following)[:, YEAR:] ** 2).mean(1), {}, carry)


def learn(known: np.ndarray, options: ForecastOptions) -> train.Result:
    """Train on all windows of the growth that is known."""
    starts = range(len(known) - options.window)
    windows = tuple(np.stack([known[k + late : k + late + options.window] for k in starts]) for late in (0, 1))
    batches = Minibatches(windows, options.batch, options.seed)
    one, other = jax.random.split(jax.random.key(options.seed))
    kernel = jax.nn.initializers.glorot_uniform()(one, (LAYER.features_out, 1))
    params = {"lstm": LAYER.init(other, features=1), "kernel": kernel, "bias": jnp.zeros(1)}
    rate = optax.cosine_decay_schedule(0.01, options.steps or options.epochs * len(batches))
    optimizer = optax.chain(optax.clip_by_global_norm(1), optax.adamw(rate, weight_decay=0.1))
    return options.fit(loss_fn, params, optimizer, batches, every=50)


@jax.jit
def forecast(params: Any, before: jax.Array, test: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Forecast scaled growth: of each month of the test from all before it, and of all from what was before the test alone."""
    carry, ys = LAYER.apply(params["lstm"], before[:, None])
    first = read(params, ys[-1])
    _, later = LAYER.apply(params["lstm"], test[:-1, None], carry)
    each = jnp.concatenate([first[None], read(params, later)])

    def run_on(state: tuple, _: None) -> tuple[tuple, jax.Array]:
        carry, growth = state
        carry, y = LAYER.step(params["lstm"], carry, growth[None])
        return (carry, read(params, y)), growth

    return each, jax.lax.scan(run_on, (carry, first), None, length=len(test))[1]


def main(options: ForecastOptions) -> None:
    """Train, forecast, judge, save."""
    options.prepare()
    months, window = options.months, options.window
    series = Series(*(part[: max(0, len(part) - options.hide)] for part in airline(options.data_dir)))
    if min(months, options.hide + 1) < 1 or not YEAR < window < len(series.values) - months - 1:
        raise ValueError(f"--window must be over {YEAR} and leave some of the {len(series.values)} months to --months and --hide")
    values = series.values.astype(np.float64)
    scaled, mean, deviation = scale(values, months)
    known, test = np.split(scaled, [len(scaled) - months])
    params = learn(known, options).params
    each, ahead = (np.asarray(z, np.float64) * deviation + mean for z in forecast(params, known[-window:], test))
    forecasts = naive(values, months)
    forecasts["each"] = {"LSTM": values[-months - 1 : -1] * np.exp(each)} | forecasts["each"]
    forecasts["all"] = {"LSTM": values[-months - 1] * np.exp(np.cumsum(ahead))} | forecasts["all"]
    jlstm.save(options.out / "weights.safetensors", params)
    draw(options.out / "picture.png", series, forecasts, months)
    Console(highlight=False, soft_wrap=True).print(table(forecasts, values, months))
    print(f"Weights and picture are in {options.out}")
    print(f"Test RMSE: {errors(forecasts['each']['LSTM'], values, months).rmse:.1f}")


if __name__ == "__main__":
    with one_sentence():
        main(tyro.cli(ForecastOptions))
