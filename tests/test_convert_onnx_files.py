"""ONNX: weights in files beside the model, layers in branches, loops and functions, and what is not read."""

import hashlib
import warnings

import numpy as np
import onnx
import pytest
import torch

from conversions import refusal
from jlstm.convert import onnx as convert
from onnx_models import compared, graph, layer, make, model, outputs, runtime, saved, sequences, weights
from problems import FEATURES, UNITS

BOOL = onnx.TensorProto.BOOL


def beside(path, *, location="weights.data", change=None, **entries):
    """A model whose weights are in another file, one after the other; `change` takes the first tensor."""
    made, content = model(graph([layer()], weights())), b""
    for tensor in made.graph.initializer:
        data = tensor.raw_data
        places = {"location": location, "offset": len(content), "length": len(data)} | entries
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in places.items())
        content += data
    if change:
        change(made.graph.initializer[0])
    path.write_bytes(made.SerializeToString())
    return content


def entry(tensor, key):
    """The place of a tensor's data that has this name."""
    return next(place for place in tensor.external_data if place.key == key)


def test_weights_in_a_file_beside_the_model_are_read(tmp_path):
    """Also in a folder below, without a length, and with a checksum."""
    content = beside(tmp_path / "a.onnx")
    (tmp_path / "weights.data").write_bytes(content)
    compared(tmp_path / "a.onnx")
    beside(tmp_path / "b.onnx", location="more/weights.data", checksum=hashlib.sha1(content).hexdigest())
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "weights.data").write_bytes(content)
    compared(tmp_path / "b.onnx")
    beside(tmp_path / "c.onnx", change=lambda tensor: tensor.external_data.remove(entry(tensor, "length")))
    np.testing.assert_array_equal(convert.read(tmp_path / "c.onnx")["layer"][1]["kernel"].shape, (FEATURES, 4 * UNITS))


def test_links_to_both_files_are_followed(tmp_path):
    """As in a cache of downloads, where both are links to files with other names in one other folder."""
    for folder in ("store", "model"):
        (tmp_path / folder).mkdir()
    (tmp_path / "store" / "2").write_bytes(beside(tmp_path / "store" / "1"))
    (tmp_path / "model" / "a.onnx").symlink_to("../store/1")
    (tmp_path / "model" / "weights.data").symlink_to("../store/2")
    assert list(convert.read(tmp_path / "model" / "a.onnx")) == ["layer"]


OUTSIDE = [
    "../weights.data",
    "/etc/passwd",
    "a/../../weights.data",
    "..\\weights.data",
    "C:\\weights.data",
    "C:weights.data",
    "",
    "a\0b",
]


@pytest.mark.parametrize("location", OUTSIDE)
def test_files_outside_the_models_folder_are_refused(tmp_path, location):
    """Whether they are there or not, in the words of all systems."""
    (tmp_path / "weights.data").write_bytes(bytes(1 << 12))
    folder = tmp_path / "model"
    folder.mkdir()
    beside(folder / "a.onnx", location=location)
    assert "expected a file in its own folder" in refusal(lambda: convert.read(folder / "a.onnx"))


