"""ONNX: weights that operators compute from constants, against ONNX's reference evaluator and ONNX Runtime."""

import warnings

import numpy as np
import onnx
import onnx.reference
import pytest
import torch

from conversions import refusal
from jlstm.convert import onnx as convert
from jlstm.convert.onnx_model.folding import Constants
from jlstm.convert.onnx_model.graph import Model
from onnx_models import compared, graph, layer, make, model, outputs, saved, sequences, weights
from problems import FEATURES, UNITS

A = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
WHOLE = np.array([2, 7, 1], np.int64)
BYTES = np.random.default_rng(0).integers(-128, 127, (2, 6, 3)).astype(np.int8)
SCALES = np.array([0.1, 0.2, 0.3], np.float32)
FLOAT16 = onnx.TensorProto.FLOAT16
OPERATORS = [
    ("Identity", [A], {}, 17),
    ("Cast", [A], {"to": FLOAT16}, 17),
    ("Cast", [A.astype(np.float16)], {"to": onnx.TensorProto.DOUBLE}, 17),
    ("Shape", [A], {}, 17),
    ("Shape", [A], {"start": 1, "end": -1}, 17),
    ("Reshape", [A, np.array([0, -1])], {}, 17),
    ("Reshape", [A[:0], np.array([3, 0])], {"allowzero": 1}, 17),
    ("Flatten", [A], {"axis": 2}, 17),
    ("Squeeze", [A[None, :, None], np.array([0, -3])], {}, 17),
    ("Squeeze", [A[None]], {"axes": [0]}, 11),
    ("Squeeze", [A[:1, :1]], {}, 17),
    ("Unsqueeze", [A, np.array([0, -1])], {}, 17),
    ("Unsqueeze", [A], {"axes": [1, 2]}, 11),
    ("Transpose", [A], {}, 17),
    ("Transpose", [A], {"perm": [1, 2, 0]}, 17),
    ("Slice", [A, np.array([1]), np.array([2**63 - 1]), np.array([1])], {}, 17),
    ("Slice", [A, np.array([-1, 0]), np.array([-(2**62), 2]), np.array([1, 2]), np.array([-2, 1])], {}, 17),
    ("Slice", [A, np.array([0, 1]), np.array([1, 9])], {}, 17),
    ("Slice", [A], {"starts": [1], "ends": [-1], "axes": [1]}, 9),
    ("Split", [A], {"axis": 1}, 17),
    ("Split", [A, np.array([1, 5])], {"axis": 1}, 17),
    ("Split", [A], {"axis": 1, "split": [4, 2]}, 11),
    ("Split", [A[:, :5]], {"axis": 1, "num_outputs": 2}, 18),
    ("Concat", [A, A[:1]], {"axis": 0}, 17),
    ("Concat", [A, A[:, :1]], {"axis": -2}, 17),
    ("Gather", [A, np.array([[3, 0], [-1, 2]])], {"axis": 1}, 17),
    ("Gather", [A, np.array(1)], {}, 17),
    ("Expand", [A[:, :1], np.array([6, 1])], {}, 17),
    ("Tile", [A, np.array([1, 2, 1])], {}, 17),
    ("ConstantOfShape", [np.array([2, 3])], {}, 17),
    ("ConstantOfShape", [np.array([2])], {"value": onnx.numpy_helper.from_array(np.array([7]))}, 17),
    ("Add", [A, A[0, 0]], {}, 17),
    ("Sub", [A, A[:1]], {}, 17),
    ("Mul", [A, np.float32(3)], {}, 17),
    ("Div", [A, SCALES], {}, 17),
    ("Div", [WHOLE, np.array([2])], {}, 17),
    ("Pow", [np.abs(A), np.array(2, np.float32)], {}, 17),
    ("Neg", [A], {}, 17),
    ("Abs", [A], {}, 17),
    ("Sqrt", [np.abs(A)], {}, 17),
    ("ReduceSum", [A, np.array([1])], {"keepdims": 0}, 17),
    ("ReduceSum", [A], {"axes": [0, 2]}, 11),
    ("ReduceL2", [A], {"axes": [1], "keepdims": 1}, 17),
    ("ReduceL2", [A, np.array([-1])], {}, 18),
    ("DequantizeLinear", [BYTES, np.float32(0.1), np.int8(-3)], {}, 19),
    ("DequantizeLinear", [BYTES, SCALES, np.array([1, 2, 3], np.int8)], {"axis": 2}, 19),
    ("DequantizeLinear", [BYTES.view(np.uint8), np.float32(0.1)], {}, 19),
    ("DequantizeLinear", [BYTES, SCALES[[0, 1, 2, 2, 1, 0]]], {}, 19),
    ("QuantizeLinear", [A, np.float32(0.01), np.int8(5)], {}, 17),
    ("QuantizeLinear", [A, SCALES / 50], {"axis": -1}, 17),
]
CONSTANTS = {"value_float": 0.5, "value_floats": [1.0, 2.0], "value_int": 3, "value_ints": [4, 5]}


