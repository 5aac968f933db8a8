"""Haiku's weights give the outputs of Haiku's own modules in float64, and come back."""

import haiku
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions import refusal, spoiled
from jlstm import GRU, LSTM, Bidirectional, Stack
from jlstm.convert import haiku as convert
from problems import BATCH, FEATURES, TIME, UNITS, apply, normal, small_problem

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.loose]
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64 rounding over a few steps


@pytest.mark.parametrize("kinds", [["LSTM"], ["GRU"], ["LSTM", "LSTM"], ["GRU", "LSTM"]], ids=str)
def test_the_same_weights_give_the_same_outputs(kinds):
    """The outputs are equal for single modules and for modules in `DeepRNN`."""

    def run(xs):
        core = haiku.DeepRNN([getattr(haiku, kind)(UNITS - k) for k, kind in enumerate(kinds)])
        return haiku.dynamic_unroll(core, xs, core.initial_state(BATCH))[0]

    xs = np.random.default_rng(3).normal(size=(TIME, BATCH, FEATURES))
    module = haiku.without_apply_rng(haiku.transform(run))
    params = normal(jax.eval_shape(module.init, jax.random.key(0), xs), rng=np.random.default_rng(0))
    names = ["lstm/linear" if kind == "LSTM" else "gru" for kind in kinds]
    if names == ["lstm/linear"] * 2:
        names[1] = "lstm_1/linear"
    layer, ours = convert.load([params[name] for name in names])
    _, ys = apply(layer, ours, xs.swapaxes(0, 1))
    np.testing.assert_allclose(ys.swapaxes(0, 1), module.apply(params, xs), **CLOSE)


@pytest.mark.parametrize("layer", [LSTM(UNITS), GRU(UNITS, reset_after=False), Stack((LSTM(UNITS), LSTM(2)))], ids=repr)
def test_what_is_dumped_comes_back(layer):
    """To the same bits, but for the forget bias of an LSTM, to which 1 is added there: that is rounded."""
    params = small_problem(layer).params
    _, back = convert.load(convert.dump(layer, params))
    for (path, a), b in zip(jax.tree.leaves_with_path(back), jax.tree.leaves(params), strict=True):
        atol = 1e-15 if "'bias'" in jax.tree_util.keystr(path) else 0
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (LSTM(UNITS, peephole=True), "Haiku has no peephole=True"),
        (GRU(UNITS), "Haiku has no reset_after=True"),
        (Bidirectional(LSTM(UNITS)), "Haiku's modules run forwards only"),
        (LSTM(UNITS, reverse=True), "Haiku's modules run forwards only"),
    ],
    ids=repr,
)
def test_what_haiku_does_not_have_is_refused(layer, complaint):
    """The refusal names the option that Haiku lacks."""
    assert complaint in refusal(lambda: convert.dump(layer, small_problem(layer).params))


WEIGHTS = [convert.dump(layer, small_problem(layer).params) for layer in (LSTM(UNITS), GRU(UNITS, reset_after=False))]


@given(st.sampled_from(range(len(WEIGHTS))).flatmap(lambda k: spoiled(WEIGHTS[k], -1)))
@settings(max_examples=100)
def test_weights_that_do_not_fit_are_one_sentence(weights):
    """Missing, additional and misshapen arrays and wrong dtypes are refused in one sentence."""
    refusal(lambda: convert.load(weights))


@pytest.mark.parametrize("weights", WEIGHTS, ids=["LSTM", "GRU"])
@pytest.mark.parametrize("name", ["scale", "offset", "w_g", "b_h", "peephole", "w_ci", "initial_state"])
def test_arrays_beside_those_of_a_module_are_refused_by_name(weights, name):
    """Extra arrays in a module, such as a layer normalization's, are not ignored."""
    assert f"has {name!r}, which is not part" in refusal(lambda: convert.load(weights | {name: weights["b"]}))