def test_links_out_of_the_models_folder_are_refused(tmp_path):
    """A file, a folder, and a circle."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.data").write_bytes(beside(folder / "a.onnx"))
    (folder / "weights.data").symlink_to(tmp_path / "weights.data")
    assert "a link to elsewhere" in refusal(lambda: convert.read(folder / "a.onnx"))
    (folder / "up").symlink_to(tmp_path)
    beside(folder / "b.onnx", location="up/weights.data")
    assert "a link to elsewhere" in refusal(lambda: convert.read(folder / "b.onnx"))
    (folder / "circle").symlink_to(folder / "circle")
    beside(folder / "c.onnx", location="circle")
    assert "has weights in 'circle'" in refusal(lambda: convert.read(folder / "c.onnx"))


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("length", 10**15, "bytes, got 1000000000000000 at"),
        ("length", -4, "got -4 at"),
        ("length", "x", "does not say where its data is"),
        ("offset", 10**15, "at 1000000000000000 of the"),
        ("offset", -1, "at -1 of the"),
        ("checksum", "0" * 40, "by its SHA-1: copy both files again"),
        ("location", "x" * 5000, "which cannot be opened"),
        ("location", "other.data", "has weights in 'other.data', which is not there: copy that file beside it"),
        ("location", ".", "which is not there"),
    ],
)
def test_places_that_are_not_in_the_file_are_refused(tmp_path, key, value, complaint):
    """Sizes before memory is taken, and files that are gone."""
    (tmp_path / "weights.data").write_bytes(beside(tmp_path / "a.onnx", **{key: value}))
    assert complaint in refusal(lambda: convert.read(tmp_path / "a.onnx"))


def test_sizes_in_the_model_are_held_against_the_file(tmp_path):
    """A tensor that declares a terabyte, and one of a negative size."""
    for size, complaint in ((10**12, "needs"), (-1, "negative size")):
        content = beside(tmp_path / "a.onnx", change=lambda tensor, size=size: tensor.dims.__setitem__(1, size))
        (tmp_path / "weights.data").write_bytes(content)
        assert complaint in refusal(lambda: convert.read(tmp_path / "a.onnx"))


@pytest.mark.parametrize("units", [8, 64])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_what_pytorch_exports_by_default_is_read(tmp_path, kind, units):
    """Weights in another file; larger ones behind slices of gates."""
    pytest.importorskip("onnxscript", reason="PyTorch's default exporter needs it")
    module = getattr(torch.nn, kind)(FEATURES, units).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(5, 2, FEATURES),), tmp_path / "a.onnx", verbose=False)
    assert (tmp_path / "a.onnx.data").is_file()
    xs = sequences()[:, :2]
    ((layer, params),) = convert.read(tmp_path / "a.onnx").values()
    _, ys = layer.apply(params, xs.swapaxes(0, 1))
    expected = module(torch.from_numpy(xs.copy()))[0].detach().numpy()
    np.testing.assert_allclose(np.asarray(ys).swapaxes(0, 1), expected, rtol=1e-5, atol=1e-5)


def branch(name, seed, **attributes):
    """A branch with a layer of its own, of the name of the other branch's."""
    constants = {f"{key}_{name}": value for key, value in weights(seed=seed).items()}
    return graph([layer(names=tuple(constants), ys=f"ys_{name}", name="layer", **attributes)], constants, (), (f"ys_{name}",))


def test_layers_in_branches_are_read(tmp_path):
    """Each computes what ONNX Runtime does when it takes that branch; of two of one name both are there."""
    sides = {"then_branch": branch("then", 1), "else_branch": branch("else", 2, direction="reverse")}
    node = make.make_node("If", ["which"], ["ys"], "choice", **sides)
    path = saved(tmp_path / "a.onnx", graph([node], {}, ("xs", "which"), kinds={"which": BOOL}))
    layers = convert.read(path)
    assert list(layers) == ["choice/else_branch/layer", "choice/then_branch/layer"]
    assert not layers.in_network_order
    for side, which in (("then", True), ("else", False)):
        (expected,) = runtime(path, xs=sequences(), which=np.array(which))
        result = outputs(layers[f"choice/{side}_branch/layer"], sequences())
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_branches_see_the_names_around_them_and_those_of_a_node_without_a_name(tmp_path):
    """Weights of the outer graph; the If is called by its output."""
    inner = graph([layer(ys="inside")], {}, (), ("inside",))
    other = graph(
        [make.make_node("Identity", ["zeros"], ["outside"])], {"zeros": np.zeros((1, 1, 1, 1), np.float32)}, (), ("outside",)
    )
    node = make.make_node("If", ["which"], ["ys"], then_branch=inner, else_branch=other)
    path = saved(tmp_path / "a.onnx", graph([node], weights(), ("xs", "which"), kinds={"which": BOOL}))
    result = compared(path, "ys/then_branch/layer", which=np.array(True))
    assert result.unused == ("ys/else_branch/zeros",)


def test_layers_in_the_bodies_of_loops_are_read(tmp_path):
    """One that runs twice over a sequence."""
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
    once = outputs(layers["loop/body/layer"], xs)[:, 0]
    np.testing.assert_allclose(outputs(layers["loop/body/layer"], once)[:, 0], expected, rtol=1e-5, atol=1e-5)


