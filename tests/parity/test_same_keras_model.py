"""`parity.assert_same_model` with a model of Keras on TensorFlow."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from parity import assert_same_model
from tensorflow_modules import MARKS, keras

pytestmark = MARKS


def test_whole_models_of_keras_are_compared_with_their_gradients():
    """`assert_same_model` calls a model of Keras on TensorFlow with tensors, and differentiates it."""
    original = keras.Sequential([keras.layers.Dense(2, "tanh")])
    xs = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    original(xs)
    kernel, bias = original.get_weights()
    assert assert_same_model(lambda xs: jnp.tanh(xs @ kernel + bias[None]), original, xs) == ("outputs", "d_inputs[0]")
    with pytest.raises(AssertionError, match=r"1 of 2 results differ:\nd_inputs\[0\]"):
        assert_same_model(lambda xs: jnp.tanh(lax.stop_gradient(xs) @ kernel + bias[None]), original, xs)
