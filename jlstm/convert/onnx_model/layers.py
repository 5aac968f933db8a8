"""Search for the recurrent layers of an ONNX model, and for other parts of it that look like recurrent layers."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from jlstm.convert.onnx_model.folding import Constants
from jlstm.convert.onnx_model.graph import Model
from jlstm.convert.onnx_model.reasons import UnsupportedError, operator_name, quoted
from jlstm.convert.onnx_model.scope import Scope, key

# The inputs of each operator by position. GRU and RNN lack the last two of the LSTM: initial_c and P.
_LSTM = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_SCALES = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")
_QUANTIZED = ("com.microsoft", "DynamicQuantizeLSTM")
_PLACES = {("", "LSTM"): _LSTM, ("", "GRU"): _LSTM[:6], ("", "RNN"): _LSTM[:6], _QUANTIZED: (*_LSTM, *_SCALES)}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1, "DynamicQuantizeLSTM": 4}
_NAMES = re.compile("lstm|gru|rnn", re.IGNORECASE)
_TORCH = re.compile(r"(?:^|/)([^/:]*): torch\.nn\.modules\.rnn\.")
_WEIGHTS = re.compile(r"[./_]*(weight_hh|recurrent_kernel|recurrent_weights?)\w*(:0)?$")
WRITTEN_OUT = "its steps are written out in other operators: pass its weights to load, or export it with PyTorch's dynamo=False"


class Node(NamedTuple):
    """A recurrent layer in a model.

    Attributes:
        name: the layer's name in the result.
        proto: its NodeProto.
        scope: the graph or function call that contains it.
    """

    name: str
    proto: Any
    scope: Scope


class Layers:
    """Finds the recurrent layers of a model, and records what the caller has to know about each.

    Args:
        model: the model.

    Attributes:
        skipped: parts of the model that look like recurrent layers and cannot be converted, by name, with the reason.
        assumed: one sentence for each input of a layer other than its weights that the caller has to pass to `apply`.
        in_order: whether the network runs all layers, in the order in which they were yielded.
    """

    def __init__(self, model: Model) -> None:
        self.skipped: dict[str, str] = {}
        self.assumed: list[str] = []
        self.in_order = True
        self._model = model
        self._used: set[tuple[Scope, str]] = set()
        self._names: dict[str, int] = {}
        # The recurrent modules of PyTorch that the exporter's metadata names, by whether a recurrent node implements them.
        self._modules: dict[bool, set[str]] = {False: set(), True: set()}

    def __iter__(self) -> Iterator[Node]:
        """Yield the nodes of recurrent layers, in the order in which they run. Other nodes that look alike are skipped."""
        checked_scopes = set()
        for name, proto, scope in self._model.nodes(_looks_recurrent):
            # A model may define a function with the name of an operator. It is then entered instead.
            is_layer = key(proto)[:2] in _PLACES and key(proto) not in self._model.functions
            self._modules[is_layer] |= _torch_modules(proto)
            if is_layer:
                if scope not in checked_scopes:
                    checked_scopes.add(scope)
                    self.in_order &= scope.in_order() and not scope.is_branch
                yield Node(self._unique(name), proto, scope)
            elif _looks_recurrent(proto):
                kind = quoted(f"{proto.domain or 'ai.onnx'}.{proto.op_type}")
                self.skipped[self._unique(name)] = f"it is an operator {kind}, which is not read: pass its weights to load"
            elif _is_written_out(proto):
                self.skipped[self._unique(name)] = (
                    f"it is a {operator_name(proto.op_type)} that looks like a recurrent layer, {WRITTEN_OUT}"
                )
        for name, proto in self._model.training_nodes():
            if _looks_recurrent(proto):
                self.skipped[self._unique(name)] = "it is a part of the training and not of the model: export the model alone"

    def place(self, node: Node) -> Any:
        """Return a key that is equal for nodes with the same weights and attributes, which are calls of the same layer.

        Raises:
            UnsupportedError or ValueError: an attribute of the node cannot be read.
        """
        # Inputs 0 and 4 to 6 are X, the lengths and the initial states, which differ between calls.
        sources = [node.scope.find(name) if name else None for name in node.proto.input]
        weights = [(k, source.scope, source.name) for k, source in enumerate(sources) if source and not 4 <= k <= 6 and k]
        return node.proto.op_type, tuple(weights), repr(sorted(node.scope.values(node.proto).items()))

    def weights(self, node: Node) -> dict[str, Any]:
        """Return a node's weights and attributes by ONNX's names, as `jlstm.convert.onnx.load` takes them.

        Raises:
            UnsupportedError: the node cannot be converted.
            ValueError: the file is damaged, or contradicts itself.
        """
        # One for each node, since its memory is bounded: one for all would refuse files of several layers of 8-bit weights.
        inputs, constants = self._inputs(node), Constants(self._used)
        arrays = {
            name: _constant(constants, node, name, inputs[name]) for name in ("W", "R", "B", "P", *_SCALES) if name in inputs
        }
        if node.proto.op_type == "DynamicQuantizeLSTM":
            arrays = _dequantized(arrays)
        # `load` infers the kind from the shapes, so a GRU with the weights of an LSTM would silently become an LSTM.
        shape, gates = arrays["R"].shape if "R" in arrays else (), _GATES[node.proto.op_type]
        if len(shape) == 3 and shape[1] != gates * shape[2]:
            where = f"{self._model.path}: {quoted(node.name)}"
            raise ValueError(
                f"{where} is of kind {node.proto.op_type} with R of shape {shape}, expected {gates} gates: export it again"
            )
        values = node.scope.values(node.proto)
        values.pop("output_sequence", None)  # in the first version of the operators: whether Y is computed
        if values.get("layout", 0) not in (0, 1):
            raise UnsupportedError(f"it has layout={str(values['layout'])[:20]}, expected 0 or 1: pass its weights to load")
        return arrays | values

    def record_inputs(self, node: Node) -> None:
        """Record the inputs of a layer other than its weights, because the caller has to pass them to `apply`.

        Raises:
            UnsupportedError: the initial state is a constant that is not zero.
        """
        inputs, constants, name = self._inputs(node), Constants(self._used), quoted(node.name)
        for state in ("initial_h", "initial_c"):
            state_kind = constants.initial_state_kind(node.scope, inputs[state]) if state in inputs else "zero"
            if state_kind == "constant":
                raise UnsupportedError(f"it starts from a constant {state}: make it an input, and pass it to apply as carry")
            if state_kind == "computed":
                self.assumed.append(f"{name} starts from an {state} that the graph computes: pass that to apply as carry.")
        # Before IR version 4, every tensor had to be listed as an input, too, so only later models can have such defaults.
        if self._model.proto.ir_version >= 4 and any(_has_default(node.scope, inputs[role]) for role in "WRBP" if role in inputs):
            self.assumed.append(f"{name} has weights that are inputs of the graph with defaults, which are taken.")
        if "sequence_lens" in inputs and _is_constant(constants, node.scope, inputs["sequence_lens"]):
            self.assumed.append(f"{name} has constant lengths in the file: pass them to apply as lengths.")
        if node.proto.op_type == "DynamicQuantizeLSTM":
            self.assumed.append(
                f"{name} is quantized: its weights are what their 8 bits stand for; the inputs and states, which the original "
                "rounds to 8 bits at every step, are not rounded here."
            )

    def finish(self) -> list[str]:
        """Return the names of arrays that no layer uses. Those with names of recurrent weights are also added to `skipped`.

        Call it after all layers were converted.
        """
        unused = [
            scope.path + name
            for scope in self._model.scopes
            for name in _weight_candidates(scope)
            if (scope, name) not in self._used
        ]
        for name in unused:
            if match := _WEIGHTS.search(name):
                self.skipped.setdefault(name[: match.start()] or name, f"no node takes its weights as a whole, {WRITTEN_OUT}")
        for name in sorted(self._modules[False] - self._modules[True]):
            self.skipped.setdefault(name, WRITTEN_OUT)
        return unused

    def _inputs(self, node: Node) -> dict[str, str]:
        """Return the names of a node's inputs by role, such as W, without those that are left out.

        Raises:
            UnsupportedError: the node has more inputs than its operator.
        """
        places = _PLACES[key(node.proto)[:2]]
        if len(node.proto.input) > len(places):
            raise UnsupportedError(f"it has {len(node.proto.input)} inputs, expected at most {len(places)}: export it again")
        names = zip(places, node.proto.input, strict=False)
        return {place: name for place, name in names if name and node.scope.find(name) is not None}

    def _unique(self, name: str) -> str:
        """Return a name unchanged, or with a number appended if another layer has it."""
        result = name
        while result in self._names:
            self._names[name] += 1
            result = f"{name}_{self._names[name]}"
        self._names[result] = 0
        return result


def _constant(constants: Constants, node: Node, role: str, name: str) -> np.ndarray:
    """Return the value of an input of a node.

    Args:
        constants: computes the value.
        node: the node.
        role: what the input is to the operator, such as "W", for the message.
        name: the name of the value in the graph.

    Raises:
        UnsupportedError: the value is not constant. The message names the input by its role.
        ValueError: the file is damaged.
    """
    try:
        return constants.array(node.scope, name)
    except UnsupportedError as error:
        raise UnsupportedError(f"its {role}: {error}") from error


def _has_default(scope: Scope, name: str) -> bool:
    """Return whether a value is an input of a graph that has a tensor as its default."""
    source = scope.find(name)
    return source is not None and source.tensor is not None and source.name in source.scope.inputs


def _is_constant(constants: Constants, scope: Scope, name: str) -> bool:
    """Return whether the value of a name can be computed without running the model, by operators that are supported."""
    try:
        constants.array(scope, name)
    except UnsupportedError:
        return False
    return True


def _dequantized(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the dequantized weights of a DynamicQuantizeLSTM of ONNX Runtime, as those of an LSTM.

    Its W and R are (directions, inputs, 4·units), and transposed in an LSTM. There is one scale per direction, or one per
    direction and column.

    Raises:
        UnsupportedError: an array is missing, or has another shape or dtype.
    """
    result = {name: array for name, array in arrays.items() if name in ("B", "P")}
    for name in "WR":
        if name not in arrays or f"{name}_scale" not in arrays or arrays[name].ndim != 3:
            raise UnsupportedError(f"its {name} has not three axes or no {name}_scale: quantize the model again")
        if arrays[name].dtype not in (np.int8, np.uint8):
            raise UnsupportedError(f"its {name} is of {arrays[name].dtype}, expected int8 or uint8: quantize the model again")
        quantized, scale = arrays[name], arrays[f"{name}_scale"]
        zero_point = arrays.get(f"{name}_zero_point", np.zeros(scale.shape, quantized.dtype))
        if scale.shape != zero_point.shape or scale.shape not in (quantized.shape[:1], quantized.shape[::2]):
            raise UnsupportedError(f"{name}_scale has shape {scale.shape}, expected one a direction or column: quantize it again")
        to_columns = (len(scale), 1, -1)
        levels = quantized.astype(np.int32) - zero_point.astype(np.int32).reshape(to_columns)
        result[name] = (levels.astype(scale.dtype) * scale.reshape(to_columns)).transpose(0, 2, 1)
    return result