def function(name, nodes, inputs, attributes=(), defaults=()):
    """A function of the model's own."""
    opsets = [make.make_opsetid("", 17), make.make_opsetid("ours", 1)]
    return make.make_function("ours", name, inputs, ["ys"], nodes, opsets, attributes, list(defaults))


def referring(**attributes):
    """A recurrent node with attributes that are those of its function's call, by other names."""
    node = layer(name="inner")
    for name, (outer, kind) in attributes.items():
        node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=outer, type=kind))
    return node


def test_layers_in_functions_are_read(tmp_path):
    """Called twice, with other weights and attributes; a function in a function; an argument left out."""
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
    second, other = runtime(path, xs=sequences())
    for name, expected in (("first/inner", other), ("second/middle/inner", second)):
        np.testing.assert_allclose(outputs(layers[name], sequences()), expected, rtol=1e-5, atol=1e-5)


def test_weights_may_come_out_of_a_function(tmp_path):
    """One that only puts a constant into another shape."""
    made = function("shaped", [make.make_node("Unsqueeze", ["v", "axes"], ["ys"])], ["v", "axes"])
    call = make.make_node("shaped", ["V", "zero"], ["W"], domain="ours")
    constants = weights()
    constants = {"V": constants.pop("W")[0], "zero": np.array([0])} | constants
    assert list(convert.read(saved(tmp_path / "a.onnx", graph([call, layer()], constants), [made]))) == ["layer"]


def test_functions_without_a_recurrent_node_are_searched_too(tmp_path):
    """One of a layer's name is listed, and the arrays of all are among the unused ones."""
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
    """Thirty doublings, and one that calls itself."""
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
    """A long name around others is repeated in each of theirs."""
    inner = graph([layer(ys="inside")], {}, (), ("inside",))
    node = make.make_node("If", ["which"], ["ys"], "x" * 3000, then_branch=inner, else_branch=inner)
    path = saved(tmp_path / "a.onnx", graph([node], weights(), ("xs", "which"), kinds={"which": BOOL}))
    assert "with names of more than 2000 characters" in refusal(lambda: convert.read(path))


@pytest.mark.parametrize("names", [("same", "same"), ("", ""), ("a_1", "a", "a")])
def test_nodes_of_one_name_are_layers_of_their_own(tmp_path, names):
    """Or of none: then their outputs name them. Weights are each's own."""
    constants, nodes = {}, []
    for k, name in enumerate(names):
        places = {f"{key}_{k}": value for key, value in weights(seed=k).items()}
        nodes.append(layer(ys=f"ys_{k}", names=tuple(places), name=name))
        constants |= places
    made = graph(nodes, constants, outputs=[f"ys_{k}" for k in range(len(names))])
    layers = convert.read(saved(tmp_path / "a.onnx", made))
    assert len(layers) == len(names)
    for k, converted in enumerate(layers.values()):
        np.testing.assert_allclose(converted[1]["bias"].sum(), weights(seed=k)["B"].sum(), rtol=1e-5)  # summed in another order


def test_kinds_that_are_not_read_are_listed(tmp_path):
    """Another domain's, PyTorch's own operator, a loop that multiplies by hand, weights that only their names tell."""
    steps = [make.make_node("MatMul", ["state", "U"], ["sum"]), make.make_node("Tanh", ["sum"], ["next"])]
    steps += [make.make_node("Identity", ["next"], ["out"])]
    body = graph(steps, {"U": np.ones((UNITS, UNITS), np.float32)}, ("state",), ("next", "out"))
    nodes = [
        layer(),
        make.make_node("AttnLSTM", ["xs"], ["b"], "attention", domain="com.microsoft"),
        make.make_node("ATen", ["xs"], ["c"], "aten", domain="org.pytorch.aten", operator="gru"),
        make.make_node("Scan", ["zero"], ["d", "e"], "scan", body=body, num_scan_inputs=0),
        make.make_node("MatMul", ["xs", "encoder.cell.weight_hh"], ["f"]),
    ]
    constants = weights() | {
        "zero": np.zeros((1, UNITS), np.float32),
        "encoder.cell.weight_hh": np.ones((UNITS, UNITS), np.float32),
    }
    path = saved(tmp_path / "a.onnx", graph(nodes, constants))
    with pytest.warns(UserWarning, match="is not converted") as caught:
        layers = convert.read(path)
    assert list(layers) == ["layer"]
    assert list(layers.skipped) == ["attention", "aten", "scan", "encoder.cell"]
    assert len(caught) == 4
    assert "'com.microsoft.AttnLSTM', which is not read" in layers.skipped["attention"]
    assert "steps are written out" in layers.skipped["scan"]
    assert layers.unused == ("zero", "encoder.cell.weight_hh", "scan/body/U")


