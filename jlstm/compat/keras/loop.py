"""Run one of Keras's layers over time by a cell of jlstm, or say why Keras has to."""

from typing import Any

import jax
import jax.numpy as jnp
import keras
from jax import lax
from jaxtyping import Array
from keras import ops

from jlstm.activations import ACTIVATIONS, Activation
from jlstm.cell import DropoutMasks, Params
from jlstm.cells import GRUCell, LSTMCell
from jlstm.layers import RNN

# The native kernel knows functions by name. These are the same in Keras; gelu and leaky_relu, for example, have other defaults
# there. Any other function is called as it is, since Keras's are functions of JAX.
_NAMES = {
    name: (getattr(keras.activations, name), getattr(ops, name, None), ACTIVATIONS[name])
    for name in ("hard_sigmoid", "hard_tanh", "linear", "relu", "sigmoid", "tanh")
}


def obstacle(layer: Any, mask: Any) -> str:
    """Return why Keras should run a call, or ""."""
    cell = layer.cell
    if layer.use_cudnn is True:
        return "it has use_cudnn=True"
    if any(isinstance(function, keras.Layer) for function in (cell.activation, cell.recurrent_activation)):
        return "an activation is a layer, which may have weights"
    if 1 in (cell.dropout, cell.recurrent_dropout):
        return "a dropout rate is 1"
    masks = mask if isinstance(mask, list | tuple) else [mask]
    if masks[0] is not None and layer.unroll:
        return "unroll=True has other outputs at masked steps"
    if masks[0] is not None and len(masks[0].shape) != 2:
        return "the mask is not (batch, time)"
    if jax.default_backend() == "gpu" and masks[0] is None and _fits_cudnn(layer):
        return "cuDNN runs it"
    return ""


def _fits_cudnn(layer: Any) -> bool:
    """Whether Keras calls cuDNN for a layer, on a GPU and without a mask."""
    names = (_activation(layer.activation), _activation(layer.recurrent_activation))
    fits = names == ("tanh", "sigmoid") and layer.use_bias and not (layer.unroll or layer.recurrent_dropout)
    return isinstance(layer, keras.layers.LSTM) and layer.use_cudnn == "auto" and fits


def run(layer: Any, sequences: Any, states: Any, mask: Any, training: bool) -> tuple[Any, Any, Any]:
    """Run a layer over sequences by its cell in jlstm; arguments and results are those of `inner_loop`."""
    cell, params = _cell(layer.cell)
    mask = mask[0] if isinstance(mask, list | tuple) else mask
    mask = None if mask is None else ops.cast(mask, "bool")
    xs = ops.cast(sequences, layer.cell.compute_dtype)  # Keras passes integers on as they are
    dropout_masks = _dropout_masks(layer.cell, sequences, states) if training else {}
    start = cell.carry_type(*states)
    carry, ys = RNN(cell, reverse=layer.go_backwards).apply(params, xs, start, mask=mask, dropout_masks=dropout_masks or None)
    if layer.go_backwards:  # Keras returns outputs, and jlstm takes masks and returns outputs, in the order of the inputs
        ys, mask = jnp.flip(ys, 1), None if mask is None else jnp.flip(mask, 1)
    last = carry.h
    if mask is not None and layer.zero_output_for_mask:
        last = jnp.where(mask[:, -1:], last, jnp.zeros_like(last))
    elif mask is not None and layer.return_sequences:
        ys = _held(ys, mask, start.h)
    return last, ys, list(carry)


def _cell(cell: Any) -> tuple[LSTMCell | GRUCell, Params]:
    """Return the cell of jlstm for one of Keras's, and its parameters in the compute dtype."""
    names = ("kernel", "recurrent_kernel", "bias") if cell.use_bias else ("kernel", "recurrent_kernel")
    params = {name: ops.convert_to_tensor(getattr(cell, name), cell.compute_dtype) for name in names}
    activations: dict[str, Any] = {name: _activation(getattr(cell, name)) for name in ("activation", "recurrent_activation")}
    if isinstance(cell, keras.layers.LSTMCell):
        forget_bias = 1.0 if cell.use_bias else None  # the weights exist, so it has no effect
        return LSTMCell(cell.units, **activations, use_bias=cell.use_bias, forget_bias=forget_bias), params
    if cell.use_bias and cell.reset_after:
        # Only the candidate needs the second bias, since r multiplies it. That of z and r is added to the first one.
        bias, recurrent_bias = params["bias"]
        gates = 2 * cell.units
        params |= {"bias": bias.at[:gates].add(recurrent_bias[:gates]), "recurrent_bias": recurrent_bias[gates:]}
    return GRUCell(cell.units, **activations, use_bias=cell.use_bias, reset_after=cell.reset_after), params


def _activation(function: Any) -> Activation:
    return next((name for name, functions in _NAMES.items() if function in functions), function)


def _dropout_masks(cell: Any, sequences: Any, states: Any) -> DropoutMasks:
    """Return the masks that Keras has drawn for this call, one for each gate or one for all."""
    masks = {"inputs": cell.get_dropout_mask(sequences[:, 0]), "recurrent": cell.get_recurrent_dropout_mask(states[0])}
    as_lists = {name: mask if isinstance(mask, list | tuple) else [mask] for name, mask in masks.items() if mask is not None}
    return {name: jnp.stack(gates) for name, gates in as_lists.items()}


def _held(ys: Array, mask: Array, start: Array) -> Array:
    """Return outputs (batch, time, units) that repeat the last output that counts at masked steps; before any, the first h."""
    steps = jnp.where(mask, jnp.arange(1, mask.shape[1] + 1), 0)
    return jnp.take_along_axis(jnp.concatenate([start[:, None], ys], axis=1), lax.cummax(steps, axis=1)[..., None], axis=1)
