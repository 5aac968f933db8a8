"""Keras's optimizers, changed to match the definitions that optax follows.

In Keras 3 on TensorFlow, the gradient of an Embedding is a list with one entry for each word of the batch. Keras squares these
entries instead of the sum of the entries of the same word. So for a word that occurs n times in a batch, the second moments of
Adam and Adadelta are too small, by up to a factor of n, and so is a global norm. Here the entries of one word are summed first.
"""

from types import SimpleNamespace
from typing import Any

import keras
import tensorflow as tf


class _Added(keras.optimizers.Optimizer):
    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Sum the entries of each word, then continue as Keras does."""
        return super().apply([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)


class Adam(_Added, keras.optimizers.Adam):
    """Keras's Adam: epsilon is added to the root of the second moment before its bias correction."""


class PaperAdam(Adam):
    """Adam as in optax: epsilon is added to the root of the bias-corrected second moment.

    Reference: Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1, https://arxiv.org/abs/1412.6980
    """

    @property
    def epsilon(self) -> Any:
        """The epsilon that makes Keras's formula equal to the paper's at this step."""
        steps = keras.ops.cast(self.iterations + 1, "float32")
        return self._epsilon * keras.ops.sqrt(1 - keras.ops.power(self.beta_2, steps))

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        """Set the epsilon of the paper's formula; Keras reads the property, which converts it."""
        self._epsilon = value


class Adadelta(_Added, keras.optimizers.Adadelta):
    """Adadelta.

    Reference: Zeiler 2012, "ADADELTA: An Adaptive Learning Rate Method", https://arxiv.org/abs/1212.5701
    """


class SGD(_Added, keras.optimizers.SGD):
    """SGD whose gradients are summed per word before Keras clips them by their global norm."""


SAME = SimpleNamespace(Adam=Adam, PaperAdam=PaperAdam, Adadelta=Adadelta, SGD=SGD)
STOCK = SimpleNamespace(
    Adam=keras.optimizers.Adam,
    PaperAdam=keras.optimizers.Adam,
    Adadelta=keras.optimizers.Adadelta,
    SGD=keras.optimizers.SGD,
)
