"""ONNX: whole models, against ONNX Runtime, and with PyTorch's gradients in float64."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from jlstm.convert import onnx as convert
from onnx_models import graph, make, runtime, saved, sequences, weights
from parity import assert_same_model
from problems import BATCH, FEATURES, TIME, UNITS

nn = torch.nn


class Tagger(nn.Module):
    """A bidirectional LSTM of two layers between an embedding and a linear layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, FEATURES)
        self.lstm = nn.LSTM(FEATURES, UNITS, num_layers=2, bidirectional=True, batch_first=True)
        self.norm, self.linear = nn.LayerNorm(2 * UNITS), nn.Linear(2 * UNITS, 3)

    def forward(self, tokens):
        return nn.functional.gelu(self.linear(self.norm(self.lstm(self.embedding(tokens))[0])))


class Classifier(nn.Module):
    """A GRU, whose last state is classified."""

    def __init__(self):
        super().__init__()
        self.gru, self.linear = nn.GRU(FEATURES, UNITS, batch_first=True), nn.Linear(UNITS, 2)

    def forward(self, xs):
        return nn.functional.log_softmax(self.linear(self.gru(xs)[1][-1]), -1)


class Detector(nn.Module):
    """A convolution over a signal before an LSTM, whose states go in and out: a voice activity detector."""

    def __init__(self):
        super().__init__()
        self.conv, self.lstm, self.linear = nn.Conv1d(1, 6, 5, stride=2, padding=2), nn.LSTM(6, UNITS), nn.Linear(UNITS, 1)

    def forward(self, signal, h, c):
        features = nn.functional.max_pool1d(torch.relu(self.conv(signal)), 2)
        ys, (h, c) = self.lstm(features.permute(2, 0, 1), (h, c))
        return torch.sigmoid(self.linear(ys.mean(0))), h, c


STATES = np.random.default_rng(1).normal(size=(2, 1, BATCH, UNITS))
MODELS = {
    "tagger": (Tagger, [np.random.default_rng(0).integers(0, 11, (BATCH, TIME))]),
    "classifier": (Classifier, [sequences().swapaxes(0, 1).astype(np.float64)]),
    "detector": (Detector, [np.random.default_rng(0).normal(size=(BATCH, 1, 40)), *STATES]),
}


def exported(path, name):
    """Export a model of PyTorch in float64, and return it with its inputs."""
    build, arrays = MODELS[name]
    torch.manual_seed(0)
    module = build().double().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the exporter is the older one, and how it traces LSTMs
        torch.onnx.export(module, tuple(map(torch.tensor, arrays)), path, dynamo=False, opset_version=17)
    return module, arrays


@pytest.mark.parametrize("name", ["detector", pytest.param("classifier", marks=pytest.mark.slow)])
def test_exported_models_have_the_outputs_and_gradients_of_pytorch(tmp_path, x64, name):
    """In float64, outputs and the gradients for inputs are those of PyTorch."""
    module, arrays = exported(tmp_path / "a.onnx", name)
    ours = convert.model(tmp_path / "a.onnx")
    compared = assert_same_model(jax.jit(lambda *xs: ours.apply(ours.params, xs)), module, arrays)
    assert len([result for result in compared if result.startswith("d_inputs")]) == len(arrays)


def test_parameters_of_exported_models_have_the_gradients_of_pytorch(tmp_path, x64):
    """In float64, outputs and the gradients of the parameters that keep their names are those of PyTorch. All others get some."""
    module, (tokens,) = exported(tmp_path / "a.onnx", "tagger")
    ours = convert.model(tmp_path / "a.onnx")
    output, pullback = jax.vjp(jax.jit(lambda params: ours.apply(params, tokens)), ours.params)
    (gradients,) = pullback(jnp.cos(output))
    expected = module(torch.tensor(tokens))
    expected.sin().sum().backward()
    np.testing.assert_allclose(output, expected.detach(), rtol=1e-10)
    for key in ("embedding.weight", "linear.bias", "norm.weight"):
        # The file holds the epsilon of the normalization in float32.
        np.testing.assert_allclose(gradients[key], module.get_parameter(key).grad, rtol=1e-8, atol=1e-10)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients))