def folded(path, name):
    """Return the value of that name in a model."""
    onnx_model = Model(path)
    list(onnx_model.nodes(lambda node: False))
    return Constants(set()).array(onnx_model.scopes[0], name)


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "opset"), OPERATORS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_operators_compute_what_the_reference_does(tmp_path, operator, inputs, attributes, opset):
    """All versions and outputs of an operator have the values and types of the reference."""
    names = [f"input_{k}" for k in range(len(inputs))]
    results = ["a", "b"] if operator == "Split" else ["a"]
    node = make.make_node(operator, names, results, **attributes)
    graph_proto = graph([node], dict(zip(names, inputs, strict=True)), (), results)
    path = saved(tmp_path / "a.onnx", graph_proto, opset=opset)
    expected = onnx.reference.ReferenceEvaluator(model(graph_proto, opset=opset)).run(None, {})
    for name, value in zip(results, expected, strict=True):
        result = folded(path, name)
        assert result.dtype == value.dtype
        np.testing.assert_allclose(result, value, rtol=1e-6)  # powers and norms are rounded in another order


@pytest.mark.parametrize("attribute", CONSTANTS)
def test_constants_without_a_tensor_are_read(tmp_path, attribute):
    """Constants given as numbers or lists of numbers are read as float32 and int64."""
    graph_proto = graph([make.make_node("Constant", [], ["a"], **{attribute: CONSTANTS[attribute]})], {}, (), ["a"])
    (expected,) = onnx.reference.ReferenceEvaluator(model(graph_proto)).run(None, {})
    result = folded(saved(tmp_path / "a.onnx", graph_proto), "a")
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def quantized(values):
    """Return weights of eight bits with a scale for each row."""
    scales = np.abs(values).max((0, 2)) / 127
    return {"Q": np.rint(values / scales[:, None]).astype(np.int8), "S": scales, "Z": np.zeros(len(scales), np.int8)}


def weight_operators(kind):
    """Return nodes that compute W, and the constants that they read."""
    w = weights()["W"]
    gates = np.split(w[0], 4)
    return {
        "Identity twice": ([("Identity", ["V"], "U"), ("Identity", ["U"], "W")], {"V": w}),
        "gates one by one": (
            [("Concat", [*"abcd"], "V", {"axis": 0}), ("Unsqueeze", ["V", "zero"], "W")],
            {**dict(zip("abcd", gates, strict=True)), "zero": np.array([0])},
        ),
        "half precision": ([("Cast", ["V"], "W", {"to": onnx.TensorProto.FLOAT})], {"V": w.astype(np.float16)}),
        "eight bits": ([("DequantizeLinear", ["Q", "S", "Z"], "W", {"axis": 1})], quantized(w)),
        "a norm": (
            [("ReduceL2", ["V"], "N", {"axes": [2]}), ("Div", ["V", "N"], "U"), ("Mul", ["U", "G"], "W")],
            {"V": w, "G": np.full((1, 4 * UNITS, 1), 2, np.float32)},
        ),
    }[kind]


