"""The convolutional LSTM equals Keras's ConvLSTM1D, 2D and 3D, and Flax's ConvLSTMCell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from jlstm import RNN, ConvLSTMCell, LSTMCarry
from keras_oracle import differentiate_keras
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, cotangent_of, differentiate, flags, normal, small_problem
from tensorflow_modules import keras

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64"), pytest.mark.xdist_group("tensorflow")]

CASES = {
    "1-D": {"kernel_size": 3, "spatial": (6,)},
    "1-D, padded for an even kernel": {"kernel_size": 2, "spatial": (6,), "padding": "same"},
    "1-D, strided and padded": {"kernel_size": 4, "spatial": (7,), "strides": 3, "padding": "same", "use_bias": False},
    "2-D": {"kernel_size": (3, 2), "spatial": (5, 4), "activation": "softsign", "recurrent_activation": "hard_sigmoid"},
    "2-D, padded": {"kernel_size": (2, 3), "spatial": (5, 4), "padding": "same"},
    "2-D, strided": {"kernel_size": 2, "spatial": (5, 6), "strides": (1, 2)},
    "2-D, dilated": {"kernel_size": (2, 3), "spatial": (4, 6), "dilation": 2},
    "2-D, dilated and padded": {"kernel_size": 2, "spatial": (4, 5), "dilation": (1, 3), "padding": "same"},
    "3-D": {"kernel_size": (2, 1, 3), "spatial": (3, 2, 4), "padding": "same"},
    "3-D, strided": {"kernel_size": (1, 2, 2), "spatial": (3, 2, 5), "strides": (2, 1, 3)},
}


def keras_layer(cell, reverse):
    """Return the Keras layer with the options of our cell."""
    options = {name: getattr(cell, name) for name in ("filters", "kernel_size", "strides", "padding", "use_bias", "activation")}
    return getattr(keras.layers, f"ConvLSTM{len(cell.spatial)}D")(
        **options,
        dilation_rate=cell.dilation,
        recurrent_activation=cell.recurrent_activation,
        unit_forget_bias=cell.forget_bias is not None,
        dropout=cell.dropout,
        recurrent_dropout=cell.recurrent_dropout,
        return_sequences=True,
        return_state=True,
        go_backwards=reverse,
        zero_output_for_mask=True,
        dtype="float64",
    )


def theirs(problem, cotangent, mask=None, dropout_masks=None):
    """Return the results of Keras with their gradients, and the initial weights."""
    layer = keras_layer(problem.layer.cell, problem.layer.reverse)
    layer.build(problem.xs.shape)
    initial = {weight.name: np.asarray(weight) for weight in layer.trainable_weights}
    for name, masks in (dropout_masks or {}).items():  # the attributes in which the Keras cell keeps its drawn masks
        setattr(layer.cell, {"inputs": "_dropout_mask", "recurrent": "_recurrent_dropout_mask"}[name], list(masks))
    weights, training = [problem.params[name] for name in initial], dropout_masks is not None
    results, (of_weights, *rest) = differentiate_keras(layer, weights, problem, cotangent, mask=mask, training=training)
    return (results, (dict(zip(initial, of_weights, strict=True)), *rest)), initial


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("options", "reverse"), [(case, k % 2 == 1) for k, case in enumerate(CASES.values())], ids=CASES)
def test_values_and_gradients_equal_keras(options, reverse, masked):
    """Values, gradients and initial biases agree in float64, with masks and in both directions."""
    problem = small_problem(RNN(ConvLSTMCell(UNITS, **options), reverse=reverse != masked))
    sequence = {"mask": flags(0.6)} if masked else {}
    cotangent = cotangent_of(problem)
    expected, initial = theirs(problem, cotangent, **sequence)
    assert_close(differentiate(problem.layer, cotangent, *problem[1:], **sequence), expected, rtol=1e-12, atol=1e-12)
    ours = problem.layer.init(jax.random.key(0), FEATURES)
    assert {name: leaf.shape for name, leaf in ours.items()} == {name: leaf.shape for name, leaf in initial.items()}
    if "bias" in ours:
        np.testing.assert_array_equal(ours["bias"], initial["bias"])


def test_dropout_masks_act_where_they_do_in_keras():
    """There is one mask for each gate, on inputs and on h."""
    problem = small_problem(RNN(ConvLSTMCell(UNITS, (3, 2), (5, 4), dropout=0.3, recurrent_dropout=0.4)))
    shapes = {"inputs": (4, BATCH, 5, 4, FEATURES), "recurrent": (4, BATCH, 3, 3, UNITS)}
    dropout_masks = normal({name: np.empty(shape) for name, shape in shapes.items()}, rng=np.random.default_rng(5))
    cotangent = cotangent_of(problem)
    got = differentiate(problem.layer, cotangent, *problem[1:], dropout_masks=dropout_masks)
    assert_close(got, theirs(problem, cotangent, dropout_masks=dropout_masks)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.table(quick=2)
@pytest.mark.parametrize(
    ("kernel_size", "spatial"), [((3,), (5,)), ((2, 3), (4, 3)), ((1, 2, 3), (2, 3, 2))], ids=["1-D", "2-D", "3-D"]
)
def test_values_and_gradients_equal_flax(kernel_size, spatial):
    """Flax orders columns i, g, f, o, has two biases that sum to ours, and adds 1 to the forget gate."""
    problem = small_problem(RNN(ConvLSTMCell(UNITS, kernel_size, spatial, padding="same")))
    module = linen.ConvLSTMCell(UNITS, kernel_size, param_dtype=jnp.float64)

    def order(columns):
        i, second, third, o = jnp.split(jnp.asarray(columns), 4, -1)
        return jnp.concatenate([i, third, second, o], -1)

    late = np.repeat([0.0, 1.0, 0.0, 0.0], UNITS)  # Flax adds this forget bias

    def run(params, xs, carry):
        bias = order(params["bias"] - late) / 2
        kernels = {"ih": params["kernel"], "hh": params["recurrent_kernel"]}
        weights = {name: {"kernel": order(kernel), "bias": bias} for name, kernel in kernels.items()}
        state, ys = (carry.c, carry.h), []
        for t in range(TIME):
            state, y = module.apply({"params": weights}, state, xs[:, t])
            ys.append(y)
        return LSTMCarry(*state[::-1]), jnp.stack(ys, 1)

    @jax.jit
    def differentiated(cotangent, *values):
        results, pullback = jax.vjp(run, *values)
        return results, pullback(cotangent)

    cotangent = cotangent_of(problem)
    got = differentiate(problem.layer, cotangent, *problem[1:])
    assert_close(got, differentiated(cotangent, *problem[1:]), rtol=1e-12, atol=1e-12)
