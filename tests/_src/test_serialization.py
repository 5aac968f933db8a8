"""Parameters are saved to a file and loaded again."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jlstm
from bits import unnoticed
from conversions import refusal
from jlstm import LSTM, Bidirectional, Stack
from jlstm._src import serialization
from jlstm._src.description import describe
from problems import FEATURES, UNITS

STACK = Stack((Bidirectional(LSTM(UNITS)), LSTM(2, use_bias=False)))


@pytest.mark.table(quick=4)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "layer", [LSTM, lambda units, **kw: Bidirectional(LSTM(units, **kw)), lambda units, **kw: Stack((LSTM(units, **kw),) * 2)]
)
def test_what_was_saved_comes_back(tmp_path, layer, dtype):
    """Saved and loaded parameters have the same structure, dtypes and bits."""
    layer = layer(UNITS, param_dtype=dtype)
    params = layer.init(jax.random.key(0), FEATURES)
    jlstm.save(tmp_path / "lstm.safetensors", params)
    loaded = jlstm.load(tmp_path / "lstm.safetensors", like=params)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_float64_comes_back(tmp_path, x64):
    """With x64 float64 is saved and loaded exactly."""
    params = LSTM(UNITS, param_dtype="float64").init(jax.random.key(0), FEATURES)
    jlstm.save(tmp_path / "lstm.safetensors", params)
    loaded = jlstm.load(tmp_path / "lstm.safetensors", like=params)
    np.testing.assert_array_equal(loaded["kernel"], params["kernel"])
    assert loaded["kernel"].dtype == np.float64


def test_names_in_the_file_are_paths(tmp_path):
    """Any reader of safetensors finds weights by their place in the tree."""
    jlstm.save(tmp_path / "stack.safetensors", STACK.init(jax.random.key(0), FEATURES))
    directions = {f"0.{d}.{name}" for d in ("forward", "backward") for name in ("kernel", "recurrent_kernel", "bias")}
    assert load_file(tmp_path / "stack.safetensors").keys() == directions | {"1.kernel", "1.recurrent_kernel"}


def test_shapes_alone_tell_what_to_load(tmp_path):
    """`like` may be the shapes of an `init` that never ran."""
    params = STACK.init(jax.random.key(0), FEATURES)
    jlstm.save(tmp_path / "stack.safetensors", params)
    loaded = jlstm.load(tmp_path / "stack.safetensors", jax.eval_shape(lambda: STACK.init(jax.random.key(0), FEATURES)))
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_a_failed_save_leaves_what_was_there(tmp_path, monkeypatch):
    """A save that is interrupted keeps the old file and leaves no other behind."""
    path = tmp_path / "lstm.safetensors"
    params = LSTM(UNITS).init(jax.random.key(0), FEATURES)
    jlstm.save(path, params)
    content = path.read_bytes()

    def interrupted(*_):
        raise OSError("the disk was taken out")

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(OSError, match="taken out"):
        jlstm.save(path, params)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_the_wrong_file_is_refused_in_a_sentence(tmp_path):
    """A file that is missing, or that another layer was saved to, says so and what to do."""
    path = tmp_path / "lstm.safetensors"
    like = LSTM(UNITS).init(jax.random.key(0), FEATURES)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*: save\(path, params\) writes one"):
        jlstm.load(path, like)
    for layer, complaint in (
        (LSTM(UNITS, use_bias=False), r"\['bias'\] is missing, expected shape \(16,\)"),
        (LSTM(5), r"\['bias'\] must have shape \(16,\), got \(20,\)"),
        (STACK, r"is missing|not part of"),
    ):
        jlstm.save(path, layer.init(jax.random.key(0), FEATURES))
        with pytest.raises(ValueError, match=complaint) as caught:
            jlstm.load(path, like)
        assert "load with the layer that the file was saved from" in str(caught.value)


@pytest.mark.parametrize("view", [np.asfortranarray, lambda a: a.T.copy().T, lambda a: np.repeat(a, 2, 0)[::2]])
def test_views_are_written_as_they_read(tmp_path, view):
    """A NumPy array in another memory layout, such as a transposed weight, comes back with each number in its place."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    jlstm.save(tmp_path / "view.safetensors", {"k": view(array)})
    np.testing.assert_array_equal(jlstm.load(tmp_path / "view.safetensors", {"k": array})["k"], array)


def test_files_that_do_not_fit_are_refused(tmp_path):
    """Wrong dtypes, colliding names and other kinds of files are refused in one sentence each."""
    path = tmp_path / "lstm.safetensors"
    params = LSTM(UNITS).init(jax.random.key(0), FEATURES)
    jlstm.save(path, params)
    with pytest.raises(ValueError, match=r"has bias in float32, expected bfloat16: pass float32 arrays as like, and cast"):
        jlstm.load(path, jax.tree.map(lambda leaf: leaf.astype("bfloat16"), params))
    with pytest.raises(ValueError, match=r"two arrays would be called 'a\.b'"):
        jlstm.save(path, {"a.b": np.ones(1), "a": {"b": np.ones(1)}})
    with pytest.raises(TypeError, match=r"like must be parameters or jax.eval_shape of an init, got RNN"):
        jlstm.load(path, LSTM(UNITS))
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere to write lstm.safetensors to"):
        jlstm.save(tmp_path / "nowhere" / "lstm.safetensors", params)
    with pytest.raises(FileNotFoundError, match="is a folder, expected a file: name a file in it"):
        jlstm.load_layer(tmp_path)
    with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
        jlstm.save(tmp_path, params)
    path.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        jlstm.load(path, params)


