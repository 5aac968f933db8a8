"""`python -m parity model.keras` compares whole models, and names the first layer that differs."""

from functools import partial

import numpy as np
import pytest

from jlstm.convert.keras_graph import core
from parity.model import keras_whole, keras_whole_run, read
from tensorflow_modules import MARKS, keras

pytestmark = MARKS


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model with a mask, and its file."""
    layers = keras.layers
    words = keras.Input((None,))
    ys = layers.SimpleRNN(3, name="rnn", return_sequences=True)(layers.Embedding(9, 4, mask_zero=True)(words))
    head = layers.Dense(3, name="head", bias_initializer="ones")(layers.GlobalAveragePooling1D()(ys))
    model = keras.Model(words, [layers.Dense(2, name="tail")(head), ys])
    model.save(path := tmp_path_factory.mktemp("whole") / "a.keras")
    return path, partial(keras_whole_run.run, model)


def test_a_model_is_the_same_here_and_there(small):
    """Both outputs agree in float64, with padding where the lengths say so."""
    path, run = small
    lengths = (4, 2, 1)
    comparison = keras_whole.compare(path, "keras", run, lengths)
    assert comparison.verdict == "pass"
    assert comparison.diagnosis is None
    assert [quantity.name for quantity in comparison.quantities] == ["outputs.0", "outputs.1"]
    assert max(quantity.ours for quantity in comparison.quantities) < 1e-12
    (words,) = run(lengths).inputs
    np.testing.assert_array_equal((words != 0).sum(1), lengths)


def test_the_first_layer_that_differs_is_named(small, monkeypatch):
    """Without the biases of dense layers, "head" is the first layer with other outputs."""
    monkeypatch.setattr(core, "plus_bias", lambda y, params: y)
    comparison = keras_whole.compare(small[0], "keras", small[1], None)
    assert comparison.verdict == "fail"
    assert "the first layer that differs is 'head' (outputs, head, tail differ)" in str(comparison.diagnosis)
    assert [quantity.name for quantity in comparison.quantities] == ["outputs.0", "outputs.1", "head"]


def test_outputs_of_another_shape_or_with_nan_fail():
    """NaN passes only where the truth is NaN too."""
    truth = np.array([1.0, np.nan])
    for value, verdict in {(1.0, np.nan): "pass", (np.nan, np.nan): "fail", (1.0, 2.0): "fail", (1.0,): "fail"}.items():
        assert keras_whole.quantity("ys", np.array(value), truth).verdict == verdict


def test_a_model_with_a_layer_that_is_not_known_is_compared_by_layer(tmp_path):
    """The report says that the whole model was not compared, and why."""
    xs = keras.Input((None, 3))
    ys = keras.layers.SimpleRNN(3, return_sequences=True)(xs)
    keras.Model(xs, keras.layers.Attention()([ys, ys])).save(tmp_path / "a.keras")
    file = read(tmp_path / "a.keras")
    assert file.compare_whole is None
    assert any("the whole model is right, which was not compared:" in line and "'Attention'" in line for line in file.assumed)


def test_a_model_that_keras_cannot_run_in_float64_is_named(small):
    """The reason is in the message."""
    with pytest.raises(ValueError, match=r"^Keras cannot run it in float64 \("):
        keras_whole_run.run(object(), None)
