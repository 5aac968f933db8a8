"""Conversion of ONNX's LSTM, GRU and RNN nodes.

An LSTM has W (directions, 4·units, features), R (directions, 4·units, units), B (directions, 8·units) and the peepholes P
(directions, 3·units). Its gates are i | o | f | c; those of a GRU are z | r | h, and a plain RNN has one block. B has the
biases of W before those of R, and P has i | o | f.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jlstm._src import checks
from jlstm.cell import Params
from jlstm.cells import ElmanCell, GRUCell, LSTMCell
from jlstm.convert import arrays, files, layout
from jlstm.convert.layout import Part
from jlstm.convert.onnx_model import writer
from jlstm.convert.onnx_model.attributes import DIRECTIONS, attributes, options
from jlstm.convert.onnx_model.graph import Model as ModelFile
from jlstm.convert.onnx_model.layers import Layers
from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted
from jlstm.convert.onnx_run.model import Model, build
from jlstm.convert.result import FileLayers
from jlstm.layers import Layer

GATES = {"LSTM": "iofg", "GRU": "zrg", "RNN": "h"}
_ARRAYS = ("W", "R", "B", "P")

Node = Mapping[str, Any]


def load(weights: Node | Sequence[Node]) -> tuple[Layer, Params]:
    """Return the layer and parameters of an LSTM, GRU or RNN node.

    The biases of W and R are added into one bias, except for those of the candidate of a GRU with `linear_before_reset`. With
    `input_forget`, the weights of the forget gate have no effect and are left out.

    Args:
        weights: the node's `W`, `R`, `B` and `P` and its attributes (`direction`, `activations`, `clip`, …), by ONNX's names;
            or a list of such nodes, the lowest first. `layout` is not part of the weights.

    Returns:
        An RNN, a Bidirectional or, for several nodes, a Stack, and its parameters as NumPy arrays.

    Raises:
        ValueError: a weight is missing, unexpected, or of another shape or dtype; or jlstm does not have an attribute.

    Differs from: ONNX is time-major; the returned layer is not, unless you replace that option. For a length of 0, ONNX Runtime
        returns zeros as the last states, and jlstm returns the initial states.

    Examples:
        >>> import numpy as np
        >>> layer, params = load({"W": np.zeros((1, 16, 3)), "R": np.zeros((1, 16, 4)), "direction": "reverse"})
        >>> layer
        RNN(cell=LSTMCell(units=4, use_bias=False), reverse=True, param_dtype='float64')
    """
    nodes = arrays.weight_dicts("weights", weights, "a node's, with W and R")
    return layout.stack([layout.assemble([_sides(node)]) for node in nodes])


def _sides(node: Node) -> list[Part]:
    """Return the one or two directions of a node. ONNX stacks them along the first axis of each array."""
    arrays_by_name = arrays.floating("weights", {name: value for name, value in node.items() if name in _ARRAYS})
    count, rows, units = arrays.matrix("weights", arrays_by_name, "R", "(directions, gates·units, units)", 3).shape
    features = arrays.matrix("weights", arrays_by_name, "W", "(directions, gates·units, features)", 3).shape[2]
    kind = arrays.kind_of("weights['R']", rows, units, {4: "LSTM", 3: "GRU", 1: "RNN"})
    layer_options = options(kind, {key: value for key, value in node.items() if key not in _ARRAYS}, units)
    expected = DIRECTIONS[node.get("direction", "forward")]  # which `options` has checked
    if count != expected:
        raise ValueError(f"weights['R'] has {count} directions, expected {expected}: give direction, or other weights")
    shapes: dict[str, tuple[int, ...]] = {"W": (count, rows, features), "R": (count, rows, units)}
    shapes |= {"B": (count, 2 * rows)} if "B" in arrays_by_name else {}
    shapes |= {"P": (count, 3 * units)} if "P" in arrays_by_name and kind == "LSTM" else {}
    arrays.fit("weights", arrays_by_name, shapes)
    sides = []
    for d in range(count):
        side_arrays = {key: value[d] for key, value in arrays_by_name.items()}
        # The second direction of a bidirectional node is the reverse of the first.
        side_options = layer_options | {"reverse": layer_options["reverse"] != (d > 0)}
        sides.append(_part(kind, units, side_arrays, side_options))
    return sides


def _part(kind: str, units: int, node_arrays: dict[str, np.ndarray], layer_options: dict[str, Any]) -> Part:
    """Return one direction of a node, from its arrays without the axis of directions."""
    gates = layout.gates(kind, layer_options.get("coupled"))

    def reorder(rows: np.ndarray) -> np.ndarray:
        return layout.order(rows, GATES[kind], gates, 0)

    params = {"kernel": reorder(node_arrays["W"]).T, "recurrent_kernel": reorder(node_arrays["R"]).T}
    if "B" in node_arrays:
        first, second = map(reorder, np.split(node_arrays["B"], 2))
        params["bias"] = layout.add_biases(first, second)
        # With linear_before_reset, r multiplies R h plus the bias of R, so the two biases of the candidate stay separate.
        if layer_options.get("reset_after"):
            params["bias"][2 * units :], params["recurrent_bias"] = first[2 * units :], second[2 * units :]
    if "P" in node_arrays:
        rows = gates.replace("g", "")  # the candidate has no peephole
        params["peephole_kernel"] = layout.order(node_arrays["P"], "iof", rows).reshape(len(rows), units)
        layer_options = layer_options | {"peephole": True}
    return layout.rnn(kind, units, params, **layer_options)


def dump(layer: Layer, params: Params) -> dict[str, Any] | list[dict[str, Any]]:
    """Return an LSTM, GRU or RNN node as a dict of its weights and attributes; for a Stack, a list of nodes.

    `load` restores the same bits. Float attributes are float32 in ONNX, so `gate_clip` is rounded to float32.
    The biases of R are zero, except for the candidate of a GRU. With `coupled`, the weights of the forget gate are zero.

    Args:
        layer: an RNN, a Bidirectional of one, or a Stack of these.
        params: the layer's parameters.

    Returns:
        The weights and attributes by ONNX's names, or a list of such dicts, the lowest layer first.

    Raises:
        ValueError: the layer has an option that ONNX does not have, or `params` do not fit it.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4)
        >>> weights = dump(layer, layer.init(jax.random.key(0), features=3))
        >>> weights["W"].shape, weights["R"].shape, weights["hidden_size"]
        ((1, 16, 3), (1, 16, 4), 4)
    """
    layers = layout.parts(layer, params)
    layout.concatenated("ONNX", layer)
    nodes = [_node(sides) for sides in layers]
    return nodes if len(nodes) > 1 else nodes[0]


def _node(sides: Sequence[Part]) -> dict[str, Any]:
    """Return the node of a layer with one or two directions."""
    layer = sides[0].layer
    cell: Any = layer.cell
    layout.refuse("ONNX", cell, but=_CONVERTED_OPTIONS, kinds=(LSTMCell, GRUCell, ElmanCell))
    if getattr(cell, "coupled", None) == "i=1-f":
        raise ValueError("ONNX has no coupled='i=1-f', only 'f=1-i': leave the option out")
    if len(sides) > 1 and layer.reverse:
        raise ValueError("ONNX has no reverse=True in a bidirectional node: convert layer.flipped() and swap the directions")
    kind = layout.kind_of(cell)
    weights = [_dump_direction(kind, cell, part.params) for part in sides]
    stacked = {key: np.stack([side_weights[key] for side_weights in weights]) for key in weights[0]}
    return stacked | attributes(kind, cell, "bidirectional" if len(sides) > 1 else "reverse" if layer.reverse else "forward")


_CONVERTED_OPTIONS = (
    *("activation", "recurrent_activation", "output_activation", "gate_clip", "coupled", "peephole"),
    "reset_after",
)


def _dump_direction(kind: str, cell: Any, params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of one direction, by ONNX's names."""
    # A coupled cell has no weights for the forget gate. `layout.order` fills in zeros, and the node ignores them.
    gates = layout.gates(kind, getattr(cell, "coupled", None))

    def reorder(rows: np.ndarray) -> np.ndarray:
        return layout.order(rows, gates, GATES[kind], 0)

    weights = {"W": reorder(params["kernel"].T), "R": reorder(params["recurrent_kernel"].T)}
    if "bias" in params:
        first, second = params["bias"], np.zeros_like(params["bias"])
        if "recurrent_bias" in params:
            second[2 * cell.units :] = params["recurrent_bias"]
        weights["B"] = np.concatenate([reorder(first), reorder(second)])
    if "peephole_kernel" in params:
        weights["P"] = layout.order(params["peephole_kernel"].reshape(-1), gates.replace("g", ""), "iof")
    return weights