def _looks_recurrent(proto: Any) -> bool:
    """Return whether a node has the name of a recurrent operator."""
    # The exporter of PyTorch writes an ATen node for an operator that ONNX does not have, with its name in an attribute.
    operator = next((attribute.s for attribute in proto.attribute if attribute.name == "operator"), b"")
    return bool(_NAMES.search(proto.op_type) or (proto.op_type == "ATen" and _NAMES.search(operator.decode(errors="replace"))))


def _is_written_out(proto: Any) -> bool:
    """Return whether a node is a loop that looks like the steps of a recurrent layer.

    Its body multiplies by a matrix and has a tanh, but has no recurrent operator.
    """
    if proto.op_type not in ("Loop", "Scan"):
        return False
    inside = {node.op_type for attribute in proto.attribute for node in attribute.g.node}
    return bool(inside & {"MatMul", "Gemm"}) and "Tanh" in inside and not any(map(_NAMES.search, inside))


def _torch_modules(proto: Any) -> set[str]:
    """Return the recurrent modules of PyTorch that a node belongs to, according to the exporter's metadata."""
    notes = [entry.value for entry in proto.metadata_props if entry.key == "namespace"]
    return {match[1] for note in notes for match in _TORCH.finditer(note)}


def _weight_candidates(scope: Scope) -> Iterator[str]:
    """Yield the names of arrays that may be weights: floating or 8-bit arrays with at least one axis."""
    types = scope.model.onnx.TensorProto
    weight_types = (types.FLOAT, types.DOUBLE, types.FLOAT16, types.BFLOAT16, types.INT8, types.UINT8)
    constants = {
        node.output[0]: node.attribute[0].t
        for node in scope.nodes
        if node.op_type == "Constant" and node.output and node.attribute
    }
    for name, tensor in (scope.tensors | constants).items():
        if tensor.data_type in weight_types and tensor.dims:
            yield name
