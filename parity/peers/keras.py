"""Keras 3 on TensorFlow.

Layout: kernel (features, 4·units), recurrent_kernel (units, 4·units), bias; gates i f c o, as ours. A GRU has 3·units columns,
gates z r h, as ours, and with reset_after a bias (2, 3·units), whose second row holds our `recurrent_bias`. A convolutional LSTM
has kernel (*window, features, 4·filters), recurrent_kernel and bias, as ours.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from parity.peers import _keras as keras_peer
from parity.peers import _keras_layers
from parity.peers._keras import tf  # on the CPU, with kernels that round alike everywhere
from parity.peers._keras_layers import Framework

import keras  # after TensorFlow's settings  # isort: skip

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"Keras runs on {keras.backend.backend()!r} here, set KERAS_BACKEND=tensorflow")


def version() -> str:
    """Return the versions of Keras and TensorFlow."""
    return f"keras {keras.__version__} on tensorflow {tf.__version__}"


def _begin(cell: Any, xs: Any) -> Any:
    return cell.get_initial_state(len(xs))


def _hand_in(layer: Any, dropout_masks: Mapping[str, Any]) -> None:
    for name, attribute in (("inputs", "_dropout_mask"), ("recurrent", "_recurrent_dropout_mask")):
        if name in dropout_masks:
            # Keras 3 caches one mask as an array, and one mask per gate as a list.
            setattr(layer.cell, attribute, dropout_masks[name] if len(dropout_masks[name]) > 1 else dropout_masks[name][0])


KERAS = Framework("Keras", keras.layers, _begin, _hand_in)
lacks = partial(_keras_layers.lacks, KERAS.name)
known_bug = partial(keras_peer.known_bug, KERAS.name)
run = partial(keras_peer.run, KERAS)
