"""`python -m parity` never passes files of any format that look convertible and are not.

Each is refused, or its verdict is "incomplete". Right files beside them pass.
"""

from importlib import import_module

import pytest

import parity.__main__ as cli
import wrong_keras
import wrong_onnx
import wrong_tf1
import wrong_torch
from parity import model
from tensorflow_modules import MARKS

pytestmark = [*MARKS, pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")]


def keras_rows(rows):
    return [
        pytest.param(write, name, framework, id=f"{row} {framework}")
        for row, (write, name, frameworks) in rows.items()
        for framework in frameworks.split()
    ]


def never_passes(path):
    """Assert that the comparisons refuse the file or end as incomplete. Later stages can only make the verdict worse."""
    try:
        file = model.read(path)
    except ValueError:
        return
    assert model.verdict(file, []) == "incomplete", (file.layers, file.assumed)


def passes(path, capsys):
    """Assert that a whole run in the file's own precision passes."""
    status = cli.main([str(path), "--dtype", "float32"])
    printed = capsys.readouterr()
    assert status == 0, printed
    assert "\npass: " in printed.out


@pytest.mark.parametrize("ending", ["pt", "safetensors", "ckpt"])
@pytest.mark.parametrize("name", wrong_torch.WRONG)
def test_wrong_modules_of_pytorch_never_pass(name, ending, tmp_path):
    """Their `state_dict` looks like torch.nn's, and they compute something else."""
    never_passes(wrong_torch.write(tmp_path / f"model.{ending}", wrong_torch.WRONG[name]))


@pytest.mark.parametrize("name", wrong_torch.RIGHT)
def test_right_modules_of_pytorch_pass(name, capsys, tmp_path):
    """They pass beside other modules, whatever their names."""
    passes(wrong_torch.write(tmp_path / "model.pt", wrong_torch.RIGHT[name]), capsys)


@pytest.mark.parametrize("name", wrong_onnx.WRONG)
def test_wrong_nodes_of_onnx_never_pass(name, tmp_path):
    """Unsupported options and recurrent networks written out as other nodes never pass."""
    never_passes(wrong_onnx.write(tmp_path / "model.onnx", wrong_onnx.WRONG[name]))


@pytest.mark.parametrize("name", wrong_onnx.RIGHT)
def test_right_nodes_of_onnx_pass(name, capsys, tmp_path):
    """They pass alone and in the whole model, which is run until both branches have been taken."""
    path = wrong_onnx.write(tmp_path / "model.onnx", wrong_onnx.RIGHT[name])
    assert all(original.recorded for original in model.read(path).originals.values())
    passes(path, capsys)


@pytest.mark.table(quick=14)
@pytest.mark.parametrize(("write", "name", "framework"), keras_rows(wrong_keras.WRONG))
def test_wrong_layers_of_keras_never_pass(write, name, framework, tmp_path):
    """Custom layers, layers that are not read, and changed files never pass."""
    never_passes(write(import_module(framework), tmp_path / name))


@pytest.mark.table(quick=1)
@pytest.mark.parametrize(("write", "name", "framework"), keras_rows(wrong_keras.RIGHT))
def test_right_layers_of_keras_pass(write, name, framework, capsys, tmp_path):
    """They pass with masks and backward, alone and in the whole model."""
    options = ["--option", "activation=relu", "--case", "simple_rnn"] if ".weights" in name else []
    path = write(import_module(framework), tmp_path / name)
    assert cli.main([str(path), "--dtype", "float32", *options]) == 0
    assert ("(in the whole model)" in capsys.readouterr().out) != bool(options)


@pytest.mark.parametrize("name", wrong_tf1.WRONG)
def test_wrong_cells_of_tensorflow_never_pass(name, tmp_path):
    """Missing, additional and foreign variables never pass."""
    never_passes(wrong_tf1.write(tmp_path / "model.ckpt", wrong_tf1.WRONG[name]))


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("name", wrong_tf1.RIGHT)
def test_right_cells_of_tensorflow_pass(name, capsys, tmp_path):
    """Layers, directions and two cells in one scope pass, without optimizer slots."""
    passes(wrong_tf1.write(tmp_path / "model.ckpt", wrong_tf1.RIGHT[name]), capsys)
