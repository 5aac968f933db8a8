"""Layers are saved together with their parameters in one file."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import jlstm
from conversions import damaged, refusal, survives
from jlstm import GRU, LSTM, RNN, Bidirectional, ElmanCell, LSTMCell, MinGRUCell, MinLSTMCell, MLSTMCell, SLSTMCell, Stack
from jlstm._src.description import KINDS, build, describe
from jlstm.cells import ConvLSTMCell
from jlstm.cells.wrappers import Dropout, Highway, LearnedCarry, Residual, WeightDrop, Zoneout
from problems import FEATURES, UNITS

LAYERS = [
    LSTM(UNITS, reverse=True, unroll="all", remat="sqrt", dtype="bfloat16"),
    LSTM(UNITS, peephole=True, projection=2, projection_bias=True, cell_clip=3, layer_norm="ba2016", forget_bias=None),
    Bidirectional(GRU(UNITS, reset_after=False, dropout=0.2), "sum"),
    Stack((Bidirectional(LSTM(UNITS), None),)),
    Stack((LSTM(UNITS), RNN(ElmanCell(2)), RNN(MinGRUCell(3)), RNN(MinLSTMCell(3)), RNN(SLSTMCell(4)), RNN(MLSTMCell(4)))),
    RNN(Zoneout(LSTMCell(UNITS), h=0.1)),
    RNN(Dropout(Residual(LSTMCell(FEATURES)), inputs=0.1)),
    RNN(LearnedCarry(WeightDrop(LSTMCell(UNITS), rate=0.2))),
    RNN(Highway(LSTMCell(FEATURES))),
    RNN(ConvLSTMCell(2, (3, 1), (6, 5), strides=2)),
]


def saved(path, layer=LAYERS[0]):
    """A file of a layer."""
    params = layer.init(jax.random.key(0), FEATURES)
    jlstm.save(path, params, layer=layer)
    return params


def rewritten(path, **metadata):
    """Write the same file with other metadata."""
    header = {"format": "jlstm", "version": "1", "layer": describe(LAYERS[0]), "features": str(FEATURES)}
    header = {name: value for name, value in (header | metadata).items() if value is not None}
    save_file(load_file(path), path, header)


def test_every_kind_of_layer_and_cell_is_tried():
    """The table below has all layers and cells."""
    text = "".join(map(describe, LAYERS))
    assert all(f'"kind": "{name}"' in text for name in KINDS if name != "Wrapper")


@pytest.mark.table(quick=3)
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_a_layer_comes_back_with_its_parameters(tmp_path, layer):
    """Layer, structure and bits are equal, and `load` reads the parameters of the same file."""
    params = saved(tmp_path / "a.safetensors", layer)
    again, back = jlstm.load_layer(tmp_path / "a.safetensors")
    assert again == layer
    assert hash(again) == hash(layer)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    jax.tree.map(np.testing.assert_array_equal, jlstm.load(tmp_path / "a.safetensors", params), params)


def test_parameters_keep_their_dtype(tmp_path):
    """Parameters keep their dtype, whatever `param_dtype` says."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), LSTM(UNITS).init(jax.random.key(0), FEATURES))
    jlstm.save(tmp_path / "a.safetensors", params, layer=LSTM(UNITS))
    _, back = jlstm.load_layer(tmp_path / "a.safetensors")
    assert back["kernel"].dtype == jnp.bfloat16


