"""Naive forecasts, forecast errors and the picture of 05_forecast.py."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from jlstm import plot
from jlstm.data import Series

YEAR = 12
BLUE, ORANGE, GREEN, _, BLACK, *_ = plot.COLORS


class Errors(NamedTuple):
    """Errors of a forecast.

    Attributes:
        rmse: Root mean square error in thousands of passengers.
        mae: Mean absolute error in thousands of passengers.
        mase: Mean absolute error relative to that of the seasonal naive forecast before the test.
    """

    rmse: float
    mae: float
    mase: float


class Forecasts(NamedTuple):
    """Forecasts of the test months by the name of the method, each of shape (test months,).

    Attributes:
        one_month: Forecasts of each month from all months before it.
        all_months: Forecasts of all test months at once, from the months before the test.
    """

    one_month: dict[str, np.ndarray]
    all_months: dict[str, np.ndarray]


def naive(values: np.ndarray, months: int) -> Forecasts:
    """Return naive forecasts of the test months.

    Args:
        values: Passengers of each month, of shape (all months,).
        months: Number of test months, the last ones.
    """
    past, ahead = values[:-months], np.arange(months)
    year = past[len(past) - YEAR + ahead % YEAR]
    growth = np.exp(np.log(past[YEAR:] / past[:-YEAR]).mean() * (1 + ahead // YEAR))
    return Forecasts(
        {"naive": values[-months - 1 : -1], "seasonal naive": values[-months - YEAR : -YEAR]},
        {"naive": np.full(months, past[-1]), "seasonal naive": year, "seasonal naive with growth": year * growth},
    )


def errors(forecast: np.ndarray, values: np.ndarray, months: int) -> Errors:
    """Return the errors of a forecast of the last months. MASE is defined by Hyndman & Koehler 2006."""
    past, residuals = values[:-months], forecast - values[-months:]
    mae = float(np.abs(residuals).mean())
    return Errors(float(np.sqrt((residuals**2).mean())), mae, mae / float(np.abs(past[YEAR:] - past[:-YEAR]).mean()))


def table(forecasts: Forecasts, values: np.ndarray, months: int) -> Table:
    """Return a table with the errors of all forecasts, one per row."""
    rows = Table("forecast", *(name.upper() for name in Errors._fields), title="Errors in thousands of passengers")
    for by_name, title in zip(forecasts, ("one month ahead", f"{months} months ahead"), strict=True):
        rows.add_section()
        for name, forecast in by_name.items():
            result = errors(forecast, values, months)
            rows.add_row(f"{title}: {name}", f"{result.rmse:.1f}", f"{result.mae:.1f}", f"{result.mase:.2f}")
    return rows


def draw(path: Path, series: Series, forecasts: Forecasts, months: int) -> None:
    """Save a picture of the end of the series and the forecasts."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    extent, times = months + 3 * YEAR, series.times[-months:]
    titles = ("One month ahead, from all months before", f"{months} months ahead, from those before the line")
    for axes, by_name, title in zip(figure.subplots(1, 2, sharey=True), forecasts, titles, strict=True):
        axes.plot(series.times[-extent:], series.values[-extent:], "-", color=BLACK, linewidth=1.5, label="passengers")
        axes.axvline(times[0], color=BLACK, linewidth=1, linestyle=":")
        styles = {"seasonal naive": ("--", GREEN), "seasonal naive with growth": ("-", ORANGE), "LSTM": (".-", BLUE)}
        for name, (line, color) in styles.items():
            if name in by_name:
                axes.plot(times, by_name[name], line, color=color, markersize=8, linewidth=1.4, label=name)
        axes.set_title(title, fontsize=11)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper left")
    figure.supylabel("thousands of passengers a month", fontsize=10)
    figure.savefig(path, dpi=110)
