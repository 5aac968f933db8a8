"""ONNX Runtime: the LSTM and GRU operators, time-major, two biases, one node per layer. Forward only."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.speed.frameworks import Setting
from benchmarks.speed.points import Point, Size

OPSET, IR = 17, 8  # old enough for every current ONNX Runtime


def build(point: Point, setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the jobs of a session whose operators use as many threads as the other frameworks."""
    if point.form == "matrix":
        return {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_model(point), options, providers=["CPUExecutionProvider"])
    feeds = {"xs": point.inputs()}
    if point.form == "ragged":
        feeds["lengths"] = point.lengths
    if point.form == "step":
        feeds |= {name: np.zeros((1, point.batch, point.units[0]), np.float32) for name in ("h", "c")}
    return {"step" if point.form == "step" else "forward": lambda: session.run(None, feeds)}


def _model(point: Point) -> bytes:
    rng, weights, nodes, layer_inputs = np.random.default_rng(2), [], [], "xs"
    # After W, R and B, the operator takes sequence_lens, initial_h and initial_c. An empty name leaves an optional input out.
    states = {"ragged": ["lengths"], "step": ["", "h", "c"]}.get(point.form, [])
    last_states = ["h_after", "c_after"] if point.form == "step" else []
    for number, size in enumerate(point.layers):
        arrays = {f"{name}{number}": array for name, array in _weights(size, point, rng).items()}
        weights += [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        options = {"hidden_size": size.units, "direction": "bidirectional" if size.directions == 2 else "forward"}
        options |= {"linear_before_reset": 1} if point.cell == "gru" else {}
        inputs = [layer_inputs, *(name for name in arrays if name[0] in "WRB"), *states]
        if point.cell == "peephole":  # the last of the optional inputs
            inputs += [*("",) * (7 - len(inputs)), f"P{number}"]
        results = [f"Y{number}", *last_states]
        layer_inputs = f"ys{number}"
        nodes += [
            helper.make_node("GRU" if point.cell == "gru" else "LSTM", inputs, results, **options),
            # (time, directions, batch, units) to (time, batch, directions · units)
            helper.make_node("Transpose", [f"Y{number}"], [f"transposed{number}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"transposed{number}", f"shape{number}"], [layer_inputs]),
        ]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (layer_inputs, *last_states)]
    graph = helper.make_graph(nodes, "lstm", _inputs(point), results, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    return model.SerializeToString()


def _inputs(point: Point) -> list[Any]:
    shapes = {"xs": (point.time, point.batch, point.features)}
    if point.form == "step":
        shapes |= dict.fromkeys("hc", (1, point.batch, point.units[0]))
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    if point.form == "ragged":
        infos.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [point.batch]))
    return infos


def _weights(size: Size, point: Point, rng: np.random.Generator) -> dict[str, np.ndarray]:
    features, units, directions = size
    gates = point.gates
    shapes = {
        "W": (directions, gates * units, features),
        "R": (directions, gates * units, units),
        "B": (directions, 2 * gates * units),  # two biases
    }
    if point.cell == "peephole":
        shapes["P"] = (directions, 3 * units)
    limit = units**-0.5
    drawn = {name: rng.uniform(-limit, limit, shape).astype(np.float32) for name, shape in shapes.items()}
    return drawn | {"shape": np.array([0, 0, directions * units], np.int64)}  # 0 leaves an axis as it is
