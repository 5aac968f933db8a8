"""PyTorch's weights give the outputs of PyTorch's modules in float64, and come back bit by bit."""

from itertools import product

import jax
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from conversions import assert_same_bits, refusal, spoiled, with_negative_zeros
from jlstm import GRU, LSTM, RNN, Bidirectional, ElmanCell, GRUCell, LSTMCarry, LSTMCell, Stack
from jlstm.cells import HiddenCarry
from jlstm.convert import torch as convert
from problems import BATCH, FEATURES, TIME, UNITS, apply, small_problem

pytestmark = pytest.mark.usefixtures("x64")
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64 rounding over a few steps
CASES = [
    (kind, options)
    for kind, layers, bidirectional, bias, proj_size in product(
        ["LSTM", "GRU", "RNN tanh", "RNN relu"], [1, 3], [False, True], [True, False], [0, 2]
    )
    if kind == "LSTM" or not proj_size
    for options in [{"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "proj_size": proj_size}]
]


def module(kind, **options):
    """Return a PyTorch module with random weights and biases: "LSTM", "GRU", or "RNN" with its nonlinearity."""
    torch.manual_seed(0)
    options = {name: value for name, value in options.items() if name != "proj_size" or value} | nonlinearity_of(kind)
    return getattr(torch.nn, kind.split()[0])(FEATURES, UNITS, batch_first=True, dtype=torch.float64, **options)


def nonlinearity_of(kind):
    """Return the option that the weights do not tell: an RNN's nonlinearity."""
    return {"nonlinearity": kind.split()[1]} if " " in kind else {}


def ours(layer, tensors):
    """Return states of shape (layers · directions, batch, size) as our carry."""
    states = iter(zip(*(tensor.detach().numpy() for tensor in tensors), strict=True))

    def carry(part):
        if isinstance(part, Stack):
            return tuple(carry(inner) for inner in part.layers)
        if isinstance(part, Bidirectional):
            return {name: carry(part.layer) for name in ("forward", "backward")}
        kinds = {GRUCell: HiddenCarry, ElmanCell: HiddenCarry, LSTMCell: LSTMCarry}
        return kinds[type(part.cell)](*next(states))

    return carry(layer)


@pytest.mark.table(quick=12)
@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_the_same_weights_give_the_same_outputs(kind, options):
    """Outputs and last states are equal for all layers, directions, biases and projections."""
    theirs = module(kind, **options)
    layer, params = convert.load(theirs.state_dict(), **nonlinearity_of(kind))
    rng = np.random.default_rng(0)
    xs, count = rng.normal(size=(BATCH, TIME, FEATURES)), options["num_layers"] * (1 + options["bidirectional"])
    sizes = [options["proj_size"] or UNITS, UNITS][: 2 if kind == "LSTM" else 1]
    states = [torch.tensor(rng.normal(size=(count, BATCH, size))) for size in sizes]
    ys, last = theirs(torch.tensor(xs), tuple(states) if kind == "LSTM" else states[0])
    carry, got = apply(layer, params, xs, ours(layer, states))
    np.testing.assert_allclose(got, ys.detach(), **CLOSE)
    expected = ours(layer, last if kind == "LSTM" else [last])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), carry, expected)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell tanh", "RNNCell relu"])
def test_single_cells_are_layers(kind):
    """One step of a cell is one step of the layer."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind.split()[0])(FEATURES, UNITS, dtype=torch.float64, **nonlinearity_of(kind))
    layer, params = convert.load(theirs.state_dict(), **nonlinearity_of(kind))
    x = np.random.default_rng(0).normal(size=(BATCH, FEATURES))
    expected = theirs(torch.tensor(x))
    _, y = layer.step(params, None, x)
    np.testing.assert_allclose(y, (expected[0] if kind == "LSTMCell" else expected).detach(), **CLOSE)


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_what_is_dumped_has_their_names_and_comes_back(kind, options):
    """PyTorch accepts every name, and parameters come back bit by bit, including signs of zeros."""
    theirs = module(kind, **options)
    layer, params = convert.load(theirs.state_dict(), **nonlinearity_of(kind))
    params = with_negative_zeros(params)
    weights = convert.dump(layer, params)
    theirs.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    again, back = convert.load(theirs.state_dict(), **nonlinearity_of(kind))
    assert again == layer
    assert_same_bits(back, params)


def test_weights_without_their_second_bias_are_merged():
    """An LSTM's two biases become their sum. Of a GRU only the candidate keeps two."""
    weights = {name: value.numpy() for name, value in module("GRU").state_dict().items()}
    _, params = convert.load(weights)
    first, second = weights["bias_ih_l0"], weights["bias_hh_l0"]
    np.testing.assert_array_equal(params["bias"][:UNITS], (first + second)[UNITS : 2 * UNITS])
    np.testing.assert_array_equal(params["bias"][2 * UNITS :], first[2 * UNITS :])
    np.testing.assert_array_equal(params["recurrent_bias"], second[2 * UNITS :])


