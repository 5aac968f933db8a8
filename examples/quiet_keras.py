"""Keras on TensorFlow, imported for 00_demo.py without the notes that TensorFlow writes at its start."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any


def import_keras() -> tuple[Any, Any]:
    """Return the modules keras and tensorflow, set to compute in float32 on the CPU.

    Raises:
        ImportError: TensorFlow or Keras cannot be imported, or Keras already runs on something else.
    """
    os.environ |= {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    try:
        with _silent_stderr():
            import keras

            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                return keras, tf
    except ImportError as error:
        raise ImportError(f"TensorFlow cannot be imported ({error}): pip install 'jlstm[parity]'") from error
    raise ImportError(f"Keras runs on {keras.backend.backend()}, not on TensorFlow: set KERAS_BACKEND=tensorflow")


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send what C++ writes to stderr nowhere: TensorFlow's notes on missing GPUs heed no setting. Exceptions pass."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
