"""`python -m parity model.keras` compares converted layers of a Keras file with Keras's own."""

import contextlib
import io
import json
import zipfile

import jax
import numpy as np
import pytest

import parity.__main__ as cli
from jlstm import GRU, LSTM, Bidirectional, Stack, load_layer
from jlstm._src.description import features_in
from jlstm.convert import keras as convert
from parity.model import save
from tensorflow_modules import MARKS, keras, tf_keras

pytestmark = MARKS


def model(framework):
    """Return a model on integers with all kinds of recurrent layers, one inside another model."""
    keras_layers = framework.layers
    inner = framework.Sequential([framework.Input((None, 6)), keras_layers.LSTM(5, activation="relu", name="deep")], name="inner")
    xs = framework.Input((None,), dtype="int32")
    ys = keras_layers.Embedding(20, 3)(xs)
    ys = keras_layers.Bidirectional(keras_layers.LSTM(4, return_sequences=True), name="both")(ys)
    ys = keras_layers.RNN([keras_layers.LSTMCell(3), keras_layers.LSTMCell(2)], return_sequences=True, name="cells")(ys)
    ys = keras_layers.GRU(6, return_sequences=True, go_backwards=True, recurrent_activation="hard_sigmoid", name="gated")(ys)
    whole = framework.Model(xs, keras_layers.Dense(2)(inner(ys)))
    rng = np.random.default_rng(0)
    whole.set_weights([rng.normal(0, 0.4, array.shape) for array in whole.get_weights()])
    return whole


NAMES = {"both", "cells", "gated", "inner/deep"}


@pytest.fixture(scope="module", params=[keras, pytest.param(tf_keras, marks=pytest.mark.slow)], ids=["keras", "tf_keras"])
def saved(request, tmp_path_factory):
    """The folder of a model's files, and the name of its framework."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("model.keras", "model.h5"):
        model(request.param).save(folder / name)
    return folder, request.param.__name__.split(".")[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of one LSTM."""
    path = tmp_path_factory.mktemp("small") / "small.keras"
    keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, name="one")]).save(path)
    return path


def failure(capsys, *arguments):
    """Return the sentence of a run that cannot start."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("parity: ")
    assert sentence.count("\n") == 1, sentence
    return sentence


@pytest.fixture(scope="module")
def checked(saved):
    """The output of a run on a model's `.keras` file, and the folder with its reports and layers."""
    out = saved[0] / "out"
    out.mkdir()
    files = [f"--{kind}={out / kind}" for kind in ("json", "html", "junit")]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert cli.main([str(saved[0] / "model.keras"), *files, "--save", str(out / "all.safetensors")]) == 0
    return printed.getvalue(), out


def assert_passed(printed, dtype):
    """Assert that all layers pass in that dtype."""
    for layer in NAMES:
        assert any(line.startswith(f"pass       {dtype}") and line.endswith(layer) for line in printed.splitlines()), printed


@pytest.mark.table(quick=1)
def test_all_recurrent_layers_of_a_file_pass_by_name(saved, checked):
    """They pass in float64, which proves the conversion, and in the file's dtype, in all reports."""
    printed, out = checked
    assert_passed(printed, "float64")
    assert_passed(printed, "float32")
    contents = json.loads((out / "json").read_text())
    assert {case["name"] for case in contents["cases"]} == NAMES | {f"{layer} (in the whole model)" for layer in NAMES}
    versions = set(contents["versions"]) - {"python", "jax", "numpy", "jlstm"}
    assert {case["peer"] for case in contents["cases"]} == versions == {saved[1]}
    bidirectional_case = next(case for case in contents["cases"] if case["name"] == "both")
    carries = {f"carry.{direction}.{part}" for direction in ("forward", "backward") for part in "hc"}
    assert {q["name"] for q in bidirectional_case["quantities"]} == {"ys"} | carries
    assert "pairs of options" not in (out / "html").read_text()
    assert "inner/deep" in (out / "junit").read_text()


@pytest.mark.table(quick=1)
def test_layers_of_a_legacy_file_pass_by_name(saved, capsys):
    """Keras 2 is compared in float64 alone, Keras 3 also in the file's dtype and in the whole model."""
    dtype = {"keras": "float32", "tf_keras": "float64"}[saved[1]]
    assert cli.main([str(saved[0] / "model.h5"), "--dtype", dtype]) == 0
    printed = capsys.readouterr().out
    assert_passed(printed, dtype)
    assert printed.count("(in the whole model)") == (len(NAMES) if dtype == "float32" else 0)


