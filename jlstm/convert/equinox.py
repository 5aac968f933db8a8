"""Equinox: weight_ih (4·units, features), weight_hh (4·units, units), bias (4·units,); i | f | g | o, as ours.

The GRU has r | z | n and, beside bias, bias_n (units,), our `recurrent_bias`.
"""

from typing import Any

import jax
import numpy as np

from jlstm.cell import Params
from jlstm.convert import arrays, layout
from jlstm.layers import Layer

GATES = {"LSTM": "ifgo", "GRU": "rzg"}


def load(weights: Any) -> tuple[Layer, Params]:
    """Return the layer and parameters of an `LSTMCell` or a `GRUCell`; nothing is merged.

    Args:
        weights: the cell, or a dict of its arrays.

    Raises:
        ValueError: a weight is missing, not part of such a cell, or of another shape or dtype; or the cell is of a class that is
            not Equinox's.

    Examples:
        >>> import numpy as np
        >>> layer, params = load({"weight_ih": np.zeros((16, 3)), "weight_hh": np.zeros((16, 4)), "bias": np.zeros(16)})
        >>> layer
        RNN(cell=LSTMCell(units=4), param_dtype='float64')
    """
    if hasattr(weights, "weight_ih"):
        weights = _arrays(weights)
    given = arrays.floating("weights", weights)
    rows, units = arrays.matrix("weights", given, "weight_hh", "(gates·units, units)").shape
    features = arrays.matrix("weights", given, "weight_ih", "(gates·units, features)").shape[1]
    name = arrays.gates("weights['weight_hh']", rows, units, {4: "LSTM", 3: "GRU"})
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, features), "weight_hh": (rows, units)}
    if "bias" in given:
        shapes |= {"bias": (rows,)} | ({"bias_n": (units,)} if name == "GRU" else {})
    arrays.fit("weights", given, shapes)
    ours = {
        key: value if key == "bias_n" else layout.order(value, GATES[name], layout.OURS[name], 0) for key, value in given.items()
    }
    params = {"kernel": ours["weight_ih"].T, "recurrent_kernel": ours["weight_hh"].T}
    renamed = {"bias": "bias", "bias_n": "recurrent_bias"}
    params |= {renamed[key]: ours[key] for key in renamed if key in ours}
    return layout.rnn(name, units, params)


def _arrays(cell: Any) -> dict[str, Any]:
    """All arrays of a cell and of what it contains, by name.

    Raises:
        ValueError: it is of another class than Equinox's own, whose code this library cannot know.
    """
    if not type(cell).__module__.startswith("equinox."):
        name = type(cell).__name__
        raise ValueError(
            f"weights must be a cell of Equinox's own, got {name}: pass a dict of its arrays if {name} computes the same"
        )
    return {jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(cell)}


def dump(layer: Layer, params: Params) -> dict[str, np.ndarray]:
    """Return the arrays of the cell that is this layer; `load` takes them back to the same bits.

    Raises:
        ValueError: an option that Equinox does not have, several layers, or parameters that are not the layer's.
    """
    part = layout.only("Equinox", layer, params)
    layout.refuse("Equinox", part.layer.cell)
    name = layout.kind(part.layer.cell)

    def theirs(array: np.ndarray) -> np.ndarray:
        return layout.order(array, layout.OURS[name], GATES[name], 0)

    weights = {"weight_ih": theirs(part.params["kernel"].T), "weight_hh": theirs(part.params["recurrent_kernel"].T)}
    weights |= {"bias": theirs(part.params["bias"])} if "bias" in part.params else {}
    return weights | ({"bias_n": part.params["recurrent_bias"]} if "recurrent_bias" in part.params else {})
