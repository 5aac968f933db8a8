"""The functions `LSTM` and `GRU`, which return the common layers: an `RNN` around an `LSTMCell` or a `GRUCell`."""

import inspect
from dataclasses import fields
from typing import Any, Literal, TypedDict, Unpack, cast

from jlstm._src.arguments import answered
from jlstm.activations import Activation
from jlstm.cell import Cell
from jlstm.cells import GRUCell, LSTMCell
from jlstm.initializers import Initializer
from jlstm.layers.recurrent import RNN


class LoopOptions(TypedDict, total=False):
    """The keyword options of `LSTM` and `GRU` that go to `RNN`, with their types."""

    reverse: bool
    time_major: bool
    unroll: int | Literal["all"] | None
    remat: int | Literal["sqrt"]
    backend: Literal["auto", "parallel", "gpu", "cpu", "fused", "scan"]
    dtype: Any
    param_dtype: Any


class CommonOptions(LoopOptions, total=False):
    """The options that `LSTMCell` and `GRUCell` have in common, and those of `RNN`."""

    activation: Activation
    recurrent_activation: Activation
    use_bias: bool
    dropout: float
    recurrent_dropout: float
    kernel_init: Initializer
    recurrent_init: Initializer
    bias_init: Initializer


class LSTMOptions(CommonOptions, total=False):
    """The options of `LSTMCell` and `RNN`."""

    output_activation: Activation | None
    forget_bias: float | None
    peephole: bool
    projection: int | None
    projection_bias: bool
    projection_clip: float | None
    cell_clip: float | None
    gate_clip: float | None
    coupled: Literal["f=1-i", "i=1-f"] | None
    layer_norm: Literal["ba2016", "tf_contrib", "addons", "tflite"] | None
    layer_norm_epsilon: float | None
    recurrent_dropout_on: Literal["h", "g"]


class GRUOptions(CommonOptions, total=False):
    """The options of `GRUCell` and `RNN`."""

    reset_after: bool


def _signature(cell: type[Cell]) -> inspect.Signature:
    """Return the signature of `LSTM` or `GRU` with all options and their defaults, for `help` and completion in notebooks.

    It has no annotations.
    """
    # [1:] leaves out `cell`, which `LSTM` and `GRU` make themselves.
    parameters = [*inspect.signature(cell).parameters.values(), *list(inspect.signature(RNN).parameters.values())[1:]]
    return inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters])


@answered("LSTM", _signature(LSTMCell))
def LSTM(units: int, **options: Unpack[LSTMOptions]) -> RNN:
    """Return an LSTM layer, `RNN(LSTMCell(units, …), …)`.

    Each option goes to `LSTMCell` or to `RNN`, whichever has it; `layer.cell.units` is the number of units. This is a function
    and not a class, so that all cells, wrapped ones too, share the one class `RNN`. To find out what a layer is, write
    `isinstance(layer.cell, jlstm.LSTMCell)`.

    Args:
        units: size of c, and of h without a projection. Pass the size of the inputs to `layer.init(key, features=…)`.

    Options of the cell, explained by `help(jlstm.LSTMCell)`:
        activation="tanh", recurrent_activation="sigmoid", output_activation=None: functions of the candidate, the gates, and c.
        use_bias=True, forget_bias=1.0: whether there is a bias, and the initial bias of the forget gate.
        dropout=0.0, recurrent_dropout=0.0, recurrent_dropout_on="h": shares of x and h zeroed when `apply` gets a key.
        projection=None, projection_bias=False, projection_clip=None: size of h if not `units`, and options of the projection.
        peephole=False, coupled=None: whether the gates see c; whether one gate serves as i and f.
        cell_clip=None, gate_clip=None: bounds of c and of the sums that enter the gates.
        layer_norm=None, layer_norm_epsilon=None: one of four schemes of layer normalization, and its ε.
        kernel_init="glorot_uniform", recurrent_init="orthogonal", bias_init="zeros": initializers of the parameters.

    Options of the loop, explained by `help(jlstm.RNN)`:
        reverse=False, time_major=False: run from the end; take (time, batch, features) instead of (batch, time, features).
        dtype=None, param_dtype="float32": dtype of the computation, None for that of the inputs; dtype of the parameters.
        backend="auto", unroll=None, remat=False: what runs the loop, see `jlstm.explain`; steps per iteration; whether to compute
            again in the backward pass, to save memory.

    Returns:
        The layer.

    Raises:
        TypeError: neither the cell nor `RNN` has the option.
        ValueError: an option has a value that the cell or `RNN` refuses.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.LSTM(4, dropout=0.2, reverse=True)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)), lengths=jax.numpy.array([5, 2]))
        >>> ys.shape, carry.c.shape
        ((2, 5, 4), (2, 4))
    """
    return _layer(LSTMCell, units, options)


@answered("GRU", _signature(GRUCell))
def GRU(units: int, **options: Unpack[GRUOptions]) -> RNN:
    """Return a GRU layer, `RNN(GRUCell(units, …), …)`.

    Each option goes to `GRUCell` or to `RNN`, whichever has it; `layer.cell.units` is the number of units. This is a function
    and not a class, so that all cells, wrapped ones too, share the one class `RNN`. To find out what a layer is, write
    `isinstance(layer.cell, jlstm.GRUCell)`.

    Args:
        units: size of h. Pass the size of the inputs to `layer.init(key, features=…)`.

    Options of the cell, explained by `help(jlstm.GRUCell)`:
        reset_after=True: whether the reset gate acts after the product with the recurrent kernel, as in PyTorch and Keras.
        activation="tanh", recurrent_activation="sigmoid": functions of the candidate and the gates.
        use_bias=True: whether there are biases.
        dropout=0.0, recurrent_dropout=0.0: shares of x and h zeroed when `apply` gets a key.
        kernel_init="glorot_uniform", recurrent_init="orthogonal", bias_init="zeros": initializers of the parameters.

    Options of the loop, explained by `help(jlstm.RNN)`:
        reverse=False, time_major=False: run from the end; take (time, batch, features) instead of (batch, time, features).
        dtype=None, param_dtype="float32": dtype of the computation, None for that of the inputs; dtype of the parameters.
        backend="auto", unroll=None, remat=False: what runs the loop, see `jlstm.explain`; steps per iteration; whether to compute
            again in the backward pass, to save memory.

    Returns:
        The layer.

    Raises:
        TypeError: neither the cell nor `RNN` has the option.
        ValueError: an option has a value that the cell or `RNN` refuses.

    Examples:
        >>> import jax, jlstm
        >>> layer = jlstm.GRU(4, reset_after=False)
        >>> params = layer.init(jax.random.key(0), features=3)
        >>> carry, ys = layer.apply(params, jax.numpy.ones((2, 5, 3)))
        >>> ys.shape, carry.h.shape
        ((2, 5, 4), (2, 4))
    """
    return _layer(GRUCell, units, options)


# No option of a cell has one of these names, so that a name tells where an option goes.
_LOOP_OPTIONS = {field.name for field in fields(RNN)} - {"cell"}


def _layer(cell: type[Cell], units: int, options: Any) -> RNN:
    loop_options = {name: value for name, value in options.items() if name in _LOOP_OPTIONS}
    cell_options = {name: value for name, value in options.items() if name not in _LOOP_OPTIONS}
    return RNN(cast(Any, cell)(units, **cell_options), **loop_options)


# Type checkers read the TypedDicts above; `help` and notebooks read `__signature__`.
cast(Any, LSTM).__signature__, cast(Any, GRU).__signature__ = _signature(LSTMCell), _signature(GRUCell)
