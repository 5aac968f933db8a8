"""PyTorch: files of another kind, damaged files and malicious files are refused in one sentence, and no pickle is executed."""

import bz2
import gzip
import io
import lzma
import tracemalloc
import zipfile

import h5py
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions import damaged, refusal, survives
from jlstm.convert import torch as convert
from torch_models import FORMATS, STATE, save_legacy


def file_bytes(write):
    """Return the bytes that `write` writes to a file."""
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
    """Return a function that writes these bytes."""
    return lambda file: file.write(data)


PLAIN = torch.nn.LSTM(2, 1).state_dict()
SAVED = file_bytes(lambda file: torch.save(PLAIN, file))
GRAPH = onnx.helper.make_graph([], "g", [], [])
OTHER_KINDS = {
    "TorchScript": (lambda file: torch.jit.save(torch.jit.script(torch.nn.LSTM(2, 1)), file), "is TorchScript"),
    "exported program": (exported, "it has 'weight', 'bias'"),
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
    """One sentence names the kind and a remedy, whatever the suffix, without escape codes of other packages."""
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(file_bytes(write))
    sentence = refusal(lambda: convert.read(path))
    assert complaint in sentence or (suffix == "safetensors" and "is not a whole safetensors file" in sentence)
    assert "\x1b" not in sentence
    assert len(sentence.replace(str(path), "")) <= 300


def test_a_folder_is_no_file(tmp_path):
    """A folder, as a checkpoint of several files is, is refused."""
    with pytest.raises(FileNotFoundError, match=r"is a folder, expected a file: name a file in it"):
        convert.read(tmp_path)


@pytest.mark.parametrize("suffix", ["pt", "bin"])
def test_a_flipped_bit_of_a_weight_is_seen(tmp_path, suffix):
    """The zip file's checksum of each member shows the flipped bit."""
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
    """Pickles that end inside a number, with an empty stack, or with a key without a value are refused."""
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02" + pickled)
    assert "is not a whole file of PyTorch" in refusal(lambda: convert.read(tmp_path / "model.pt"))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("names", [("data.pkl", "data.pkl"), ("data.pkl", "DATA.PKL"), ("data.pkl", "two\nlines", "two\nlines")])
def test_members_with_the_same_name_are_refused(tmp_path, names):
    """Readers differ in which of two members they take, and in how they treat case."""
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        for name in names:
            archive.writestr(f"model/{name}", b"\x80\x02}.")
    assert "has two members with the name" in refusal(lambda: convert.read(tmp_path / "model.pt"))


def test_pickles_are_not_executed(tmp_path):
    """An object that would run code is not made, and the layer beside it is read."""

    class Attack:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    for write in (torch.save, save_legacy):
        write(STATE | {"attack": Attack()}, tmp_path / "model.pt")
        assert list(convert.read(tmp_path / "model.pt")) == ["rnn"]
        write(STATE | {"rnn.weight_hh_l0": Attack()}, tmp_path / "model.pt")
        assert "expected a tensor of floats in memory" in refusal(lambda: convert.read(tmp_path / "model.pt"))
    assert not (tmp_path / "ran").exists()


def many_views():
    """Return forty cells, each a view of nearly all numbers of one storage."""
    numbers = torch.zeros(10**4)
    return {
        f"rnn{k}.{name}": numbers[k : k + size].view(8, -1)
        for k in range(40)
        for name, size in [("weight_ih", 9600), ("weight_hh", 16)]
    }


@pytest.mark.parametrize("write", [torch.save, save_legacy], ids=["zip", "before 1.6"])
def test_declared_sizes_are_checked(tmp_path, write):
    """A huge expanded tensor, a storage too short for its tensors and many views of one storage are refused."""
    huge, path = torch.zeros(1).expand(4 * 10**5, 10**5), tmp_path / "model.pt"
    write({"weight_hh_l0": huge, "weight_ih_l0": huge}, path)
    tracemalloc.start()
    assert "repeats 1 numbers over a larger shape" in refusal(lambda: convert.read(path))
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    write(many_views(), path)
    assert "declares more numbers than it holds" in refusal(lambda: convert.read(path))
    write({"weight_hh_l0": torch.zeros(8, 2), "weight_ih_l0": torch.zeros(8, 200)}, path)
    content = path.read_bytes().replace(b"M\x40\x06", b"M\x41\x06")  # declares 1601 numbers instead of 1600
    if write is torch.save:  # write it again, with a right checksum
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(path, "w") as copy:
            for info in archive.infolist():
                start = (
                    info.header_offset + 30 + int.from_bytes(content[info.header_offset + 26 : info.header_offset + 28], "little")
                )
                start += int.from_bytes(content[info.header_offset + 28 : info.header_offset + 30], "little")
                copy.writestr(info.filename, content[start : start + info.file_size])
    else:
        path.write_bytes(content)
    assert "declares more numbers than it holds" in refusal(lambda: convert.read(path))


def test_dicts_in_dicts_are_refused_before_they_grow(tmp_path):
    """Sixty nested dicts, each twice in the next, would have 2⁶⁰ names."""
    nested = STATE
    for _ in range(60):
        nested = {"a": nested, "b": nested}
    torch.save(nested, tmp_path / "model.pt")
    assert "holds the same thing too often" in refusal(lambda: convert.read(tmp_path / "model.pt"))


@given(st.data())
@settings(max_examples=60)
@pytest.mark.parametrize("write", ["zip", "before 1.6", "safetensors", "whole module"])
def test_damaged_files_are_read_or_refused(tmp_path, write, data):
    """A file with any bytes cut off or changed is read, or refused in one sentence."""
    path = tmp_path / "model.pt"
    FORMATS[write](torch.nn.GRU(2, 1), path)
    survives(convert.read, path, data.draw(damaged(path.read_bytes())))
