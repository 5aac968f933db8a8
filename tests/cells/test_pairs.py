"""Every valid pair of the LSTM's options, in at least one row, against NumPy. Invalid pairs are refused."""

from itertools import combinations, product

import jax
import numpy as np
import pytest

import variants
from jlstm import RNN, LSTMCarry, LSTMCell
from parity.covering import covering, pairs
from problems import BATCH, FEATURES, UNITS, assert_close, assert_slopes, cotangent_of, differentiate_drawn, small_problem

pytestmark = pytest.mark.no_cover

OPTIONS = {  # the first of each is the default
    "peephole": (False, True),
    "projection": (None, 3),
    "projection_bias": (False, True),
    "projection_clip": (None, 0.4),
    "cell_clip": (None, 0.6),
    "gate_clip": (None, 0.9),
    "coupled": (None, "f=1-i", "i=1-f"),
    "layer_norm": (None, "ba2016", "tf_contrib", "addons", "tflite"),
    "layer_norm_epsilon": (None, 0.02),
    "activation": ("tanh", "relu", "softsign"),
    "recurrent_activation": ("sigmoid", "hard_sigmoid"),
    "output_activation": (None, "linear", "sigmoid"),
    "use_bias": (True, False),
    "forget_bias": (1.0, None, 0.5),
    "dropout": (0.0, 0.3),
    "recurrent_dropout": (0.0, 0.4),
    "recurrent_dropout_on": ("h", "g"),
}
DEFAULTS = {name: values[0] for name, values in OPTIONS.items()}
SENSELESS = {  # and what the refusal says
    (("projection", None), ("projection_bias", True)): "projection_bias is for projection, which is off: give projection",
    (("projection", None), ("projection_clip", 0.4)): "projection_clip is for projection, which is off: give projection",
    (("layer_norm", None), ("layer_norm_epsilon", 0.02)): "layer_norm_epsilon is for layer_norm, which is off: give layer_norm",
    (("use_bias", False), ("forget_bias", 0.5)): "forget_bias is for a forget gate with a bias, which this cell has none of",
    (("coupled", "f=1-i"), ("forget_bias", 0.5)): "forget_bias is for a forget gate with a bias, which this cell has none of",
}


def makes_sense(row):
    """Return whether these options, all or only some of them, can be combined."""
    return not any(row.items() >= set(pair) for pair in SENSELESS)


def sensible_pairs():
    """Return all pairs of options except the invalid ones."""
    every = {((a, x), (b, y)) for a, b in combinations(OPTIONS, 2) for x, y in product(OPTIONS[a], OPTIONS[b])}
    return every - SENSELESS.keys()


ROWS = covering(OPTIONS, sensible_pairs(), makes_sense)


def options_of(row):
    return {name: value for name, value in row.items() if value != DEFAULTS[name]}


def test_the_rows_hold_every_pair():
    """The rows hold every pair of the options that influence the equations."""
    covered_pairs = set().union(*map(pairs, ROWS))
    assert covered_pairs == sensible_pairs()
    not_options = {"units", "kernel_init", "recurrent_init", "bias_init"}
    assert OPTIONS.keys() == {field for field in LSTMCell.__dataclass_fields__ if field != "_"} - not_options
    assert {name: getattr(LSTMCell(UNITS), name) for name in OPTIONS} == DEFAULTS


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(f"{name}={value}" for name, value in options_of(row).items()))
def test_every_pair_equals_numpy(row, x64):
    """Outputs, carry and dropout masks equal NumPy's; each gradient equals a slope by central differences."""
    layer = RNN(LSTMCell(UNITS, kernel_init="zeros", recurrent_init="zeros", **row), param_dtype="float64")
    problem = small_problem(layer)
    cotangent = cotangent_of(problem)
    drawn = differentiate_drawn(layer, cotangent, jax.random.key(3), *problem[1:])
    initial, masks, values, out, gradients = jax.tree.map(np.asarray, drawn)
    assert ("bias" in initial) == row["use_bias"]
    if row["use_bias"]:
        np.testing.assert_array_equal(initial["bias"], variants.initial_bias(row, UNITS))
    assert {name: mask.shape for name, mask in masks.items()} == variants.mask_shapes(row, BATCH, FEATURES, UNITS)
    for name, rate in (("inputs", row["dropout"]), ("recurrent", row["recurrent_dropout"])):
        assert set(np.unique(masks.get(name, 0.0))) <= {0.0, 1 / (1 - rate)}

    def expected(params, xs, carry):
        h, c, ys = variants.run(row, params, xs, *carry, masks)
        return LSTMCarry(h, c), ys

    assert_close(out, expected(*values), atol=1e-12)
    assert_slopes(expected, values, gradients, cotangent)


@pytest.mark.parametrize(("pair", "words"), SENSELESS.items(), ids=repr)
def test_senseless_pairs_are_refused(pair, words):
    """Invalid pairs are refused in one sentence."""
    with pytest.raises(ValueError, match=words):
        LSTMCell(UNITS, **dict(pair))
