"""Convolutional LSTMs as Flax and Haiku have them: two convolutions, each with a bias; gates i g f o, and 1 more on f."""

from typing import Any

import numpy as np

import jlstm
from jlstm.cells import ConvLSTMCell
from jlstm.convert import layout
from parity.case import Arrays


def is_convolutional(layer: Any) -> bool:
    """Whether a layer is one run of a `ConvLSTMCell`."""
    return isinstance(layer, jlstm.RNN) and isinstance(layer.cell, ConvLSTMCell)


def dump(framework: str, layer: Any, params: Arrays, places: tuple[str, str], names: tuple[str, str]) -> dict[str, Any]:
    """Return the weights of both convolutions, that of x and that of h; our bias is that of x, less the 1 that is added to f.

    Args:
        framework: its name, for the sentence.
        layer: an `RNN` of a `ConvLSTMCell`.
        params: its own.
        places: what the convolutions of x and of h are called there, and
        names: what a kernel and a bias are.

    Raises:
        ValueError: an option that the framework does not have.
    """
    cell: Any = layer.cell
    layout.refuse(framework, cell, but=("filters", "kernel_size", "spatial", "padding"), kinds=(ConvLSTMCell,))
    if cell.padding != "same":
        raise ValueError(f"{framework} has no padding={cell.padding!r} whose outputs have the sizes of h, only 'same': take that")
    kernels = [layout.order(np.asarray(params[name]), "ifgo", "igfo") for name in ("kernel", "recurrent_kernel")]
    zeros = np.zeros_like(kernels[0], shape=kernels[0].shape[-1])
    bias = layout.order(np.asarray(params["bias"]), "ifgo", "igfo") if cell.use_bias else zeros
    late = np.repeat(np.array([0, 0, 1, 0], bias.dtype), cell.filters)
    biases = (bias - late, zeros)
    return {place: dict(zip(names, weights, strict=True)) for place, *weights in zip(places, kernels, biases, strict=True)}
