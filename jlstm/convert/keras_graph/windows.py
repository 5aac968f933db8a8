"""Convolutions, pooling, padding and cropping. All of them drop the mask, except for GlobalAveragePooling1D, which uses it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jlstm.cell import Params
from jlstm.convert.keras_graph import activations
from jlstm.convert.keras_graph.core import channels_last, dropping_mask, plus_bias
from jlstm.convert.keras_graph.values import Call, Run, Value
from jlstm.convert.keras_model.options import Version

Config = Mapping[str, Any]
Maker = Callable[[Config, Version], Run]
_AXES = {1: "NTC", 2: "NHWC", 3: "NDHWC"}


def convolution(config: Config, version: Version) -> Run:
    """Return activation(x ∗ kernel + bias), a cross-correlation with strides, dilation and groups."""
    channels_last(config)
    activation = activations.function("activation", config["activation"], version)
    strides, dilation, sizes = config["strides"], config["dilation_rate"], config["kernel_size"]
    padding: Any = config["padding"].upper()
    if padding == "CAUSAL":  # an output sees only its own step and those before it
        padding = [((sizes[0] - 1) * dilation[0], 0)]
    letters = _AXES[len(sizes)]
    numbers = (letters, f"{letters[1:-1]}IO", letters)

    def run(params: Params, call: Call) -> Value:
        y = jax.lax.conv_general_dilated(
            call.inputs[0].array,
            params["kernel"],
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=numbers,
            feature_group_count=config.get("groups", 1),
        )
        return Value(activation(plus_bias(y, params)))

    return run


def max_pooling(config: Config, version: Version) -> Run:
    """Return the largest number of each window."""
    window = _window(config)
    return dropping_mask(lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window))


def average_pooling(config: Config, version: Version) -> Run:
    """Return the mean of each window, over the entries that are not padding."""
    window = _window(config)

    def function(x: Array) -> Array:
        # Padding is not counted, as in Keras: at the edges, a sum is divided by the number of entries that are there.
        sums = jax.lax.reduce_window(x, 0.0, jax.lax.add, *window)
        return sums / jax.lax.reduce_window(jnp.ones_like(x), 0.0, jax.lax.add, *window)

    return dropping_mask(function)


def _window(config: Config) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    """Return the window, the strides and the padding over all axes."""
    channels_last(config)
    # MaxPooling1D of Keras 2 writes its single size as a list, too.
    sizes, strides = (value if isinstance(value, list) else [value] for value in (config["pool_size"], config["strides"]))
    return (1, *sizes, 1), (1, *strides, 1), config["padding"].upper()


def global_average_pooling_1d(config: Config, version: Version) -> Run:
    """Return the mean over the steps that count; NaN for a sequence without any, as in Keras."""
    channels_last(config)
    keep = config.get("keepdims", False)

    def run(_: Params, call: Call) -> Value:
        x, mask = call.inputs[0]
        if mask is None:
            return Value(x.mean(1, keepdims=keep))
        counts = mask[..., None]
        sums = jnp.where(counts, x, 0).sum(1, keepdims=keep)
        return Value(sums / counts.astype(x.dtype).sum(1, keepdims=keep))

    return run


def global_pooling(reduction: Callable[..., Array]) -> Maker:
    """Return the maker of a layer that reduces all axes between batch and features. A mask is ignored and dropped."""

    def make(config: Config, version: Version) -> Run:
        channels_last(config)
        keep = config.get("keepdims", False)
        return dropping_mask(lambda x: reduction(x, axis=tuple(range(1, x.ndim - 1)), keepdims=keep))

    return make


def zero_padding(config: Config, version: Version) -> Run:
    """Return the inputs with zeros around the axes between batch and features."""
    channels_last(config)
    around = _pairs(config["padding"])
    return dropping_mask(lambda x: jnp.pad(x, ((0, 0), *around, (0, 0))))


def cropping(config: Config, version: Version) -> Run:
    """Return the inputs without some entries at both ends of the axes between batch and features."""
    channels_last(config)
    pairs = _pairs(config["cropping"])

    def function(x: Array) -> Array:
        middle = (slice(before, size - after) for (before, after), size in zip(pairs, x.shape[1:-1], strict=True))
        return x[(slice(None), *middle)]

    return dropping_mask(function)


def _pairs(sizes: Any) -> list[tuple[int, int]]:
    """Return the sizes before and after each axis. For one axis, Keras writes a pair, and else a list of pairs."""
    return [tuple(pair) for pair in (sizes if isinstance(sizes[0], list) else [sizes])]


def up_sampling_1d(config: Config, version: Version) -> Run:
    """Return each step `size` times."""
    return dropping_mask(lambda x: jnp.repeat(x, config["size"], axis=1))
