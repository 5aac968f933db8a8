"""Weights of Keras 3 and tf-keras give the same outputs in float64, come back bit by bit, and are read from all files."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions import assert_same_bits, refusal, spoiled, with_negative_zeros
from jlstm import GRU, LSTM, Bidirectional, Stack
from jlstm.convert import keras as convert
from problems import BATCH, FEATURES, TIME, UNITS, apply, normal, small_problem
from tensorflow_modules import MARKS, keras, tf, tf_keras

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64"), *MARKS]
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64 rounding over a few steps
XS = np.random.default_rng(3).normal(size=(BATCH, TIME, FEATURES))
OPTIONS = [
    ("LSTM", {}),
    ("LSTM", {"use_bias": False}),
    ("LSTM", {"go_backwards": True}),
    ("LSTM", {"activation": "relu", "recurrent_activation": "hard_sigmoid"}),
    ("GRU", {}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"use_bias": False}),
    ("GRU", {"go_backwards": True, "reset_after": False, "activation": "softsign"}),
]
STRUCTURES = [(False, 1), (False, 2), (True, 2)]  # in both directions, depth
PAIRS = [  # every kind and its options in every structure, and both in either framework
    (kind, options, *structure, (keras, tf_keras)[(k + s) % 2])
    for k, (kind, options) in enumerate(OPTIONS)
    for s, structure in enumerate(STRUCTURES)
    if not (structure[0] and options.get("go_backwards"))  # Keras's Bidirectional reverses by itself
]


def randomly(model):
    """Give the model random weights, including biases, and return it."""
    model.set_weights(normal(model.get_weights(), rng=np.random.default_rng(0)))
    return model


def ours(framework, kind, options):
    """Return the Keras options under our names."""
    renamed = {("reverse" if name == "go_backwards" else name): value for name, value in options.items() if name != "use_bias"}
    if options == {"use_bias": False} and kind == "GRU":
        renamed["reset_after"] = True
    if framework is tf_keras and options.get("recurrent_activation") == "hard_sigmoid":
        renamed["recurrent_activation"] = "hard_sigmoid_0.2"
    return renamed


def layers(framework, kind, options, *, bidirectional, depth):
    """Return one or more Keras layers with random weights."""
    make = lambda: getattr(framework.layers, kind)(UNITS, return_sequences=True, dtype="float64", **options)
    framework_layers = [
        framework.layers.Bidirectional(make(), dtype="float64") if bidirectional else make() for _ in range(depth)
    ]
    model = framework.Sequential(framework_layers)
    model.build((None, None, FEATURES))
    return randomly(model).layers


def outputs(model, xs, reverse):
    """Run the layers one after the other. Return the outputs in the order of the inputs."""
    for layer in model:
        xs = layer(tf.constant(xs))
        xs = xs[:, ::-1] if reverse else xs
    return np.asarray(xs)


@pytest.mark.table(quick=5)
@pytest.mark.parametrize(
    ("kind", "options", "bidirectional", "depth", "framework"), PAIRS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_the_same_weights_give_the_same_outputs(kind, options, bidirectional, depth, framework):
    """The outputs are equal for all layers, directions, activations, biases and GRU conventions."""
    theirs = layers(framework, kind, options, bidirectional=bidirectional, depth=depth)
    weights = [layer.get_weights() for layer in theirs]
    layer, params = convert.load(weights if depth > 1 else weights[0], **ours(framework, kind, options))
    _, ys = apply(layer, params, XS)
    np.testing.assert_allclose(ys, outputs(theirs, XS, options.get("go_backwards")), **CLOSE)


@pytest.mark.parametrize(
    "layer",
    [
        LSTM(UNITS),
        LSTM(UNITS, use_bias=False, reverse=True, activation="relu"),
        GRU(UNITS),
        GRU(UNITS, reset_after=False),
        Bidirectional(GRU(UNITS)),
        Stack((Bidirectional(LSTM(UNITS)), LSTM(2))),
    ],
    ids=repr,
)
def test_what_is_dumped_comes_back(layer):
    """Dumped weights load bit by bit, including the signs of zeros."""
    params = with_negative_zeros(small_problem(layer).params)
    options = {"reverse": True, "activation": "relu"} if getattr(layer, "reverse", False) else {}
    _, back = convert.load(convert.dump(layer, params), **options)
    assert_same_bits(back, params)


def test_dumped_weights_are_theirs():
    """Keras's `set_weights` takes dumped weights, and the outputs equal ours."""
    problem = small_problem(Bidirectional(GRU(UNITS), "sum"))
    theirs = keras.layers.Bidirectional(keras.layers.GRU(UNITS, return_sequences=True), merge_mode="sum", dtype="float64")
    theirs.forward_layer.dtype_policy = theirs.backward_layer.dtype_policy = keras.DTypePolicy("float64")
    theirs.build((None, None, FEATURES))
    theirs.set_weights(convert.dump(problem.layer, problem.params))
    _, ys = apply(problem.layer, problem.params, problem.xs)
    np.testing.assert_allclose(ys, theirs(problem.xs), rtol=0, atol=1e-5)  # the Keras variables are float32 here


