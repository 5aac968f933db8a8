"""Types of labeled image data sets."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32


class Split(NamedTuple):
    """Labeled images.

    Attributes:
        images: Brightness in [0, 1].
        labels: Class of each image.
    """

    images: Float32[np.ndarray, "size rows columns"]
    labels: Int32[np.ndarray, " size"]


class Dataset(NamedTuple):
    """A training split and a test split."""

    train: Split
    test: Split
