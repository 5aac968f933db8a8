"""Keras files whose description contradicts their weights, or whose layers are not Keras's own, are refused."""

import io
import json
import random
import warnings
import zipfile

import h5py
import numpy as np
import pytest

from conversions import refusal
from jlstm.convert import keras as convert
from tensorflow_modules import MARKS, keras, tf_keras

pytestmark = MARKS
LSTM, GRU = "layers/lstm/cell/vars", "layers/gru/cell/vars"


@pytest.fixture(scope="module", params=[keras, tf_keras], ids=["keras", "tf_keras"])
def files(request, tmp_path_factory):
    """A model's `.keras` and `.h5` files."""
    folder, keras_layers = tmp_path_factory.mktemp("models"), request.param.layers
    layers = [
        keras_layers.LSTM(4, name="first", return_sequences=True),
        keras_layers.GRU(4, name="second", return_sequences=True),
        keras_layers.Bidirectional(keras_layers.LSTM(3), name="third"),
    ]
    model = request.param.Sequential([request.param.Input((None, 2)), *layers])
    for ending in (".keras", ".h5"):
        model.save(folder / f"model{ending}")
    return folder


def option(name, **changes):
    """Change options of a layer's description."""

    def change(config):
        for entry in config["config"]["layers"]:
            if entry["config"]["name"] == name:
                entry["config"].update(changes)

    return change


def entry(name, **changes):
    """Change the fields beside a layer's options."""

    def change(config):
        for layer in config["config"]["layers"]:
            if layer["config"]["name"] == name:
                layer.update(changes)

    return change


def wrapped(**changes):
    """Change options of the layer inside the Bidirectional one."""
    return lambda config: config["config"]["layers"][-1]["config"]["layer"]["config"].update(changes)


def delete(*names):
    """Delete groups or arrays."""

    def change(weights):
        for name in names:
            del weights[name]

    return change


def put_array(name, array):
    """Replace an array, or add one."""

    def change(weights):
        if name in weights:
            del weights[name]
        weights[name] = array

    return change


