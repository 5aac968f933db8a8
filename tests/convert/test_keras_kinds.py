"""All recurrent layers of Keras 3 and tf-keras, read from all their files, give the outputs of Keras."""

import jax
import numpy as np
import pytest

from conversions import refusal
from jlstm.cells import ConvLSTMCell, ElmanCell
from jlstm.convert import keras as convert
from keras_models import ALL, CLOSE, LINES, PICTURES, SERIES, VOLUMES, save_model, sequential
from problems import apply
from tensorflow_modules import MARKS, keras, tf, tf_keras

pytestmark = [pytest.mark.usefixtures("x64"), *MARKS]
WINDOW = {"strides": 2, "padding": "same"}
AVERAGED = {"spatial": (6, 4), "merge": "ave"}
LAYERS = {
    "backward_layer": (
        SERIES,
        lambda keras_layers: keras_layers.Bidirectional(
            keras_layers.LSTM(4, **ALL), backward_layer=keras_layers.LSTM(4, go_backwards=True, name="other", **ALL)
        ),
        {},
    ),
    "GRU with backward_layer": (
        SERIES,
        lambda keras_layers: keras_layers.Bidirectional(
            keras_layers.GRU(4, **ALL), backward_layer=keras_layers.GRU(4, go_backwards=True, name="forward_2", **ALL)
        ),
        {},
    ),
    "named forward": (SERIES, lambda keras_layers: keras_layers.LSTM(4, name="forward", **ALL), {}),
    "named backward": (SERIES, lambda keras_layers: keras_layers.GRU(4, name="backward_gru", **ALL), {}),
    "Bidirectional named forward": (
        SERIES,
        lambda keras_layers: keras_layers.Bidirectional(keras_layers.LSTM(4, **ALL), name="forward_b", merge_mode="sum"),
        {"merge": "sum"},
    ),
    "Bidirectional cells": (
        SERIES,
        lambda keras_layers: keras_layers.Bidirectional(
            keras_layers.RNN([keras_layers.LSTMCell(4), keras_layers.LSTMCell(2)], **ALL)
        ),
        {},
    ),
    "GRUCells": (SERIES, lambda keras_layers: keras_layers.RNN([keras_layers.GRUCell(4), keras_layers.GRUCell(2)], **ALL), {}),
    "eleven SimpleRNNCells": (
        SERIES,
        lambda keras_layers: keras_layers.RNN([keras_layers.SimpleRNNCell(2) for _ in range(11)], **ALL),
        {},
    ),
    "SimpleRNN": (SERIES, lambda keras_layers: keras_layers.SimpleRNN(4, activation="relu", **ALL), {"activation": "relu"}),
    "SimpleRNN without bias": (SERIES, lambda keras_layers: keras_layers.SimpleRNN(4, use_bias=False, **ALL), {}),
    "Bidirectional SimpleRNN": (
        SERIES,
        lambda keras_layers: keras_layers.Bidirectional(keras_layers.SimpleRNN(4, **ALL), merge_mode="mul"),
        {"merge": "mul"},
    ),
    "GRU without bias": (
        SERIES,
        lambda keras_layers: keras_layers.GRU(4, use_bias=False, reset_after=False, **ALL),
        {"reset_after": False},
    ),
    "ConvLSTM1D": (LINES, lambda keras_layers: keras_layers.ConvLSTM1D(2, 3, **ALL, **WINDOW), {"spatial": (6,), **WINDOW}),
    "ConvLSTM2D": (PICTURES, lambda keras_layers: keras_layers.ConvLSTM2D(2, (3, 2), **ALL), {"spatial": (6, 4)}),
    "ConvLSTM2D with dilation": (
        PICTURES,
        lambda keras_layers: keras_layers.ConvLSTM2D(2, 2, dilation_rate=2, **ALL),
        {"spatial": (6, 4), "dilation": 2},
    ),
    "Bidirectional ConvLSTM2D": (
        PICTURES,
        lambda keras_layers: keras_layers.Bidirectional(keras_layers.ConvLSTM2D(2, 2, **ALL), merge_mode="ave"),
        AVERAGED,
    ),
    "ConvLSTM3D": (VOLUMES, lambda keras_layers: keras_layers.ConvLSTM3D(2, 2, **ALL), {"spatial": (4, 5, 6)}),
}
ENDINGS = {keras: (".keras", ".h5", ".weights.h5"), tf_keras: (".keras", ".h5", ".weights.h5", ".old.h5")}
WEIGHTS_ALONE = (".weights.h5", ".old.h5")
FRAMEWORKS = pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras", "tf_keras"])


