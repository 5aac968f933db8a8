"""Weights of Flax linen and nnx give the outputs of Flax's own modules in float64, and come back bit by bit."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions import assert_same_bits, refusal, spoiled, with_negative_zeros
from jlstm import GRU, LSTM, Bidirectional, Stack
from jlstm.convert import flax as convert
from problems import BATCH, FEATURES, TIME, UNITS, apply, normal, small_problem

pytestmark = [pytest.mark.no_cover, pytest.mark.usefixtures("x64"), pytest.mark.loose]
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64 rounding over a few steps
XS = np.random.default_rng(3).normal(size=(BATCH, TIME, FEATURES))
F64 = {"param_dtype": jnp.float64, "dtype": jnp.float64}


def of_linen(cell, bidirectional, options):
    """Return random variables and the outputs of a linen module."""
    make = lambda: linen.RNN(getattr(linen, cell)(UNITS, **options, **F64))
    module = linen.Bidirectional(make(), make()) if bidirectional else make()
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), XS))
    variables = normal(shapes, rng=np.random.default_rng(0))
    return variables, module.apply(variables, XS)


def of_nnx(cell, bidirectional, options):
    """Return random variables and the outputs of an nnx module."""
    make = lambda: nnx.RNN(getattr(nnx, cell)(FEATURES, UNITS, rngs=nnx.Rngs(0), **options, **F64))
    module = nnx.Bidirectional(make(), make()) if bidirectional else make()
    variables = normal(nnx.to_pure_dict(nnx.state(module, nnx.Param)), rng=np.random.default_rng(0))
    state = nnx.state(module, nnx.Param)
    nnx.replace_by_pure_dict(state, variables)
    nnx.update(module, state)
    return variables, module(XS)


PAIRS = [  # every cell of both in one direction and in two, and every cell and direction with both activations
    (*combination, bidirectional, (k + bidirectional) % 2 == 1)
    for k, combination in enumerate(product([of_linen, of_nnx], ["LSTMCell", "OptimizedLSTMCell", "GRUCell"]))
    for bidirectional in (False, True)
]


@pytest.mark.table(quick=3)
@pytest.mark.parametrize(("make", "cell", "bidirectional", "relu"), PAIRS)
def test_the_same_weights_give_the_same_outputs(make, cell, bidirectional, relu):
    """The outputs are equal for all cells, directions and activations."""
    options = {"activation_fn": jax.nn.relu, "gate_fn": jax.nn.hard_sigmoid} if relu else {}
    variables, expected = make(cell, bidirectional, options)
    ours = {"activation": "relu", "recurrent_activation": "hard_sigmoid"} if relu else {}
    layer, params = convert.load(variables, **ours)
    _, ys = apply(layer, params, XS)
    np.testing.assert_allclose(ys, expected, **CLOSE)
    module = "linen" if make is of_linen else "nnx.OptimizedLSTMCell" if cell == "OptimizedLSTMCell" else "nnx"
    back = convert.dump(layer, params, module=module)
    jax.tree.map(np.testing.assert_array_equal, back, variables["params"] if make is of_linen else variables)


@pytest.mark.parametrize("module", ["linen", "nnx", "nnx.OptimizedLSTMCell"])
@pytest.mark.parametrize("layer", [LSTM(UNITS), GRU(UNITS), Bidirectional(LSTM(UNITS))], ids=repr)
def test_what_is_dumped_comes_back(layer, module):
    """Dumped weights load bit by bit, including the signs of zeros."""
    params = with_negative_zeros(small_problem(layer).params)
    if module != "linen" and "recurrent_bias" in params:
        assert "nnx.GRUCell has no recurrent_bias" in refusal(lambda: convert.dump(layer, params, module=module))
        params["recurrent_bias"] = np.zeros(UNITS)
    again, back = convert.load(convert.dump(layer, params, module=module))
    assert again == (Bidirectional(LSTM(UNITS, param_dtype="float64")) if isinstance(layer, Bidirectional) else again)
    assert_same_bits(back, params)


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (LSTM(UNITS, peephole=True), "Flax has no peephole=True"),
        (GRU(UNITS, reset_after=False), "Flax has no reset_after=False"),
        (Stack((LSTM(UNITS), LSTM(2))), "Flax has no stack of layers"),
    ],
    ids=repr,
)
def test_what_flax_does_not_have_is_refused(layer, complaint):
    """The refusal names the option that Flax lacks."""
    assert complaint in refusal(lambda: convert.dump(layer, small_problem(layer).params))


WEIGHTS = [
    dict(convert.flat(convert.dump(layer, small_problem(layer).params, module=module)["cell"]))
    for layer, module in ((LSTM(UNITS), "linen"), (LSTM(UNITS), "nnx.OptimizedLSTMCell"), (GRU(UNITS), "linen"))
]


@given(st.sampled_from(range(len(WEIGHTS))).flatmap(lambda k: spoiled(WEIGHTS[k], -1)))
@settings(max_examples=100)
def test_weights_that_do_not_fit_are_one_sentence(weights):
    """Missing, additional and misshapen arrays and wrong dtypes are refused in one sentence."""
    refusal(lambda: convert.load(weights))


TREES = {
    "LSTM": convert.dump(LSTM(UNITS), small_problem(LSTM(UNITS)).params)["cell"],
    "fused": convert.dump(LSTM(UNITS), small_problem(LSTM(UNITS)).params, module="nnx.OptimizedLSTMCell")["cell"],
    "GRU": convert.dump(GRU(UNITS), small_problem(GRU(UNITS)).params)["cell"],
}
BESIDE = [
    *product(["norm", "LayerNorm_0"], ["scale"]),
    ("peephole", "kernel"),
    ("ii", "bias"),
    ("dense_i", "scale"),
    ("ho", "g"),
    ("p", "q"),
]


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.parametrize("name", BESIDE, ids=".".join)
def test_variables_beside_those_of_a_cell_are_refused_by_name(tree, name):
    """Extra variables, such as a layer normalization's, are not ignored, at any nesting."""
    module, leaf = name
    extended = tree | {module: tree.get(module, {}) | {leaf: np.ones(UNITS)}}
    for weights in (extended, {"cell": extended}, {"params": {"cell": extended}}):
        assert ".".join(name) in refusal(lambda weights=weights: convert.load(weights))


@pytest.mark.parametrize("module_name", ["norm", "batch_stats", "Dense_0"])
def test_modules_beside_a_cell_are_no_part_of_a_layer(module_name):
    """A module beside a cell is refused, not ignored."""
    refusal(lambda: convert.load({"cell": TREES["LSTM"], module_name: {"scale": np.ones(UNITS)}}))
    refusal(lambda: convert.load({"params": {"cell": TREES["LSTM"]}, module_name: {"scale": np.ones(UNITS)}}))
    directions = {"forward_rnn": {"cell": TREES["LSTM"]}, "backward_rnn": {"cell": TREES["LSTM"]}}
    refusal(lambda: convert.load(directions | {module_name: {"scale": np.ones(UNITS)}}))
    refusal(lambda: convert.load({"forward_rnn": directions["forward_rnn"]}))
    refusal(lambda: convert.load({"cell": TREES["LSTM"] | {"if_": TREES["LSTM"]["if"]}}))
