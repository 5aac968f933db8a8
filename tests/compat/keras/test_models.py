"""The drop-ins in models: training, files, and the replacement of layers."""

import doctest
import json
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from jlstm.compat.keras import GRU, LSTM, Bidirectional, accelerate, explain
from jlstm.convert.keras import read

# Keras's own code mixes dtypes, and its variables have an old `__array__`.
pytestmark = [pytest.mark.loose, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(1, 20, (4, 6)) * (np.arange(6) < np.array([6, 4, 1, 5])[:, None])  # 0 is padding
LABELS = RNG.normal(size=(4, 2)).astype("float32")
KERAS = "it has not been replaced, call accelerate on the model"


def classifier():
    """Return a model of Keras's layers with masks, two directions, a layer that returns states, and a layer in a wrapper."""
    tokens = keras.Input((6,))
    xs = keras.layers.Embedding(20, 5, mask_zero=True)(tokens)
    ys = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True), name="both")(xs)
    _, state = keras.layers.GRU(4, return_state=True, name="gru")(ys)
    windows = keras.layers.Reshape((2, 3, 5))(keras.layers.Embedding(20, 5)(tokens))
    last = keras.layers.TimeDistributed(keras.layers.LSTM(2), name="windows")(windows)
    return keras.Model(tokens, keras.layers.Dense(2)(keras.layers.Concatenate()([state, keras.layers.Flatten()(last)])))


@pytest.fixture(scope="module")
def trained():
    """Return a model of Keras that has been trained for one batch, and the same model, accelerated before that."""
    models = []
    for change in (lambda model: model, accelerate):
        keras.utils.set_random_seed(0)
        model = classifier()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        model.predict(TOKENS, verbose=0)  # compiled before the layers are replaced
        assert change(model) is model
        model.fit(TOKENS, LABELS, batch_size=4, epochs=2, verbose=0)
        models.append(model)
    return models


def test_training_is_the_same(trained):
    """Two steps of `fit` give the same weights and predictions, up to rounding of float32."""
    theirs, ours = trained
    assert [run.obstacle for run in explain(theirs).runs] == [KERAS] * 4
    assert [run.obstacle for run in explain(ours).runs] == [""] * 4
    for actual, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.predict(TOKENS, verbose=0), theirs.predict(TOKENS, verbose=0), rtol=0, atol=1e-5)


def test_files_go_both_ways(trained, tmp_path):
    """A file of either model names only Keras's classes, and loads into Keras and into the drop-ins."""
    theirs, ours = trained
    for model, name in ((theirs, "theirs"), (ours, "ours")):
        model.save(tmp_path / f"{name}.keras")
        config = zipfile.ZipFile(tmp_path / f"{name}.keras").read("config.json").decode()
        assert "jlstm" not in config
        classes = {(layer["module"], layer["class_name"]) for layer in json.loads(config)["config"]["layers"]}
        assert {("keras.layers", "Bidirectional"), ("keras.layers", "GRU")} <= classes
    plain = keras.saving.load_model(tmp_path / "ours.keras")
    assert [run.obstacle for run in explain(plain).runs] == [KERAS] * 4
    fast = accelerate(keras.saving.load_model(tmp_path / "theirs.keras"))
    for model, original in ((plain, ours), (fast, theirs)):
        np.testing.assert_allclose(model.predict(TOKENS, verbose=0), original.predict(TOKENS, verbose=0), rtol=0, atol=1e-6)