def test_what_is_written_is_a_state_dict(tmp_path):
    """PyTorch's `load_state_dict` takes the written file."""
    problem = small_problem(Stack((Bidirectional(LSTM(UNITS)), Bidirectional(LSTM(UNITS)))))
    convert.write(tmp_path / "model.safetensors", problem.layer, problem.params)
    theirs = module("LSTM", num_layers=2, bidirectional=True)
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"))
    _, ys = apply(problem.layer, problem.params, problem.xs)
    np.testing.assert_allclose(ys, theirs(torch.tensor(problem.xs))[0].detach(), **CLOSE)


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (LSTM(UNITS, peephole=True), "PyTorch has no peephole=True"),
        (LSTM(UNITS, activation="relu"), "PyTorch has no activation='relu', only 'tanh'"),
        (LSTM(UNITS, output_activation="relu"), "PyTorch has no output_activation='relu'"),
        (LSTM(UNITS, cell_clip=1), r"PyTorch has no cell_clip=1\.0"),
        (LSTM(UNITS, projection=2, projection_clip=1), "PyTorch has no projection_clip"),
        (LSTM(UNITS, layer_norm="ba2016"), "PyTorch has no layer_norm='ba2016'"),
        (LSTM(UNITS, coupled="f=1-i"), "PyTorch has no coupled='f=1-i'"),
        (GRU(UNITS, reset_after=False), "PyTorch has no reset_after=False"),
        (LSTM(UNITS, reverse=True), "PyTorch has no reverse=True"),
        (Bidirectional(LSTM(UNITS), "sum"), "PyTorch has no merge='sum'"),
        (Stack((LSTM(UNITS), LSTM(2))), "PyTorch has layers of one kind, size"),
        (Bidirectional(Stack((LSTM(UNITS),))), "convert its parts"),
        (
            RNN(ElmanCell(UNITS, activation="elu")),
            "PyTorch has one nonlinearity for an RNN, 'tanh' or 'relu', got activation='elu'",
        ),
        (Stack((RNN(ElmanCell(UNITS)), RNN(ElmanCell(UNITS, activation="relu")))), "got activation='relu' and 'tanh'"),
    ],
    ids=repr,
)
def test_what_pytorch_does_not_have_is_refused(layer, complaint):
    """The refusal names the option that PyTorch lacks."""
    with pytest.raises(ValueError, match=complaint):
        convert.dump(layer, small_problem(layer).params)


def test_parameters_of_another_layer_are_refused():
    """Parameters of another layer are refused before anything is converted."""
    with pytest.raises(ValueError, match=r"params\['bias'\] must have shape \(8,\), got \(16,\)"):
        convert.dump(LSTM(2), small_problem(LSTM(UNITS)).params)
    with pytest.raises(ValueError, match="params must be what init"):
        convert.dump(Bidirectional(LSTM(2)), small_problem(LSTM(2)).params)
    with pytest.raises(ValueError, match=r"recurrent_kernel.*must have shape"):
        convert.dump(RNN(LSTMCell(UNITS)), small_problem(LSTM(UNITS, projection=2)).params)


WEIGHTS = {
    kind: {name: value.numpy() for name, value in module(kind, num_layers=2, bidirectional=True).state_dict().items()}
    for kind in ("LSTM", "GRU")
}


@given(st.sampled_from(sorted(WEIGHTS)).flatmap(lambda kind: spoiled(WEIGHTS[kind], 0)))
@settings(max_examples=100)
def test_weights_that_do_not_fit_are_one_sentence(weights):
    """Missing, additional and misshapen arrays and wrong dtypes are refused in one sentence."""
    refusal(lambda: convert.load(weights))


@pytest.mark.parametrize(
    ("kind", "nonlinearity", "complaint"),
    [
        ("RNN tanh", None, "nonlinearity must be 'tanh' or 'relu' for an RNN, since its weights do not tell"),
        ("RNN tanh", "gelu", "nonlinearity must be 'tanh' or 'relu', got 'gelu'"),
        ("LSTM", "tanh", "nonlinearity is for an RNN, got 'tanh' and weights of kind LSTM"),
        ("GRU", "relu", "nonlinearity is for an RNN, got 'relu' and weights of kind GRU"),
    ],
)
def test_what_the_weights_do_not_tell_is_asked_for(kind, nonlinearity, complaint):
    """`nonlinearity` is needed for an RNN, and refused for other layers."""
    weights = module(kind).state_dict()
    assert complaint in refusal(lambda: convert.load(weights, nonlinearity=nonlinearity))


BESIDE = {
    "layer normalization": ("norm.weight", "it also has 'norm.weight'"),
    "a single bias": ("bias", "it also has 'bias'"),
    "peephole": ("weight_ci", "it also has 'weight_ci'"),
    "weight_norm": ("weight_hh_l0_g", "its weights are computed from others ('weight_hh_l0_g')"),
    "parametrization": ("parametrizations.weight_hh_l0.original0", "its weights are computed from others"),
    "another direction": ("weight_hh_l1_reverse", "has 'weight_hh_l1_reverse', which is not part of this layer"),
    "a layer above a missing one": ("weight_ih_l2", "has 'weight_ih_l2', which is not part of this layer"),
    "a cell's": ("weight_ih", "has 'weight_ih', which is not part of this layer"),
    "number of batches": ("norm.num_batches_tracked", "it also has 'norm.num_batches_tracked'"),
}


@pytest.mark.parametrize(("name", "complaint"), BESIDE.values(), ids=BESIDE)
def test_weights_beside_those_of_a_layer_are_refused_by_name(name, complaint):
    """Extra weights are refused, whatever their type."""
    weights = dict(module("LSTM").state_dict()) | {name: torch.zeros(2, dtype=torch.int64 if "num_" in name else torch.float64)}
    assert complaint in refusal(lambda: convert.load(weights))
