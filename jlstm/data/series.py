"""Time series: airline passengers, sunspots, daily minimum temperatures."""

import csv
import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped

from jlstm.data import files

URL = "https://raw.githubusercontent.com/jbrownlee/Datasets/master/"
AIRLINE = ("airline-passengers.csv", "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621")
SUNSPOTS = ("monthly-sunspots.csv", "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3")
TEMPERATURES = ("daily-min-temperatures.csv", "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da")


class Series(NamedTuple):
    """A time series.

    Attributes:
        times: Months or days, as datetime64.
        values: The measurement at each time.
    """

    times: Shaped[np.ndarray, " size"]
    values: Float32[np.ndarray, " size"]


def airline(data_dir: str | os.PathLike[str] | None = None) -> Series:
    """Return the monthly passengers of international airlines, in thousands, from January 1949 to December 1960.

    Args:
        data_dir: A folder with `airline-passengers.csv`, or with a subfolder `series` that has it. None means the folder in the
            environment variable `JLSTM_DATA`. If that is not set, a public copy is downloaded once into the user's cache and
            verified.

    Returns:
        The series of 144 months.

    Raises:
        FileNotFoundError: The folder does not have the file, or the download failed.
        ImportError: pooch, which downloads, is not installed.
        ValueError: The content of the file is not the expected one.

    Reference: Box & Jenkins, 1976, "Time series analysis: forecasting and control", series G. The fourth edition is
    https://doi.org/10.1002/9781118619193.
    """
    return _read(*AIRLINE, "datetime64[M]", data_dir)


def sunspots(data_dir: str | os.PathLike[str] | None = None) -> Series:
    """Return the monthly mean sunspot numbers of Zurich from January 1749 to December 1983.

    Args:
        data_dir: A folder with `monthly-sunspots.csv`; otherwise as for `airline`.

    Returns:
        The series of months.

    Raises:
        FileNotFoundError, ImportError, ValueError: As for `airline`.

    Reference: Andrews & Herzberg, 1985, "Data: a collection of problems from many fields for the student and research worker",
    https://doi.org/10.1007/978-1-4612-5098-2.
    """
    return _read(*SUNSPOTS, "datetime64[M]", data_dir)


def temperatures(data_dir: str | os.PathLike[str] | None = None) -> Series:
    """Return the daily minimum temperatures of Melbourne, in °C, from 1981 to 1990.

    The data do not contain 31 December of leap years.

    Args:
        data_dir: A folder with `daily-min-temperatures.csv`; otherwise as for `airline`.

    Returns:
        The series of days.

    Raises:
        FileNotFoundError, ImportError, ValueError: As for `airline`.

    Reference: Australian Bureau of Meteorology, "Climate data online", http://www.bom.gov.au/climate/data/.
    """
    return _read(*TEMPERATURES, "datetime64[D]", data_dir)


def _read(name: str, sha256: str, unit: str, data_dir: str | os.PathLike[str] | None) -> Series:
    path = files.locate(name, url=URL + name, sha256=sha256, data_dir=data_dir, under="series")
    # The first row has the names of the columns.
    _, *rows = csv.reader(files.verified(path, sha256).decode().splitlines())
    times, values = zip(*rows, strict=True)
    return Series(np.array(times, unit), np.array(values, np.float32))
