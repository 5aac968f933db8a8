"""Rounding that grows over time is judged against 80-bit numbers, and a wrong layer fails before it has grown."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import torch

import parity.__main__ as cli
from jlstm import GRU, LSTM, RNN, Bidirectional, ElmanCell
from parity import Problem, ours, textbook
from parity.diagnosis import Diagnosis
from parity.measure import judge
from parity.model import check
from parity.model.rounding import widened
from parity.quantities import named
from parity.values import Values


def growing(layer):
    """Return a layer with recurrent weights so large that rounding grows, and its inputs."""
    params = layer.init(jax.random.key(0), features=3)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) * (12 if leaf.ndim > 1 else 1), params)
    problem = Problem(layer, params=params, dtype="float64", xs=np.random.default_rng(0).standard_normal((2, 120, 3)))
    return problem, Values(params, problem.xs, None, None, None, None, None)


def outputs(problem, params, values):
    carry, ys, _ = textbook.run(problem.layer, params, values.xs)
    return named(ys, carry, None, None, None)


@pytest.mark.parametrize("layer", [GRU(16), Bidirectional(GRU(16)), RNN(ElmanCell(16))], ids=repr)
def test_a_right_layer_passes_however_its_rounding_grows(layer):
    """Our results and NumPy's float64 differ by far more than 1e-12, and pass."""
    problem, values = growing(layer)
    truth, our_outputs = outputs(problem, values.params, values), ours.outputs(problem, values)
    strict = judge(truth, our_outputs, truth, dtype="float64", time=120)
    assert any(quantity.verdict == "fail" for quantity in strict)
    assert all(quantity.verdict == "pass" for quantity in widened(strict, problem, values))


def test_a_wrong_layer_fails_at_its_first_steps():
    """Weights off by 1e-9 give more than the first steps' rounding, and less than the last steps'."""
    problem, values = growing(GRU(16))
    wrong = jax.tree.map(lambda leaf: leaf * (1 + 1e-9), values.params)
    truth = outputs(problem, wrong, values)
    measured = widened(judge(truth, ours.outputs(problem, values), truth, dtype="float64", time=120), problem, values)
    ys = next(quantity for quantity in measured if quantity.name == "ys")
    assert ys.verdict == "fail"
    assert ys.ours_by_time[0] > ys.limit_by_time[0]
    assert ys.limit_by_time[0] < 0.01 * ys.limit


@pytest.mark.parametrize("relative", [1e-9, 1e-11])
def test_a_layer_whose_rounding_does_not_grow_is_held_to_the_narrow_bound(relative):
    """A small error of one recurrent matrix fails, as without the wider bound."""
    layer = LSTM(16)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), layer.init(jax.random.key(0), features=3))
    problem = Problem(layer, params=params, dtype="float64", xs=np.random.default_rng(0).standard_normal((2, 120, 3)))
    values = Values(params, problem.xs, None, None, None, None, None)
    wrong = params | {"recurrent_kernel": params["recurrent_kernel"] * (1 + relative)}
    truth = outputs(problem, wrong, values)
    strict = judge(truth, ours.outputs(problem, values), truth, dtype="float64", time=120)
    measured = widened(strict, problem, values)
    assert [quantity.verdict for quantity in measured] == ["fail"] * 3
    assert [quantity.limit for quantity in measured] == [quantity.limit for quantity in strict]


def test_a_file_of_a_layer_whose_rounding_grows_passes(capsys, monkeypatch, tmp_path):
    """PyTorch in float64 differs from ours by more than the fixed bound, and passes by the wider one."""
    torch.manual_seed(0)
    weights = torch.nn.GRU(3, 16).state_dict()
    torch.save({name: 20 * tensor if tensor.ndim > 1 else tensor for name, tensor in weights.items()}, tmp_path / "model.pt")
    np.savez(tmp_path / "x.npz", xs=np.random.default_rng(0).standard_normal((2, 120, 3)))
    arguments = [str(tmp_path / "model.pt"), "--inputs", str(tmp_path / "x.npz"), "--dtype", "float64"]
    assert cli.main(arguments) == 0
    assert "pass       float64" in capsys.readouterr().out
    monkeypatch.setattr(check, "widened", lambda quantities, *_: quantities)
    monkeypatch.setattr(check, "explain", lambda *_: Diagnosis())
    assert cli.main(arguments) == 1


def test_a_wrong_layer_that_overflows_fails():
    """An infinite NumPy result allows nothing: a converter that takes relu for tanh fails."""
    right, values = growing(GRU(16))
    wrong = replace(right, layer=GRU(16, activation="relu", recurrent_activation="relu"))
    truth, our_outputs = outputs(right, values.params, values), ours.outputs(wrong, values)
    assert not np.isfinite(our_outputs["ys"]).all()
    measured = widened(judge(truth, our_outputs, truth, dtype="float64", time=120), wrong, values)
    assert [quantity.verdict for quantity in measured] == ["fail", "fail"]
    assert all(np.isfinite(quantity.limit) for quantity in measured)


def test_an_original_that_overflows_is_refused(capsys, tmp_path):
    """An infinite truth would give no bound."""
    weights = torch.nn.RNN(3, 4, nonlinearity="relu").state_dict()
    torch.save({name: 1e14 * tensor.abs() for name, tensor in weights.items()}, tmp_path / "model.pt")
    assert cli.main([str(tmp_path / "model.pt"), "--dtype", "float64", "--option", "nonlinearity=relu"]) == 2
    assert "the results of torch itself are not finite on these inputs" in capsys.readouterr().err


def test_layers_that_the_textbook_does_not_know_keep_their_bound():
    """Without a measurement of the rounding the fixed bound stays."""
    problem, values = growing(LSTM(16))
    measured = judge(*[outputs(problem, values.params, values)] * 3, dtype="float64", time=120)
    gelu_problem = replace(problem, layer=LSTM(16, activation="gelu"))
    assert widened(measured, gelu_problem, values) == measured
