"""Conversion of Haiku's `LSTM` and `GRU`.

The LSTM has w (features + units, 4·units), with the rows of x before those of h, and b (4·units,). Its gates are i | g | f | o.
It adds 1 to the sum of the forget gate.
The GRU has w_i (features, 3·units), w_h (units, 3·units) and b (3·units,). Its gates are z | r | a, and its update is
h' = (1 - z) h + z a. In jlstm, z and 1 - z are exchanged. Since 1 - σ(x) = σ(-x), the conversion negates the weights of z.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jlstm.cell import Params
from jlstm.convert import arrays, layout
from jlstm.convert.layout import Part
from jlstm.layers import Layer

_GATES = "igfo"
Module = Mapping[str, Any]


def load(weights: Module | Sequence[Module]) -> tuple[Layer, Params]:
    """Return the layer and parameters of a Haiku `LSTM` or `GRU`.

    Haiku adds 1 to the sum of the forget gate at every step. This function adds it to the bias instead.

    Args:
        weights: the contents of `params["lstm/linear"]` or `params["gru"]`; or a list of them, as of a `DeepRNN`, with the
            lowest layer first.

    Returns:
        An RNN, or a Stack of several, and its parameters as NumPy arrays.

    Raises:
        ValueError: a weight is missing, unexpected, or of another shape or dtype.

    Examples:
        >>> import numpy as np
        >>> layer, params = load({"w": np.zeros((7, 16)), "b": np.zeros(16)})
        >>> layer, params["bias"].tolist()[4:8]
        (RNN(cell=LSTMCell(units=4), param_dtype='float64'), [1.0, 1.0, 1.0, 1.0])
    """
    modules = [
        arrays.floating("weights", module) for module in arrays.weight_dicts("weights", weights, "params['lstm/linear'], say")
    ]
    return layout.stack([_gru(module_arrays) if "w_h" in module_arrays else _lstm(module_arrays) for module_arrays in modules])


def _lstm(module_arrays: dict[str, np.ndarray]) -> Part:
    """Convert the arrays of a Haiku `LSTM`."""
    rows, columns = arrays.matrix("weights", module_arrays, "w", "(features + units, 4·units)").shape
    units, remainder = divmod(columns, 4)
    if remainder or rows <= units:
        raise ValueError(f"weights['w'] must be (features + units, 4·units), got {rows, columns}: pass that of an LSTM")
    arrays.fit("weights", module_arrays, {"w": (rows, columns), "b": (columns,)})
    kernel, bias = (layout.order(module_arrays[name], _GATES, "ifgo") for name in ("w", "b"))
    bias[units : 2 * units] += bias.dtype.type(1)  # the forget gate is the second block in the order of jlstm
    return layout.rnn("LSTM", units, {"kernel": kernel[:-units], "recurrent_kernel": kernel[-units:], "bias": bias})


def _gru(module_arrays: dict[str, np.ndarray]) -> Part:
    """Convert the arrays of a Haiku `GRU`."""
    units, columns = arrays.matrix("weights", module_arrays, "w_h", "(units, 3·units)").shape
    features = arrays.matrix("weights", module_arrays, "w_i", "(features, 3·units)").shape[0]
    arrays.kind_of("weights['w_h']", columns, units, {3: "GRU"})
    arrays.fit("weights", module_arrays, {"w_i": (features, columns), "w_h": (units, columns), "b": (columns,)})
    negated = {name: _negate_z(value, units) for name, value in module_arrays.items()}
    params = {"kernel": negated["w_i"], "recurrent_kernel": negated["w_h"], "bias": negated["b"]}
    return layout.rnn("GRU", units, params, reset_after=False)


def _negate_z(array: np.ndarray, units: int) -> np.ndarray:
    """Return a copy of the array in which the columns of the gate z, the first block, are negated."""
    return np.concatenate([-array[..., :units], array[..., units:]], -1)


def dump(layer: Layer, params: Params) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
    """Return the arrays of the Haiku module; for a Stack, a list of them for `DeepRNN`.

    The bias of a layer without a bias is zero. `load` restores the same bits, except for the forget bias of an LSTM: `dump`
    subtracts 1 and `load` adds 1, and both may round.

    Args:
        layer: an RNN or a Stack of them, which run forwards.
        params: the layer's parameters.

    Returns:
        The arrays by name, or a list of such dicts, the lowest layer first.

    Raises:
        ValueError: the layer has an option that Haiku does not have or a backward direction, or `params` do not fit it.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4)
        >>> weights = dump(layer, layer.init(jax.random.key(0), features=3))
        >>> {name: array.shape for name, array in weights.items()}
        {'w': (7, 16), 'b': (16,)}
    """
    layers = layout.parts(layer, params)
    if any(len(sides) > 1 or sides[0].layer.reverse for sides in layers):
        raise ValueError(
            f"Haiku's modules run forwards only, got {layer!r}: convert directions one by one, and reverse sequences"
        )
    modules = [_dump_direction(sides[0]) for sides in layers]
    return modules if len(modules) > 1 else modules[0]


def _dump_direction(part: Part) -> dict[str, np.ndarray]:
    """Return the arrays of one direction of one layer, by the framework's names."""
    cell: Any = part.layer.cell
    layout.refuse("Haiku", cell, but=("reset_after",))
    params, units = part.params, cell.units
    bias = params.get("bias", np.zeros_like(params["kernel"][0]))
    if layout.kind_of(cell) == "GRU":
        if cell.reset_after:
            raise ValueError("Haiku has no reset_after=True, only False: use a layer that was trained so")
        return {
            name: _negate_z(array, units)  # negating twice restores the same bits, even for -0.0
            for name, array in (("w_i", params["kernel"]), ("w_h", params["recurrent_kernel"]), ("b", bias))
        }
    bias = bias.copy()  # the caller's array must not change
    bias[units : 2 * units] -= bias.dtype.type(1)
    kernel = np.concatenate([params["kernel"], params["recurrent_kernel"]])
    return {"w": layout.order(kernel, "ifgo", _GATES), "b": layout.order(bias, "ifgo", _GATES)}
