"""The LSTM's variants against TensorFlow 1's own cell, run by `dynamic_rnn`: outputs, states and all gradients in float64."""

import jax
import numpy as np
import pytest

from jlstm import RNN, LSTMCell
from problems import FEATURES, TIME, UNITS, cotangent_of, differentiate, problem

tf = pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.xdist_group("tensorflow"), pytest.mark.filterwarnings("ignore:`tf.nn.rnn_cell:UserWarning")]
LENGTHS = np.array([3, TIME])


def theirs(cell, params, xs, carry, cotangent):
    """What TensorFlow 1 returns, and its gradients, under our names and in our order of columns: theirs are i, g, f, o."""
    from tf_keras.src.layers.rnn import legacy_cells

    def order(columns):
        i, second, third, o = np.split(np.asarray(columns), 4, -1)
        return np.concatenate([i, third, second, o], -1)

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        options = {"cell_clip": cell.cell_clip, "num_proj": cell.projection, "proj_clip": cell.projection_clip}
        one = legacy_cells.LSTMCell(cell.units, use_peepholes=cell.peephole, forget_bias=0.0, dtype=tf.float64, **options)
        x, h, c = (tf.constant(each) for each in (xs, carry.h, carry.c))
        state = legacy_cells.LSTMStateTuple(c, h)
        ys, last = tf.compat.v1.nn.dynamic_rnn(one, x, sequence_length=LENGTHS, initial_state=state)
        (of_carry, of_ys) = cotangent
        loss = sum(tf.reduce_sum(a * b) for a, b in ((ys, of_ys), (last.h, of_carry.h), (last.c, of_carry.c)))
        variables = {variable.name.split("/", 2)[-1].split(":")[0]: variable for variable in one.trainable_variables}
        weights = {"kernel": order(np.concatenate([params["kernel"], params["recurrent_kernel"]])), "bias": order(params["bias"])}
        if cell.peephole:
            weights |= {f"w_{gate}_diag": row for gate, row in zip("ifo", params["peephole_kernel"], strict=True)}
        if cell.projection:
            weights["projection/kernel"] = params["projection_kernel"]
        assert weights.keys() == variables.keys()
        wanted = [(ys, last), tf.gradients(loss, [x, h, c, *variables.values()])]  # before a session has seen the loop
        session.run([variable.assign(weights[name]) for name, variable in variables.items()])
        results, gradients = session.run(wanted)
    of_xs, of_h, of_c, *of_weights = gradients
    of = dict(zip(variables, of_weights, strict=True))
    kernel = order(of["kernel"])
    grads = {"kernel": kernel[: xs.shape[-1]], "recurrent_kernel": kernel[xs.shape[-1] :], "bias": order(of["bias"])}
    if cell.peephole:
        grads["peephole_kernel"] = np.stack([of[f"w_{gate}_diag"] for gate in "ifo"])
    if cell.projection:
        grads["projection_kernel"] = of["projection/kernel"]
    return (results[0], results[1].h, results[1].c), (grads, of_xs, of_h, of_c)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"peephole": True},
        {"projection": 3},
        {"cell_clip": 0.6},
        {"projection": 3, "projection_clip": 0.3},
        {"peephole": True, "cell_clip": 0.6},
        {"peephole": True, "projection": 3},
        {"peephole": True, "projection": 3, "projection_clip": 0.3, "cell_clip": 0.6},
    ],
    ids=str,
)
def test_variants_are_those_of_tensorflow_1(options, x64):
    """With lengths, from a carry."""
    layer = RNN(LSTMCell(UNITS, **options))
    given = problem(layer, features=FEATURES)
    cotangent, (_, params, xs, carry) = cotangent_of(given), given
    (last, ys), (of_params, of_xs, of_carry) = differentiate(layer, cotangent, params, xs, carry, lengths=LENGTHS)
    values, grads = theirs(layer.cell, params, xs, carry, cotangent)
    close = {"rtol": 1e-10, "atol": 1e-12}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), (ys, last.h, last.c), values)
    assert of_params.keys() == grads[0].keys()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), (of_params, of_xs, of_carry.h, of_carry.c), grads)
