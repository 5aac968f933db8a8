"""`python -m parity model.pt`: modules of a PyTorch `state_dict`, converted, beside PyTorch's own."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import parity.__main__ as cli
from jlstm.convert import torch as convert
from parity import model


class Model(torch.nn.Module):
    """A model with all kinds of recurrent modules, and other modules beside them."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 3)
        self.encoder = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True)
        self.decoder = torch.nn.Sequential(torch.nn.GRU(8, 5, num_layers=2), torch.nn.Linear(5, 2))
        self.small = torch.nn.LSTM(6, 5, proj_size=2)
        self.plain = torch.nn.GRU(3, 4, bias=False, bidirectional=True)
        self.cell = torch.nn.LSTMCell(3, 4)
        self.norm = torch.nn.LayerNorm(4)


NAMES = ("encoder", "decoder.0", "small", "plain", "cell")


@pytest.fixture(scope="module", params=["pt", "safetensors"])
def saved(request, tmp_path_factory):
    """A file of a model's weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / f"model.{request.param}"
    (torch.save if request.param == "pt" else save_file)(Model().state_dict(), path)
    return path


def test_all_recurrent_modules_pass_by_name(saved, capsys):
    """They pass in float64, which proves the conversion, and in the file's dtype."""
    assert cli.main([str(saved)]) == 0
    printed = capsys.readouterr().out
    for name in NAMES:
        for dtype in ("float64", "float32"):
            lines = [line for line in printed.splitlines() if line.endswith(f" {name}")]
            assert any(line.startswith(f"pass       {dtype}") for line in lines), printed
    assert f"torch {torch.__version__}" in printed


def test_a_module_alone_needs_no_name(capsys, tmp_path):
    """A file in float64 or bfloat16 is compared in its own dtype."""
    for dtype in ("float64", "bfloat16"):
        torch.save(torch.nn.GRU(3, 4, dtype=getattr(torch, dtype)).state_dict(), tmp_path / f"{dtype}.pt")
        assert cli.main([str(tmp_path / f"{dtype}.pt"), "--dtype", dtype]) == 0
        assert f"pass       {dtype}" in capsys.readouterr().out


def test_modules_are_found_where_the_converter_finds_them(tmp_path):
    """Modules in lists are compared, and the content of a file decides about its format, whatever its name."""
    state = torch.nn.LSTM(3, 4).state_dict()
    for content, names in (((3, state, [state]), ["1", "2.0"]), ([state], ["0"])):
        torch.save(content, tmp_path / "model.pt")
        assert list(model.read(tmp_path / "model.pt").originals) == names
    save_file(state, tmp_path / "other.pt")
    torch.save(state, tmp_path / "other.safetensors")
    for name in ("other.pt", "other.safetensors"):
        assert list(model.read(tmp_path / name).originals) == [""]


def test_weights_in_another_order_are_diagnosed(capsys, monkeypatch, tmp_path):
    """A converter that takes PyTorch's gates to be in ONNX's order is diagnosed."""
    torch.save(torch.nn.LSTM(3, 4).state_dict(), tmp_path / "model.pt")
    monkeypatch.setitem(convert.GATES, "LSTM", "iofg")
    assert cli.main([str(tmp_path / "model.pt")]) == 1
    printed = capsys.readouterr().out
    assert "fail       float64" in printed
    assert "torch: matches if the columns of i, o, f, g are taken for i, f, g, o\n" in printed


def test_files_that_hold_anything_else_are_one_sentence(capsys, tmp_path):
    """A pickled module, weights without a recurrent module, and wrong inputs are refused."""
    torch.save(Model(), tmp_path / "module.pt")
    torch.save(torch.nn.Linear(3, 4).state_dict(), tmp_path / "linear.pt")
    torch.save(torch.nn.LSTM(3, 4).state_dict(), tmp_path / "model.pt")
    np.savez(tmp_path / "x.npz", xs=np.ones((2, 3, 4)))
    for arguments, complaint in (
        (["module.pt"], "weights_only=True"),
        (["linear.pt"], "has no tensors with the names of PyTorch's LSTM"),
        (["model.pt", "--inputs", "x.npz"], "inputs have 4 features, but rnn takes 3"),
    ):
        assert cli.main([text if text.startswith("--") else str(tmp_path / text) for text in arguments]) == 2
        error = capsys.readouterr().err
        assert complaint in error
        assert error.count("\n") == 1
