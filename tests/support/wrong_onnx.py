"""ONNX models whose nodes are not plain LSTM and GRU nodes, and models that are right."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_RNG = np.random.default_rng(0)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def constant(name, *shape, dtype=np.float32, value=None):
    array = _RNG.normal(0, 0.4, shape) if value is None else np.asarray(value)
    return numpy_helper.from_array(array.astype(dtype), name)


def node(kind="LSTM", xs="xs", name="rnn", directions=1, extra_inputs=(), **attributes):
    """Return a recurrent node of three features and four units, and its weights."""
    rows = GATES[kind] * 4
    weights = [constant(f"{name}.W", directions, rows, 3), constant(f"{name}.R", directions, rows, 4)]
    weights.append(constant(f"{name}.B", directions, 2 * rows))
    inputs = [xs, *(tensor.name for tensor in weights), *extra_inputs]
    return helper.make_node(kind, inputs, [f"{name}.Y"], name=name, hidden_size=4, **attributes), weights


def model(
    nodes, constants, *, outputs=("rnn.Y",), inputs=(("xs", TensorProto.FLOAT, ("time", "batch", 3)),), opset=14, functions=()
):
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def plain(kind="LSTM", extra=(), extra_constants=(), **options):
    """Return a model of one such node, and of more in its graph."""
    node_proto, weights = node(kind, **options)
    return model([node_proto, *extra], [*weights, *extra_constants])


def started(state):
    return plain(extra_inputs=("", "h"), extra_constants=[constant("h", 1, 1, 4, value=np.full((1, 1, 4), state))])


def scan():
    """Return a model with a recurrent cell in the body of a Scan."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "U"], ["hu"]),
            helper.make_node("Add", ["x", "hu"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["h_out"]),
            helper.make_node("Identity", ["h_out"], ["y"]),
        ],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("h", "x")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("h_out", "y")],
        [constant("U", 3, 3)],
    )
    return helper.make_node("Scan", ["h_0", "xs"], ["h_last", "ys"], name="loop", body=body, num_scan_inputs=1)


def computed():
    node_proto, weights = node()
    scaled = helper.make_node("Mul", ["rnn.R.plain", "scale"], ["rnn.R"])
    weights[1].name = "rnn.R.plain"
    inputs = (("xs", TensorProto.FLOAT, ("time", "batch", 3)), ("scale", TensorProto.FLOAT, (1,)))
    return model([scaled, node_proto], weights, inputs=inputs)


def quantized():
    shapes = {"W": (1, 3, 16), "R": (1, 4, 16)}
    tensors = [constant(name, *shape, dtype=np.int8, value=_RNG.integers(-99, 99, shape)) for name, shape in shapes.items()]
    tensors += [constant(f"{name}_scale", 1, value=[0.01]) for name in "WR"]
    tensors += [constant(f"{name}_zero", 1, dtype=np.int8, value=[0]) for name in "WR"]
    inputs = ["xs", "W", "R", "", "", "", "", "", "W_scale", "W_zero", "R_scale", "R_zero"]
    node_proto = helper.make_node("DynamicQuantizeLSTM", inputs, ["rnn.Y"], name="rnn", domain="com.microsoft", hidden_size=4)
    return model([node_proto], tensors)


def branches():
    """Return a model with the same layer name in both branches of an If, whose condition is an input."""
    graphs = {}
    for name in ("then_branch", "else_branch"):
        node_proto, weights = node()
        for k, tensor in enumerate(weights):
            tensor.name = f"{name}.{tensor.name}"
            node_proto.input[k + 1] = tensor.name
        graphs[name] = helper.make_graph(
            [node_proto], name, [], [helper.make_tensor_value_info("rnn.Y", TensorProto.FLOAT, None)], weights
        )
    choice = helper.make_node("If", ["first"], ["ys"], name="choice", **graphs)
    inputs = (("xs", TensorProto.FLOAT, ("time", "batch", 3)), ("first", TensorProto.BOOL, ()))
    return model([choice], [], outputs=("ys",), inputs=inputs)


def embedded():
    """Return a model on words that looks up its inputs in a table, with lengths."""
    node_proto, weights = node(xs="embedded", extra_inputs=("lengths",))
    look = helper.make_node("Gather", ["table", "words"], ["embedded"])
    inputs = (("words", TensorProto.INT64, ("time", "batch")), ("lengths", TensorProto.INT32, ("batch",)))
    return model([look, node_proto], [*weights, constant("table", 9, 3)], inputs=inputs)


WRONG = {
    "starts from a constant": lambda: started(0.5),
    "constant lengths": lambda: plain(
        extra_inputs=("lengths",), extra_constants=[constant("lengths", 2, dtype=np.int32, value=[3, 2])]
    ),
    "weights that depend on an input": computed,
    "quantized": quantized,
    "activation with a threshold": lambda: plain(activations=["Sigmoid", "ThresholdedRelu", "Tanh"], activation_alpha=[0.5]),
    "scaled tanh": lambda: plain(activations=["Sigmoid", "ScaledTanh", "Tanh"], activation_alpha=[0.5], activation_beta=[2.0]),
    "other activations backwards": lambda: plain(
        directions=2, direction="bidirectional", activations=["Sigmoid", "Tanh", "Tanh", "Sigmoid", "Relu", "Tanh"]
    ),
    "direction that the weights do not have": lambda: plain(direction="bidirectional"),
    "LSTM in a Scan": lambda: model([node()[0], scan()], [*node()[1], constant("h_0", 1, 3)], outputs=("rnn.Y", "ys")),
    "LSTM of another domain": lambda: plain(
        extra=[helper.make_node("AttnLSTM", ["xs"], ["attended"], domain="com.microsoft", name="attn")]
    ),
    "cell written out": lambda: plain(
        extra=[helper.make_node("MatMul", ["xs", "decoder.weight_ih"], ["gates"])],
        extra_constants=[constant("decoder.weight_ih", 3, 16)],
    ),
}

RIGHT = {
    "LSTM": plain,
    "GRU with its reset gate after the product, backwards": lambda: plain("GRU", linear_before_reset=1, direction="reverse"),
    "clip and coupled gates": lambda: plain(clip=0.3, input_forget=1),
    "two directions": lambda: plain(directions=2, direction="bidirectional"),
    "branches": branches,
    "embedded words with lengths": embedded,
}


def write(path, make):
    onnx.save(make(), path)
    return path
