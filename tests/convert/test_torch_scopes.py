"""PyTorch modules that are not plain recurrent layers are skipped by name, and hide no other layer."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from conversions import refusal
from jlstm.convert import torch as convert

FEATURES, UNITS = 3, 4
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*quantization.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning"),
    pytest.mark.filterwarnings("ignore:For migrations of users:DeprecationWarning"),
]


def with_parts(make, **parts):
    """Return a module with more modules, parameters and buffers."""
    module = make(FEATURES, UNITS)
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            module.add_module(name, part)
        elif part.is_floating_point():
            module.register_parameter(name, nn.Parameter(part))
        else:
            module.register_buffer(name, part)
    return module


def own_cell(gates=4, biases=("bias",)):
    """Return a hand-written cell."""
    module = nn.Module()
    shapes = {"weight_ih": (gates * UNITS, FEATURES), "weight_hh": (gates * UNITS, UNITS)} | dict.fromkeys(
        biases, (gates * UNITS,)
    )
    for name, shape in shapes.items():
        module.register_parameter(name, nn.Parameter(torch.randn(shape)))
    return module


def applied(change, make=nn.LSTM):
    """Return a layer of which one weight is computed from others."""
    module = make(FEATURES, UNITS)
    change(module, "weight_hh_l0" if make is nn.LSTM else "weight_hh")
    return module


def pruned(module, name):
    """Set half of a weight to zero."""
    prune.random_unstructured(module, name, 0.5)


def quantized():
    """Return a layer whose weights are integers of one byte."""
    return torch.ao.quantization.quantize_dynamic(nn.ModuleDict({"a": nn.LSTM(3, 4)}), {nn.LSTM}, dtype=torch.qint8)["a"]


class WeightDrop(nn.Module):
    """As in fastai: `weight_hh_l0_raw` is the trained weight, and the inner layer has what the last dropout left of it."""

    def __init__(self):
        super().__init__()
        self.module = nn.LSTM(FEATURES, UNITS)
        self.weight_hh_l0_raw = nn.Parameter(self.module.weight_hh_l0.detach().clone())


def linears():
    """Return a cell whose weights are linear layers."""
    module = nn.Module()
    module.weight_ih, module.weight_hh = nn.Linear(FEATURES, 4 * UNITS), nn.Linear(UNITS, 4 * UNITS)
    return module


def without(name, **options):
    """Return a layer without one of its weights."""
    module = nn.LSTM(FEATURES, UNITS, **options)
    delattr(module, name)
    return module


CASES = {
    "layer normalization": (lambda: with_parts(nn.LSTMCell, norm=nn.LayerNorm(4)), "'norm.weight', 'norm.bias'"),
    "batch normalization": (lambda: with_parts(nn.LSTM, norm=nn.BatchNorm1d(4)), "norm.weight"),
    "only a buffer": (lambda: with_parts(nn.LSTM, steps=torch.tensor(3)), "'steps'"),
    "a head": (lambda: with_parts(nn.GRU, head=nn.Linear(4, 2)), "'head.weight', 'head.bias'"),
    "an attention inside": (lambda: with_parts(nn.LSTMCell, attention=nn.MultiheadAttention(4, 2)), "attention.in_proj_weight"),
    "peepholes": (lambda: with_parts(nn.LSTMCell, peep_i=torch.ones(4), peep_f=torch.ones(4)), "'peep_i', 'peep_f'"),
    "a first state": (lambda: with_parts(nn.LSTM, h0=torch.ones(1, 4)), "'h0'"),
    "a single bias": (own_cell, "'bias'"),
    "one of two biases": (lambda: own_cell(biases=("bias_ih",)), "bias_hh"),
    "extra gates": (lambda: own_cell(5, biases=()), "must have gates of 4 units"),
    "two gates": (lambda: own_cell(2, biases=()), "must have gates of 4 units"),
    "layers as weights": (linears, "'weight_ih.weight'"),
    "weight_norm": (lambda: applied(nn.utils.weight_norm), "computed from others ('weight_hh_l0_g', 'weight_hh_l0_v')"),
    "parametrized weight_norm": (lambda: applied(parametrizations.weight_norm), "computed from others"),
    "spectral_norm": (lambda: applied(nn.utils.spectral_norm, nn.LSTMCell), "computed from others"),
    "parametrized spectral_norm": (lambda: applied(parametrizations.spectral_norm), "computed from others"),
    "orthogonal": (lambda: applied(parametrizations.orthogonal, nn.RNNCell), "computed from others"),
    "pruned": (lambda: applied(pruned), "computed from others ('weight_hh_l0_orig', 'weight_hh_l0_mask')"),
    "quantized": (quantized, "it is quantized ('_all_weight_values.0.param')"),
    "WeightDrop": (WeightDrop, "'weight_hh_l0_raw'"),
    "without a bias of the second layer": (lambda: without("bias_hh_l1", num_layers=2), "has no bias_hh_l1"),
    "without a backward weight": (lambda: without("weight_hh_l0_reverse", bidirectional=True), "_l0_reverse', which is not part"),
    "without its recurrent weight": (lambda: without("weight_hh_l0"), "has no weight_hh_l0"),
    "complex": (lambda: nn.LSTM(FEATURES, UNITS).to(torch.complex64), "a tensor of type ComplexFloat"),
    "two dtypes": (lambda: with_parts(nn.LSTM, weight_hh_l0=torch.ones(16, 4, dtype=torch.float64)), "the same dtype"),
}


@pytest.mark.parametrize("whole", [False, True], ids=["state_dict", "whole module"])
@pytest.mark.parametrize(("make", "complaint"), CASES.values(), ids=CASES)
def test_what_belongs_to_a_module_is_used_or_named(tmp_path, make, complaint, whole):
    """The module is skipped with a warning, and the plain layers before and after it are read."""
    model = nn.ModuleDict({"a": nn.GRU(2, 3), "cell": make(), "z": nn.LSTM(2, 3)})
    if whole and complaint.startswith(("it is quantized", "computed")):
        pytest.skip("PyTorch pickles no parametrized module, and a pickled quantized one in its own way")
    torch.save(model if whole else model.state_dict(), tmp_path / "model.pt")
    with pytest.warns(UserWarning, match="is not converted") as caught:
        layers = convert.read(tmp_path / "model.pt")
    assert list(layers) == ["a", "z"]
    assert "cell" in layers.skipped
    assert len(caught) == len(layers.skipped)
    if not whole or "class" not in layers.skipped["cell"]:
        assert complaint in layers.skipped["cell"]
    assert all(len(reason) <= 300 and ": " in reason and "\n" not in reason for reason in layers.skipped.values())
    assert layers.unused == ()


@pytest.mark.parametrize(("make", "complaint"), CASES.values(), ids=CASES)
def test_a_module_alone_is_refused_by_name(tmp_path, make, complaint):
    """A module without a prefix in its names is refused by name."""
    torch.save(make().state_dict(), tmp_path / "model.pt")
    assert complaint in refusal(lambda: convert.read(tmp_path / "model.pt"))


def test_an_unconverted_layer_inside_another_is_told_too(tmp_path):
    """The weights inside a WeightDrop are those that a dropout left over."""
    torch.save(nn.ModuleDict({"cell": WeightDrop(), "z": nn.LSTM(2, 3)}).state_dict(), tmp_path / "model.pt")
    with pytest.warns(UserWarning, match="is not converted"):
        layers = convert.read(tmp_path / "model.pt")
    assert "is a child of 'cell'" in layers.skipped["cell.module"]
    with pytest.raises(KeyError, match="was not converted"):
        layers["cell.module"]


SPECIAL = {
    "sparse": (lambda weight: weight.to_sparse(), "_rebuild_sparse_tensor"),
    "expanded": (lambda weight: weight[:1].expand(16, 4), "repeats 64 numbers"),
    "negated": (torch._neg_view, "negated"),
    "8 bits": (lambda weight: weight.to(torch.float8_e4m3fn), "a tensor of type float8_e4m3fn"),
    "whole numbers": (lambda weight: weight.long(), "a tensor of type Long"),
    "quantized": (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "_rebuild_qtensor"),
    "meta": (lambda weight: weight.to("meta"), "_rebuild_meta_tensor"),
    "NumPy": (lambda weight: weight.numpy(), "numpy"),
}


@pytest.mark.parametrize(("change", "complaint"), SPECIAL.values(), ids=SPECIAL)
def test_tensors_of_another_kind_are_told(tmp_path, change, complaint):
    """Such tensors in a layer are the reason why it is skipped. Elsewhere they do not matter."""
    state, path = nn.LSTM(FEATURES, UNITS).state_dict(prefix="rnn."), tmp_path / "model.pt"
    if complaint.startswith("repeats"):
        state["rnn.weight_hh_l0"] = state["rnn.weight_hh_l0"][:1].clone().expand(16, 4)
        complaint = "repeats 4 numbers"
    else:
        state["rnn.weight_hh_l0"] = change(state["rnn.weight_hh_l0"].detach())
    torch.save(state, path)
    assert complaint in refusal(lambda: convert.read(path))
    torch.save(nn.GRU(2, 3).state_dict(prefix="gru.") | {"other": state["rnn.weight_hh_l0"]}, path)
    assert list(convert.read(path)) == ["gru"]


def test_a_container_is_no_scope(tmp_path):
    """In a module without recurrent weights, arrays beside a layer do not belong to the layer."""
    encoder = nn.ModuleDict(
        {"rnn": nn.LSTM(FEATURES, UNITS), "norm": nn.LayerNorm(UNITS), "cells": nn.ModuleList([nn.GRUCell(2, 3)] * 2)}
    )
    torch.save(nn.ModuleDict({"encoder": encoder}).state_dict(), tmp_path / "model.pt")
    layers = convert.read(tmp_path / "model.pt")
    assert list(layers) == ["encoder.rnn", "encoder.cells.0", "encoder.cells.1"]
    assert layers.unused == ("encoder.norm.weight", "encoder.norm.bias")
    np.testing.assert_array_equal(*(layers[f"encoder.cells.{k}"][1]["kernel"] for k in range(2)))


class Subclass(nn.LSTM):
    """A subclass, which may compute something else."""


def test_a_whole_module_of_another_class_is_skipped(tmp_path):
    """The computation of another class is code that is not in the file."""
    torch.save(nn.ModuleDict({"own": Subclass(2, 3), "plain": nn.LSTM(2, 3)}), tmp_path / "model.pt")
    with pytest.warns(UserWarning, match=r"its class is .*Subclass, which may compute something else"):
        assert list(convert.read(tmp_path / "model.pt")) == ["plain"]