def test_float64_is_not_rounded(tmp_path, x64):
    """float64 loads with x64. Without x64 it is refused instead of rounded."""
    params = saved(tmp_path / "a.safetensors", LSTM(UNITS, param_dtype="float64"))
    _, back = jlstm.load_layer(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(back["kernel"], params["kernel"])
    with jax.enable_x64(False):
        assert "is float64 but JAX computes in float32" in refusal(lambda: jlstm.load_layer(tmp_path / "a.safetensors"))


def test_what_a_file_cannot_hold_is_refused(tmp_path):
    """Functions, users' classes and parameters of another layer are refused."""

    class Mine(LSTMCell):
        pass

    for layer, complaint in (
        (LSTM(UNITS, activation=jnp.sin), "activation is a"),
        (Stack((LSTM(UNITS, kernel_init=jax.nn.initializers.ones),)), "kernel_init is a function, which a file cannot hold"),
        (RNN(Mine(UNITS)), "cell is a Mine, which is not of jlstm"),
    ):
        params = layer.init(jax.random.key(0), FEATURES)
        assert complaint in refusal(
            lambda layer=layer, params=params: jlstm.save(tmp_path / "a.safetensors", params, layer=layer)
        )
    params = LSTM(UNITS).init(jax.random.key(0), FEATURES)
    assert "must have shape" in refusal(lambda: jlstm.save(tmp_path / "a", params, layer=LSTM(2)))
    assert "got another tree" in refusal(lambda: jlstm.save(tmp_path / "a", params, layer=Bidirectional(LSTM(2))))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({"format": None}, "has no layer in it"),
        ({"version": "2"}, "has version '2', expected '1': update jlstm"),
        ({"version": None}, "has version 'none'"),
        ({"features": None}, "does not describe a layer"),
        ({"features": "9"}, "its arrays are not those of the layer in it"),
        ({"features": "-1"}, "does not describe a layer"),
        ({"features": "1" * 30}, "a.safetensors"),
        ({"features": "1" * 10**4}, "does not describe a layer"),
        ({"layer": None}, "must be described in JSON"),
        ({"layer": "[" * 10**5}, "nested at most 64 deep"),
        ({"layer": "3"}, "must describe a layer, got int"),
        ({"layer": '{"kind": "LSTMCell", "units": 3}'}, "must describe a layer, got LSTMCell"),
        ({"layer": '{"kind": "os.system", "command": "ls"}'}, "there is no kind 'os.system'"),
        ({"layer": '{"kind": ["RNN"]}'}, "there is no kind"),
        ({"layer": '{"kind": "RNN"}'}, "RNN cannot have the options that are described"),
        ({"layer": '{"kind": "RNN", "cell": {"kind": "LSTMCell", "units": 4, "color": 1}}'}, "LSTMCell has no option 'color'"),
        ({"layer": '{"kind": "RNN", "cell": {"kind": "LSTMCell", "units": 1e400}}'}, "units must be a whole number"),
        ({"layer": json.dumps({"kind": "RNN", "cell": {"kind": "LSTMCell", "units": 10**18}})}, "a.safetensors"),
        (
            {"layer": '{"kind": "RNN", "cell": {"kind": "LSTMCell", "units": 4, "activation": "eval"}}'},
            "unknown activation 'eval'",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_metadata_of_another_kind_is_one_sentence(tmp_path, metadata, complaint):
    """Names in a file are looked up only among jlstm's own classes and options."""
    saved(tmp_path / "a.safetensors", LSTM(UNITS))
    rewritten(tmp_path / "a.safetensors", **({"layer": describe(LSTM(UNITS))} | metadata))
    assert complaint in refusal(lambda: jlstm.load_layer(tmp_path / "a.safetensors"))


@given(st.data())
@settings(max_examples=100)
def test_damaged_files_are_read_or_refused(tmp_path, data):
    """A file with any bytes cut off or changed is read, or refused in one sentence."""
    saved(tmp_path / "whole.safetensors", LSTM(1))
    content = (tmp_path / "whole.safetensors").read_bytes()
    survives(jlstm.load_layer, tmp_path / "a.safetensors", data.draw(damaged(content)))


@given(st.data())
def test_descriptions_are_built_or_refused(data):
    """Any JSON in any part of a description gives a layer or one sentence."""
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "units", "cell"]), inner, max_size=3)
        ),
        max_leaves=5,
    )
    tree = json.loads(describe(data.draw(st.sampled_from(LAYERS))))
    place = tree
    while data.draw(st.booleans()) and (inner := [value for value in place.values() if isinstance(value, dict)]):
        place = inner[0]
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(anything)
    try:
        built = build(json.dumps(tree))
    except ValueError as error:
        message = str(error)
    else:
        message = describe(built)
    assert "\n" not in message
