"""Time series: the airline's passengers."""

import csv
import os
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped

from jlstm.data import files

URL = "https://raw.githubusercontent.com/jbrownlee/Datasets/master/airline-passengers.csv"
SHA256 = "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621"
HEADER, COUNT = ["Month", "Passengers"], 144


class Series(NamedTuple):
    """Months, and what was measured in each."""

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
        ValueError: the file is another one.

    Reference: Box & Jenkins 1976, series G.
    """
    path = files.locate("airline-passengers.csv", url=URL, sha256=SHA256, data_dir=data_dir, under="series")
    with path.open(newline="") as opened:
        header, *rows = csv.reader(opened)
    if header != HEADER or len(rows) != COUNT:
        raise ValueError(f"{path} must have the columns {HEADER} and {COUNT} rows, got {header} and {len(rows)}: give another")
    months, passengers = zip(*rows, strict=True)
    return Series(np.array(months, "datetime64[M]"), np.array(passengers, np.float32))
