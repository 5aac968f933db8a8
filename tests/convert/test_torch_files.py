"""PyTorch: every file format and every checkpoint container is read by name, and shared tensors are read once."""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model

from conversions import refusal
from jlstm import RNN, ElmanCell, GRUCell, LSTMCell, Stack
from jlstm.convert import torch as convert
from torch_models import FEATURES, FORMATS, STATE, UNITS, model, save_legacy


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("suffix", [".pt", ".bin"])
@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_files_of_a_whole_model_are_read_by_name(tmp_path, write, suffix, dtype):
    """All recurrent layers are read in their dtype, and all other arrays are listed as unused."""
    theirs, path = model(dtype), tmp_path / f"model{suffix}"
    write(theirs, path)
    layers = convert.read(path)
    assert layers.keys() == {"encoder", "decoder"}
    assert set(layers.unused) == {"head.weight", "head.bias"}
    assert not layers.in_network_order
    layer, params = layers["encoder"]
    assert isinstance(layer, Stack)
    assert params[0]["kernel"].dtype == jnp.dtype(str(dtype).removeprefix("torch."))
    expected = convert.load({key: value.double() for key, value in theirs["encoder"].state_dict().items()})[1]
    atol = 0 if dtype == torch.float64 else 0.02  # the two biases are added in the file's dtype
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a.astype("f8"), b, rtol=0, atol=atol), params, expected)
    kernel = theirs["encoder"].weight_ih_l0.detach().double().numpy().T
    np.testing.assert_array_equal(params[0]["kernel"].astype("f8"), kernel)


def test_modules_stand_in_the_order_in_which_they_were_registered(tmp_path):
    """Safetensors files lose this order, and are sorted by name."""
    torch.save(model().state_dict(), tmp_path / "model.pt")
    save_file(model().state_dict(), tmp_path / "model.safetensors")
    assert list(convert.read(tmp_path / "model.pt")) == ["encoder", "decoder"]
    assert list(convert.read(tmp_path / "model.safetensors")) == ["decoder", "encoder"]


class Hyperparameters:
    """An object that only the training script can make, and that refers to itself."""

    def __init__(self):
        self.rate, self.parent = np.float64(1e-3), self


ADAM = torch.optim.Adam([torch.nn.Parameter(torch.ones(3))])
CONTAINERS = {
    "state_dict": ({"epoch": 3, "state_dict": STATE, "optimizer": ADAM.state_dict()}, ["state_dict.rnn"]),
    "model_state_dict": ({"model_state_dict": STATE, "loss": torch.tensor(0.1)}, ["model_state_dict.rnn"]),
    "two networks": ({"encoder": STATE, "decoder": STATE}, ["encoder.rnn", "decoder.rnn"]),
    "an average": ({"model": STATE, "ema": {k: v / 2 for k, v in STATE.items()}}, ["model.rnn", "ema.rnn"]),
    "deeper": ({"run": {"nets": [{"model": STATE}]}}, ["run.nets.0.model.rnn"]),
    "DataParallel": ({"state_dict": {f"module.{name}": value for name, value in STATE.items()}}, ["state_dict.module.rnn"]),
    "NumPy": ({"state_dict": STATE, "lr": np.float64(1), "best": np.arange(3), "t": np.int64(3)}, ["state_dict.rnn"]),
    "Lightning": (
        {
            "state_dict": STATE,
            "hyper_parameters": {
                "args": argparse.Namespace(lr=0.1),
                "path": pathlib.PurePosixPath("a"),
                "own": Hyperparameters(),
            },
            "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.1), ("a", 1): {1, 2}}},
        },
        ["state_dict.rnn"],
    ),
    "whole module": ({"epoch": 1, "model": torch.nn.Sequential(torch.nn.GRU(2, 3))}, ["model.0"]),
    "only a layer": ({"lstm": torch.nn.LSTM(2, 3).state_dict(), "step": 1}, ["lstm"]),
}


