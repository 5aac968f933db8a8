"""tf-keras, which is Keras 2 on TensorFlow.

The layout is that of Keras 3, see `parity.peers.keras`. Its hard_sigmoid is 0.2 x + 0.5, clipped; Keras 3's hard_sigmoid is
passed to it as a function. Its default is `implementation=2`, one matmul for all gates; with a mask on h it uses 1, one matmul
per gate.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from parity.peers import _keras as keras_peer
from parity.peers import _keras_layers
from parity.peers._keras import tf  # on the CPU, with kernels that round alike everywhere
from parity.peers._keras_layers import Framework

import tf_keras  # after TensorFlow's settings  # isort: skip


def version() -> str:
    """Return the versions of tf-keras and TensorFlow."""
    return f"tf-keras {tf_keras.__version__} on tensorflow {tf.__version__}"


def _begin(cell: Any, xs: Any) -> Any:
    return cell.get_initial_state(xs)


def _hand_in(layer: Any, dropout_masks: Mapping[str, Any]) -> None:
    """Make the caches of dropout masks return ours.

    The cell has a cache. The layer has one too, because its fast path masks the inputs of all steps at once.
    """
    for name, cache in (("inputs", "_dropout_mask_cache"), ("recurrent", "_recurrent_dropout_mask_cache")):
        if name in dropout_masks:
            getattr(layer.cell, cache).default_factory = partial(_our_masks, dropout_masks[name])
            getattr(layer, cache).default_factory = partial(_our_masks, [mask[:, None] for mask in dropout_masks[name]])


def _our_masks(masks: list[Any], **_: Any) -> list[Any]:
    return masks


@tf_keras.utils.register_keras_serializable("jlstm")  # Bidirectional makes its layers again from their configurations
def hard_sigmoid(x: Any) -> Any:
    """Return Keras 3's hard sigmoid."""
    return tf.nn.relu6(x + 3) / 6


# In tf-keras the name "hard_sigmoid" means the older formula, which is our "hard_sigmoid_0.2".
ACTIVATIONS = {"hard_sigmoid": hard_sigmoid, "hard_sigmoid_0.2": "hard_sigmoid"}
KERAS = Framework("tf-keras", tf_keras.layers, _begin, _hand_in, ACTIVATIONS)
lacks = partial(_keras_layers.lacks, KERAS.name)
known_bug = partial(keras_peer.known_bug, KERAS.name)
run = partial(keras_peer.run, KERAS)