def test_modules_that_pytorch_writes_out_are_listed(tmp_path):
    """By what its exporter notes beside each node, since no name tells it."""
    step = make.make_node("MatMul", ["xs", "U"], ["b"])
    step.metadata_props.add(key="namespace", value=": Model/encoder.rnn: torch.nn.modules.rnn.RNN/linear: aten.linear.default")
    path = saved(tmp_path / "a.onnx", graph([step], {"U": np.ones((UNITS, UNITS), np.float32)}, outputs=("b",)))
    assert "'encoder.rnn': its steps are written out in other operators" in refusal(lambda: convert.read(path))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda graph: graph.initializer.append(graph.initializer[0]), "has two values of one name"),
        (lambda graph: graph.node[0].output.__setitem__(0, "W"), "has two values of one name"),
        (lambda graph: graph.node[0].attribute.append(graph.node[0].attribute[0]), "has a node with 'hidden_size' twice"),
        (lambda graph: setattr(graph.node[0], "op_type", "GRU"), "is of kind GRU with R of shape"),
        (lambda graph: setattr(graph.initializer[0], "data_type", onnx.TensorProto.STRING), "'W' is text or in segments"),
        (lambda graph: setattr(graph.initializer[0], "data_type", 99), "of another size or type than it declares"),
        (lambda graph: graph.node[0].input.extend(["", "", "", "", "xs"]), "it has 9 inputs, expected at most 8"),
        (lambda graph: graph.node[0].attribute.append(make.make_attribute("layout", 2)), "it has layout=2"),
        (lambda graph: graph.node[0].attribute.append(make.make_attribute("colour", 1)), "LSTM nodes have no 'colour'"),
        (lambda graph: graph.node[0].attribute.append(make.make_attribute("direction", b"\xff")), "has no text that can be read"),
        (
            lambda graph: graph.node[0].attribute.append(make.make_attribute("clip", graph.output[0].type)),
            "neither a number nor a",
        ),
        (
            lambda graph: graph.node[0].attribute.append(make.make_attribute("clip", graph.initializer[0])),
            "clip must be a number, got ndarray",
        ),
    ],
)
def test_contradictions_are_refused(tmp_path, change, complaint):
    """By name, in one sentence."""
    made = model(graph([layer()], weights()))
    change(made.graph)
    (tmp_path / "a.onnx").write_bytes(made.SerializeToString())
    assert complaint in refusal(lambda: convert.read(tmp_path / "a.onnx"))


@pytest.mark.parametrize("name", [b"ys", b"layer", b"hidden_size", b"LSTM"])
def test_names_that_are_not_text_are_one_sentence(tmp_path, name):
    """Whichever it is."""
    content = model(graph([layer()], weights())).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(content.replace(name, b"\xff" * len(name)))
    assert "it has a name that is not text: export it again" in refusal(lambda: convert.read(tmp_path / "a.onnx"))


def test_onnx_runtimes_own_format_is_named(tmp_path):
    """It is no ONNX file."""
    (tmp_path / "a.ort").write_bytes(b"\0\0\0\0ORTM" + bytes(20))
    assert "ONNX Runtime's own format: read the .onnx file" in refusal(lambda: convert.read(tmp_path / "a.ort"))


def test_nodes_in_another_order_are_not_said_to_be_in_the_networks(tmp_path):
    """Layers are then sorted by name."""
    nodes = [layer(xs="a", ys="ys", name="first"), layer(ys="b", name="second"), make.make_node("Squeeze", ["b"], ["a"])]
    layers = convert.read(saved(tmp_path / "a.onnx", graph(nodes, weights(features=UNITS))))
    assert list(layers) == ["first", "second"]
    assert not layers.in_network_order
