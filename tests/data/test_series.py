"""The time series are the published ones."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from jlstm.data import airline, sunspots, temperatures

NEEDS_DATA = pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with the series")
FILES = {airline: "airline-passengers.csv", sunspots: "monthly-sunspots.csv", temperatures: "daily-min-temperatures.csv"}


@NEEDS_DATA
@pytest.mark.parametrize(
    ("load", "size", "first", "last", "mean"),
    [
        (airline, 144, ("1949-01", 112), ("1960-12", 432), 280.2986),
        (sunspots, 2820, ("1749-01", 58.0), ("1983-12", 33.4), 51.2660),
        (temperatures, 3650, ("1981-01-01", 20.7), ("1990-12-31", 13.0), 11.1778),
    ],
)
def test_series_are_the_published_ones(load, size, first, last, mean):
    """Sizes, first and last values and means agree, times increase, and every row of the file is read."""
    times, values = load()
    assert len(times) == len(values) == size
    assert values.dtype == np.float32
    assert (str(times[0]), values[0]) == (first[0], np.float32(first[1]))
    assert (str(times[-1]), values[-1]) == (last[0], np.float32(last[1]))
    assert (np.diff(times).astype(int) > 0).all()
    assert values.mean(dtype=np.float64) == pytest.approx(mean, abs=1e-4)  # as many digits as are published
    rows = list(csv.reader((Path(os.environ["JLSTM_DATA"]) / "series" / FILES[load]).read_text().splitlines()))[1:]
    assert rows == [[str(time), row[1]] for time, row in zip(times, rows, strict=True)]