@pytest.mark.parametrize("kind", ["Identity twice", "gates one by one", "half precision", "eight bits", "a norm"])
def test_weights_behind_operators_are_computed(tmp_path, kind):
    """The layer computes what ONNX Runtime does, and nothing is left over."""
    steps, constants = weight_operators(kind)
    nodes = [
        make.make_node(name, inputs, [output], **(attributes[0] if attributes else {}))
        for name, inputs, output, *attributes in steps
    ]
    other_weights = {name: value for name, value in weights().items() if name != "W"}
    result = compared(saved(tmp_path / "a.onnx", graph([*nodes, layer()], other_weights | constants)))
    assert (result.unused, result.skipped, result.assumed) == ((), {}, ())


def exported(module, features, path, **options):
    """Export a module by PyTorch's exporter from before 2.9."""
    module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(2, 3, features),), path, dynamo=False, verbose=False, **options)
    return path


class Twice(torch.nn.Module):
    """One LSTM that is called twice."""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.LSTM(UNITS, UNITS)

    def forward(self, x):
        y, state = self.rnn(x)
        return self.rnn(y, state)[0]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_exports_of_pytorch_without_constant_folding_are_read(tmp_path, kind):
    """Each weight of two layers and directions lies behind slices of gates, in float32."""
    module = getattr(torch.nn, kind)(FEATURES, UNITS, 2, bidirectional=True)
    path = exported(module, FEATURES, tmp_path / "a.onnx", do_constant_folding=False)
    layers = convert.read(path)
    assert layers.in_network_order
    ys = sequences()
    expected = module(torch.from_numpy(ys))[0].detach().numpy()
    for converted in layers.values():
        ys = outputs(converted, ys).swapaxes(1, 2).reshape(*ys.shape[:2], 2 * UNITS)
    np.testing.assert_allclose(ys, expected, rtol=1e-5, atol=1e-5)


def test_a_layer_that_is_called_twice_is_there_twice(tmp_path):
    """PyTorch writes Identity nodes for the weights of the second call."""
    layers = convert.read(exported(Twice(), UNITS, tmp_path / "a.onnx"))
    (first, second) = layers.values()
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1]["kernel"], second[1]["kernel"])


