"""Conversion of the variables of TensorFlow 1 cells, and reading of TensorFlow 1 and 2 checkpoints.

`jlstm.convert.tf1_cells` lists the cells and their variables.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jlstm._src import checks
from jlstm.cell import Params
from jlstm.convert import layout, tf1_cells, tf_checkpoint
from jlstm.convert.result import FileLayers
from jlstm.convert.tf1_cells import GATES, PEEPHOLES
from jlstm.layers import Layer


def load(
    weights: Mapping[str, Any], *, cell: str | None = None, forget_bias: float | None = None, **options: Any
) -> tuple[Layer, Params]:
    """Return the layer and parameters of one TensorFlow 1 cell.

    Args:
        weights: the cell's variables by name. An LSTM has `kernel` and `bias`, with peepholes also `w_i_diag`, `w_f_diag` and
            `w_o_diag`, with a projection also `projection/kernel`. A GRU has `gates/kernel`, `gates/bias`, `candidate/kernel`
            and `candidate/bias`. The names from before TensorFlow 1.2 are accepted too.
        cell: the cell's class as checkpoints name it: "basic_lstm_cell", "lstm_cell", "lstm_block_cell", "lstm_fused_cell",
            "layer_norm_basic_lstm_cell", "cudnn_compatible_lstm_cell", "gru_cell", "gru_block_cell",
            "cudnn_compatible_gru_cell" or "basic_rnn_cell". None infers the class from the names of the variables. It takes a
            kernel and a bias for those of an LSTM, so name a "basic_rnn_cell" or a "cudnn_compatible_lstm_cell", whose
            variables have the same names.
        forget_bias: the cell's option, which TensorFlow adds at every step. This function adds it to the bias once. None is the
            default of the cell's class: 1 for an LSTM, 0 for one that is compatible with CuDNN. A GRU has none.
        **options: options of `jlstm.LSTM`, `jlstm.GRU` or `jlstm.ElmanCell` that the arrays do not determine: `cell_clip`,
            `projection_clip` for TensorFlow's `proj_clip`, `activation`, …

    Returns:
        An RNN and its parameters as NumPy arrays.

    Raises:
        ValueError: a weight is missing, unexpected, or of another shape or dtype; or an option does not fit.

    Examples:
        >>> import numpy as np
        >>> layer, params = load({"kernel": np.zeros((7, 16)), "bias": np.zeros(16)})
        >>> layer, params["bias"].tolist()[4:8]
        (RNN(cell=LSTMCell(units=4), param_dtype='float64'), [1.0, 1.0, 1.0, 1.0])
    """
    return layout.assemble([[tf1_cells.part(cell, weights, forget_bias, options)]])


def dump(layer: Layer, params: Params, *, forget_bias: float = 1.0) -> dict[str, np.ndarray]:
    """Return the variables of the TensorFlow 1 cell that is equal to this layer.

    With a `forget_bias` of 0, `load` restores the same bits. The variables do not contain the clips and the activation: pass
    these to the TensorFlow cell. TensorFlow's cells always have a bias. For a layer without a bias, it is zero.

    Args:
        layer: a layer of one cell. Convert the layers of a Stack and the directions of a Bidirectional one by one.
        params: the layer's parameters.
        forget_bias: the `forget_bias` of the TensorFlow cell. It is subtracted from the bias, since that cell adds it.

    Returns:
        The arrays by the names that `load` takes.

    Raises:
        ValueError: the layer has an option that the cells do not have, it consists of several layers or directions, or
            `params` do not fit it.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4)
        >>> weights = dump(layer, layer.init(jax.random.key(0), features=3))
        >>> {name: array.shape for name, array in weights.items()}
        {'kernel': (7, 16), 'bias': (16,)}
    """
    part = layout.only("TensorFlow 1", layer, params)
    cell: Any = part.layer.cell
    layout.refuse(
        "TensorFlow 1", cell, but=("activation", "peephole", "projection", "projection_clip", "cell_clip", "reset_after")
    )
    arrays_by_name = part.params
    # TensorFlow 1 multiplies one kernel by the concatenation of x and h, so the rows of x come first.
    kernel = np.concatenate([arrays_by_name["kernel"], arrays_by_name["recurrent_kernel"]])
    if layout.kind_of(cell) == "GRU":
        if cell.reset_after:
            raise ValueError("TensorFlow 1 has no reset_after=True, only False: use a layer that was trained so")
        # TensorFlow keeps the two gates in one kernel, and the candidate, which reads r ⊙ h instead of h, in another.
        bias, cut = arrays_by_name.get("bias", np.zeros_like(kernel[0])), 2 * cell.units
        kernel, bias = (layout.order(array, "zrg", "rzg") for array in (kernel, bias))
        gates = {"gates/kernel": kernel[:, :cut], "gates/bias": bias[:cut]}
        return gates | {"candidate/kernel": kernel[:, cut:], "candidate/bias": bias[cut:]}
    bias = arrays_by_name.get("bias", np.zeros_like(kernel[0])).copy()
    if forget_bias := checks.number("forget_bias", forget_bias):
        bias[cell.units : 2 * cell.units] -= bias.dtype.type(forget_bias)
    weights = {"kernel": layout.order(kernel, "ifgo", GATES), "bias": layout.order(bias, "ifgo", GATES)}
    if cell.peephole:
        # `peephole_kernel` has the rows i, f, o, as PEEPHOLES.
        weights |= dict(zip(PEEPHOLES, arrays_by_name["peephole_kernel"], strict=True))
    return weights | ({"projection/kernel": arrays_by_name["projection_kernel"]} if cell.projection else {})


def read(path: str | os.PathLike[str], *, forget_bias: float | None = None, **options: Any) -> FileLayers:
    """Return all recurrent layers in a TensorFlow checkpoint, by their scopes (TensorFlow 1) or objects (TensorFlow 2).

    In a TensorFlow 1 checkpoint, cells are found by the names of their classes, as listed in `load`. Each cell is a layer,
    except that the cells of a `MultiRNNCell` become a Stack and those of `fw` and `bw` become a Bidirectional. A layer is named
    after the scope around it, or after its own scope if several layers share that scope. In a TensorFlow 2 checkpoint, Keras's
    LSTM, GRU and SimpleRNN layers and cells are found, and named by the shortest path to them. TensorFlow reads the file.

    Args:
        path: the path of the checkpoint, without `.index` and `.data-…`.
        forget_bias: the `forget_bias` of the TensorFlow 1 LSTM cells that have this option, which no checkpoint states. None is
            their default, 1.
        **options: as for `load` or `jlstm.convert.keras.load`, for all layers. `recurrent_activation` is required where the
            checkpoint may be of TensorFlow 1, whose Keras has another default, and `reset_after` for a GRU without bias.

    Returns:
        Layers and parameters by name. `unused` names all other variables, except those of optimizers.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ImportError: TensorFlow is not installed.
        ValueError: the checkpoint is damaged, or has no recurrent layer that can be converted.
    """
    layers = tf_checkpoint.read(path, forget_bias, options)
    return layers.warn_about_skipped(path, "recurrent layer that is found by its name", "pass its variables to load")