def model(framework):
    """Return a model with every kind of layer, one of them inside another model."""
    keras_layers = framework.layers
    inside = framework.Sequential(
        [framework.Input((None, 2)), keras_layers.LSTM(3, return_sequences=True, name="deep")], name="inner"
    )
    xs = framework.Input((None, FEATURES))
    ys = keras_layers.Bidirectional(keras_layers.LSTM(UNITS, return_sequences=True), merge_mode="sum", name="both")(xs)
    ys = keras_layers.GRU(3, return_sequences=True, reset_after=False, recurrent_activation="hard_sigmoid", name="lstm")(ys)
    ys = keras_layers.RNN(
        [keras_layers.LSTMCell(3), keras_layers.LSTMCell(2, activation="relu")], return_sequences=True, name="cells"
    )(ys)
    ys = keras_layers.Dense(2)(inside(ys))
    return randomly(
        framework.Model(xs, keras_layers.LSTM(5, return_sequences=True, unit_forget_bias=False, use_bias=False, name="last")(ys))
    )


@pytest.fixture(scope="module", params=[keras, tf_keras], ids=["keras", "tf_keras"])
def saved(request, tmp_path_factory):
    """A model and the folder with its files."""
    folder, whole = tmp_path_factory.mktemp("models"), model(request.param)
    for name in ("model.keras", "whole.h5"):
        whole.save(folder / name)
    whole.save_weights(folder / "model.weights.h5")
    if request.param is tf_keras:
        whole.save_weights(folder / "weights.h5", save_format="h5")
    return whole, folder


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("name", ["model.keras", "whole.h5"])
def test_files_of_whole_models_are_read_by_name(saved, name):
    """Each layer is read with its options and weights, and gives the outputs of the layer in the model."""
    whole, folder = saved
    converted = convert.read(folder / name)
    assert converted.keys() == {"both", "lstm", "cells", "inner/deep", "last"}
    ys = XS.astype(np.float32)
    for part in whole.layers[1:]:
        expected, ys_before = np.asarray(part(ys)), ys
        full = {"inner": "inner/deep"}.get(part.name, part.name)
        ys = expected
        if full in converted:
            layer, params = converted[full]
            _, got = apply(layer, params, ys_before)
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert converted["last"][0].cell.forget_bias is None
    assert converted["both"][0].merge == "sum"


def test_a_second_stack_of_cells_is_found(tmp_path):
    """Keras numbers the layers around the cells; a legacy file has the number too."""
    keras_layers = keras.layers
    stacks = [
        keras_layers.RNN([keras_layers.LSTMCell(2), keras_layers.LSTMCell(3)], return_sequences=True, name=name)
        for name in ("one", "two")
    ]
    keras.Sequential([keras.Input((None, FEATURES)), *stacks]).save(tmp_path / "model.h5")
    for name, (layer, params) in convert.read(tmp_path / "model.h5").items():
        theirs = next(stack for stack in stacks if stack.name == name).get_weights()
        jax.tree.map(np.testing.assert_array_equal, convert.dump(layer, params), [theirs[:3], theirs[3:]])


def test_files_of_weights_alone_are_read_by_name(saved):
    """In files without a description the options come from the caller."""
    whole, folder = saved
    for path in folder.glob("*weights.h5"):
        converted = convert.read(path)
        kinds = {layer.name: layer.get_weights() for layer in whole.layers if layer.name in ("both", "last")}
        by_end = {name.rsplit("/", 1)[-1]: value for name, value in converted.items()}
        for name, weights in kinds.items():
            if name in by_end:  # tf-keras numbers layers in a `.weights.h5` file and does not name them
                jax.tree.map(np.testing.assert_array_equal, convert.dump(*by_end[name]), weights)
        assert len(converted) == 5


WEIGHTS = {
    "LSTM": dict(enumerate(convert.dump(LSTM(UNITS), small_problem(LSTM(UNITS)).params))),
    "GRU": dict(enumerate(convert.dump(GRU(UNITS), small_problem(GRU(UNITS)).params))),
}


@given(st.sampled_from(sorted(WEIGHTS)).flatmap(lambda kind: spoiled({str(k): v for k, v in WEIGHTS[kind].items()}, -1)))
@settings(max_examples=100)
def test_weights_that_do_not_fit_are_one_sentence(weights):
    """Missing, too many, of another shape or dtype; without its bias it is another layer, with two biases one of cuDNN's."""
    if weights.keys() != {"0", "1"} and np.shape(weights.get("2")) not in ((8 * UNITS,), (6 * UNITS,)):
        refusal(lambda: convert.load([weights[name] for name in sorted(weights)]))


def test_options_that_keras_lacks_are_refused():
    """Options that Keras lacks are refused by name."""
    for options, complaint in (
        ({"peephole": True}, "Keras has no peephole=True"),
        ({"projection": 2}, "Keras has no projection=2"),
        ({"output_activation": "relu"}, "Keras has no output_activation='relu', only 'tanh'"),
    ):
        layer = LSTM(UNITS, **options)
        assert complaint in refusal(lambda layer=layer: convert.dump(layer, small_problem(layer).params))
    assert "no option 'color'" in refusal(lambda: convert.load(list(WEIGHTS["LSTM"].values()), color=1))
