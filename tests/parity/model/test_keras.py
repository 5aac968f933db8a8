"""`python -m parity model.weights.h5` compares converted layers of a Keras file of weights with Keras's own."""

import h5py
import numpy as np
import pytest

import parity.__main__ as cli
from conversions import refusal
from jlstm.convert import hdf5_format
from jlstm.convert import keras as convert
from jlstm.layers.shapes import features_in
from parity.model import keras_weights, read
from tensorflow_modules import MARKS, keras, tf_keras

pytestmark = MARKS
PLACES = {"both": "bidirectional", "cells": "rnn", "gated": "gru", "deep": "sequential/layers/lstm"}


def model(framework):
    """Return a model with all kinds of recurrent layers, one inside another model, and one with a generator's state."""
    keras_layers = framework.layers
    inner = framework.Sequential(
        [framework.Input((None, 6)), keras_layers.LSTM(5, use_bias=False, dropout=0.5, name="deep")], name="inner"
    )
    xs = framework.Input((None, 3))
    ys = keras_layers.Bidirectional(keras_layers.GRU(4, return_sequences=True), name="both")(xs)
    ys = keras_layers.RNN([keras_layers.LSTMCell(3), keras_layers.LSTMCell(2)], return_sequences=True, name="cells")(ys)
    ys = keras_layers.GRU(6, return_sequences=True, reset_after=False, name="gated")(ys)
    whole = framework.Model(xs, keras_layers.Dense(2)(inner(ys)))
    rng = np.random.default_rng(0)
    whole.set_weights([rng.normal(0, 0.4, array.shape) for array in whole.get_weights()])
    return whole


@pytest.mark.table(quick=1)
@pytest.mark.parametrize(("framework", "name"), [(keras, "a.weights.h5"), (tf_keras, "a.weights.h5"), (tf_keras, "old.h5")])
def test_layers_are_built_from_their_weights(framework, name, capsys, tmp_path):
    """Layers go by name or, without names, by path. float64 proves the conversion, and float32 is the file's."""
    model(framework).save_weights(tmp_path / name)
    assert cli.main([str(tmp_path / name)]) == 0
    lines = capsys.readouterr().out.splitlines()
    has_names = framework is keras or name == "old.h5"
    for layer, place in PLACES.items():
        for dtype in ("float64", "float32"):
            end = layer if has_names else f"layers/{place}"
            assert any(line.startswith(f"pass       {dtype}") and line.endswith(f" {end}") for line in lines), lines


def test_weights_in_bfloat16_are_compared_in_it(capsys, tmp_path):
    """HDF5 has no bfloat16: Keras writes it as two bytes."""
    layer = keras.layers.LSTM(4, name="one", dtype="bfloat16", recurrent_initializer="glorot_uniform")
    keras.Sequential([keras.Input((None, 3)), layer]).save_weights(tmp_path / "a.weights.h5")
    assert cli.main([str(tmp_path / "a.weights.h5")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:20].split() for line in lines[1:3]] == [["pass", "float64"], ["pass", "bfloat16"]]


def test_a_wrong_conversion_is_shown(capsys, monkeypatch, tmp_path):
    """A reader that misreads numbers is caught. For this layer no faults are searched."""
    keras.Sequential([keras.Input((None, 3)), keras.layers.SimpleRNN(4)]).save_weights(tmp_path / "a.weights.h5")
    read = hdf5_format.File.array
    monkeypatch.setattr(hdf5_format.File, "array", lambda file, dataset: -read(file, dataset))
    assert cli.main([str(tmp_path / "a.weights.h5")]) == 1
    assert "fail       float64" in capsys.readouterr().out


