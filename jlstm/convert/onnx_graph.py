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
    dtype = given[0]["W"].dtype
    if dtype.name not in ("float16", "float32", "float64"):
        raise ValueError(f"ONNX' nodes are for float16, float32 and float64, got {dtype.name}: cast the parameters")
    model = _Graph(onnx, onnx.helper.np_dtype_to_tensor_dtype(dtype)).model(
        given, ("time", "batch") if time_major else ("batch", "time")
    )
    onnx.checker.check_model(model, full_check=True)
    io.write(path, model.SerializeToString())


class _Graph:
    """A graph in the making."""

    def __init__(self, onnx: Any, kind: int) -> None:
        self._onnx, self._make, self._kind = onnx, onnx.helper, kind
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._steps: list[Any] = []
        self._constants: list[Any] = []

    def model(self, given: Sequence[dict[str, Any]], sides: tuple[str, str]) -> Any:
        """The model of nodes one upon the other; `sides` are the first two axes of xs and ys."""
        swap = (0, 1, 2) if sides[0] == "time" else (1, 0, 2)
        self._inputs += [self._described("xs", *sides, given[0]["W"].shape[2])]
        self._inputs += [self._make.make_tensor_value_info("lengths", self._onnx.TensorProto.INT32, ("batch",))]
        self._step("Transpose", ["xs"], ["time_first"], perm=swap)
        current = "time_first"
        for k, node in enumerate(given):
            current = self._layer(k, node, current)
        self._step("Transpose", [current], ["ys"], perm=swap)
        width = given[-1]["R"].shape[0] * given[-1]["R"].shape[2]
        outputs = [self._described("ys", *sides, width), *self._outputs]
        graph = self._make.make_graph(self._steps, "jlstm", self._inputs, outputs, self._constants)
        opsets = [self._make.make_opsetid("", _OPSET)]
        return self._make.make_model(graph, opset_imports=opsets, producer_name="jlstm", ir_version=_IR)

    def _layer(self, k: int, node: dict[str, Any], current: str) -> str:
        """Add an LSTM or GRU that takes `current`, and return the name of its outputs, with both directions side by side."""
        arrays = {key: value for key, value in node.items() if isinstance(value, np.ndarray)}
        directions, rows, units = arrays["R"].shape
        name, states, places = ("LSTM", "hc", _INPUTS) if rows == 4 * units else ("GRU", "h", _INPUTS[:6])
        names = {"X": current, "sequence_lens": "lengths"} | {key: f"{key}_{k}" for key in arrays}
        names |= {f"initial_{state}": f"{state}_{k}" for state in states}
        attributes = {key: value for key, value in node.items() if key not in arrays}
        results = [f"all_{k}", *(f"last_{state}_{k}" for state in states)]
        self._step(name, [names.get(place, "") for place in places], results, f"layer_{k}", **attributes)
        self._inputs += [self._described(f"{state}_{k}", directions, "batch", units) for state in states]
        self._outputs += [self._described(result, directions, "batch", units) for result in results[1:]]
        shape = {f"shape_{k}": np.array([0, 0, directions * units])}
        self._constants += [self._onnx.numpy_helper.from_array(arrays[key], names[key]) for key in arrays]
        self._constants += [self._onnx.numpy_helper.from_array(value, key) for key, value in shape.items()]
        self._step("Transpose", [f"all_{k}"], [f"features_last_{k}"], perm=(0, 2, 1, 3))
        self._step("Reshape", [f"features_last_{k}", *shape], [f"ys_{k}"])
        return f"ys_{k}"

    def _step(self, *what: Any, **attributes: Any) -> None:
        self._steps.append(self._make.make_node(*what, **attributes))

    def _described(self, name: str, *shape: str | int) -> Any:
        return self._make.make_tensor_value_info(name, self._kind, shape)
