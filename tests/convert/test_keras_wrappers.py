"""Keras: a layer inside a wrapper that may change its weights or its axes is skipped by name."""

import pytest

from conversions import refusal
from jlstm.convert import keras as convert
from tensorflow_modules import MARKS, keras, tf_keras

pytestmark = MARKS


def wrapper(framework):
    """Return a class of layers that scale the weights of the layer inside, as a weight normalization does."""

    class Scaled(framework.layers.Wrapper):
        """A wrapper with an array of its own."""

        def build(self, input_shape=None):
            """Make the array."""
            super().build(input_shape)
            self.gain = self.add_weight(name="gain", shape=(16,), initializer="ones")

        def call(self, xs):
            """Scale the kernel, then call the layer inside."""
            self.layer.cell.kernel.assign(self.layer.cell.kernel * self.gain)
            return self.layer(xs)

    return Scaled


@pytest.mark.parametrize(
    ("framework", "ending", "reason"),
    [
        (keras, ".weights.h5", "inside a wrapper that has the array 'layers/scaled/vars/0'"),
        (keras, ".h5", "it is of class 'Scaled'"),
        (tf_keras, ".weights.h5", "inside a wrapper that has the array 'layers/scaled/vars/0'"),
        (tf_keras, ".old.h5", "it has the array 'scaled/scaled/gain:0' besides"),
    ],
    ids=["keras weights", "keras h5", "tf_keras weights", "tf_keras old weights"],
)
def test_a_layer_in_a_wrapper_with_arrays_is_not_taken_out_of_it(framework, ending, reason, tmp_path):
    """The layer is skipped, because the wrapper may change its weights."""
    inner = framework.layers.LSTM(4, name="inner")
    model = framework.Sequential([framework.Input((None, 3)), wrapper(framework)(inner, name="scaled")])
    path = tmp_path / f"model{ending}"
    if ending == ".h5":
        model.save(path)
    else:
        model.save_weights(path, **({"save_format": "h5"} if "old" in ending else {}))
    assert reason in refusal(lambda: convert.read(path))


@pytest.mark.parametrize("wrapped_layer", ["LSTM", "Sequential"])
def test_layers_within_time_distributed_are_skipped(wrapped_layer, tmp_path):
    """They run along another axis, whether directly inside or in a model inside."""
    keras_layers = keras.layers
    inner = keras_layers.LSTM(4) if wrapped_layer == "LSTM" else keras.Sequential([keras.Input((5, 3)), keras_layers.LSTM(4)])
    model = keras.Sequential([keras.Input((2, 5, 3)), keras_layers.TimeDistributed(inner)])
    model.save_weights(tmp_path / "a.weights.h5")
    model.save(tmp_path / "a.keras")
    for name in ("a.weights.h5", "a.keras"):
        assert "TimeDistributed" in refusal(lambda name=name: convert.read(tmp_path / name))