@pytest.mark.parametrize("write", [torch.save, save_legacy], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(("content", "names"), CONTAINERS.values(), ids=CONTAINERS)
def test_checkpoints_of_a_training_are_read(tmp_path, content, names, write):
    """Names begin with the keys that lead to the state_dict. Optimizer tensors are no part of the model."""
    write(content, tmp_path / "model.ckpt")
    layers = convert.read(tmp_path / "model.ckpt")
    assert list(layers) == names
    assert not any("optimizer" in name for name in layers.unused)
    if names[0].endswith("rnn"):
        np.testing.assert_array_equal(layers[names[0]][1]["kernel"], STATE["rnn.weight_ih_l0"].T)


class Language(torch.nn.Module):
    """A language model that uses one matrix for the embedding and the output."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.decode = torch.nn.Embedding(200, 32), torch.nn.LSTM(32, 32), torch.nn.Linear(32, 200)
        self.decode.weight = self.embed.weight


class Siamese(torch.nn.Module):
    """A model with one module under two names."""

    def __init__(self):
        super().__init__()
        self.left = torch.nn.LSTM(30, 40)
        self.right = self.left


class Expanded(torch.nn.Module):
    """A model with a buffer of one number, expanded to a larger shape."""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(FEATURES, UNITS)
        self.register_buffer("mask", torch.ones(1).expand(64, 64))


class OneStorage(torch.nn.Module):
    """A model whose weights all lie in one storage, as on a GPU."""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(FEATURES, UNITS)
        flat = torch.randn(sum(weight.numel() for weight in self.rnn.parameters()))
        pieces = flat.split([weight.numel() for weight in self.rnn.parameters()])
        for weight, piece in zip(self.rnn.parameters(), pieces, strict=True):
            weight.data = piece.view(weight.shape)


@pytest.mark.parametrize("write", [FORMATS["zip"], FORMATS["before 1.6"], torch.save], ids=["zip", "before 1.6", "whole"])
@pytest.mark.parametrize("make", [Language, Siamese, Expanded, OneStorage])
def test_tensors_that_share_their_numbers_are_read(tmp_path, make, write):
    """Tensors under two names, and views of one storage, are read."""
    module = make()
    write(module, tmp_path / "model.pt")
    layers = convert.read(tmp_path / "model.pt")
    assert list(layers) == (["left", "right"] if make is Siamese else ["rnn"])
    for name, (_, params) in layers.items():
        expected = convert.load(dict(getattr(module, name).state_dict()))[1]
        jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_tied_tensors_that_safetensors_leaves_out_are_read(tmp_path):
    """`save_model` writes one of two tied tensors, and notes the other's name in the metadata."""
    save_model(Siamese(), str(tmp_path / "model.safetensors"))
    layers = convert.read(tmp_path / "model.safetensors")
    assert list(layers) == ["left", "right"]
    jax.tree.map(np.testing.assert_array_equal, layers["left"][1], layers["right"][1])


@pytest.mark.parametrize("write", [torch.save, save_legacy], ids=["zip", "before 1.6"])
def test_rnns_are_skipped_or_told_their_nonlinearity(tmp_path, write):
    """An RNN hides no LSTM. A file with RNNs only asks for `nonlinearity`."""
    modules = torch.nn.ModuleDict({"a": torch.nn.LSTM(3, 4), "b": torch.nn.RNN(4, 5, nonlinearity="relu")})
    write(modules.state_dict(), tmp_path / "both.pt")
    with pytest.warns(UserWarning, match="'b' is not converted: nonlinearity must be 'tanh' or 'relu'"):
        layers = convert.read(tmp_path / "both.pt")
    assert list(layers) == ["a"]
    assert list(layers.skipped) == ["b"]
    layers = convert.read(tmp_path / "both.pt", nonlinearity="relu")
    assert isinstance(layers["a"][0].cell, LSTMCell)
    assert layers["b"][0] == RNN(ElmanCell(5, activation="relu"))
    write(torch.nn.RNNCell(2, 3).state_dict(), tmp_path / "one.pt")
    assert "pass what it was made with" in refusal(lambda: convert.read(tmp_path / "one.pt"))
    assert convert.read(tmp_path / "one.pt", nonlinearity="tanh")[""][0] == RNN(ElmanCell(3))


def test_the_decoder_is_a_gru(tmp_path):
    """The number of gates tells the kind of a layer."""
    torch.save(model().state_dict(), tmp_path / "model.pt")
    assert isinstance(convert.read(tmp_path / "model.pt")["decoder"][0].cell, GRUCell)


def test_classes_that_the_file_does_not_name_are_assumed(tmp_path):
    """A `state_dict` does not state the classes of its modules, and a whole module does."""
    module = torch.nn.LSTM(3, 4)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    torch.save(module, tmp_path / "whole.pt")
    (sentence,) = convert.read(tmp_path / "state.pt").assumed
    assert sentence.startswith("the file names no classes")
    assert convert.read(tmp_path / "whole.pt").assumed == ()
