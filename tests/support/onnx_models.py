"""ONNX models made by hand for the tests of their reader, and ONNX Runtime to run them."""

import numpy as np
import onnx
import onnxruntime

from jlstm.convert import onnx as convert
from problems import BATCH, FEATURES, TIME, UNITS, apply

make = onnx.helper
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def weights(kind="LSTM", *, features=FEATURES, seed=0):
    """Return random W, R and B of one direction."""
    rng, rows = np.random.default_rng(seed), GATES[kind] * UNITS
    shapes = {"W": (1, rows, features), "R": (1, rows, UNITS), "B": (1, 2 * rows)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def layer(kind="LSTM", *, xs="xs", ys="ys", names=("W", "R", "B"), name="layer", **attributes):
    """Return an ONNX node of an LSTM, GRU or RNN, with the names of its inputs and weights."""
    return make.make_node(kind, [xs, *names], [ys], name, hidden_size=UNITS, **attributes)


def graph(nodes, constants, inputs=("xs",), outputs=("ys",), kinds=None):
    """Return a graph whose values are floats of any shape. `kinds` gives the types of scalars."""
    scalars = {name: make.make_tensor_value_info(name, kind, ()) for name, kind in (kinds or {}).items()}
    infos = {name: make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in (*inputs, *outputs)} | scalars
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return make.make_graph(nodes, "g", [infos[name] for name in inputs], [infos[name] for name in outputs], tensors)


def model(graph_proto, functions=(), opset=17):
    """Return a model of a graph, with functions of the domain "ours"."""
    opsets = [make.make_opsetid("", opset), make.make_opsetid("com.microsoft", 1), make.make_opsetid("ours", 1)]
    return make.make_model(graph_proto, opset_imports=opsets, ir_version=10, functions=list(functions))


def saved(path, *arguments, **options):
    """Save a model, and return the path."""
    path.write_bytes(model(*arguments, **options).SerializeToString())
    return path


def runtime(path, **inputs):
    """Return the results of ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def sequences(features=FEATURES, seed=1):
    """Return random inputs as ONNX takes them: (time, batch, features)."""
    return np.random.default_rng(seed).normal(size=(TIME, BATCH, features)).astype(np.float32)


def outputs(converted, xs):
    """Return the outputs of a converted layer as ONNX has them: (time, directions, batch, units)."""
    _, ys = apply(*converted, xs.swapaxes(0, 1))
    ys = np.asarray(ys).swapaxes(0, 1)
    return ys.reshape(*ys.shape[:2], -1, UNITS).swapaxes(1, 2)


def compared(path, name="layer", **inputs):
    """Assert that the layer read from a model computes the outputs of ONNX Runtime. Return what was read."""
    xs = sequences()
    (expected,) = runtime(path, xs=xs, **inputs)
    result = convert.read(path)
    np.testing.assert_allclose(outputs(result[name], xs), expected, rtol=1e-5, atol=1e-5)  # float32 rounding over a few steps
    return result
