"""The LSTM's variants equal TensorFlow 1's own cell under `dynamic_rnn`: outputs, states and all gradients in float64."""

import re

import jax
import numpy as np
import pytest

from jlstm import RNN, LSTMCell
from jlstm.cells import Dropout, Residual
from problems import BATCH, FEATURES, TIME, UNITS, cotangent_of, differentiate, small_problem

tf = pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.no_cover,
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.filterwarnings("ignore:`tf.nn.rnn_cell:UserWarning"),
]
LENGTHS = np.array([3, TIME])


def theirs(cell, params, xs, carry, cotangent, wrap=lambda cell: cell):
    """Return TensorFlow 1's results and gradients, under our names and in our order of columns: theirs are i, g, f, o."""
    from tf_keras.src.layers.rnn import legacy_cells

    def order(columns):
        i, second, third, o = np.split(np.asarray(columns), 4, -1)
        return np.concatenate([i, third, second, o], -1)

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        options = {"cell_clip": cell.cell_clip, "num_proj": cell.projection, "proj_clip": cell.projection_clip}
        legacy_cell = legacy_cells.LSTMCell(cell.units, use_peepholes=cell.peephole, forget_bias=0.0, dtype=tf.float64, **options)
        legacy_cell = wrap(legacy_cell)
        x, h, c = (tf.constant(array) for array in (xs, carry.h, carry.c))
        state = legacy_cells.LSTMStateTuple(c, h)
        ys, last = tf.compat.v1.nn.dynamic_rnn(legacy_cell, x, sequence_length=LENGTHS, initial_state=state)
        (of_carry, of_ys) = cotangent
        loss = sum(tf.reduce_sum(a * b) for a, b in ((ys, of_ys), (last.h, of_carry.h), (last.c, of_carry.c)))
        variables = {
            re.search(r"(projection/)?\w+(?=:0$)", variable.name)[0]: variable for variable in tf.compat.v1.trainable_variables()
        }
        weights = {"kernel": order(np.concatenate([params["kernel"], params["recurrent_kernel"]])), "bias": order(params["bias"])}
        if cell.peephole:
            weights |= {f"w_{gate}_diag": row for gate, row in zip("ifo", params["peephole_kernel"], strict=True)}
        if cell.projection:
            weights["projection/kernel"] = params["projection_kernel"]
        assert weights.keys() == variables.keys()
        fetches = [(ys, last), tf.gradients(loss, [x, h, c, *variables.values()])]  # before a session has seen the loop
        session.run([variable.assign(weights[name]) for name, variable in variables.items()])
        results, gradients = session.run(fetches)
    of_xs, of_h, of_c, *of_weights = gradients
    weight_gradients = dict(zip(variables, of_weights, strict=True))
    kernel = order(weight_gradients["kernel"])
    grads = {
        "kernel": kernel[: xs.shape[-1]],
        "recurrent_kernel": kernel[xs.shape[-1] :],
        "bias": order(weight_gradients["bias"]),
    }
    if cell.peephole:
        grads["peephole_kernel"] = np.stack([weight_gradients[f"w_{gate}_diag"] for gate in "ifo"])
    if cell.projection:
        grads["projection_kernel"] = weight_gradients["projection/kernel"]
    return (results[0], results[1].h, results[1].c), (grads, of_xs, of_h, of_c)


@pytest.mark.table(quick=3)
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
    """They are run with lengths, from a given carry."""
    cell = LSTMCell(UNITS, **options)
    check(cell, cell)


def check(ours, inner, wrap=lambda cell: cell, features=FEATURES, **dropout_masks):
    """Compare our cell with theirs. `inner` is the LSTM inside a wrapper, or the cell itself."""
    layer = RNN(ours)
    problem = small_problem(layer, features=features)
    cotangent, (_, params, xs, carry) = cotangent_of(problem), problem
    (last, ys), (of_params, of_xs, of_carry) = differentiate(
        layer, cotangent, params, xs, carry, lengths=LENGTHS, **dropout_masks
    )
    values, grads = theirs(inner, params, xs, carry, cotangent, wrap)
    close = {"rtol": 1e-10, "atol": 1e-12}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), (ys, last.h, last.c), values)
    assert of_params.keys() == grads[0].keys()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), (of_params, of_xs, of_carry.h, of_carry.c), grads)


def test_variational_dropout_is_that_of_tensorflow_1(x64):
    """DropoutWrapper gets keep rates and uniform numbers, from which the masks follow."""
    from tf_keras.src.layers.rnn.legacy_cell_wrappers import DropoutWrapper

    rng = np.random.default_rng(3)
    keep = {"inputs": 0.75, "state": 0.5, "outputs": 0.625}  # TensorFlow keeps them in float32
    masks = {name: rng.random((BATCH, FEATURES if name == "inputs" else UNITS)) for name in keep}

    def wrap(cell):
        rates = {f"{name.removesuffix('s')}_keep_prob": share for name, share in keep.items()}
        wrapper = DropoutWrapper(cell, variational_recurrent=True, dtype=tf.float64, input_size=FEATURES, **rates)
        wrapper._recurrent_input_noise = tf.constant(masks["inputs"])
        wrapper._recurrent_output_noise = tf.constant(masks["outputs"])
        wrapper._recurrent_state_noise = type(wrapper._recurrent_state_noise)(*[tf.constant(masks["state"])] * 2)
        return wrapper

    cell = LSTMCell(UNITS)
    ours = Dropout(cell, variational=True, **{name: 1 - share for name, share in keep.items()})
    check(ours, cell, wrap, dropout_masks={name: np.floor(keep[name] + masks[name]) / keep[name] for name in keep})


def test_a_residual_is_that_of_tensorflow_1(x64):
    """Residual equals TensorFlow 1's ResidualWrapper."""
    from tf_keras.src.layers.rnn.legacy_cell_wrappers import ResidualWrapper

    check(Residual(LSTMCell(UNITS)), LSTMCell(UNITS), ResidualWrapper, features=UNITS)
