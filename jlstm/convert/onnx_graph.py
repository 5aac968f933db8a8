"""ONNX files: their nodes, and a graph of nodes."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jlstm import io
from jlstm.convert import files

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_OPSET, _IR = 14, 8  # the oldest with these nodes as they are today


def nodes(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the LSTM and GRU nodes of a graph, each with its name, arrays and attributes.

    Raises:
        ImportError: onnx is not installed.
        ValueError: it is no ONNX file, or weights are not in it.
    """
    onnx = files.needed("onnx", path)
    decode_error = files.needed("google.protobuf.message", path).DecodeError
    try:
        graph = onnx.load_model_from_string(path.read_bytes()).graph
    except (decode_error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a whole ONNX file: export it again") from error
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.output:
            constants[node.output[0]] = node.attribute[0].t
    for k, node in enumerate(graph.node):
        if node.op_type not in ("LSTM", "GRU"):
            continue
        name = node.name or next((output for output in node.output if output), f"{node.op_type}_{k}")
        given = {key: value for key, value in zip(_INPUTS, node.input, strict=False) if value}
        arrays = {key: _array(onnx, path, name, constants, given[key]) for key in ("W", "R", "B", "P") if key in given}
        for key in ("initial_h", "initial_c"):
            if given.get(key) in constants and _array(onnx, path, name, constants, given[key]).any():
                raise ValueError(
                    f"{path}: {name!r} starts from a constant {key}: make it an input, and pass it to apply as carry"
                )
        yield name, arrays | {attribute.name: _attribute(onnx, attribute) for attribute in node.attribute}


def _array(onnx: Any, path: Path, name: str, constants: dict[str, Any], which: str) -> np.ndarray:
    tensor = constants.get(which)
    if tensor is None:
        raise ValueError(f"{path}: {name!r} has weights {which!r} that are computed, expected constants: fold constants first")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError(f"{path}: {name!r} has weights {which!r} in another file: save the model as one file")
    try:
        return onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"{path}: {name!r} has weights {which!r} of another size than they declare: export it again") from error


def _attribute(onnx: Any, attribute: Any) -> Any:
    """A number, a word, or a list of these."""
    types = onnx.AttributeProto
    try:
        if attribute.type in (types.FLOAT, types.INT, types.STRING):
            value = onnx.helper.get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
        if attribute.type in (types.FLOATS, types.INTS, types.STRINGS):
            return [each.decode() if isinstance(each, bytes) else each for each in onnx.helper.get_attribute_value(attribute)]
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"the attribute {attribute.name!r} has no value that can be read: export it again") from error
    raise ValueError(f"the attribute {attribute.name!r} is neither a number nor a word: export it again")


def write(path: str | os.PathLike[str], given: Sequence[dict[str, Any]], *, time_major: bool) -> None:
    """Write a model of nodes one upon the other; `jlstm.convert.onnx.write` tells its inputs and outputs.

    Raises:
        ImportError: onnx is not installed.
        ValueError: a dtype that the nodes do not have.
    """
    onnx = files.needed("onnx", Path(path))
    make, to_proto = onnx.helper, onnx.numpy_helper.from_array
    dtype = given[0]["W"].dtype
    if dtype.name not in ("float16", "float32", "float64"):
        raise ValueError(f"ONNX' nodes are for float16, float32 and float64, got {dtype.name}: cast the parameters")
    kind = make.np_dtype_to_tensor_dtype(dtype)
    sides = ("time", "batch") if time_major else ("batch", "time")
    inputs = [("xs", kind, (*sides, given[0]["W"].shape[2])), ("lengths", onnx.TensorProto.INT32, ("batch",))]
    outputs: list[Any] = []
    steps: list[Any] = []
    constants: list[Any] = []
    current = "xs"
    if not time_major:
        steps.append(make.make_node("Transpose", ["xs"], ["time_first"], perm=(1, 0, 2)))
        current = "time_first"
    for k, node in enumerate(given):
        arrays = {name: value for name, value in node.items() if isinstance(value, np.ndarray)}
        name = "LSTM" if arrays["R"].shape[1] == 4 * arrays["R"].shape[2] else "GRU"
        constants += [to_proto(value, f"{key}_{k}") for key, value in arrays.items()]
        states = ("h", "c") if name == "LSTM" else ("h",)
        names = {"X": current, "sequence_lens": "lengths"} | {key: f"{key}_{k}" for key in arrays}
        names |= {f"initial_{state}": f"{state}_{k}" for state in states}
        known = _INPUTS if name == "LSTM" else _INPUTS[:6]
        results = [f"all_{k}", *(f"last_{state}_{k}" for state in states)]
        attributes = {key: value for key, value in node.items() if key not in arrays}
        steps.append(make.make_node(name, [names.get(key, "") for key in known], results, f"layer_{k}", **attributes))
        directions, units = len(arrays["R"]), arrays["R"].shape[2]
        inputs += [(f"{state}_{k}", kind, (directions, "batch", units)) for state in states]
        outputs += [(result, kind, (directions, "batch", units)) for result in results[1:]]
        constants.append(to_proto(np.array([0, 0, directions * units]), f"shape_{k}"))
        steps.append(make.make_node("Transpose", [f"all_{k}"], [f"features_last_{k}"], perm=(0, 2, 1, 3)))
        steps.append(make.make_node("Reshape", [f"features_last_{k}", f"shape_{k}"], [f"ys_{k}"]))
        current, width = f"ys_{k}", directions * units
    steps.append(make.make_node("Transpose", [current], ["ys"], perm=(0, 1, 2) if time_major else (1, 0, 2)))
    outputs.insert(0, ("ys", kind, (*sides, width)))
    described = [[make.make_tensor_value_info(*each) for each in values] for values in (inputs, outputs)]
    graph = make.make_graph(steps, "jlstm", *described, constants)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)], producer_name="jlstm", ir_version=_IR)
    onnx.checker.check_model(model, full_check=True)
    io.write(path, model.SerializeToString())
