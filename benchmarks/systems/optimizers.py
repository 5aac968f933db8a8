"""Keras' optimizers, brought to the definitions that optax follows.

In Keras 3 on TensorFlow the gradient of an Embedding comes as a list with an entry for each word of the batch; Keras squares the
entries, not the sum of those that belong to one word. So Adam's and Adadelta's second moments of a word that occurs n times in a
batch are too small, by up to n, and so is a global norm. Here the entries of one word are added up first.
"""

from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf


class _Added(keras.optimizers.Optimizer):
    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Add up what belongs to one word, then go on as Keras does."""
        return super().apply([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)


class Adam(_Added, keras.optimizers.Adam):
    """Adam as Keras has it, with epsilon beside the root of a second moment that is not yet corrected for its start from zero."""


class PaperAdam(Adam):
    """Kingma & Ba 2015, algorithm 1, as optax has it, with epsilon beside the root of the corrected second moment."""

    @property
    def epsilon(self) -> Any:
        """What Keras' formula takes for that."""
        steps = keras.ops.cast(self.iterations + 1, "float32")
        return self._epsilon * keras.ops.sqrt(1 - keras.ops.power(self.beta_2, steps))

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        """Keep the given epsilon."""
        self._epsilon = value


class Adadelta(_Added, keras.optimizers.Adadelta):
    """Zeiler 2012."""


class SGD(_Added, keras.optimizers.SGD):
    """Clipped by the global norm of all gradients."""


SAME = SimpleNamespace(Adam=Adam, PaperAdam=PaperAdam, Adadelta=Adadelta, SGD=SGD)
STOCK = SimpleNamespace(
    Adam=keras.optimizers.Adam,
    PaperAdam=keras.optimizers.Adam,
    Adadelta=keras.optimizers.Adadelta,
    SGD=keras.optimizers.SGD,
)