def groups():
    """Group the kinds of layers by the options that `read` needs for them. Each group makes one model."""
    kinds = {}
    for kind, (shape, _, options) in LAYERS.items():
        kinds.setdefault((shape, *options.items()), []).append(kind)
    return list(kinds.values())


def files(framework, model, folder):
    """Write all files of a model. Return their paths by suffix."""
    return {ending: save_model(model, folder / f"model{ending}") for ending in ENDINGS[framework]}


def bits(layers):
    """Return each layer with the bytes of its parameters, in order."""
    return [(layer, [leaf.tobytes() for leaf in jax.tree.leaves(params)]) for layer, params in layers.values()]


@pytest.mark.table(quick=5)
@FRAMEWORKS
@pytest.mark.parametrize("kinds", groups(), ids=lambda kinds: ", ".join(kinds))
def test_every_layer_comes_from_every_file(framework, kinds, tmp_path):
    """The layers include both directions, stacked cells, and names that look like directions."""
    shape, _, options = LAYERS[kinds[0]]
    model = sequential(framework, [LAYERS[kind][1](framework.layers) for kind in kinds], shape)
    paths = files(framework, model, tmp_path)
    gates = {"recurrent_activation": "hard_sigmoid_0.2" if framework is tf_keras else "sigmoid"} if "spatial" in options else {}
    described = convert.read(paths[".keras"])
    assert list(described) == [layer.name for layer in model.layers]
    xs = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    for theirs, (layer, params) in zip(model.layers, described.values(), strict=True):
        expected = np.asarray(theirs(tf.constant(xs)))
        np.testing.assert_allclose(apply(layer, params, xs)[1], expected, **CLOSE)
        xs = expected
    for ending, path in paths.items():
        weights_only = ending in WEIGHTS_ALONE
        spatial = {"spatial": options["spatial"]} if ending == ".h5" and "spatial" in options else {}
        layers = convert.read(path, **(options | gates if weights_only else spatial))
        assert (layers.unused, layers.skipped, bool(layers.assumed)) == ((), {}, weights_only), ending
        same = bits(layers) if layers.in_network_order else sorted(bits(layers), key=repr)
        assert same == (bits(described) if layers.in_network_order else sorted(bits(described), key=repr)), ending


@FRAMEWORKS
def test_layers_stand_in_the_order_of_the_network(framework, tmp_path):
    """Twelve layers of one class keep their order, though some names sort otherwise."""
    names = ["z", "a", "simple_rnn_9", *(f"l{k}" for k in range(9))]
    model = sequential(framework, [framework.layers.SimpleRNN(3, name=name, **ALL) for name in names], SERIES)
    for ending, path in files(framework, model, tmp_path).items():
        layers = convert.read(path)
        assert layers.in_network_order, ending
        for theirs, (layer, params) in zip(model.layers, layers.values(), strict=True):
            for ours, array in zip(convert.dump(layer, params), theirs.get_weights(), strict=True):
                np.testing.assert_array_equal(ours, array, ending)


@FRAMEWORKS
def test_an_order_that_the_file_does_not_tell_is_not_claimed(framework, tmp_path):
    """A `.weights.h5` file numbers layers by class, so layers of several classes have no order."""
    keras_layers = framework.layers
    model = sequential(framework, [keras_layers.LSTM(3, **ALL), keras_layers.GRU(3, **ALL), keras_layers.LSTM(3, **ALL)], SERIES)
    for ending, path in files(framework, model, tmp_path).items():
        assert convert.read(path).in_network_order == (ending != ".weights.h5"), ending


