"""Drop-ins for Keras 3 on JAX: change one import, or call `accelerate` on a model that you have.

`LSTM`, `GRU` and `Bidirectional` are subclasses of Keras's layers with the same arguments, weights, states and files. Only the
loop over time is different: the cells of jlstm run it.
"""

import os
import sys
from typing import Any, NamedTuple

# Before Keras is imported: importing it for another backend, such as TensorFlow, would take seconds.
if "keras" not in sys.modules and os.environ.get("KERAS_BACKEND", "jax") != "jax":
    raise ImportError(f"jlstm.compat.keras needs Keras on JAX, and KERAS_BACKEND is {os.environ['KERAS_BACKEND']!r}: set it to 'jax'")

import jax
import jax.numpy as jnp
import keras
from jax import lax
from jaxtyping import Array
from keras import ops

from jlstm._src import checks
from jlstm.activations import Activation
from jlstm.cell import DropoutMasks, Params
from jlstm.cells import GRUCell, LSTMCell
from jlstm.layers import RNN

if keras.backend.backend() != "jax":
    raise ImportError(
        f"jlstm.compat.keras needs Keras on JAX, and Keras runs on {keras.backend.backend()}: set the environment variable "
        "KERAS_BACKEND=jax before Keras is imported"
    )

__all__ = ["GRU", "LSTM", "Bidirectional", "Explanation", "Run", "accelerate", "explain"]

# The fast backends know these two functions by name. Any other function is called as it is, since Keras's are functions of JAX.
_NAMES = {
    "tanh": (keras.activations.tanh, ops.tanh, jnp.tanh),
    "sigmoid": (keras.activations.sigmoid, ops.sigmoid, jax.nn.sigmoid),
}


class LSTM(keras.layers.LSTM):
    """`keras.layers.LSTM`, run by `jlstm.LSTMCell`. Arguments, weights, configuration and results are Keras's.

    Files name Keras's class, so that a saved model loads without jlstm; `accelerate` then brings this class back. `explain` says
    which layers of a model still run Keras's own code, and why.

    References:
        https://keras.io/api/layers/recurrent_layers/lstm/

    Examples:
        Keras reads the environment variable KERAS_BACKEND=jax when it is imported.

        >>> import keras, numpy
        >>> from jlstm.compat.keras import LSTM
        >>> model = keras.Sequential([keras.layers.Masking(), LSTM(4, return_sequences=True), LSTM(2)])
        >>> model(numpy.ones((2, 5, 3), "float32")).shape
        (2, 2)
    """

    # Keras writes this into files, and finds the class by it.
    __module__ = "keras.layers"

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Run all steps, as Keras's method of this name, which its `call` calls.

        Args:
            sequences: inputs (batch, time, features).
            initial_state: h and c.
            mask: True at the steps that count, (batch, time), or None.
            training: whether dropout is on.

        Returns:
            The last output, the outputs of all steps in the order in which they are computed, and a list with the last h and c.
        """
        if _obstacle(self, mask):
            return super().inner_loop(sequences, initial_state, mask, training)
        return _run(self, sequences, initial_state, mask, training)


class GRU(keras.layers.GRU):
    """`keras.layers.GRU`, run by `jlstm.GRUCell`. All that `LSTM` says about files and `explain` applies here.

    References:
        https://keras.io/api/layers/recurrent_layers/gru/
    """

    __module__ = "keras.layers"

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Run all steps, as `LSTM.inner_loop` does; the state is h alone."""
        if _obstacle(self, mask):
            return super().inner_loop(sequences, initial_state, mask, training)
        return _run(self, sequences, initial_state, mask, training)


class Bidirectional(keras.layers.Bidirectional):
    """`keras.layers.Bidirectional`, whose two layers are drop-ins if they are an LSTM or a GRU.

    Keras's Bidirectional makes its layers anew from their configuration, which names Keras's classes. So it would turn a drop-in
    inside it back into Keras's layer.

    References:
        https://keras.io/api/layers/recurrent_layers/bidirectional/
    """

    __module__ = "keras.layers"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _replace(self.forward_layer)
        _replace(self.backward_layer)


_DROP_INS = {
    keras.layers.LSTM: LSTM,
    keras.layers.GRU: GRU,
    keras.layers.Bidirectional: Bidirectional,
}


