"""ONNX: weights in files beside the model, and models that are refused or listed as not converted."""

import hashlib
import warnings

import numpy as np
import onnx
import pytest
import torch

from conversions import refusal
from jlstm.convert import onnx as convert
from onnx_models import compared, graph, layer, make, model, saved, sequences, weights
from problems import FEATURES, UNITS


def with_external_weights(path, *, location="weights.data", change=None, **entries):
    """Write a model whose weights lie in another file, and return their bytes. `change` takes the first tensor."""
    model_proto, content = model(graph([layer()], weights())), b""
    for tensor in model_proto.graph.initializer:
        data = tensor.raw_data
        places = {"location": location, "offset": len(content), "length": len(data)} | entries
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=str(value)) for key, value in places.items())
        content += data
    if change:
        change(model_proto.graph.initializer[0])
    path.write_bytes(model_proto.SerializeToString())
    return content


def entry(tensor, key):
    """Return the entry of a tensor's external data with this key."""
    return next(place for place in tensor.external_data if place.key == key)


def test_weights_in_a_file_beside_the_model_are_read(tmp_path):
    """The file may lie in a subfolder, may have no length, and may have a checksum."""
    content = with_external_weights(tmp_path / "a.onnx")
    (tmp_path / "weights.data").write_bytes(content)
    compared(tmp_path / "a.onnx")
    with_external_weights(tmp_path / "b.onnx", location="more/weights.data", checksum=hashlib.sha1(content).hexdigest())
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "weights.data").write_bytes(content)
    compared(tmp_path / "b.onnx")
    with_external_weights(tmp_path / "c.onnx", change=lambda tensor: tensor.external_data.remove(entry(tensor, "length")))
    np.testing.assert_array_equal(convert.read(tmp_path / "c.onnx")["layer"][1]["kernel"].shape, (FEATURES, 4 * UNITS))


def test_links_to_both_files_are_followed(tmp_path):
    """A cache of downloads has links to both files, which lie under other names in one other folder."""
    for folder in ("store", "model"):
        (tmp_path / folder).mkdir()
    (tmp_path / "store" / "2").write_bytes(with_external_weights(tmp_path / "store" / "1"))
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
    """They are refused whether they exist or not, in the path syntax of any system."""
    (tmp_path / "weights.data").write_bytes(bytes(1 << 12))
    folder = tmp_path / "model"
    folder.mkdir()
    with_external_weights(folder / "a.onnx", location=location)
    assert "expected a file in its own folder" in refusal(lambda: convert.read(folder / "a.onnx"))


