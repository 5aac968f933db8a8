"""The tests in `keras` need Keras on JAX. A process has one backend of Keras, so `test_keras.py` runs them in another process."""

import os

collect_ignore = [] if os.environ.get("KERAS_BACKEND") == "jax" else ["keras"]
