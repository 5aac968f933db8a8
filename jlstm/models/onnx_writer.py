"""write_onnx: whole models as ONNX models, with ONNX's own nodes for the recurrent layers."""

import os
from typing import Any

import jax
import numpy as np

from jlstm._src import checks
from jlstm.cell import Params
from jlstm.convert import files
from jlstm.convert import onnx as convert
from jlstm.convert.onnx_model import writer
from jlstm.layers import Stack
from jlstm.models import parts
from jlstm.models.language_model import LanguageModel
from jlstm.models.sequence_classifier import SequenceClassifier


def write_onnx(
    path: str | os.PathLike[str], model: LanguageModel | SequenceClassifier, params: Params, *, lengths: bool = True
) -> None:
    """Write an ONNX model that computes the logits of tokens, without dropout, for any batch size and number of steps.

    The inputs are `tokens` (batch, time), int32, and `lengths` (batch,), int32: the number of leading steps that count. Padding
    must be at the end, for `masked` models too. The model of a LanguageModel also has the inputs `h_k` and `c_k`
    (1, batch, units), the initial states of layer k. The outputs are `logits` and, for a LanguageModel, `last_h_k` and
    `last_c_k`. ONNX Runtime runs the layers by its own kernels.

    Args:
        path: The file.
        model: A `SequenceClassifier` or a `LanguageModel`.
        params: Parameters of the model.
        lengths: Whether the ONNX model has the input `lengths`. Without it, all steps count.

    Raises:
        ImportError: onnx is not installed.
        OSError: The file cannot be written.
        TypeError: `model` is not such a model, or `lengths` is not True or False.
        ValueError: `params` are not those of the model or differ in dtype, or a layer has an option that ONNX does not have.
    """
    if not isinstance(model, LanguageModel | SequenceClassifier):
        raise TypeError(f"model must be a LanguageModel or a SequenceClassifier, got {checks.brief(model)}")
    checks.flag("lengths", lengths)
    checks.tree("params", params, parts.param_shapes(model), "pass model.init(key, tokens)['params']")
    arrays = jax.tree.map(np.asarray, params)
    if len(dtypes := {leaf.dtype for leaf in jax.tree.leaves(arrays)}) > 1:
        raise ValueError(f"params must have one dtype, since ONNX does not mix them, got {len(dtypes)} dtypes: cast them")
    onnx = files.import_package("onnx", checks.path("path", path))
    proto, nodes = _recurrent(onnx, model, arrays, lengths=lengths), _Nodes(onnx)
    embed = onnx.helper.make_node("Gather", [nodes.constant(arrays["embed"]["embedding"]), "tokens"], ["xs"], "embed")
    if isinstance(model, LanguageModel):
        logits = _language_logits(nodes, arrays)
        axes: list[str | int] = ["batch", "time", model.vocabulary]
        states = [*proto.graph.output[1:]]
    else:
        pooled = _pooled(nodes, model.pool, proto.graph.output, dtypes.pop(), lengths=lengths)
        logits = _class_logits(nodes, arrays["head"], pooled)
        axes = ["batch", model.classes] if model.classes > 1 else ["batch"]
        states = []  # a classifier begins and ends with each sequence
    nodes.steps.append(onnx.helper.make_node("Identity", [logits], ["logits"]))
    info = onnx.helper.make_tensor_value_info
    inputs = [info("tokens", onnx.TensorProto.INT32, ["batch", "time"]), *proto.graph.input[1:]]
    outputs = [info("logits", proto.graph.input[0].type.tensor_type.elem_type, axes), *states]
    all_steps, constants = [embed, *proto.graph.node, *nodes.steps], [*proto.graph.initializer, *nodes.constants]
    proto.graph.CopyFrom(onnx.helper.make_graph(all_steps, "jlstm", inputs, outputs, constants))
    writer.write(path, onnx, proto)


