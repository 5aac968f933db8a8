"""Keras files from untrusted sources: damaged files, and files that declare more than they hold."""

import json
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions import damaged, refusal, survives
from jlstm.convert import keras as convert

CONFIG = {
    "class_name": "LSTM",
    "config": {
        "name": "one",
        "units": 1,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "unit_forget_bias": True,
        "dtype": "float32",
    },
}
SHAPES = {"0": (2, 4), "1": (1, 4), "2": (4,)}


def weights(path, where="layers/lstm/cell/vars", **datasets):
    """Write a file of weights as Keras does, with some datasets replaced."""
    with h5py.File(path, "w") as file:
        group = file.create_group(where)
        for name, shape in SHAPES.items():
            datasets.get(f"at_{name}", lambda name, shape: group.create_dataset(name, data=np.ones(shape, "f4")))(name, shape)
    return path


def archive(path, config=CONFIG, compression=zipfile.ZIP_STORED, **extra_members):
    """Write a `.keras` file."""
    model = {"class_name": "Sequential", "config": {"layers": [config]}}
    content = weights(path.with_suffix(".weights.h5")).read_bytes()
    members = {"config.json": json.dumps(model), "metadata.json": '{"keras_version": "3.15.1"}', "model.weights.h5": content}
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, value in (members | {name.replace("_", "."): value for name, value in extra_members.items()}).items():
            file.writestr(name, value)
    return path


def old(path, cells, *more_names, described):
    """Write an old file with a layer of cells, in groups of these names, with or without the model's configuration."""
    names = [f"{cell}/{role}" for cell in cells for role in ("kernel", "recurrent_kernel", "bias")] + list(more_names)
    with h5py.File(path, "w") as file:
        weights_group = file.create_group("model_weights") if described else file
        weights_group.attrs["layer_names"] = ["one"]
        layer = weights_group.create_group("one")
        layer.attrs["weight_names"] = names
        for name in names:
            layer[name] = np.ones(SHAPES["2"] if name.endswith("bias") else SHAPES["1"], "f4")
        file.attrs["keras_version"] = "3.15.1"
        if described:
            entries = [{"class_name": "LSTMCell", "config": CONFIG["config"] | {"name": cell.split("/")[-1]}} for cell in cells]
            stack = {"class_name": "StackedRNNCells", "config": {"cells": entries}}
            layers = [{"class_name": "RNN", "config": {"name": "one", "cell": stack}}]
            file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
    return path


@pytest.mark.parametrize("described", [False, True])
def test_cells_of_one_name_are_refused(tmp_path, described):
    """Two groups of one layer with the same last name are refused by both names: one cell would hide the other."""
    stack = "one/stacked_rnn_cells"
    layers = convert.read(old(tmp_path / "a.h5", [f"{stack}/lstm_cell", f"{stack}/lstm_cell_1"], described=described))
    assert len(layers["one"][0].layers) == 2
    path = old(tmp_path / "b.h5", [f"{stack}/lstm_cell", f"{stack}_1/lstm_cell"], described=described)
    complaint = f"it has two cells of one name, in the groups 'one/{stack}/lstm_cell' and 'one/{stack}_1/lstm_cell'"
    assert complaint in refusal(lambda: convert.read(path))


@pytest.mark.parametrize("described", [False, True])
def test_arrays_of_one_role_are_refused(tmp_path, described):
    """Old files write `kernel` or `kernel:0`. If a cell has both, neither hides the other."""
    path = old(tmp_path / "a.h5", ["one/lstm_cell"], "one/lstm_cell/kernel:0", described=described)
    assert "the array 'one/one/lstm_cell/kernel:0' besides kernel" in refusal(lambda: convert.read(path))


def test_the_files_of_these_tests_are_whole(tmp_path):
    """The files are readable before the other tests damage them."""
    assert convert.read(weights(tmp_path / "a.weights.h5")).keys() == {"layers/lstm"}
    assert convert.read(archive(tmp_path / "a.keras")).keys() == {"one"}


