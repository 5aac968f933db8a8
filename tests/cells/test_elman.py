"""The plain recurrent network equals its equation, and supports what every cell does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jlstm
from equations import elman
from jlstm import RNN, ElmanCell
from problems import BATCH, FEATURES, TIME, UNITS, apply, assert_close, flags, small_problem

pytestmark = [pytest.mark.usefixtures("x64")]


def by_hand(problem, mask=None, dropout_masks=None):
    """Return the results of the equation in NumPy."""
    return elman(problem.layer.cell, *problem[1:], mask, dropout_masks)


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}, {"activation": "linear"}], ids=repr)
@pytest.mark.parametrize("mask", [None, flags(0.6)], ids=["all steps", "holes"])
def test_values_equal_the_equation(options, mask):
    """Outputs and last carry equal ten lines of NumPy."""
    problem = small_problem(RNN(ElmanCell(UNITS, **options)))
    got = apply(problem.layer, *problem[1:], mask=mask)
    assert_close(got, by_hand(problem, mask), rtol=1e-13, atol=1e-13)  # float64 rounding; linear ones grow


def test_dropout_multiplies_what_enters_the_sum():
    """One mask for x and one for h serve all steps. A key equals the masks that it draws."""
    problem = small_problem(RNN(ElmanCell(UNITS, dropout=0.4, recurrent_dropout=0.5)))
    dropout_masks = problem.layer.cell.begin(problem.params, (BATCH,), "float64", key=jax.random.key(3))[1]
    assert {name: mask.shape for name, mask in dropout_masks.items()} == {
        "inputs": (1, BATCH, FEATURES),
        "recurrent": (1, BATCH, UNITS),
    }
    expected = by_hand(problem, dropout_masks=jax.tree.map(np.asarray, dropout_masks))
    assert_close(apply(problem.layer, *problem[1:], dropout_masks=dropout_masks), expected, atol=1e-13)
    assert_close(apply(problem.layer, *problem[1:], key=jax.random.key(3)), expected, atol=1e-13)
    assert_close(apply(problem.layer, *problem[1:]), by_hand(problem), atol=1e-13)
    assert problem.layer.stochastic
    assert not ElmanCell(UNITS).stochastic


def test_parameters_have_keras_names_shapes_and_first_values():
    """The kernel starts Glorot-uniform, the recurrent kernel orthogonal, and the bias at zero."""
    params = ElmanCell(UNITS).init(jax.random.key(0), FEATURES, "float64")
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "kernel": (FEATURES, UNITS),
        "recurrent_kernel": (UNITS, UNITS),
        "bias": (UNITS,),
    }
    assert_close(params["recurrent_kernel"] @ params["recurrent_kernel"].T, np.eye(UNITS), atol=1e-14)
    assert np.abs(params["kernel"]).max() <= np.sqrt(6 / (FEATURES + UNITS))
    np.testing.assert_array_equal(params["bias"], 0)
    assert "bias" not in ElmanCell(UNITS, use_bias=False).init(jax.random.key(0), FEATURES)


def test_it_is_a_cell_like_any_other():
    """It can be stacked, bidirectional, stepped, exported and run in 16 bits."""
    layer = jlstm.Stack((jlstm.Bidirectional(RNN(ElmanCell(2))), RNN(ElmanCell(UNITS, kernel_init="lecun_normal"))))
    problem = small_problem(layer)
    carry, ys = apply(*problem)
    exported = jax.export.export(jax.jit(layer.apply))(*problem[1:])
    again = jax.export.deserialize(exported.serialize()).call(*problem[1:])
    assert_close(again, (carry, ys), atol=1e-15)
    top, stepped = RNN(ElmanCell(UNITS)), None
    params = top.init(jax.random.key(0), FEATURES)
    for t in range(TIME):
        stepped, y = top.step(params, stepped, problem.xs[:, t])
    assert_close((stepped, y), (top.apply(params, problem.xs)[0], top.apply(params, problem.xs)[1][:, -1]), atol=1e-15)
    assert top.apply(params, jnp.asarray(problem.xs, "bfloat16"))[1].dtype == jnp.bfloat16
    assert ElmanCell(UNITS) == ElmanCell(np.int64(UNITS))
    assert repr(ElmanCell(UNITS, use_bias=False)) == "ElmanCell(units=4, use_bias=False)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "units must be a whole number of at least 1, got 0"),
        ({"dropout": 1}, "dropout must be a rate in"),
        ({"recurrent_dropout": "a"}, "recurrent_dropout must be a number, got 'a'"),
        ({"use_bias": 1}, "use_bias must be True or False, got 1"),
        ({"activation": "tahn"}, "unknown activation 'tahn'"),
        ({"bias_init": "x"}, "unknown initializer 'x'"),
    ],
)
def test_bad_options_are_refused(options, message):
    """Bad options are refused in one sentence, as by the LSTM."""
    with pytest.raises((TypeError, ValueError), match=message):
        ElmanCell(**{"units": UNITS} | options)