def read(path: str | os.PathLike[str]) -> FileLayers:
    """Return all LSTM, GRU and RNN nodes of a model, by name. A node without a name has that of its first output.

    This includes nodes in branches of If, in bodies of Loop and Scan, and in functions of the model. Their names begin with the
    names of the nodes around them, as in "If_0/then_branch/lstm". If two layers have the same name, the second gets a number.
    Weights may be in external files beside the model, or computed from constants. A DynamicQuantizeLSTM of ONNX Runtime becomes
    an LSTM with dequantized weights. Initial states and lengths are arguments of `apply`.

    Args:
        path: the file.

    Returns:
        Layers and parameters by name. `unused` names floating and 8-bit arrays that no layer uses. `in_network_order` is False
        if a layer is in a branch, because the network runs only one of the branches.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: onnx is not installed.
        ValueError: the file is not an ONNX model, is damaged, or has no layer that can be converted.
    """
    path = files.existing_file(path)
    remedy = "read the file of a model that has one, or pass the weights of what it has instead to load"
    return _read(ModelFile(path)).warn_about_skipped(path, "LSTM, GRU or RNN node", remedy)


def _read(model: ModelFile) -> FileLayers:
    """Convert the recurrent nodes of a model. Those that cannot be converted are skipped."""
    nodes, converted, loaded_by_place = Layers(model), dict[str, tuple[Layer, Params]](), dict[Any, tuple[Layer, Params]]()
    for node in nodes:
        try:
            place = nodes.place(node)
            if place not in loaded_by_place:  # a layer that is called several times is converted once
                loaded_by_place[place] = _load_node(model, node.name, nodes.weights(node))
            nodes.record_inputs(node)
            converted[node.name] = loaded_by_place[place]
        except UnsupportedError as error:
            nodes.skipped[node.name] = str(error)
    unused = nodes.finish()
    layers = converted if nodes.in_order else dict(sorted(converted.items()))
    return FileLayers(layers, in_network_order=nodes.in_order, skipped=nodes.skipped, assumed=nodes.assumed, unused=unused)


