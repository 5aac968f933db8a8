"""The GRU equals Keras's GRU, in both conventions."""

import numpy as np
import pytest

from jlstm import GRU
from jlstm.cells import HiddenCarry
from parity import peers
from problems import BATCH, FEATURES, TIME, UNITS, assert_close, cotangent_of, differentiate, small_problem

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64"), pytest.mark.xdist_group("tensorflow")]


@pytest.mark.table(quick=6)
@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}], ids=repr)
@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
def test_values_and_gradients_equal_keras(options, reset_after, reverse):
    """Values and gradients agree in float64. Of Keras's second bias only the candidate's part is separate in ours."""
    peers.load("keras")
    import keras
    import tensorflow as tf

    problem = small_problem(GRU(UNITS, reset_after=reset_after, reverse=reverse, **options))
    d_carry, d_ys = cotangent_of(problem)
    layer = keras.layers.GRU(
        UNITS,
        reset_after=reset_after,
        return_sequences=True,
        return_state=True,
        go_backwards=reverse,
        dtype="float64",
        **options,
    )
    layer.build((BATCH, TIME, FEATURES))
    weights = [problem.params["kernel"], problem.params["recurrent_kernel"]]
    if "recurrent_bias" in problem.params:
        weights.append(
            np.stack([problem.params["bias"], np.concatenate([np.zeros(2 * UNITS), problem.params["recurrent_bias"]])])
        )
    elif "bias" in problem.params:
        weights.append(problem.params["bias"])
    layer.set_weights(weights)
    xs, h = tf.constant(problem.xs), tf.constant(problem.carry.h)
    with tf.GradientTape() as tape:
        tape.watch((xs, h))
        ys, last = layer(xs, initial_state=h)
        ys = tf.reverse(ys, [1]) if reverse else ys
    *of_params, of_xs, of_h = tape.gradient((ys, last), [*layer.trainable_weights, xs, h], (d_ys, d_carry.h))
    gradients = dict(zip(("kernel", "recurrent_kernel", "bias"), of_params, strict=False))
    if "recurrent_bias" in problem.params:
        first, second = np.asarray(gradients["bias"])
        gradients |= {"bias": first, "recurrent_bias": second[2 * UNITS :]}
    got = differentiate(problem.layer, (d_carry, d_ys), *problem[1:])
    assert_close(got, ((HiddenCarry(last), ys), (gradients, of_xs, HiddenCarry(of_h))), rtol=1e-13, atol=1e-12)
