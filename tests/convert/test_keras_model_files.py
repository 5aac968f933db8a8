"""Models read from files written here: refusals, dropout, inputs, and layers that are not recurrent."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conversions import refusal
from jlstm.convert import keras as convert
from keras_files import layer, write

RNG = np.random.default_rng(0)
LSTM = {
    "units": 2, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "return_sequences": True,
    "return_state": False, "go_backwards": False, "zero_output_for_mask": False,
}  # fmt: skip
LSTM_ARRAYS = {f"lstm/cell/vars/{k}": RNG.normal(size=shape) for k, shape in enumerate([(3, 8), (2, 8), (8,)])}
DENSE = {"units": 2, "activation": "linear", "use_bias": True}
DENSE_ARRAYS = {"dense/vars/0": RNG.normal(size=(3, 2)), "dense/vars/1": RNG.normal(size=(2,))}
X = RNG.normal(size=(4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (layer("Lambda"), "its layer 'x' is of class 'Lambda', and it is code, which is not run here: save the model without it"),
        (layer("Attention"), "'Attention', and it is not known here: run the layers before and behind it as two models"),
        (layer("Dense", module="mine", **DENSE), "it is 'Dense' of the module 'mine', not Keras's Dense"),
        (layer("Dense", lora_rank=4, **DENSE), "it has the option 'lora_rank'='4', which is not known here"),
        (layer("Dense", **DENSE | {"activation": "sparsemax"}), "it has activation='sparsemax', which is not known here: use"),
        (layer("Dense", **DENSE | {"dtype": "mixed_bfloat16"}), "the dtype policy 'mixed_bfloat16': pass dtype='float32'"),
        (layer("LayerNormalization", axis=-1, rms_scaling=True), "it has rms_scaling='True', which is not known here"),
        (
            layer("Flatten", data_format="channels_first"),
            "it has data_format='channels_first': build the model with channels_last",
        ),
        (layer("Rescaling", scale=[1.0], offset=0.0), "it has a list of scales or offsets: scale the inputs yourself"),
        (layer("LSTM", **LSTM, stateful=True), "it has stateful=True: save the model with stateful=False"),
        (layer("LSTM", **LSTM | {"activation": "gelu"}), "it has activation='gelu', which is not ours"),
        (layer("TimeDistributed", layer=layer("GRU", **LSTM)), "it is TimeDistributed around 'GRU': take it apart"),
        (layer("Cumsum", module="keras.src.ops.numpy"), "it is the operation 'Cumsum', which is not known here: run what is"),
    ],
    ids=lambda value: value["class_name"] if isinstance(value, dict) else "",
)
def test_what_is_not_known_is_refused_by_name(tmp_path, bad, sentence):
    """The message names the layer and its class, and says what to do."""
    path = write(tmp_path / "a.keras", layer("LSTM", "first", **LSTM), bad, arrays=LSTM_ARRAYS | {
        name.replace("lstm/", "lstm_1/"): array for name, array in LSTM_ARRAYS.items()} | DENSE_ARRAYS)  # fmt: skip
    if sentence.startswith("it has activation='gelu'"):
        with pytest.warns(UserWarning, match="'x' is not converted"):
            assert convert.read(path).keys() == {"first"}
    assert sentence in refusal(lambda: convert.model(path))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"class_name": "Mine"}, "it is a model of the class 'Mine': save it as a functional model"),
        ({"layers": None}, "has a description that is not as Keras writes it"),
        (
            {"class_name": "Functional"},
            "has a description that is not as Keras writes it (KeyError('input_layers')): save it again",
        ),
    ],
    ids=str,
)
def test_other_models_are_refused(tmp_path, options, sentence):
    """Custom classes and damaged configurations are refused in one sentence."""
    assert sentence in refusal(lambda: convert.model(write(tmp_path / "a.keras", **options)))


def test_a_file_of_weights_is_refused(tmp_path):
    """A file of weights does not tell the model."""
    write(tmp_path / "a.keras", arrays=LSTM_ARRAYS)
    assert "holds weights alone" in refusal(lambda: convert.model(tmp_path / "a.weights.h5"))


@pytest.mark.parametrize("arrays", [{}, DENSE_ARRAYS | {"dense/vars/2": np.ones(2)}, {"dense/vars/1": np.ones(2)}], ids=len)
def test_missing_and_additional_arrays_are_refused(tmp_path, arrays):
    """A layer has exactly the arrays of its class."""
    path = write(tmp_path / "a.keras", layer("Dense", "dense", **DENSE), arrays=arrays)
    assert "'dense' should have the arrays kernel, bias, and the file has" in refusal(lambda: convert.model(path))


@pytest.mark.parametrize(
    ("calls", "sentence"),
    [
        ([{"args": [["input", 0, 0]], "kwargs": {"training": True}}], "it is called with training=True: save the model without"),
        ([{"args": [["input", 0, 0]], "kwargs": {"scale": 2}}], "it is called with the argument 'scale', which is not known"),
        ([{"args": [["input", 0, 0], 2], "kwargs": {}}], "it is called with a constant: make the constant an input"),
        (
            [{"args": [["other", 0, 0]], "kwargs": {}}],
            "its call of 'dense' takes inputs from no other call: save the model again",
        ),
    ],
    ids=["training", "argument", "constant", "missing"],
)
def test_calls_that_are_not_known_are_refused(tmp_path, calls, sentence):
    """A functional model may call a layer with arguments that change what it computes."""
    for call in calls:
        call["args"] = [
            {"class_name": "__keras_tensor__", "config": {"keras_history": arg}} if isinstance(arg, list) else arg
            for arg in call["args"]
        ]
    dense = layer("Dense", "dense", **DENSE) | {"inbound_nodes": calls}
    ends = {"input_layers": ["input", 0, 0], "output_layers": ["dense", 0, 0]}
    path = write(tmp_path / "a.keras", dense, arrays=DENSE_ARRAYS, class_name="Functional", **ends)
    assert sentence in refusal(lambda: convert.model(path))


@pytest.mark.parametrize(
    ("noise", "mean", "variance"),
    [
        (layer("Dropout", rate=0.25), 1, 1 / 3),
        (layer("SpatialDropout1D", rate=0.25), 1, 1 / 3),
        (layer("GaussianDropout", rate=0.25), 1, 1 / 3),
        (layer("GaussianNoise", stddev=0.5), 1, 0.25),
        (layer("Dropout", rate=1.0), 0, 0),
    ],
    ids=lambda value: value["class_name"] if isinstance(value, dict) else "",
)
def test_a_key_turns_noise_on(tmp_path, noise, mean, variance):
    """With a key, ones have the mean and variance of the layer's distribution. Without one, they stay as they are."""
    model = convert.model(write(tmp_path / "a.keras", noise, shape=(None, 50, 30)))
    ones = jnp.ones((40, 50, 30))
    assert (model.apply({}, ones) == 1).all()
    noisy = model.apply({}, ones, key=jax.random.key(0))
    # 1200 independent values for a mask that is the same at all steps, and 60,000 for others.
    np.testing.assert_allclose([noisy.mean(), noisy.var()], [mean, variance], atol=0.05)
    assert (noisy[:, :1] == noisy).all() == (noise["class_name"] == "SpatialDropout1D" or not variance)


