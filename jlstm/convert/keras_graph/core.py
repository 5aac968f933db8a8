"""Layers without time: Dense, Embedding, activations, and changes of shape."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.cell import Params
from jlstm.convert.keras_graph import activations
from jlstm.convert.keras_graph.values import Call, Run, Value
from jlstm.convert.keras_model.options import UnsupportedError, Version, quoted

Config = Mapping[str, Any]


def elementwise(function: Callable[[Array], Array]) -> Run:
    """Return a layer that applies a function and passes the mask on."""
    return lambda _, call: Value(function(call.inputs[0].array), call.inputs[0].mask)


def dropping_mask(function: Callable[[Array], Array]) -> Run:
    """Return a layer that applies a function. Keras drops the mask behind a layer that does not declare `supports_masking`."""
    return lambda _, call: Value(function(call.inputs[0].array))


def dense(config: Config, version: Version) -> Run:
    """Return activation(x · kernel + bias) over the last axis. The mask is passed on."""
    activation = activations.function("activation", config["activation"], version)

    def run(params: Params, call: Call) -> Value:
        x, mask = call.inputs[0]
        y = x @ params["kernel"]
        return Value(activation(plus_bias(y, params)), mask)

    return run


def plus_bias(y: Array, params: Params) -> Array:
    """Add the bias along the last axis, if there is one."""
    return y + jnp.reshape(params["bias"], (1,) * (y.ndim - 1) + (-1,)) if "bias" in params else y


def embedding(config: Config, version: Version) -> Run:
    """Return rows of the matrix of embeddings. With `mask_zero`, index 0 is padding.

    An index outside of the matrix gives NaN, because a compiled program cannot raise an error.
    """

    def run(params: Params, call: Call) -> Value:
        indices = call.inputs[0].array
        mask = indices != 0 if config["mask_zero"] else None
        indices = indices.astype(jnp.int32)
        rows = len(params["embeddings"])
        # jnp.take counts a negative index from the end, so it is replaced by one that is outside.
        return Value(jnp.take(params["embeddings"], jnp.where(indices < 0, rows, indices), axis=0, mode="fill"), mask)

    return run


def masking(config: Config, version: Version) -> Run:
    """Return the inputs and a new mask: a step whose features all equal `mask_value` does not count, and becomes zero."""

    def run(_: Params, call: Call) -> Value:
        x = call.inputs[0].array
        mask = (x != config["mask_value"]).any(-1)
        return Value(jnp.where(mask[..., None], x, 0), mask)

    return run


def activation_layer(config: Config, version: Version) -> Run:
    """Return the activation of the inputs."""
    return elementwise(activations.function("activation", config["activation"], version))


def relu(config: Config, version: Version) -> Run:
    """Return the layer ReLU with its slope below and its limit above the threshold."""
    slope, limit, threshold = config["negative_slope"], config["max_value"], config["threshold"]

    def function(x: Array) -> Array:
        y = jnp.where(x >= threshold, x, slope * (x - threshold)) if slope or threshold else jnp.maximum(x, 0)
        return y if limit is None else jnp.minimum(y, limit)

    return elementwise(function)


def leaky_relu(config: Config, version: Version) -> Run:
    """Return the layer LeakyReLU. Keras 2 calls the slope `alpha`."""
    slope = config["negative_slope"] if "negative_slope" in config else config["alpha"]
    return elementwise(lambda x: jax.nn.leaky_relu(x, slope))


def elu(config: Config, version: Version) -> Run:
    """Return the layer ELU: x above 0, and alpha (exp(x) - 1) below."""
    return elementwise(lambda x: jax.nn.elu(x, config["alpha"]))


def prelu(config: Config, version: Version) -> Run:
    """Return the layer PReLU, whose slopes below 0 are parameters."""

    def run(params: Params, call: Call) -> Value:
        x, mask = call.inputs[0]
        return Value(jnp.where(x > 0, x, params["alpha"][None] * x), mask)

    return run


def softmax(config: Config, version: Version) -> Run:
    """Return the layer Softmax, where masked entries get the probability 0."""
    axis = tuple(config["axis"]) if isinstance(config["axis"], list) else config["axis"]

    def run(_: Params, call: Call) -> Value:
        x, mask = call.inputs[0]
        if mask is None:
            return Value(jax.nn.softmax(x, axis))
        if mask.ndim != x.ndim:
            raise ValueError(f"a Softmax layer has inputs {x.shape} with a mask {mask.shape}: use Activation('softmax') there")
        # -1e9 as in Keras, and not -inf, which would make NaN of a row without any entry that counts.
        return Value(jax.nn.softmax(jnp.where(mask, x, -3e4 if x.dtype == jnp.float16 else -1e9), axis), mask)

    return run


def flatten(config: Config, version: Version) -> Run:
    """Return (batch, everything else). The mask is dropped."""
    channels_last(config)
    return dropping_mask(lambda x: x.reshape(len(x), math.prod(x.shape[1:])))


def reshape(config: Config, version: Version) -> Run:
    """Return the inputs in another shape, of which one size may be -1."""
    shape = tuple(config["target_shape"])

    def function(x: Array) -> Array:
        # A size of -1 is computed here, so that an empty batch is reshaped too.
        size = math.prod(x.shape[1:])
        rest = -math.prod(shape) if -1 in shape else 1
        return x.reshape(len(x), *(size // max(rest, 1) if entry == -1 else entry for entry in shape))

    return dropping_mask(function)


def permute(config: Config, version: Version) -> Run:
    """Return the inputs with permuted axes, of which the first one after the batch is 1."""
    return dropping_mask(lambda x: x.transpose(0, *config["dims"]))


def repeat_vector(config: Config, version: Version) -> Run:
    """Return (batch, n, features) from (batch, features)."""
    return dropping_mask(lambda x: jnp.broadcast_to(x[:, None], (len(x), config["n"], *x.shape[1:])))


def rescaling(config: Config, version: Version) -> Run:
    """Return scale · x + offset."""
    if isinstance(config["scale"], list) or isinstance(config["offset"], list):
        raise UnsupportedError("it has a list of scales or offsets: scale the inputs yourself, and save the model without it")
    return elementwise(lambda x: x * config["scale"] + config["offset"])


def identity(config: Config, version: Version) -> Run:
    """Return a layer that passes its inputs on unchanged, with their mask."""
    return elementwise(lambda x: x)


def channels_last(config: Config) -> None:
    """Check that the features are the last axis.

    Raises:
        UnsupportedError: they are not.
    """
    if config.get("data_format") not in (None, "channels_last"):
        raise UnsupportedError(f"it has data_format={quoted(config['data_format'])}: build the model with channels_last")
