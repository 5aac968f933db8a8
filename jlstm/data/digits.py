"""Handwritten digits of 8 by 8 pixels, which scikit-learn includes, so no download is needed."""

import numpy as np

from jlstm._src.packages import needed_by
from jlstm.data.dataset import Dataset, Split

TRAIN = 1_437


def digits() -> Dataset:
    """Return the 1,797 digits in a fixed random order, 1,437 for training and 360 for testing.

    Returns:
        Images of 8 by 8 pixels and their digits.

    Raises:
        ImportError: scikit-learn, which includes the data, is not installed.

    Reference: Alpaydin & Kaynak, 1998, the test part of the UCI data set "Optical recognition of handwritten digits",
    https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits.

    Examples:
        >>> from jlstm.data import digits
        >>> digits().test.images.shape
        (360, 8, 8)
    """
    with needed_by("jlstm.data.digits", "jlstm[data]"):
        from sklearn.datasets import load_digits
    bunch = load_digits()
    # Pixels are from 0 to 16.
    images, labels = bunch.images.astype(np.float32) / 16, bunch.target.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(labels))  # the original order groups the digits by writer
    return Dataset(*(Split(images[part], labels[part]) for part in (order[:TRAIN], order[TRAIN:])))
