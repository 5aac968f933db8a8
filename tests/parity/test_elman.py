"""The plain recurrent network equals Keras's SimpleRNN."""

import pytest

from jlstm import RNN, ElmanCell
from jlstm.cells import HiddenCarry
from parity import peers
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, cotangent_of, differentiate, small_problem

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.xdist_group("tensorflow")]


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}], ids=repr)
@pytest.mark.parametrize("reverse", [False, True])
def test_values_and_gradients_equal_keras(options, reverse):
    """With the same weights Keras's SimpleRNN gives the same outputs and gradients in float64."""
    peers.load("keras")
    import keras
    import tensorflow as tf

    problem = small_problem(RNN(ElmanCell(UNITS, **options), reverse=reverse))
    d_carry, d_ys = cotangent_of(problem)
    layer = keras.layers.SimpleRNN(
        UNITS, return_sequences=True, return_state=True, go_backwards=reverse, dtype="float64", **options
    )
    layer.build((BATCH, TIME, FEATURES))
    layer.set_weights([problem.params[name] for name in ("kernel", "recurrent_kernel", "bias") if name in problem.params])
    xs, h = tf.constant(problem.xs), tf.constant(problem.carry.h)
    with tf.GradientTape() as tape:
        tape.watch((xs, h))
        ys, last = layer(xs, initial_state=h)
        ys = tf.reverse(ys, [1]) if reverse else ys
    *of_params, of_xs, of_h = tape.gradient((ys, last), [*layer.trainable_weights, xs, h], (d_ys, d_carry.h))
    names = ("kernel", "recurrent_kernel", "bias")[: len(of_params)]
    gradients = (dict(zip(names, of_params, strict=True)), of_xs, HiddenCarry(of_h))
    got = differentiate(problem.layer, (d_carry, d_ys), *problem[1:])
    assert_close(got, ((HiddenCarry(last), ys), gradients), rtol=1e-13, atol=1e-12)  # float64 rounding over five steps