def test_links_out_of_the_models_folder_are_refused(tmp_path):
    """Links to a file or folder outside, and a link to itself, are refused."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.data").write_bytes(with_external_weights(folder / "a.onnx"))
    (folder / "weights.data").symlink_to(tmp_path / "weights.data")
    assert "a link to elsewhere" in refusal(lambda: convert.read(folder / "a.onnx"))
    (folder / "up").symlink_to(tmp_path)
    with_external_weights(folder / "b.onnx", location="up/weights.data")
    assert "a link to elsewhere" in refusal(lambda: convert.read(folder / "b.onnx"))
    (folder / "circle").symlink_to(folder / "circle")
    with_external_weights(folder / "c.onnx", location="circle")
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
    """Sizes are checked before memory is taken. A missing file is named."""
    (tmp_path / "weights.data").write_bytes(with_external_weights(tmp_path / "a.onnx", **{key: value}))
    assert complaint in refusal(lambda: convert.read(tmp_path / "a.onnx"))


def test_sizes_in_the_model_are_held_against_the_file(tmp_path):
    """A tensor that declares a terabyte, or a negative size, is refused."""
    for size, complaint in ((10**12, "needs"), (-1, "negative size")):
        content = with_external_weights(tmp_path / "a.onnx", change=lambda tensor, size=size: tensor.dims.__setitem__(1, size))
        (tmp_path / "weights.data").write_bytes(content)
        assert complaint in refusal(lambda: convert.read(tmp_path / "a.onnx"))


@pytest.mark.parametrize("units", [8, 64])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_what_pytorch_exports_by_default_is_read(tmp_path, kind, units):
    """Weights lie in another file, and larger ones behind slices of gates."""
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


@pytest.mark.parametrize("names", [("same", "same"), ("", ""), ("a_1", "a", "a")])
def test_nodes_of_one_name_are_layers_of_their_own(tmp_path, names):
    """Nodes that share a name, or have none, are separate layers with separate weights."""
    constants, nodes = {}, []
    for k, name in enumerate(names):
        places = {f"{key}_{k}": value for key, value in weights(seed=k).items()}
        nodes.append(layer(ys=f"ys_{k}", names=tuple(places), name=name))
        constants |= places
    graph_proto = graph(nodes, constants, outputs=[f"ys_{k}" for k in range(len(names))])
    layers = convert.read(saved(tmp_path / "a.onnx", graph_proto))
    assert len(layers) == len(names)
    for k, converted in enumerate(layers.values()):
        np.testing.assert_allclose(converted[1]["bias"].sum(), weights(seed=k)["B"].sum(), rtol=1e-5)  # sums in another order


def test_kinds_that_are_not_read_are_listed(tmp_path):
    """Operators of other domains, loops written by hand and weights without a node are listed as skipped."""
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
    """PyTorch's exporter notes the module beside each node, while no node's name tells it."""
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
        (lambda graph: graph.node[0].attribute.append(make.make_attribute("color", 1)), "LSTM nodes have no 'color'"),
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
    """A contradicting model is refused in one sentence that names the contradiction."""
    model_proto = model(graph([layer()], weights()))
    change(model_proto.graph)
    (tmp_path / "a.onnx").write_bytes(model_proto.SerializeToString())
    assert complaint in refusal(lambda: convert.read(tmp_path / "a.onnx"))


@pytest.mark.parametrize("name", [b"ys", b"layer", b"hidden_size", b"LSTM"])
def test_names_that_are_not_text_are_one_sentence(tmp_path, name):
    """A name that is not valid text is refused in one sentence, whichever name it is."""
    content = model(graph([layer()], weights())).SerializeToString()
    (tmp_path / "a.onnx").write_bytes(content.replace(name, b"\xff" * len(name)))
    assert "it has a name that is not text: export it again" in refusal(lambda: convert.read(tmp_path / "a.onnx"))


@pytest.mark.parametrize("operator", ["Unknown\nOperator", "LSTM\nof its own"])
def test_an_operator_with_a_line_break_in_its_name_is_one_sentence(tmp_path, operator):
    """The name of an operator stands in quotes where it is not a plain word."""
    nodes = [make.make_node(operator, ["w"], ["W"]), layer()]
    arrays = {name: array for name, array in weights().items() if name != "W"}
    message = refusal(lambda: convert.read(saved(tmp_path / "a.onnx", graph(nodes, arrays | {"w": np.zeros(3, "float32")}))))
    assert repr(operator)[1:-1] in message


def test_onnx_runtimes_own_format_is_named(tmp_path):
    """ONNX Runtime's own format is not ONNX, and the refusal says so."""
    (tmp_path / "a.ort").write_bytes(b"\0\0\0\0ORTM" + bytes(20))
    assert "ONNX Runtime's own format: read the .onnx file" in refusal(lambda: convert.read(tmp_path / "a.ort"))


def test_nodes_in_another_order_are_not_said_to_be_in_the_networks(tmp_path):
    """Layers are then sorted by name, and `in_network_order` is False."""
    nodes = [layer(xs="a", ys="ys", name="first"), layer(ys="b", name="second"), make.make_node("Squeeze", ["b"], ["a"])]
    layers = convert.read(saved(tmp_path / "a.onnx", graph(nodes, weights(features=UNITS))))
    assert list(layers) == ["first", "second"]
    assert not layers.in_network_order