@given(st.data())
@settings(max_examples=80)
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_damaged_files_are_read_or_refused(tmp_path, ending, data):
    """A file with any bytes cut off or changed is read, or refused in one sentence."""
    path = (archive if ending == "keras" else weights)(tmp_path / f"model.{ending}")
    survives(convert.read, path, data.draw(damaged(path.read_bytes())))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"shape": (10**6, 4 * 10**5), "dtype": "f4"}, "'layers/lstm/cell/vars/0' declares more numbers than it holds"),
        ({"shape": (10**6, 4 * 10**5), "dtype": "f4", "chunks": (10, 10)}, "compressed or in chunks"),
        ({"data": np.ones((2, 4), "f4"), "compression": "gzip"}, "compressed or in chunks"),
        ({"data": np.ones((2, 4), "i4")}, "is not in one of float64, float32"),
        ({"shape": (2, 4), "dtype": "f4", "external": "/etc/hostname"}, "in another file"),
        ({"data": [["text"] * 4]}, "is not in one of float64"),
    ],
    ids=str,
)
def test_datasets_of_another_kind_are_refused(tmp_path, options, complaint):
    """Huge, compressed, external, integer and text datasets are refused."""
    path = tmp_path / "a.weights.h5"
    with h5py.File(weights(path), "a") as file:
        del file["layers/lstm/cell/vars/0"]
        file["layers/lstm/cell/vars"].create_dataset("0", **options)
    assert complaint in refusal(lambda: convert.read(path))


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        (h5py.SoftLink("/layers/lstm/cell/vars/2"), "'layers/lstm': it has no recurrent_kernel"),
        (h5py.ExternalLink("/etc/hostname", "/x"), "its group 'layers/lstm/cell/vars' has links to other files"),
    ],
    ids=["soft", "external"],
)
def test_links_are_not_followed(tmp_path, link, complaint):
    """A link within the file counts as a missing array. A link to another file is refused."""
    path = tmp_path / "a.weights.h5"
    with h5py.File(weights(path), "a") as file:
        del file["layers/lstm/cell/vars/1"]
        file["layers/lstm/cell/vars/1"] = link
    assert complaint in refusal(lambda: convert.read(path))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"activation": "gelu"}, "'one': it has activation='gelu', which is not ours"),
        ({"activation": {"class_name": "Function", "config": "mine"}}, "'one': it has activation="),
        ({"activation": 3}, "'one': it has activation='3'"),
        ({"dropout": "much"}, "dropout must be a number"),
        ({"dropout": 10**400}, "dropout must be a number that a float can hold"),
        ({"go_backwards": "yes"}, "reverse must be True or False"),
    ],
)
def test_options_that_are_not_ours_are_refused_by_name(tmp_path, changes, complaint):
    """So are options that no Keras version writes."""
    path = archive(tmp_path / "a.keras", CONFIG | {"config": CONFIG["config"] | changes})
    assert complaint in refusal(lambda: convert.read(path))


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"[]",
        b"{}",
        b'{"config": []}',
        b'{"config": {"layers": [1]}}',
        b"[" * 10**5,
        b"\xff",
        b"null",
        b'{"config": {"layers": 3}}',
    ],
)
def test_descriptions_that_are_none_are_one_sentence(tmp_path, config):
    """An empty, malformed or deeply nested description is refused in one sentence."""
    refusal(lambda: convert.read(archive(tmp_path / "a.keras", config_json=config)))


@pytest.mark.parametrize("name", [[], {}, None, 1, 1.5, "two\nlines"], ids=repr)
def test_names_of_cells_may_be_anything(tmp_path, name):
    """The number in the file, not the name, tells which cell is meant."""
    cell = {"class_name": "LSTMCell", "config": CONFIG["config"] | {"name": name}}
    path = archive(tmp_path / "a.keras", {"class_name": "RNN", "config": {"name": "one", "cell": cell}})
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(tmp_path / "b.keras", "w") as copy:
        for member in ("config.json", "metadata.json"):
            copy.writestr(member, file.read(member))
        copy.writestr("model.weights.h5", weights(tmp_path / "b.h5", "layers/rnn/cell/vars").read_bytes())
    assert convert.read(tmp_path / "b.keras").keys() == {"one"}


