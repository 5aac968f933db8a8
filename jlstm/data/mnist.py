"""MNIST: handwritten digits of 28 by 28 pixels, 60,000 for training and 10,000 for testing."""

import os

import numpy as np

from jlstm.data import files
from jlstm.data.dataset import Dataset, Split

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
ARRAYS = {
    "x_train": files.Array("uint8", (60_000, 28, 28)),
    "y_train": files.Array("uint8", (60_000,)),
    "x_test": files.Array("uint8", (10_000, 28, 28)),
    "y_test": files.Array("uint8", (10_000,)),
}


def mnist(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Return MNIST in its original order.

    Args:
        data_dir: A folder with Keras's `mnist.npz`. None means the folder in the environment variable `JLSTM_DATA`. If that is
            not set, Keras's public copy is downloaded once into the user's cache and verified.

    Returns:
        Images and labels for training and testing.

    Raises:
        FileNotFoundError: The folder does not have the file, or the download failed.
        ImportError: pooch, which downloads, is not installed.
        ValueError: The file does not have the expected arrays, or the download does not match its SHA-256.

    Reference: LeCun, Bottou, Bengio & Haffner 1998, "Gradient-Based Learning Applied to Document Recognition",
    https://doi.org/10.1109/5.726791.
    """
    arrays = files.read(files.locate("mnist.npz", url=URL, sha256=SHA256, data_dir=data_dir), ARRAYS)
    return Dataset(*(_split(arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in Dataset._fields))


def _split(pixels: np.ndarray, labels: np.ndarray) -> Split:
    # A divisor in float32: divided by a plain 255, NumPy would give float64.
    return Split(pixels / np.float32(255), labels.astype(np.int32))