def test_two_dropout_layers_draw_different_masks(tmp_path):
    """Each call has random numbers of its own, and a recurrent layer gets the key too."""
    layers = [layer("Dropout", "a", rate=0.5), layer("Dropout", "b", rate=0.5), layer("LSTM", "c", **LSTM, dropout=0.5)]
    model = convert.model(write(tmp_path / "a.keras", *layers, arrays=LSTM_ARRAYS))
    outputs = model.outputs(model.params, jnp.ones((4, 30, 3)), key=jax.random.key(0))
    assert set(np.unique(outputs["b"])) == {0, 2, 4} - {2}
    assert 0.1 < np.mean(np.asarray(outputs["b"]) == 4) < 0.4  # a quarter passes both, not a half
    plain = model.apply(model.params, outputs["b"])
    assert not np.allclose(plain, outputs["c"])


def test_what_is_inside_a_model(tmp_path):
    """The layers, the table, and the arrays that Keras trains."""
    normalized = layer("BatchNormalization", "norm", axis=-1, epsilon=0.1, scale=False, center=True)
    layers = [layer("LSTM", "rnn", **LSTM), normalized, layer("Dense", "head", **DENSE, trainable=False)]
    arrays = LSTM_ARRAYS | {f"batch_normalization/vars/{k}": np.full(2, 3.0 + k) for k in range(3)}
    arrays |= {"dense/vars/0": np.eye(2), "dense/vars/1": np.zeros(2)}
    model = convert.model(write(tmp_path / "a.keras", *layers, arrays=arrays))
    assert repr(model) == "Model('small', 4 layers, 60 parameters)"
    assert model.summary.splitlines()[1].split() == ["rnn", "LSTM", "48"]
    assert model.trainable["norm"] == {"beta": True, "moving_mean": False, "moving_variance": False}
    assert model.trainable["head"] == {"kernel": False, "bias": False}
    assert model.layers["head"].options["units"] == 2
    outputs = model.outputs(model.params, X)
    expected = (outputs["rnn"] - 4) / np.sqrt(5.1) + 3
    np.testing.assert_allclose(outputs["head"], expected, rtol=1e-6)
    gradients = jax.grad(lambda params: model.apply(params, X).sum())(model.params)
    assert not np.any(gradients["norm"]["moving_mean"])
    assert np.all(gradients["norm"]["beta"])


