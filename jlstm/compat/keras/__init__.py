"""Drop-ins for Keras 3 on JAX: change one import, or call `accelerate` on a model that you have.

`LSTM`, `GRU` and `Bidirectional` are subclasses of Keras's layers with the same arguments, weights, states and files. Only the
loop over time is different: the cells of jlstm run it.
"""

import os
import sys

# Before Keras is imported: importing it for another backend, such as TensorFlow, would take seconds.
if "keras" not in sys.modules and os.environ.get("KERAS_BACKEND", "jax") != "jax":
    raise ImportError(f"jlstm.compat.keras needs Keras on JAX, got KERAS_BACKEND={os.environ['KERAS_BACKEND']}: set it to jax")

import keras

if keras.backend.backend() != "jax":
    raise ImportError(
        f"jlstm.compat.keras needs Keras on JAX, got Keras on {keras.backend.backend()}: set the environment variable "
        "KERAS_BACKEND=jax before Keras is imported"
    )

from jlstm.compat.keras.layers import GRU, LSTM, Bidirectional
from jlstm.compat.keras.models import Explanation, Run, accelerate, explain

__all__ = ["GRU", "LSTM", "Bidirectional", "Explanation", "Run", "accelerate", "explain"]
