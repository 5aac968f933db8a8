"""Conversion of the arrays of Keras layers.

An LSTM has kernel (features, 4·units), recurrent_kernel (units, 4·units) and one bias. The gates, i f c o and z r h, are in the
order of jlstm. With reset_after, the bias of a GRU is (2, 3·units): one row for the inputs and one for h. CuDNNLSTM and CuDNNGRU
of Keras 2 have the same gates, but the kernel of each gate is transposed, and two biases are concatenated. The kernels of
ConvLSTM layers have the axes of the window before that of the features.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from jlstm.cell import Params
from jlstm.cells import ConvLSTMCell, ElmanCell, GRUCell, LSTMCell
from jlstm.convert import arrays, layout
from jlstm.convert.layout import Part
from jlstm.layers import RNN, Bidirectional, Layer

ROLES = ("kernel", "recurrent_kernel", "bias")
GATES = {4: "LSTM", 3: "GRU", 1: "RNN"}


def load(weights: Sequence[Any], *, merge: str | None = "concat", **options: Any) -> tuple[Layer, Params]:
    """Return the layer and parameters from `layer.get_weights()` of a Keras LSTM, GRU, SimpleRNN or ConvLSTM layer.

    The layer may be inside Bidirectional. The two biases of a GRU with `reset_after` are added into one, except for the second
    bias of the candidate, which is `recurrent_bias`. The two biases of a CuDNNLSTM, which is recognized by its bias, are added
    too.

    Args:
        weights: the kernel, the recurrent kernel and, if any, the bias, twice for two directions; or a list of such lists, which
            becomes a Stack.
        merge: how the outputs of two directions are merged, Keras's `merge_mode`.
        **options: options of `jlstm.LSTM`, `jlstm.GRU`, `jlstm.cells.ElmanCell` or `jlstm.cells.ConvLSTMCell` that the arrays do
            not determine: `activation`, `reverse` for `go_backwards`, … A GRU without bias requires `reset_after`, and a ConvLSTM
            `spatial`, the spatial sizes of its inputs.

    Returns:
        An RNN, a Bidirectional or a Stack, and its parameters as NumPy arrays.

    Raises:
        ValueError: a weight is missing, unexpected, or of another shape or dtype; or an option does not fit.

    Differs from: Keras's go_backwards returns outputs in the order of processing, `reverse` in the order of the inputs.

    Examples:
        >>> import numpy as np
        >>> layer, params = load([np.zeros((3, 16)), np.zeros((4, 16)), np.zeros(16)])
        >>> layer
        RNN(cell=LSTMCell(units=4), param_dtype='float64')
    """
    nested = isinstance(weights, list | tuple) and weights and all(isinstance(entry, list | tuple) for entry in weights)
    layers = weights if nested else [weights]
    return layout.assemble([_directions(entry, options) for entry in layers], merge)


def _directions(weights: Sequence[Any], options: dict[str, Any]) -> list[Part]:
    """Return the one or two directions of a layer from its `get_weights()`, whose length tells which of these it has.

    Raises:
        ValueError: as for `load`.
    """
    if not isinstance(weights, list | tuple) or len(weights) not in (2, 3, 4, 6):
        got = len(weights) if isinstance(weights, list | tuple) else type(weights).__name__
        raise ValueError(
            f"weights must be kernel, recurrent_kernel and perhaps bias, of one or two directions, got {got}: pass get_weights()"
        )
    count = len(weights) // (1 if len(weights) < 4 else 2)  # 2 or 3 arrays are one direction, and 4 or 6 are two
    sides = [part(dict(zip(ROLES, weights[:count], strict=False)), options)]
    if len(weights) > count:
        # The backward layer of a Bidirectional runs opposite to the forward one, also if that has go_backwards.
        backward = options | {"reverse": not options.get("reverse", False)}
        sides.append(part(dict(zip(ROLES, weights[count:], strict=False)), backward))
        same_directions(sides[0].layer, sides[1].layer)
    return sides


def same_directions(forward: Layer, backward: Layer) -> None:
    """Check that two layers differ only in their direction, as a Bidirectional of jlstm requires.

    Raises:
        ValueError: they differ in anything else.
    """
    if forward.flipped() != backward:
        raise ValueError("weights must have two directions of one kind and size, got different ones: load them one by one")


def stacked(parts: Sequence[Part]) -> tuple[Layer, Params]:
    """Return the layer and parameters of a list of cells, the lowest first.

    Raises:
        ValueError: a cell takes another number of features than the cell below it has units.
    """
    for below, above in pairwise(parts):
        units, features = len(below.params["recurrent_kernel"]), len(above.params["kernel"])
        if units != features:
            raise ValueError(f"its cells do not fit, one has {units} units and the next takes {features} features: save it again")
    return layout.stack(parts)


def bidirectional(forward: tuple[Layer, Params], backward: tuple[Layer, Params], merge: str | None) -> tuple[Layer, Params]:
    """Return a Bidirectional of two converted layers, and its parameters.

    Raises:
        ValueError: the layers differ in more than their direction.
    """
    same_directions(forward[0], backward[0])
    return Bidirectional(forward[0], merge), {"forward": forward[1], "backward": backward[1]}


def kind(recurrent_kernel: np.ndarray) -> str:
    """Return the kind of layer that has a recurrent kernel of this shape: "LSTM", "GRU", "RNN" or "ConvLSTM".

    Raises:
        ValueError: no kind of layer has such a kernel.
    """
    if recurrent_kernel.ndim in (3, 4, 5):
        return "ConvLSTM"
    units, columns = arrays.matrix(
        "weights", {"recurrent_kernel": recurrent_kernel}, "recurrent_kernel", "(units, gates·units)"
    ).shape
    return arrays.kind_of("weights['recurrent_kernel']", columns, units, GATES)


def part(weights: Mapping[str, Any], options: Mapping[str, Any]) -> Part:
    """Return one direction of a layer, or one cell.

    Args:
        weights: the arrays by role: "kernel", "recurrent_kernel" and, if any, "bias".
        options: as for `load`.

    Raises:
        ValueError: as for `load`.
    """
    params = arrays.floating("weights", weights)
    if params["recurrent_kernel"].ndim > 2:
        return _convolutional(params, dict(options))
    units, columns = arrays.matrix("weights", params, "recurrent_kernel", "(units, gates·units)").shape
    features = arrays.matrix("weights", params, "kernel", "(features, gates·units)").shape[0]
    kind = arrays.kind_of("weights['recurrent_kernel']", columns, units, GATES)
    bias = params.get("bias")
    # The bias tells the layout: (columns,) of one bias, (2, columns) of a GRU with reset_after, and (2 * columns,) of cuDNN.
    cudnn = bias is not None and bias.shape == (2 * columns,) and kind != "RNN"
    two_biases = kind == "GRU" and bias is not None and (cudnn or bias.ndim == 2)
    shapes: dict[str, tuple[int, ...]] = {"kernel": (features, columns), "recurrent_kernel": (units, columns)}
    if bias is not None:
        shapes["bias"] = (2 * columns,) if cudnn else (2, columns) if two_biases else (columns,)
    arrays.fit("weights", params, shapes)
    if cudnn:
        params = _from_cudnn(params, columns // units)
    if kind == "GRU":
        options = {**options, "reset_after": _reset_after(bias, two_biases, options.get("reset_after"))}
        params = _merge_gru_biases(params, units) if two_biases else params
    elif cudnn:
        params["bias"] = params["bias"].sum(0)
    return layout.rnn(kind, units, params, **options)


def _from_cudnn(params: dict[str, np.ndarray], gates: int) -> dict[str, np.ndarray]:
    """Return the kernels and both biases of a CuDNN layer in the layout of the other layers.

    cuDNN keeps the kernel of each gate as (units, inputs). Keras saves these numbers in the same order, but declares the shape
    (inputs, units). So the block of a gate is reshaped to its true shape before it is transposed.
    """

    def transposed(matrix: np.ndarray) -> np.ndarray:
        blocks = np.split(matrix, gates, axis=1)
        return np.concatenate([block.reshape(block.shape[::-1]).T for block in blocks], axis=1)

    recurrent = np.split(params["recurrent_kernel"], gates, axis=1)  # square blocks, so no reshape is needed
    return {
        "kernel": transposed(params["kernel"]),
        "recurrent_kernel": np.concatenate([block.T for block in recurrent], axis=1),
        "bias": params["bias"].reshape(2, -1),
    }


def _reset_after(bias: np.ndarray | None, two_biases: bool, option: bool | None) -> bool:
    """Return the `reset_after` of a GRU. Two biases tell that it is True, and one bias that it is False.

    Args:
        bias: the bias of the GRU, or None.
        two_biases: whether `bias` has two rows, or is that of a CuDNNGRU.
        option: the `reset_after` that the caller passed or the configuration states, or None.

    Raises:
        ValueError: the bias contradicts `option`, or there is neither.
    """
    if bias is None and option is None:
        raise ValueError(
            "weights of a GRU without bias do not tell when it resets h, and Keras's default was changed in TensorFlow 2: pass "
            "reset_after=True or False"
        )
    if bias is not None and option is not None and option != two_biases:
        raise ValueError(f"weights have a bias of shape {bias.shape}, not that of reset_after={not two_biases}: leave it out")
    return two_biases if option is None else option


def _merge_gru_biases(params: dict[str, np.ndarray], units: int) -> dict[str, np.ndarray]:
    """Add the two biases of the gates z and r. Those of the candidate stay apart, since r multiplies only the second one."""
    first, second = params["bias"]
    bias = np.concatenate([layout.add_biases(first, second)[: 2 * units], first[2 * units :]])
    return params | {"bias": bias, "recurrent_bias": second[2 * units :]}


def _convolutional(params: dict[str, np.ndarray], options: dict[str, Any]) -> Part:
    """Return one direction of a ConvLSTM. Its kernels already have the axes and gates of jlstm.

    Raises:
        ValueError: as for `load`.
    """
    axes = params["recurrent_kernel"].ndim
    recurrent = arrays.matrix("weights", params, "recurrent_kernel", "(*window, filters, 4·filters)", axes)
    kernel = arrays.matrix("weights", params, "kernel", "(*window, features, 4·filters)", axes)
    window, filters, columns = recurrent.shape[:-2], *recurrent.shape[-2:]
    arrays.kind_of("weights['recurrent_kernel']", columns, filters, {4: "ConvLSTM"})
    shapes = {"kernel": (*window, kernel.shape[-2], columns), "recurrent_kernel": recurrent.shape}
    arrays.fit("weights", params, shapes | ({"bias": (columns,)} if "bias" in params else {}))
    if options.get("spatial") is None:
        raise ValueError("weights of a ConvLSTM do not tell the sizes of its inputs: pass them, as spatial=(rows, columns), say")
    loop_options = {name: options.pop(name) for name in ("reverse", "time_major") if name in options}
    try:
        cell = ConvLSTMCell(filters, window, **options, use_bias="bias" in params)
        return Part(RNN(cell, param_dtype=recurrent.dtype.name, **loop_options), params)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the weights are of ConvLSTM layers, which cannot have such options ({error}): give others") from error


def dump(layer: Layer, params: Params) -> list[Any]:
    """Return the arrays for `set_weights` of the Keras layer; for a Stack, a list of such lists.

    `load` restores the same bits. The arrays do not contain the activations, directions, `reset_after`, dropout, or the strides
    and padding of a ConvLSTM: pass these to the Keras layer.

    Args:
        layer: an RNN, a Bidirectional of one, or a Stack of these.
        params: the layer's parameters.

    Returns:
        The kernel, the recurrent kernel and, if any, the bias, twice for two directions.

    Raises:
        ValueError: the layer has an option that Keras does not have, or `params` do not fit it.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4)
        >>> weights = dump(layer, layer.init(jax.random.key(0), features=3))
        >>> [array.shape for array in weights]
        [(3, 16), (4, 16), (16,)]
    """
    layers = layout.parts(layer, params)
    for _, _, side in layout.numbered(layers):
        layout.refuse("Keras", side.layer.cell, but=_OPTIONS, kinds=(LSTMCell, GRUCell, ElmanCell, ConvLSTMCell))
    weights = [[array for side in sides for array in _dump_direction(side)] for sides in layers]
    return weights if len(weights) > 1 else weights[0]


_OPTIONS = (
    *("activation", "recurrent_activation", "reset_after"),
    *("filters", "kernel_size", "spatial", "strides", "padding", "dilation"),
)


def _dump_direction(side: Part) -> list[np.ndarray]:
    """Return the kernel, the recurrent kernel and, if any, the bias of one direction."""
    bias, params = side.params.get("bias"), side.params
    # Keras's second bias covers all gates. The first bias of the gates z and r already holds their sum, so the rest is zero.
    if bias is not None and "recurrent_bias" in params:
        second = np.zeros_like(bias)
        second[-len(params["recurrent_bias"]) :] = params["recurrent_bias"]
        bias = np.stack([bias, second])
    return [params["kernel"], params["recurrent_kernel"]] + ([] if bias is None else [bias])
