"""What a function of this folder returns."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32


class Split(NamedTuple):
    """Labelled images: brightness in [0, 1], and the class of each."""

    images: Float32[np.ndarray, "size rows columns"]
    labels: Int32[np.ndarray, " size"]


class Dataset(NamedTuple):
    """What to learn from, and what to be judged by."""

    train: Split
    test: Split
