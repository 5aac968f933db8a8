"""Writing of ONNX models.

ONNX's nodes take (time, batch, features) and return (time, directions, batch, units). The graph transposes its inputs and outputs
to the layout of the layer, and puts the two directions side by side.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jlstm._src import serialization

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
# For each number of gates: the operator, its states, and the names of its inputs.
_KINDS = {4: ("LSTM", "hc", _INPUTS), 3: ("GRU", "h", _INPUTS[:6]), 1: ("RNN", "h", _INPUTS[:6])}
_OPSET, _IR = 14, 8  # the oldest versions in which these operators are as they are today


def model(onnx: Any, nodes: Sequence[dict[str, Any]], *, time_major: bool, lengths: bool, states: bool) -> Any:
    """Return a model that runs nodes one after the other. `jlstm.convert.onnx.write` describes its inputs and outputs.

    Args:
        onnx: the onnx package.
        nodes: the weights and attributes of each node, the lowest first.
        time_major: whether the time axis of `xs` and `ys` comes before the batch axis.
        lengths: whether the model has an input for the lengths of the sequences.
        states: whether it has inputs for the initial states.

    Raises:
        ValueError: ONNX's nodes do not have the dtype of the weights.
    """
    dtype = nodes[0]["W"].dtype
    if dtype.name not in ("float16", "float32", "float64"):
        raise ValueError(f"ONNX's nodes are for float16, float32 and float64, got {dtype.name}: cast the parameters")
    graph = _Graph(onnx, onnx.helper.np_dtype_to_tensor_dtype(dtype), lengths=lengths, states=states)
    return graph.model(nodes, ("time", "batch") if time_major else ("batch", "time"))


def write(path: str | os.PathLike[str], onnx: Any, proto: Any) -> None:
    """Check a model, and write it to a file."""
    onnx.checker.check_model(proto, full_check=True)
    serialization.write(path, proto.SerializeToString())


class _Graph:
    """Builds the graph of a model.

    Args:
        onnx: the onnx package.
        kind: the number of the dtype in ONNX.
        lengths: whether the model has an input for the lengths of the sequences.
        states: whether it has inputs for the initial states.
    """

    def __init__(self, onnx: Any, kind: int, *, lengths: bool, states: bool) -> None:
        self._onnx, self._make, self._kind = onnx, onnx.helper, kind
        self._has_lengths, self._has_states = lengths, states
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._steps: list[Any] = []
        self._constants: list[Any] = []

    def model(self, nodes: Sequence[dict[str, Any]], axes: tuple[str, str]) -> Any:
        """Return the model that runs nodes one after the other. `axes` names the first two axes of xs and ys."""
        swap = (0, 1, 2) if axes[0] == "time" else (1, 0, 2)
        self._inputs += [self._value_info("xs", *axes, nodes[0]["W"].shape[2])]
        if self._has_lengths:
            self._inputs += [self._make.make_tensor_value_info("lengths", self._onnx.TensorProto.INT32, ("batch",))]
        self._step("Transpose", ["xs"], ["time_first"], perm=swap)
        current = "time_first"
        for k, node in enumerate(nodes):
            current = self._layer(k, node, current)
        self._step("Transpose", [current], ["ys"], perm=swap)
        width = nodes[-1]["R"].shape[0] * nodes[-1]["R"].shape[2]
        outputs = [self._value_info("ys", *axes, width), *self._outputs]
        graph = self._make.make_graph(self._steps, "jlstm", self._inputs, outputs, self._constants)
        opsets = [self._make.make_opsetid("", _OPSET)]
        return self._make.make_model(graph, opset_imports=opsets, producer_name="jlstm", ir_version=_IR)

    def _layer(self, k: int, node: dict[str, Any], current: str) -> str:
        """Add a node with its weights.

        Args:
            k: the number of the node.
            node: its weights and attributes.
            current: the name of its inputs (time, batch, features).

        Returns:
            The name of its outputs (time, batch, directions·units).
        """
        arrays = {key: value for key, value in node.items() if isinstance(value, np.ndarray)}
        directions, rows, units = arrays["R"].shape
        name, states, places = _KINDS[rows // units]
        names = {"X": current} | {key: f"{key}_{k}" for key in arrays}
        names |= {"sequence_lens": "lengths"} if self._has_lengths else {}
        names |= {f"initial_{state}": f"{state}_{k}" for state in states} if self._has_states else {}
        attributes = {key: value for key, value in node.items() if key not in arrays}
        results = [f"all_{k}", *(f"last_{state}_{k}" for state in states)]
        self._step(name, [names.get(place, "") for place in places], results, f"layer_{k}", **attributes)
        if self._has_states:
            self._inputs += [self._value_info(f"{state}_{k}", directions, "batch", units) for state in states]
        self._outputs += [self._value_info(result, directions, "batch", units) for result in results[1:]]
        shape = {f"shape_{k}": np.array([0, 0, directions * units])}  # 0 keeps the size of time and batch
        self._constants += [self._onnx.numpy_helper.from_array(arrays[key], names[key]) for key in arrays]
        self._constants += [self._onnx.numpy_helper.from_array(value, key) for key, value in shape.items()]
        self._step("Transpose", [f"all_{k}"], [f"features_last_{k}"], perm=(0, 2, 1, 3))
        self._step("Reshape", [f"features_last_{k}", *shape], [f"ys_{k}"])
        return f"ys_{k}"

    def _step(self, *arguments: Any, **attributes: Any) -> None:
        """Append a node to the graph, with the arguments of `onnx.helper.make_node`."""
        self._steps.append(self._make.make_node(*arguments, **attributes))

    def _value_info(self, name: str, *shape: str | int) -> Any:
        """Return the declaration of an input or output, with names for axes of variable size."""
        return self._make.make_tensor_value_info(name, self._kind, shape)