def accelerate(model: keras.Layer) -> keras.Layer:
    """Replace Keras's LSTM, GRU and Bidirectional layers in a model by the drop-ins of this module.

    The model is changed in place: each layer object gets the class of its drop-in. So weights, states, optimizer, compiled losses
    and all references to the layers stay, in functional, sequential and subclassed models, in models inside models, and in
    wrappers such as TimeDistributed. Subclasses of Keras's layers are left alone, since their methods may differ: `explain`
    lists them.

    Args:
        model: a model or a layer, for example from `keras.saving.load_model`. A layer that the model creates later, in its
            `build`, must exist: call the model once before.

    Returns:
        The same object, as `model`.

    Raises:
        TypeError: `model` is not a Keras layer or model.
        ValueError: there is no LSTM, GRU or Bidirectional layer in it.

    Examples:
        >>> import keras
        >>> from jlstm.compat.keras import accelerate, explain
        >>> model = accelerate(keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4, name="lstm")]))
        >>> print(explain(model))
        lstm: LSTM is run by jlstm
    """
    checks.instance("model", model, keras.Layer, "a keras.Model")
    layers = _layers(model)
    for layer in layers:
        _replace(layer)
        if isinstance(layer, keras.Model):
            # Compiled with the old layers. Keras makes these functions anew at the next fit, evaluate or predict.
            layer.train_function = layer.test_function = layer.predict_function = None
    if not any(isinstance(layer, (*_DROP_INS.values(),)) for layer in layers):
        raise ValueError(
            f"there is no keras.layers.LSTM, GRU or Bidirectional in {model.name!r}, got {len(layers)} other layers: pass a model "
            "that has them, or call it once before if it creates its layers in build"
        )
    return model


class Run(NamedTuple):
    """Who runs a recurrent layer of a model.

    Attributes:
        name: the layer's path in the model, or its name before it is built.
        kind: the name of its class.
        obstacle: why Keras's own code runs it, or "".
    """

    name: str
    kind: str
    obstacle: str

    def __str__(self) -> str:
        return f"{self.name}: {self.kind} is run by {f'Keras: {self.obstacle}' if self.obstacle else 'jlstm'}"


class Explanation(NamedTuple):
    """Who runs the recurrent layers of a model. It prints as one line for each layer.

    Attributes:
        runs: an entry for each recurrent layer, in the order of the model.
    """

    runs: tuple[Run, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.runs))


def explain(model: keras.Layer) -> Explanation:
    """Say which recurrent layers of a model jlstm runs, and why Keras runs the others.

    Args:
        model: a model or a layer.

    Returns:
        An `Explanation`, which prints as one line for each recurrent layer.

    Raises:
        TypeError: `model` is not a Keras layer or model.
    """
    checks.instance("model", model, keras.Layer, "a keras.Model")
    recurrent = [layer for layer in _layers(model) if isinstance(layer, keras.layers.RNN)]
    return Explanation(tuple(Run(layer.path or layer.name, type(layer).__name__, _reason(layer)) for layer in recurrent))


def _layers(model: keras.Layer) -> list[Any]:
    """Return a model and all layers in it. Keras has no public function that also looks into wrappers and custom layers."""
    return model._flatten_layers()


def _replace(layer: Any) -> None:
    """Give one of Keras's layers the class of its drop-in. Drop-ins have no attributes of their own, so nothing else changes."""
    if type(layer) in _DROP_INS:
        object.__setattr__(layer, "__class__", _DROP_INS[type(layer)])  # Keras's __setattr__ would look for weights in it


def _reason(layer: keras.layers.RNN) -> str:
    """Return why Keras runs a layer when it is called without a mask, or ""."""
    if type(layer) in _DROP_INS:
        return "it has not been replaced, call accelerate on the model"
    if not isinstance(layer, LSTM | GRU):
        return "jlstm.compat.keras has a drop-in for LSTM and GRU only, not for their subclasses or for other layers"
    return _obstacle(layer, None)


def _obstacle(layer: Any, mask: Any) -> str:
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


def _run(layer: Any, sequences: Any, states: Any, mask: Any, training: bool) -> tuple[Any, Any, Any]:
    """Run a layer over sequences by its cell in jlstm; arguments and results are those of `LSTM.inner_loop`."""
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
    activations = {name: _activation(getattr(cell, name)) for name in ("activation", "recurrent_activation")}
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
