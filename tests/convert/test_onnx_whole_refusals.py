"""ONNX: whole models and inputs that are refused, by name and with what to do."""

import jax
import numpy as np
import onnx
import pytest

from conversions import refusal
from jlstm.convert import onnx as convert
from onnx_models import graph, make, model, saved, weights
from problems import BATCH


def one_node(operator, *arguments, outputs=1, constants=None, **attributes):
    """Return a graph with one node whose first input is that of the model."""
    node = make.make_node(operator, ["xs", *arguments], ["ys", *"ab"[: outputs - 1]], "the_node", **attributes)
    return graph([node], constants or {})


REFUSED = {
    "an operator": (one_node("Hardmax"), "'the_node' is a node of kind Hardmax, which jlstm does not have"),
    "an attribute": (one_node("MaxPool", kernel_shape=[2], storage_order=1), "attribute 'storage_order'"),
    "a domain": (one_node("FusedGemm", domain="com.microsoft"), "of the domain 'com.microsoft'"),
    "a loop": (one_node("Scan", num_scan_inputs=1, body=graph([], {})), "whose body is a graph of its own"),
    "an activation": (
        one_node("LSTM", *weights(), constants=weights(), activations=["Tanh"] * 3, clip=1.0, layout=2),
        "layout=2",
    ),
    "weights that are inputs": (one_node("LSTM", "xs", "xs"), "is an input of the graph"),
    "half an If": (one_node("If", then_branch=graph([], {})), "without two branches"),
    "a projection": (
        one_node("LSTM", *weights(), "", "h", constants=weights() | {"h": np.zeros((1, BATCH, 9), np.float32)}),
        "leaves out the projection",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_known_is_refused_by_name(tmp_path, kind):
    """The message names the node, and says what to do."""
    graph_proto, expected = REFUSED[kind]
    sentence = refusal(lambda: convert.model(saved(tmp_path / "a.onnx", graph_proto)))
    assert expected in sentence
    assert "'the_node'" in sentence


def test_other_models_are_refused(tmp_path):
    """Old versions, inputs that are no arrays, and a node that is not in order."""
    assert "opset 6" in refusal(lambda: convert.model(saved(tmp_path / "a.onnx", one_node("Relu"), opset=6)))
    nodes = [make.make_node("Relu", ["a"], ["ys"]), make.make_node("Relu", ["xs"], ["a"])]
    assert "before those" in refusal(lambda: convert.model(saved(tmp_path / "a.onnx", graph(nodes, {}))))
    proto = model(one_node("Relu"))
    proto.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    onnx.save(proto, tmp_path / "a.onnx")
    assert "not an array" in refusal(lambda: convert.model(tmp_path / "a.onnx"))
    nodes = [make.make_node("Relu", ["xs"], ["a"], f"node_{k}") for k in range(1)] + [
        make.make_node("Hardmax", ["a"], [f"y_{k}"], f"bad_{k}") for k in range(6)
    ]
    nodes.append(make.make_node("Sum", [f"y_{k}" for k in range(6)], ["ys"]))
    assert "and 2 more nodes" in refusal(lambda: convert.model(saved(tmp_path / "a.onnx", graph(nodes, {}))))


def test_functions_that_call_themselves_are_refused(tmp_path):
    """Such a model would never end."""
    call = make.make_node("again", ["x"], ["y"], domain="ours")
    function = make.make_function("ours", "again", ["x"], ["y"], [call], [make.make_opsetid("ours", 1)])
    path = saved(tmp_path / "a.onnx", graph([make.make_node("again", ["xs"], ["ys"], domain="ours")], {}), [function])
    assert "graphs in one another" in refusal(lambda: convert.model(path))


def test_wrong_inputs_are_refused(tmp_path):
    """Each message says what was expected, and what came."""
    info = make.make_tensor_value_info("xs", onnx.TensorProto.FLOAT, ["batch", 4])
    graph_proto = graph([make.make_node("MatMul", ["xs", "w"], ["ys"], "product")], {"w": np.ones((4, 2), np.float32)})
    graph_proto.input[0].CopyFrom(info)
    ours = convert.model(saved(tmp_path / "a.onnx", graph_proto))
    xs = np.ones((3, 4), np.float32)
    for inputs in (xs, [xs], (xs,), {"xs": xs}):
        assert ours.apply(ours.params, inputs).shape == (3, 2)
    assert "float32[batch, 4]" in str(ours)
    assert "8 parameters" in str(ours)
    with pytest.raises(TypeError, match="must be floating, got int64"):
        ours.apply(ours.params, np.ones((3, 4), np.int64))
    with pytest.raises(TypeError, match="key"):
        ours.apply(ours.params, xs, key=0)
    for call, part in {
        "axes": (lambda: ours.apply(ours.params, xs[0]), "got shape (4,)"),
        "count": (lambda: ours.apply(ours.params, (xs, xs)), "1 inputs, got 2"),
        "names": (lambda: ours.apply(ours.params, {"x": xs}), "x, xs is missing"),
        "params": (lambda: ours.apply({"v": xs}, xs), "pass model.params"),
        "sizes": (lambda: ours.apply(ours.params, xs[:, :3]), "'product' (MatMul) cannot be run on float32[3, 3], float32[4, 2]"),
    }.values():
        assert part in refusal(call)


def test_traced_numbers_that_decide_shapes_are_refused(tmp_path):
    """The message says to pass them as NumPy arrays, which works inside of jit too."""
    nodes = [make.make_node("Expand", ["xs", "sizes"], ["ys"], "grow")]
    graph_proto = graph(nodes, {}, ("xs", "sizes"))
    graph_proto.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    ours = convert.model(saved(tmp_path / "a.onnx", graph_proto))
    x, sizes = np.ones(1, np.float32), np.array([3])
    assert jax.jit(lambda x: ours.apply({}, (x, sizes)))(x).shape == (3,)
    assert "'grow' (Expand)" in refusal(lambda: jax.jit(ours.apply)({}, (x, sizes)))
