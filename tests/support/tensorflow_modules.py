"""TensorFlow, Keras and tf-keras, imported in the order that works, and the marks of tests that save their models."""

import pytest

from parity.peers.keras import keras, tf  # first: sets TensorFlow to the CPU, with kernels that round alike everywhere

import tf_keras  # isort: skip  # after the environment is set

__all__ = ["MARKS", "keras", "tf", "tf_keras"]

MARKS = [
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),  # Keras with NumPy 2
]