def test_names_of_several_lines_are_one_sentence(tmp_path):
    """HDF5 allows any characters in names, also line breaks. The refusal stays on one line."""
    path = tmp_path / "a.weights.h5"
    with h5py.File(path, "w") as file:
        for name in ("mine", "two\nlines"):
            for role, shape in SHAPES.items():
                file[f"layers/rnn/cell/cells/{name}/vars/{role}"] = np.ones(shape, "f4")
    assert "cells of several names" in refusal(lambda: convert.read(path))


@pytest.mark.parametrize("field", ["name", "class_name"])
def test_long_names_are_refused(tmp_path, field):
    """Long names are refused: each of many inner layers would have a copy."""
    inner = {"class_name": "Sequential", "config": {"name": "two", "layers": [CONFIG] * 1000}}
    inner = {**inner, field: "n" * 10**5} if field == "class_name" else inner | {"config": inner["config"] | {field: "n" * 10**5}}
    path = archive(tmp_path / "a.keras", inner)
    tracemalloc.start()
    assert "expected at most 1024" in refusal(lambda: convert.read(path))
    assert tracemalloc.get_traced_memory()[1] < 10 * path.stat().st_size
    tracemalloc.stop()


def test_two_layers_of_one_name_are_refused(tmp_path):
    """Keras refuses two layers with one name too: one would hide the other."""
    with h5py.File(weights(tmp_path / "both.h5"), "a") as file:
        file.copy("layers/lstm", "layers/lstm_1")
    model = json.dumps({"class_name": "Sequential", "config": {"layers": [CONFIG, CONFIG]}})
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as file:
        for name, content in {"config.json": model, "metadata.json": '{"keras_version": "3.15.1"}'}.items():
            file.writestr(name, content)
        file.write(tmp_path / "both.h5", "model.weights.h5")
    assert "has two layers of the name 'one'" in refusal(lambda: convert.read(tmp_path / "a.keras"))


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            b'{"config": {"layers": [{"class_name": "LSTM", "config": {"name": "a"}}]}}',
            "without 'units', which Keras writes",
        ),
        (b'{"config": {"layers": [1]}}', "is not as Keras writes it ("),
        (b"1" * 5000, "is not JSON"),
    ],
    ids=["an option missing", "a number for a layer", "a long number"],
)
def test_descriptions_say_what_is_wrong(tmp_path, config, complaint):
    """The sentence names what is wrong, with a remedy that helps."""
    assert complaint in refusal(lambda: convert.read(archive(tmp_path / "a.keras", config_json=config)))


def test_archives_are_checked_before_they_are_unpacked(tmp_path):
    """Compressed or incomplete archives, missing weights, and options that the file states are refused."""
    bomb = archive(tmp_path / "a.keras", compression=zipfile.ZIP_DEFLATED, config_json=b" " * 10**7)
    assert "expected a plain zip file" in refusal(lambda: convert.read(bomb))
    whole = archive(tmp_path / "b.keras")
    content = bytearray(whole.read_bytes())
    first = content.index(b"PK\1\2") + 20  # the field for the packed size of the first member
    content[first : first + 4] = (2**30).to_bytes(4, "little")
    (tmp_path / "long.keras").write_bytes(content)
    assert "larger than the file" in refusal(lambda: convert.read(tmp_path / "long.keras"))
    with zipfile.ZipFile(whole) as file, zipfile.ZipFile(tmp_path / "c.keras", "w") as short:
        short.writestr("config.json", file.read("config.json"))
    assert "has no whole 'metadata.json' in it" in refusal(lambda: convert.read(tmp_path / "c.keras"))
    two = [CONFIG, CONFIG | {"config": CONFIG["config"] | {"name": "two"}}]
    model = json.dumps({"class_name": "Sequential", "config": {"layers": two}})
    assert "'two': it has no weights in the file" in refusal(
        lambda: convert.read(archive(tmp_path / "d.keras", config_json=model))
    )
    assert "leave the options out" in refusal(lambda: convert.read(whole, activation="relu"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        convert.read(tmp_path / "nowhere.keras")