@pytest.mark.table(quick=2)
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_nodes_take_lengths_and_states(tmp_path, kind):
    """Both directions, lengths, initial and last states are those of ONNX Runtime."""
    w = {name: np.concatenate([array, -array[:, ::-1]]) for name, array in weights(kind).items()}
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    results = ["ys", *(f"last_{state}" for state in states)]
    node = make.make_node(
        kind, ["xs", *w, "lengths", *states], results, "layer", hidden_size=UNITS, direction="bidirectional"
    )  # fmt: skip
    graph_proto = graph([node], w, ("xs", *states, "lengths"), results)
    graph_proto.input[-1].type.tensor_type.elem_type = onnx.TensorProto.INT32
    path = saved(tmp_path / "a.onnx", graph_proto)
    inputs = {"xs": sequences(), "lengths": np.array([TIME, 2], np.int32)}
    inputs |= {state: np.random.default_rng(2).normal(size=(2, BATCH, UNITS)).astype(np.float32) for state in states}
    ours = convert.model(path)
    assert ours.params.keys() == {"layer"}
    assert convert.read(path)["layer"][0] == ours.layers["layer"]
    for got, expected in zip(jax.jit(ours.apply)(ours.params, inputs), runtime(path, **inputs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_batch_first_nodes_are_the_same_transposed(tmp_path):
    """ONNX Runtime refuses layout=1, so the oracle is the node without it."""
    inputs, results = ["xs", *weights(), "", "h"], ["ys", "last_h"]
    paths = []
    for batch_first in (0, 1):
        node = make.make_node("LSTM", inputs, results, "layer", hidden_size=UNITS, **({"layout": 1} if batch_first else {}))
        paths.append(saved(tmp_path / f"{batch_first}.onnx", graph([node], weights(), ("xs", "h"), results)))
    h = np.random.default_rng(2).normal(size=(1, BATCH, UNITS)).astype(np.float32)
    time_first, batch_first = map(convert.model, paths)
    ys, last_h = jax.jit(time_first.apply)(time_first.params, (sequences(), h))
    swapped = (sequences().swapaxes(0, 1), h.swapaxes(0, 1))
    ys_batch_first, last_batch_first = jax.jit(batch_first.apply)(batch_first.params, swapped)
    np.testing.assert_allclose(ys_batch_first, ys.transpose(2, 0, 1, 3), rtol=1e-6)
    np.testing.assert_allclose(last_batch_first, last_h.swapaxes(0, 1), rtol=1e-6)


def branches(path):
    """Save a model with two branches, chosen by an integer, and a function in one of them that is called twice."""
    call = [make.make_node("double", [value], [result], domain="ours") for value, result in (("x", "a"), ("a", "b"))]
    then_branch = make.make_graph(call, "then", [], [make.make_empty_tensor_value_info("b")])
    tensor = onnx.numpy_helper.from_array(np.float32([1, 2, 3]), "v")
    other = make.make_graph(
        [make.make_node("Mul", ["x", "v"], ["d"])], "else", [], [make.make_empty_tensor_value_info("d")], [tensor]
    )
    nodes = [
        make.make_node("Equal", ["rate", "limit"], ["is_low"]),
        make.make_node("If", ["is_low"], ["y"], "If_0", then_branch=then_branch, else_branch=other),
        make.make_node("Constant", [], ["unused"], value_strings=["text"]),
    ]
    body = [make.make_node("Add", ["p", "p"], ["q"])]
    double = make.make_function("ours", "double", ["p"], ["q"], body, [make.make_opsetid("", 17)])
    kinds = {"rate": onnx.TensorProto.INT64}
    graph_proto = graph(nodes, {"limit": np.array(8)}, ("x", "rate"), ("y",), kinds)
    return saved(path, graph_proto, [double])


def test_branches_are_chosen_by_constants_or_at_run_time(tmp_path):
    """An integer that NumPy holds is known when JAX compiles, and one that jit traces is not. Both choose the same branch."""
    path = branches(tmp_path / "a.onnx")
    ours, x = convert.model(path), np.float32([4, 5, 6])
    assert ours.params.keys() == {"If_0/else_branch/v"}
    for rate in (np.array(8), np.array(16)):
        (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x, "rate": rate})
        known = jax.jit(lambda x, rate=rate: ours.apply(ours.params, {"x": x, "rate": rate}))
        np.testing.assert_array_equal(known(x), expected)
        np.testing.assert_array_equal(jax.jit(ours.apply)(ours.params, {"x": x, "rate": rate}), expected)


def test_calls_of_one_layer_share_parameters(tmp_path):
    """Two nodes with the same weights have one entry in the parameters; weights that operators compute are part of it."""
    w = weights(features=UNITS)
    nodes = [make.make_node("Transpose", ["V"], ["W"], perm=[0, 2, 1])]
    for k, (xs, ys) in enumerate((("xs", "a"), ("b", "c"))):
        nodes.append(make.make_node("LSTM", [xs, "W", "R", "B"], [ys], f"lstm_{k}", hidden_size=UNITS))
        nodes.append(make.make_node("Squeeze", [ys, "axis"], ["b" if k == 0 else "ys"]))
    path = saved(tmp_path / "a.onnx", graph(nodes, w | {"V": w["W"].swapaxes(1, 2), "axis": np.array([1])} | {}, outputs=("ys",)))
    proto = onnx.load(path)
    kept = [tensor for tensor in proto.graph.initializer if tensor.name != "W"]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    onnx.save(proto, path)
    ours = convert.model(path)
    assert ours.params.keys() == ours.layers.keys() == {"lstm_0"}
    np.testing.assert_allclose(
        ours.apply(ours.params, sequences(UNITS)), runtime(path, xs=sequences(UNITS))[0], rtol=1e-5, atol=1e-6
    )


def test_a_key_turns_dropout_on(tmp_path):
    """Elements are dropped with the ratio of the file, and the others grow. Without a key, nothing changes."""
    nodes = [make.make_node("Dropout", ["xs", "ratio"], ["ys"])]
    ours = convert.model(saved(tmp_path / "a.onnx", graph(nodes, {"ratio": np.float32(0.75)})))
    xs = np.ones((40, 50), np.float32)
    np.testing.assert_array_equal(ours.apply({}, xs), xs)
    ys = np.asarray(jax.jit(ours.apply)({}, xs, key=jax.random.key(0)))
    assert set(np.unique(ys)) == {0, 4}
    assert 0.2 < (ys > 0).mean() < 0.3


def test_running_averages_are_not_trained(tmp_path):
    """`trainable` is a tree like `params`, in which the averages of a BatchNormalization are False."""
    constants = {name: np.ones(3, np.float32) for name in ("scale", "bias", "mean", "variance")}
    node = make.make_node("BatchNormalization", ["xs", *constants], ["ys"])
    ours = convert.model(saved(tmp_path / "a.onnx", graph([node], constants)))
    assert ours.trainable == {"scale": True, "bias": True, "mean": False, "variance": False}


def test_sizes_are_computed_when_jax_compiles(tmp_path):
    """Shapes that other sizes decide are constants, in jit too: Shape, Gather, Concat, Range, ConstantOfShape and Expand."""
    nodes = [
        make.make_node("Shape", ["xs"], ["shape"]),
        make.make_node("Gather", ["shape", "first"], ["time"]),
        make.make_node("Range", ["zero", "time", "one"], ["steps"]),
        make.make_node("Cast", ["steps"], ["floats"], to=onnx.TensorProto.FLOAT),
        make.make_node("Unsqueeze", ["floats", "axes"], ["column"]),
        make.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        make.make_node("Expand", ["column", "shape"], ["table"]),
        make.make_node("Size", ["xs"], ["size"]),
        make.make_node("Div", ["size", "time"], ["numbers"]),
        make.make_node("Cast", ["numbers"], ["share"], to=onnx.TensorProto.FLOAT),
        make.make_node("Sum", ["table", "xs", "zeros", "share"], ["ys"]),
    ]
    constants = {"first": np.array(0), "zero": np.array(0), "one": np.array(1), "axes": np.array([1, 2])}
    path = saved(tmp_path / "a.onnx", graph(nodes, constants))
    ours = convert.model(path)
    np.testing.assert_allclose(jax.jit(ours.apply)({}, sequences()), runtime(path, xs=sequences())[0], rtol=1e-6)
    assert isinstance(ours.values({}, sequences())["steps"], np.ndarray)
