"""Keras files whose layers are not Keras's own, or that were changed after they were written, and files that are right.

Each writer takes Keras 3 or tf-keras and a path.
"""

import h5py
import numpy as np


def save(framework, path, *layers, shape=(None, 3), dtype="float32"):
    """Write a model of these layers, with random weights."""
    model = framework.Sequential([framework.Input(shape, dtype=dtype), *layers])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.4, array.shape) for array in model.get_weights()])
    (model.save if path.stem == "model" else model.save_weights)(path)
    return path


def custom_cell(framework, path):
    """A custom cell with the name of Keras's cell."""

    class LSTMCell(framework.layers.LSTMCell):
        def call(self, inputs, states, training=None):
            return super().call(inputs, [2 * state for state in states], training=training)

    return save(framework, path, framework.layers.RNN(LSTMCell(4), name="rnn"))


def custom_layer(framework, path):
    """A custom layer called LSTM."""

    class LSTM(framework.layers.LSTM):
        def call(self, sequences, initial_state=None, mask=None, training=False):
            return -super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    return save(framework, path, LSTM(4, name="rnn"))


def custom_activation(framework, path):
    def squared(x):
        return x * x

    return save(framework, path, framework.layers.LSTM(4, activation=squared, name="rnn"))


def lambda_beside(framework, path):
    keras_layers = framework.layers
    return save(framework, path, keras_layers.LSTM(4, return_sequences=True, name="rnn"), keras_layers.Lambda(lambda xs: -xs))


def distributed(framework, path):
    """A layer inside TimeDistributed, followed by a plain one."""
    keras_layers = framework.layers
    inner = keras_layers.TimeDistributed(keras_layers.LSTM(4), name="each")
    return save(framework, path, inner, keras_layers.LSTM(4, name="rnn"), shape=(2, 5, 3))


def channels_first(framework, path):
    keras_layers = framework.layers
    inner = keras_layers.ConvLSTM1D(2, 3, data_format="channels_first", name="conv")
    return save(framework, path, inner, keras_layers.LSTM(4, name="rnn"), shape=(2, 3, 6))


def mixed_directions(framework, path):
    keras_layers = framework.layers
    backward = keras_layers.LSTM(4, go_backwards=True, activation="relu")
    return save(framework, path, keras_layers.Bidirectional(keras_layers.LSTM(4), backward_layer=backward, name="both"))


def further(framework, path):
    """A normalization's gain lies in the folder of the cell's weights, where Keras would not look."""
    save(framework, path, framework.layers.LSTM(4, name="rnn"))
    with h5py.File(path, "r+") as file:
        folders = {}
        file.visititems(lambda location, item: folders.update({location: item}) if isinstance(item, h5py.Dataset) else None)
        folder = next(location for location, item in folders.items() if item.shape == (4, 16)).rpartition("/")[0]
        file[f"{folder}/gain"] = np.full(16, 2.0, "f4")
    return path


def beside(framework, path):
    """The file has the weights of another cell, which the model does not have."""
    save(framework, path, framework.layers.LSTM(4, name="rnn"))
    with h5py.File(path, "r+") as file:
        base = file.get("model_weights", file)
        base["decoder/gru_cell/recurrent_kernel"] = np.ones((4, 12), "f4")
    return path


def without_backward(framework, path):
    """The weights of the backward direction are gone."""
    keras_layers = framework.layers
    save(framework, path, keras_layers.Bidirectional(keras_layers.LSTM(4), name="both"))
    with h5py.File(path, "r+") as file:
        places = []
        file.visit(lambda location: places.append(location) if location.rsplit("/", 1)[-1].startswith("backward") else None)
        for location in sorted(places, key=len)[:1]:
            del file[location]
    return path


def of_two_defaults(framework, path):
    """Weights without a description, of a version with two defaults."""
    save(framework, path, framework.layers.LSTM(4, name="rnn"))
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = b"2.2.4-tf"
    return path


def gru_without_bias(framework, path):
    """The weights of a GRU without bias do not tell where it resets."""
    return save(framework, path, framework.layers.GRU(4, use_bias=False, name="rnn"))


WRONG = {  # the writer, the file, which as model.keras and model.h5 has the whole model, and the frameworks
    "custom cell": (custom_cell, "model.keras", "keras tf_keras"),
    "custom layer": (custom_layer, "model.keras", "keras tf_keras"),
    "custom activation": (custom_activation, "model.keras", "keras tf_keras"),
    "Lambda": (lambda_beside, "model.keras", "keras"),
    "TimeDistributed beside an LSTM": (distributed, "model.keras", "keras tf_keras"),
    "TimeDistributed in HDF5": (distributed, "model.h5", "keras"),
    "convolution with channels first": (channels_first, "model.keras", "keras"),
    "another function backwards": (mixed_directions, "model.keras", "keras"),
    "more in a layer's folder": (further, "model.h5", "keras tf_keras"),
    "more in a folder of weights alone": (further, "model.weights.h5", "keras"),
    "another cell": (beside, "model.h5", "keras tf_keras"),
    "another cell beside weights alone": (beside, "model.weights.h5", "keras"),
    "no backward direction": (without_backward, "model.weights.h5", "keras"),
    "no backward direction in a whole model": (without_backward, "model.h5", "tf_keras"),
    "two defaults": (of_two_defaults, "old.h5", "tf_keras"),
    "reset gate not told": (gru_without_bias, "model.weights.h5", "keras"),
}


def words(framework, path):
    """A model on words with padding, which the embedding masks."""
    keras_layers = framework.layers
    layers = (
        keras_layers.Embedding(9, 3, mask_zero=True),
        keras_layers.Bidirectional(keras_layers.LSTM(4, return_sequences=True), name="both"),
        keras_layers.GRU(2),
    )
    return save(framework, path, *layers, shape=(None,), dtype="int32")


def masked(framework, path):
    """A model that masks steps by their value. The outputs of its backward layer stay in reverse order."""
    keras_layers = framework.layers
    return save(
        framework,
        path,
        keras_layers.Masking(0.0),
        keras_layers.GRU(4, go_backwards=True, return_sequences=True),
        keras_layers.Dense(2),
    )


def plain(framework, path):
    keras_layers = framework.layers
    return save(
        framework,
        path,
        keras_layers.LSTM(4, return_sequences=True),
        keras_layers.SimpleRNN(3, activation="relu"),
        keras_layers.Dense(2),
    )


RIGHT = {
    "words": (words, "model.keras", "keras"),
    "masked, backwards": (masked, "model.h5", "tf_keras"),
    "LSTM and SimpleRNN": (plain, "model.keras", "keras"),
    "weights alone": (plain, "model.weights.h5", "keras"),
}