def mixed(framework):
    """Return a model in which one convertible layer stands among layers that are not converted."""
    keras_layers = framework.layers

    class Mine(keras_layers.Layer):
        """A user's layer with an LSTM inside."""

        def __init__(self):
            super().__init__()
            self.inner = keras_layers.LSTM(2, **ALL)

        def call(self, xs):
            """Return the LSTM's outputs."""
            return self.inner(xs)

    xs = framework.Input((4, 7, 3))
    ys = keras_layers.TimeDistributed(keras_layers.LSTM(3, **ALL), name="timed")(xs)
    ys = keras_layers.Reshape((-1, 3))(ys)
    ys = keras_layers.LSTM(4, activation="gelu", name="gelu", **ALL)(ys)
    ys = Mine()(keras_layers.SimpleRNN(5, name="plain", **ALL)(ys))
    different = keras_layers.LSTM(3, go_backwards=True, use_bias=False, **ALL)
    ys = keras_layers.Bidirectional(keras_layers.LSTM(3, **ALL), backward_layer=different, name="unlike")(ys)
    return framework.Model(xs, keras_layers.Dense(2)(keras_layers.LSTM(2, name="good")(ys)))


@FRAMEWORKS
def test_layers_that_are_not_converted_hide_no_others(framework, tmp_path):
    """Layers that are not converted are listed with a reason and a warning; the others are read."""
    for ending, path in files(framework, mixed(framework), tmp_path).items():
        described = ending not in WEIGHTS_ALONE
        with pytest.warns(UserWarning, match="is not converted: it"):
            layers = convert.read(path)
        names = [name.split("/")[-1] for name in layers]
        if described or framework is keras:  # tf-keras numbers layers in a `.weights.h5` file and does not name them
            assert {"good", "plain"} <= set(names), ending
        reasons = " ".join(layers.skipped.values())
        assert ("gelu" in layers.skipped and "activation='gelu'" in reasons) == described, ending
        assert "TimeDistributed" in reasons or ending == ".old.h5", ending  # no array's name tells it there
        assert "backward_layer" in reasons or "two directions differ" in reasons, ending
        assert not described or any("mine" in name.lower() for name in layers.skipped), ending
        assert any("dense" in name or "kernel" in name for name in layers.unused), ending
        assert not any("lstm" in name or "/cell/" in name for name in layers.unused), ending


def test_what_has_to_be_told_is_asked_for(tmp_path):
    """A GRU without bias and a ConvLSTM need arguments. An argument that fits no layer of the file is refused."""
    keras_layers = keras.layers
    save_model(sequential(keras, [keras_layers.GRU(4, use_bias=False)], SERIES), tmp_path / "gru.weights.h5")
    assert "pass reset_after=True or False" in refusal(lambda: convert.read(tmp_path / "gru.weights.h5"))
    assert "pass reset_after=True or False" in refusal(lambda: convert.load([np.zeros((3, 12)), np.zeros((4, 12))]))
    save_model(sequential(keras, [keras_layers.ConvLSTM2D(2, 2)], PICTURES), tmp_path / "conv.weights.h5")
    assert "pass recurrent_activation=" in refusal(lambda: convert.read(tmp_path / "conv.weights.h5", spatial=(6, 4)))
    assert "pass them as spatial" in refusal(lambda: convert.read(tmp_path / "conv.weights.h5", recurrent_activation="sigmoid"))
    save_model(sequential(keras, [keras_layers.SimpleRNN(4)], SERIES), tmp_path / "rnn.weights.h5")
    complaint = refusal(lambda: convert.read(tmp_path / "rnn.weights.h5", recurrent_activation="sigmoid"))
    assert "is an option of LSTM and GRU and ConvLSTM layers, the file has RNN layers" in complaint


def test_simple_and_convolutional_layers_go_back():
    """Keras's `set_weights` takes what `dump` returns, and `load` reads it back."""
    rng = np.random.default_rng(0)
    for arrays, options, cell in (
        ([(3, 4), (4, 4), (4,)], {}, ElmanCell),
        ([(2, 2, 3, 8), (2, 2, 2, 8), (8,)], {"spatial": (5, 4)}, ConvLSTMCell),
    ):
        weights = [rng.normal(size=shape) for shape in arrays]
        layer, params = convert.load(weights, **options)
        assert isinstance(layer.cell, cell)
        for again, array in zip(convert.dump(layer, params), weights, strict=True):
            np.testing.assert_array_equal(again, array)
