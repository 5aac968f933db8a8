"""Weights of convolutional LSTMs in the layout of Flax and Haiku.

Both use two convolutions, each with its own bias. The gate order is i g f o. Both add 1 to the forget gate.
"""

from typing import Any

import numpy as np

import jlstm
from jlstm.cells import ConvLSTMCell
from jlstm.convert import layout
from parity.problem import Arrays


def is_convolutional(layer: Any) -> bool:
    """Whether a layer is an `RNN` of a `ConvLSTMCell`."""
    return isinstance(layer, jlstm.RNN) and isinstance(layer.cell, ConvLSTMCell)


def dump(framework: str, layer: Any, params: Arrays, places: tuple[str, str], names: tuple[str, str]) -> dict[str, Any]:
    """Return the weights of both convolutions: the one over x and the one over h.

    The convolution over x gets our bias, less the 1 that the framework adds to the forget gate. The convolution over h gets a
    zero bias.

    Args:
        framework: its name, for error messages.
        layer: an `RNN` of a `ConvLSTMCell`.
        params: the parameters of `layer`.
        places: the framework's names of the convolutions over x and over h.
        names: the framework's names of a kernel and of a bias.

    Returns:
        For each name in `places`, a dict of the kernel and the bias.

    Raises:
        ValueError: the cell has an option that the framework lacks.
    """
    cell: Any = layer.cell
    layout.refuse(framework, cell, but=("filters", "kernel_size", "spatial", "padding"), kinds=(ConvLSTMCell,))
    if cell.padding != "same":
        raise ValueError(f"{framework} has no padding={cell.padding!r} whose outputs have the sizes of h, only 'same': take that")
    kernels = [layout.order(np.asarray(params[name]), "ifgo", "igfo") for name in ("kernel", "recurrent_kernel")]
    zeros = np.zeros_like(kernels[0], shape=kernels[0].shape[-1])
    bias = layout.order(np.asarray(params["bias"]), "ifgo", "igfo") if cell.use_bias else zeros
    # The framework adds 1 to f (third in i g f o) at run time, so it is subtracted here.
    forget_offset = np.repeat(np.array([0, 0, 1, 0], bias.dtype), cell.filters)
    biases = (bias - forget_offset, zeros)
    return {place: dict(zip(names, weights, strict=True)) for place, *weights in zip(places, kernels, biases, strict=True)}
