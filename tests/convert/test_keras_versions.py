"""Weights that older versions of Keras and TensorFlow wrote: cuDNN layers, other defaults, other names of cells."""

import h5py
import numpy as np
import pytest

from conversions import refusal
from jlstm.convert import keras as convert
from keras_models import ALL, CLOSE, SERIES, save_model, sequential
from problems import apply, normal
from tensorflow_modules import MARKS, tf, tf_keras

pytestmark = [pytest.mark.usefixtures("x64"), *MARKS]


@pytest.mark.parametrize(
    ("kind", "bidirectional"),
    [
        ("LSTM", True),
        ("GRU", False),
        pytest.param("LSTM", False, marks=pytest.mark.slow),
        pytest.param("GRU", True, marks=pytest.mark.slow),
    ],
)
def test_weights_of_cudnn_are_read(kind, bidirectional, tmp_path):
    """Only a GPU runs TensorFlow 1's cuDNN layers. The oracle is the tf-keras layer that loads the same weights."""
    keras_layers = tf_keras.layers
    from tf_keras.src.layers.rnn import cudnn_gru, cudnn_lstm  # tf-keras has no public name for them

    cudnn_layer = {"LSTM": cudnn_lstm.CuDNNLSTM, "GRU": cudnn_gru.CuDNNGRU}[kind](4, **ALL)
    theirs = getattr(keras_layers, kind)(4, **ALL)
    if bidirectional:
        cudnn_layer, theirs = keras_layers.Bidirectional(cudnn_layer, name="a"), keras_layers.Bidirectional(theirs, name="a")
    model = tf_keras.Sequential([tf_keras.Input((None, 3)), cudnn_layer])
    model.set_weights(normal(model.get_weights(), rng=np.random.default_rng(0)))
    model.save_weights(tmp_path / "old.h5", save_format="h5")
    model.save_weights(tmp_path / "new.weights.h5")
    model.save(tmp_path / "whole.h5")
    plain = tf_keras.Sequential([tf_keras.Input((None, 3)), theirs])
    plain.load_weights(tmp_path / "old.h5")
    xs = np.random.default_rng(1).normal(size=(2, *SERIES)).astype(np.float32)
    for name in ("old.h5", "new.weights.h5", "whole.h5"):
        layers = convert.read(tmp_path / name)
        ((layer, params),) = layers.values()
        np.testing.assert_allclose(apply(layer, params, xs)[1], np.asarray(plain(tf.constant(xs))), **CLOSE)
        assert not any("activation" in sentence for sentence in layers.assumed)
    layer, params = convert.load(model.get_weights())
    np.testing.assert_allclose(apply(layer, params, xs)[1], np.asarray(plain(tf.constant(xs))), **CLOSE)


@pytest.fixture(scope="module")
def old_weights(tmp_path_factory):
    """A file of an LSTM's and a GRU's weights as Keras 2 writes it."""
    layers = [tf_keras.layers.LSTM(4, **ALL), tf_keras.layers.GRU(3, **ALL)]
    return save_model(sequential(tf_keras, layers, SERIES), tmp_path_factory.mktemp("weights") / "model.old.h5")


@pytest.mark.parametrize(
    ("version", "gates"),
    [
        *((version, "hard_sigmoid_0.2") for version in ("2.0.8", "2.2.0", "2.2.4", "2.1.6-tf")),
        *((version, "sigmoid") for version in ("2.3.0", "2.3.0-tf", "2.4.0", "2.10.1", "2.21.0")),
        *((version, None) for version in ("2.2.4-tf", "", "two", None)),
    ],
)
def test_gates_are_those_of_the_version_that_wrote_the_weights(old_weights, version, gates, tmp_path):
    """Keras 2.3 and TensorFlow 2.0 changed the default. Where the version decides nothing, `read` asks."""
    path = tmp_path / "a.h5"
    path.write_bytes(old_weights.read_bytes())
    with h5py.File(path, "a") as file:
        del file.attrs["keras_version"]
        if version is not None:
            file.attrs["keras_version"] = version
    if gates is None:
        assert "pass recurrent_activation='sigmoid' or 'hard_sigmoid_0.2'" in refusal(lambda: convert.read(path))
    layers = convert.read(path, **({"recurrent_activation": "sigmoid"} if gates is None else {}))
    assert any("recurrent_activation" in sentence for sentence in layers.assumed) == (gates is not None)
    assert [layer.cell.recurrent_activation for layer, _ in layers.values()] == [gates or "sigmoid"] * 2


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("depth", [1, 2])
def test_cells_that_tensorflow_numbered_are_read(whole, depth, tmp_path):
    """TensorFlow 2.2 numbered cells throughout a program, so directions have different numbers, and 9 precedes 10."""
    keras_layers = tf_keras.layers
    inner = (
        keras_layers.LSTM(4, **ALL)
        if depth == 1
        else keras_layers.RNN([keras_layers.LSTMCell(4), keras_layers.LSTMCell(4)], name="lstm", **ALL)
    )
    ending = ".h5" if whole else ".old.h5"
    model = sequential(tf_keras, [keras_layers.Bidirectional(inner, name="bi")], SERIES)
    save_model(model, tmp_path / f"a{ending}")
    top = "model_weights/bi" if whole else "bi"
    with h5py.File(tmp_path / f"a{ending}", "a") as file:
        names = [word.decode() if isinstance(word, bytes) else word for word in file[top].attrs["weight_names"]]
        cells = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
        numbers = {cell: f"{cell.rpartition('/')[0]}/lstm_cell_{8 + k + k // depth}" for k, cell in enumerate(cells)}
        renamed = [f"{numbers[name.rpartition('/')[0]]}/{name.rpartition('/')[2]}" for name in names]
        arrays = [file[f"{top}/{name}"][()] for name in names]
        del file[f"{top}/bi"]
        for name, array in zip(renamed, arrays, strict=True):
            file[f"{top}/{name}"] = array
        file[top].attrs["weight_names"] = [name.encode() for name in renamed]
    ((layer, params),) = convert.read(tmp_path / f"a{ending}").values()
    xs = np.random.default_rng(1).normal(size=(2, *SERIES)).astype(np.float32)
    np.testing.assert_allclose(apply(layer, params, xs)[1], np.asarray(model(tf.constant(xs))), **CLOSE)
