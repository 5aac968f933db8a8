"""ONNX: recurrent nodes in the branches of an If, in the body of a Loop and in functions."""

import numpy as np
import onnx
import pytest

from conversions import refusal
from jlstm.convert import onnx as convert
from onnx_models import compared, graph, layer, make, outputs, runtime, saved, sequences, weights
from problems import UNITS

BOOL = onnx.TensorProto.BOOL


def branch(name, seed, **attributes):
    """Return a branch with its own layer. Both branches' layers have the same name."""
    constants = {f"{key}_{name}": value for key, value in weights(seed=seed).items()}
    return graph([layer(names=tuple(constants), ys=f"ys_{name}", name="layer", **attributes)], constants, (), (f"ys_{name}",))


def test_layers_in_branches_are_read(tmp_path):
    """The layers of both branches are read. Each gives ONNX Runtime's outputs for its branch."""
    sides = {"then_branch": branch("then", 1), "else_branch": branch("else", 2, direction="reverse")}
    node = make.make_node("If", ["which"], ["ys"], "choice", **sides)
    path = saved(tmp_path / "a.onnx", graph([node], {}, ("xs", "which"), kinds={"which": BOOL}))
    layers = convert.read(path)
    assert list(layers) == ["choice/else_branch/layer", "choice/then_branch/layer"]
    assert not layers.in_network_order
    for side, condition in (("then", True), ("else", False)):
        (expected,) = runtime(path, xs=sequences(), which=np.array(condition))
        result = outputs(layers[f"choice/{side}_branch/layer"], sequences())
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_branches_see_the_names_around_them_and_those_of_a_node_without_a_name(tmp_path):
    """A branch uses weights of the outer graph. An If without a name is called by its output."""
    inner = graph([layer(ys="inside")], {}, (), ("inside",))
    else_graph = graph(
        [make.make_node("Identity", ["zeros"], ["outside"])], {"zeros": np.zeros((1, 1, 1, 1), np.float32)}, (), ("outside",)
    )
    node = make.make_node("If", ["which"], ["ys"], then_branch=inner, else_branch=else_graph)
    path = saved(tmp_path / "a.onnx", graph([node], weights(), ("xs", "which"), kinds={"which": BOOL}))
    result = compared(path, "ys/then_branch/layer", which=np.array(True))
    assert result.unused == ("ys/else_branch/zeros",)


def test_layers_in_the_bodies_of_loops_are_read(tmp_path):
    """A layer in a loop that runs twice over a sequence is read."""
    constants = weights(features=UNITS)
    flat = np.array([0, 0, UNITS])
    steps = [layer(xs="state", ys="four", name="layer"), make.make_node("Squeeze", ["four", "one"], ["next"])]
    steps += [make.make_node("Identity", ["go"], ["on"])]
    kinds = {"go": BOOL, "on": BOOL, "k": onnx.TensorProto.INT64}
    body = graph(steps, {"one": np.array([1]), "flat": flat}, ("k", "go", "state"), ("on", "next"), kinds)
    node = make.make_node("Loop", ["twice", "yes", "xs"], ["ys"], "loop", body=body)
    path = saved(tmp_path / "a.onnx", graph([node], constants | {"twice": np.array(2), "yes": np.array(True)}))
    layers = convert.read(path)
    assert list(layers) == ["loop/body/layer"]
    xs = sequences(UNITS)
    (expected,) = runtime(path, xs=xs)
    first_pass = outputs(layers["loop/body/layer"], xs)[:, 0]
    np.testing.assert_allclose(outputs(layers["loop/body/layer"], first_pass)[:, 0], expected, rtol=1e-5, atol=1e-5)


def function(name, nodes, inputs, attributes=(), defaults=()):
    """Return a function of the domain "ours"."""
    opsets = [make.make_opsetid("", 17), make.make_opsetid("ours", 1)]
    return make.make_function("ours", name, inputs, ["ys"], nodes, opsets, attributes, list(defaults))


def referring(**attributes):
    """Return a recurrent node whose attributes refer to attributes of the function's call."""
    node = layer(name="inner")
    for name, (outer, kind) in attributes.items():
        node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=outer, type=kind))
    return node


