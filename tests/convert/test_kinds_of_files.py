"""Files of another kind than a reader takes, and files that hold a part of a model, are refused by name."""

import gzip
import json
import zipfile

import h5py
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from conversions import refusal
from jlstm import convert
from tensorflow_modules import MARKS, keras

pytestmark = MARKS
STATE = torch.nn.LSTM(3, 4).state_dict()
MODEL = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))


def write_hdf5(path):
    """Write an HDF5 file of one array."""
    with h5py.File(path, "w") as file:
        file["a"] = np.ones(3)


def write_archive(path):
    """Write a zip file that has a member with the name of those of Keras."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"")


KINDS = {  # how a file is written, how a refusal names it, and the reader that takes it
    "torch.save": (lambda path: torch.save(STATE, path), "a file of PyTorch", "torch"),
    "torch.save before 1.6": (
        lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
        "a file of PyTorch",
        "torch",
    ),
    "safetensors": (lambda path: save_file(STATE, path), "a safetensors file", "torch"),
    "HDF5": (write_hdf5, "an HDF5 file", "keras"),
    "Keras": (write_archive, "a Keras model", "keras"),
    "ONNX": (lambda path: path.write_bytes(MODEL.SerializeToString()), "an ONNX model", "onnx"),
    "JSON": (lambda path: path.write_text(json.dumps({"weight_map": {}})), "a text in JSON", None),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"0" * 99)), "compressed by gzip", None),
}


@pytest.mark.parametrize("reader", ["torch", "keras", "onnx", "tf1"])
@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 5000, "a\0"], ids=["long", "deep", "zero"])
def test_names_that_no_file_can_have_are_refused(name, reader):
    """A name that the system does not allow is said to be one, and not to be missing."""
    assert "must be a name that the system allows" in refusal(lambda: getattr(convert, reader).read(name))


@pytest.mark.parametrize("reader", ["torch", "keras", "onnx", "tf1"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_reader_names_the_files_of_others(kind, reader, tmp_path):
    """The refusal names the kind of the file and the module that reads it, whatever the name of the file."""
    write, description, own_reader = KINDS[kind]
    for ending in ("h5", "keras", "pt", "onnx"):
        write(path := tmp_path / f"model.{ending}")
        if reader != own_reader:
            sentence = refusal(lambda path=path: getattr(convert, reader).read(path))
            assert f"is {description}" in sentence
            assert own_reader is None or f"jlstm.convert.{own_reader}" in sentence


def test_a_folder_is_no_checkpoint(tmp_path):
    """A folder, such as that of a SavedModel, is refused as such, and not as missing."""
    with pytest.raises(FileNotFoundError, match="is a folder, expected a checkpoint: name one in it"):
        convert.tf1.read(tmp_path)


def test_a_part_of_a_pytorch_model_is_refused(tmp_path):
    """A layer whose biases are in another file is not read as one without biases. A file that is the only one is read."""
    kernels = {name: array for name, array in STATE.items() if "weight" in name}
    for write, name in ((torch.save, "pytorch_model-00001-of-00012.bin"), (save_file, "model-00002-of-00002.safetensors")):
        write(kernels, tmp_path / name)
        assert "is one of " in refusal(lambda name=name: convert.torch.read(tmp_path / name))
    for name in ("model-00001-of-00001.safetensors", "10-of-hearts.safetensors"):
        save_file(STATE, tmp_path / name)
        assert convert.torch.read(tmp_path / name)[""][0].cell.use_bias


def test_a_part_of_a_keras_model_is_refused(tmp_path):
    """A layer whose bias is in another file is not read as one without a bias, with the index beside the file or without it."""
    model = keras.Sequential([keras.Input((None, 16)), keras.layers.LSTM(16), keras.layers.Dense(20)])
    kibibyte = 1 / 1024**2  # of the gibibytes that Keras counts
    model.save_weights(tmp_path / "model.weights.json", max_shard_size=8.1 * kibibyte)
    parts = sorted(tmp_path.glob("*.h5"))
    with h5py.File(parts[0]) as first, h5py.File(parts[1]) as second:
        assert sorted(first["layers/lstm/cell/vars"]) == ["0", "1"]
        assert sorted(second["layers/lstm/cell/vars"]) == ["2"]
    for part in parts:
        assert "is one of several files" in refusal(lambda part=part: convert.keras.read(part))
    (tmp_path / "model.weights.json").unlink()
    for part in parts:
        assert "is one of several files" in refusal(lambda part=part: convert.keras.read(part))


def test_numbered_checkpoints_of_keras_are_no_parts(tmp_path):
    """A file that is called like a part, as that of an epoch, is read."""
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4)])
    model.save_weights(path := tmp_path / "epoch_00007.weights.h5")
    (layer, _) = next(iter(convert.keras.read(path).values()))
    assert layer.cell.use_bias


def test_the_content_of_a_keras_file_decides(tmp_path):
    """Older versions of TensorFlow 2 write HDF5 into files called .keras."""
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, name="encoder")])
    for name, other in (("a.h5", "a.keras"), ("b.keras", "b.h5")):
        model.save(tmp_path / name)
        (tmp_path / name).rename(tmp_path / other)
        assert list(convert.keras.read(tmp_path / other)) == ["encoder"]