def test_layers_of_one_name_go_by_their_paths(capsys, tmp_path):
    """Two inner models may use the same layer names, and no layer is lost."""
    keras_layers, xs = keras.layers, keras.Input((None, 3))
    inner = [
        keras.Sequential([keras_layers.LSTM(units, return_sequences=True, name="deep")], name=f"m{units}") for units in (4, 5)
    ]
    whole = keras.Model(xs, inner[1](inner[0](xs)))
    whole.save_weights(tmp_path / "a.weights.h5")
    converted = convert.read(tmp_path / "a.weights.h5")
    assert {name: features_in(*converted_layer) for name, converted_layer in converted.items()} == {
        "layers/sequential/layers/lstm": 3,
        "layers/sequential_1/layers/lstm": 4,
    }
    assert cli.main([str(tmp_path / "a.weights.h5"), "--dtype", "float64"]) == 0
    assert capsys.readouterr().out.count("pass       float64") == 2


@pytest.mark.parametrize(
    ("change", "options", "complaint"),
    [
        ({"kernel": None}, {}, "has recurrent_kernel (4, 16), bias (16,), which are not the weights of LSTM, GRU, SimpleRNN: "),
        ({"recurrent_kernel": (4, 17)}, {}, "has kernel (3, 16), recurrent_kernel (4, 17), bias (16,), which are not"),
        ({"recurrent_kernel": (3, 3, 4, 16)}, {}, "recurrent_kernel (3, 3, 4, 16)"),
        ({"recurrent_kernel": None}, {}, "has no recurrent_kernel: "),
        ({"bias": (15,)}, {}, "Keras makes no layer of the weights of 'lstm' ("),
        ({}, {"activation": "mine"}, "Keras makes no layer of the weights of 'lstm' ("),
    ],
)
def test_weights_of_no_layer_are_refused(change, options, complaint):
    """The sentence names the group and, if Keras was asked, its reason."""
    shapes = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)} | change
    arrays = {f"lstm/{role}": np.ones(shape, "f4") for role, shape in shapes.items() if shape}
    for framework in (keras, tf_keras):
        assert complaint in refusal(lambda framework=framework: keras_weights.layer(framework, arrays, "lstm", options))


def test_groups_of_one_name_are_not_confused(capsys, tmp_path):
    """A layer of another kind in an inner model may have the same name. Its weights are not taken for the layer's."""
    inner = keras.Sequential([keras.Input((None, 3)), keras.layers.Dense(3, name="same")])
    keras.Sequential([inner, keras.layers.LSTM(4, name="same")]).save_weights(tmp_path / "a.weights.h5")
    assert cli.main([str(tmp_path / "a.weights.h5")]) == 2
    assert "2 groups of the file have the name 'same', expected one" in capsys.readouterr().err


def test_a_mistake_of_parity_is_not_reported_as_one_of_the_file(monkeypatch, tmp_path):
    """Only what Keras and the file lack is a reason not to compare a layer."""
    keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4)]).save_weights(tmp_path / "a.weights.h5")
    monkeypatch.setattr(keras_weights, "_GATES", None)
    with pytest.raises(AttributeError):
        cli.main([str(tmp_path / "a.weights.h5"), "--option", "recurrent_activation=sigmoid"])


def test_cells_without_an_order_are_refused(tmp_path):
    """Such a file has cells by name, and any order would fit."""
    cells = [keras.layers.LSTMCell(4), keras.layers.GRUCell(4)]
    keras.Sequential([keras.Input((None, 4)), keras.layers.RNN(cells)]).save_weights(tmp_path / "a.weights.h5")
    complaint = refusal(lambda: convert.read(tmp_path / "a.weights.h5"))
    assert "cells of several names, 'gru_cell, lstm_cell', whose order weights alone do not tell" in complaint
    with h5py.File(tmp_path / "a.weights.h5") as file:
        assert list(file["layers/rnn/cell/cells"]) == ["gru_cell", "lstm_cell"]  # the file has only their names


def test_a_name_of_another_kind_is_refused(tmp_path):
    """Keras goes by the ending, and so refuses an archive called .h5 and HDF5 called .keras, which our reader takes."""
    network = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4)])
    for name, other in (("a.h5", "a.keras"), ("b.keras", "b.h5")):
        network.save(tmp_path / name)
        (tmp_path / name).rename(tmp_path / other)
        assert f"rename it, with the ending .{name[2:]}" in refusal(lambda other=other: read(tmp_path / other))
