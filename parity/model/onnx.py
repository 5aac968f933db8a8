"""ONNX Runtime: each recurrent node as a model of its own, with its attributes and weights; and the whole model."""

import os
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from parity.model import onnx_run, onnx_whole
from parity.model.leftovers import Contents, sort_out
from parity.model.onnx_graph import INPUTS, RECURRENT, Place, arrays, load, not_plain, places, sources
from parity.model.original import Original, Results

REFUSALS = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.NotImplemented, errors.RuntimeException)


def originals(
    path: str | os.PathLike[str], names: Collection[str], options: Mapping[str, Any]
) -> tuple[dict[str, Original], Contents]:
    """Read a model and run it.

    Args:
        path: the file.
        names: names of the nodes or of their first outputs, as the converter gives them.
        options: must be empty, because a node states all its options.

    Returns:
        The recurrent nodes by name, and what else the file holds.

    Raises:
        ValueError: onnx cannot read the file, or it has no such node with constant weights.
    """
    if options:
        raise ValueError(f"a node states all its options, got {', '.join(options)}: leave --option out")
    model = load(Path(path))
    all_places = list(places(model.graph))
    nodes = [place for place in all_places if place.node.op_type in RECURRENT]
    quantized = [place for place in all_places if place.node.op_type == "DynamicQuantizeLSTM"]
    places_of = {name: next((place for place in nodes + quantized if place.matches_name(name)), None) for name in names}
    chosen = {name: place for name, place in places_of.items() if place is not None}
    recorded, not_run = onnx_run.recorded(model, {name: place for name, place in chosen.items() if place in nodes})
    originals_by_name = {name: _original(model, place, recorded.get(name)) for name, place in chosen.items()}
    contents = sort_out(
        arrays(model.graph), {name: original.arrays for name, original in originals_by_name.items()}, not_run, scoped=False
    )
    compared = list(chosen.values())
    incomplete = dict.fromkeys(places_of.keys() - chosen.keys(), "onnx finds no node of this name")
    incomplete |= {place.name: "this node is not compared" for place in nodes if place not in compared}
    incomplete |= {place.name: why for place in all_places if place not in compared and (why := not_plain(place))}
    incomplete |= {
        name: "its lengths are constants of the file, which apply has to be told"
        for name, place in chosen.items()
        if _constant(place, "sequence_lens")
    }
    incomplete |= {
        name: "what it computes with quantized numbers is not compared, only its weights"
        for name, place in chosen.items()
        if place in quantized
    }
    reason = onnx_whole.obstacle(Path(path))
    assumed = (f"the whole model is right, which was not compared: {reason}",) if reason else ()
    return originals_by_name, contents._replace(
        incomplete=contents.incomplete | incomplete,
        assumed=(*contents.assumed, *assumed),
        compare_whole=None if reason else partial(onnx_whole.compare, Path(path)),
    )


def _constant(place: Place, key: str) -> bool:
    """Whether an input is a constant of the file."""
    try:
        return bool(place.input_name(key)) and sources(place, place.input_name(key)) is not None
    except ValueError:
        return False


def _original(model: Any, place: Place, recorded: Any) -> Original:
    weight_sources = [sources(place, tensor_name) for key in ("W", "R", "B", "P") if (tensor_name := place.input_name(key))]
    constants = {tensor.name: tensor for tensors, _ in weight_sources for tensor in tensors}
    steps: list[Any] = []  # a node may compute several weights and must be in the new graph once
    for _, nodes in weight_sources:
        steps += [node for node in nodes if node not in steps]
    used = frozenset([*constants, *(output for node in steps for output in node.output)])
    single_node = _single_node_model(model, place.node, list(constants.values()), steps)
    return Original("onnxruntime", "float32", "float32", partial(_run, single_node), used, recorded)


def _single_node_model(model: Any, node: Any, constants: list[Any], steps: list[Any]) -> Any:
    """Return a model of this node only, time-major, with its constants and the nodes that compute its weights."""
    make, types = onnx.helper, onnx.TensorProto
    inputs = dict(zip(INPUTS, node.input, strict=False))
    inputs |= {"X": "xs", "sequence_lens": "lengths", "initial_h": "", "initial_c": ""}
    # initial_c and P, the last two, are inputs of an LSTM only.
    names = [inputs.get(key, "") for key in INPUTS[: 8 if node.op_type == "LSTM" else 6]]
    single_node = make.make_node(node.op_type, names, ["ys", "h", "c"][: 3 if node.op_type == "LSTM" else 2])
    # Without `layout` a node is time-major.
    single_node.attribute.extend(attribute for attribute in node.attribute if attribute.name != "layout")
    inputs_info = [
        make.make_tensor_value_info("xs", types.FLOAT, None),
        make.make_tensor_value_info("lengths", types.INT32, None),
    ]
    outputs = [make.make_tensor_value_info(name, types.FLOAT, None) for name in single_node.output]
    graph = make.make_graph([*steps, single_node], "one", inputs_info, outputs, constants)
    return make.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _run(model: Any, xs: np.ndarray, lengths: np.ndarray | None, dtype: str, _: str) -> Results:
    counts = np.full(len(xs), xs.shape[1]) if lengths is None else lengths
    feeds = {"xs": xs.swapaxes(0, 1).astype(dtype), "lengths": counts.astype(np.int32)}
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        ys, *states = session.run(None, feeds)
    except REFUSALS as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"ONNX Runtime does not run such a node ({reason}): export it in {dtype}") from error
    return Results([onnx_run.batch_first(ys)], onnx_run.by_direction(states))