def _load_node(model: ModelFile, name: str, weights: Node) -> tuple[Layer, Params]:
    """Convert a node of a file. Errors other than an UnsupportedError name the file and the node."""
    model.count_weights(sum(value.nbytes for value in weights.values() if isinstance(value, np.ndarray)))
    try:
        return load(weights)
    except UnsupportedError:
        raise
    except ValueError as error:
        raise ValueError(f"{model.path}: {quoted(name)}: {error}") from error


def model(path: str | os.PathLike[str]) -> Model:
    """Return a whole model as a pure function with parameters: LSTM, GRU and RNN nodes, and ordinary operators around them.

    `model.apply(model.params, inputs)` computes the outputs, and can be differentiated. Floating-point arrays of the file are
    parameters. Single numbers, whole numbers and Constant nodes are constants. Nodes that share the weights of a recurrent layer
    share its parameters; a weight that an ordinary node takes too is there twice.

    Args:
        path: the file. Weights may be in external files beside it.

    Returns:
        The model, with `params`, `apply`, and the names, dtypes and shapes of inputs and outputs.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: onnx is not installed.
        ValueError: the file is not an ONNX model, is damaged, or has an operator or attribute that jlstm does not have. The
            message names the first of them and their nodes.

    Differs from: for a length of 0, ONNX Runtime returns zeros as the last states, and jlstm returns the initial states.
    """
    return build(ModelFile(files.existing_file(path)), _load_node)


def write(path: str | os.PathLike[str], layer: Layer, params: Params, *, lengths: bool = True, states: bool = True) -> None:
    """Write an ONNX model that computes the same as `layer.apply`, for any batch size and number of steps.

    The inputs are `xs`, in the layout of the layer, `lengths` (batch,), int32, and for each layer k the initial states `h_k`
    and, for an LSTM, `c_k` (directions, batch, units). The outputs are `ys`, `last_h_k` and `last_c_k`.

    Args:
        path: the file.
        layer, params: as for `dump`.
        lengths: whether the model has the input `lengths`. Without it, all steps count.
        states: whether the model has inputs for the initial states. Without them, they are zero.

    Raises:
        ImportError: onnx is not installed.
        OSError: the file cannot be written.
        TypeError: `lengths` or `states` is not True or False.
        ValueError: as for `dump`; or ONNX's nodes do not have the dtype.

    Differs from: for a length of 0, ONNX Runtime returns zeros as the last states, and jlstm returns the initial states.
    """
    checks.path("path", path)
    checks.flag("lengths", lengths)
    checks.flag("states", states)
    nodes = dump(layer, params)
    nodes = nodes if isinstance(nodes, list) else [nodes]
    onnx = files.import_package("onnx", Path(path))
    writer.write(path, onnx, writer.model(onnx, nodes, time_major=layer.time_major, lengths=lengths, states=states))