def test_a_layer_of_mixed_precision_is_run_in_what_it_computes_in(capsys, tmp_path):
    """The weights are float32, and the computation is in bfloat16."""
    layer = keras.layers.Bidirectional(keras.layers.LSTM(4, dtype="mixed_bfloat16"), name="one", dtype="mixed_bfloat16")
    keras.Sequential([keras.Input((None, 3)), layer]).save(tmp_path / "model.keras")
    assert cli.main([str(tmp_path / "model.keras")]) == 0
    assert [line[:20].split() for line in capsys.readouterr().out.splitlines()[1:3]] == [
        ["pass", "float64"],
        ["pass", "bfloat16"],
    ]


def swapped(params):
    """Exchange the columns of the forget gate and the candidate."""

    def swap(array):
        i, f, g, o = np.split(array, 4, -1)
        return np.concatenate([i, g, f, o], -1)

    return jax.tree.map(swap, params)


def test_a_wrong_conversion_is_diagnosed(small, capsys, monkeypatch, tmp_path):
    """The swapped gates of a converter are named, and nothing is saved."""
    read = convert.read
    monkeypatch.setattr(convert, "read", lambda path: {n: (layer, swapped(p)) for n, (layer, p) in read(path).items()})
    assert cli.main([str(small), "--dtype", "float64", "--save", str(tmp_path / "out.safetensors")]) == 1
    printed = capsys.readouterr()
    assert "fail       float64" in printed.out
    assert "\n         keras: matches if the f and g gates are swapped\n" in printed.out
    assert "nothing is written to --save" in printed.err
    assert not list(tmp_path.iterdir())


def test_a_wrong_conversion_of_another_layer_is_shown_where_it_is_worst(capsys, monkeypatch, tmp_path):
    """No faults are searched for this layer, so only the facts are told."""
    keras.Sequential([keras.Input((None, 3)), keras.layers.SimpleRNN(4, name="one")]).save(tmp_path / "model.keras")
    read = convert.read

    def negated(path):
        return {name: (layer, jax.tree.map(np.negative, params)) for name, (layer, params) in read(path).items()}

    monkeypatch.setattr(convert, "read", negated)
    assert cli.main([str(tmp_path / "model.keras")]) == 1
    printed = capsys.readouterr().out
    assert "keras: no faults of ElmanCell are known, so that none was tried\n         worst: " in printed


def test_inputs_of_ones_own_are_run_besides_random_ones(small, capsys, tmp_path):
    """A user's inputs go directly to the recurrent layer."""
    np.savez(tmp_path / "x.npz", xs=np.ones((5, 7, 3), "f4"))
    assert cli.main([str(small), "--inputs", str(tmp_path / "x.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[1:5]] == ["one", "one (your inputs)"] * 2


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"xs": np.ones((5, 7, 4))}, "inputs have 4 features, but one takes 3: choose layers with --case"),
        ({"xs": np.ones((5, 7, 3)), "ys": np.ones(3)}, "has 2 arrays, expected one"),
        ({"xs": np.ones((5, 3))}, "has float64 of shape (5, 3), expected floats (batch, time, features)"),
        ({"xs": np.ones((5, 7, 3), int)}, "has int64 of shape (5, 7, 3), expected floats"),
        ({"xs": np.full((5, 7, 3), np.nan)}, "numbers that are not finite"),
        ({"xs": np.array([[[{}]]])}, "is not an .npz file of numbers (Object arrays cannot be loaded"),
    ],
    ids=str,
)
def test_inputs_that_do_not_fit_are_one_sentence(small, arrays, complaint, capsys, tmp_path):
    """Wrong features, rank, dtype and number are refused, and pickles, which are not read."""
    np.savez(tmp_path / "x.npz", **arrays)
    assert complaint in failure(capsys, small, "--inputs", tmp_path / "x.npz")


def test_inputs_that_are_no_file_of_arrays_are_one_sentence(small, capsys, tmp_path):
    """A missing file, another kind of file and a single array are refused."""
    assert "there is no file" in failure(capsys, small, "--inputs", tmp_path / "x.npz")
    (tmp_path / "x.npz").write_text("xs")
    assert "is not an .npz file" in failure(capsys, small, "--inputs", tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.ones(3))
    assert "is not an .npz file" in failure(capsys, small, "--inputs", tmp_path / "x.npy")


