"""Rounding that grows over time is judged against 80-bit numbers, and a wrong layer shows before it has grown."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from jlstm import GRU, LSTM, RNN, Bidirectional, ElmanCell
from parity import Problem, ours, textbook
from parity.case import Values, named
from parity.measure import judge
from parity.model.rounding import widened


def growing(layer):
    """A layer whose recurrent weights are so large that rounding grows, and its inputs."""
    params = layer.init(jax.random.key(0), features=3)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) * (12 if leaf.ndim > 1 else 1), params)
    problem = Problem(layer, params=params, dtype="float64", xs=np.random.default_rng(0).standard_normal((2, 120, 3)))
    return problem, Values(params, problem.xs, None, None, None, None, None)


def outputs(problem, params, values):
    carry, ys, _ = textbook.run(problem.layer, params, values.xs)
    return named(ys, carry, None, None, None)


@pytest.mark.parametrize("layer", [GRU(16), Bidirectional(GRU(16)), RNN(ElmanCell(16))], ids=repr)
def test_a_right_layer_passes_however_its_rounding_grows(layer):
    """Ours, and NumPy's float64, which differ by far more than 1e-12, pass against each other."""
    problem, values = growing(layer)
    truth, mine = outputs(problem, values.params, values), ours.outputs(problem, values)
    strict = judge(truth, mine, truth, dtype="float64", time=120)
    assert any(quantity.verdict == "fail" for quantity in strict)
    assert all(quantity.verdict == "pass" for quantity in widened(strict, problem, values))


def test_a_wrong_layer_fails_at_its_first_steps():
    """Weights that are off by 1e-9: less than what rounding has grown to, and more than it is at first."""
    problem, values = growing(GRU(16))
    wrong = jax.tree.map(lambda leaf: leaf * (1 + 1e-9), values.params)
    truth = outputs(problem, wrong, values)
    judged = widened(judge(truth, ours.outputs(problem, values), truth, dtype="float64", time=120), problem, values)
    ys = next(quantity for quantity in judged if quantity.name == "ys")
    assert ys.verdict == "fail"
    assert ys.ours_by_time[0] > ys.limit_by_time[0]
    assert ys.limit_by_time[0] < 0.01 * ys.limit


def test_layers_that_the_textbook_does_not_know_keep_their_bound():
    """Nothing is allowed that was not measured."""
    problem, values = growing(LSTM(16))
    judged = judge(*[outputs(problem, values.params, values)] * 3, dtype="float64", time=120)
    other = replace(problem, layer=LSTM(16, activation="gelu"))
    assert widened(judged, other, values) == judged
