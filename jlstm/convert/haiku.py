"""Haiku: LSTM w (features + units, 4·units), rows x then h, b (4·units,) and 1 more on f; i | g | f | o.

GRU w_i (features, 3·units), w_h (units, 3·units), b (3·units,); z | r | a, with h' = (1 - z) h + z a, where ours has z and 1 - z
the other way round: 1 - σ(x) = σ(-x), so that the weights of z change their sign.
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
    """Return the layer and parameters of an `LSTM` or a `GRU`; of several, as in `DeepRNN`, a Stack.

    The 1 that Haiku adds to the forget gate's sum is added to the bias.

    Args:
        weights: what `params["lstm/linear"]` or `params["gru"]` holds; or a list of these, the lowest first.

    Raises:
        ValueError: a weight is missing, not part of such a module, or of another shape or dtype.

    Examples:
        >>> import numpy as np
        >>> layer, params = load({"w": np.zeros((7, 16)), "b": np.zeros(16)})
        >>> layer, params["bias"].tolist()[4:8]
        (RNN(cell=LSTMCell(units=4), param_dtype='float64'), [1.0, 1.0, 1.0, 1.0])
    """
    modules = [arrays.floating("weights", one) for one in arrays.several("weights", weights, "params['lstm/linear'], say")]
    return layout.stack([_gru(given) if "w_h" in given else _lstm(given) for given in modules])


def _lstm(given: dict[str, np.ndarray]) -> Part:
    rows, columns = arrays.matrix("weights", given, "w", "(features + units, 4·units)").shape
    units, rest = divmod(columns, 4)
    if rest or rows <= units:
        raise ValueError(f"weights['w'] must be (features + units, 4·units), got {rows, columns}: pass that of an LSTM")
    arrays.fit("weights", given, {"w": (rows, columns), "b": (columns,)})
    kernel, bias = (layout.order(given[name], _GATES, "ifgo") for name in ("w", "b"))
    bias[units : 2 * units] += bias.dtype.type(1)
    return layout.rnn("LSTM", units, {"kernel": kernel[:-units], "recurrent_kernel": kernel[-units:], "bias": bias})


def _gru(given: dict[str, np.ndarray]) -> Part:
    units, columns = arrays.matrix("weights", given, "w_h", "(units, 3·units)").shape
    features = arrays.matrix("weights", given, "w_i", "(features, 3·units)").shape[0]
    arrays.gates("weights['w_h']", columns, units, {3: "GRU"})
    arrays.fit("weights", given, {"w_i": (features, columns), "w_h": (units, columns), "b": (columns,)})
    turned = {name: _turned(value, units) for name, value in given.items()}
    params = {"kernel": turned["w_i"], "recurrent_kernel": turned["w_h"], "bias": turned["b"]}
    return layout.rnn("GRU", units, params, reset_after=False)


def _turned(array: np.ndarray, units: int) -> np.ndarray:
    """With the columns of z negated."""
    return np.concatenate([-array[..., :units], array[..., units:]], -1)


def dump(layer: Layer, params: Params) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
    """Return the arrays of Haiku's module; of a Stack, a list, for `DeepRNN`. Without a bias, it is zero.

    `load` takes them back to the same bits, but for an LSTM's forget bias: 1 is taken away here and added there, with rounding.

    Raises:
        ValueError: an option that Haiku does not have, two directions, or parameters that are not the layer's.
    """
    layers = layout.parts(layer, params)
    if any(len(sides) > 1 or sides[0].layer.reverse for sides in layers):
        raise ValueError(
            f"Haiku's modules run forwards only, got {layer!r}: convert directions one by one, and reverse sequences"
        )
    modules = [_theirs(sides[0]) for sides in layers]
    return modules if len(modules) > 1 else modules[0]


def _theirs(part: Part) -> dict[str, np.ndarray]:
    cell: Any = part.layer.cell
    layout.refuse("Haiku", cell, but=("reset_after",))
    own, units = part.params, cell.units
    bias = own.get("bias", np.zeros_like(own["kernel"][0]))
    if layout.kind(cell) == "GRU":
        if cell.reset_after:
            raise ValueError("Haiku has no reset_after=True, only False: use a layer that was trained so")
        return {
            name: _turned(array, units) for name, array in (("w_i", own["kernel"]), ("w_h", own["recurrent_kernel"]), ("b", bias))
        }
    bias = bias.copy()
    bias[units : 2 * units] -= bias.dtype.type(1)
    kernel = np.concatenate([own["kernel"], own["recurrent_kernel"]])
    return {"w": layout.order(kernel, "ifgo", _GATES), "b": layout.order(bias, "ifgo", _GATES)}