@pytest.mark.parametrize(
    ("nodes", "constants", "complaint"),
    [
        ([make.make_node("MatMul", ["V", "V"], ["W"])], {"V": A}, "its W: 'W' is computed by MatMul, expected constants: fold"),
        ([make.make_node("Identity", ["xs"], ["W"])], {}, "its W: 'xs' is an input of the graph: pass its value to load"),
        ([make.make_node("Slice", ["V", "V", "V"], ["W"])], {"V": A}, "is computed by Slice of values that it cannot take"),
        (
            [make.make_node("DequantizeLinear", ["V", "V"], ["W"], block_size=2)],
            {"V": A},
            "by DequantizeLinear with 'block_size'",
        ),
        (
            [make.make_node("Expand", ["V", "N"], ["W"])],
            {"V": A, "N": np.array([10**6, 2, 6, 3])},
            "in more memory than the file",
        ),
        ([make.make_node("ConstantOfShape", ["N"], ["W"])], {"N": np.array([10**6, 10**12])}, "in more memory than the file"),
        ([make.make_node("ConstantOfShape", ["N"], ["W"])], {"N": np.array([-1])}, "of values that it cannot take"),
        ([make.make_node("Gather", ["V", "N"], ["W"])], {"V": A, "N": np.array([5])}, "of values that it cannot take"),
        ([make.make_node("Identity", ["W"], ["V"]), make.make_node("Identity", ["V"], ["W"])], {}, "more than 64 operators"),
        ([make.make_node("Unsqueeze", ["V"], ["W"], axes=[0], domain="other")], {"V": A}, "is computed by Unsqueeze"),
        ([make.make_node("Constant", [], ["W"], value_string="x")], {}, "is computed by Constant with 'value_string'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_computed_is_named(tmp_path, nodes, constants, complaint):
    """The sentence names the operator that computes the weight, and a remedy."""
    other_weights = {name: value for name, value in weights().items() if name != "W"}
    path = saved(tmp_path / "a.onnx", graph([*nodes, layer()], other_weights | constants))
    assert complaint in refusal(lambda: convert.read(path))


def test_values_that_double_at_each_step_are_refused_before_they_take_memory(tmp_path):
    """Sixty doublings fit into two kilobytes of file."""
    nodes = [make.make_node("Concat", [f"v{k}", f"v{k}"], [f"v{k + 1}"], axis=0) for k in range(60)]
    path = saved(tmp_path / "a.onnx", graph([*nodes, layer(names=("v60", "R", "B"))], weights() | {"v0": A}))
    assert "in more memory than the file justifies" in refusal(lambda: convert.read(path))


def test_a_layer_that_cannot_be_read_does_not_hide_another(tmp_path):
    """The layer is listed as skipped, with a warning, and the other one is read."""
    nodes = [make.make_node("Add", ["xs", "xs"], ["V"]), layer(names=("V", "R", "B"), ys="other", name="first"), layer()]
    path = saved(tmp_path / "a.onnx", graph(nodes, weights()))
    with pytest.warns(UserWarning, match="'first' is not converted: its W: 'xs' is an input of the graph"):
        layers = convert.read(path)
    assert list(layers) == ["layer"]
    assert list(layers.skipped) == ["first"]


def test_weights_with_a_default_are_constants(tmp_path):
    """The first versions of ONNX list an initializer as an input too."""
    result = compared(saved(tmp_path / "a.onnx", graph([layer()], weights(), ("xs", "W", "R", "B"))))
    assert result.assumed == ("'layer' has weights that are inputs of the graph with defaults, which are taken.",)


def start(name, tmp_path, nodes, constants):
    """Read an LSTM that starts from a state."""
    node = make.make_node("LSTM", ["xs", "W", "R", "B", "", "h"], ["ys"], "layer", hidden_size=UNITS)
    return convert.read(saved(tmp_path / name, graph([*nodes, node], weights() | constants)))


def test_zero_states_of_any_shape_need_no_word(tmp_path):
    """Zeros need no note, also when expanded to a batch that is known only at run time."""
    batch = [make.make_node("Shape", ["xs"], ["size"]), make.make_node("Expand", ["zero", "size"], ["h"])]
    filled = [batch[0], make.make_node("ConstantOfShape", ["size"], ["h"])]
    for name, nodes, constants in (
        ("a", [], {"h": np.zeros((1, 2, UNITS), np.float32)}),
        ("b", batch, {"zero": np.zeros((1, 1, UNITS), np.float32)}),
        ("c", filled, {}),
    ):
        assert start(name, tmp_path, nodes, constants).assumed == ()


def test_other_states_are_told_or_refused(tmp_path):
    """Constant states are refused. States that the graph computes are the caller's to pass."""
    batch = [make.make_node("Shape", ["xs"], ["size"]), make.make_node("Expand", ["first", "size"], ["h"])]
    constant = {"first": np.ones((1, 1, UNITS), np.float32)}
    assert "starts from a constant initial_h" in refusal(lambda: start("a", tmp_path, batch, constant))
    layers = start("b", tmp_path, [make.make_node("Tanh", ["xs"], ["h"])], {})
    assert layers.assumed == ("'layer' starts from an initial_h that the graph computes: pass that to apply as carry.",)


def test_constant_lengths_are_told(tmp_path):
    """Constant lengths are noted, because they are an argument of `apply`."""
    node = make.make_node("LSTM", ["xs", "W", "R", "B", "lengths"], ["ys"], "layer", hidden_size=UNITS)
    path = saved(tmp_path / "a.onnx", graph([node], weights() | {"lengths": np.array([2, 1], np.int32)}))
    assert "'layer' has constant lengths in the file" in convert.read(path).assumed[0]


def test_bytes_are_not_read_twice(tmp_path):
    """Twenty nodes with the same weights take the memory of one."""
    nodes = [layer(name=f"step_{k}", ys=f"ys_{k}") for k in range(20)]
    layers = convert.read(saved(tmp_path / "a.onnx", graph(nodes, weights(), outputs=("ys_0",))))
    assert len(layers) == 20
    assert len({id(params["kernel"]) for _, params in layers.values()}) == 1
