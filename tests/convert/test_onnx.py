"""ONNX nodes are read and whole models are written. ONNX Runtime, which has float32 only, runs both."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversions import assert_same_bits, damaged, refusal, spoiled, survives, with_negative_zeros
from jlstm import GRU, LSTM, RNN, Bidirectional, ElmanCell, Stack
from jlstm.convert import onnx as convert
from problems import BATCH, FEATURES, TIME, UNITS, apply, small_problem

CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # float32 rounding over a few steps
LENGTHS = np.array([3, TIME], np.int32)
LAYERS = [
    LSTM(UNITS),
    LSTM(UNITS, use_bias=False, reverse=True),
    LSTM(UNITS, peephole=True),
    LSTM(UNITS, peephole=True, coupled="f=1-i", gate_clip=0.5),
    LSTM(UNITS, coupled="f=1-i"),
    LSTM(UNITS, gate_clip=0.3, time_major=True),
    LSTM(UNITS, activation="relu", recurrent_activation="hard_sigmoid", output_activation="softsign"),
    LSTM(UNITS, activation="leaky_relu", recurrent_activation="hard_sigmoid_0.2", output_activation="linear"),
    LSTM(UNITS, activation="elu", output_activation="softplus"),
    RNN(ElmanCell(UNITS)),
    RNN(ElmanCell(UNITS, activation="relu", use_bias=False), reverse=True),
    Bidirectional(RNN(ElmanCell(UNITS, activation="softsign"))),
    GRU(UNITS),
    GRU(UNITS, reset_after=False),
    GRU(UNITS, use_bias=False, reverse=True, activation="softsign"),
    Bidirectional(LSTM(UNITS, peephole=True, recurrent_activation="hard_sigmoid")),
    Bidirectional(GRU(UNITS)),
    Stack((LSTM(UNITS), GRU(2), RNN(ElmanCell(2)), Bidirectional(LSTM(3)))),
    Stack((Bidirectional(GRU(2, time_major=True)), GRU(3, reverse=True, time_major=True))),
]


def float32(layer):
    """Return a problem in float32, time-major where the layer is."""
    problem = small_problem(layer, dtype=np.float32)
    return problem._replace(xs=problem.xs.swapaxes(0, 1)) if layer.time_major else problem


def states(layer, carry, prefix=""):
    """Return a carry under the names of the model's inputs and outputs."""
    carries = carry if isinstance(layer, Stack) else (carry,)
    arrays = {}
    for k, layer_carry in enumerate(carries):
        sides = [layer_carry["forward"], layer_carry["backward"]] if isinstance(layer_carry, dict) else [layer_carry]
        for name in sides[0]._fields:
            arrays[f"{prefix}{name}_{k}"] = np.stack([np.asarray(getattr(side, name)) for side in sides])
    return arrays


@pytest.mark.table(quick=11)
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_models_compute_what_the_layer_does(tmp_path, layer):
    """A written model gives the layer's outputs and last states, from initial states and with lengths."""
    problem = float32(layer)
    convert.write(tmp_path / "model.onnx", layer, problem.params)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = session.run(names, {"xs": problem.xs, "lengths": LENGTHS} | states(layer, problem.carry))
    carry, ys = apply(layer, problem.params, problem.xs, problem.carry, lengths=LENGTHS)
    expected = {"ys": ys} | states(layer, carry, "last_")
    assert expected.keys() == set(names)
    for name, result in zip(names, results, strict=True):
        np.testing.assert_allclose(result, expected[name], **CLOSE, err_msg=name)


