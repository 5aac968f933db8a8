"""Files of PyTorch's: every format and every container is read by name, tied tensors count once, and damage is one sentence."""

import argparse
import bz2
import gzip
import io
import lzma
import pathlib
import tracemalloc
import zipfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file, save_model

from conversions import damaged, refusal, survives
from jlstm import RNN, ElmanCell, GRUCell, LSTMCell, Stack
from jlstm.convert import torch as convert

FEATURES, UNITS = 3, 4


def model(dtype=torch.float32):
    """An encoder of two layers, something else, and a decoder."""
    torch.manual_seed(0)
    modules = {"encoder": torch.nn.LSTM(FEATURES, UNITS, 2), "head": torch.nn.Linear(2, 2), "decoder": torch.nn.GRU(2, 5)}
    return torch.nn.ModuleDict(modules).to(dtype)


def old(content, path):
    """Write the format before PyTorch 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def without_checksums(content, path):
    """Write what PyTorch writes when it is told to leave checksums out."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content, path)
    finally:
        torch.serialization.set_crc32_options(True)


FORMATS = {
    "zip": lambda module, path: torch.save(module.state_dict(), path),
    "zip without checksums": lambda module, path: without_checksums(module.state_dict(), path),
    "before 1.6": lambda module, path: old(module.state_dict(), path),
    "safetensors": lambda module, path: save_file(module.state_dict(), path),
    "whole module": torch.save,
    "whole module before 1.6": old,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("suffix", [".pt", ".bin"])
@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_files_of_a_whole_model_are_read_by_name(tmp_path, write, suffix, dtype):
    """All recurrent layers of a model, whatever else it holds; dtypes stay; other arrays are listed."""
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
    """In a `.pt` file; safetensors files do not keep that order, and are sorted by name."""
    torch.save(model().state_dict(), tmp_path / "model.pt")
    save_file(model().state_dict(), tmp_path / "model.safetensors")
    assert list(convert.read(tmp_path / "model.pt")) == ["encoder", "decoder"]
    assert list(convert.read(tmp_path / "model.safetensors")) == ["decoder", "encoder"]


class Hyperparameters:
    """What only the training script knows, and what refers to itself."""

    def __init__(self):
        self.rate, self.parent = np.float64(1e-3), self


STATE = {f"rnn.{name}": value for name, value in torch.nn.LSTM(FEATURES, UNITS).state_dict().items()}
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


@pytest.mark.parametrize("write", [torch.save, old], ids=["zip", "before 1.6"])
@pytest.mark.parametrize(("content", "names"), CONTAINERS.values(), ids=CONTAINERS)
def test_checkpoints_of_a_training_are_read(tmp_path, content, names, write):
    """Names begin with the keys that lead to a state_dict; an optimizer's tensors are no part of the model."""
    write(content, tmp_path / "model.ckpt")
    layers = convert.read(tmp_path / "model.ckpt")
    assert list(layers) == names
    assert not any("optimizer" in name for name in layers.unused)
    if names[0].endswith("rnn"):
        np.testing.assert_array_equal(layers[names[0]][1]["kernel"], STATE["rnn.weight_ih_l0"].T)


class Language(torch.nn.Module):
    """One matrix for the embedding and the output."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.decode = torch.nn.Embedding(200, 32), torch.nn.LSTM(32, 32), torch.nn.Linear(32, 200)
        self.decode.weight = self.embed.weight


class Siamese(torch.nn.Module):
    """One module under two names."""

    def __init__(self):
        super().__init__()
        self.left = torch.nn.LSTM(30, 40)
        self.right = self.left


class Expanded(torch.nn.Module):
    """A buffer of one number in a larger shape."""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(FEATURES, UNITS)
        self.register_buffer("mask", torch.ones(1).expand(64, 64))


class OneStorage(torch.nn.Module):
    """All weights in one storage, as on a GPU."""

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
    """A tensor under two names, and views of one storage."""
    module = make()
    write(module, tmp_path / "model.pt")
    layers = convert.read(tmp_path / "model.pt")
    assert list(layers) == (["left", "right"] if make is Siamese else ["rnn"])
    for name, (_, params) in layers.items():
        expected = convert.load(dict(getattr(module, name).state_dict()))[1]
        jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_tied_tensors_that_safetensors_leaves_out_are_read(tmp_path):
    """`save_model` writes one of them, and the other's name into the metadata."""
    save_model(Siamese(), str(tmp_path / "model.safetensors"))
    layers = convert.read(tmp_path / "model.safetensors")
    assert list(layers) == ["left", "right"]
    jax.tree.map(np.testing.assert_array_equal, layers["left"][1], layers["right"][1])


@pytest.mark.parametrize("write", [torch.save, old], ids=["zip", "before 1.6"])
def test_rnns_are_skipped_or_told_their_nonlinearity(tmp_path, write):
    """They hide no LSTM; a file with nothing else asks for the argument."""
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


def written(write):
    """The bytes of a file."""
    with io.BytesIO() as file:
        write(file)
        return file.getvalue()


def hdf5(file):
    """Write an HDF5 file of one array."""
    with h5py.File(file, "w") as opened:
        opened["a"] = np.ones(3)


def exported(file):
    """Write an exported program."""
    torch.export.save(torch.export.export(torch.nn.Linear(2, 3), (torch.zeros(5, 2),)), file)


def packed(file):
    """Write a state_dict into a compressed zip file."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}." + b"0" * 100)


def content(data):
    """Write these bytes."""
    return lambda file: file.write(data)


PLAIN = torch.nn.LSTM(2, 1).state_dict()
SAVED = written(lambda file: torch.save(PLAIN, file))
GRAPH = onnx.helper.make_graph([], "g", [], [])
OTHER_KINDS = {
    "TorchScript": (lambda file: torch.jit.save(torch.jit.script(torch.nn.LSTM(2, 1)), file), "is TorchScript"),
    "exported program": (exported, "is an exported program"),
    "HDF5": (hdf5, "is an HDF5 file"),
    "ONNX": (content(onnx.helper.make_model(GRAPH).SerializeToString()), "is an ONNX model"),
    "npz": (lambda file: np.savez(file, a=np.ones(3)), "is a NumPy archive"),
    "npy": (lambda file: np.save(file, np.ones(3)), "is a NumPy array"),
    "gzip": (content(gzip.compress(SAVED)), "is compressed by gzip"),
    "bzip2": (content(bz2.compress(SAVED)), "is compressed by bzip2"),
    "xz": (content(lzma.compress(SAVED)), "is compressed by xz"),
    "web page": (content(b"<!DOCTYPE html><html></html>"), "is a text such as a web page"),
    "Git LFS": (content(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "is a pointer of Git LFS"),
    "tar": (content(b"\0" * 257 + b"ustar" + b"\0" * 300), "is a tar archive"),
    "pickle": (content(b"\x80\x02}."), "is a pickle that torch.save has not written"),
    "tensor alone": (lambda file: torch.save(torch.ones(3), file), "has no tensors with the names of PyTorch's LSTM"),
    "other model": (lambda file: torch.save(torch.nn.Linear(2, 3).state_dict(), file), "it has 'weight', 'bias'"),
    "empty": (content(b""), "write or download it again"),
    "cut off": (content(SAVED[:-100]), "write or download it again"),
    "packed": (packed, "is a compressed zip file"),
    "other bytes": (content(b"\xff" * 64), "write or download it again"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize(("write", "complaint"), OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_files_of_another_kind_are_told_by_name(tmp_path, write, complaint, suffix):
    """One sentence with a remedy, whatever the suffix, without what another package says in its own colours."""
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(written(write))
    sentence = refusal(lambda: convert.read(path))
    assert complaint in sentence or (suffix == "safetensors" and "is not a whole safetensors file" in sentence)
    assert "\x1b" not in sentence
    assert len(sentence.replace(str(path), "")) <= 300


def test_a_folder_is_no_file(tmp_path):
    """As a checkpoint of several files is."""
    with pytest.raises(FileNotFoundError, match=r"is a folder, expected a file: name a file in it"):
        convert.read(tmp_path)


@pytest.mark.parametrize("suffix", ["pt", "bin"])
def test_a_flipped_bit_of_a_weight_is_seen(tmp_path, suffix):
    """By the checksum that the zip file has of each of its members."""
    path = tmp_path / f"model.{suffix}"
    for name, weight in PLAIN.items():
        place = SAVED.index(weight.numpy().tobytes())
        for k in range(weight.numel() * 4):
            content = bytearray(SAVED)
            content[place + k] ^= 1 << (k % 8)
            path.write_bytes(content)
            assert "Bad CRC-32" in refusal(lambda: convert.read(path)), name


@pytest.mark.parametrize(
    "pickled", [b"j", b"r\0", b"X\1", b"G", b"}(K\1u.", b"\x8a\xff", b"h\0.", b".", b"(.", b"N\x85(0."], ids=repr
)
def test_pickles_that_end_early_are_one_sentence(tmp_path, pickled):
    """In the middle of a number, with nothing on the stack, with a key and no value."""
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + pickled)
    assert "is not a whole file of torch.save" in refusal(lambda: convert.read(tmp_path / "model.pt"))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("names", [("data.pkl", "data.pkl"), ("data.pkl", "DATA.PKL"), ("data.pkl", "two\nlines", "two\nlines")])
def test_members_with_the_same_name_are_refused(tmp_path, names):
    """Readers do not agree on which one counts, nor on capital letters."""
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name in names:
            archive.writestr(f"model/{name}", b"\x80\x02}.")
    assert "has two members with the name" in refusal(lambda: convert.read(tmp_path / "model.pt"))


def test_pickles_are_not_executed(tmp_path):
    """What would run code is not made; the layer beside it is read."""

    class Attack:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    for write in (torch.save, old):
        write(STATE | {"attack": Attack()}, tmp_path / "model.pt")
        assert list(convert.read(tmp_path / "model.pt")) == ["rnn"]
        write(STATE | {"rnn.weight_hh_l0": Attack()}, tmp_path / "model.pt")
        assert "expected a tensor of floating numbers" in refusal(lambda: convert.read(tmp_path / "model.pt"))
    assert not (tmp_path / "ran").exists()


def many_views():
    """Forty cells, each a view of nearly all numbers of one storage."""
    numbers = torch.zeros(10**4)
    return {
        f"rnn{k}.{name}": numbers[k : k + size].view(8, -1)
        for k in range(40)
        for name, size in [("weight_ih", 9600), ("weight_hh", 16)]
    }


@pytest.mark.parametrize("write", [torch.save, old], ids=["zip", "before 1.6"])
def test_declared_sizes_are_checked(tmp_path, write):
    """A tensor of one number in a huge shape, a storage with more numbers than there are, and many views of one storage."""
    huge, path = torch.zeros(1).expand(4 * 10**5, 10**5), tmp_path / "model.pt"
    write({"weight_hh_l0": huge, "weight_ih_l0": huge}, path)
    tracemalloc.start()
    assert "repeats 1 numbers over a larger shape" in refusal(lambda: convert.read(path))
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    write(many_views(), path)
    assert "declares more numbers than it holds" in refusal(lambda: convert.read(path))
    write({"weight_hh_l0": torch.zeros(8, 2), "weight_ih_l0": torch.zeros(8, 200)}, path)
    content = path.read_bytes().replace(b"M\x40\x06", b"M\x41\x06")  # 1600 numbers become 1601
    if write is torch.save:  # with its new checksum
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(path, "w") as changed:
            for info in archive.infolist():
                start = (
                    info.header_offset + 30 + int.from_bytes(content[info.header_offset + 26 : info.header_offset + 28], "little")
                )
                start += int.from_bytes(content[info.header_offset + 28 : info.header_offset + 30], "little")
                changed.writestr(info.filename, content[start : start + info.file_size])
    else:
        path.write_bytes(content)
    assert "declares more numbers than it holds" in refusal(lambda: convert.read(path))


def test_dicts_in_dicts_are_refused_before_they_grow(tmp_path):
    """Sixty dicts, each twice in the next, have 2⁶⁰ names."""
    nested = STATE
    for _ in range(60):
        nested = {"a": nested, "b": nested}
    torch.save(nested, tmp_path / "model.pt")
    assert "holds the same thing too often" in refusal(lambda: convert.read(tmp_path / "model.pt"))


@given(st.data())
@settings(max_examples=60)
@pytest.mark.parametrize("write", ["zip", "before 1.6", "safetensors", "whole module"])
def test_damaged_files_are_read_or_refused(tmp_path, write, data):
    """Whatever bytes are cut off or changed."""
    path = tmp_path / "model.pt"
    FORMATS[write](torch.nn.GRU(2, 1), path)
    survives(convert.read, path, data.draw(damaged(path.read_bytes())))


def test_the_decoder_is_a_gru(tmp_path):
    """Kinds are told by the number of gates."""
    torch.save(model().state_dict(), tmp_path / "model.pt")
    assert isinstance(convert.read(tmp_path / "model.pt")["decoder"][0].cell, GRUCell)
