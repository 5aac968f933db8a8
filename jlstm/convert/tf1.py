"""TensorFlow 1: a cell's variables by its own names, as `jlstm.convert.tf1_cells` has them, and checkpoints of all versions."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlstm import checks
from jlstm.cell import Params
from jlstm.convert import layout, tf1_cells, tf_checkpoint
from jlstm.convert.result import FileLayers
from jlstm.convert.tf1_cells import GATES, PEEPHOLES
from jlstm.layers import Layer


def load(
    weights: Mapping[str, Any], *, cell: str | None = None, forget_bias: float | None = None, **options: Any
) -> tuple[Layer, Params]:
    """Return the layer and parameters of the variables of one cell.

    Args:
        weights: arrays by the cell's own names of its variables: `kernel`, `bias`, with peepholes `w_i_diag`, `w_f_diag` and
            `w_o_diag`, with a projection `projection/kernel`; of a GRU `gates/kernel`, `gates/bias` and `candidate/…` likewise;
            or as TensorFlow called them before 1.2.
        cell: the cell's class as checkpoints name it: "basic_lstm_cell", "lstm_cell", "lstm_block_cell", "lstm_fused_cell",
            "layer_norm_basic_lstm_cell", "cudnn_compatible_lstm_cell", "gru_cell", "gru_block_cell",
            "cudnn_compatible_gru_cell" or "basic_rnn_cell". None tells it by the names, and takes a kernel and a bias for those
            of an LSTM; a "basic_rnn_cell" and a "cudnn_compatible_lstm_cell" have the same names.
        forget_bias: the cell's option, which it adds at every step; here it is added to the bias, once. None is the default of
            the cell's class: 1 of an LSTM, 0 of one that is compatible with CuDNN. A GRU has none.
        **options: of `jlstm.LSTM`, `jlstm.GRU` or `jlstm.ElmanCell`, which no array tells: `cell_clip`, `projection_clip` for
            `proj_clip`, `activation`, …

    Raises:
        ValueError: a weight is missing, not part of such a cell, or of another shape or dtype; or an option does not fit.

    Examples:
        >>> import numpy as np
        >>> layer, params = load({"kernel": np.zeros((7, 16)), "bias": np.zeros(16)})
        >>> layer, params["bias"].tolist()[4:8]
        (RNN(cell=LSTMCell(units=4), param_dtype='float64'), [1.0, 1.0, 1.0, 1.0])
    """
    return layout.assemble([[tf1_cells.part(cell, weights, forget_bias, options)]])


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
    if forget_bias := checks.number("forget_bias", forget_bias):
        bias[cell.units : 2 * cell.units] -= bias.dtype.type(forget_bias)
    weights = {"kernel": layout.order(kernel, "ifgo", GATES), "bias": layout.order(bias, "ifgo", GATES)}
    if cell.peephole:
        weights |= dict(zip(PEEPHOLES, own["peephole_kernel"], strict=True))
    return weights | ({"projection/kernel": own["projection_kernel"]} if cell.projection else {})


def read(path: str | os.PathLike[str], *, forget_bias: float | None = None, **options: Any) -> FileLayers:
    """Return all recurrent layers in a TensorFlow checkpoint, by their scopes (TensorFlow 1) or objects (TensorFlow 2).

    Of TensorFlow 1, cells are found by the names of their classes, as in `load`. Two cells are two layers: only those of a
    `MultiRNNCell` become a Stack, and those of `fw` and `bw` become Bidirectional. A layer goes by the scope that it is in, or
    by its own scope where several layers are in one. Of TensorFlow 2, Keras's LSTM, GRU and SimpleRNN layers and cells are
    found, by the shortest path to them. TensorFlow reads the file.

    Args:
        path: the checkpoint, without `.index` and `.data-…`.
        forget_bias: of the LSTM cells of TensorFlow 1 with this option, which no checkpoint states. None is their default, 1.
        **options: as for `load`, or `jlstm.convert.keras.load`, for all layers. `recurrent_activation` is asked for where Keras
            is so old that its default was another, and `reset_after` of a GRU without bias.

    Returns:
        The layers. `unused` has all other variables but those of optimizers.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ImportError: TensorFlow is not installed.
        ValueError: it is damaged, or has no recurrent layer that can be converted.
    """
    layers = tf_checkpoint.read(path, forget_bias, options)
    return layers.checked(path, "recurrent layer that is found by its name", "pass its variables to load")