@pytest.mark.parametrize("layer", [LAYERS[2], LAYERS[-1]], ids=repr)
def test_lengths_and_initial_states_may_be_left_out(tmp_path, layer):
    """A model with neither input runs on the inputs alone. All steps count, and states start from zero."""
    problem = float32(layer)
    convert.write(tmp_path / "model.onnx", layer, problem.params, lengths=False, states=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    expected = np.asarray(layer.apply(problem.params, problem.xs)[1])
    np.testing.assert_allclose(session.run(["ys"], {"xs": problem.xs})[0], expected, **CLOSE)


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_what_is_written_or_dumped_comes_back(tmp_path, layer):
    """Written and dumped layers load bit by bit, including the signs of zeros."""
    params = with_negative_zeros(small_problem(layer, dtype=np.float32).params)
    again, back = convert.load(convert.dump(layer, params))
    assert_same_bits(back, params)
    convert.write(tmp_path / "model.onnx", layer, params)
    converted = list(convert.read(tmp_path / "model.onnx").values())
    layers, trees = (again.layers, back) if isinstance(layer, Stack) else ((again,), (back,))
    for (read_layer, tree), expected, leaves in zip(converted, layers, trees, strict=True):
        assert read_layer == expected
        assert_same_bits(tree, leaves)


def node(kind, *, directions=1, peephole=False, **attributes):
    """Return a node with random weights and two biases."""
    rng, gates = np.random.default_rng(0), {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    shapes = {"W": (gates * UNITS, FEATURES), "R": (gates * UNITS, UNITS), "B": (2 * gates * UNITS,)}
    shapes |= {"P": (3 * UNITS,)} if peephole else {}
    return {name: rng.normal(size=(directions, *shape)).astype(np.float32) for name, shape in shapes.items()} | attributes


NODES = [
    ("LSTM", {"peephole": True, "clip": 0.7}),
    ("LSTM", {"input_forget": 1}),
    ("LSTM", {"directions": 2, "direction": "bidirectional", "activations": ["HardSigmoid", "Relu", "Tanh"] * 2}),
    ("LSTM", {"activations": ["sigmoid", "LeakyRelu", "Elu"], "activation_alpha": [0.01, 1.0]}),
    ("GRU", {"direction": "reverse"}),
    ("GRU", {"linear_before_reset": 1, "directions": 2, "direction": "bidirectional"}),
    ("GRU", {"clip": float(np.finfo(np.float32).max)}),
    ("RNN", {}),
    ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.01], "direction": "reverse"}),
    ("RNN", {"directions": 2, "direction": "bidirectional"}),
]


@pytest.mark.parametrize(("kind", "options"), NODES, ids=str)
def test_nodes_compute_what_the_loaded_layer_does(tmp_path, kind, options):
    """Nodes with random weights and two biases, as other exporters write them, give the layer's outputs."""
    fields = node(kind, **options)
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    attributes = {name: value for name, value in fields.items() if name not in arrays} | {"hidden_size": UNITS}
    make = onnx.helper
    places = ["xs", "W", "R", "B", "", "", "", "P"] if "P" in arrays else ["xs", "W", "R", "B"]
    infos = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("xs", "ys")]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()]
    graph = make.make_graph([make.make_node(kind, places, ["ys"], **attributes)], "g", infos[:1], infos[1:], constants)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 14)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    xs = np.random.default_rng(1).normal(size=(TIME, BATCH, FEATURES)).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"xs": xs})
    ((name, (layer, params)),) = convert.read(tmp_path / "model.onnx").items()
    assert name == "ys"
    _, ys = apply(layer, params, xs.swapaxes(0, 1))
    np.testing.assert_allclose(ys, np.concatenate(expected.swapaxes(0, 1), -1).swapaxes(0, 1), **CLOSE)


WEIGHTS = {"LSTM": node("LSTM", peephole=True), "GRU": node("GRU"), "RNN": node("RNN")}


@given(st.sampled_from(sorted(WEIGHTS)).flatmap(lambda kind: spoiled(WEIGHTS[kind], 1)))
@settings(max_examples=100)
def test_weights_that_do_not_fit_are_one_sentence(weights):
    """Arrays that do not fit are refused in one sentence. Without B or P it is another, valid, layer."""
    untouched = any(all(value is whole.get(name) for name, value in weights.items()) for whole in WEIGHTS.values())
    if not untouched or not {"W", "R"} <= weights.keys():
        refusal(lambda: convert.load(weights))


