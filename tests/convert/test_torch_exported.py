"""PyTorch: the weights of programs that torch.export.save has written, `.pt2` files."""

import json
import zipfile

import numpy as np
import pytest
import torch

from conversions import refusal
from jlstm.convert import torch as convert
from torch_models import FEATURES, UNITS


class Tagger(torch.nn.Module):
    """A GRU and a linear layer, with a buffer of integers and two names of one tensor."""

    def __init__(self):
        super().__init__()
        self.rnn, self.linear = torch.nn.GRU(FEATURES, UNITS, batch_first=True), torch.nn.Linear(UNITS, 2)
        self.register_buffer("positions", torch.arange(5))

    def forward(self, xs):
        return self.linear(self.rnn(xs)[0]) + self.positions[:1]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return the module, and the file of its program."""
    torch.manual_seed(0)
    module, path = Tagger().bfloat16(), tmp_path_factory.mktemp("exported") / "model.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(2, 5, FEATURES, dtype=torch.bfloat16),)), path)
    return module, path


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
def test_weights_of_an_exported_program_are_read(exported):
    """Layers have the names of the modules, and the other tensors are listed."""
    module, path = exported
    layers = convert.read(path)
    expected = convert.load({name: weight.float() for name, weight in module.rnn.state_dict().items()})[1]
    assert list(layers) == ["rnn"]
    assert set(layers.unused) == {"linear.weight", "linear.bias", "positions"}
    assert layers["rnn"][1]["kernel"].dtype.name == "bfloat16"
    np.testing.assert_array_equal(layers["rnn"][1]["kernel"].astype("float32"), expected["kernel"])


def changed(path, target, change):
    """Copy an exported program with a changed description of its weights."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for info in source.infolist():
            content = source.read(info)
            copy.writestr(info.filename, change(content) if info.filename.endswith("_weights_config.json") else content)
    return target


def with_entry(**entries):
    """Return a change of the description of one weight."""

    def change(content):
        description = json.loads(content)
        description["config"]["rnn.weight_hh_l0"]["tensor_meta"] |= entries
        return json.dumps(description).encode()

    return change


DAMAGED = {
    "no JSON": (lambda content: content[:-9], "has no whole 'model_weights_config.json'"),
    "a list": (lambda _: b'{"config": [1]}', "has no whole 'model_weights_config.json'"),
    "a negative size": (with_entry(sizes=[{"as_int": -1}] * 2), "not a whole number"),
    "other axes": (with_entry(sizes=[{"as_int": 1}]), "other axes"),
    "too many numbers": (with_entry(storage_offset={"as_int": 1 << 40}), "declares more numbers than it holds"),
}


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_descriptions_are_refused(exported, tmp_path, kind):
    """A description that is damaged is one sentence, before memory is allocated."""
    change, complaint = DAMAGED[kind]
    assert complaint in refusal(lambda: convert.read(changed(exported[1], tmp_path / "a.pt2", change)))


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
@pytest.mark.parametrize("entries", [{"dtype": 29}, {"sizes": [{"as_int": 1}, {"as_int": 1}]}])
def test_layers_with_weights_of_other_types_or_shapes_are_refused(exported, tmp_path, entries):
    """A tensor of eight-bit floats, and one of another shape: the layer is named."""
    assert "'rnn'" in refusal(lambda: convert.read(changed(exported[1], tmp_path / "a.pt2", with_entry(**entries))))