def test_inputs_that_do_not_fit_are_refused(tmp_path):
    """The number, the names and the shapes of the inputs are checked."""
    model = convert.model(write(tmp_path / "a.keras", layer("LSTM", "rnn", **LSTM), arrays=LSTM_ARRAYS))
    np.testing.assert_array_equal(model.apply(model.params, {"input": X}), model.apply(model.params, [X]))
    for inputs, sentence in {
        "shape": (X[0], "input input must have the shape (any, any, 3), got (5, 3): reshape it"),
        "number": ([X, X], "inputs must be 1 arrays (input), got 2: pass a list or a dict"),
        "names": ({"x": X}, "inputs must have the keys input, got x: name them so"),
    }.values():
        assert sentence in refusal(lambda inputs=inputs: model.apply(model.params, inputs))
    assert "params have no 'rnn': pass model.params" in refusal(lambda: model.apply({}, X))
    with pytest.raises(TypeError, match="key must be a random key"):
        model.apply(model.params, X, key=0)


def test_the_dtype_of_all_layers(tmp_path):
    """`dtype` replaces the policies in the file, also those that are refused. Indices stay whole numbers."""
    embedding = layer("Embedding", input_dim=400, output_dim=3, mask_zero=True, dtype="mixed_bfloat16")
    arrays = LSTM_ARRAYS | {"embedding/vars/0": RNG.normal(size=(400, 3))}
    lstm = layer("LSTM", "rnn", **LSTM | {"dtype": "mixed_bfloat16"})
    path = write(tmp_path / "a.keras", embedding, lstm, arrays=arrays, shape=(None, None))
    model = convert.model(path, dtype="bfloat16")
    words = np.array([[257, 259, 0, 3], [258, 260, 1, 2]])  # 257 has no representation in bfloat16
    rows = model.outputs(model.params, words)
    np.testing.assert_array_equal(rows["x"], jnp.asarray(model.params["x"]["embeddings"], jnp.bfloat16)[words])
    assert rows["rnn"].dtype == jnp.bfloat16
    exact = convert.model(path, dtype="float32").apply(model.params, words)
    np.testing.assert_allclose(rows["rnn"].astype(np.float32), exact, atol=0.05)
    assert np.isnan(convert.model(path, dtype="float32").outputs(model.params, words - 400)["x"]).all()
    assert "float64 but JAX computes in float32" in refusal(
        lambda: convert.model(path, dtype="float64").apply(model.params, words)
    )


def test_other_layers_are_returned_on_request(tmp_path):
    """The rest of a file: what the layers are, their options, and their arrays by role."""
    layers = [layer("LSTM", "rnn", **LSTM), layer("TimeDistributed", "steps", layer=layer("Dense", **DENSE))]
    arrays = LSTM_ARRAYS | {"time_distributed/layer/vars/0": np.ones((2, 2)), "time_distributed/layer/vars/1": np.ones(2)}
    layers += [layer("MultiHeadAttention", "heads"), layer("Dense", "head", **DENSE)]
    path = write(tmp_path / "a.keras", *layers, arrays=arrays | DENSE_ARRAYS | {"multi_head_attention/vars/0": np.ones(4)})
    assert not convert.read(path).other_layers
    read = convert.read(path, other_layers=True)
    assert {name: (layer.kind, tuple(layer.arrays)) for name, layer in read.other_layers.items()} == {
        "steps": ("TimeDistributed", ("kernel", "bias")),
        "heads": ("MultiHeadAttention", ("0",)),
        "head": ("Dense", ("kernel", "bias")),
    }
    assert read.other_layers["steps"].options["layer"]["config"]["units"] == 2
    weights = convert.read(path.with_suffix(".weights.h5"), other_layers=True).other_layers
    assert {name: layer.kind for name, layer in weights.items()} == {
        "layers/dense": "Dense",
        "layers/multi_head_attention": "",
        "layers/time_distributed/layer": "",
    }


def test_other_layers_of_an_old_file(tmp_path):
    """In a legacy file, arrays have names, which tell what they are."""
    groups = {
        "head/head": {"kernel:0": (2, 3), "bias:0": (3,)}, "words/words": {"embeddings:0": (5, 2)},
        "norm/norm": {"gamma:0": (2,), "beta:0": (2,)}, "conv/conv": {"kernel:0": (2, 3, 4)}, "odd/odd": {"w:0": (2,)},
        "rnn/rnn/lstm_cell": {"kernel:0": (2, 8), "recurrent_kernel:0": (2, 8), "bias:0": (8,)},
    }  # fmt: skip
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        for group, shapes in groups.items():
            for name, shape in shapes.items():
                file[f"{group}/{name}"] = np.ones(shape, "f4")
    layers = convert.read(tmp_path / "a.h5", other_layers=True).other_layers
    assert {name: layer.kind for name, layer in layers.items()} == {
        "head/head": "Dense", "words/words": "Embedding", "norm/norm": "LayerNormalization", "conv/conv": "Conv1D", "odd/odd": "",
    }  # fmt: skip
    assert layers["head/head"].arrays["kernel"].shape == (2, 3)