def planted(files, path, describe=None, weigh=None, version=None):
    """Write the `.keras` file with changes, and with right checksums."""
    with zipfile.ZipFile(files / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if describe is not None:
        config = json.loads(members["config.json"])
        describe(config)
        members["config.json"] = json.dumps(config)
    if version is not None:
        members["metadata.json"] = json.dumps(json.loads(members["metadata.json"]) | {"keras_version": version})
    if weigh is not None:
        content = io.BytesIO(members["model.weights.h5"])
        with h5py.File(content, "a") as weights:
            weigh(weights)
        members["model.weights.h5"] = content.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return path


CONTRADICTIONS = {
    "no backward weights": (
        {"weigh": delete("layers/bidirectional/backward_layer")},
        "weights of 1 directions and is described with 2",
    ),
    "no forward weights": (
        {"weigh": delete("layers/bidirectional/forward_layer")},
        "weights of 1 directions and is described with 2",
    ),
    "a second direction": (
        {"weigh": lambda weights: weights.copy("layers/lstm/cell", "layers/lstm/backward_layer/cell")},
        "weights of 2 directions and is described with 1",
    ),
    "no weights": ({"weigh": delete("layers/lstm")}, "it has no weights in the file"),
    "units": ({"describe": option("first", units=5)}, "units=5, and its weights have 4"),
    "units of a side": ({"describe": wrapped(units=4)}, "units=4, and its weights have 3|expected '4'"),
    "units in words": ({"describe": option("first", units="4")}, "units='4', expected a whole number"),
    "a bias too many": ({"describe": option("first", use_bias=False)}, "use_bias=False, and its weights have a bias"),
    "a bias too few": ({"weigh": delete(f"{LSTM}/2")}, "use_bias=True, and its weights have no bias"),
    "reset_after": ({"describe": option("second", reset_after=False)}, "not that of reset_after=False"),
    "reset_after in words": ({"describe": option("second", reset_after="false")}, "reset_after='false', expected true or false"),
    "reset_after of nothing": ({"describe": option("second", reset_after=None)}, "reset_after='None', expected true or false"),
    "another class": ({"describe": entry("first", class_name="GRU")}, "which Keras writes|has no weights|described as GRU"),
    "dtype": ({"describe": option("first", dtype="float64")}, "dtype float64, and its weights are float32"),
    "cuDNN's bias": ({"weigh": put_array(f"{LSTM}/2", np.ones(32, "f4"))}, "in cuDNN's layout, unlike"),
    "a fourth array": ({"weigh": put_array(f"{LSTM}/3", np.ones(4, "f4"))}, "it has the array 'layers/lstm/cell/vars/3' besides"),
    "a normalization": (
        {"weigh": put_array("layers/lstm/cell/norm/vars/0", np.ones(4, "f4"))},
        "'layers/lstm/cell/norm/vars/0' besides",
    ),
    "no version": ({"version": ""}, "states keras_version '', expected one such as"),
    "a broken version": ({"version": "3\x01.15"}, "states keras_version"),
    "a version that is no text": ({"version": 3}, "states keras_version ''"),
    "a later version": ({"version": "4.0.0"}, "states keras_version '4.0.0'"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictions_are_refused_naming_both_sides(files, name, tmp_path):
    """The sentence names the description and the weights. Keras itself refuses most of these files."""
    changes, complaint = CONTRADICTIONS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((ValueError, UserWarning)) as caught:  # a layer is skipped with a warning
            convert.read(planted(files, tmp_path / "a.keras", **changes))
    sentence = str(caught.value)
    assert any(part in sentence for part in complaint.split("|")), sentence
    assert "\n" not in sentence
    assert len(sentence.replace(str(tmp_path), "")) <= 300


def test_the_version_of_another_keras_is_refused(files, tmp_path):
    """The version defines `hard_sigmoid`, and the options of Keras 2 and 3 differ."""
    with zipfile.ZipFile(files / "model.keras") as archive:
        ours = json.loads(archive.read("metadata.json"))["keras_version"]
    wrong_version = "3.4.1" if ours.startswith("2") else "2.15.0"
    sentence = refusal(lambda: convert.read(planted(files, tmp_path / "a.keras", version=wrong_version)))
    assert f"keras_version is {wrong_version}" in sentence
    assert f"which Keras {ours[0]} writes" in sentence


UNLIKE = {
    "another package": (entry("first", module="mine.layers"), "of the module 'mine.layers', not Keras's LSTM"),
    "registered": (entry("first", registered_name="Mine>LSTM"), "registered as 'Mine>LSTM', not Keras's LSTM"),
    "a custom activation": (option("first", activation={"class_name": "function", "config": "mine"}), "which is not ours"),
    "an unknown option": (option("first", peephole=True), "it has the option 'peephole'='True', which is not known here"),
    "a layer normalization": (option("first", layer_norm={"axis": -1}), "it has the option 'layer_norm'"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_is_not_kerass_own_is_skipped_by_name(files, name, tmp_path):
    """A layer that is not Keras's own is skipped, and the other layers are read."""
    change, reason = UNLIKE[name]
    with pytest.warns(UserWarning, match="'first' is not converted"):
        layers = convert.read(planted(files, tmp_path / "a.keras", describe=change))
    assert reason in layers.skipped["first"]
    assert list(layers) == ["second", "third"]
    assert not layers.unused


@pytest.mark.parametrize(
    ("option_value", "same"),
    [
        ({"stateful": True}, True),
        ({"unroll": True}, True),
        ({"kernel_regularizer": "l2"}, True),
        ({"bias_constraint": "x"}, True),
    ],
    ids=str,
)
def test_options_that_change_no_output_are_taken(files, option_value, same, tmp_path):
    """Regularizers, constraints and loop options are accepted and ignored."""
    layers = convert.read(planted(files, tmp_path / "a.keras", describe=option("first", **option_value)))
    assert (list(layers) == ["first", "second", "third"]) is same


OLD = {
    "a missing array": (lambda file, top: delete(f"{top}/bias")(file), "which is not there"),
    "an array that is not listed": (lambda file, top: put_array(f"{top}/gamma", np.ones(4, "f4"))(file), "'first/"),
    "a cell that is not listed": (
        lambda file, top: file.copy(file[top], f"{top}_1"),
        "has 2 cells, and is described with 1|weights of 2 directions",
    ),
}


@pytest.mark.parametrize("name", OLD)
def test_old_files_are_held_against_their_lists(files, name, tmp_path):
    """An `.h5` file has exactly the arrays that its layers list."""
    path = tmp_path / "a.h5"
    path.write_bytes((files / "model.h5").read_bytes())
    change, complaint = OLD[name]
    with h5py.File(path, "a") as file:
        places = []
        file["model_weights/first"].visit(
            lambda place: places.append(place) if place.endswith("_cell") or "lstm_cell" in place.split("/")[-1] else None
        )
        top = f"model_weights/first/{places[0]}"
        if name == "a missing array" and f"{top}/bias" not in file:
            file.move(f"{top}/bias:0", f"{top}/bias")  # tf-keras writes another name, which is then missing
        change(file, top)
    sentence = refusal(lambda: convert.read(path))
    assert any(part in sentence for part in complaint.split("|")), sentence


def test_directions_without_an_order_are_refused(tmp_path):
    """Without the list of weights nothing tells which of two cells runs backward."""
    keras_layers = keras.layers
    two = keras_layers.Bidirectional(
        keras_layers.LSTM(4, name="b"), backward_layer=keras_layers.LSTM(4, go_backwards=True, name="a"), name="two"
    )
    path = tmp_path / "a.h5"
    keras.Sequential([keras.Input((None, 3)), two], name="model").save(path)
    with h5py.File(path, "a") as file:
        group = file["model_weights/two"]
        group.move("model/two/forward_b", "model/two/x")
        group.move("model/two/a", "model/two/y")
        del group.attrs["weight_names"]
    assert "has no list weight_names" in refusal(lambda: convert.read(path))


def test_the_version_of_an_old_file_is_needed(files, tmp_path):
    """A description without a version does not define `hard_sigmoid`."""
    path = tmp_path / "a.h5"
    path.write_bytes((files / "model.h5").read_bytes())
    with h5py.File(path, "a") as file:
        for group in (file, file["model_weights"]):
            del group.attrs["keras_version"]
    assert "states keras_version ''" in refusal(lambda: convert.read(path))


def test_a_cell_with_more_arrays_is_skipped_in_files_of_weights(files, tmp_path):
    """The arrays of a layer normalization in a cell are not ignored."""
    path = tmp_path / "a.weights.h5"
    with zipfile.ZipFile(files / "model.keras") as archive:
        path.write_bytes(archive.read("model.weights.h5"))
    with h5py.File(path, "a") as file:
        file[f"{LSTM}/3"] = np.ones(4, "f4")
        file["layers/gru/cell/norm/vars/0"] = np.ones(4, "f4")
    with pytest.warns(UserWarning, match="besides kernel, recurrent_kernel and bias"):
        layers = convert.read(path)
    assert len(layers) == 1
    assert len(layers.skipped) == 2


def test_bits_flipped_in_an_archives_members_are_seen(files, tmp_path):
    """The CRC-32 of each member shows any flipped bit."""
    whole = (files / "model.keras").read_bytes()
    with zipfile.ZipFile(files / "model.keras") as archive:
        spans = [(member.header_offset + 30 + len(member.filename), member.file_size) for member in archive.infolist()]
    rng = random.Random(0)
    for _ in range(60):
        start, size = rng.choice(spans)
        content = bytearray(whole)
        content[start + rng.randrange(size)] ^= 1 << rng.randrange(8)
        (tmp_path / "a.keras").write_bytes(content)
        assert "CRC-32" in refusal(lambda: convert.read(tmp_path / "a.keras"))