def _recurrent(onnx: Any, model: LanguageModel | SequenceClassifier, arrays: Params, *, lengths: bool) -> Any:
    """Return the ONNX model of the recurrent layers alone. That of a language model has inputs for the initial states."""
    has_states = isinstance(model, LanguageModel)
    # Dropped weights, like other dropout, are a matter of training. `clone` is linen's way to change a field.
    layers = model.clone(weight_drop=0.0).rnns if isinstance(model, LanguageModel) else model.layer
    layer = Stack(layers if isinstance(layers, tuple) else (layers,))
    dumped = convert.dump(layer, tuple(arrays[f"layer_{k}"] for k in layer.children))
    return writer.model(
        onnx, dumped if isinstance(dumped, list) else [dumped], time_major=False, lengths=lengths, states=has_states
    )


class _Nodes:
    """The nodes after the recurrent layers, with their constants. Names of values follow the order of the nodes."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.steps: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: np.ndarray) -> str:
        """Add a constant and return its name."""
        self.constants.append(self._onnx.numpy_helper.from_array(array, f"constant_{len(self.constants)}"))
        return str(self.constants[-1].name)

    def add(self, operator: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Add a node with one output and return the name of that. Inputs are names, or arrays, which become constants."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = f"value_{len(self.steps)}"
        self.steps.append(self._onnx.helper.make_node(operator, names, [output], **attributes))
        return output

    def cast(self, name: str, dtype: Any) -> str:
        """Convert a value to a dtype, and return the name of the result."""
        return self.add("Cast", name, to=self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _language_logits(nodes: _Nodes, arrays: Params) -> str:
    """Return the name of the logits at all steps: y W + b, where W is the transposed embedding if there is no other."""
    kernel = arrays["head"]["kernel"] if "head" in arrays else arrays["embed"]["embedding"].T.copy()
    return nodes.add("Add", nodes.add("MatMul", "ys", kernel), arrays["head"]["bias"] if "head" in arrays else arrays["bias"])


def _class_logits(nodes: _Nodes, head: Params, pooled: str) -> str:
    """Return the name of the logits of the classes, without an axis for a single class."""
    logits = nodes.add("Add", nodes.add("MatMul", pooled, head["kernel"]), head["bias"])
    return nodes.add("Squeeze", logits, np.array([1])) if len(head["bias"]) == 1 else logits


def _pooled(nodes: _Nodes, pool: str, outputs: Any, dtype: np.dtype, *, lengths: bool) -> str:
    """Return the name of the pooled outputs (batch, width), as `jlstm.models.pooling` computes them.

    Args:
        nodes: where nodes are added.
        pool: "last", "mean" or "max".
        outputs: the outputs of the recurrent layers: `ys`, and the last states of each layer (directions, batch, units).
        dtype: the dtype of the outputs.
        lengths: whether there is an input `lengths`.
    """
    if pool == "last":
        last = [value.name for value in outputs if value.name.startswith("last_h")][-1]
        width = outputs[0].type.tensor_type.shape.dim[2].dim_value
        return nodes.add("Reshape", nodes.add("Transpose", last, perm=(1, 0, 2)), np.array([0, width]))  # 0 keeps the batch
    if not lengths:
        return nodes.add("ReduceMean" if pool == "mean" else "ReduceMax", "ys", axes=[1], keepdims=0)
    column = nodes.cast(nodes.add("Unsqueeze", "lengths", np.array([1])), np.int64)  # (batch, 1)
    if pool == "mean":
        total = nodes.add("ReduceSum", "ys", np.array([1]), keepdims=0)  # outputs are zero at steps that do not count
        return nodes.add("Div", total, nodes.cast(nodes.add("Max", column, np.array([1])), dtype))
    time = nodes.add("Gather", nodes.add("Shape", "tokens"), np.array(1))
    counts = nodes.add("Less", nodes.add("Range", np.array(0), time, np.array(1)), column)
    shown = nodes.add("Where", nodes.add("Unsqueeze", counts, np.array([2])), "ys", np.array(-np.inf, dtype))
    maxima = nodes.add("ReduceMax", shown, axes=[1], keepdims=0)
    return nodes.add("Where", nodes.cast(column, bool), maxima, np.array(0, dtype))
