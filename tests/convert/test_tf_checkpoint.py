"""Each cell of a TensorFlow checkpoint is read as its class, joined into its layer, or skipped by name."""

import re
import warnings

import numpy as np
import pytest

from conversions import refusal
from jlstm import Bidirectional, Stack
from jlstm.convert import tf1 as convert
from parity.peers.keras import tf  # first: sets TensorFlow to the CPU, with kernels that round alike everywhere
from problems import BATCH, FEATURES, TIME, UNITS, apply
from tf1_oracles import block_gru, block_lstm, gru, keras_gru, lstm, normalized_lstm, plain, relu

pytestmark = [pytest.mark.usefixtures("x64"), pytest.mark.xdist_group("tensorflow")]
CLOSE = {"rtol": 0, "atol": 1e-12}  # float64 rounding over a few steps
RNG = np.random.default_rng(5)
XS = RNG.normal(size=(BATCH, TIME, FEATURES))
PLAIN = {"kernel": (FEATURES + UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
PEEPHOLES = {f"w_{gate}_diag": (UNITS,) for gate in "ifo"}
GRU_SHAPES = {
    "gates/kernel": (FEATURES + UNITS, 2 * UNITS),
    "gates/bias": (2 * UNITS,),
    "candidate/kernel": (FEATURES + UNITS, UNITS),
    "candidate/bias": (UNITS,),
}
CUDNN_GRU = {
    "gates/kernel": (FEATURES + UNITS, 2 * UNITS),
    "gates/bias": (2 * UNITS,),
    "candidate/input_projection/kernel": (FEATURES, UNITS),
    "candidate/input_projection/bias": (UNITS,),
    "candidate/hidden_projection/kernel": (UNITS, UNITS),
    "candidate/hidden_projection/bias": (UNITS,),
}
NORMS = {f"{gate}/{name}": (UNITS,) for gate in ("input", "transform", "forget", "output", "state") for name in ("gamma", "beta")}


def weights(shapes, scope="", renamed=lambda name: name):
    """Return random variables by name."""
    return {scope + renamed(name): RNG.normal(size=shape) for name, shape in shapes.items()}


def write(path, variables):
    """Write a checkpoint as TensorFlow 1 does, of variables with any names."""
    names = sorted(variables)
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=[variables[name] for name in names]
    )
    return path


RNN_SHAPES = {"kernel": (FEATURES + UNITS, UNITS), "bias": (UNITS,)}
BLOCK_GRU = {"w_ru": GRU_SHAPES["gates/kernel"], "b_ru": (2 * UNITS,), "w_c": GRU_SHAPES["candidate/kernel"], "b_c": (UNITS,)}
OLD = {"kernel": "weights", "bias": "biases"}
FLOAT32 = {"rtol": 0, "atol": 1e-5}  # the operation computes in float32
CELLS = {
    "rnn/basic_lstm_cell": (PLAIN, lstm, CLOSE),
    "rnn/lstm_cell": (PLAIN | PEEPHOLES, lstm, CLOSE),
    "rnn/lstm_block_cell": (PLAIN | PEEPHOLES, block_lstm, FLOAT32),
    "lstm_fused_cell": (PLAIN, block_lstm, FLOAT32),
    "rnn/cudnn_compatible_lstm_cell": (PLAIN, lambda w, xs: lstm(w, xs, forget_bias=0.0), CLOSE),
    "rnn/layer_norm_basic_lstm_cell": ({"kernel": PLAIN["kernel"]} | NORMS, normalized_lstm, CLOSE),
    "a/layer_norm_basic_lstm_cell_3": (PLAIN, lstm, CLOSE),
    "rnn/gru_cell": (GRU_SHAPES, gru, CLOSE),
    "rnn/gru_block_cell": (BLOCK_GRU, block_gru, FLOAT32),
    "rnn/gru_cell_1": (BLOCK_GRU, block_gru, FLOAT32),
    "rnn/cudnn_compatible_gru_cell": (CUDNN_GRU, keras_gru, CLOSE),
    "rnn/basic_rnn_cell": (RNN_SHAPES, plain, CLOSE),
    "cudnn_rnn_tanh/rnn/basic_rnn_cell": (RNN_SHAPES, plain, CLOSE),
    "cudnn_rnn_relu/rnn/basic_rnn_cell": (RNN_SHAPES, lambda w, xs: plain(w, xs, relu), CLOSE),
}


@pytest.mark.parametrize("scope", CELLS)
def test_each_class_of_cells_computes_what_tensorflow_does(tmp_path, scope):
    """The scope's name tells the class, which decides the forget bias and the GRU's reset."""
    shapes, oracle, close = CELLS[scope]
    cell_weights = weights(shapes)
    path = write(tmp_path / "a", {f"{scope}/{name}": array for name, array in cell_weights.items()})
    layers = convert.read(path)
    ((layer, params),) = layers.values()
    assert (layers.skipped, layers.unused, layers.in_network_order) == ({}, (), False)
    np.testing.assert_allclose(apply(layer, params, XS)[1], oracle(cell_weights, XS), **close)


@pytest.mark.parametrize(
    ("scope", "shapes", "oracle"),
    [("basic_lstm_cell", PLAIN, lstm), ("lstm_cell", PLAIN | PEEPHOLES, lstm), ("gru_cell", GRU_SHAPES, gru)],
)
def test_names_of_before_tensorflow_1_2_are_read(tmp_path, scope, shapes, oracle):
    """Kernels were called weights, and the bias biases. TensorFlow's own tool renames them and nothing else."""
    cell_weights = weights(shapes)
    old = {
        re.sub("kernel$|bias$", lambda name: OLD[name[0]], f"rnn/{scope}/{name}"): array for name, array in cell_weights.items()
    }
    assert any("weights" in name for name in old)
    ((layer, params),) = convert.read(write(tmp_path / "a", old)).values()
    np.testing.assert_allclose(apply(layer, params, XS)[1], oracle(cell_weights, XS), **CLOSE)
    refusal(lambda: convert.load({**weights(PLAIN), "weights": cell_weights[min(cell_weights)]}))


def test_what_a_cell_adds_is_told_or_asked_for(tmp_path):
    """An LSTM cell's forget bias is noted as assumed. CuDNN's cell has none, and an argument for it is refused."""
    cell_weights = weights(PLAIN)
    variables = {
        f"{scope}/{name}": cell_weights[name]
        for scope in ("a/lstm_cell", "b/cudnn_compatible_lstm_cell")
        for name in cell_weights
    }
    path = write(tmp_path / "a", variables)
    layers = convert.read(path)
    assert any("forget_bias" in sentence for sentence in layers.assumed)
    assert any("activation tanh" in sentence for sentence in layers.assumed)
    with pytest.warns(UserWarning, match=r"forget_bias=0\.5 is not used for 'cudnn_compatible_lstm_cell', which adds none: "):
        layers = convert.read(path, forget_bias=0.5)
    assert not any("forget_bias" in sentence for sentence in layers.assumed)
    for name, bias in {"a": 0.5, "b": 0.0}.items():
        np.testing.assert_allclose(apply(*layers[name], XS)[1], lstm(cell_weights, XS, bias), **CLOSE)
    assert "adds no forget_bias" in refusal(
        lambda: convert.load(cell_weights, cell="cudnn_compatible_lstm_cell", forget_bias=1.0)
    )


def test_two_cells_are_two_layers_whatever_their_names(tmp_path):
    """Cells in one or several scopes are separate layers, whatever other scopes are called."""
    scopes = {
        "model/lstm_cell": PLAIN | PEEPHOLES,
        "model/lstm_cell_1": PLAIN,
        "model/lstm_cell_10": PLAIN,
        "model/gru_cell": GRU_SHAPES,
        "encoder/rnn/basic_lstm_cell": PLAIN,
        "decoder/rnn/basic_lstm_cell": PLAIN,
        "decoder_cell/rnn/lstm_cell": PLAIN,
        "gru_cell": GRU_SHAPES,
    }
    cell_weights = {scope: weights(shapes) for scope, shapes in scopes.items()}
    variables = {f"{scope}/{name}": array for scope, arrays in cell_weights.items() for name, array in arrays.items()}
    layers = convert.read(write(tmp_path / "a", variables | {"model/dense/kernel": np.ones((3, 4))}))
    names = {
        scope: scope.rpartition("/")[0] if scope.endswith(("rnn/lstm_cell", "basic_lstm_cell")) else scope for scope in scopes
    }
    assert list(layers) == sorted(names.values())
    assert layers.unused == ("model/dense/kernel",)
    for scope, arrays in cell_weights.items():
        oracle = gru if "gru" in scope else lstm
        np.testing.assert_allclose(apply(*layers[names[scope]], XS)[1], oracle(arrays, XS), **CLOSE)


def test_optimizers_and_averages_are_no_cells(tmp_path):
    """Optimizer slots and averages are named after the variables, and are not read as layers."""
    cell_weights = weights(PLAIN, "rnn/lstm_cell/")
    slot_names = ("{}/Adam", "{}/Adam_1", "{}/my_optimizer", "train/{}/RMSProp", "train/{}/RMSProp_1", "{}/Momentum")
    slots = {slot.format(name): array for name, array in cell_weights.items() for slot in slot_names}
    averages = {f"{name}/ExponentialMovingAverage": array for name, array in cell_weights.items()}
    opaque = {"cudnn_lstm/opaque_kernel/Adam": np.ones(8), "beta1_power": np.float64(1)}
    layers = convert.read(write(tmp_path / "a", cell_weights | slots | averages | opaque))
    assert (list(layers), layers.skipped) == (["rnn"], {})
    assert layers.unused == tuple(sorted([*averages, *opaque]))
    np.testing.assert_allclose(apply(*layers["rnn"], XS)[1], lstm(weights_of(cell_weights), XS), **CLOSE)


def weights_of(variables):
    """Return a cell's variables without their scope."""
    return {name.rpartition("/")[2]: array for name, array in variables.items()}


def test_cudnn_layers_and_directions_are_put_together(tmp_path):
    """CudnnLSTM's variables make a Stack, also of Bidirectional. CuDNN's two biases stand beside their sum."""
    upper = {"kernel": (2 * UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
    wide = {"kernel": (3 * UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
    cell, stack = "cudnn_compatible_lstm_cell", "stack_bidirectional_rnn/cell_{}/bidirectional_rnn/{}"
    unidirectional = [weights(PLAIN), weights(upper)]
    bidirectional = {(k, side): weights(shapes) for k, shapes in enumerate((PLAIN, wide)) for side in ("fw", "bw")}
    variables = {
        f"cudnn_lstm/rnn/multi_rnn_cell/cell_{k}/{cell}/{n}": a
        for k, arrays in enumerate(unidirectional)
        for n, a in arrays.items()
    }
    variables |= {
        f"both/{stack.format(*place)}/{cell}/{n}": a for place, arrays in bidirectional.items() for n, a in arrays.items()
    }
    half = RNG.normal(size=4 * UNITS)
    variables |= {f"cudnn_lstm/rnn/multi_rnn_cell/cell_0/{cell}/bias_cudnn_{k}": half for k in (0, 1)}
    variables[f"cudnn_lstm/rnn/multi_rnn_cell/cell_0/{cell}/bias"] = unidirectional[0]["bias"] = 2 * half
    layers = convert.read(write(tmp_path / "a", variables))
    assert list(layers) == ["both", "cudnn_lstm/rnn"]
    assert isinstance(layers["both"][0], Stack)
    assert all(isinstance(part, Bidirectional) for part in layers["both"][0].layers)
    zero = lambda arrays, xs: lstm(arrays, xs, forget_bias=0.0)
    np.testing.assert_allclose(
        apply(*layers["cudnn_lstm/rnn"], XS)[1], zero(unidirectional[1], zero(unidirectional[0], XS)), **CLOSE
    )
    xs = XS
    for k in (0, 1):
        xs = np.concatenate([zero(bidirectional[k, "fw"], xs), zero(bidirectional[k, "bw"], xs[:, ::-1])[:, ::-1]], -1)
    np.testing.assert_allclose(apply(*layers["both"], XS)[1], xs, **CLOSE)
    variables[f"cudnn_lstm/rnn/multi_rnn_cell/cell_0/{cell}/bias_cudnn_1"] = -half
    with pytest.warns(UserWarning, match="not the sum of CuDNN's biases"):
        assert list(convert.read(write(tmp_path / "b", variables))) == ["both"]


UNREAD_CELLS = [
    *(
        "ugrnn_cell",
        "nas_cell",
        "intersection_rnn_cell",
        "phased_lstm_cell",
        "coupled_input_forget_gate_lstm_cell",
        "grid_lstm_cell",
    ),
    *(
        "time_freq_lstm_cell",
        "glstm_cell",
        "conv_lstm_cell",
        "sru_cell",
        "ind_rnn_cell",
        "indy_lstm_cell_2",
        "my_cell",
        "LSTMCell",
    ),
]


def skips(tmp_path, variables, fine_is_read=True):
    """Return the skipped layers of a checkpoint. Assert that the other layer is read, unless `fine_is_read` is False."""
    fine = weights(PLAIN, "fine/lstm_cell/")
    path = write(tmp_path / "a", variables | fine)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layers = convert.read(path)
    assert (list(layers) == ["fine"]) == fine_is_read
    messages = [str(warning.message) for warning in caught if "is not converted: " in str(warning.message)]
    assert len(messages) == len(layers.skipped)
    assert all(len(sentence) <= 300 + len(str(path)) and "\n" not in sentence for sentence in messages)
    assert {*variables} <= {*layers.unused}
    message = refusal(lambda: convert.read(write(tmp_path / "b", variables)))
    assert all(repr(name) in message for name in [*layers.skipped][:3])
    return layers.skipped


@pytest.mark.parametrize("cell", UNREAD_CELLS)
def test_other_cells_are_skipped_by_name(tmp_path, cell):
    """Their kernels have the shape of an LSTM's. The other layers of the checkpoint are read."""
    ((name, reason),) = skips(tmp_path, weights(PLAIN, f"rnn/{cell}/")).items()
    assert name == "rnn" if cell != "LSTMCell" else name.startswith("rnn")
    assert re.sub(r"_\d$", "", cell) in reason


SKIPPED = {
    "a norm": (weights(PLAIN | {"norm/gamma": (4,)}, "a/lstm_cell/"), {"a": "'norm/gamma'"}),
    "a peephole too many": (weights(PLAIN | {"w_g_diag": (UNITS,)}, "a/lstm_cell/"), {"a": "'w_g_diag'"}),
    "peepholes of a cell without": (weights(PLAIN | PEEPHOLES, "a/basic_lstm_cell/"), {"a": "'w_f_diag'"}),
    "a norm of a weight": (weights(PLAIN | {"kernel/g": (4 * UNITS,)}, "a/lstm_cell/"), {"a": "'kernel/g'"}),
    "a cell in a cell": (weights(PLAIN | {"inner_cell/kernel": (2, 2)}, "a/lstm_cell/"), {"a": "'inner_cell/kernel'"}),
    "no bias": (weights({"kernel": PLAIN["kernel"]}, "a/lstm_cell/"), {"a": "no bias"}),
    "a bias of another size": (weights(PLAIN | {"bias": (3,)}, "a/lstm_cell/"), {"a": "must have shape"}),
    "Keras's by name": (weights(PLAIN | {"recurrent_kernel": (UNITS, 4 * UNITS)}, "a/lstm/lstm_cell/"), {"a/lstm": "Keras's"}),
    "no class": (weights(PLAIN, "a/my_lstm/"), {"a/my_lstm": "do not tell its class"}),
    "CuDNN's own": ({"a/cudnn_lstm/opaque_kernel": np.ones(9)}, {"a/cudnn_lstm": "only CuDNN knows"}),
    "attention": (
        weights(PLAIN, "a/attention_wrapper/lstm_cell/") | weights({"kernel": (2, 3)}, "a/attention_wrapper/attention_layer/"),
        {"a/attention_wrapper": "'attention_layer/kernel'"},
    ),
    "a projection around": (
        weights(PLAIN, "a/output_projection_wrapper/gru_cell/") | weights({"kernel": (2, 3)}, "a/output_projection_wrapper/"),
        {"a/output_projection_wrapper": "'kernel'"},
    ),
    "forward alone": (weights(PLAIN, "a/fw/lstm_cell/"), {"a": "'bw' is not in"}),
    "backward alone": (weights(PLAIN, "a/bw/lstm_cell/"), {"a": "'fw' is not in"}),
    "two kinds": (weights(PLAIN, "a/fw/lstm_cell/") | weights(GRU_SHAPES, "a/bw/gru_cell/"), {"a": "differ in kind or size"}),
    "two cells a side": (
        weights(PLAIN, "a/fw/lstm_cell/") | weights(PLAIN, "a/fw/lstm_cell_1/") | weights(PLAIN, "a/bw/lstm_cell/"),
        {"a": "its fw has two cells"},
    ),
    "no first cell": (weights(PLAIN, "a/multi_rnn_cell/cell_1/lstm_cell/"), {"a": "its cell_0 is not in"}),
    "sizes that do not fit": (
        weights(PLAIN, "a/multi_rnn_cell/cell_0/lstm_cell/")
        | weights({"kernel": (3 * UNITS, 4 * UNITS), "bias": (4 * UNITS,)}, "a/multi_rnn_cell/cell_1/lstm_cell/"),
        {"a": "its cell 1 takes"},
    ),
    "another cell in a stack": (
        weights(PLAIN, "a/multi_rnn_cell/cell_0/lstm_cell/") | weights(PLAIN, "a/multi_rnn_cell/cell_1/nas_cell/"),
        {"a": "in cell_1, jlstm does not read a 'nas_cell'"},
    ),
    "whole numbers": ({name: array.astype(np.int32) for name, array in weights(PLAIN, "a/lstm_cell/").items()}, {"a": "int32"}),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_not_understood_is_skipped_by_name(tmp_path, case):
    """A layer with additional or missing variables in its scope is never read."""
    variables, reasons = SKIPPED[case]
    skipped = skips(tmp_path, variables)
    assert skipped.keys() == reasons.keys()
    for name, words in reasons.items():
        assert words in skipped[name]