@pytest.mark.parametrize(
    ("dtype", "complaint"), [("I32", "has kernel in int32, expected float32"), ("\n", "is not a safetensors file")], ids=repr
)
def test_a_file_of_other_numbers_is_one_sentence(tmp_path, dtype, complaint):
    """Integers, and an unknown dtype whose name breaks the reader's own message, are refused."""
    header = json.dumps({"kernel": {"dtype": dtype, "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    like = {"kernel": jax.ShapeDtypeStruct((1,), "float32")}
    assert complaint in refusal(lambda: jlstm.load(tmp_path / "a.safetensors", like))


@pytest.mark.parametrize("with_layer", [True, False], ids=["with layer", "without"])
def test_every_flipped_bit_is_noticed(tmp_path, with_layer):
    """Every flipped bit of a file is noticed, except in the unread spaces after the header."""
    layer = LSTM(1)
    jlstm.save(tmp_path / "a.safetensors", layer.init(jax.random.key(0), 2), layer=layer if with_layer else None)
    content = (tmp_path / "a.safetensors").read_bytes()
    assert unnoticed(content, range(8 * len(content))) < 0.01


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "its 'recurrent_kernel' is not the array that was saved"),
        (lambda content: content.replace(b'"features":"3"', b'"features":"2"'), "its description is not the one that was saved"),
        (lambda content: content.replace(b'"bias":', b'"bjas":'), "its arrays are not those that were saved, as 'bias'"),
        (lambda content: content.replace(b'"sha256":', b'"sha257":'), "its description is not the one that was saved"),
    ],
    ids=["array", "description", "name", "digest"],
)
def test_a_file_that_was_changed_is_one_sentence(tmp_path, damage, complaint):
    """Both ways of reading say what is not as it was saved."""
    path, layer = tmp_path / "a.safetensors", LSTM(UNITS)
    params = layer.init(jax.random.key(0), FEATURES)
    jlstm.save(path, params, layer=layer)
    changed = damage(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    for call in (lambda: jlstm.load(path, params), lambda: jlstm.load_layer(path)):
        assert f"is damaged ({complaint}): take another copy of it, or save it again" in refusal(call)


def test_a_file_without_digests_is_read(tmp_path):
    """Earlier versions and other programs write no digests."""
    path, layer = tmp_path / "a.safetensors", LSTM(UNITS)
    params = layer.init(jax.random.key(0), FEATURES)
    metadata = {"format": "jlstm", "version": "1", "layer": describe(layer), "features": str(FEATURES)}
    save_file({name: np.asarray(leaf) for name, leaf in params.items()}, path, metadata)
    jax.tree.map(np.testing.assert_array_equal, jlstm.load(path, params), params)
    assert jlstm.load_layer(path)[0] == layer


@pytest.mark.parametrize("dtype", sorted(serialization._DTYPES.values()))
def test_every_dtype_comes_back_with_its_bits(dtype):
    """Arrays of any shape come back bit by bit, in every dtype that JAX and the format share."""
    bits = np.random.default_rng(0).integers(0, 256, 48, np.uint8)
    array = bits.view(jax.numpy.dtype(dtype)) if dtype != "bool" else bits > 99
    for shape in ((-1,), (2, -1), (1, -1, 1)):
        again = serialization.unpack(serialization.pack({"a": array.reshape(shape), "b": array[0], "c": array[:0]}))[0]
        assert again["a"].dtype == array.dtype
        assert again["a"].tobytes() == array.tobytes()
        assert (again["a"].ndim, again["b"].shape, again["c"].shape) == (len(shape), (), (0,))


def test_dtypes_that_the_format_lacks_are_refused():
    """Other dtypes are refused by name."""
    assert "a is int4, which safetensors files cannot hold" in refusal(
        lambda: serialization.pack({"a": np.ones(2, jax.numpy.int4)})
    )


@pytest.mark.parametrize("name", ["é" * 120 + ".safetensors", "a" * 243 + ".safetensors"], ids=["two bytes each", "ASCII"])
def test_a_file_may_have_the_longest_name(tmp_path, name):
    """A name of 255 bytes, the most that a file system allows, is written and read, and nothing else is left in the folder."""
    params = {"bias": np.ones(3, np.float32)}
    jlstm.save(tmp_path / name, params)
    np.testing.assert_array_equal(jlstm.load(tmp_path / name, params)["bias"], params["bias"])
    assert [path.name for path in tmp_path.iterdir()] == [name]
