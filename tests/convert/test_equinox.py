"""Equinox weights give the outputs of Equinox's own cells in float64, and come back bit by bit."""

import equinox
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions import refusal, spoiled
from jlstm import GRU, LSTM, Bidirectional
from jlstm.convert import equinox as convert
from problems import FEATURES, TIME, UNITS, apply, normal, small_problem

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.loose]
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64 rounding over a few steps


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_the_same_weights_give_the_same_outputs(kind, use_bias):
    """A cell run over a sequence gives the same outputs, and its arrays come back bit by bit."""
    cell = getattr(equinox.nn, kind)(FEATURES, UNITS, use_bias=use_bias, key=jax.random.key(0))
    cell = normal(cell, rng=np.random.default_rng(0))
    layer, params = convert.load(cell)
    xs = np.random.default_rng(3).normal(size=(TIME, FEATURES))
    state, expected = (np.zeros(UNITS), np.zeros(UNITS)) if kind == "LSTMCell" else np.zeros(UNITS), []
    for x in xs:
        state = cell(x, state)
        expected.append(state[0] if kind == "LSTMCell" else state)
    _, ys = apply(layer, params, xs)
    np.testing.assert_allclose(ys, np.stack(expected), **CLOSE)
    for name, array in convert.dump(layer, params).items():
        np.testing.assert_array_equal(array, getattr(cell, name))


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (LSTM(UNITS, peephole=True), "Equinox has no peephole=True"),
        (GRU(UNITS, reset_after=False), "Equinox has no reset_after=False"),
        (Bidirectional(LSTM(UNITS)), "Equinox has single cells"),
    ],
    ids=repr,
)
def test_what_equinox_does_not_have_is_refused(layer, complaint):
    """The refusal names the option that Equinox lacks."""
    assert complaint in refusal(lambda: convert.dump(layer, small_problem(layer).params))


WEIGHTS = [convert.dump(layer, small_problem(layer).params) for layer in (LSTM(UNITS), GRU(UNITS))]


@given(st.sampled_from(range(len(WEIGHTS))).flatmap(lambda k: spoiled(WEIGHTS[k], 0)))
@settings(max_examples=100)
def test_weights_that_do_not_fit_are_one_sentence(weights):
    """Missing, additional and misshapen arrays and wrong dtypes are refused in one sentence."""
    if weights.keys() != {"weight_ih", "weight_hh"}:
        refusal(lambda: convert.load(weights))


class Normed(equinox.nn.LSTMCell):
    """A cell with a layer normalization."""

    norm: equinox.nn.LayerNorm

    def __init__(self, key):
        super().__init__(FEATURES, UNITS, key=key)
        self.norm = equinox.nn.LayerNorm(UNITS)


class Scaled(equinox.nn.GRUCell):
    """A cell with the same arrays and another function."""

    def __call__(self, x, state, *, key=None):
        return 2 * super().__call__(x, state)


@pytest.mark.parametrize(
    "cell", [Normed(jax.random.key(0)), Scaled(FEATURES, UNITS, key=jax.random.key(0))], ids=["more", "same"]
)
def test_cells_of_another_class_are_refused_by_name(cell):
    """The arrays do not show what the code of another class computes."""
    assert f"got {type(cell).__name__}: pass a dict" in refusal(lambda: convert.load(cell))


def test_parts_that_are_put_into_a_cell_are_refused_by_name():
    """A norm in place of a bias is refused by name."""
    cell = equinox.nn.GRUCell(FEATURES, UNITS, key=jax.random.key(0))
    cell = equinox.tree_at(lambda tree: tree.bias_n, cell, equinox.nn.LayerNorm(UNITS))
    assert "bias_n" in refusal(lambda: convert.load(cell))


BESIDE = ["norm.weight", "norm.bias", "peephole", "bias_hh", "weight_ci", "weight_hh_g", "bias_f"]


@pytest.mark.parametrize("weights", WEIGHTS, ids=["LSTM", "GRU"])
@pytest.mark.parametrize("name", BESIDE)
def test_arrays_beside_those_of_a_cell_are_refused_by_name(weights, name):
    """No array is silently ignored."""
    assert f"has {name!r}, which is not part" in refusal(lambda: convert.load(weights | {name: weights["bias"]}))
