"""ONNX: W (directions, 4·units, features), R (directions, 4·units, units), B (directions, 8·units), P (directions, 3·units).

Gates i | o | f | c and z | r | h, a plain RNN one; B has the biases of W, then those of R; P has i | o | f.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jlstm.cell import Params
from jlstm.cells import ElmanCell, GRUCell, LSTMCell
from jlstm.convert import arrays, files, layout
from jlstm.convert.layout import Part
from jlstm.convert.onnx_model import writer
from jlstm.convert.onnx_model.attributes import DIRECTIONS, attributes, options
from jlstm.convert.onnx_model.graph import Model
from jlstm.convert.onnx_model.layers import Layers
from jlstm.convert.onnx_model.reasons import UnsupportedError, quoted
from jlstm.convert.result import FileLayers
from jlstm.layers import Layer

GATES = {"LSTM": "iofg", "GRU": "zrg", "RNN": "h"}
_ARRAYS = ("W", "R", "B", "P")

Node = Mapping[str, Any]


def load(weights: Node | Sequence[Node]) -> tuple[Layer, Params]:
    """Return the layer and parameters of an LSTM, GRU or RNN node; of several, a Stack.

    The biases of W and of R are added into one, but for those of a GRU's candidate with `linear_before_reset`. With
    `input_forget`, the weights of the forget gate, which then do nothing, are left out.

    Args:
        weights: the node's `W`, `R`, `B` and `P`, and its attributes (`direction`, `activations`, `clip`, …), by ONNX's names.
            `layout` is not in the weights.

    Raises:
        ValueError: a weight is missing, not part of such a node, or of another shape or dtype; an attribute that is not ours.

    Differs from: ONNX is time-major; this layer is not, unless you replace that option. With a length of 0, ONNX Runtime returns
        zeros as last states, and we the initial ones.

    Examples:
        >>> import numpy as np
        >>> layer, params = load({"W": np.zeros((1, 16, 3)), "R": np.zeros((1, 16, 4)), "direction": "reverse"})
        >>> layer
        RNN(cell=LSTMCell(units=4, use_bias=False), reverse=True, param_dtype='float64')
    """
    nodes = arrays.several("weights", weights, "a node's, with W and R")
    return layout.stack([layout.assemble([_sides(node)]) for node in nodes])


def _sides(node: Node) -> list[Part]:
    given = arrays.floating("weights", {name: value for name, value in node.items() if name in _ARRAYS})
    count, rows, units = arrays.matrix("weights", given, "R", "(directions, gates·units, units)", 3).shape
    features = arrays.matrix("weights", given, "W", "(directions, gates·units, features)", 3).shape[2]
    name = arrays.gates("weights['R']", rows, units, {4: "LSTM", 3: "GRU", 1: "RNN"})
    found = options(name, {key: value for key, value in node.items() if key not in _ARRAYS}, units)
    expected = DIRECTIONS[node.get("direction", "forward")]  # which `options` has checked
    if count != expected:
        raise ValueError(f"weights['R'] has {count} directions, expected {expected}: give direction, or other weights")
    shapes: dict[str, tuple[int, ...]] = {"W": (count, rows, features), "R": (count, rows, units)}
    shapes |= {"B": (count, 2 * rows)} if "B" in given else {}
    shapes |= {"P": (count, 3 * units)} if "P" in given and name == "LSTM" else {}
    arrays.fit("weights", given, shapes)
    sides = []
    for d in range(count):
        own = {key: value[d] for key, value in given.items()}
        turned = found | {"reverse": found["reverse"] != (d > 0)}
        sides.append(_part(name, units, own, turned))
    return sides


def _part(name: str, units: int, given: dict[str, np.ndarray], found: dict[str, Any]) -> Part:
    gates = layout.gates(name, found.get("coupled"))

    def ours(rows: np.ndarray) -> np.ndarray:
        return layout.order(rows, GATES[name], gates, 0)

    params = {"kernel": ours(given["W"]).T, "recurrent_kernel": ours(given["R"]).T}
    if "B" in given:
        first, second = map(ours, np.split(given["B"], 2))
        params["bias"] = layout.merge(first, second)
        if found.get("reset_after"):
            params["bias"][2 * units :], params["recurrent_bias"] = first[2 * units :], second[2 * units :]
    if "P" in given:
        rows = gates.replace("g", "")
        params["peephole_kernel"] = layout.order(given["P"], "iof", rows).reshape(len(rows), units)
    return layout.rnn(name, units, params, peephole=True, **found) if "P" in given else layout.rnn(name, units, params, **found)


def dump(layer: Layer, params: Params) -> dict[str, Any] | list[dict[str, Any]]:
    """Return an LSTM, GRU or RNN node as a dict of its weights and attributes; of a Stack, a list.

    `load` takes it back, bit by bit.

    Numbers among the attributes are float32 in ONNX, and so is a `gate_clip`.

    The biases of R are zero, but for a GRU's candidate. Weights of a forget gate that is coupled away are zero.

    Raises:
        ValueError: an option that ONNX does not have, or parameters that are not the layer's.
    """
    layers = layout.parts(layer, params)
    layout.concatenated("ONNX", layer)
    nodes = [_node(sides) for sides in layers]
    return nodes if len(nodes) > 1 else nodes[0]


def _node(sides: Sequence[Part]) -> dict[str, Any]:
    layer = sides[0].layer
    cell: Any = layer.cell
    layout.refuse("ONNX", cell, but=_ARE_ATTRIBUTES, kinds=(LSTMCell, GRUCell, ElmanCell))
    if getattr(cell, "coupled", None) == "i=1-f":
        raise ValueError("ONNX has no coupled='i=1-f', only 'f=1-i': leave the option out")
    if len(sides) > 1 and layer.reverse:
        raise ValueError("ONNX has no reverse=True in a bidirectional node: convert layer.flipped() and swap the directions")
    name = layout.kind(cell)
    weights = [_theirs(name, cell, part.params) for part in sides]
    stacked = {key: np.stack([each[key] for each in weights]) for key in weights[0]}
    return stacked | attributes(name, cell, "bidirectional" if len(sides) > 1 else "reverse" if layer.reverse else "forward")


_ARE_ATTRIBUTES = (
    *("activation", "recurrent_activation", "output_activation", "gate_clip", "coupled", "peephole"),
    "reset_after",
)


def _theirs(name: str, cell: Any, params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    gates = layout.gates(name, getattr(cell, "coupled", None))

    def theirs(rows: np.ndarray) -> np.ndarray:
        return layout.order(rows, gates, GATES[name], 0)

    weights = {"W": theirs(params["kernel"].T), "R": theirs(params["recurrent_kernel"].T)}
    if "bias" in params:
        first, second = params["bias"], np.zeros_like(params["bias"])
        if "recurrent_bias" in params:
            second[2 * cell.units :] = params["recurrent_bias"]
        weights["B"] = np.concatenate([theirs(first), theirs(second)])
    if "peephole_kernel" in params:
        weights["P"] = layout.order(params["peephole_kernel"].reshape(-1), gates.replace("g", ""), "iof")
    return weights


def read(path: str | os.PathLike[str]) -> FileLayers:
    """Return all LSTM, GRU and RNN nodes of a model by their names, or those of their first outputs.

    Those in branches of If, in bodies of Loop and Scan and in functions of the model are among them; their names begin with
    those of the nodes around them, as in "If_0/then_branch/lstm". Of two layers of one name the second gets a number.
    Weights may be in files beside the model, and behind operators on constants. A DynamicQuantizeLSTM, of ONNX Runtime, is the
    LSTM of the weights that its 8-bit numbers stand for. Initial states and lengths are arguments of `apply`.

    Returns:
        Layers and parameters. `unused` names floating and 8-bit arrays that are in no layer. Layers in branches, of which the
        network runs one or the other, are not in its order.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: onnx is not installed.
        ValueError: it is no such file, is damaged, or holds no layer that can be converted.
    """
    path = files.existing(path)
    remedy = "read the file of a model that has one, or pass the weights of what it has instead to load"
    return _read(Model(path)).checked(path, "LSTM, GRU or RNN node", remedy)


def _read(model: Model) -> FileLayers:
    nodes, converted, at = Layers(model), dict[str, tuple[Layer, Params]](), dict[Any, tuple[Layer, Params]]()
    for node in nodes:
        try:
            place = nodes.place(node)
            if place not in at:  # a layer that is called many times is there once
                at[place] = _loaded(model, node.name, nodes.weights(node))
            nodes.remark(node)
            converted[node.name] = at[place]
        except UnsupportedError as error:
            nodes.skipped[node.name] = str(error)
    unused = nodes.finish()
    layers = converted if nodes.in_order else dict(sorted(converted.items()))
    return FileLayers(layers, in_network_order=nodes.in_order, skipped=nodes.skipped, assumed=nodes.assumed, unused=unused)


def _loaded(model: Model, name: str, weights: Node) -> tuple[Layer, Params]:
    model.keep(sum(value.nbytes for value in weights.values() if isinstance(value, np.ndarray)))
    try:
        return load(weights)
    except UnsupportedError:
        raise
    except ValueError as error:
        raise ValueError(f"{model.path}: {quoted(name)}: {error}") from error


def write(path: str | os.PathLike[str], layer: Layer, params: Params) -> None:
    """Write a model that computes what `layer.apply` does, for any batch and time.

    Inputs: `xs`, as the layer takes them; `lengths` (batch,), int32; for each layer k `h_k`, and for an LSTM `c_k`, where to
    start, (directions, batch, units). Outputs: `ys`, and `last_h_k`, `last_c_k`.

    Raises:
        ImportError: onnx is not installed.
        OSError: the file cannot be written.
        ValueError: as `dump`; or a dtype that ONNX's nodes do not have.

    Differs from: with a length of 0, ONNX Runtime returns zeros as last states, and we the initial ones.
    """
    nodes = dump(layer, params)
    writer.write(path, nodes if isinstance(nodes, list) else [nodes], time_major=layer.time_major)
