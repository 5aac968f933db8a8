"""Whole Keras models give Keras's outputs and gradients in float64, masks included."""

import jax
import numpy as np
import pytest

from jlstm.convert import keras as convert
from keras_graphs import CASES, both_states, built, differentiated, float64, inputs_of, nested, regularized
from tensorflow_modules import MARKS, keras, tf, tf_keras

pytestmark = [
    pytest.mark.usefixtures("x64"),
    pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning"),
    *MARKS,
]
CLOSE = {"rtol": 1e-7, "atol": 1e-8}  # TensorFlow rounds some constants to float32, such as that of gelu


def in_order(gradient, params):
    """Return the gradients of a layer in Keras's order, which `params` has. JAX has sorted the names of the gradients."""
    if isinstance(params, tuple):
        return [array for cell, cell_params in zip(gradient, params, strict=True) for array in in_order(cell, cell_params)]
    if "forward" in params:
        return [array for side in ("forward", "backward") for array in in_order(gradient[side], params[side])]
    gradient = dict(gradient)
    if "recurrent_bias" in params:  # Keras's second bias of a GRU; it has the gradients of the first for two of the gates
        bias, candidate = gradient["bias"], gradient["recurrent_bias"]
        gradient["bias"] = np.stack([bias, np.concatenate([bias[: 2 * len(candidate)], candidate])])
    return [gradient[name] for name in params if name != "recurrent_bias"]


def of_layers(params, gradients, theirs):
    """Yield each layer of Keras with our gradients in Keras's order."""
    for name, layer_params in params.items():
        layer = theirs.get_layer(name)
        layer = layer.layer if type(layer).__name__ == "TimeDistributed" else layer
        if hasattr(layer, "layers"):
            yield from of_layers(layer_params, gradients[name], layer)
        else:
            yield layer, in_order(gradients[name], layer_params)


@pytest.mark.table(quick=2)
@pytest.mark.parametrize(("make", "framework"), CASES, ids=lambda value: value.__name__.split(".")[0])
def test_outputs_and_gradients_are_those_of_keras(tmp_path, make, framework):
    """The whole model has Keras's outputs and, for each trained array, its gradient."""
    with float64():
        theirs = built(make, framework)
        theirs.save(tmp_path / "a.keras")
        inputs = inputs_of(theirs)
        names = [value.name for value in theirs.inputs]
        named = dict(zip(names, inputs, strict=True)) if isinstance(inputs, list) else inputs
        inputs = named if make is both_states else inputs
        rng = np.random.default_rng(5)
        cotangents = [rng.normal(size=output.shape) for output in tf.nest.flatten(theirs(inputs, training=False))]
        outputs, by_variable = differentiated(theirs, inputs, cotangents)
    model = convert.model(tmp_path / "a.keras")

    def total(params):
        results = model.apply(params, named)
        pairs = zip(jax.tree.leaves(results), cotangents, strict=True)
        return sum((result * cotangent).sum() for result, cotangent in pairs), results

    gradients, results = jax.jit(jax.grad(total, has_aux=True))(model.params)
    assert jax.tree.structure(results) == jax.tree.structure(jax.tree.map(lambda output: 0, outputs))
    for result, output in zip(jax.tree.leaves(results), tf.nest.flatten(outputs), strict=True):
        np.testing.assert_allclose(result, output.numpy(), **CLOSE)
    compared = 0
    for layer, arrays in of_layers(model.params, gradients, theirs):
        assert len(arrays) == len(layer.weights), layer.name
        for array, variable in zip(arrays, layer.weights, strict=True):
            expected = by_variable.get(id(variable), np.zeros(array.shape))  # moving statistics have no gradients
            np.testing.assert_allclose(array, expected, **CLOSE, err_msg=f"{layer.name} {variable.name}")
            compared += id(variable) in by_variable
    assert compared == len(by_variable)


@pytest.mark.table(quick=1)
@pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("make", [nested, regularized], ids=["nested", "regularized"])
def test_a_model_in_an_h5_file_is_the_same(tmp_path, make, framework):
    """The `.h5` file of a whole model has the same parameters and calls as the `.keras` file, under other names."""
    theirs = built(make, framework)
    models = []
    for name in ("a.keras", "a.h5"):
        theirs.save(tmp_path / name)
        models.append(convert.model(tmp_path / name))
    jax.tree.map(np.testing.assert_array_equal, *(model.params for model in models))
    assert jax.tree.leaves(models[0].params)
    assert models[0].trainable == models[1].trainable
    classes = [{name: layer.class_name for name, layer in model.layers.items()} for model in models]
    assert classes[0] == classes[1]
    assert models[0].summary == models[1].summary