@pytest.mark.parametrize(
    ("kind", "options", "complaint"),
    [
        ("LSTM", {"direction": "sideways"}, "direction must be one of"),
        ("LSTM", {"direction": "bidirectional"}, "has 1 directions, expected 2"),
        ("LSTM", {"hidden_size": 9}, "hidden_size is 9"),
        ("LSTM", {"activations": ["Tanh"]}, "activations must be 3 names"),
        ("LSTM", {"activations": ["Sigmoid", "ScaledTanh", "Tanh"]}, "we have no activation 'ScaledTanh'"),
        ("LSTM", {"activations": ["Sigmoid", "Elu", "Tanh"], "activation_alpha": [0.5]}, "'Elu' with alpha=0.5"),
        ("LSTM", {"color": 1}, "LSTM nodes have no 'color'"),
        ("LSTM", {"clip": -1.0}, "gate_clip must be above 0"),
        ("LSTM", {"clip": [1.0] * 1000}, "clip must be a number, got list"),
        ("LSTM", {"input_forget": [0]}, "input_forget must be 0 or 1, got [0]"),
        ("LSTM", {"activation_alpha": [0.5]}, "1 numbers more than the activations take"),
        ("LSTM", {"linear_before_reset": 1}, "LSTM nodes have no linear_before_reset"),
        ("GRU", {"clip": 1.0}, "our GRU has no clip"),
        ("GRU", {"input_forget": 1}, "GRU nodes have no input_forget"),
        ("RNN", {"clip": 1.0}, "our RNN has no clip"),
        ("RNN", {"linear_before_reset": 1}, "RNN nodes have no linear_before_reset"),
        ("RNN", {"activations": ["ScaledTanh"]}, "we have no activation 'ScaledTanh'"),
        ("RNN", {"activations": ["Relu", "Relu"]}, "activations must be 1 names"),
        ("GRU", {"peephole": True}, "has 'P', which is not part of this layer"),
    ],
    ids=str,
)
def test_attributes_that_are_not_ours_are_refused(kind, options, complaint):
    """Attributes without a counterpart in jlstm are refused by name."""
    assert complaint in refusal(lambda: convert.load(node(kind, **options)))


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (LSTM(UNITS, projection=2), "ONNX has no projection=2"),
        (LSTM(UNITS, coupled="i=1-f"), "ONNX has no coupled='i=1-f'"),
        (LSTM(UNITS, cell_clip=1), "ONNX has no cell_clip"),
        (LSTM(UNITS, activation="gelu"), "ONNX has no activation 'gelu'"),
        (Bidirectional(LSTM(UNITS), "mul"), "ONNX has no merge='mul'"),
        (Bidirectional(LSTM(UNITS, reverse=True)), "ONNX has no reverse=True"),
    ],
    ids=repr,
)
def test_what_onnx_does_not_have_is_refused(layer, complaint):
    """The refusal names the option that ONNX lacks."""
    assert complaint in refusal(lambda: convert.dump(layer, small_problem(layer).params))


@given(st.data())
@settings(max_examples=80)
def test_damaged_files_are_read_or_refused(tmp_path, data):
    """A file with any bytes cut off or changed is read, or refused in one sentence."""
    layer = LSTM(1)
    convert.write(tmp_path / "whole.onnx", layer, small_problem(layer, dtype=np.float32).params)
    survives(convert.read, tmp_path / "a.onnx", data.draw(damaged((tmp_path / "whole.onnx").read_bytes())))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda graph: graph.initializer[0].dims.__setitem__(1, 10**12), "is of another size or type than it declares"),
        (
            lambda graph: setattr(graph.initializer[0], "data_location", onnx.TensorProto.EXTERNAL),
            "has weights in '', expected a file in its own folder",
        ),
        (lambda graph: setattr(graph.initializer[0], "name", "other"), "has nothing that gives 'W_0'"),
        (lambda graph: graph.node[1].input.__setitem__(5, "W_0"), "starts from a constant initial_h"),
        (lambda graph: setattr(graph.node[1], "op_type", "RNN"), "has 8 inputs, expected at most 6"),
        (lambda graph: setattr(graph.node[1], "op_type", "Conv"), "has no LSTM, GRU or RNN node"),
    ],
)
def test_models_that_declare_something_else_are_refused(tmp_path, change, complaint):
    """Contradicting sizes, bad places of weights and constant states are refused."""
    convert.write(tmp_path / "a.onnx", LSTM(UNITS), small_problem(LSTM(UNITS), dtype=np.float32).params)
    model = onnx.load(tmp_path / "a.onnx")
    change(model.graph)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert complaint in refusal(lambda: convert.read(tmp_path / "a.onnx"))
