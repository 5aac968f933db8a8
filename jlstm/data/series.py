"""Time series: an airline's passengers, the sun's spots, the cold of the night."""

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
    """Months or days, and what was measured in each."""

    times: Shaped[np.ndarray, " size"]
    values: Float32[np.ndarray, " size"]


def airline(data_dir: str | os.PathLike[str] | None = None) -> Series:
    """Return the passengers of international airlines, in thousands a month, from January 1949 to December 1960.

    Args:
        data_dir: a folder with `airline-passengers.csv`, or with a folder `series` that has it; None takes the folder
            `JLSTM_DATA`, and without that downloads a public copy once into the user's cache and verifies it.

    Raises:
        FileNotFoundError: the folder has no such file, or it cannot be downloaded.
        ImportError: pooch, which downloads, is not installed.
        ValueError: the file is damaged or another one.

    Reference: Box & Jenkins 1976, series G.
    """
    return _read(*AIRLINE, "datetime64[M]", data_dir)


def sunspots(data_dir: str | os.PathLike[str] | None = None) -> Series:
    """Return Zurich's mean number of sunspots of each month from January 1749 to December 1983.

    Args:
        data_dir: as for `airline`, a folder with `monthly-sunspots.csv`.

    Raises:
        FileNotFoundError, ImportError, ValueError: as for `airline`.

    Reference: Andrews & Herzberg 1985.
    """
    return _read(*SUNSPOTS, "datetime64[M]", data_dir)


def temperatures(data_dir: str | os.PathLike[str] | None = None) -> Series:
    """Return Melbourne's lowest temperature of each day, in °C, from 1981 to 1990; 31 December of leap years is missing.

    Args:
        data_dir: as for `airline`, a folder with `daily-min-temperatures.csv`.

    Raises:
        FileNotFoundError, ImportError, ValueError: as for `airline`.

    Reference: Australian Bureau of Meteorology.
    """
    return _read(*TEMPERATURES, "datetime64[D]", data_dir)


def _read(name: str, sha256: str, unit: str, data_dir: str | os.PathLike[str] | None) -> Series:
    path = files.locate(name, url=URL + name, sha256=sha256, data_dir=data_dir, under="series")
    _, *rows = csv.reader(files.verified(path, sha256).decode().splitlines())
    times, values = zip(*rows, strict=True)
    return Series(np.array(times, unit), np.array(values, np.float32))