def test_files_without_what_is_checked_are_one_sentence(small, capsys, tmp_path):
    """Missing and unknown files, files without recurrent layers and unknown names are refused."""
    assert "there is no file" in failure(capsys, tmp_path / "nowhere.keras")
    assert "must be one of .keras, .h5" in failure(capsys, tmp_path / "model.pickle")
    assert "is a folder, expected a model file" in failure(capsys, tmp_path)
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    plain.save(tmp_path / "plain.keras")
    assert "has no LSTM, GRU, SimpleRNN or ConvLSTM layer" in failure(capsys, tmp_path / "plain.keras")
    assert "no recurrent layer has 'two' in its name: choose among one" in failure(capsys, small, "--case", "two")
    assert "nothing to compare in bfloat16" in failure(capsys, small, "--dtype", "bfloat16")


@pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_code_in_a_file_is_refused(framework, ending, capsys, tmp_path):
    """A Lambda layer stores code in the file."""
    keras_layers = framework.layers
    layers = [framework.Input((None, 3)), keras_layers.LSTM(4), keras_layers.Lambda(lambda xs: xs + 1)]
    framework.Sequential(layers).save(tmp_path / f"model.{ending}")
    assert "has a Lambda layer, which is code" in failure(capsys, tmp_path / f"model.{ending}")


def test_modules_that_a_file_names_are_not_imported(small, capsys, tmp_path):
    """Custom layers and Python modules named in a file are not imported. A custom loss is ignored."""

    class Custom(keras.layers.Layer):
        def call(self, xs):
            return xs

    keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4), Custom()]).save(tmp_path / "own.keras")
    assert "which is not imported" in failure(capsys, tmp_path / "own.keras")
    planted = {"module": "builtins", "class_name": "exec", "config": {}, "registered_name": None}
    with zipfile.ZipFile(small) as whole, zipfile.ZipFile(tmp_path / "planted.keras", "w") as planted_file:
        for name in whole.namelist():
            text = whole.read(name)
            if name == "config.json":
                config = json.loads(text)
                config["config"]["layers"].append(planted | {"config": {"name": "planted"}})
                text = json.dumps(config)
            planted_file.writestr(name, text)
    assert "has a layer of the module 'builtins', which is not imported" in failure(capsys, tmp_path / "planted.keras")
    model = keras.saving.load_model(small)
    model.compile(loss=swapped)
    model.save(tmp_path / "compiled.keras")
    assert cli.main([str(tmp_path / "compiled.keras"), "--dtype", "float64"]) == 0


def test_a_saved_layer_is_read_by_load_layer(small, tmp_path):
    """A single layer is saved to one file."""
    assert cli.main([str(small), "--dtype", "float64", "--save", str(tmp_path / "one.safetensors")]) == 0
    layer, params = load_layer(tmp_path / "one.safetensors")
    assert layer == LSTM(4, param_dtype="float32")
    expected = keras.saving.load_model(small).get_weights()
    jax.tree.map(np.testing.assert_array_equal, convert.dump(layer, params), expected)


def test_several_saved_layers_are_read_by_load_layer(checked):
    """Each layer is saved to a file with its name."""
    printed, out = checked
    kinds = {"both": Bidirectional, "cells": Stack, "gated": type(GRU(1)), "inner_deep": type(LSTM(1))}
    for name, kind in kinds.items():
        assert f"{name.replace('_', '/')}: written to" in printed
        layer, params = load_layer(out / f"all.{name}.safetensors")
        assert isinstance(layer, kind)
        assert features_in(layer, params) in (3, 8, 2, 6)
    assert len(list(out.glob("all.*"))) == len(kinds)


def test_names_of_a_file_cannot_lead_out_of_the_folder(tmp_path):
    """Any layer name gives a file in the folder, and two layers never share one."""
    layer_and_params = LSTM(4), LSTM(4).init(jax.random.key(0), 3)
    names = ("../../up", "/root", "plain")
    paths = save(tmp_path / "all.safetensors", dict.fromkeys(names, layer_and_params))
    assert {path.parent for path in paths.values()} == {tmp_path}
    assert {path.name for path in tmp_path.iterdir()} == {f"all.{name}.safetensors" for name in ("_up", "_root", "plain")}
    with pytest.raises(ValueError, match="written to the same file, of a/b, a_b: choose one with --case"):
        save(tmp_path / "all.safetensors", {"a/b": layer_and_params, "a_b": layer_and_params})


def test_a_model_is_what_inputs_and_save_are_for(capsys):
    """`--inputs` and `--save` are refused without a model."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--save", "out.safetensors"])
    assert stopped.value.code == 2
    assert "--inputs, --lengths, --option and --save are for a model" in capsys.readouterr().err


def test_layers_of_a_file_can_be_listed(small, capsys):
    """`--list` names the layers without running them."""
    assert cli.main([str(small), "--list"]) == 0
    assert capsys.readouterr().out == "one: RNN(cell=LSTMCell(units=4))\n"
