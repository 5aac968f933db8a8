"""tf-keras, Keras 2 of TensorFlow. Layout: Keras 3's: kernel (features, 4·units), recurrent_kernel, bias; gates i f c o, as ours.

Of a GRU and of a convolutional LSTM likewise. What it calls hard_sigmoid is 0.2 x + 0.5, cut off; that of Keras 3 is given to it
as a function. `implementation=2` is its default, one matmul for all gates; where h is masked it takes 1 by itself, one a gate.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from parity import keras_peer
from parity.keras_peer import Framework, tf  # on the CPU, with kernels that round alike everywhere

import tf_keras  # after TensorFlow's settings  # isort: skip


def version() -> str:
    """Versions of tf-keras and TensorFlow."""
    return f"tf-keras {tf_keras.__version__} on tensorflow {tf.__version__}"


def _begin(cell: Any, xs: Any) -> Any:
    return cell.get_initial_state(xs)


def _hand_in(layer: Any, noise: Mapping[str, Any]) -> None:
    """Into the caches of the cell, and of the layer, whose fast path masks inputs of all steps: what they draw is asked of us."""
    for name, cache in (("inputs", "_dropout_mask_cache"), ("recurrent", "_recurrent_dropout_mask_cache")):
        if name in noise:
            getattr(layer.cell, cache).default_factory = partial(_given, noise[name])
            getattr(layer, cache).default_factory = partial(_given, [mask[:, None] for mask in noise[name]])


def _given(masks: list[Any], **_: Any) -> list[Any]:
    return masks


@tf_keras.utils.register_keras_serializable("jlstm")  # Bidirectional makes its layers again from their configurations
def hard_sigmoid(x: Any) -> Any:
    """The hard sigmoid of Keras 3."""
    return tf.nn.relu6(x + 3) / 6


ACTIVATIONS = {"hard_sigmoid": hard_sigmoid, "hard_sigmoid_0.2": "hard_sigmoid"}
KERAS = Framework("tf-keras", tf_keras.layers, _begin, _hand_in, ACTIVATIONS)
lacks = partial(keras_peer.lacks, KERAS)
known_bug = partial(keras_peer.known_bug, KERAS.name)
run = partial(keras_peer.run, KERAS)
