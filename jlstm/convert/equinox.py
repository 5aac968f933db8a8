"""Conversion of Equinox's `LSTMCell` and `GRUCell`.

The LSTM has weight_ih (4·units, features), weight_hh (4·units, units) and bias (4·units,), with the gates i | f | g | o as in
jlstm. The GRU has the gates r | z | n, and besides the bias it has bias_n (units,), which is `recurrent_bias` in jlstm.
"""

from typing import Any

import jax
import numpy as np

from jlstm.cell import Params
from jlstm.convert import arrays, layout
from jlstm.layers import Layer

GATES = {"LSTM": "ifgo", "GRU": "rzg"}


def load(weights: Any) -> tuple[Layer, Params]:
    """Return the layer and parameters of an Equinox `LSTMCell` or `GRUCell`.

    Args:
        weights: the cell, or a dict of its arrays by name.

    Returns:
        An RNN of an `LSTMCell` or a `GRUCell`, and its parameters as NumPy arrays. No biases are merged.

    Raises:
        ValueError: a weight is missing, unexpected, or of another shape or dtype; or the cell's class is not one of Equinox's.

    Examples:
        >>> import numpy as np
        >>> layer, params = load({"weight_ih": np.zeros((16, 3)), "weight_hh": np.zeros((16, 4)), "bias": np.zeros(16)})
        >>> layer
        RNN(cell=LSTMCell(units=4), param_dtype='float64')
    """
    if hasattr(weights, "weight_ih"):
        weights = _arrays(weights)
    arrays_by_name = arrays.floating("weights", weights)
    rows, units = arrays.matrix("weights", arrays_by_name, "weight_hh", "(gates·units, units)").shape
    features = arrays.matrix("weights", arrays_by_name, "weight_ih", "(gates·units, features)").shape[1]
    kind = arrays.kind_of("weights['weight_hh']", rows, units, {4: "LSTM", 3: "GRU"})
    # bias_n is inside the product with r, so it is not part of the bias of all gates. `use_bias=False` leaves out both.
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, features), "weight_hh": (rows, units)}
    if "bias" in arrays_by_name:
        shapes |= {"bias": (rows,)} | ({"bias_n": (units,)} if kind == "GRU" else {})
    arrays.fit("weights", arrays_by_name, shapes)
    ordered = {
        key: value if key == "bias_n" else layout.order(value, GATES[kind], layout.OURS[kind], 0)
        for key, value in arrays_by_name.items()
    }
    params = {"kernel": ordered["weight_ih"].T, "recurrent_kernel": ordered["weight_hh"].T}
    renamed = {"bias": "bias", "bias_n": "recurrent_bias"}
    params |= {renamed[key]: ordered[key] for key in renamed if key in ordered}
    return layout.rnn(kind, units, params)


def _arrays(cell: Any) -> dict[str, Any]:
    """Return all arrays of a cell and of its submodules, by name.

    Raises:
        ValueError: the cell's class is not one of Equinox's. Another class may compute something else.
    """
    if not type(cell).__module__.startswith("equinox."):
        name = type(cell).__name__
        raise ValueError(
            f"weights must be a cell of Equinox's own, got {name}: pass a dict of its arrays if {name} computes the same"
        )
    return {jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(cell)}


def dump(layer: Layer, params: Params) -> dict[str, np.ndarray]:
    """Return the arrays of the Equinox cell that is equal to this layer; `load` restores the same bits.

    Args:
        layer: a layer of one cell.
        params: the layer's parameters.

    Returns:
        The arrays by name.

    Raises:
        ValueError: the layer has an option that Equinox does not have, it consists of several layers or directions, or `params`
            do not fit it.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4)
        >>> weights = dump(layer, layer.init(jax.random.key(0), features=3))
        >>> {name: array.shape for name, array in weights.items()}
        {'weight_ih': (16, 3), 'weight_hh': (16, 4), 'bias': (16,)}
    """
    part = layout.only("Equinox", layer, params)
    layout.refuse("Equinox", part.layer.cell)
    kind = layout.kind_of(part.layer.cell)

    def reorder(array: np.ndarray) -> np.ndarray:
        return layout.order(array, layout.OURS[kind], GATES[kind], 0)

    weights = {"weight_ih": reorder(part.params["kernel"].T), "weight_hh": reorder(part.params["recurrent_kernel"].T)}
    weights |= {"bias": reorder(part.params["bias"])} if "bias" in part.params else {}
    return weights | ({"bias_n": part.params["recurrent_bias"]} if "recurrent_bias" in part.params else {})