def test_layers_in_functions_are_read(tmp_path):
    """Functions may be called twice with other weights, be nested, and leave an argument out."""
    kinds = onnx.AttributeProto
    inner = function(
        "recurrent",
        [referring(direction=("way", kinds.STRING), input_forget=("coupled", kinds.INT), clip=("bound", kinds.FLOAT))],
        ["xs", "W", "R", "B"],
        ["way", "bound"],
        [make.make_attribute("coupled", 1)],
    )
    call = make.make_node("recurrent", ["xs", "a", "b", "c"], ["ys"], "middle", domain="ours")
    call.attribute.append(onnx.AttributeProto(name="way", ref_attr_name="outer_way", type=kinds.STRING))
    outer = function("wrapped", [call], ["xs", "a", "b", "c"], ["outer_way"])
    first = make.make_node("recurrent", ["xs", "W", "R"], ["other"], "first", domain="ours", way="forward", coupled=0, bound=0.5)
    second = make.make_node("wrapped", ["xs", "W", "R", "B"], ["ys"], "second", domain="ours", outer_way="reverse")
    path = saved(tmp_path / "a.onnx", graph([first, second], weights(), outputs=("ys", "other")), [inner, outer])
    layers = convert.read(path)
    assert list(layers) == ["first/inner", "second/middle/inner"]
    assert layers.in_network_order
    second, first_output = runtime(path, xs=sequences())
    for name, expected in (("first/inner", first_output), ("second/middle/inner", second)):
        np.testing.assert_allclose(outputs(layers[name], sequences()), expected, rtol=1e-5, atol=1e-5)


def test_weights_may_come_out_of_a_function(tmp_path):
    """A function that reshapes a constant gives a weight."""
    shape_function = function("shaped", [make.make_node("Unsqueeze", ["v", "axes"], ["ys"])], ["v", "axes"])
    call = make.make_node("shaped", ["V", "zero"], ["W"], domain="ours")
    constants = weights()
    constants = {"V": constants.pop("W")[0], "zero": np.array([0])} | constants
    assert list(convert.read(saved(tmp_path / "a.onnx", graph([call, layer()], constants), [shape_function]))) == ["layer"]


def test_functions_without_a_recurrent_node_are_searched_too(tmp_path):
    """A function named like a layer is listed, and its arrays are among the unused ones."""
    values = onnx.numpy_helper.from_array(np.ones((3, 3), np.float32))
    steps = [make.make_node("Constant", [], ["v"], value=values), make.make_node("MatMul", ["xs", "v"], ["ys"])]
    inner = function("torch_LSTM", steps, ["xs"])
    outer = function("block", [make.make_node("torch_LSTM", ["xs"], ["ys"], "rnn", domain="ours")], ["xs"])
    nodes = [make.make_node("block", ["xs"], ["other"], "first", domain="ours"), layer()]
    path = saved(tmp_path / "a.onnx", graph(nodes, weights()), [inner, outer])
    with pytest.warns(UserWarning, match="'first/rnn' is not converted: it is an operator 'ours.torch_LSTM'"):
        layers = convert.read(path)
    assert list(layers) == ["layer"]
    assert layers.unused == ("torch_LSTM/v",)


def test_functions_that_call_each_other_too_often_are_refused(tmp_path):
    """Thirty doublings and a function that calls itself are refused."""
    functions = [function("f0", [layer()], ["xs", "W", "R", "B"])]
    for k in range(30):
        calls = [make.make_node(f"f{k}", ["xs", "W", "R", "B"], [out], out, domain="ours") for out in ("a", "ys")]
        functions.append(function(f"f{k + 1}", calls, ["xs", "W", "R", "B"]))
    call = make.make_node("f30", ["xs", "W", "R", "B"], ["ys"], domain="ours")
    path = saved(tmp_path / "a.onnx", graph([call], weights()), functions)
    assert "far longer to read than its size justifies" in refusal(lambda: convert.read(path))
    endless = [make.make_node("f", ["xs", "W", "R", "B"], ["a"], domain="ours"), layer()]
    call = make.make_node("f", ["xs", "W", "R", "B"], ["ys"], domain="ours")
    path = saved(tmp_path / "b.onnx", graph([call], weights()), [function("f", endless, ["xs", "W", "R", "B"])])
    assert "has more than 64 graphs in one another" in refusal(lambda: convert.read(path))


def test_names_that_grow_are_refused(tmp_path):
    """A long name of an outer node is repeated in the name of each inner one."""
    inner = graph([layer(ys="inside")], {}, (), ("inside",))
    node = make.make_node("If", ["which"], ["ys"], "x" * 3000, then_branch=inner, else_branch=inner)
    path = saved(tmp_path / "a.onnx", graph([node], weights(), ("xs", "which"), kinds={"which": BOOL}))
    assert "with names of more than 2000 characters" in refusal(lambda: convert.read(path))


def test_layers_of_the_training_are_listed(tmp_path):
    """A recurrent node in `training_info` trains the model and is no layer of it."""
    path = saved(tmp_path / "a.onnx", graph([layer(name="layer")], weights()))
    model = onnx.load(path)
    model.training_info.add().algorithm.CopyFrom(graph([layer(name="copy")], weights(seed=1)))
    onnx.save(model, path)
    with pytest.warns(UserWarning, match="a part of the training"):
        layers = convert.read(path)
    assert list(layers) == ["layer"]
    assert list(layers.skipped) == ["training_info_0/algorithm/copy"]
