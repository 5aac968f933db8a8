"""ONNX Runtime: each node of a model's graph as a model of its own, with its attributes and constants."""

import os
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from parity.model.original import Original, Results

_INPUTS = ("X", "W", "R", "B", "", "", "", "P")  # lengths and initial states are left out


def originals(path: str | os.PathLike[str], names: Collection[str]) -> dict[str, Original]:
    """Read a model and return its LSTM and GRU nodes of these names, or whose first output has such a name."""
    model = onnx.load(path, load_external_data=False)
    nodes = [node for node in model.graph.node if node.op_type in ("LSTM", "GRU")]
    found = {next(name for name in (node.name, *node.output) if name): node for node in nodes if node.name or any(node.output)}
    return {name: Original("onnxruntime", "float32", "float32", partial(_run, _alone(model, found[name]))) for name in names}


def _alone(model: Any, node: Any) -> Any:
    """A model of nothing but this node, time-major, with its constants."""
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    given = [name if expected else "" for name, expected in zip(node.input, _INPUTS, strict=False)]
    constants = [tensor for tensor in model.graph.initializer if tensor.name in given[1:]]
    steps = [one for one in model.graph.node if one.op_type == "Constant" and one.output[0] in given[1:]]
    alone = make.make_node(node.op_type, ["xs", *given[1:]], ["ys", "h", "c"][: 3 if node.op_type == "LSTM" else 2])
    alone.attribute.extend(attribute for attribute in node.attribute if attribute.name != "layout")
    inputs = [make.make_tensor_value_info("xs", kind, None)]
    outputs = [make.make_tensor_value_info(name, kind, None) for name in alone.output]
    graph = make.make_graph([*steps, alone], "one", inputs, outputs, constants)
    return make.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


_REFUSALS = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented, errors.RuntimeException)


def _run(model: Any, xs: np.ndarray, dtype: str, _: str) -> Results:
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        ys, *states = session.run(None, {"xs": xs.swapaxes(0, 1).astype(dtype)})
    except _REFUSALS as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"ONNX Runtime does not run such a node ({reason}): export it in {dtype}") from error
    time, directions, batch, units = ys.shape
    ys = ys.transpose(2, 0, 1, 3).reshape(batch, time, directions * units)
    return Results([ys.astype(np.float64)], [state[d].astype(np.float64) for d in range(directions) for state in states])
