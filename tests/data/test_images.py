"""Image data sets are complete, with values in the documented range."""

import os
import sys

import numpy as np
import pytest

from jlstm.data import Dataset, digits, mnist

NEEDS_MNIST = pytest.mark.skipif(not os.environ.get("JLSTM_DATA"), reason="JLSTM_DATA names no folder with mnist.npz")


def well_formed(dataset: Dataset) -> bool:
    return all(
        split.images.dtype == np.float32
        and split.labels.dtype == np.int32
        and (split.images.min(), split.images.max()) == (0, 1)
        and len(split.images) == len(split.labels)
        and set(split.labels) == set(range(10))
        for split in dataset
    )


def test_digits_are_one_fixed_split_of_all_the_images():
    """Label counts and first labels pin the split, so that results on the digits are comparable."""
    train, test = digits()
    assert well_formed(Dataset(train, test))
    assert train.images.shape == (1437, 8, 8)
    assert test.images.shape == (360, 8, 8)
    assert np.bincount(train.labels).tolist() == [139, 145, 130, 155, 139, 150, 144, 152, 144, 139]
    assert np.bincount(test.labels).tolist() == [39, 37, 47, 28, 42, 32, 37, 27, 30, 41]
    assert test.labels[:10].tolist() == [0, 8, 8, 9, 8, 3, 7, 5, 0, 6]
    assert len(np.unique(np.concatenate([train.images, test.images]), axis=0)) == 1797


@NEEDS_MNIST
def test_mnist_is_the_original():
    """Label counts, first labels and the mean pixel are those of the original."""
    train, test = mnist()
    assert well_formed(Dataset(train, test))
    assert train.images.shape == (60_000, 28, 28)
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert train.images.mean(dtype=np.float64) * 255 == pytest.approx(33.3184, abs=1e-4)


@pytest.mark.parametrize(("module", "load"), [("pooch", mnist), ("sklearn.datasets", digits)])
def test_a_missing_extra_is_named(monkeypatch, module, load):
    """`import jlstm.data` needs neither package, and a missing one is named."""
    monkeypatch.delenv("JLSTM_DATA", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "jlstm\[data\]"'):
        load()