def test_changed_imports_make_the_same_model(tmp_path):
    """Bidirectional has drop-ins inside it, also after `clone_model`. Its file loads into Keras and jlstm."""
    layers = [
        Bidirectional(LSTM(3, return_sequences=True)),
        Bidirectional(keras.layers.GRU(2), backward_layer=GRU(2, go_backwards=True)),
    ]
    model = keras.Sequential([keras.Input((6, 5)), *layers])
    for copy in (model, keras.models.clone_model(model)):
        assert [run.obstacle for run in explain(copy).runs] == [""] * 4
    model.save(tmp_path / "model.keras")
    xs = RNG.normal(size=(2, 6, 5)).astype("float32")
    np.testing.assert_allclose(
        keras.saving.load_model(tmp_path / "model.keras").predict_on_batch(xs), model.predict_on_batch(xs), rtol=0, atol=1e-6
    )
    assert len(read(tmp_path / "model.keras")) == 2


class Custom(keras.Model):
    """A model with layers in a list, in a nested model and in a custom layer."""

    def __init__(self):
        super().__init__()
        self.nested = keras.Sequential([keras.layers.LSTM(2, return_sequences=True)])
        self.listed = [keras.layers.GRU(2), type("Mine", (keras.layers.LSTM,), {})(2), keras.layers.SimpleRNN(2)]

    def call(self, xs):
        return sum(layer(self.nested(xs)) for layer in self.listed)


def test_all_layers_are_looked_at():
    """`accelerate` finds layers in subclassed and nested models. It leaves subclasses and other layers, and `explain` says so."""
    model = accelerate(Custom())
    reasons = {run.kind: run.obstacle for run in explain(model).runs}
    assert reasons["LSTM"] == reasons["GRU"] == ""
    assert reasons["Mine"] == reasons["SimpleRNN"] != ""
    assert "lstm: LSTM is run by jlstm" in str(explain(accelerate(keras.layers.LSTM(2, name="lstm"))))


@pytest.mark.parametrize(
    ("error", "words", "model"),
    [
        (TypeError, "model must be a Layer such as a keras.Model, got 3", lambda: 3),
        (ValueError, "'dense' has no keras.layers.LSTM, GRU or Bidirectional", lambda: keras.layers.Dense(2, name="dense")),
    ],
)
def test_what_cannot_be_accelerated_is_refused(error, words, model):
    """Anything but a model with such layers is refused in one sentence."""
    with pytest.raises(error, match=words):
        accelerate(model())


def test_states_last_from_batch_to_batch(tmp_path):
    """With stateful=True, two calls of `predict` on halves give what one run gives, until the states are reset."""
    layer = LSTM(3, stateful=True, return_sequences=True)
    model = keras.Sequential([keras.Input(batch_shape=(2, 3, 5)), layer])
    model.compile("sgd", "mse")
    xs = RNG.normal(size=(2, 6, 5)).astype("float32")
    whole = keras.layers.LSTM(3, return_sequences=True)
    whole.build(xs.shape)
    whole.set_weights(layer.get_weights())
    expected = whole(xs)
    for _ in range(2):
        halves = [model.predict_on_batch(half) for half in np.split(xs, 2, 1)]
        np.testing.assert_allclose(np.concatenate(halves, 1), expected, rtol=0, atol=1e-6)
        layer.reset_state()
    model.fit(xs[:, :3], np.zeros((2, 3, 3)), batch_size=2, verbose=0)
    assert np.abs(layer.states[0]).max() > 0
    model.save(tmp_path / "model.keras")  # Keras's layers have no variables for states in files
    assert len(keras.saving.load_model(tmp_path / "model.keras").weights) == 3


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")  # the model is saved before training
def test_the_page_runs(tmp_path, monkeypatch):
    """The code of the page on Keras models runs, and jlstm runs all recurrent layers of its model."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[3] / "docs" / "compat_keras.md").read_text(encoding="utf-8")
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), scope := {})
    assert [run.obstacle for run in explain(scope["model"]).runs] == [""] * 3


@pytest.mark.parametrize("documented", [LSTM, accelerate])
def test_the_examples_of_docstrings_run(documented):
    """The examples print what they say."""
    (example,) = doctest.DocTestFinder(recurse=False).find(documented, globs={})
    assert doctest.DocTestRunner().run(example) == (0, 4)
