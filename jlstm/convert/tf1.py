"""TensorFlow 1: kernel (features + size of h, 4·units), rows x then h, bias + forget_bias, w_{i,f,o}_diag, projection/kernel.

Gates i | j | f | o, where j is our g, and r | u for `GRUCell`, whose candidate has a kernel of its own, rows x then r ⊙ h.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlstm import checks
from jlstm.cell import Params
from jlstm.convert import arrays, layout, tf_checkpoint
from jlstm.convert.layout import Part
from jlstm.layers import Layer

_GATES = "igfo"
_PEEPHOLES = ("w_i_diag", "w_f_diag", "w_o_diag")


def load(weights: Mapping[str, Any], *, forget_bias: float = 1.0, **options: Any) -> tuple[Layer, Params]:
    """Return the layer and parameters of the variables of a `BasicLSTMCell`, an `LSTMCell` or a `GRUCell`.

    Args:
        weights: arrays by the cell's own names of its variables: `kernel`, `bias`, with peepholes `w_i_diag`, `w_f_diag` and
            `w_o_diag`, with a projection `projection/kernel`; of a GRU `gates/kernel`, `gates/bias` and `candidate/…` likewise.
        forget_bias: the cell's option, which it adds at every step; here it is added to the bias, once. A GRU has none.
        **options: of `jlstm.LSTM` or `jlstm.GRU`, which no array tells: `cell_clip`, `projection_clip` for `proj_clip`,
            `activation`, …

    Raises:
        ValueError: a weight is missing, not part of such a cell, or of another shape or dtype; or an option does not fit.

    Examples:
        >>> import numpy as np
        >>> layer, params = load({"kernel": np.zeros((7, 16)), "bias": np.zeros(16)})
        >>> layer, params["bias"].tolist()[4:8]
        (RNN(cell=LSTMCell(units=4), param_dtype='float64'), [1.0, 1.0, 1.0, 1.0])
    """
    given = arrays.floating("weights", weights)
    return layout.assemble([[_gru(given, options) if "gates/kernel" in given else _lstm(given, forget_bias, options)]])


def _lstm(given: dict[str, np.ndarray], forget_bias: float, options: dict[str, Any]) -> Part:
    rows, columns = arrays.matrix("weights", given, "kernel", "(features + size of h, 4·units)").shape
    units, rest = divmod(columns, 4)
    projected = "projection/kernel" in given
    size = arrays.matrix("weights", given, "projection/kernel", "(units, size of h)").shape[1] if projected else units
    if rest or rows <= size:
        raise ValueError(
            f"weights['kernel'] must be (features + size of h, 4·units), got {rows, columns}: pass that of an LSTM cell"
        )
    shapes: dict[str, tuple[int, ...]] = {"kernel": (rows, columns), "bias": (columns,)}
    shapes |= {"projection/kernel": (units, size)} if projected else {}
    peephole = any(name in given for name in _PEEPHOLES)
    shapes |= dict.fromkeys(_PEEPHOLES, (units,)) if peephole else {}
    arrays.fit("weights", given, shapes)
    features, bias = rows - size, layout.order(given["bias"], _GATES, "ifgo")
    if checks.number("forget_bias", forget_bias):
        bias[units : 2 * units] += bias.dtype.type(forget_bias)
    kernel = layout.order(given["kernel"], _GATES, "ifgo")
    params = {"kernel": kernel[:features], "recurrent_kernel": kernel[features:], "bias": bias}
    more: dict[str, Any] = {}
    if peephole:
        params["peephole_kernel"], more["peephole"] = np.stack([given[name] for name in _PEEPHOLES]), True
    if projected:
        params["projection_kernel"], more["projection"] = given["projection/kernel"], size
    return layout.rnn("LSTM", units, params, **more, **options)


def _gru(given: dict[str, np.ndarray], options: dict[str, Any]) -> Part:
    rows, columns = arrays.matrix("weights", given, "gates/kernel", "(features + units, 2·units)").shape
    units, rest = divmod(columns, 2)
    if rest or rows <= units:
        raise ValueError(
            f"weights['gates/kernel'] must be (features + units, 2·units), got {rows, columns}: pass that of a GRUCell"
        )
    shapes: dict[str, tuple[int, ...]] = {"gates/kernel": (rows, columns), "gates/bias": (columns,)}
    arrays.fit("weights", given, shapes | {"candidate/kernel": (rows, units), "candidate/bias": (units,)})
    both = [np.concatenate([given[f"gates/{name}"], given[f"candidate/{name}"]], -1) for name in ("kernel", "bias")]
    kernel, bias = (layout.order(array, "rzg", "zrg") for array in both)
    params = {"kernel": kernel[:-units], "recurrent_kernel": kernel[-units:], "bias": bias}
    return layout.rnn("GRU", units, params, reset_after=False, **options)


def dump(layer: Layer, params: Params, *, forget_bias: float = 1.0) -> dict[str, np.ndarray]:
    """Return the variables of the TensorFlow 1 cell that is this layer; a `load` with a `forget_bias` of 0 gives the same bits.

    Clips and the activation are given to TensorFlow's own cell. A cell always has a bias there: without one, it is zero.

    Args:
        layer: of one cell; take a Stack apart as `MultiRNNCell` does, and Bidirectional likewise.
        params: its own.
        forget_bias: of the cell that takes the weights; it is subtracted here, since the cell adds it.

    Raises:
        ValueError: an option that the cells do not have, several layers, or parameters that are not the layer's.
    """
    part = layout.only("TensorFlow 1", layer, params)
    cell: Any = part.layer.cell
    layout.refuse(
        "TensorFlow 1", cell, but=("activation", "peephole", "projection", "projection_clip", "cell_clip", "reset_after")
    )
    own = part.params
    kernel = np.concatenate([own["kernel"], own["recurrent_kernel"]])
    if layout.kind(cell) == "GRU":
        if cell.reset_after:
            raise ValueError("TensorFlow 1 has no reset_after=True, only False: use a layer that was trained so")
        bias, cut = own.get("bias", np.zeros_like(kernel[0])), 2 * cell.units
        kernel, bias = (layout.order(array, "zrg", "rzg") for array in (kernel, bias))
        gates = {"gates/kernel": kernel[:, :cut], "gates/bias": bias[:cut]}
        return gates | {"candidate/kernel": kernel[:, cut:], "candidate/bias": bias[cut:]}
    bias = own.get("bias", np.zeros_like(kernel[0])).copy()
    if forget_bias:
        bias[cell.units : 2 * cell.units] -= bias.dtype.type(forget_bias)
    weights = {"kernel": layout.order(kernel, "ifgo", _GATES), "bias": layout.order(bias, "ifgo", _GATES)}
    if cell.peephole:
        weights |= dict(zip(_PEEPHOLES, own["peephole_kernel"], strict=True))
    return weights | ({"projection/kernel": own["projection_kernel"]} if cell.projection else {})


def read(path: str | os.PathLike[str], *, forget_bias: float = 1.0, **options: Any) -> dict[str, tuple[Layer, Params]]:
    """Return all recurrent layers in a TensorFlow checkpoint, by their scopes (TensorFlow 1) or objects (TensorFlow 2).

    Of TensorFlow 1, cells are found in scopes called `basic_lstm_cell`, `lstm_cell` or `gru_cell`; those in a `multi_rnn_cell`
    become a Stack, those in `fw` and `bw` become Bidirectional. Of TensorFlow 2, Keras' layers are found. TensorFlow reads it.

    Args:
        path: the checkpoint, without `.index` and `.data-…`.
        forget_bias: of all LSTM cells of TensorFlow 1.
        **options: as for `load`, or `jlstm.convert.keras.load`, for all layers.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ImportError: TensorFlow is not installed.
        ValueError: it is damaged, holds no such layer, or one that does not fit.
    """

    def of_cell(weights: Mapping[str, Any]) -> tuple[Layer, Params]:
        return load(weights, forget_bias=forget_bias, **options)

    return tf_checkpoint.read(path, of_cell, options)
